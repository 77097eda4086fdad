//! First fit: modules loaded in the kernel's order get the kernel's own addresses.
//!
//! Linux frees init memory from a work item, some time after init has returned, so an address depends on how quick
//! that was. On 6.12 it was quick with one exception: when `stp` was loaded, the init memory of `llc` was still
//! queued, which moved `stp` and the two modules behind it. On 7.2, where text lies in packs, it always was. (On 6.1 most
//! frees were late; nothing could be compared.)

use modmem::image::Image;
use modmem::layout::MemoryKind;
use modmem::link::LinkOptions;
use modmem::{AddressSpace, Linker, Modules, RunAddr};
use xtask::oracle::Oracle;
use xtask::replay;

/// What the kernel itself had put there before the first module: a BPF program pack and its guard page.
const BPF_PACK: (u64, u64) = (0xffff_ffff_c000_0000, 0xffff_ffff_c020_1000);

/// The number of blocks that have the kernel's own addresses, of all but the modules in `moved`.
fn blocks_at_the_kernels_addresses(
    kernel: &str,
    compared: fn(MemoryKind) -> bool,
    taken: &[(u64, u64)],
    moved: &[&str],
) -> usize {
    let oracle = Oracle::from_environment(kernel);
    let profile = oracle.profile().unwrap();
    let mut modules = Modules::new(&profile, oracle.symbols["__per_cpu_end"]);
    modules.add_kernel_symbols(replay::exports(&oracle)).unwrap();
    let mut space = AddressSpace::new(&profile);
    for &(start, end) in taken {
        space.reserve(RunAddr(start)..RunAddr(end)).unwrap();
    }
    let mut linker = Linker::new();
    let mut same = 0;
    for name in &oracle.order {
        let image = Image::parse(&oracle.files[name]).unwrap();
        let id = modules.load(&image, &profile, &mut space, &mut linker, LinkOptions::default()).unwrap();
        let module = modules.get(id).unwrap();
        for kind in MemoryKind::ALL {
            let first = module.sections().find(|section| section.kind == kind && section.size > 0);
            let (Some(ours), Some(first)) = (module.address(kind), first) else { continue };
            let theirs = oracle.sections[name][&first.name.to_text()] - first.offset;
            let range = if kind.is_text() { &profile.ranges.text } else { &profile.ranges.data };
            assert!(range.contains(&RunAddr(theirs)), "{name}: {kind} lies at {theirs:#x}");
            if compared(kind) && !moved.contains(&&**name) {
                assert_eq!(ours, RunAddr(theirs), "{name}: {kind}");
                same += 1;
            }
        }
        modules.start(id, |_| 0).unwrap();
    }
    println!("{kernel}: {same} blocks of {} modules at the kernel's own addresses", oracle.order.len());
    same
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn blocks_of_linux_6_12_get_the_kernels_own_addresses() {
    let moved = ["stp", "bridge", "nfnetlink"];
    assert!(blocks_at_the_kernels_addresses("amd64-6.12", |_| true, &[BPF_PACK], &moved) > 150);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn blocks_of_linux_7_2_get_the_kernels_own_addresses() {
    assert!(blocks_at_the_kernels_addresses("amd64-7.2", |_| true, &[BPF_PACK], &[]) > 150);
}

/// On 32-bit PowerPC data lies in vmalloc, among everything that the kernel has there for a moment or for good: stacks of
/// processes, copies of the files that are loaded. Only text has a range for itself.
#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn text_of_linux_6_12_on_32_bit_powerpc_gets_the_kernels_own_addresses() {
    let same = blocks_at_the_kernels_addresses("ppc32-6.12", MemoryKind::is_text, &[], &[]);
    assert_eq!(same, 225);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn blocks_of_linux_6_12_on_s390x_get_the_kernels_own_addresses() {
    let same = blocks_at_the_kernels_addresses("s390x-6.12", |_| true, &[], &[]);
    assert!(same > 150, "{same}");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn blocks_of_linux_6_12_on_arm64_get_the_kernels_own_addresses() {
    let same = blocks_at_the_kernels_addresses("arm64-6.12", |_| true, &[], &[]);
    assert!(same > 150, "{same}");
}

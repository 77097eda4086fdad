//! First fit: modules loaded in the kernel's order get the kernel's own addresses.
//!
//! Linux frees init memory from a work item, some time after init has returned, so an address depends on how quick
//! that was. On 6.12 it was quick with one exception: when `stp` was loaded, the init memory of `llc` was still
//! queued, which moved `stp` and the two modules behind it. (On 6.1 most frees were late; nothing could be compared.)

use modmem::image::Image;
use modmem::layout::MemoryKind;
use modmem::link::{Export, LinkOptions};
use modmem::profile::{KernelConfig, Profile};
use modmem::{AddressSpace, Linker, Modules, Name, RunAddr};
use xtask::oracle::Oracle;

const MOVED_BY_A_LATE_FREE: &[&str] = &["stp", "bridge", "nfnetlink"];

/// What the kernel itself had put there before the first module: a BPF program pack and its guard page.
const BPF_PACK: (u64, u64) = (0xffff_ffff_c000_0000, 0xffff_ffff_c020_1000);

#[test]
fn blocks_of_linux_6_12_get_the_kernels_own_addresses() {
    let Some(oracle) = Oracle::from_environment("amd64-6.12") else { return };
    let profile = Profile::from_config(&KernelConfig::parse(&oracle.config), &oracle.release).unwrap();
    let mut modules = Modules::new(&profile, oracle.symbols["__per_cpu_end"]);
    let exported = |name: &String| oracle.symbols.contains_key(&format!("__ksymtab_{name}"));
    let exports = oracle.symbols.iter().filter(|(name, _)| exported(name)).map(|(name, &value)| {
        let name = Name::from(&**name);
        Export { name, value, gpl_only: false, crc: None, namespace: Name::default() }
    });
    modules.add_kernel_symbols(exports).unwrap();
    let mut space = AddressSpace::new(&profile);
    space.reserve(RunAddr(BPF_PACK.0)..RunAddr(BPF_PACK.1)).unwrap();
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
            if !MOVED_BY_A_LATE_FREE.contains(&&**name) {
                assert_eq!(ours, RunAddr(theirs), "{name}: {kind}");
                same += 1;
            }
        }
        modules.start(id, |_| 0).unwrap();
    }
    println!("{same} blocks of {} modules at the kernel's own addresses", oracle.order.len());
    assert!(same > 150);
}

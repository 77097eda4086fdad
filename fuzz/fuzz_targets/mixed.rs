//! Stages of two modules mixed up: one is laid out, the other linked into its place and registered as either.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modmem::link::LinkOptions;
use modmem::space::{PerCpuPlace, SpaceBlock};
use modmem::{AddressSpace, Image, Layout, Linker, Modules, Placement, Profile};

/// Larger modules say nothing new and take long.
const LARGEST: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let [versions, length @ .., _] = input else { return };
    let Some((length, files)) = length.split_first_chunk::<4>() else { return };
    let Some((first, second)) = files.split_at_checked(u32::from_le_bytes(*length) as usize) else { return };
    let (Ok(first), Ok(second)) = (Image::parse(first), Image::parse(second)) else { return };
    let version = |bits: u8| ["5.10", "6.1", "6.12", "7.2"][usize::from(bits & 3)];
    let profiles =
        [versions & 3, versions >> 2].map(|bits| Profile::named_for(first.machine(), version(bits)));
    let [Ok(laid_out), Ok(linked)] = profiles else { return };
    let Ok(layout) = Layout::of(&first, &laid_out) else { return };
    if layout.blocks().iter().map(|block| block.size).sum::<u64>() > LARGEST {
        return;
    }
    let mut space = AddressSpace::new(&laid_out);
    let Ok(placement) = Placement::allocate(layout, &mut space) else { return };
    let placement = placement.with_percpu(PerCpuPlace::given(0x1000));
    let mut modules: Modules<SpaceBlock<Vec<u8>>> = Modules::new(&linked, 0);
    let options = LinkOptions { force: true };
    let linked = Linker::new().link(&second, &linked, placement, &modules, options);
    let Ok(linked) = linked else { return };
    let image = if versions & 0x10 == 0 { &first } else { &second };
    let Ok(id) = modules.commit(image, linked) else { return };
    let _ = modules.start(id, |_| 0);
    let _ = modules.unload(id, |_| ());
});

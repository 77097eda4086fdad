//! Loading: a module loads, starts and unloads, or fails; either way nothing of it is left.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modmem::image::SymbolPlace;
use modmem::index::AddressIndex as _;
use modmem::link::{Export, LinkOptions};
use modmem::modules::Lookup;
use modmem::{AddressSpace, Image, Layout, Linker, MemoryKind, Modules, Name, Profile};

/// Larger modules say nothing new and take long.
const LARGEST: u64 = 1 << 20;

fuzz_target!(|file: &[u8]| {
    let Ok(image) = Image::parse(file) else { return };
    for version in ["6.1", "6.12"] {
        let Ok(profile) = Profile::named_for(image.machine(), version) else { return };
        let large = |layout: Layout| layout.blocks().iter().map(|block| block.size).sum::<u64>() > LARGEST;
        if Layout::of(&image, &profile).is_ok_and(large) {
            return;
        }
        run(&image, &profile);
    }
});

fn run(image: &Image<'_>, profile: &Profile) {
    let mut space = AddressSpace::new(profile);
    let mut modules = Modules::new(profile, 0x39000);
    // The kernel has whatever the module asks for, so that linking gets past the symbols.
    let undefined =
        image.symbols().iter().filter(|s| s.place == SymbolPlace::Undefined && !s.name.is_empty());
    for symbol in undefined {
        let export = Export {
            name: symbol.name,
            // Some are near, others can be reached through the module's tables of stubs only.
            value: (profile.ranges.text.end.0 - 0x1_0000)
                .wrapping_add(symbol.name.len() as u64 * 0x8000_0010),
            gpl_only: false,
            crc: None,
            namespace: Name::default(),
        };
        let _ = modules.add_kernel_symbols([export]);
    }
    let (holes, exports) = (space.holes(), modules.exports().len());
    let mut linker = Linker::new();
    let loaded = modules.load(image, profile, &mut space, &mut linker, LinkOptions { force: true });
    assert_eq!(modules.protection_violation(), None);
    if let Ok(id) = loaded {
        walk(&modules, id);
        if modules.start(id, |_| 0).is_ok() {
            assert_eq!(modules.protection_violation(), None);
            walk(&modules, id);
            if modules.unload(id, |_| ()).is_err() {
                // No exit function: it stays, and its memory with it.
                return;
            }
        }
    }
    assert!(modules.is_empty() && modules.index().next(0).is_none());
    assert_eq!(modules.exports().len(), exports);
    assert_eq!(space.holes(), holes);
}

fn walk(modules: &Modules<modmem::space::SpaceBlock<Vec<u8>>>, id: modmem::ModuleId) {
    let Some(module) = modules.get(id) else { return };
    let _ = (module.symbols().count(), module.sections().count(), module.exports().count());
    for kind in MemoryKind::ALL {
        let Some(range) = module.range(kind) else { continue };
        assert!(matches!(modules.lookup(range.start), Lookup::Module(place) if place.kind == kind));
        let last = modmem::RunAddr(range.end.0 - 1);
        assert!(matches!(modules.lookup(last), Lookup::Module(place) if place.kind == kind));
    }
}

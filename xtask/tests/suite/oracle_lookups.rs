//! From addresses to what lies there, in snapshots of recorded kernels.

use std::collections::BTreeMap;

use modmem::{Image, Layout, MemoryKind, RunAddr};
use modmem_linux::snapshot::{Found, Locator, Memories, ModuleRecord, Snapshot, kind_of_section};
use xtask::oracle::folder;

fn recorded(name: &str) -> Snapshot {
    Snapshot::open(folder(name)).unwrap()
}

fn memories(
    snapshot: &Snapshot,
    files: &BTreeMap<String, Vec<u8>>,
    module: &ModuleRecord,
) -> Option<Memories> {
    let image = Image::parse(&files[&module.name]).unwrap();
    let layout = Layout::of(&image, &snapshot.profile().unwrap()).unwrap();
    Some(Memories::of(module, &image, &layout).unwrap())
}

/// Every byte of a few in each section of each module is found to be that section's, with and without files.
fn every_section_is_found(name: &str) {
    let snapshot = recorded(name);
    let files = snapshot.module_files.as_ref().unwrap().read().unwrap();
    let profile = snapshot.profile().unwrap();
    let mut with = Locator::new(&snapshot, |module| memories(&snapshot, &files, module));
    let mut without = Locator::new(&snapshot, |_| None);
    let mut asked = 0;
    for module in &snapshot.modules {
        let image = Image::parse(&files[&module.name]).unwrap();
        let layout = Layout::of(&image, &profile).unwrap();
        for section in image.sections().iter().filter(|section| section.size() > 0) {
            let section_name = section.name().to_text();
            let Some(kind) = layout.place(section.index()).map(|place| place.kind) else { continue };
            let guess = kind_of_section(&section_name);
            assert!(guess.is_none_or(|guess| guess == kind), "{}: {section_name}", module.name);
            if kind.is_init() {
                continue;
            }
            let start = module.section(&section_name).unwrap();
            for offset in [0, section.size() / 2, section.size() - 1] {
                let address = RunAddr(start + offset);
                let Found::Module(place) = with.find(address) else { panic!("{section_name} {address}") };
                assert_eq!((&place.module.name, place.kind), (&module.name, kind), "{section_name}");
                assert_eq!(place.section, Some((section_name.as_str(), offset)));
                assert!(place.certain);
                let symbol = place.symbol.map(|symbol| (symbol.symbol.name.to_owned(), symbol.offset));
                let Found::Module(place) = without.find(address) else { panic!("{section_name} {address}") };
                assert_eq!(place.module.name, module.name, "{section_name}");
                assert!(!place.certain && (guess.is_none() || place.kind == kind), "{section_name}");
                // Without the file a symbol in the section is the same one, or none is.
                if let Some(found) = place.symbol {
                    assert_eq!(symbol, Some((found.symbol.name.to_owned(), found.offset)));
                }
                asked += 1;
            }
        }
    }
    assert!(asked > 2500, "{name}: {asked}");
    println!("{name}: {asked} addresses found");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_section_is_found_in_linux_6_1() {
    every_section_is_found("amd64-6.1");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_section_is_found_in_linux_6_12() {
    every_section_is_found("amd64-6.12");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_section_is_found_in_linux_7_2() {
    every_section_is_found("amd64-7.2");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn freed_init_text_is_named_by_the_module_s_file() {
    let snapshot = recorded("amd64-6.12");
    let files = snapshot.module_files.as_ref().unwrap().read().unwrap();
    let mut locator = Locator::new(&snapshot, |module| memories(&snapshot, &files, module));
    let (mut freed, mut named) = (0, 0);
    for module in &snapshot.modules {
        let Some(address) = module.section(".init.text") else { continue };
        match locator.find(RunAddr(address + 0x10)) {
            // Others may have come to lie there meanwhile.
            Found::Module(place) => assert_ne!(place.module.name, module.name),
            Found::Freed(place) => {
                assert_eq!(place.kind, MemoryKind::InitText);
                freed += 1;
                named += usize::from(place.symbol.is_some_and(|at| at.symbol.name.contains("init")));
            }
            other => assert!(!matches!(other, Found::Kernel { .. })),
        }
    }
    assert!(freed > 0 && named > 0, "{freed} {named}");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn the_kernel_its_init_and_guard_pages_are_told_apart() {
    let snapshot = recorded("amd64-6.12");
    let mut locator = Locator::new(&snapshot, |_| None);
    let address = |name: &str| RunAddr(snapshot.symbols.kernel(name).unwrap());
    let Found::Kernel { symbol, freed: false } = locator.find(RunAddr(address("vfs_read").0 + 5)) else {
        panic!()
    };
    assert_eq!((symbol.symbol.name, symbol.offset), ("vfs_read", 5));
    assert!(matches!(locator.find(address("start_kernel")), Found::Kernel { freed: true, .. }));
    let area = snapshot.areas.iter().find(|area| area.caller == "load_module").unwrap();
    assert!(matches!(locator.find(RunAddr(area.backed().end)), Found::Area(_)));
    assert!(matches!(locator.find(RunAddr(0x1000)), Found::Nothing));
    assert!(matches!(locator.find(RunAddr(u64::MAX)), Found::Nothing));
}

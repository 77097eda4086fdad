//! Symbols in sections that are not loaded, while a module's init has not returned: they are in the kernel's temporary
//! copy of the file, wherever that was.

use modmem::MemoryKind;
use modmem::image::Image;
use modmem::verify::Rule;

use crate::verifying::guest::{Guest, assert_clean, assert_explained};
use crate::verifying::loader::Loaded;
use crate::verifying::module::Module;

/// Places in `.modinfo` that are named.
const NAMED: [u64; 2] = [5, 17];
const THIS_MODULE: &str = ".gnu.linkonce.this_module";
/// Where the guest had its copy of the file.
const COPY: u64 = 0xffff_c900_0123_4000;

/// A module whose init has not returned, and the addresses of its symbols' values.
fn loading() -> (Guest, Loaded, Vec<u64>) {
    let mut module = Module::new("6.12");
    module.live = false;
    module.text("90 90 90 90");
    let modinfo = module.parts.len();
    for (name, value) in ["first", "second"].into_iter().zip(NAMED) {
        module.symbol(name, 1, modinfo, value);
    }
    let mut guest = Guest::new();
    let loaded = guest.load(&module);
    let (_, symtab) = *loaded.sections.iter().find(|(name, _)| *name == ".symtab").unwrap();
    // Behind the empty symbol and those of the sections.
    let first = 1 + module.parts.len() as u64;
    let values = (0..NAMED.len() as u64).map(|index| symtab + (first + index) * 24 + 8).collect();
    (guest, loaded, values)
}

/// What the kernel makes of the symbols with its copy there.
fn place(guest: &mut Guest, loaded: &Loaded, values: &[u64], copy: u64) {
    let image = Image::parse(&loaded.file).unwrap();
    let modinfo = image.sections().iter().find(|section| section.name() == ".modinfo").unwrap();
    for (at, value) in values.iter().zip(NAMED) {
        guest.write(*at, &(copy + modinfo.offset() + value).to_le_bytes());
    }
}

/// A livepatch module, and the addresses of its symbols' values, in the table that it keeps.
fn livepatch() -> (Guest, Loaded, Vec<u64>) {
    let mut module = Module::new("6.12");
    module.livepatch = true;
    module.text("90 90 90 90");
    let modinfo = module.parts.len();
    for (name, value) in ["first", "second"].into_iter().zip(NAMED) {
        module.symbol(name, 1, modinfo, value);
    }
    let mut guest = Guest::new();
    let loaded = guest.load(&module);
    let (_, this_module) = *loaded.sections.iter().find(|(name, _)| *name == THIS_MODULE).unwrap();
    // Behind `struct module`, the empty symbol and those of the sections.
    let first = 1 + module.parts.len() as u64;
    let values =
        (0..NAMED.len() as u64).map(|index| this_module + 0x500 + (first + index) * 24 + 8).collect();
    (guest, loaded, values)
}

#[test]
fn livepatch_modules_keep_them() {
    let (mut guest, loaded, values) = livepatch();
    // The kernel always has a copy: without one they are wrong.
    place(&mut guest, &loaded, &values, COPY);
    let report = guest.verify(&loaded);
    assert_clean(&report);
    assert!(report.total().explained_by(Rule::UnloadedSymbol) > 0);
    for at in values {
        let mut changed = guest.clone();
        changed.write(at + 2, &[guest.byte(at + 2) ^ 1]);
        let report = changed.verify(&loaded);
        assert!(!report.is_clean());
        assert!(report.unexplained.iter().all(|span| span.kind == MemoryKind::Data));
    }
}

#[test]
fn symbols_of_sections_that_are_not_loaded_have_the_addresses_of_one_copy() {
    let (mut guest, loaded, values) = loading();
    place(&mut guest, &loaded, &values, COPY);
    let report = guest.verify(&loaded);
    assert_clean(&report);
    assert!(report.total().explained_by(Rule::UnloadedSymbol) > 0);
}

#[test]
fn a_loader_without_a_copy_may_leave_them_as_they_are() {
    let (guest, loaded, _) = loading();
    assert_explained(&guest.verify(&loaded), Rule::UnloadedSymbol, 0);
}

#[test]
fn each_of_them_must_be_in_the_same_copy() {
    let (mut guest, loaded, values) = loading();
    place(&mut guest, &loaded, &values, COPY);
    for at in values {
        let mut changed = guest.clone();
        changed.write(at + 2, &[guest.byte(at + 2) ^ 1]);
        let report = changed.verify(&loaded);
        assert!(!report.is_clean());
        assert!(report.unexplained.iter().all(|span| span.kind == MemoryKind::InitData));
    }
}

#[test]
fn a_copy_begins_at_a_page() {
    let (mut guest, loaded, values) = loading();
    place(&mut guest, &loaded, &values, COPY + 8);
    assert!(!guest.verify(&loaded).is_clean());
}

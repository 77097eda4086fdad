//! What user space sees of modules in each state, and under configurations that no recorded kernel had.

use crate::support::sample::{Kernel, core, lib, read};
use modmem::image::Image;
use modmem::image::elf::section_type;
use modmem::{MemoryKind, ModuleId, Profile};

/// The line of /proc/modules about the newest module, without its address.
fn newest(kernel: &Kernel) -> String {
    let text = kernel.modules.proc_modules().to_string();
    let line = text.lines().next().unwrap();
    let address = kernel.modules.iter().last().unwrap().address(MemoryKind::Text).unwrap().to_string();
    assert!(line.contains(&address), "{line}");
    line.replace(&format!(" {address}"), "")
}

/// A module's lines of /proc/kallsyms: letter and name.
fn symbols(kernel: &Kernel, module: &str) -> Vec<String> {
    let text = kernel.modules.kallsyms().to_string();
    let of_module = text.lines().filter_map(|line| line.strip_suffix(&format!("\t[{module}]")));
    of_module.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

fn total(kernel: &Kernel, id: ModuleId, init_too: bool) -> u64 {
    let memories = kernel.modules.get(id).unwrap().layout().memories();
    memories.iter().filter(|(kind, _)| init_too || !kind.is_init()).map(|(_, memory)| memory.allocated).sum()
}

#[test]
fn a_module_that_is_loading_has_its_init_memory_and_a_reference() {
    let mut kernel = Kernel::new();
    let id = kernel.load(&lib()).unwrap();
    let (all, core) = (total(&kernel, id, true), total(&kernel, id, false));
    assert_eq!(newest(&kernel), format!("sample_lib {all} 1 - Loading (E+)"));
    let shown = kernel.modules.sysfs(id).unwrap();
    assert_eq!((shown.coresize(), shown.initsize()), (core, all - core));
    assert_eq!((shown.initstate(), shown.refcnt(), &*shown.taint()), ("coming", Some(1), "E"));
    assert!(symbols(&kernel, "sample_lib").contains(&"t init_module".to_owned()));

    kernel.modules.start(id, |_| 0).unwrap();
    assert_eq!(newest(&kernel), format!("sample_lib {core} 0 - Live (E)"));
    let shown = kernel.modules.sysfs(id).unwrap();
    assert_eq!((shown.initsize(), shown.initstate(), shown.refcnt()), (0, "live", Some(0)));
    assert!(!symbols(&kernel, "sample_lib").contains(&"t init_module".to_owned()));
}

#[test]
fn users_and_modules_are_listed_with_the_newest_first() {
    let mut kernel = Kernel::new();
    let lib = kernel.start(&lib());
    kernel.start(&core());
    kernel.start(&read("kernel/drivers/crypto/sample_crypto.ko"));
    kernel.start(&read("kernel/fs/sample/sample_fs.ko"));
    let text = kernel.modules.proc_modules().to_string();
    let names: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["sample_fs", "sample_crypto", "sample_core", "sample_lib"]);
    let holders: Vec<&str> = kernel.modules.sysfs(lib).unwrap().holders().collect();
    assert!(holders.len() > 1);
    let position = |name: &&str| names.iter().position(|other| other == name);
    assert!(holders.is_sorted_by_key(position), "{holders:?}");
    let line = text.lines().last().unwrap();
    assert!(line.contains(&format!(" {} {}, Live ", holders.len(), holders.join(","))), "{line}");
}

#[test]
fn a_module_that_stays_for_good_says_so() {
    let mut kernel = Kernel::new();
    kernel.start(&read("kernel/lib/sample_data.ko"));
    let id = kernel.start(&read("kernel/drivers/sample/sample_big_align.ko"));
    let text = kernel.modules.proc_modules().to_string();
    // Its only code was init's: no text, no address.
    let line = format!(
        "sample_big_align {} 0 [permanent], Live 0x0000000000000000 (CE)\n",
        total(&kernel, id, false)
    );
    assert!(text.starts_with(&line), "{text}");
}

#[test]
fn without_unloading_nobody_counts_references() {
    let mut profile = Profile::named("6.12").unwrap();
    profile.switches.module_unload = false;
    let mut kernel = Kernel::with(profile);
    let id = kernel.start(&lib());
    assert_eq!(newest(&kernel), format!("sample_lib {} - - Live (E)", total(&kernel, id, false)));
    assert_eq!(kernel.modules.sysfs(id).unwrap().refcnt(), None);
}

#[test]
fn data_in_vmalloc_has_a_size_of_its_own() {
    let mut profile = Profile::named("6.12").unwrap();
    profile.switches.data_in_vmalloc = true;
    let mut kernel = Kernel::with(profile);
    let id = kernel.start(&lib());
    let text = kernel.modules.get(id).unwrap().layout().memories()[MemoryKind::Text].allocated;
    let shown = kernel.modules.sysfs(id).unwrap();
    assert_eq!((shown.coresize(), shown.datasize()), (text, Some(total(&kernel, id, false) - text)));
}

#[test]
fn letters_are_upper_case_for_exports_to_everybody() {
    let mut kernel = Kernel::new();
    let id = kernel.start(&lib());
    let symbols = symbols(&kernel, "sample_lib");
    let exports: Vec<(String, bool)> = {
        let module = kernel.modules.get(id).unwrap();
        module.exports().map(|export| (export.name.to_text(), export.gpl_only)).collect()
    };
    assert!(exports.iter().any(|(_, gpl_only)| *gpl_only) && exports.iter().any(|(_, gpl_only)| !gpl_only));
    for (name, gpl_only) in exports {
        let line = symbols.iter().find(|line| line[2..] == name).unwrap();
        assert_eq!(line.as_bytes()[0].is_ascii_uppercase(), !gpl_only, "{line}");
    }
}

#[test]
fn sections_keep_their_addresses_and_notes_are_the_files_own_bytes() {
    let (mut kernel, file) = (Kernel::new(), lib());
    let id = kernel.load(&file).unwrap();
    let sections = |kernel: &Kernel| -> Vec<(String, u64)> {
        kernel.modules.sysfs(id).unwrap().sections().map(|(name, at)| (name.to_text(), at.0)).collect()
    };
    let before = sections(&kernel);
    kernel.modules.start(id, |_| 0).unwrap();
    assert_eq!(sections(&kernel), before);
    let has = |name: &str| before.iter().any(|(section, _)| section == name);
    assert!(has(".text") && has(".init.text") && has(".symtab") && has(".strtab"));
    assert!(!has(".modinfo") && !has("__versions") && !has(".data..percpu"));

    let image = Image::parse(&file).unwrap();
    let notes = image.sections().iter().filter(|section| section.kind() == section_type::NOTE);
    let notes: Vec<(String, Vec<u8>)> =
        notes.map(|section| (section.name().to_text(), section.data().to_vec())).collect();
    let shown = kernel.modules.sysfs(id).unwrap();
    let shown: Vec<(String, Vec<u8>)> =
        shown.notes().map(|(name, bytes)| (name.to_text(), bytes.to_vec())).collect();
    assert!(!notes.is_empty());
    assert_eq!(shown, notes);
}

#[test]
fn without_kallsyms_there_are_neither_symbols_nor_sections() {
    let mut profile = Profile::named("6.12").unwrap();
    profile.switches.kallsyms = false;
    let mut kernel = Kernel::with(profile);
    let id = kernel.start(&lib());
    let shown = kernel.modules.sysfs(id).unwrap();
    assert_eq!((shown.sections().count(), shown.notes().count()), (0, 0));
    assert_eq!(kernel.modules.kallsyms().to_string(), "");
}

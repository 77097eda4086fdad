//! Names of modules, and what `struct module` has. User Mode Linux 6.12.113 was asked for each answer.

use modmem::arch::Machine;
use modmem::layout::LayoutError;
use modmem::modules::LoadError;
use modmem::profile::KernelConfig;
use modmem::{MemoryKind, Modules, Name, Profile, RunAddr};

use crate::odd::kernel::Kernel;
use crate::support::{ALLOC, Elf, PROGBITS, Section, Symbol};

fn named(name: &str, modinfo: &str) -> Elf {
    let mut elf = Elf::x86_64();
    elf.add_module_parts(name, &[], b"\0");
    elf.sections[0].data = format!("name={modinfo}\0license=GPL\0intree=Y\0").into_bytes();
    elf
}

#[test]
fn a_module_is_registered_under_the_name_in_struct_module() {
    let mut kernel = Kernel::named("6.12");
    assert_eq!(kernel.loaded(&named("inside", "said")).name(), "inside");
    assert!(kernel.modules.by_name("said").is_none());
    let again = kernel.load(&named("inside", "other")).unwrap_err();
    assert_eq!(again, LoadError::AlreadyLoaded { name: "inside".into(), live: false });
    assert!(kernel.load(&named("other", "said")).is_ok(), "what .modinfo says may be said twice");
}

#[test]
fn a_module_without_a_name_is_refused() {
    let refused = Kernel::named("6.12").load(&named("", "said")).unwrap_err();
    assert_eq!(refused, LoadError::BadName { name: "".into(), limit: 55 });
    // Where structures are shuffled, the name is somewhere else.
    let config =
        KernelConfig::parse("CONFIG_X86_64=y\nCONFIG_SMP=y\nCONFIG_RANDSTRUCT=y\nCONFIG_KALLSYMS=y\n");
    let mut profile = Profile::from_config(&config, "6.12.0").unwrap();
    profile.vermagic = None;
    assert_eq!(Kernel::new(profile, &[]).loaded(&named("", "said")).name(), "said");
}

#[test]
fn names_end_before_the_field_does() {
    let (longest, too_long) = ("n".repeat(55), "n".repeat(56));
    assert_eq!(Kernel::named("6.12").loaded(&named(&longest, "said")).name(), longest);
    assert!(matches!(Kernel::named("6.12").load(&named(&too_long, "said")), Err(LoadError::BadName { .. })));
}

#[test]
fn names_on_32_bit_machines_have_four_bytes_more() {
    for (length, loads) in [(59, true), (60, false)] {
        let mut elf = Elf { is_64: false, big: true, machine: 20, sections: Vec::new() };
        for name in [".plt", ".init.plt"] {
            use crate::support::{ALLOC, EXEC, PROGBITS, Section};
            elf.add(Section::new(name, PROGBITS, ALLOC | EXEC, 4, vec![0; 4]));
        }
        elf.add_module_parts(&"n".repeat(length), &[], b"\0");
        let profile = Profile::named_for(Machine::PowerPc, "6.12").unwrap();
        let loaded = Kernel::new(profile, &[]).load(&elf);
        assert_eq!(loaded.is_ok(), loads, "{length}: {loaded:?}");
    }
}

#[test]
fn some_modules_are_proprietary_whatever_they_say() {
    for (name, letters) in [("driverloader", "PE"), ("lve", "PE"), ("ndiswrapper", "E"), ("live", "E")] {
        let mut kernel = Kernel::named("6.12");
        assert_eq!(kernel.loaded(&named(name, "said")).taints().letters(), letters, "{name}");
    }
}

#[test]
fn struct_module_has_the_size_of_the_kernels() {
    let mut kernel = Kernel::named("6.12");
    kernel.profile.this_module_size = Some(0x4c0);
    let refused = kernel.load(&named("odd", "odd")).unwrap_err();
    let LoadError::Layout(LayoutError::OtherThisModule { found: 0x500, expected: 0x4c0, .. }) = refused
    else {
        panic!("{refused}")
    };
    assert!(refused.to_string().contains(
        "section size must match the kernel's built struct module size at run time: it is 0x500, not 0x4c0"
    ));
}

#[test]
fn init_and_exit_are_where_the_kernels_struct_module_has_them() {
    let module = |init: u64, exit: u64| {
        let mut elf = Elf::x86_64();
        let symbol = |name| Symbol { name, info: 0x12, section: 2, value: 0 };
        elf.add_module_parts("odd", &[symbol(1), symbol(13)], b"\0init_module\0cleanup_module\0");
        let symtab = elf.sections.len() as u32;
        elf.add_relocations(2, symtab, &[(init, 1, 1, 0), (exit, 2, 1, 0)]);
        elf
    };
    let mut kernel = Kernel::named("6.12");
    (kernel.profile.this_module_init, kernel.profile.this_module_exit) = (Some(0x150), Some(0x4a0));
    for (init, exit, wrong) in [(0x150, 0x4a8, "exit"), (0x148, 0x4a0, "init")] {
        let refused = kernel.load(&module(init, exit)).unwrap_err();
        assert!(
            matches!(refused, LoadError::Layout(LayoutError::OtherEntry { entry, .. }) if entry == wrong),
            "{refused}"
        );
    }
    let id = kernel.load(&module(0x150, 0x4a0)).unwrap();
    let loaded = kernel.modules.get(id).unwrap();
    let symbol = loaded.address(MemoryKind::Data);
    assert_eq!((loaded.init(), loaded.exit()), (symbol, symbol));
}

#[test]
fn a_modules_init_is_what_its_struct_module_holds_whatever_the_symbol_is_called() {
    let mut elf = Elf::x86_64();
    let symbol = Symbol { name: 1, info: 0x12, section: 2, value: 0 };
    elf.add_module_parts("odd", &[symbol], b"\0anything\0");
    let symtab = elf.sections.len() as u32;
    elf.add_relocations(2, symtab, &[(0x150, 1, 1, 4)]);
    let mut kernel = Kernel::named("6.12");
    (kernel.profile.this_module_init, kernel.profile.this_module_exit) = (Some(0x150), Some(0x4a0));
    let id = kernel.load(&elf).unwrap();
    let loaded = kernel.modules.get(id).unwrap();
    assert_eq!(loaded.init(), loaded.address(MemoryKind::Data).map(|data| RunAddr(data.0 + 4)));
    assert_eq!(loaded.exit(), None);
    // Without an exit it stays for good (kernel/module/main.c:print_unload_info).
    assert!(kernel.modules.proc_modules().to_string().contains("[permanent],"));
}

#[test]
fn what_lies_in_a_section_that_is_not_loaded_is_there_all_the_same() {
    let mut elf = Elf::x86_64();
    let lost = elf.add(Section::new(".text.lost", PROGBITS, 4, 1, vec![0xc3; 4]));
    // Inactive, and still called what it is.
    let inactive = elf.add(Section::new(".debug_x", 0, 0, 1, vec![]));
    let symbol = |name, info, section: u32| Symbol { name, info, section: section as u16, value: 0 };
    let symbols = [symbol(1, 0x12, lost), symbol(6, 3, inactive)];
    elf.add_module_parts("odd", &symbols, b"\0exit\0debug\0");
    let this_module = elf.sections.iter().position(|one| one.name == ".gnu.linkonce.this_module").unwrap();
    let symtab = elf.sections.len() as u32;
    elf.add_relocations(this_module as u32 + 1, symtab, &[(0x4a0, 1, 1, 0)]);
    let mut kernel = Kernel::named("6.12");
    (kernel.profile.this_module_init, kernel.profile.this_module_exit) = (Some(0x150), Some(0x4a0));
    let id = kernel.load(&elf).unwrap();
    let module = kernel.modules.get(id).unwrap();
    assert_eq!((module.init(), module.exit().is_some()), (None, true));
    let shown = kernel.modules.kallsyms().to_string();
    assert!(shown.contains(" n debug\t[odd]"), "{shown}");
}

#[test]
fn version_magic_of_shuffled_structures_has_a_hash() {
    let config =
        "CONFIG_X86_64=y\nCONFIG_SMP=y\nCONFIG_MODULE_UNLOAD=y\nCONFIG_RANDSTRUCT=y\nCONFIG_KALLSYMS=y\n";
    let profile = Profile::from_config(&KernelConfig::parse(config), "6.12.0").unwrap();
    let hash = "5e".repeat(32);
    for (magic, loads) in [
        (format!("6.12.0 SMP mod_unload RANDSTRUCT_{hash}"), true),
        ("6.12.0 SMP mod_unload ".to_owned(), false),
        ("6.12.0 SMP mod_unload RANDSTRUCT_".to_owned(), false),
        (format!("6.12.0 SMP mod_unload RANDSTRUCT_PLUGIN_{hash}"), false),
        (format!("6.12.1 SMP mod_unload RANDSTRUCT_{hash}"), false),
    ] {
        let mut elf = named("odd", "odd");
        elf.sections[0].data.extend(format!("vermagic={magic}\0").bytes());
        let loaded = Kernel::new(profile.clone(), &[]).load(&elf);
        assert_eq!(loaded.is_ok(), loads, "{magic}: {loaded:?}");
    }
}

#[test]
fn a_table_of_modules_finds_no_name_that_it_does_not_have() {
    let profile = Profile::named("6.12").unwrap();
    let modules: Modules<crate::odd::kernel::SpaceBytes> = Modules::new(&profile, 0);
    assert!(modules.by_name("").is_none() && Name::from("").is_empty());
}

/// A module with two parameters, whose names begin at these offsets of its strings, with these permissions.
fn two_parameters(names: [i64; 2], permissions: [u16; 2]) -> Elf {
    const R_X86_64_64: u32 = 1;
    let mut elf = Elf::x86_64();
    elf.add(Section::new(".rodata.str", PROGBITS, ALLOC, 1, b"one\0one\0other\0".to_vec()));
    let mut table = vec![0; 80];
    for (entry, bits) in table.chunks_exact_mut(40).zip(permissions) {
        entry[24..26].copy_from_slice(&bits.to_le_bytes());
    }
    let table = elf.add(Section::new("__param", PROGBITS, ALLOC, 8, table));
    // A symbol at the start of the strings.
    let strings = Symbol { info: 3, section: 1, ..Symbol::default() };
    elf.add_module_parts("odd", &[strings], b"\0");
    let symtab = elf.sections.len() as u32;
    let entry = |at: u64, name: i64| (at, 1, R_X86_64_64, name);
    elf.add_relocations(table, symtab, &[entry(0, names[0]), entry(40, names[1])]);
    elf
}

#[test]
fn two_parameters_that_sysfs_shows_have_two_names() {
    let load = |names, permissions| Kernel::named("6.12").load(&two_parameters(names, permissions));
    let twice = LoadError::DuplicateParameter { name: "one".into() };
    assert_eq!(load([0, 4], [0o644, 0o444]), Err(twice));
    assert!(load([0, 8], [0o644, 0o444]).is_ok());
    // Without permissions there is no file.
    assert!(load([0, 4], [0o644, 0]).is_ok());
}

//! Undefined symbols that nobody has, and export tables as no linker script makes them.

use modmem::arch::Machine;
use modmem::link::{LinkError, Reason, Symbols as _};
use modmem::modules::LoadError;
use modmem::{Name, Profile};

use crate::odd::kernel::{Kernel, user_of};
use crate::support::{ALLOC, Elf, PROGBITS, RELA, Section, Symbol, WRITE};

/// R_X86_64_PC32
const PC32: u32 = 2;

#[test]
fn the_global_offset_table_is_forgiven_on_x86_alone() {
    let elf = user_of(&["_GLOBAL_OFFSET_TABLE_"]);
    for version in ["5.10", "6.1", "6.12", "7.2"] {
        assert_eq!(Kernel::named(version).loaded(&elf).uses().weak_unresolved, 1);
    }
    for (machine, elf_machine, is_64, big, loads) in [
        // The loader of s390x makes the symbol absolute itself.
        (Machine::S390, 22, true, true, true),
        (Machine::Arm64, 183, true, false, false),
        (Machine::PowerPc, 20, false, true, false),
    ] {
        let mut other = Elf { is_64, big, machine: elf_machine, sections: Vec::new() };
        for name in [".plt", ".init.plt", ".text.ftrace_trampoline"] {
            other.add(Section::new(name, PROGBITS, ALLOC | 4, 8, vec![0; 8]));
        }
        let symbol = Symbol { name: 1, info: 0x10, ..Symbol::default() };
        other.add_module_parts("odd", &[symbol], b"\0_GLOBAL_OFFSET_TABLE_\0");
        let loaded = Kernel::new(Profile::named_for(machine, "6.12").unwrap(), &[]).load(&other);
        let refused = match &loaded {
            Err(LoadError::Link(LinkError::Unresolved(symbols))) => symbols[0].reason == Reason::Absent,
            _ => false,
        };
        assert_eq!((loaded.is_ok(), refused), (loads, !loads), "{machine}: {loaded:?}");
    }
}

/// A module whose tables export these names; the first is exported with value 0 of `.data`, the next with 1.
fn exporter(module: &str, tables: &[(&str, &[&str])]) -> Elf {
    let mut elf = Elf::x86_64();
    let mut strings = vec![0];
    let mut offsets = Vec::new();
    for (_, names) in tables {
        for name in *names {
            offsets.push(strings.len() as i64);
            strings.extend(name.bytes());
            strings.push(0);
        }
    }
    let data = elf.add(Section::new(".data", PROGBITS, ALLOC | WRITE, 8, vec![0; 64]));
    let texts = elf.add(Section::new("__ksymtab_strings", PROGBITS, ALLOC, 1, strings));
    let places: Vec<u32> = tables
        .iter()
        .map(|(table, names)| elf.add(Section::new(table, PROGBITS, ALLOC, 4, vec![0; names.len() * 12])))
        .collect();
    let symbol = |section: u32| Symbol { name: 0, info: 3, section: section as u16, value: 0 };
    elf.add_module_parts(module, &[symbol(data), symbol(texts)], b"\0");
    let symtab = elf.sections.len() as u32;
    let mut exported = 0;
    for (place, (_, names)) in places.into_iter().zip(tables) {
        let mut relocations = Vec::new();
        for entry in 0..names.len() {
            let at = entry as u64 * 12;
            relocations.push((at, 1, PC32, exported));
            relocations.push((at + 4, 2, PC32, offsets[exported as usize]));
            relocations.push((at + 8, 2, PC32, 0));
            exported += 1;
        }
        elf.add_relocations(place, symtab, &relocations);
    }
    elf
}

/// Which of its exports, by number, somebody who needs `name` gets, and whether it is for GPL-compatible ones only.
fn found(kernel: &Kernel, name: &str) -> Option<(u64, bool)> {
    let module = kernel.modules.by_name("odd").unwrap();
    let data = module.sections().find(|section| section.name == ".data").unwrap();
    let base = module.address(data.kind).unwrap().0 + data.offset;
    let export = kernel.modules.exports().find(Name::from(name))?.export;
    Some((export.value - base, export.gpl_only))
}

#[test]
fn a_name_in_both_tables_is_found_in_the_first() {
    let mut kernel = Kernel::named("6.12");
    kernel.load(&exporter("odd", &[("__ksymtab_gpl", &["a", "b"]), ("__ksymtab", &["a"])])).unwrap();
    assert_eq!((found(&kernel, "a"), found(&kernel, "b")), (Some((2, false)), Some((1, true))));
}

#[test]
fn a_name_twice_in_one_table_is_found_where_the_search_comes_by() {
    let mut kernel = Kernel::named("6.12");
    kernel.load(&exporter("odd", &[("__ksymtab", &["a", "a", "b"])])).unwrap();
    assert_eq!(found(&kernel, "a"), Some((1, false)));
    assert_eq!(found(&kernel, "b"), Some((2, false)));
}

#[test]
fn a_table_that_is_not_sorted_has_names_that_are_not_found() {
    let mut kernel = Kernel::named("6.12");
    kernel.load(&exporter("odd", &[("__ksymtab", &["c", "a", "b"])])).unwrap();
    // The search begins in the middle and goes the way that the order tells.
    assert_eq!(["a", "b", "c"].map(|name| found(&kernel, name)), [Some((1, false)), Some((2, false)), None]);
    // Nobody else may have these names all the same? Linux looks others up the same way.
    assert!(kernel.load(&exporter("next", &[("__ksymtab", &["c"])])).is_ok());
}

#[test]
fn a_name_of_another_module_is_taken() {
    let mut kernel = Kernel::named("6.12");
    kernel.load(&exporter("odd", &[("__ksymtab", &["a"])])).unwrap();
    let refused = kernel.load(&exporter("next", &[("__ksymtab_gpl", &["a"])])).unwrap_err();
    assert_eq!(refused, LoadError::DuplicateExport { symbol: "a".into(), owner: "odd".into() });
}

#[test]
fn a_table_is_found_by_its_name_whatever_type_it_has() {
    let mut elf = exporter("odd", &[("__ksymtab", &["one"])]);
    let flags = elf.sections.len();
    elf.add(Section::new("__kflagstab", PROGBITS, ALLOC, 1, vec![0]));
    for kind in [PROGBITS, RELA, 9, 14] {
        elf.sections[flags].kind = kind;
        let loaded = Kernel::named("7.2").load(&elf);
        assert!(loaded.is_ok(), "{kind}: {loaded:?}");
    }
}

#[test]
fn kernels_since_7_1_want_flags_and_do_not_look_at_a_table_for_gpl() {
    let plain = exporter("odd", &[("__ksymtab", &["a"])]);
    let gpl = exporter("odd", &[("__ksymtab_gpl", &["a"])]);
    let mut flagged = plain.clone();
    flagged.add(Section::new("__kflagstab", PROGBITS, ALLOC, 1, vec![1]));
    for (version, wants_flags) in [("6.12", false), ("7.0", false), ("7.1", true), ("7.2", true)] {
        let refused = Kernel::named(version).load(&plain).err();
        let is_refused = matches!(refused, Some(LoadError::Link(LinkError::ExportsWithoutFlags { .. })));
        assert_eq!((refused.is_some(), is_refused), (wants_flags, wants_flags), "{version}: {refused:?}");
        let exported = Kernel::named(version).loaded(&gpl).export_count();
        assert_eq!(exported, usize::from(!wants_flags), "{version}");
        let mut kernel = Kernel::named(version);
        let exports: Vec<bool> = kernel.loaded(&flagged).exports().map(|export| export.gpl_only).collect();
        assert_eq!(exports, [true], "{version}: flags are followed where they are");
    }
}

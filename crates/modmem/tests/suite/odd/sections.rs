//! Odd sections and files. User Mode Linux 6.12.113 was asked for each answer.

use modmem::image::{Image, ImageError};
use modmem::layout::{Layout, LayoutError, SectionPlace};
use modmem::link::Remark;
use modmem::modules::LoadError;
use modmem::{MemoryKind, Profile};

use crate::odd::kernel::Kernel;
use crate::support::{ALLOC, EXEC, Elf, NOBITS, PROGBITS, RELA, STRTAB, SYMTAB, Section, Symbol, WRITE};

/// SHF_GNU_RETAIN, and for Linux SHF_RO_AFTER_INIT.
const RETAIN: u64 = 0x20_0000;

fn elf(sections: &[(&str, u64, u64, usize)]) -> Elf {
    let mut elf = Elf::x86_64();
    for &(name, flags, alignment, size) in sections {
        elf.add(Section::new(name, PROGBITS, flags, alignment, vec![b'x'; size]));
    }
    elf.add_module_parts("odd", &[], b"\0");
    elf
}

/// Where the sections of `elf` lie, in that order.
fn places(elf: &Elf, version: &str, names: &[&str]) -> Vec<(MemoryKind, u64)> {
    let file = elf.build();
    let image = Image::parse(&file).unwrap();
    let layout = Layout::of(&image, &Profile::named(version).unwrap()).unwrap();
    let place = |name: &&str| {
        let SectionPlace { kind, offset } = layout.place(image.section(name).unwrap().index()).unwrap();
        (kind, offset)
    };
    names.iter().map(place).collect()
}

#[test]
fn retained_data_is_read_only_after_init() {
    use MemoryKind::{Data, InitData, RoAfterInit, RoData, Text};
    let mut elf = elf(&[
        (".data", WRITE | ALLOC | RETAIN, 8, 16),
        (".init.first", WRITE | ALLOC, 8, 16),
        (".init.kept", WRITE | ALLOC | RETAIN, 8, 16),
        (".rodata", ALLOC | RETAIN, 8, 16),
        (".text", ALLOC | EXEC | RETAIN, 16, 16),
    ]);
    let mut bss = Section::new(".bss", NOBITS, WRITE | ALLOC, 8, Vec::new());
    bss.size = Some(16);
    elf.add(bss);
    let names = [".data", ".bss", ".rodata", ".text", ".init.first", ".init.kept"];
    for version in ["6.4", "6.12", "7.2"] {
        let found = places(&elf, version, &names);
        let expected =
            [(RoAfterInit, 0), (Data, 0x500), (RoData, 0), (Text, 0), (InitData, 0), (InitData, 0x10)];
        assert_eq!(found, expected, "{version}");
    }
    // Here init data that is to stay has a pass of its own, before the others.
    for version in ["5.10", "6.1"] {
        let found = places(&elf, version, &names);
        let expected =
            [(RoAfterInit, 0), (Data, 0x500), (RoData, 0), (Text, 0), (InitData, 0x10), (InitData, 0)];
        assert_eq!(found, expected, "{version}");
    }
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_a_mask() {
    use MemoryKind::Data;
    // (0x31 + 0x27f) & !0x27f is 0x80: no multiple of 0x280, and not before the 0x31 bytes.
    let elf = elf(&[
        (".data", WRITE | ALLOC, 8, 0x31),
        (".data.a", WRITE | ALLOC, 640, 16),
        (".data.b", WRITE | ALLOC, 24, 16),
        (".data.c", WRITE | ALLOC, 8, 16),
    ]);
    let found = places(&elf, "6.12", &[".data", ".data.a", ".data.b", ".data.c"]);
    assert_eq!(found, [(Data, 0), (Data, 0x80), (Data, 0xa0), (Data, 0xb0)]);
    let mut kernel = Kernel::named("6.12");
    let remarks = kernel.loaded(&elf).remarks();
    let odd = remarks.iter().map(|remark| match remark {
        Remark::Alignment { section, alignment } => (&*section.name, *alignment),
        other => panic!("{other}"),
    });
    assert_eq!(odd.collect::<Vec<_>>(), [(".data.a", 640), (".data.b", 24)]);
    assert!(remarks[0].to_string().ends_with("no power of two; Linux takes it for a mask"));
}

#[test]
fn an_alignment_of_more_than_a_page_is_one_of_the_offset() {
    let elf = elf(&[
        (".data", WRITE | ALLOC, 8, 0x31),
        (".data.a", WRITE | ALLOC, 0x2000, 16),
        (".text", ALLOC | EXEC, 0x1_0000, 16),
    ]);
    let found = places(&elf, "6.12", &[".text", ".data.a"]);
    assert_eq!(found, [(MemoryKind::Text, 0), (MemoryKind::Data, 0x2000)]);
    let mut kernel = Kernel::named("6.12");
    let remarks = kernel.loaded(&elf).remarks();
    assert_eq!(remarks.len(), 2);
    assert!(remarks[0].to_string().contains("holds for its offset and not for its address"));
}

#[test]
fn percpu_data_has_alignments_that_are_powers_of_two() {
    let percpu = |alignment| elf(&[(".data..percpu", WRITE | ALLOC, alignment, 16)]);
    for (alignment, loads) in [(0, true), (16, true), (0x1_0000, true), (24, false)] {
        let loaded = Kernel::named("6.12").load(&percpu(alignment));
        assert_eq!(loaded.is_ok(), loads, "{alignment}: {loaded:?}");
    }
}

#[test]
fn two_sections_of_one_name_are_refused_from_6_12_on() {
    let twice = elf(&[(".twice", WRITE | ALLOC, 8, 16), (".twice", ALLOC, 8, 16)]);
    for (version, loads) in [("5.10", true), ("6.1", true), ("6.11", true), ("6.12", false), ("7.2", false)] {
        let loaded = Kernel::named(version).load(&twice);
        assert_eq!(loaded.is_ok(), loads, "{version}: {loaded:?}");
    }
    let mut old = Kernel::named("6.1");
    let id = old.load(&twice).unwrap();
    assert_eq!(old.modules.sysfs(id).unwrap().sections().count(), 0, "the folder could not be made");
    let error = Kernel::named("6.12").load(&twice).unwrap_err();
    assert!(matches!(error, LoadError::Layout(LayoutError::DuplicateSections { .. })));
    assert!(error.to_string().starts_with("section 1 (.twice) and section 2 (.twice)"), "{error}");
    let mut without = Kernel::named("6.12");
    without.profile.switches.kallsyms = false;
    assert!(without.load(&twice).is_ok(), "without KALLSYMS sections are no files");
}

#[test]
fn sections_that_are_no_files_may_share_a_name() {
    let empty = elf(&[(".twice", WRITE | ALLOC, 8, 16), (".twice", WRITE | ALLOC, 8, 0)]);
    assert!(Kernel::named("6.12").load(&empty).is_ok());
    let not_loaded = elf(&[(".twice", WRITE | ALLOC, 8, 16), (".twice", 0, 8, 16)]);
    assert!(Kernel::named("6.12").load(&not_loaded).is_ok());
    // Hundreds of names, of which some share a mark.
    let mut many = elf(&[]);
    for index in 0..900 {
        many.add(Section::new(&format!(".text.{index}"), PROGBITS, ALLOC | EXEC, 16, vec![0; 4]));
    }
    assert!(Kernel::named("6.12").load(&many).is_ok());
    many.add(Section::new(".text.77", PROGBITS, ALLOC | EXEC, 16, vec![0; 4]));
    assert!(Kernel::named("6.12").load(&many).is_err());
}

#[test]
fn bytes_behind_the_file_make_it_an_unsigned_module() {
    let mut file = elf(&[(".text", ALLOC | EXEC, 16, 16)]).build();
    let mut kernel = Kernel::named("6.12");
    file.push(0);
    let id = kernel.load_file(&file).unwrap();
    assert_eq!(kernel.modules.get(id).unwrap().remarks(), []);
    file.push(b'\n');
    let mut kernel = Kernel::named("6.12");
    let id = kernel.load_file(&file).unwrap();
    let module = kernel.modules.get(id).unwrap();
    assert_eq!(module.remarks(), [Remark::BytesBehind { bytes: 2 }]);
    assert!(module.taints().unsigned);
}

/// Where a section that `is_it` knows stands in `elf`.
fn index(elf: &Elf, is_it: impl Fn(&Section) -> bool) -> usize {
    elf.sections.iter().position(is_it).unwrap()
}

#[test]
fn struct_module_is_refused_where_the_kernel_could_not_write_to_it() {
    const STRUCT: &str = ".gnu.linkonce.this_module";
    for (flags, kind) in [
        (ALLOC, MemoryKind::RoData),
        (ALLOC | EXEC, MemoryKind::Text),
        (ALLOC | WRITE | RETAIN, MemoryKind::RoAfterInit),
    ] {
        for version in ["5.10", "6.1", "6.12", "7.2"] {
            let mut elf = elf(&[]);
            let at = index(&elf, |section| section.name == STRUCT);
            elf.sections[at].flags = flags;
            let error = Kernel::named(version).load(&elf).unwrap_err();
            let found = match &error {
                LoadError::Layout(LayoutError::ThisModuleReadOnly { kind, .. }) => Some(*kind),
                _ => None,
            };
            assert_eq!(found, Some(kind), "{version}: {error}");
            assert!(error.to_string().contains(STRUCT));
        }
    }
}

#[test]
fn a_section_of_no_type_is_refused_if_it_is_to_be_loaded() {
    const NULL: u32 = 0;
    let inactive = elf(&[(".x", 0, 8, 0)]);
    assert!(Kernel::named("6.12").load(&inactive).is_ok());
    for (flags, size, loads) in [(WRITE, 16, true), (ALLOC, 16, false), (ALLOC | WRITE, 0, true)] {
        let mut elf = elf(&[(".x", flags, 8, size)]);
        let at = index(&elf, |section| section.name == ".x");
        elf.sections[at].kind = NULL;
        let loaded = Kernel::named("6.12").load(&elf);
        assert_eq!(loaded.is_ok(), loads, "{loaded:?}");
    }
}

#[test]
fn an_empty_section_of_no_type_has_its_place_among_the_others() {
    let of_kind = |kind: u32| {
        let mut elf = Elf::x86_64();
        for (name, alignment, size) in [(".a", 1, 3), (".x", 64, 0), (".b", 1, 8)] {
            elf.add(Section::new(name, PROGBITS, ALLOC | WRITE, alignment, vec![b'x'; size]));
        }
        let at = index(&elf, |section| section.name == ".x");
        elf.sections[at].kind = kind;
        elf.add_module_parts(
            "odd",
            &[Symbol { name: 1, info: 0, section: at as u16, value: 0 }],
            b"\0in_it\0",
        );
        elf
    };
    let (typed, untyped) = (of_kind(PROGBITS), of_kind(0));
    let names = [".a", ".x", ".b"];
    assert_eq!(places(&untyped, "6.12", &names), places(&typed, "6.12", &names));
    let mut kernel = Kernel::named("6.12");
    let found = kernel.loaded(&untyped).symbols().find(|symbol| symbol.name == "in_it").unwrap();
    assert_eq!(found.letter, b'd');
}

#[test]
fn nobody_looks_at_the_first_symbol() {
    const COMMON: u16 = 0xfff2;
    let mut elf = elf(&[]);
    let symtab = index(&elf, |section| section.kind == SYMTAB);
    elf.sections[symtab].data[6..8].copy_from_slice(&COMMON.to_le_bytes());
    assert!(Kernel::named("6.12").load(&elf).is_ok());
}

#[test]
fn the_symbol_table_and_its_strings_are_not_called_as_other_tables_are() {
    for kind in [SYMTAB, STRTAB] {
        for (name, loads) in [("__ex_table", false), ("__param", false), ("other", true)] {
            let mut elf = elf(&[]);
            let symtab = index(&elf, |section| section.kind == SYMTAB);
            let at = if kind == SYMTAB { symtab } else { elf.sections[symtab].link as usize };
            elf.sections[at].name = name.to_owned();
            let loaded = Kernel::named("6.12").load(&elf);
            assert_eq!(loaded.is_ok(), loads, "{name}: {loaded:?}");
        }
    }
}

#[test]
fn room_for_strings_that_say_they_are_loaded_stays_empty() {
    let mut elf = elf(&[(".rodata", ALLOC, 8, 16)]);
    let at = index(&elf, |section| section.kind == STRTAB);
    (elf.sections[at].flags, elf.sections[at].alignment) = (ALLOC, 1);
    elf.sections[at].data.resize(0x25, 0);
    elf.add(Section::new(".rodata.more", PROGBITS, ALLOC, 8, vec![b'x'; 16]));
    for version in ["5.10", "6.1", "6.12", "7.2"] {
        let found = places(&elf, version, &[".rodata", ".rodata.more"]);
        let start = found[0].1;
        assert_eq!(found, [(MemoryKind::RoData, start), (MemoryKind::RoData, start + 0x38)], "{version}");
    }
    let mut kernel = Kernel::named("6.12");
    let bytes = kernel.loaded(&elf).bytes(MemoryKind::RoData);
    assert_eq!((&bytes[..16], &bytes[16..0x38]), (&[b'x'; 16][..], &[0; 0x28][..]));
    assert_eq!(&bytes[0x38..0x48], &[b'x'; 16]);
}

#[test]
fn a_second_modinfo_counts_even_where_it_is_a_table_of_relocations() {
    let mut elf = elf(&[]);
    assert!(Kernel::named("6.12").load(&elf).is_ok());
    elf.add(Section::new(".modinfo", RELA, 0, 8, Vec::new()));
    let error = Kernel::named("6.12").load(&elf).unwrap_err();
    let is_duplicate =
        matches!(error, LoadError::Image(ImageError::DuplicateSection { name: ".modinfo", .. }));
    assert!(is_duplicate, "{error}");
}

#[test]
fn relocations_of_the_symbol_table_and_its_strings_are_refused() {
    for kind in [SYMTAB, STRTAB] {
        let mut elf = elf(&[]);
        let symtab = index(&elf, |section| section.kind == SYMTAB);
        let target = match kind {
            SYMTAB => symtab as u32,
            _ => elf.sections[symtab].link,
        };
        elf.add_relocations(target, symtab as u32, &[]);
        assert!(Kernel::named("6.12").load(&elf).is_ok(), "a table without entries");
        elf.add_relocations(target, symtab as u32, &[(0, 1, 0, 0)]);
        let error = Kernel::named("6.12").load(&elf).unwrap_err();
        assert!(error.to_string().ends_with("must be not the symbol table or its strings"), "{error}");
    }
}

//! Bad input: whatever a file holds, there is an error or a module, and after an error nothing is left.

use std::path::{Path, PathBuf};

use crate::support::{ALLOC, EXEC, Elf, PROGBITS, Section, Symbol, WRITE};
use modmem::image::{Image, ImageError, SymbolPlace};
use modmem::index::AddressIndex;
use modmem::link::{Export, LinkOptions};
use modmem::modules::LoadError;
use modmem::{AddressSpace, Linker, Modules, Name, Profile};

/// Loads a file into an empty kernel that has every symbol it asks for; starts and unloads it if that works.
fn survive(file: &[u8]) -> Result<(), String> {
    let image = Image::parse(file).map_err(|error| error.to_string())?;
    let profile = Profile::named("6.12").unwrap();
    let mut space = AddressSpace::new(&profile);
    let mut modules = Modules::new(&profile, 0);
    for symbol in image.symbols().iter().filter(|s| s.place == SymbolPlace::Undefined && !s.name.is_empty()) {
        let export = Export {
            name: symbol.name,
            value: 0xffff_ffff_8100_0000,
            gpl_only: false,
            crc: None,
            namespace: Name::default(),
        };
        let _ = modules.add_kernel_symbols([export]);
    }
    let (holes, exports) = (space.holes(), modules.exports().len());
    let options = LinkOptions { force: true };
    let result = modules.load(&image, &profile, &mut space, &mut Linker::new(), options);
    assert_eq!(modules.protection_violation(), None);
    if let Ok(id) = result {
        modules.start(id, |_| 0).unwrap();
        assert_eq!(modules.protection_violation(), None);
        if modules.unload(id, |_| ()).is_err() {
            return Ok(());
        }
    }
    assert!(modules.is_empty() && modules.index().next(0).is_none());
    assert_eq!(modules.exports().len(), exports);
    assert_eq!(space.holes(), holes);
    result.map(|_| ()).map_err(|error| error.to_string())
}

fn files(folder: &str, extension: &str) -> Vec<(PathBuf, Vec<u8>)> {
    fn collect(folder: &Path, extension: &str, files: &mut Vec<(PathBuf, Vec<u8>)>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, extension, files);
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), extension, &mut files);
    files.sort();
    files
}

fn samples() -> Vec<(PathBuf, Vec<u8>)> {
    let samples = files("../../samples/root", "ko");
    assert!(samples.len() >= 5, "the sample modules are part of the repository");
    samples
}

#[test]
fn every_sample_module_loads_and_leaves_nothing_behind() {
    for (path, file) in samples() {
        survive(&file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    for (path, file) in samples() {
        // The header table is the last part; behind it stands nothing but a signature.
        let table = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
        let end = table + 64 * usize::from(file[60]);
        for length in (0..end).step_by(64) {
            assert!(survive(&file[..length]).is_err(), "{} cut to {length} bytes", path.display());
        }
        for length in (end..file.len()).step_by(64) {
            let image = Image::parse(&file[..length]).unwrap();
            assert!(image.signature().is_none());
            survive(&file[..length]).unwrap();
        }
    }
}

#[test]
fn no_flipped_byte_makes_a_panic() {
    for (_, file) in samples() {
        // Every third, which is odd to all record sizes: in the end each field of some record has its turn.
        for at in (0..file.len()).step_by(3) {
            let mut flipped = file.clone();
            flipped[at] ^= 0xff;
            let _ = survive(&flipped);
        }
    }
}

#[test]
fn no_flipped_header_bit_makes_a_panic() {
    for (_, file) in samples() {
        let table = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
        let headers = table..file.len().min(table + 64 * usize::from(file[60]));
        for at in (0..64).chain(headers) {
            for bit in [0, 3, 7] {
                let mut flipped = file.clone();
                flipped[at] ^= 1 << bit;
                let _ = survive(&flipped);
            }
        }
    }
}

#[test]
fn what_once_crashed_does_not_crash_again() {
    for (_, file) in files("../../fuzz/regressions", "bin") {
        let _ = survive(&file);
    }
}

/// A module with one symbol, one text section and the given relocations against it.
fn module(text_flags: u64, alignment: u64, relocations: &[(u64, u32, u32, i64)]) -> Elf {
    let mut elf = Elf::x86_64();
    let text = elf.add(Section::new(".text", PROGBITS, text_flags, alignment, vec![0; 16]));
    let symbol = Symbol { name: 1, section: text as u16, info: 0x10, value: 0 };
    elf.add_module_parts("hostile", &[symbol], b"\0symbol\0");
    let symtab = elf.sections.len() as u32;
    elf.add_relocations(text, symtab, relocations);
    elf
}

#[test]
fn a_relocation_outside_its_section_names_section_entry_and_bound() {
    let error = survive(&module(ALLOC | EXEC, 16, &[(0, 1, 1, 0), (16, 1, 1, 0)]).build()).unwrap_err();
    assert_eq!(error, "section 6 (.rela.text) entry 1: r_offset is 0x10, must be less than 0x10");
}

#[test]
fn a_relocation_whose_field_is_cut_by_the_end_of_its_section_is_refused() {
    let error = survive(&module(ALLOC | EXEC, 16, &[(12, 1, 1, 0)]).build()).unwrap_err();
    let expected = "section 6 (.rela.text) entry 0 (R_X86_64_64, offset 0xc, against \"symbol\"): \
                    the field does not lie in the target section of 0x10 bytes";
    assert_eq!(error, expected);
}

#[test]
fn a_value_that_does_not_fit_names_the_symbol_and_the_value() {
    let error = survive(&module(ALLOC | EXEC, 16, &[(0, 1, 10, 0)]).build()).unwrap_err();
    assert!(error.contains("R_X86_64_32, offset 0x0, against \"symbol\""), "{error}");
    assert!(error.contains("value 0xffffffffc0000000 does not fit in 32 unsigned bits"), "{error}");
}

#[test]
fn a_field_that_is_not_zero_is_refused_as_linux_refuses_it() {
    let mut elf = module(ALLOC | EXEC, 16, &[(4, 1, 2, 0)]);
    elf.sections[0].data[5] = 0x77;
    let error = survive(&elf.build()).unwrap_err();
    assert!(error.ends_with("the field holds 0x7700 and must be zero before it is relocated"), "{error}");
}

#[test]
fn an_unknown_relocation_type_is_refused_by_number() {
    let error = survive(&module(ALLOC | EXEC, 16, &[(0, 1, 9, 0)]).build()).unwrap_err();
    assert!(error.contains("entry 0 (type 9, offset 0x0"), "{error}");
}

#[test]
fn a_section_that_is_writable_and_executable_is_refused() {
    let error = survive(&module(ALLOC | EXEC | WRITE, 16, &[]).build()).unwrap_err();
    assert_eq!(error, "section 1 (.text): writable and executable at once, which Linux refuses");
}

#[test]
fn alignments_that_fill_a_memory_are_refused() {
    for alignment in [1 << 32, 1 << 63, u64::MAX] {
        let mut elf = module(ALLOC | EXEC, 16, &[]);
        elf.add(Section::new(".text.far", PROGBITS, ALLOC | EXEC, alignment, vec![0; 16]));
        let error = survive(&elf.build()).unwrap_err();
        assert!(error.contains("more than the 4 GiB that Linux can count"), "{error}");
    }
}

#[test]
fn symbols_name_strings_and_sections_that_exist() {
    let mut elf = Elf::x86_64();
    elf.add_module_parts("hostile", &[Symbol { name: 9, ..Symbol::default() }], b"\0symbol\0");
    let error = Image::parse(&elf.build()).unwrap_err();
    assert!(matches!(error, ImageError::BadSymbol { index: 1, field: "st_name", value: 9, bound: 8, .. }));
    let mut elf = Elf::x86_64();
    elf.add_module_parts("hostile", &[Symbol { name: 1, section: 77, ..Symbol::default() }], b"\0symbol\0");
    let error = Image::parse(&elf.build()).unwrap_err();
    assert_eq!(error.to_string(), "symbol 1 (\"symbol\"): st_shndx is 0x4d, must be less than 0x6");
}

#[test]
fn strings_end_with_a_nul() {
    let mut elf = Elf::x86_64();
    elf.add_module_parts("hostile", &[], b"\0symbol");
    assert!(matches!(Image::parse(&elf.build()), Err(ImageError::Unterminated { .. })));
    let mut elf = Elf::x86_64();
    elf.add_module_parts("hostile", &[], b"\0");
    elf.sections[0].data.pop();
    assert!(matches!(Image::parse(&elf.build()), Err(ImageError::Unterminated { .. })));
}

#[test]
fn sections_may_not_share_bytes_of_the_file() {
    let file = module(ALLOC | EXEC, 16, &[]).build();
    let table = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    let mut overlapping = file.clone();
    // The text section (1) now begins where .modinfo (2) does.
    let modinfo = file[table + 2 * 64 + 24..][..8].to_vec();
    overlapping[table + 64 + 24..][..8].copy_from_slice(&modinfo);
    assert!(matches!(Image::parse(&overlapping), Err(ImageError::SectionsOverlap { .. })));
}

#[test]
fn many_parameters_take_no_time() {
    const COUNT: usize = 100_000;
    let mut elf = Elf::x86_64();
    elf.add_module_parts("hostile", &[], b"\0");
    for index in 0..COUNT {
        elf.sections[0].data.extend(format!("parmtype=p{index}:int\0parm=p{index}:text\0").bytes());
    }
    elf.sections[0].data.extend(b"parm=p7:second\0parm=other:untyped\0");
    let file = elf.build();
    let image = Image::parse(&file).unwrap();
    let parameters: Vec<_> = image.parameters().collect();
    assert_eq!(parameters.len(), COUNT + 1);
    assert_eq!(parameters[7].description, Some(Name(b"text")));
    assert_eq!((parameters[COUNT].name, parameters[COUNT].kind), (Name(b"other"), None));
}

#[test]
fn a_module_of_every_class_and_byte_order_can_be_read() {
    for (is_64, big, machine) in [(false, false, 40), (false, true, 20), (true, false, 183), (true, true, 22)]
    {
        let mut elf = Elf { is_64, big, machine, sections: Vec::new() };
        let text = elf.add(Section::new(".text", PROGBITS, ALLOC | EXEC, 16, vec![0; 16]));
        let symbol = Symbol { name: 1, section: text as u16, info: 0x12, value: 0x1234_5678 };
        elf.add_module_parts("foreign", &[symbol], b"\0symbol\0");
        elf.add_relocations(text, elf.sections.len() as u32, &[(8, 1, 77, -4)]);
        let file = elf.build();
        let image = Image::parse(&file).unwrap();
        let symbol = image.symbols().get(1).unwrap();
        assert_eq!((symbol.name.to_text().as_str(), symbol.value), ("symbol", 0x1234_5678));
        let relocation = image.relocations().next().unwrap().get(0).unwrap();
        assert_eq!(
            (relocation.offset, relocation.symbol, relocation.kind, relocation.addend),
            (8, 1, 77, -4)
        );
        let profile = Profile::named("6.12").unwrap();
        let mut modules = Modules::new(&profile, 0);
        let mut space = AddressSpace::new(&profile);
        let refused = modules.load(&image, &profile, &mut space, &mut Linker::new(), LinkOptions::default());
        assert!(matches!(refused, Err(LoadError::Layout(_))), "no module of another machine is loaded");
    }
}

#[test]
fn a_name_that_every_symbol_shares_is_bounded() {
    // Symbols may share a name: 600,000 of one of 16 MiB would be terabytes of names.
    let mut strings = vec![b'x'; 16 << 20];
    strings[0] = 0;
    *strings.last_mut().unwrap() = 0;
    let mut elf = Elf::x86_64();
    elf.add_module_parts("hostile", &vec![Symbol { name: 1, ..Symbol::default() }; 60_000], &strings);
    assert!(matches!(Image::parse(&elf.build()), Err(ImageError::LongName { bound: 512, .. })));
}

#[test]
fn versions_of_one_name_take_no_time() {
    let mut elf = module(ALLOC | EXEC, 16, &[]);
    let entry: Vec<u8> = [&[0; 8][..], b"symbol\0", &[0; 49]].concat();
    elf.sections.push(Section::new("__versions", PROGBITS, ALLOC, 8, entry.repeat(400_000)));
    survive(&elf.build()).unwrap();
}

#[test]
fn a_symbol_table_behind_all_that_there_is_has_no_room() {
    let mut elf = module(ALLOC | EXEC, 16, &[]);
    elf.sections[4].alignment = 1 << 31;
    assert!(survive(&elf.build()).unwrap_err().contains("no room for"));
}

#[test]
fn a_signature_of_another_kind_counts_as_none() {
    let mut file = module(ALLOC | EXEC, 16, &[]).build();
    file.extend([1, 2, 3, 4]);
    file.extend([0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 4]);
    file.extend(b"~Module signature appended~\n");
    assert!(Image::parse(&file).unwrap().signature().is_none());
}

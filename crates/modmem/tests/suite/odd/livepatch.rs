//! Livepatch modules: what is applied while they are loaded, and what makes Linux refuse them
//! (kernel/livepatch/core.c).

use modmem::link::{LinkError, LivepatchProblem, Remark};
use modmem::modules::LoadError;
use modmem::{MemoryKind, Name, Profile};

use crate::odd::kernel::Kernel;
use crate::support::{ALLOC, EXEC, Elf, PROGBITS, RELA, Section, Symbol};

/// SHF_RELA_LIVEPATCH and SHN_LIVEPATCH.
const LIVEPATCH: u64 = 0x10_0000;
const OF_LIVEPATCH: u16 = 0xff20;
/// R_X86_64_64
const WORD: u64 = 1;

/// A module whose text has a word for each of these symbols, filled by a section of that name.
fn patch(section: &str, symbols: &[&str]) -> Elf {
    let mut elf = Elf::x86_64();
    let text = elf.add(Section::new(".text", PROGBITS, ALLOC | EXEC, 16, vec![0; 64]));
    let mut strings = vec![0];
    let mut records = Vec::new();
    for symbol in symbols {
        let name = strings.len() as u32;
        records.push(Symbol { name, info: 0x10, section: OF_LIVEPATCH, value: 0 });
        strings.extend(symbol.bytes());
        strings.push(0);
    }
    elf.add_module_parts("odd", &records, &strings);
    elf.sections[1].data.extend(b"livepatch=Y\0");
    let mut data = Vec::new();
    for index in 0..symbols.len() as u64 {
        data.extend([index * 8, (index + 1) << 32 | WORD, 0].map(u64::to_le_bytes).concat());
    }
    let mut relocations = Section::new(section, RELA, ALLOC | LIVEPATCH, 8, data);
    (relocations.link, relocations.info, relocations.entry_size) = (4, text, 24);
    elf.add(relocations);
    elf
}

fn kernel() -> Kernel {
    let mut kernel = Kernel::new(Profile::named("6.12").unwrap(), &[("exported", None)]);
    let symbols = [("one", 0x1000), ("two", 0x3000), ("two", 0x2000), ("exported", 0x4000)];
    kernel.modules.set_internal_symbols(symbols.map(|(name, value)| (Name::from(name), value))).unwrap();
    kernel
}

/// The words of a patch's text, or why it is refused.
fn words(kernel: &mut Kernel, elf: &Elf) -> Result<[u64; 2], LoadError> {
    let id = kernel.load(elf)?;
    let text = kernel.modules.get(id).unwrap().bytes(MemoryKind::Text);
    Ok([0, 8].map(|at| u64::from_le_bytes(text[at..at + 8].try_into().unwrap())))
}

fn problem(elf: &Elf) -> LivepatchProblem {
    match words(&mut kernel(), elf) {
        Err(LoadError::Link(LinkError::Livepatch { problem, .. })) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_waits_for_the_kernel_is_applied_while_the_module_is_loaded() {
    let symbols = [".klp.sym.vmlinux.one,0", ".klp.sym.vmlinux.two,2"];
    let elf = patch(".klp.rela.vmlinux..text", &symbols);
    let mut kernel = kernel();
    // Of one name, those are counted by their addresses.
    assert_eq!(words(&mut kernel, &elf), Ok([0x1000, 0x3000]));
    let module = kernel.modules.by_name("odd").unwrap();
    assert_eq!((module.relocations(), module.remarks()), (2, &[][..]));
    // The values stay in the symbol table that livepatch modules keep.
    let values: Vec<u64> = module.symbols().map(|symbol| symbol.value).collect();
    assert_eq!(values, [0x1000, 0x3000]);
}

#[test]
fn what_waits_for_a_module_stays_as_it_is() {
    let elf = patch(".klp.rela.other..text", &[".klp.sym.other.one,0", ".klp.sym.other.nobody,7"]);
    assert_eq!(words(&mut kernel(), &elf), Ok([0, 0]));
}

#[test]
fn symbols_that_are_not_there_are_refused() {
    use LivepatchProblem::{Absent, Ambiguous, NoSuchPosition, NotMarked, SectionName, SymbolName};
    for (symbol, expected) in [
        (".klp.sym.vmlinux.none,0", Absent),
        (".klp.sym.vmlinux.two,0", Ambiguous),
        (".klp.sym.vmlinux.two,3", NoSuchPosition),
        (".klp.sym.vmlinux.one,2", NoSuchPosition),
        (".klp.sym.other.one,0", Absent),
        (".klp.sym.vmlinux.one", SymbolName),
        ("one", SymbolName),
    ] {
        assert_eq!(problem(&patch(".klp.rela.vmlinux..text", &[symbol])), expected, "{symbol}");
    }
    assert_eq!(problem(&patch(".klp.rela..text", &["one"])), SectionName);
    let mut plain = patch(".klp.rela.vmlinux..text", &[".klp.sym.vmlinux.one,0"]);
    // SHN_ABS
    plain.sections[4].data[24 + 6..][..2].copy_from_slice(&0xfff1_u16.to_le_bytes());
    assert_eq!(problem(&plain), NotMarked);
    let refused = kernel().load(&patch(".klp.rela.vmlinux..text", &[".klp.sym.vmlinux.none,0"]));
    let text = refused.unwrap_err().to_string();
    assert_eq!(text, "livepatch: .klp.sym.vmlinux.none,0: not found in symbol table (EINVAL)");
}

#[test]
fn a_kernel_without_livepatch_takes_no_patches() {
    let mut kernel = kernel();
    kernel.profile.switches.livepatch = false;
    let mut without = Kernel::new(kernel.profile, &[]);
    let elf = patch(".klp.rela.vmlinux..text", &[".klp.sym.vmlinux.one,0"]);
    assert_eq!(without.load(&elf), Err(LoadError::Link(LinkError::NoLivepatch)));
    // A module that does not say that it is one has no say in its flags.
    let mut silent = elf.clone();
    let modinfo = &mut silent.sections[1].data;
    modinfo.truncate(modinfo.len() - b"livepatch=Y\0".len());
    assert_eq!(words(&mut without, &silent), Ok([0, 0]));
}

#[test]
fn where_nobody_told_the_kernels_symbols_exported_ones_are_known() {
    let mut kernel = Kernel::new(Profile::named("6.12").unwrap(), &[("exported", None)]);
    let exported = patch(".klp.rela.vmlinux..text", &[".klp.sym.vmlinux.exported,1"]);
    assert_eq!(words(&mut kernel, &exported).unwrap()[0], crate::odd::kernel::FIRST);
    let mut kernel = Kernel::new(Profile::named("6.12").unwrap(), &[]);
    let unknown = patch(".klp.rela.vmlinux..text", &[".klp.sym.vmlinux.one,0", ".klp.sym.vmlinux.two,1"]);
    assert_eq!(words(&mut kernel, &unknown), Ok([0, 0]));
    let remarks = kernel.modules.by_name("odd").unwrap().remarks();
    assert_eq!(remarks, [Remark::UnknownInternalSymbols { first: "one".into(), count: 2 }]);
}

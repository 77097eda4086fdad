//! The module that both linkers are given.

use crate::second_linker::probe::{FILLER, Probe, SLOT, Setting};
use crate::second_linker::target::Target;
use crate::support::{ALLOC, EXEC, PROGBITS, Section, Symbol};

/// The section whose fields are relocated.
pub(crate) const SECTION: &str = ".text";

const GLOBAL: u8 = 0x10;

/// The name of the symbol that a probe is against.
pub(crate) fn symbol(number: usize) -> String {
    format!("s{number}")
}

/// Which relocation numbers a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// Those of the rows.
    Own,
    /// Those that these are like, which need no tables.
    Like,
}

/// A module with a field, a symbol and a relocation for each probe.
pub(crate) fn file(target: &Target, probes: &[Probe<'_>], settings: &[Setting], numbers: Numbers) -> Vec<u8> {
    let mut bytes = vec![FILLER; probes.len() * SLOT];
    for probe in probes {
        bytes[probe.offset..][..probe.row.field.0].copy_from_slice(&target.bytes(probe.row.field));
    }
    let mut elf = target.file.clone();
    let section = elf.add(Section::new(SECTION, PROGBITS, ALLOC | EXEC, 64, bytes));
    for section in &target.sections {
        elf.add(section.clone());
    }
    let (mut strings, mut symbols) = (vec![0], Vec::new());
    for number in 0..probes.len() {
        symbols.push(Symbol { name: strings.len() as u32, info: GLOBAL, ..Symbol::default() });
        strings.extend(symbol(number).bytes());
        strings.push(0);
    }
    elf.add_module_parts("tested", &symbols, &strings);
    let symtab = elf.sections.len() as u32;
    // What counts as the first symbol that is not local: ld takes those before it for its own.
    elf.sections.last_mut().unwrap().info = 1;
    let relocations: Vec<(u64, u32, u32, i64)> = (probes.iter().zip(settings).zip(1..))
        .map(|((probe, setting), symbol)| {
            let number = if numbers == Numbers::Own { probe.row.number } else { probe.row.like };
            (probe.offset as u64, symbol, number, setting.addend)
        })
        .collect();
    elf.add_relocations(section, symtab, &relocations);
    elf.build()
}

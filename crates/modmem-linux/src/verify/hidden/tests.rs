//! A made-up module that is in no list.

use super::*;
use crate::snapshot::{MemoryRecord, Symbol, SymbolTable};

const TEXT: u64 = 0xffff_ffff_c000_0000;
const DATA: u64 = 0xffff_ffff_c000_2000;
const RODATA: u64 = 0xffff_ffff_c000_4000;
const PRINTK: u64 = 0xffff_ffff_8100_1000;
/// Its `struct module`, and where in it the memories are, a memory's words, and the place of its symbols.
const MODULE: u64 = DATA + 0x340;
const MEMORIES: u64 = 0x140;
const SYMBOLS: u64 = 0x378;

struct Memory(Vec<(u64, Vec<u8>)>);

impl Memory {
    fn write(&mut self, address: u64, bytes: &[u8]) {
        let (start, memory) =
            self.0.iter_mut().find(|(start, _)| (*start..*start + 0x1000).contains(&address)).unwrap();
        let at = (address - *start) as usize;
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put(&mut self, address: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(address, &bytes);
    }

    fn find(&self) -> Vec<HiddenModule> {
        let records =
            self.0.iter().map(|(address, bytes)| MemoryRecord { address: *address, bytes: bytes.clone() });
        let stray = |(start, _): &(u64, Vec<u8>)| Stray {
            range: *start..*start + 0x1000,
            caller: String::new(),
            kind: StrayKind::NoOwner,
        };
        let strays: Vec<Stray> = self.0.iter().map(stray).collect();
        let printk = Symbol { name: "_printk", address: PRINTK, letter: 'T', module: None };
        let snapshot = Snapshot {
            memory: MemoryRecords::new(records.collect()).unwrap(),
            symbols: SymbolTable::new([printk]).unwrap(),
            ..Snapshot::default()
        };
        find(&snapshot, &Profile::named("6.12").unwrap(), &strays)
    }
}

/// The module; `between` words lie between a memory's base and its size.
fn hidden(between: usize) -> Memory {
    let mut memory = Memory([TEXT, DATA, RODATA].map(|start| (start, vec![0; 0x1000])).into());
    memory.put(MODULE, &[0, MODULE + 8, MODULE + 8]);
    memory.write(MODULE + 0x18, b"ghost");
    let stride = 8 * (9 + between as u64);
    for (index, base) in [TEXT, DATA, RODATA, 0, 0, 0, 0].into_iter().enumerate() {
        let size = if base == 0 { 0 } else { 0x1000 };
        let words = [vec![base], vec![0; between], vec![size, MODULE]].concat();
        memory.put(MODULE + MEMORIES + index as u64 * stride, &words);
    }
    // Two symbols, and an export.
    memory.put(MODULE + SYMBOLS, &[MODULE + SYMBOLS + 8, DATA + 0x900, 4, DATA + 0xa00, DATA + 0xb00]);
    memory.write(DATA + 0xa00, b"\0ghost_init\0ghost_hook\0__ksymtab_ghost_api\0");
    memory.write(DATA + 0xb00, b"?tTr");
    for (index, (name, value)) in [(1_u64, TEXT), (12, TEXT + 0x40), (23, RODATA)].into_iter().enumerate() {
        memory.put(DATA + 0x900 + 24 * (index as u64 + 1), &[name, value, 0]);
    }
    // call _printk
    let displacement = PRINTK.wrapping_sub(TEXT + 0x10 + 5) as u32;
    memory.write(TEXT + 0x10, &[&[0xe8][..], &displacement.to_le_bytes()].concat());
    memory
}

#[test]
fn a_hidden_module_is_one_with_name_symbols_exports_and_imports() {
    for between in [0, 1] {
        let found = hidden(between).find();
        assert_eq!(found.len(), 1, "{between}");
        let module = &found[0];
        assert_eq!((module.name.as_str(), module.address), ("ghost", MODULE));
        let memories: Vec<_> = module.memories.iter().map(|(kind, range)| (*kind, range.start)).collect();
        let expected = [(MemoryKind::Text, TEXT), (MemoryKind::Data, DATA), (MemoryKind::RoData, RODATA)];
        assert_eq!(memories, expected.map(|(kind, start)| (Some(kind), start)));
        let symbols: Vec<_> = module.symbols.iter().map(|s| (s.name.as_str(), s.address, s.letter)).collect();
        let expected = [
            ("ghost_init", TEXT, 't'),
            ("ghost_hook", TEXT + 0x40, 'T'),
            ("__ksymtab_ghost_api", RODATA, 'r'),
        ];
        assert_eq!(symbols, expected);
        assert_eq!(module.exports, ["ghost_api"]);
        let import = Import { name: "_printk".into(), module: None, address: PRINTK, calls: 1 };
        assert_eq!(module.imports, [import]);
    }
}

#[test]
fn what_contradicts_itself_is_no_module() {
    let breaks: [fn(&mut Memory); 5] = [
        // A state that there is none of; names that do not end, or hold what no name holds.
        |memory| memory.put(MODULE, &[7]),
        |memory| memory.write(MODULE + 0x18, &[b'x'; 56]),
        |memory| memory.write(MODULE + 0x18, b"gh\x1bst"),
        // Memories that name another module, or that lie elsewhere.
        |memory| (0..7).for_each(|at| memory.put(MODULE + MEMORIES + 72 * at + 16, &[TEXT])),
        |memory| (0..7).for_each(|at| memory.put(MODULE + MEMORIES + 72 * at, &[PRINTK & !0xfff])),
    ];
    for (number, change) in breaks.into_iter().enumerate() {
        let mut memory = hidden(0);
        change(&mut memory);
        assert_eq!(memory.find(), [], "{number}");
    }
}

#[test]
fn tables_that_lead_elsewhere_have_no_symbols() {
    let mut memory = hidden(0);
    memory.put(MODULE + SYMBOLS + 8, &[PRINTK]);
    assert_eq!(memory.find()[0].symbols, []);
    let mut memory = hidden(0);
    memory.put(MODULE + SYMBOLS + 16, &[u64::from(u32::MAX)]);
    assert_eq!(memory.find()[0].symbols, []);
    // Names that no string begins at, and values of others, are passed over.
    let mut memory = hidden(0);
    memory.put(DATA + 0x900 + 24, &[0xffff_ffff]);
    memory.put(DATA + 0x900 + 48 + 8, &[PRINTK]);
    assert_eq!(memory.find()[0].symbols.len(), 1);
}

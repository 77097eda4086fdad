//! Snapshots: what reads is looked up in and comes back as it was written; what does not is an error.
//!
//! The first byte says what the rest is: the inside of a .mms file, JSON, symbols, or records of memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modmem::RunAddr;
use modmem_linux::snapshot::{Found, Locator, MemoryRecords, Snapshot, SymbolTable};

fuzz_target!(|input: &[u8]| {
    let Some((kind, data)) = input.split_first() else { return };
    match kind % 4 {
        0 => {
            let Ok(snapshot) = Snapshot::from_tar("fuzz", data) else { return };
            look_up(&snapshot);
            round_trip(&snapshot);
        }
        1 => {
            // The document ends where a zero is; behind it are the files that it names, all of them the same.
            let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
            let file = data[end..].to_vec();
            let open = |_: &str| -> Result<Box<dyn std::io::BufRead>, _> {
                Ok(Box::new(std::io::Cursor::new(file.clone())))
            };
            let Ok(snapshot) = Snapshot::from_json("fuzz", &data[..end], open) else { return };
            look_up(&snapshot);
            round_trip(&snapshot);
        }
        2 => {
            let Ok(symbols) = SymbolTable::read_from("fuzz", data) else { return };
            for symbol in symbols.iter() {
                assert!(symbols.named(symbol.name).any(|other| other == symbol));
                assert!(symbols.at_address(symbol.address).any(|other| other == symbol));
                if let Some(nearest) = symbols.nearest(symbol.address, symbol.module) {
                    assert!(nearest.symbol.address <= symbol.address);
                    assert!(nearest.size.is_none_or(|size| nearest.offset < size));
                }
            }
        }
        _ => {
            let Ok(memory) = MemoryRecords::read_from("fuzz", data) else { return };
            for record in memory.records() {
                assert_eq!(memory.bytes(record.address, record.bytes.len()), Some(&record.bytes[..]));
                assert!(memory.bytes(record.address, record.bytes.len() + 1).is_none());
            }
        }
    }
});

/// Every address that the snapshot names, and its neighbours.
fn look_up(snapshot: &Snapshot) {
    let mut locator = Locator::new(snapshot, |_| None);
    let sections = snapshot.modules.iter().flat_map(|module| &module.sections).map(|section| section.address);
    let symbols = snapshot.symbols.iter().map(|symbol| symbol.address);
    let areas = snapshot.areas.iter().flat_map(|area| [area.range.start, area.range.end, area.backed().end]);
    let addresses: Vec<u64> = sections.chain(symbols).chain(areas).take(1000).collect();
    for address in addresses {
        for address in [address.wrapping_sub(1), address, address.wrapping_add(1)] {
            if let Found::Module(place) | Found::Freed(place) = locator.find(RunAddr(address)) {
                assert!(place.section.is_some_and(|(_, offset)| offset <= address));
            }
        }
    }
}

fn round_trip(snapshot: &Snapshot) {
    let mut file = Vec::new();
    snapshot.write_to(&mut file).expect("writing to memory");
    let tar = zstd::decode_all(&file[..]).expect("what was just compressed");
    let again = Snapshot::from_tar("again", &tar[..]).expect("what was just written");
    assert!(again.symbols == snapshot.symbols && again.memory == snapshot.memory);
    assert!(again.modules.len() == snapshot.modules.len() && again.areas == snapshot.areas);
    let mut file_again = Vec::new();
    again.write_to(&mut file_again).expect("writing to memory");
    assert!(file == file_again);
}

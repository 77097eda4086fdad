//! Tables that the kernel sorts, and constants.

use modmem::layout::MemoryKind;
use xtask::tamper::Change;

use crate::hooks::scene::{FOREIGN, Scene};

/// Tables, the bytes of an entry, and where in it distances of 32 bits are.
const TABLES: [(&str, u64, &[usize]); 11] = [
    ("__ex_table", 12, &[0, 4]),
    ("__mcount_loc", 8, &[]),
    ("__jump_table", 16, &[0, 4]),
    (".static_call_sites", 8, &[0, 4]),
    (".smp_locks", 4, &[0]),
    (".return_sites", 4, &[0]),
    (".retpoline_sites", 4, &[0]),
    (".call_sites", 4, &[0]),
    (".ibt_endbr_seal", 4, &[0]),
    ("__patchable_function_entries", 8, &[]),
    ("__ksymtab", 12, &[0, 4, 8]),
];

pub(crate) fn swapped(scene: &mut Scene) {
    for (table, size, distances) in TABLES {
        let entries = scene.victim.entries(table, size);
        let length = size as usize;
        let pair = entries.windows(2).find(|pair| {
            pair[0].0 == pair[1].0
                && scene.victim.has(pair[0].1, 2 * length)
                && scene.running(pair[0].1, length) != scene.running(pair[1].1, length)
        });
        let Some([(_, first), (_, second)]) = pair else { continue };
        let (first, second) = (*first, *second);
        let (one, other) = (scene.running(first, length).to_vec(), scene.running(second, length).to_vec());
        scene.one(&format!("two entries of {table} swapped as they are"), first, [&other[..], &one].concat());
        // Still leading to the same places, but not in order.
        let moved = |mut entry: Vec<u8>, by: u64| {
            for &at in distances {
                let field: [u8; 4] = entry[at..at + 4].try_into().expect("4 bytes");
                let distance = u32::from_le_bytes(field).wrapping_add(by as u32);
                entry[at..at + 4].copy_from_slice(&distance.to_le_bytes());
            }
            if table == "__jump_table" {
                let field: [u8; 8] = entry[8..16].try_into().expect("8 bytes");
                entry[8..16].copy_from_slice(&u64::from_le_bytes(field).wrapping_add(by).to_le_bytes());
            }
            entry
        };
        let swapped = [moved(other, size), moved(one, size.wrapping_neg())].concat();
        scene.one(&format!("two entries of {table} in the wrong order"), first, swapped);
    }
    orc(scene);
}

/// Unwind entries: an address and, in another table, what is known there.
fn orc(scene: &mut Scene) {
    let addresses = scene.victim.entries(".orc_unwind_ip", 4);
    let entries = scene.victim.entries(".orc_unwind", 6);
    let index = (0..entries.len() - 1)
        .find(|&at| scene.running(entries[at].1, 6) != scene.running(entries[at + 1].1, 6))
        .expect("entries that differ");
    let (address, entry) = (addresses[index].1, entries[index].1);
    let [first, second] = [0, 4].map(|by| scene.victim.relative(address + by));
    let ips = [(second.wrapping_sub(address) as u32), (first.wrapping_sub(address + 4) as u32)];
    let ips = [ips[0].to_le_bytes(), ips[1].to_le_bytes()].concat();
    let pair = scene.running(entry, 12);
    let pair = [&pair[6..], &pair[..6]].concat();
    scene.found(
        "two unwind entries in the wrong order",
        &[Change::new(address, ips), Change::new(entry, pair.clone())],
    );
    scene.one("what two unwind entries know swapped", entry, pair);
}

pub(crate) fn read_only_data(scene: &mut Scene) {
    // A table of operations: a pointer to one of the module's own functions.
    let memories = scene.victim.memories.clone();
    for (module, _, range) in memories.iter().filter(|(_, kind, _)| *kind == MemoryKind::RoData) {
        let Some(rodata) = scene.victim.section(module, ".rodata") else { continue };
        let functions = scene.functions(module);
        let mut words = (rodata.start.next_multiple_of(8)..rodata.end.min(range.end) - 8).step_by(8);
        let Some(at) = words.find(|&at| functions.contains(&scene.victim.word(at))) else { continue };
        let other =
            functions.iter().find(|&&other| other != scene.victim.word(at)).expect("another function");
        scene.one("a pointer in a constant table to another function", at, other.to_le_bytes());
        scene.one("a pointer in a constant table to foreign memory", at, FOREIGN.to_le_bytes());
        break;
    }
    for (what, section) in [
        ("a string changed", ".rodata.str1.1"),
        ("a parameter changed", "__param"),
        ("an export changed", "__ksymtab_strings"),
        ("a build id changed", ".note.gnu.build-id"),
        ("the code of an alternative changed", ".altinstr_replacement"),
        ("a warning's place changed", "__bug_table"),
    ] {
        let entries = scene.victim.entries(section, 1);
        let Some((_, at)) = entries.iter().find(|(_, at)| scene.victim.has(*at, 1)) else { continue };
        let byte = scene.running(*at, 1)[0] ^ 0x20;
        scene.one(what, *at, [byte]);
    }
}

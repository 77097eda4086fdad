//! Tables that the loader sorts or rewrites.
//!
//! Where keys are equal, the order that the kernel's lib/sort.c leaves depends on its version: the orders here are what
//! that file, compiled by itself, makes of the same keys.

use modmem::MemoryKind;
use modmem::verify::{Rule, Why};

use crate::verifying::guest::{Guest, assert_clean, the_unexplained};
use crate::verifying::loader::Loaded;
use crate::verifying::module::Module;

/// Text of returns, a section of it to point at.
fn text(module: &mut Module) -> usize {
    module.add_aligned(".text", MemoryKind::Text, 64, &[0xc3; 0x40])
}

/// Asserts that what is in the guest is right, and that the two entries there are not when they are swapped.
#[track_caller]
fn assert_order(guest: &mut Guest, loaded: &Loaded, address: u64, size: u64, rule: Rule) {
    let report = guest.verify(loaded);
    assert_clean(&report);
    assert!(report.total().explained_by(rule) > 0);
    let bytes: Vec<u8> = (0..2 * size).map(|at| guest.byte(address + at)).collect();
    let (first, second) = bytes.split_at(size as usize);
    guest.write(address, &[second, first].concat());
    let report = guest.verify(loaded);
    assert!(!report.is_clean());
    assert!(
        report.unexplained.iter().all(|span| span.why == Why::NotAsRule(rule)),
        "{:?}",
        report.unexplained
    );
}

#[test]
fn exceptions_are_sorted_by_instruction_and_their_distances_moved() {
    for version in ["6.1", "6.12", "7.2"] {
        let mut module = Module::new(version);
        let text = text(&mut module);
        // Instruction, fixup and what the handler is told.
        let entries = [(0x20, 0x30, 1_u8), (0, 0x31, 2), (0x10, 0x32, 3)];
        let bytes: Vec<u8> =
            entries.iter().flat_map(|&(.., data)| [0, 0, 0, 0, 0, 0, 0, 0, data, 0, 0, 0]).collect();
        let table = module.add_aligned("__ex_table", MemoryKind::RoData, 4, &bytes);
        for (at, (insn, fixup, _)) in (0..).step_by(12).zip(entries) {
            module.distance(table, at, text, insn);
            module.distance(table, at + 4, text, fixup);
        }
        let mut guest = Guest::new();
        let loaded = guest.load(&module);
        assert!(!guest.verify(&loaded).is_clean());
        for (at, (insn, fixup, data)) in (0..).step_by(12).zip([entries[1], entries[2], entries[0]]) {
            guest.distance(loaded.at(table, at), loaded.at(text, insn));
            guest.distance(loaded.at(table, at + 4), loaded.at(text, fixup));
            guest.write(loaded.at(table, at + 8), &[data]);
        }
        assert_order(&mut guest, &loaded, loaded.at(table, 0), 12, Rule::SortedTable);
    }
}

#[test]
fn function_entries_are_sorted() {
    for version in ["6.1", "6.12", "7.2"] {
        let mut module = Module::new(version);
        let mut code = [0x90; 0x40];
        for at in [0, 0x10, 0x20] {
            code[at..at + 5].copy_from_slice(&[0x0f, 0x1f, 0x44, 0, 0]);
        }
        let text = module.add_aligned(".text", MemoryKind::Text, 64, &code);
        let table = module.add_aligned("__mcount_loc", MemoryKind::RoData, 8, &[0; 24]);
        for (at, function) in [(0, 0x20), (8, 0), (16, 0x10)] {
            module.address(table, at, text, function);
        }
        let mut guest = Guest::new();
        let loaded = guest.load(&module);
        assert!(!guest.verify(&loaded).is_clean());
        for (at, function) in [(0, 0_u64), (8, 0x10), (16, 0x20)] {
            guest.write(loaded.at(table, at), &loaded.at(text, function).to_le_bytes());
        }
        assert_order(&mut guest, &loaded, loaded.at(table, 0), 8, Rule::SortedTable);
    }
}

#[test]
fn unwind_entries_are_sorted_in_two_tables_with_those_that_end_a_section_first() {
    // Stack pointer, frame pointer and type of: a usual entry, one that ends what is known, the end of the stack.
    let old = [[0x05, 0x00], [0x00, 0x00], [0x00, 0x04]];
    let new = [[0x05, 0x02], [0x00, 0x00], [0x00, 0x01]];
    for (version, kinds, order) in
        [("6.1", old, [3, 4, 1, 2, 0]), ("6.12", new, [3, 1, 4, 2, 0]), ("7.2", new, [3, 1, 4, 2, 0])]
    {
        const USUAL: usize = 0;
        const UNKNOWN: usize = 1;
        const END: usize = 2;
        let entries = [(0x10, END), (0, USUAL), (0x10, UNKNOWN), (0, UNKNOWN), (0, USUAL)];
        // The first field, an offset, tells the entries apart.
        let entry = |at: usize| {
            let [low, high] = kinds[entries[at].1];
            [8 + at as u8, 0, 0, 0, low, high]
        };
        let mut module = Module::new(version);
        let text = text(&mut module);
        let addresses = module.add_aligned(".orc_unwind_ip", MemoryKind::RoData, 4, &[0; 20]);
        let bytes: Vec<u8> = (0..5).flat_map(entry).collect();
        let table = module.add_aligned(".orc_unwind", MemoryKind::RoData, 2, &bytes);
        for (at, (code, _)) in (0..).step_by(4).zip(entries) {
            module.distance(addresses, at, text, code);
        }
        let mut guest = Guest::new();
        let loaded = guest.load(&module);
        assert!(!guest.verify(&loaded).is_clean());
        for (place, at) in (0..).zip(order) {
            guest.distance(loaded.at(addresses, place * 4), loaded.at(text, entries[at].0));
            guest.write(loaded.at(table, place * 6), &entry(at));
        }
        assert_clean(&guest.verify(&loaded));
        // The two after the first have one address: swapped in one table, they are wrong.
        assert_order(&mut guest, &loaded, loaded.at(table, 6), 6, Rule::SortedTable);
    }
}

#[test]
fn jump_labels_are_sorted_by_key_and_code_and_those_of_init_code_are_marked() {
    const INIT: u64 = 2;
    for version in ["6.1", "6.12", "7.2"] {
        for live in [true, false] {
            let nops = [[0x0f, 0x1f, 0x44, 0, 0], [0x0f, 0x1f, 0x44, 0, 0]].concat();
            let mut module = Module::new(version);
            module.live = live;
            let text = module.add_aligned(".text", MemoryKind::Text, 64, &nops);
            let init = module.add_aligned(".init.text", MemoryKind::InitText, 16, &nops);
            let table = module.add_aligned("__jump_table", MemoryKind::RoAfterInit, 8, &[0; 64]);
            let data = module.add_aligned(".data", MemoryKind::Data, 16, &[0; 32]);
            // Where the code is, and its key; all are off.
            let entries = [(text, 5, 0x10), (init, 0, 0), (text, 0, 0x10), (text, 0, 0)];
            for (at, (section, code, key)) in (0..).step_by(16).zip(entries) {
                module.distance(table, at, section, code);
                module.distance(table, at + 4, section, 10);
                module.distance64(table, at + 8, data, key);
            }
            let mut guest = Guest::new();
            let loaded = guest.load(&module);
            assert!(!guest.verify(&loaded).is_clean());
            for (at, entry) in (0..).step_by(16).zip([3, 1, 2, 0]) {
                let (section, code, key) = entries[entry];
                guest.distance(loaded.at(table, at), loaded.at(section, code));
                guest.distance(loaded.at(table, at + 4), loaded.at(section, 10));
                let flags = if section == init { INIT } else { 0 };
                let distance = (loaded.at(data, key) + flags).wrapping_sub(loaded.at(table, at + 8));
                guest.write(loaded.at(table, at + 8), &distance.to_le_bytes());
            }
            assert_order(&mut guest, &loaded, loaded.at(table, 16), 16, Rule::RewrittenTable);
        }
    }
}

#[test]
fn static_call_sites_are_sorted_by_key_and_those_of_init_code_are_marked() {
    const INIT: u64 = 2;
    for (version, order) in
        // The sort takes the two largest at a time from 6.9 on.
        [
            ("6.1", [5, 1, 3, 2, 4, 0]),
            ("6.8", [5, 1, 3, 2, 4, 0]),
            ("6.9", [5, 3, 1, 4, 2, 0]),
            ("6.12", [5, 3, 1, 4, 2, 0]),
            ("7.2", [5, 3, 1, 4, 2, 0]),
        ]
    {
        let calls = [0x0f, 0x1f, 0x44, 0, 0].repeat(5);
        let mut module = Module::new(version);
        let text = module.add_aligned(".text", MemoryKind::Text, 64, &calls);
        let init = module.add_aligned(".init.text", MemoryKind::InitText, 16, &[0x0f, 0x1f, 0x44, 0, 0]);
        let kind = if version == "7.2" { MemoryKind::RoAfterInit } else { MemoryKind::Data };
        let table = module.add_aligned(".static_call_sites", kind, 4, &[0; 48]);
        // Keys are empty: every site is a NOP.
        let data = module.add_aligned(".data", MemoryKind::Data, 16, &[0; 32]);
        let entries =
            [(text, 0, 16), (text, 5, 0), (text, 10, 16), (init, 0, 0), (text, 15, 16), (text, 20, 0)];
        for (at, (section, code, key)) in (0..).step_by(8).zip(entries) {
            module.distance(table, at, section, code);
            module.distance(table, at + 4, data, key);
        }
        let mut guest = Guest::new();
        let loaded = guest.load(&module);
        assert!(!guest.verify(&loaded).is_clean());
        for (at, entry) in (0..).step_by(8).zip(order) {
            let (section, code, key) = entries[entry];
            let flags = if section == init { INIT } else { 0 };
            guest.distance(loaded.at(table, at), loaded.at(section, code));
            guest.distance(loaded.at(table, at + 4), loaded.at(data, key) + flags);
        }
        assert_order(&mut guest, &loaded, loaded.at(table, 0), 8, Rule::RewrittenTable);
    }
}

#[test]
fn a_warning_that_was_printed_once_is_marked() {
    const ONCE: u8 = 3;
    const DONE: u8 = 4;
    for (version, entry) in [("6.1", 12), ("6.12", 12), ("7.2", 16)] {
        let mut bytes = vec![0; entry * 2];
        // The first entry warns once, the second stops.
        bytes[entry - 2..entry].copy_from_slice(&[ONCE, 9]);
        let mut module = Module::new(version);
        let text = text(&mut module);
        let table = module.add_aligned("__bug_table", MemoryKind::Data, 8, &bytes);
        module.distance(table, 0, text, 4);
        module.distance(table, entry as u64, text, 8);
        let mut guest = Guest::new();
        let loaded = guest.load(&module);
        assert_clean(&guest.verify(&loaded));
        let flags = loaded.at(table, entry as u64 - 2);
        guest.write(flags, &[ONCE | DONE]);
        let report = guest.verify(&loaded);
        assert_clean(&report);
        assert_eq!(report.total().explained_by(Rule::BugFlag), 1);
        // Nothing else changes, not even there.
        for (address, byte) in [(flags, ONCE | DONE | 8), (flags + 1, 8), (flags + entry as u64, DONE)] {
            let mut guest = guest.clone();
            guest.write(address, &[byte]);
            assert_eq!(the_unexplained(&guest.verify(&loaded)).address.0, address);
        }
    }
}

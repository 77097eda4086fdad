//! Whole modules: every byte of what nobody may write is compared, and every byte is counted once.

use modmem::MemoryKind;
use modmem::verify::{NotCompared, Rule, Why};

use crate::verifying::guest::{
    Guest, assert_clean, assert_out_of_step, assert_wrong_target, the_unexplained,
};
use crate::verifying::loader::Loaded;
use crate::verifying::module::branch;
use crate::verifying::small_module::{
    ALTERNATIVE, CALL, ENTRY, EX_TABLE, FUNCTION, INIT_RODATA, INIT_TEXT, LABEL, LOCK, STATIC_CALL,
    TABLE_OF_FUNCTIONS, TEXT, pristine,
};

const VERSIONS: [&str; 3] = ["6.1", "6.12", "7.2"];

#[test]
fn a_module_as_the_kernel_makes_it_is_clean() {
    for version in VERSIONS {
        for live in [true, false] {
            let (guest, loaded) = pristine(version, live);
            let report = guest.verify(&loaded);
            assert_clean(&report);
            assert_eq!(report.total().unproven_bytes(), 0);
        }
    }
}

/// Changes each byte of a memory to each of these values, one at a time, and asserts that it is found.
fn change_all(guest: &mut Guest, loaded: &Loaded, start: u64, length: u64, values: &[u8]) {
    for address in start..start + length {
        let right = guest.byte(address);
        for value in values.iter().chain([&(right ^ 1), &(right ^ 0x80)]).filter(|&&value| value != right) {
            guest.write(address, &[*value]);
            let report = guest.verify(loaded);
            assert_eq!(report.total().unexplained, 1, "{address:#x} from {right:#x} to {value:#x}");
        }
        guest.write(address, &[right]);
    }
}

#[test]
fn every_changed_byte_of_code_and_read_only_data_is_found() {
    // Breakpoint, NOP, return, call, jumps, lock, segment prefix, ENDBR's first.
    const VALUES: &[u8] = &[0xcc, 0x90, 0xc3, 0xe8, 0xe9, 0xeb, 0xf0, 0x3e, 0xf3, 0x66, 0x0f];
    for version in VERSIONS {
        let (mut guest, loaded) = pristine(version, true);
        let report = guest.verify(&loaded);
        for kind in [MemoryKind::Text, MemoryKind::RoData, MemoryKind::RoAfterInit] {
            let memory = report.memories[kind].clone().unwrap();
            let (start, total) = (memory.address.0, memory.tally.total);
            assert_eq!(total, 4096);
            change_all(&mut guest, &loaded, start, 0x140, VALUES);
            change_all(&mut guest, &loaded, start + 0x140, total - 0x140, &[]);
        }
    }
}

#[test]
fn init_memory_is_compared_while_a_module_is_coming_and_gone_when_it_is_live() {
    for version in VERSIONS {
        let (mut guest, loaded) = pristine(version, false);
        let report = guest.verify(&loaded);
        assert_eq!(report.total().not_compared_for(NotCompared::FreedInit), 0);
        for kind in [MemoryKind::InitText, MemoryKind::InitRoData] {
            let memory = report.memories[kind].clone().unwrap();
            change_all(&mut guest, &loaded, memory.address.0, 0x40, &[0xcc]);
        }
        // The symbol table too, but not what init may write.
        let (_, symtab) = *loaded.sections.iter().find(|(name, _)| *name == ".symtab").unwrap();
        change_all(&mut guest, &loaded, symtab, 24 * 4, &[]);

        let (guest, loaded) = pristine(version, true);
        let report = guest.verify(&loaded);
        for kind in [MemoryKind::InitText, MemoryKind::InitData, MemoryKind::InitRoData] {
            let tally = &report.memories[kind].as_ref().unwrap().tally;
            assert_eq!(tally.not_compared_for(NotCompared::FreedInit), tally.total);
        }
    }
}

#[test]
fn memory_of_freed_init_code_that_another_has_now_is_not_looked_at() {
    let (mut guest, loaded) = pristine("6.12", true);
    for section in [INIT_TEXT, INIT_RODATA] {
        guest.map(loaded.at(section, 0), &[0xcc; 4096]);
    }
    assert_clean(&guest.verify(&loaded));
}

#[test]
fn what_the_module_may_write_is_counted_and_not_compared() {
    let (mut guest, loaded) = pristine("6.12", true);
    let (_, this_module) =
        loaded.sections.iter().find(|(name, _)| *name == ".gnu.linkonce.this_module").unwrap();
    guest.write(*this_module, &[0xff; 0x500]);
    let report = guest.verify(&loaded);
    assert_clean(&report);
    assert_eq!(report.total().not_compared_for(NotCompared::Writable), 0x500);
    // The symbols that stay lie behind it.
    guest.write(this_module + 0x500 + 24, &[9]);
    assert_eq!(the_unexplained(&guest.verify(&loaded)).kind, MemoryKind::Data);
}

#[test]
fn memory_that_cannot_be_read_is_counted() {
    for version in VERSIONS {
        let (mut guest, loaded) = pristine(version, true);
        let text = loaded.at(TEXT, 0);
        guest.unmap(text);
        let report = guest.verify(&loaded);
        let tally = &report.memories[MemoryKind::Text].as_ref().unwrap().tally;
        assert_eq!((tally.not_compared_for(NotCompared::Unreadable), tally.total), (4096, 4096));
        assert_eq!((report.total().unexplained, report.unexplained.len()), (0, 0));
        // A part of it is nothing: it would look whole.
        guest.map(text, &[0xcc; 4095]);
        assert_eq!(guest.verify(&loaded).total().not_compared_for(NotCompared::Unreadable), 4096);
    }
}

/// Applies a change to a pristine machine and returns what is unexplained then.
fn after(change: impl Fn(&mut Guest, &Loaded)) -> modmem::verify::ModuleReport {
    let (mut guest, loaded) = pristine("6.12", true);
    change(&mut guest, &loaded);
    guest.verify(&loaded)
}

#[test]
fn the_usual_hooks_are_found_and_told_apart() {
    const FOREIGN: u64 = 0xffff_ffff_a000_0000;
    let at = |loaded: &Loaded, place| loaded.at(TEXT, place);
    let branched = |opcode, place, target| {
        after(|guest, loaded| guest.write(at(loaded, place), &branch(opcode, at(loaded, place), target)))
    };
    // A jump at a function's entry, and a call there.
    assert_wrong_target(&branched(0xe9, ENTRY, FOREIGN), Rule::Ftrace, FOREIGN);
    assert_wrong_target(&branched(0xe8, ENTRY, FOREIGN), Rule::Ftrace, FOREIGN);
    // A redirected call, and a redirected static call.
    assert_eq!(the_unexplained(&branched(0xe8, CALL, FOREIGN)).why, Why::NoRule);
    assert_wrong_target(&branched(0xe8, STATIC_CALL, FOREIGN), Rule::StaticCall, FOREIGN);
    let other = branched(0xe8, STATIC_CALL, FUNCTION);
    assert_out_of_step(&other, Rule::StaticCall, "the static call key at 0xffffffff82700000");
    // A flipped branch.
    let flipped = branched(0xe9, LABEL, 0xffff_ffff_c000_1025);
    assert_out_of_step(&flipped, Rule::JumpLabel, "the static key at 0xffffffff82600000 is off");
    // One alternative and one lock prefix out of step.
    let alternative = after(|guest, loaded| guest.code(at(loaded, ALTERNATIVE), "0f 1f 00"));
    assert_out_of_step(&alternative, Rule::Alternative, "CPU feature 9*32+20 is on");
    let unlocked = after(|guest, loaded| guest.write(at(loaded, LOCK), &[0x3e]));
    assert_out_of_step(&unlocked, Rule::LockPrefix, "running on one CPU is off, as 2 sites show");
    // A changed pointer in a table of functions, and two entries of a sorted table swapped.
    let pointer = after(|guest, loaded| {
        guest.write(loaded.at(TABLE_OF_FUNCTIONS, 16), &FOREIGN.to_le_bytes());
    });
    assert_eq!(the_unexplained(&pointer).why, Why::NoRule);
    let swapped = after(|guest, loaded| {
        for (place, insn) in [(0, 12), (12, 8)] {
            guest.distance(loaded.at(EX_TABLE, place), loaded.at(TEXT, insn));
            guest.distance(loaded.at(EX_TABLE, place + 4), loaded.at(TEXT, 0x25));
        }
    });
    assert!(!swapped.is_clean());
    let rule = |span: &modmem::verify::Unexplained| span.why == Why::NotAsRule(Rule::SortedTable);
    assert!(swapped.unexplained.iter().all(rule), "{:?}", swapped.unexplained);
}

#[test]
fn the_first_spans_are_kept_and_all_are_counted() {
    let (mut guest, loaded) = pristine("6.12", true);
    // Padding behind read-only data: 300 bytes far from each other, then 100 that are one span.
    let start = loaded.at(TABLE_OF_FUNCTIONS, 0) + 0x140;
    (0..300).for_each(|index| guest.write(start + index * 10, &[1]));
    guest.write(start + 3100, &[1; 100]);
    let report = guest.verify(&loaded);
    assert_eq!((report.unexplained.len(), report.more_unexplained), (256, 45));
    assert_eq!(report.total().unexplained, 400);
    let report = after(|guest, _| guest.write(start + 3100, &[1; 100]));
    let span = the_unexplained(&report);
    assert_eq!(
        (span.address.0, &span.expected[..], &span.found[..]),
        (start + 3100, &[0; 64][..], &[1; 64][..])
    );
}

//! Changed code of machines other than x86-64, as a disassembly of both sides.

use std::ops::Range;

use modmem::RunAddr;
use modmem::arch::Machine;

use super::atlas::Atlas;
use super::disassembler::{Decoded, Disassembler};
use super::file_map::{FileMap, MARK};
use super::finding::{Line, Mark, Shown};
use super::window::Window;
use crate::output::json::Address;

/// Instructions shown before and behind those that differ.
const BEFORE: usize = 3;
const BEHIND: usize = 2;
/// Most lines of one comparison.
const MOST_LINES: usize = 64;

/// One side's instruction.
#[derive(Debug)]
struct Insn {
    range: Range<u64>,
    bytes: Vec<u8>,
    text: String,
    /// What kind of branch it is, if it is one.
    branch: Option<&'static str>,
    /// Where it leads, if it says so itself.
    target: Option<u64>,
}

/// The instructions that differ, side by side; bytes alone where nothing can read them.
pub(super) fn compare(machine: Machine, atlas: &Atlas<'_>, map: &FileMap, window: &Window) -> Shown {
    let disassembler = Disassembler::of(machine);
    let mark = |address: u64| atlas.mark(address, map).is_some_and(|mark| mark == address);
    let decode = |bytes: &[u8]| insns(&disassembler, machine, bytes, window.start, mark);
    let (expected, found) = (decode(&window.expected), decode(&window.found));
    let first = expected.partition_point(|insn| insn.range.end <= window.span.start);
    let mut shown = Shown::default();
    let push = |shown: &mut Shown, mark, insn: &Insn| {
        let target = insn.target.map(|target| atlas.look(target, map));
        // What the kernel allocated has no name.
        let target = target.filter(|target| insn.branch.is_some() || !target.is_foreign());
        let target = target.map(|target| target.name());
        let bytes = insn.bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        let address = Address(RunAddr(insn.range.start));
        shown.lines.push(Line { mark, address, bytes, text: insn.text.clone(), target });
    };
    for insn in &expected[first.saturating_sub(BEFORE).min(expected.len())..first] {
        push(&mut shown, Mark::Same, insn);
    }
    let mut at = first;
    while let Some(ours) = expected.get(at).filter(|insn| insn.range.start < window.span.end) {
        at += 1;
        let theirs: Vec<&Insn> = found.iter().filter(|insn| overlap(&insn.range, &ours.range)).collect();
        if let [same] = theirs[..]
            && same.bytes == ours.bytes
        {
            push(&mut shown, Mark::Same, ours);
            continue;
        }
        push(&mut shown, Mark::Expected, ours);
        for theirs in theirs.iter().filter(|insn| insn.range.start >= ours.range.start) {
            push(&mut shown, Mark::Found, theirs);
            if let (Some(kind), Some(target)) = (theirs.branch, theirs.target) {
                let entry = window.at_symbol && ours.range.start == window.start;
                let entry = if entry { " at the function's entry" } else { "" };
                shown.looks_like.push(format!("{kind}{entry} {}", atlas.look(target, map)));
            }
        }
    }
    for insn in expected.iter().skip(at).take(if window.cut { 0 } else { BEHIND }) {
        push(&mut shown, Mark::Same, insn);
    }
    shown.looks_like.dedup();
    shown.lines.truncate(MOST_LINES);
    shown
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Bytes of the instruction that `bytes` begin with.
fn length(machine: Machine, bytes: &[u8]) -> usize {
    let length = match (machine, bytes.first()) {
        // The first two bits of an instruction tell (z/Architecture Principles of Operation, chapter 5).
        (Machine::S390, Some(first)) => [2, 4, 4, 6][usize::from(first >> 6)],
        _ => 4,
    };
    length.min(bytes.len())
}

/// The instructions in some bytes. `is_mark` says where words lie between functions that are none.
fn insns(
    disassembler: &Disassembler,
    machine: Machine,
    bytes: &[u8],
    start: u64,
    is_mark: impl Fn(u64) -> bool,
) -> Vec<Insn> {
    let (mut rest, mut address) = (bytes, start);
    let mut insns = Vec::new();
    while !rest.is_empty() {
        if let Some((word, behind)) = rest.split_first_chunk::<8>()
            && is_mark(address)
        {
            let (range, value) = (address..address + MARK, u64::from_le_bytes(*word));
            let text = format!("{:<7} {value:#x}", ".quad");
            insns.push(Insn { range, bytes: word.to_vec(), text, branch: None, target: Some(value) });
            (rest, address) = (behind, address + MARK);
            continue;
        }
        let (bytes, behind) = rest.split_at(length(machine, rest));
        let end = address.saturating_add(bytes.len() as u64);
        insns.push(insn(disassembler, bytes, address..end));
        (rest, address) = (behind, end);
    }
    insns
}

fn insn(disassembler: &Disassembler, bytes: &[u8], range: Range<u64>) -> Insn {
    let decoded = disassembler.decode(bytes, range.start);
    let (text, branch, target) = match decoded {
        Some(Decoded { text, branch, target }) => (text, branch, target),
        None => (String::new(), None, None),
    };
    Insn { bytes: bytes.to_vec(), text, branch, target, range }
}

#[cfg(all(test, feature = "disassembly"))]
mod tests {
    use super::*;

    fn texts(machine: Machine, bytes: &[u8]) -> Vec<(String, Option<u64>)> {
        let insns = insns(&Disassembler::of(machine), machine, bytes, 0x1000, |_| false);
        insns.into_iter().map(|insn| (insn.text, insn.target)).collect()
    }

    #[test]
    fn branches_of_each_machine_say_where_they_lead() {
        let shown = texts(Machine::Arm64, &[0x1f, 0x20, 0x03, 0xd5, 0x10, 0x00, 0x00, 0x94]);
        assert_eq!(shown, [("nop".to_owned(), None), ("bl      #0x1044".to_owned(), Some(0x1044))]);
        let shown = texts(Machine::S390, &[0x07, 0xfe, 0xc0, 0xe5, 0x00, 0x00, 0x00, 0x08]);
        assert_eq!(shown[0].1, None);
        assert_eq!(shown[1].1, Some(0x1012), "{shown:?}");
        let shown = texts(Machine::PowerPc, &[0x60, 0x00, 0x00, 0x00, 0x48, 0x00, 0x00, 0x11]);
        assert_eq!(shown, [("nop".to_owned(), None), ("bl      0x1014".to_owned(), Some(0x1014))]);
    }

    #[test]
    fn words_that_mark_functions_are_shown_as_the_addresses_that_they_are() {
        let bytes = [&0xffff_0000_082b_8c00_u64.to_le_bytes()[..], &[0xe9, 0x03, 0x1e, 0xaa]].concat();
        let cs = Disassembler::of(Machine::Arm64);
        let insns = insns(&cs, Machine::Arm64, &bytes, 0x1000, |address| address == 0x1000);
        let texts: Vec<&str> = insns.iter().map(|insn| &*insn.text).collect();
        assert_eq!(texts, [".quad   0xffff0000082b8c00", "mov     x9, x30"]);
        assert_eq!(insns[0].target, Some(0xffff_0000_082b_8c00));
    }

    #[test]
    fn bytes_that_are_no_instruction_are_shown_all_the_same() {
        let shown = texts(Machine::Arm64, &[0xff, 0xff, 0xff, 0xff, 0x1f]);
        assert_eq!(shown.len(), 2);
        assert!(
            shown.iter().all(|(text, target)| text.contains("no valid") && target.is_none()),
            "{shown:?}"
        );
    }
}

#[cfg(all(test, not(feature = "disassembly")))]
mod tests {
    use super::*;

    #[test]
    fn without_a_disassembler_that_is_said_in_its_place() {
        let insns =
            insns(&Disassembler::of(Machine::Arm64), Machine::Arm64, &[0x1f, 0x20, 3, 0xd5], 0x1000, |_| {
                false
            });
        assert_eq!((insns.len(), &*insns[0].text), (1, "(built without a disassembler)"));
    }
}

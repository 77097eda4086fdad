//! Changed code as a disassembly of both sides.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Formatter as _, GasFormatter, Instruction, OpKind};
use modmem::RunAddr;

use super::atlas::Atlas;
use super::file_map::FileMap;
use super::finding::{Line, Mark, Shown};
use super::looks;
use super::window::Window;
use crate::output::json::Address;

/// Instructions shown before and behind those that differ.
const BEFORE: usize = 3;
const BEHIND: usize = 2;
/// Most lines of one comparison.
const MOST_LINES: usize = 64;

/// One side's instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Insn<'w> {
    pub(super) insn: Instruction,
    pub(super) bytes: &'w [u8],
}

impl Insn<'_> {
    fn start(&self) -> u64 {
        self.insn.ip()
    }

    fn end(&self) -> u64 {
        self.insn.ip() + self.bytes.len() as u64
    }
}

/// The instructions that differ, side by side.
pub(super) fn compare(atlas: &Atlas<'_>, map: &FileMap, window: &Window) -> Shown {
    let expected = decode(&window.expected, window.start);
    // Up to the span both sides are the same: there they have the same boundaries.
    let first = expected.partition_point(|insn| insn.start() <= window.span.start).saturating_sub(1);
    let Some(start) = expected.get(first).map(Insn::start) else { return Shown::default() };
    let found = decode(window.both(start, u64::MAX).1, start);
    let mut listing = Listing { atlas, map, formatter: formatter(), lines: Vec::new() };
    for insn in &expected[first.saturating_sub(BEFORE)..first] {
        listing.push(Mark::Same, insn);
    }
    let mut looks_like = Vec::new();
    let (mut e, mut f) = (first, 0);
    while let (Some(ours), Some(theirs)) = (expected.get(e), found.get(f)) {
        if ours.start() >= window.span.end {
            break;
        }
        if ours.bytes == theirs.bytes {
            listing.push(Mark::Same, ours);
            (e, f) = (e + 1, f + 1);
            continue;
        }
        // Up to the next instruction that both sides have.
        let (from_e, from_f) = (e, f);
        let mut over = None;
        let differ = |e: usize, f: usize| match (expected.get(e), found.get(f)) {
            (Some(ours), Some(theirs)) => ours.start() < window.span.end && ours.bytes != theirs.bytes,
            _ => false,
        };
        while over.is_none() && differ(e, f) {
            (e, f, over) = until_together(&expected, e, &found, f, window.span.end);
        }
        let (ours, theirs) = (&expected[from_e..e], &found[from_f..f]);
        ours.iter().for_each(|insn| listing.push(Mark::Expected, insn));
        theirs.iter().for_each(|insn| listing.push(Mark::Found, insn));
        if let Some(rest) = over {
            listing.rest(rest.start, window.both(rest.start, rest.end).1);
            f = found.len();
        }
        let before = &expected[..from_e];
        let change = looks::Change { atlas, map, before, at_symbol: window.at_symbol, ours, theirs };
        looks_like.extend(change.looks_like());
    }
    looks_like.dedup();
    for insn in expected.iter().skip(e).take(if window.cut { 0 } else { BEHIND }) {
        listing.push(Mark::Same, insn);
    }
    listing.lines.truncate(MOST_LINES);
    Shown { lines: listing.lines, looks_like }
}

/// Goes on from where both sides differ to where both begin an instruction: the indices behind the last ones, and what
/// is left of old instructions if what is found there leads away before.
fn until_together(
    expected: &[Insn<'_>],
    mut e: usize,
    found: &[Insn<'_>],
    mut f: usize,
    changed: u64,
) -> (usize, usize, Option<Range<u64>>) {
    (e, f) = (e + 1, f + 1);
    loop {
        let (end_e, end_f) = (expected[e - 1].end(), found[f - 1].end());
        if end_e == end_f {
            return (e, f, None);
        }
        if end_e < end_f {
            if e == expected.len() {
                return (e, f, None);
            }
            e += 1;
        } else if end_f >= changed && leads_away(&found[f - 1].insn) {
            return (e, f, Some(end_f..end_e));
        } else {
            if f == found.len() {
                return (e, f, None);
            }
            f += 1;
        }
    }
}

/// Whether what follows an instruction is not what runs next.
fn leads_away(insn: &Instruction) -> bool {
    use FlowControl::{Exception, IndirectBranch, Interrupt, Return, UnconditionalBranch};
    matches!(insn.flow_control(), Exception | IndirectBranch | Interrupt | Return | UnconditionalBranch)
}

fn decode(bytes: &[u8], address: u64) -> Vec<Insn<'_>> {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let mut insns = Vec::new();
    while decoder.can_decode() {
        let at = decoder.position();
        let mut insn = decoder.decode();
        // What is no instruction may be any number of bytes long: one at a time.
        if insn.is_invalid() {
            let next = address + at as u64 + 1;
            insn.set_len(1);
            insn.set_next_ip(next);
            let _ = decoder.set_position(at + 1);
            decoder.set_ip(next);
        }
        let end = decoder.position();
        insns.push(Insn { insn, bytes: &bytes[at..end] });
    }
    insns
}

fn formatter() -> GasFormatter {
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_uppercase_hex(false);
    options.set_branch_leading_zeros(false);
    options.set_space_after_operand_separator(false);
    options.set_small_hex_numbers_in_decimal(false);
    options.set_first_operand_char_index(8);
    formatter
}

struct Listing<'l, 's> {
    atlas: &'l Atlas<'s>,
    map: &'l FileMap,
    formatter: GasFormatter,
    lines: Vec<Line>,
}

impl Listing<'_, '_> {
    fn push(&mut self, mark: Mark, insn: &Insn<'_>) {
        let mut text = String::new();
        self.formatter.format(&insn.insn, &mut text);
        let target = target_of(self.atlas, &insn.insn).map(|address| self.atlas.look(address, self.map));
        // A small number is no address, whatever operand it is.
        let target = target.filter(|target| is_branch(&insn.insn) || !target.is_foreign());
        self.lines.push(Line {
            mark,
            address: Address(RunAddr(insn.insn.ip())),
            bytes: hex(insn.bytes),
            text,
            target: target.map(|target| target.name()),
        });
    }

    /// Bytes of an old instruction that nothing runs any more.
    fn rest(&mut self, address: u64, bytes: &[u8]) {
        self.lines.push(Line {
            mark: Mark::Found,
            address: Address(RunAddr(address)),
            bytes: hex(bytes),
            text: "(rest of what was there)".to_owned(),
            target: None,
        });
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Whether an instruction names the place where the code goes on.
pub(super) fn is_branch(insn: &Instruction) -> bool {
    (0..insn.op_count()).any(|at| insn.op_kind(at) == OpKind::NearBranch64)
}

/// The address that an instruction names: of a branch, of memory relative to it, or as a number.
pub(super) fn target_of(atlas: &Atlas<'_>, insn: &Instruction) -> Option<u64> {
    if is_branch(insn) {
        return Some(insn.near_branch64());
    }
    if insn.is_ip_rel_memory_operand() {
        return Some(insn.ip_rel_memory_address());
    }
    let number = (0..insn.op_count()).find_map(|at| match insn.op_kind(at) {
        OpKind::Immediate64 | OpKind::Immediate32to64 => Some(insn.immediate(at)),
        OpKind::Memory if insn.memory_displ_size() >= 4 => Some(insn.memory_displacement64()),
        _ => None,
    })?;
    atlas.is_kernel_address(number).then_some(number)
}

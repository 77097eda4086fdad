//! Thunks for indirect branches that Indirect Target Selection makes unsafe: pages of their own beside a module
//! (arch/x86/kernel/alternative.c:its_allocate_thunk).
//!
//! A module's thunks lie in pages that only its code points to. Their addresses are taken from the first branch into
//! each; where in the page a thunk must be follows from those before it, and the page's contents from all of them.

use super::Subject;
use super::insn::{CALL, INT3, JMP32, branch_target};
use crate::address::RunAddr;
use crate::finalize::{Rule, Standing};

const PAGE: u64 = 4096;
/// Where the first thunk of a page is looked for.
const FIRST: u64 = 32;

#[derive(Debug)]
pub(super) struct Thunks {
    page: Option<Page>,
    /// How many pages there were.
    pages: usize,
    /// Whether it is no longer known where the next thunk is: init code had some.
    lost: bool,
}

#[derive(Debug)]
struct Page {
    address: u64,
    /// Where the next thunk may begin.
    next: u64,
    expected: [u8; PAGE as usize],
    /// How much of `expected`, from its start, is all that is in it.
    known: usize,
}

/// The thunk of a register and its breakpoint; only as many bytes as the second says.
fn thunk(register: u8) -> ([u8; 4], usize) {
    match register {
        0..=7 => ([0xff, 0xe0 + register, INT3, 0], 3),
        _ => ([0x41, 0xff, 0xe0 + (register & 7), INT3], 4),
    }
}

impl Thunks {
    pub(super) fn new() -> Thunks {
        Thunks { page: None, pages: 0, lost: false }
    }

    pub(super) fn lose_track(&mut self) {
        self.lost = true;
        if let Some(page) = &mut self.page {
            page.known = page.known.min(page.next as usize);
        }
    }

    /// Where the thunk for the branch at `site` must be, if it has one; 0 where nothing tells.
    pub(super) fn offer(&self, subject: &Subject<'_, '_>, site: RunAddr, length: usize, register: u8) -> u64 {
        let size = thunk(register).1 as u64;
        if let Some(page) = self.page.as_ref().filter(|page| !self.lost && page.next + size - 1 < PAGE) {
            return page.address + place(page.next, size);
        }
        if !subject.module.is_compared() {
            let page = subject.state.made_code(self.pages);
            return page.map_or(0, |page| page.0 + place(FIRST, size));
        }
        let found = subject.module.found(site, length).unwrap_or_default();
        // Behind a prefix, if there is one, or the first byte of a conditional branch.
        let skip = length.saturating_sub(5);
        let bytes = found.get(skip..).unwrap_or_default();
        let Some(&opcode @ (CALL | JMP32 | 0x80..=0x8f)) = bytes.first() else { return 0 };
        match branch_target(bytes, opcode, site.0 + skip as u64) {
            // The first thunk of a new page.
            Some(target) if self.lost || target % PAGE == place(FIRST, size) => {
                seen(subject, target, register)
            }
            _ => 0,
        }
    }

    /// Takes the thunk that was offered.
    pub(super) fn take(&mut self, subject: &mut Subject<'_, '_>, target: u64, register: u8) {
        let (address, offset) = (target & !(PAGE - 1), (target % PAGE) as usize);
        if self.page.as_ref().is_none_or(|page| page.address != address) {
            self.check(subject);
            self.pages += 1;
            let known = if self.lost { FIRST } else { PAGE } as usize;
            self.page = Some(Page { address, next: FIRST, expected: [INT3; PAGE as usize], known });
        }
        let Some(page) = &mut self.page else { return };
        let (thunk, length) = thunk(register);
        if let Some(place) = page.expected.get_mut(offset..offset + length) {
            place.copy_from_slice(&thunk[..length]);
        }
        page.next = (offset + length) as u64;
    }

    /// Compares the page that thunks are taken from with the guest's.
    pub(super) fn check(&mut self, subject: &mut Subject<'_, '_>) {
        let Some(page) = self.page.take() else { return };
        let address = RunAddr(page.address);
        subject.made(address);
        let Some(found) = subject.guest.bytes(address, PAGE as usize) else { return };
        let expected = &page.expected[..page.known];
        if let Some(at) = found.iter().zip(expected).position(|(a, b)| a != b) {
            let part = at..expected.len().min(at + 16);
            let (expected, found) = (&expected[part.clone()], &found[part]);
            subject.outside(address + at as u64, expected, found, Rule::Retpoline, Standing::Certain);
        }
    }
}

/// The thunk at `target`, which only the branch to it tells of: 0 if it is none.
fn seen(subject: &Subject<'_, '_>, target: u64, register: u8) -> u64 {
    let (thunk, length) = thunk(register);
    let (offset, size) = (target % PAGE, length as u64);
    let may_be = offset >= FIRST && offset + size <= PAGE && offset == place(offset, size);
    let is_own = subject.module.kind_at(RunAddr(target)).is_some();
    let is_one = match subject.guest.bytes(RunAddr(target), length) {
        Some(bytes) => *bytes == thunk[..length],
        // What cannot be read cannot be denied, except that the kernel has no thunks of modules among its own code.
        None => subject.guest.symbol_at(RunAddr(target)).is_none_or(|symbol| symbol.module.is_some()),
    };
    if may_be && !is_own && is_one { target } else { 0 }
}

/// A thunk's last byte must lie in the upper half of a cache line.
fn place(next: u64, size: u64) -> u64 {
    if (next + size - 1) % 64 < 32 { ((next - 1) | 0x3f) + 33 } else { next }
}

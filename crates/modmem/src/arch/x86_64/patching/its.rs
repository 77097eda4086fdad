//! Thunks for indirect branches that Indirect Target Selection makes unsafe: pages of their own beside a module
//! (arch/x86/kernel/alternative.c:its_allocate_thunk).
//!
//! A module's thunks lie in pages that only its code points to. Their addresses are taken from the first branch into
//! each; where in the page a thunk must be follows from those before it, and the page's contents from all of them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::insn::{CALL, INT3, JMP32, branch_target};
use crate::address::RunAddr;
use crate::verify::subject::Subject;
use crate::verify::{Rule, Why};

const PAGE: u64 = 4096;
/// Where the first thunk of a page is looked for.
const FIRST: u64 = 32;

#[derive(Debug)]
pub(super) struct Thunks {
    /// In the order in which they were filled; the last one may have room.
    pages: Vec<Page>,
    /// Whether it is no longer known where the next thunk is: init code had some.
    lost: bool,
}

#[derive(Debug)]
struct Page {
    address: u64,
    /// Where the next thunk may begin.
    next: u64,
    expected: Box<[u8; PAGE as usize]>,
    /// Whether `expected` is all that is in it.
    whole: bool,
}

impl Thunks {
    pub(super) fn new() -> Thunks {
        Thunks { pages: Vec::new(), lost: false }
    }

    pub(super) fn lose_track(&mut self) {
        self.lost = true;
        if let Some(page) = self.pages.last_mut() {
            page.whole = false;
        }
    }

    /// Where the thunk for the branch at `site` must be, if it has one.
    pub(super) fn offer(&self, subject: &Subject<'_, '_>, site: RunAddr, length: usize, register: u8) -> u64 {
        let found = subject.twin.found(site, length).unwrap_or_default();
        // Behind a prefix, if there is one.
        let skip = length.saturating_sub(5);
        let bytes = found.get(skip..).unwrap_or_default();
        let opcode = if bytes.first() == Some(&CALL) { CALL } else { JMP32 };
        let from = site.0 + skip as u64;
        let target = match bytes.first() {
            // A conditional branch.
            Some(0x80..=0x8f) => bytes.first().and_then(|&first| branch_target(bytes, first, from)),
            _ => branch_target(bytes, opcode, from),
        };
        let size = 3 + u64::from(register / 8);
        let Some(target) = target else { return 0 };
        // Neither code of the module itself nor a thunk of the kernel's.
        let kernels =
            |array: u64| (array..array.wrapping_add(16 * super::retpolines::THUNK)).contains(&target);
        let own = subject.twin.kind_at(RunAddr(target)).is_none()
            && !subject.kernel.retpolines.is_some_and(kernels);
        match self.pages.last() {
            Some(page) if page.next + size - 1 < PAGE && target & !(PAGE - 1) == page.address => {
                let exact = page.address + place(page.next, size);
                if self.lost && target >= exact { target } else { exact }
            }
            // The first thunk of a new page.
            _ if own && (self.lost || target % PAGE == place(FIRST, size)) => target,
            _ => 0,
        }
    }

    /// Takes the thunk that was offered.
    pub(super) fn take(&mut self, target: u64, register: u8) {
        let (address, offset) = (target & !(PAGE - 1), (target % PAGE) as usize);
        let lost = self.lost;
        if self.pages.last().is_none_or(|page| page.address != address) {
            if self.pages.try_reserve(1).is_err() {
                return;
            }
            let expected = Box::new([INT3; PAGE as usize]);
            self.pages.push(Page { address, next: FIRST, expected, whole: !lost });
        }
        let Some(page) = self.pages.last_mut() else { return };
        let (thunk, length) = match register {
            0..=7 => ([0xff, 0xe0 + register, INT3, 0], 3),
            _ => ([0x41, 0xff, 0xe0 + (register & 7), INT3], 4),
        };
        if let Some(place) = page.expected.get_mut(offset..offset + length) {
            place.copy_from_slice(&thunk[..length]);
        }
        page.next = (offset + length) as u64;
    }

    /// Whether the page of a thunk can be looked at.
    pub(super) fn is_readable(&self, subject: &Subject<'_, '_>, thunk: u64) -> bool {
        let page = RunAddr(thunk & !(PAGE - 1));
        self.pages.last().is_some_and(|last| last.address == page.0) || subject.guest.word(page).is_some()
    }

    /// Compares the pages with the guest's.
    pub(super) fn check(self, subject: &mut Subject<'_, '_>) {
        for page in self.pages.iter().filter(|page| page.whole) {
            let address = RunAddr(page.address);
            let Some(found) = subject.guest.bytes(address, PAGE as usize) else { continue };
            let differs =
                found.iter().zip(page.expected.iter()).position(|(found, expected)| found != expected);
            if let Some(at) = differs {
                let why = Why::NotAsRule(Rule::Retpoline);
                let end = found.len().min(at + 16);
                subject.outside(address + at as u64, &page.expected[at..end], &found[at..end], why);
            }
        }
    }
}

/// A thunk's last byte must lie in the upper half of a cache line.
fn place(next: u64, size: u64) -> u64 {
    if (next + size - 1) % 64 < 32 { ((next - 1) | 0x3f) + 33 } else { next }
}

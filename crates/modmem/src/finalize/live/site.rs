//! Places in text that the kernel changes while it runs.

use super::{Branch, Leads};
use crate::address::RunAddr;
use crate::finalize::{Rule, Variable};

/// Bytes of the longest instruction at a site, or word before a function.
pub(super) const LONGEST: usize = 8;
/// The most texts that a site has beside a branch whose target varies.
const TEXTS: usize = 5;

/// How the kernel goes from one text to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steps {
    /// A breakpoint on the first byte, then all others, then the first (arch/x86/kernel/alternative.c:smp_text_poke_batch).
    Breakpoint(u8),
    /// At once, or only the bytes that differ.
    Whole,
}

/// One text of a site, and what the machine is like then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    pub(super) code: [u8; LONGEST],
    pub(super) towards: Option<(Variable, u64)>,
}

/// A place in text that the kernel changes while it runs, and all that it makes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(super) address: RunAddr,
    pub(super) length: u8,
    pub(super) rule: Rule,
    pub(super) steps: Steps,
    texts: [Option<Text>; TEXTS],
    pub(super) branches: [Option<(Branch, Leads)>; 2],
}

impl Site {
    pub(crate) fn new(address: RunAddr, length: usize, rule: Rule, steps: Steps) -> Site {
        debug_assert!((1..=LONGEST).contains(&length), "no instruction that is patched is longer");
        Site { address, length: length as u8, rule, steps, texts: [None; TEXTS], branches: [None; 2] }
    }

    /// A branch on a static key.
    pub(crate) fn switch(address: RunAddr, steps: Steps, key: RunAddr, off: &[u8], on: &[u8]) -> Site {
        let site = Site::new(address, off.len(), Rule::JumpLabel, steps);
        site.text(off, Some((Variable::Key(key), 0))).text(on, Some((Variable::Key(key), 1)))
    }

    /// With one more text.
    #[must_use]
    pub(crate) fn text(mut self, code: &[u8], towards: Option<(Variable, u64)>) -> Site {
        // One of another length cannot stand there.
        if code.len() != self.len() {
            return self;
        }
        let free = self.texts.iter_mut().find(|text| text.is_none());
        debug_assert!(free.is_some(), "a site has room for all of its texts");
        if let Some(free) = free {
            let mut text = Text { code: [0; LONGEST], towards };
            text.code[..code.len()].copy_from_slice(code);
            *free = Some(text);
        }
        self
    }

    /// With a branch that may lead to several.
    #[must_use]
    pub(crate) fn branch(mut self, branch: Branch, leads: Leads) -> Site {
        debug_assert_eq!(branch.length(), self.len(), "a branch is as long as what it takes the place of");
        if let Some(free) = self.branches.iter_mut().find(|known| known.is_none()) {
            *free = Some((branch, leads));
        }
        self
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.length)
    }

    pub(super) fn end(&self) -> u64 {
        self.address.0.saturating_add(u64::from(self.length))
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &Text> {
        self.texts.iter().flatten()
    }
}

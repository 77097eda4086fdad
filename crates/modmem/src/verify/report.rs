//! What a verification found.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::{Hook, Rule};
use crate::address::RunAddr;
use crate::layout::{MemoryKind, PerKind};

/// Why bytes were not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum NotCompared {
    /// The module and the kernel write there.
    Writable,
    /// The memory was given back after init.
    FreedInit,
    /// The guest's memory could not be read.
    Unreadable,
}

impl NotCompared {
    /// All reasons.
    pub const ALL: [NotCompared; 3] =
        [NotCompared::Writable, NotCompared::FreedInit, NotCompared::Unreadable];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            NotCompared::Writable => "writable data",
            NotCompared::FreedInit => "freed after init",
            NotCompared::Unreadable => "not in the snapshot",
        }
    }
}

impl fmt::Display for NotCompared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Bytes of one memory, each counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes of the memory.
    pub total: u64,
    /// Equal to the relocated file.
    pub identical: u64,
    /// Different from it, and as a rule makes them; by rule.
    pub explained: [u64; Rule::ALL.len()],
    /// One of two states that a rule allows, where nothing says which one it should be: what decides lies in the
    /// kernel, and its memory was not at hand. Among them are bytes as the file has them. By rule.
    pub unproven: [u64; Rule::ALL.len()],
    /// Neither.
    pub unexplained: u64,
    /// Not compared; by reason.
    pub not_compared: [u64; NotCompared::ALL.len()],
}

impl Tally {
    /// Bytes that a rule explains.
    pub fn explained_by(&self, rule: Rule) -> u64 {
        self.explained[rule as usize]
    }

    /// Bytes that any rule explains.
    pub fn explained_bytes(&self) -> u64 {
        self.explained.iter().sum()
    }

    /// Bytes in either of two states.
    pub fn unproven_bytes(&self) -> u64 {
        self.unproven.iter().sum()
    }

    /// Bytes that were not compared, for that reason.
    pub fn not_compared_for(&self, reason: NotCompared) -> u64 {
        self.not_compared[reason as usize]
    }

    /// Adds another memory's.
    pub fn add(&mut self, other: &Tally) {
        self.total += other.total;
        self.identical += other.identical;
        self.unexplained += other.unexplained;
        let pairs = self.explained.iter_mut().zip(&other.explained);
        let pairs = pairs.chain(self.unproven.iter_mut().zip(&other.unproven));
        pairs.chain(self.not_compared.iter_mut().zip(&other.not_compared)).for_each(|(a, b)| *a += b);
    }
}

/// Bytes that nothing explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexplained {
    /// The memory that they are in.
    pub kind: MemoryKind,
    /// Where they start.
    pub address: RunAddr,
    /// What should be there; of long spans the start.
    pub expected: Vec<u8>,
    /// What is there.
    pub found: Vec<u8>,
    /// Why nothing explains them.
    pub why: Why,
}

/// Why bytes are unexplained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No rule changes anything there.
    NoRule,
    /// A rule does, but not to this.
    NotAsRule(Rule),
    /// It is something that the rule can make, but not on a machine in this state, which everything else shows.
    OutOfStep {
        /// The rule.
        rule: Rule,
        /// What decides, and how it is.
        state: Box<str>,
    },
    /// The rule allows such a branch, but not to there.
    WrongTarget {
        /// The rule.
        rule: Rule,
        /// Where it goes.
        target: RunAddr,
    },
    /// The rule puts the address of something there that says who traces a function, but not this one.
    WrongMark {
        /// The rule.
        rule: Rule,
        /// The address.
        mark: RunAddr,
    },
}

/// One memory of a module, compared.
#[derive(Clone, Debug, Default)]
pub struct MemoryReport {
    /// Where it is.
    pub address: RunAddr,
    /// Its bytes.
    pub tally: Tally,
}

/// One module, compared.
#[derive(Clone, Debug)]
pub struct ModuleReport {
    /// Its name.
    pub name: String,
    /// Its memories.
    pub memories: PerKind<Option<MemoryReport>>,
    /// Bytes that nothing explains, in order of address within each memory; the first ones where there are many.
    pub unexplained: Vec<Unexplained>,
    /// How many more spans there are.
    pub more_unexplained: usize,
    /// Memory that the kernel made for the module beside its seven: on s390x the trampolines of functions that can be
    /// traced. They were compared where the guest's memory has them.
    pub areas: Vec<Range<RunAddr>>,
    /// Where memory begins that the kernel made for the module, in the order in which it did: thunks, trampolines.
    pub made: Vec<RunAddr>,
    /// What is traced and probed in it, in the order in which the rules came by.
    pub hooks: Vec<Hook>,
}

impl ModuleReport {
    /// All memories together.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.memories
            .iter()
            .filter_map(|(_, memory)| memory.as_ref())
            .for_each(|memory| total.add(&memory.tally));
        total
    }

    /// Whether nothing is unexplained.
    pub fn is_clean(&self) -> bool {
        self.memories
            .iter()
            .filter_map(|(_, memory)| memory.as_ref())
            .all(|memory| memory.tally.unexplained == 0)
    }
}

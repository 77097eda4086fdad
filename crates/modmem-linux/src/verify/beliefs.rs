//! What was believed: all that a verdict rests on that whoever owns the machine could have written, and that nothing of
//! the files supports.

use std::ops::Range;

use modmem::verify::Variable;

use super::{OwnSymbols, Sign, StateFact, StrayKind, Verification};

/// Something that nothing supports but the machine's own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belief {
    /// The addresses of the kernel's own symbols: no image was at hand.
    KernelSymbols,
    /// The state of something that decides about code: the kernel's own word is not in the snapshot, and one place alone
    /// shows it.
    OnePlace {
        /// What decides.
        variable: Variable,
        /// Its value.
        value: u64,
    },
    /// The same where so many places agree, for so many things.
    Places {
        /// Things that decide.
        variables: usize,
        /// Places that show them.
        places: u64,
    },
    /// Bytes that are in one of two states that a rule allows.
    EitherState {
        /// How many.
        bytes: usize,
    },
    /// Variables of the kernel that no list has, and to which one place alone refers.
    UnlistedSymbols {
        /// How many.
        count: usize,
    },
    /// Memory that no module owns, taken for what it looks like or what a list says.
    Memory {
        /// Its addresses.
        range: Range<u64>,
        /// What it was taken for.
        owner: &'static str,
        /// What says so.
        sign: Sign,
    },
    /// That nothing else is mapped where modules may lie: not all of it was read, and the machine's own list of areas is
    /// all that tells.
    Areas,
    /// The kernel's configuration, by which it is told which rules hold: no files of the kernel have it.
    Configuration,
    /// Probes that the machine lists itself.
    Kprobes {
        /// How many.
        count: usize,
    },
}

/// What supports the parts of a verdict, besides what the verification has itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Support {
    /// Whether the configuration is that of the kernel's files.
    pub(super) configuration: bool,
    /// Whether the list of areas is all that tells what is mapped.
    pub(super) goes_by_list: bool,
    /// Probes that are expected because the machine lists them.
    pub(super) listed_kprobes: usize,
    /// Variables in no list to which one place alone refers.
    pub(super) single: usize,
}

/// All that was believed.
pub(super) fn of(verification: &Verification, support: Support) -> Vec<Belief> {
    let mut beliefs = Vec::new();
    if verification.own_symbols == OwnSymbols::Believed {
        beliefs.push(Belief::KernelSymbols);
    }
    if !support.configuration {
        beliefs.push(Belief::Configuration);
    }
    if support.goes_by_list {
        beliefs.push(Belief::Areas);
    }
    let unsupported = verification.state.iter().filter(|fact| !fact.proven && fact.sites > 0);
    let (mut variables, mut places) = (0, 0);
    for &StateFact { variable, value, sites, .. } in unsupported {
        match sites {
            1 => beliefs.push(Belief::OnePlace { variable, value }),
            sites => (variables, places) = (variables + 1, places + sites),
        }
    }
    if variables > 0 {
        beliefs.push(Belief::Places { variables, places });
    }
    let mut some = |count: usize, belief: fn(usize) -> Belief| {
        if count > 0 {
            beliefs.push(belief(count));
        }
    };
    let bytes = verification.total().unproven_bytes();
    some(usize::try_from(bytes).unwrap_or(usize::MAX), |bytes| Belief::EitherState { bytes });
    some(support.single, |count| Belief::UnlistedSymbols { count });
    some(support.listed_kprobes, |count| Belief::Kprobes { count });
    beliefs.extend(verification.strays.iter().filter_map(|stray| match stray.kind {
        StrayKind::Known(owner, sign) if sign != Sign::Contents => {
            Some(Belief::Memory { range: stray.range.clone(), owner, sign })
        }
        _ => None,
    }));
    beliefs
}

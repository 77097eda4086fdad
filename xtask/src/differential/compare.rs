//! One step: does modmem say what the kernel did?

use modmem::modules::UnloadError;

use super::answers::Answer;
use super::ours::{Loaded, Verdict};
use super::rules;
use super::stricter;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Loaded by both, and all that was compared is equal: bytes that were, those of init memory among them, and what is
    /// odd about the module.
    Loaded { bytes: u64, init: u64, remarks: Vec<String> },
    /// Refused by both.
    Refused { errno: i32, rule: String },
    /// Refused by both, with other numbers: such a file has several faults, or one that Linux finds after another check.
    RefusedOtherwise { rule: String, errno: i32 },
    /// Unloaded by both.
    Unloaded,
    /// One of the two refuses a value that depends on where Linux had put the module or its copy of the file, which nobody
    /// knows then.
    Unplaced,
    /// Loads in Linux, or Linux dies of it, and modmem refuses it by a rule of its own.
    Stricter { rule: &'static str },
    /// Linux dies of it, and modmem has nothing against it.
    Deadly,
    /// It was not asked: modmem refuses it by a rule of its own, and Linux dies of such.
    Unasked { rule: &'static str },
    /// Anything else.
    Differs(String),
}

impl Outcome {
    /// Whether both have the same modules now.
    pub(super) fn agrees(&self) -> bool {
        !matches!(
            self,
            Outcome::Unplaced
                | Outcome::Stricter { .. }
                | Outcome::Deadly
                | Outcome::Unasked { .. }
                | Outcome::Differs(_)
        )
    }
}

/// Linux checks a value against its field when it knows where the module lies.
const OVERFLOW: &str = "overflow in relocation";
/// The same of two fields that overlap, where the first has an address.
const NOT_ZERO: &str = "existing value is nonzero";

pub(super) fn load(verdict: &Verdict, answer: &Answer) -> Outcome {
    let said = || answer.log.join(" / ").chars().take(160).collect::<String>();
    match verdict {
        Verdict::Refused { rule, why, .. } if answer.errno == 0 => match stricter::find(rule) {
            Some(known) => Outcome::Stricter { rule: known.rule },
            None => Outcome::Differs(format!("Linux loads it, modmem refuses it by {rule}: {why}")),
        },
        Verdict::Refused { errno, rule, .. } if *errno != answer.errno => {
            Outcome::RefusedOtherwise { errno: answer.errno, rule: rule.clone() }
        }
        Verdict::Refused { errno, rule, .. } => Outcome::Refused { errno: *errno, rule: rule.clone() },
        Verdict::Unplaced => Outcome::Unplaced,
        Verdict::Loaded(_) if said_one_of(answer, OVERFLOW) => Outcome::Unplaced,
        Verdict::Loaded(loaded) if loaded.needs_place && said_one_of(answer, NOT_ZERO) => Outcome::Unplaced,
        Verdict::Loaded(_) if answer.errno != 0 => Outcome::Differs(format!(
            "Linux refuses it with {} ({:?}), modmem loads it",
            answer.errno,
            said()
        )),
        Verdict::Loaded(loaded) => bytes(loaded, answer),
    }
}

fn said_one_of(answer: &Answer, words: &str) -> bool {
    answer.log.iter().any(|line| line.contains(words))
}

pub(super) fn unload(result: Result<(), UnloadError>, answer: &Answer) -> Outcome {
    match result {
        Ok(()) if answer.errno == 0 => Outcome::Unloaded,
        Err(error) if answer.errno == rules::unload_errno(&error) => {
            Outcome::Refused { errno: answer.errno, rule: rules::variant("Unload", &error) }
        }
        result => Outcome::Differs(format!("unloading it, Linux says {}, modmem {result:?}", answer.errno)),
    }
}

/// A case of which the kernel died, and the rule by which modmem refuses it.
pub(super) fn deadly(rule: Option<String>) -> Outcome {
    match rule {
        Some(rule) => match stricter::find(&rule) {
            Some(known) => Outcome::Stricter { rule: known.rule },
            None => Outcome::RefusedOtherwise { errno: 0, rule },
        },
        // What the module's own data makes the kernel do: parameters that lead nowhere, a struct module written over.
        None => Outcome::Deadly,
    }
}

fn bytes(loaded: &Loaded, answer: &Answer) -> Outcome {
    let (mut compared, mut init) = (0, 0);
    for (kind, (address, bytes)) in &loaded.memories {
        let Some(theirs) = found(answer, *address, bytes.len()) else {
            // That of init goes while the guest looks.
            if answer.unread.contains(address) && !kind.is_init() {
                return Outcome::Differs(format!(
                    "{kind}: Linux has no {} bytes at {address:#x}",
                    bytes.len()
                ));
            }
            continue;
        };
        // Init memory that went while the guest looked reads as zeros.
        if kind.is_init() && theirs.iter().all(|byte| *byte == 0) {
            continue;
        }
        let count = theirs.len().min(bytes.len()) as u64;
        compared += count;
        init += if kind.is_init() { count } else { 0 };
        if theirs == &bytes[..theirs.len()] {
            continue;
        }
        let differs = |at: &usize| {
            let place = address + *at as u64;
            theirs[*at] != bytes[*at] && !loaded.unknown.iter().any(|range| range.contains(&place))
        };
        if let Some(at) = (0..theirs.len()).find(differs) {
            return Outcome::Differs(format!(
                "{kind} at {at:#x} of {:#x}: Linux has {:#04x}, modmem {:#04x}",
                bytes.len(),
                theirs[at],
                bytes[at]
            ));
        }
    }
    Outcome::Loaded { bytes: compared, init, remarks: loaded.remarks.clone() }
}

/// What the kernel had there; less, where the area ends before.
fn found(answer: &Answer, address: u64, length: usize) -> Option<&[u8]> {
    let (start, bytes) = answer.areas.range(..=address).next_back()?;
    let from = (address - start) as usize;
    bytes.get(from..bytes.len().min(from + length))
}

//! One module: does modmem say what the kernel did?

use modmem::layout::MemoryKind;

use super::answers::Answer;
use super::model::THIS_MODULE;
use super::ours::{Loaded, Verdict};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Loaded by both, and all that was compared is equal: bytes that were.
    Loaded { bytes: u64 },
    /// Refused by both.
    Refused { errno: i32, rule: String },
    /// Loads in Linux, and modmem refuses it by a rule of its own.
    Stricter { rule: &'static str },
    /// Anything else.
    Differs(String),
}

/// Rules by which modmem refuses what Linux loads, or by another number than Linux has, and why.
pub(super) const STRICTER: &[(&str, &str)] = &[];

pub(super) fn compare(verdict: &Verdict, answer: &Answer) -> Outcome {
    let said = || answer.log.first().map(String::as_str).unwrap_or_default();
    match verdict {
        Verdict::Refused { rule, why, .. } if answer.errno == 0 => match known(rule) {
            Some(rule) => Outcome::Stricter { rule },
            None => Outcome::Differs(format!("Linux loads it, modmem refuses it by {rule}: {why}")),
        },
        Verdict::Refused { errno, rule, why } if *errno != answer.errno => match known(rule) {
            Some(rule) => Outcome::Stricter { rule },
            None => Outcome::Differs(format!(
                "Linux refuses it with {} ({:?}), modmem with {errno} by {rule}: {why}",
                answer.errno,
                said()
            )),
        },
        Verdict::Refused { errno, rule, .. } => Outcome::Refused { errno: *errno, rule: rule.clone() },
        Verdict::Loaded(_) if answer.errno != 0 => Outcome::Differs(format!(
            "Linux refuses it with {} ({:?}), modmem loads it",
            answer.errno,
            said()
        )),
        Verdict::Loaded(loaded) => both_loaded(loaded, answer),
    }
}

fn known(rule: &str) -> Option<&'static str> {
    STRICTER.iter().find(|(known, _)| *known == rule).map(|(rule, _)| *rule)
}

fn both_loaded(loaded: &Loaded, answer: &Answer) -> Outcome {
    let mut words = answer.line.split(' ');
    let (name, size) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if name != loaded.name {
        return Outcome::Differs(format!("Linux calls it {name:?}, modmem {:?}", loaded.name));
    }
    let core = MemoryKind::ALL.into_iter().filter(|kind| !kind.is_init());
    let ours: u64 = core.map(|kind| loaded.layout.memories()[kind].allocated).sum();
    if size.parse() != Ok(ours) {
        return Outcome::Differs(format!("Linux says it has {size} bytes, modmem {ours}"));
    }
    if let Some(taints) = answer.files.get("taint").filter(|taints| **taints != loaded.taints) {
        return Outcome::Differs(format!(
            "Linux is tainted with {taints:?}, modmem says {:?}",
            loaded.taints
        ));
    }
    // Where a section's place contradicts its memory's.
    let this_module =
        answer.sections.iter().find(|(name, _)| name == THIS_MODULE).map(|(_, address)| *address);
    let mut compared = 0;
    for (kind, (address, bytes)) in loaded.memories.iter().filter(|(kind, _)| !kind.is_init()) {
        for (at, byte) in bytes.iter().enumerate() {
            let place = address + at as u64;
            // struct module itself is the kernel's own from then on.
            if this_module.is_some_and(|start| (start..start + THIS_MODULE_SIZE).contains(&place)) {
                continue;
            }
            let Some(found) = found(answer, place) else { continue };
            compared += 1;
            if found != *byte {
                return Outcome::Differs(format!(
                    "{kind} at {at:#x} of {:#x}: Linux has {found:#04x}, modmem {byte:#04x}",
                    bytes.len()
                ));
            }
        }
    }
    Outcome::Loaded { bytes: compared }
}

/// `sizeof(struct module)`, or more.
const THIS_MODULE_SIZE: u64 = 2048;

fn found(answer: &Answer, address: u64) -> Option<u8> {
    let (start, bytes) = answer.areas.range(..=address).next_back()?;
    bytes.get((address - start) as usize).copied()
}

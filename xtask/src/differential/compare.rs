//! One module: does modmem say what the kernel did?

use std::ops::Range;

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
    /// Refused by both, with other numbers: such a file has several faults, or one that Linux finds after another check.
    RefusedOtherwise { rule: String, errno: i32 },
    /// Linux refuses a value that depends on where it had put the module, which nobody knows then.
    Unplaced,
    /// Loads in Linux, or Linux dies of it, and modmem refuses it by a rule of its own.
    Stricter { rule: &'static str },
    /// Linux dies of it, and modmem has nothing against it.
    Deadly,
    /// Anything else.
    Differs(String),
}

/// Rules by which modmem refuses what Linux loads, and why.
pub(super) const STRICTER: &[(&str, &str)] = &[
    ("Image::BadHeader", "fields of the ELF header that nobody needs to lie about"),
    (
        "Image::BadIdent",
        "Linux does not look at class, byte order and version: what reads the file afterwards does",
    ),
    ("BadName", "a module without a name, which sysfs and users cannot name"),
    ("Image::BadRelocation", "indices and offsets behind the ends of what they lead into"),
    ("Image::NotRelocatable", "a header in another byte order, which Linux does not look at"),
    ("Image::BadSection", "links, kinds and entry sizes that Linux does not look at, or takes on trust"),
    ("Image::BadSymbol", "indices behind the ends of tables: Linux reads what lies there"),
    (
        "Image::DuplicateSection",
        "a second symbol table, or a second section of what the kernel takes the first of",
    ),
    ("Image::SectionsOverlap", "one byte of the file would be two things"),
    ("Image::SectionOutsideFile", "sections that are not loaded, whose bytes Linux never looks for"),
    (
        "Image::Truncated",
        "a signature's mark without one, which a kernel without signatures takes for padding",
    ),
    ("Image::Unterminated", "strings without an end: Linux reads on behind them"),
    ("Layout::TooLarge", "sizes that Linux adds up in 32 bits, and wraps"),
    ("Layout::NoTable", "a table of the loader's that module.lds always makes"),
    ("Link::BadExport", "an entry of a table of exports that leads out of the module"),
    ("Link::Relocation::OutsideSection", "Linux writes wherever the offset leads: it can die of that"),
    ("Link::Relocation::UnknownSymbol", "Linux reads a symbol behind the end of the table"),
];

/// Linux checks a value against its field when it knows where the module lies.
const OVERFLOW: &str = "overflow in relocation";

pub(super) fn compare(verdict: &Verdict, answer: &Answer) -> Outcome {
    let said = || answer.log.join(" / ").chars().take(160).collect::<String>();
    match verdict {
        Verdict::Refused { rule, why, .. } if answer.errno == 0 => match known(rule) {
            Some(rule) => Outcome::Stricter { rule },
            None => Outcome::Differs(format!("Linux loads it, modmem refuses it by {rule}: {why}")),
        },
        Verdict::Refused { errno, rule, .. } if *errno != answer.errno => {
            Outcome::RefusedOtherwise { errno: answer.errno, rule: rule.clone() }
        }
        Verdict::Refused { errno, rule, .. } => Outcome::Refused { errno: *errno, rule: rule.clone() },
        Verdict::Loaded(_) if answer.log.iter().any(|line| line.contains(OVERFLOW)) => Outcome::Unplaced,
        Verdict::Loaded(_) if answer.errno != 0 => Outcome::Differs(format!(
            "Linux refuses it with {} ({:?}), modmem loads it",
            answer.errno,
            said()
        )),
        Verdict::Loaded(loaded) => both_loaded(loaded, answer),
    }
}

/// A module of which the kernel died.
pub(super) fn deadly(verdict: &Verdict) -> Outcome {
    match verdict {
        Verdict::Refused { rule, .. } => match known(rule) {
            Some(rule) => Outcome::Stricter { rule },
            None => Outcome::RefusedOtherwise { errno: 0, rule: rule.clone() },
        },
        // What the module's own data makes the kernel do: parameters that lead nowhere, a struct module written over.
        Verdict::Loaded(_) => Outcome::Deadly,
    }
}

fn known(rule: &str) -> Option<&'static str> {
    STRICTER.iter().find(|(known, _)| *known == rule).map(|(rule, _)| *rule)
}

fn both_loaded(loaded: &Loaded, answer: &Answer) -> Outcome {
    // Names may have spaces.
    let rest = answer.line.strip_prefix(&*loaded.name).and_then(|rest| rest.strip_prefix(' '));
    let Some(rest) = rest else {
        return Outcome::Differs(format!("modmem calls it {:?}, Linux says {:?}", loaded.name, answer.line));
    };
    let size = rest.split(' ').next().unwrap_or_default();
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
    let tables = answer.sections.iter().filter(|(name, _)| name == "__ex_table");
    let excepted: Vec<Range<u64>> = tables.map(|(_, start)| *start..start + loaded.ex_table).collect();
    if loaded.is_temporary {
        return Outcome::Loaded { bytes: 0 };
    }
    let mut compared = 0;
    for (kind, (address, bytes)) in loaded.memories.iter().filter(|(kind, _)| !kind.is_init()) {
        for (at, byte) in bytes.iter().enumerate() {
            let place = address + at as u64;
            // struct module itself is the kernel's own from then on, and it sorts what may fault.
            if excepted.iter().any(|range| range.contains(&place)) {
                continue;
            }
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

//! Unexplained bytes made readable: where they are, why nothing explains them, what they look like.

use modmem::arch::Machine;
use modmem::layout::MemoryKind;
use modmem::profile::Profile;
use modmem::verify::{ModuleReport, Unexplained, Why};
use serde::Serialize;

use super::atlas::Atlas;
use super::file_map::{FileMap, MARK};
use super::window::Window;
use super::{code, data, foreign};
use crate::features;
use crate::output::harmless;
use crate::output::json::{Address, Kind};

/// Spans of code that lie so near to each other are shown together, as instructions overlap both.
const NEAR_CODE: u64 = 24;
/// The same for data: a line of the dump.
const NEAR_DATA: u64 = 16;
/// Spans shown together at most.
const MOST_SPANS: usize = 16;

/// Why bytes differ that are of no one moment.
const TORN: &str = "this page changed each time that it was read: take the snapshot again";

/// Unexplained bytes of one place.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    pub(super) address: Address,
    /// The bytes lie right before the function that `symbol` names, and say who traces it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) mark: bool,
    /// Bytes that differ.
    pub(super) bytes: usize,
    /// There is more behind what is shown.
    pub(super) cut: bool,
    pub(super) section: Option<Inside>,
    pub(super) symbol: Option<Inside>,
    /// Why nothing explains them.
    pub(super) why: Vec<Reason>,
    /// What they look like.
    pub(super) looks_like: Vec<String>,
    pub(super) lines: Vec<Line>,
}

/// Why nothing explains bytes.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Reason {
    /// `no-rule`, `not-as-rule`, `out-of-step`, `wrong-target`, `wrong-mark` or `torn`.
    pub(super) kind: &'static str,
    /// The rule that is about these bytes.
    pub(super) rule: Option<&'static str>,
    pub(super) text: String,
}

/// An offset in something with a name.
#[derive(Debug, Serialize)]
pub(super) struct Inside {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// An instruction, or a line of a dump.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) mark: Mark,
    pub(super) address: Address,
    /// Hexadecimal digits.
    pub(super) bytes: String,
    /// The instruction, or the bytes as characters.
    pub(super) text: String,
    /// Where it leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
}

/// Which side a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    /// Both.
    Same,
    /// What should be there.
    Expected,
    /// What is there.
    Found,
}

/// What a comparison of one place came to.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) lines: Vec<Line>,
    pub(super) looks_like: Vec<String>,
}

/// All findings of a module, by memory and address.
pub(super) fn findings(
    atlas: &Atlas<'_>,
    map: &FileMap,
    profile: &Profile,
    report: &ModuleReport,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut rest = &report.unexplained[..];
    while !rest.is_empty() {
        let count = together(rest);
        let (spans, later) = rest.split_at(count);
        findings.push(finding(atlas, map, profile, report, spans));
        rest = later;
    }
    findings
}

/// How many spans from the first on are shown together.
fn together(spans: &[Unexplained]) -> usize {
    let near = if is_code(spans[0].kind) { NEAR_CODE } else { NEAR_DATA };
    let follows = |pair: &&[Unexplained]| {
        let gap = pair[1].address.0.checked_sub(end_of(&pair[0]));
        pair[0].kind == pair[1].kind && gap.is_some_and(|gap| gap <= near)
    };
    1 + spans.windows(2).take(MOST_SPANS - 1).take_while(follows).count()
}

fn finding(
    atlas: &Atlas<'_>,
    map: &FileMap,
    profile: &Profile,
    report: &ModuleReport,
    spans: &[Unexplained],
) -> Finding {
    let (kind, address) = (spans[0].kind, spans[0].address);
    let window = Window::new(atlas, map, report, spans, is_code(kind));
    let shown = match (is_code(kind), profile.machine) {
        (true, Machine::X86_64) => code::compare(atlas, map, &window),
        (true, machine) => foreign::compare(machine, atlas, map, &window),
        (false, _) => data::compare(atlas, map, &window),
    };
    // Half of a change is no hook: what it looks like misleads.
    let is_torn = spans.iter().any(|span| atlas.is_torn(&(span.address.0..end_of(span))));
    let mut why: Vec<Reason> = Vec::new();
    for span in spans {
        let reason = match is_torn {
            true => Reason { kind: "torn", rule: None, text: TORN.into() },
            false => reason(&span.why, atlas, map, profile),
        };
        if !why.contains(&reason) {
            why.push(reason);
        }
    }
    let mark = atlas.mark(address.0, map);
    let inside = |named: &super::file_map::Named| Inside {
        name: named.name.clone(),
        offset: address.0.saturating_sub(named.range.start),
        size: named.range.end - named.range.start,
    };
    Finding {
        kind: Kind(kind),
        address: Address(address),
        mark: mark.is_some(),
        bytes: spans.iter().map(differing).sum(),
        cut: window.cut,
        section: map.section(address.0).map(inside),
        symbol: map.symbol(mark.map_or(address.0, |mark| mark + MARK)).as_ref().map(inside),
        why,
        looks_like: if is_torn { Vec::new() } else { shown.looks_like },
        lines: shown.lines,
    }
}

/// Whether the bytes of a memory are instructions.
fn is_code(kind: MemoryKind) -> bool {
    matches!(kind, MemoryKind::Text | MemoryKind::InitText)
}

pub(super) fn end_of(span: &Unexplained) -> u64 {
    span.address.0.saturating_add(span.found.len() as u64)
}

pub(super) fn differing(span: &Unexplained) -> usize {
    span.expected.iter().zip(&span.found).filter(|(expected, found)| expected != found).count()
}

fn reason(why: &Why, atlas: &Atlas<'_>, map: &FileMap, profile: &Profile) -> Reason {
    let (kind, rule, text) = match why {
        Why::NoRule => ("no-rule", None, "nothing in the kernel changes these bytes".into()),
        Why::NotAsRule(rule) => {
            ("not-as-rule", Some(rule), format!("the kernel changes bytes here ({rule}), but not to these"))
        }
        Why::OutOfStep { rule, state } => {
            let state = with_names(state, atlas, profile);
            ("out-of-step", Some(rule), format!("out of step ({rule}): {state}"))
        }
        Why::WrongTarget { rule, target } => {
            let target = atlas.look(target.0, map);
            ("wrong-target", Some(rule), format!("a branch may be here ({rule}), but not to {target}"))
        }
        Why::WrongMark { rule, mark } => {
            let mark = atlas.look(mark.0, map);
            let text = format!("a function is marked here with who traces it ({rule}), but not with {mark}");
            ("wrong-mark", Some(rule), text)
        }
    };
    Reason { kind, rule: rule.map(|rule| rule.name()), text }
}

/// The state as the library words it, with names behind the numbers of features and behind addresses.
fn with_names(state: &str, atlas: &Atlas<'_>, profile: &Profile) -> String {
    let mut words = Vec::new();
    for word in state.split(' ') {
        words.push(harmless(word));
        let (number, comma) = word.strip_suffix(',').map_or((word, ""), |number| (number, ","));
        let name = match number.split_once("*32+") {
            Some((word, bit)) => word
                .parse::<u16>()
                .ok()
                .zip(bit.parse::<u16>().ok())
                .and_then(|(word, bit)| features::name(word.checked_mul(32)?.checked_add(bit)?, profile))
                .map(str::to_owned),
            None => number
                .strip_prefix("0x")
                .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                .and_then(|address| atlas.global(address)),
        };
        if let (Some(name), Some(last)) = (name, words.last_mut()) {
            *last = format!("{} ({name}){comma}", harmless(number));
        }
    }
    words.join(" ")
}

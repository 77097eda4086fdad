//! What should not be there: memory that no listed module owns, code between modules.
//!
//! A [`Survey`] says what memory there is where modules may lie; what modules own is taken out of it, and what remains is
//! either something that the kernel makes at run time and keeps there, or unexplained. What it is its contents say, where
//! the snapshot has them, and not the lists of the machine alone.

mod bpf;
mod pages;
mod places;
mod s390;
mod survey;
mod x86_64;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use modmem::arch::Machine;
use modmem::profile::Profile;

use self::places::{KNOWN_LISTS, Places};
pub(super) use self::survey::goes_by_list;
use self::survey::{Piece, Survey};
use super::Checked;
use crate::Error;
use crate::snapshot::{ModuleRecord, Snapshot, Symbol};

/// What a stray is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StrayKind {
    /// Code that the kernel makes at run time, by this owner, and what says that it is that.
    Known(&'static str, Sign),
    /// Init memory of a module, not yet given back.
    LateInit(String),
    /// Memory of a listed module that could not be compared.
    NotCompared(String),
    /// Memory for a module that is in no list.
    NoOwner,
    /// Code in a page of code, between what modules own.
    Between,
    /// A module that has symbols but is not in the list of modules.
    Unlisted(String),
    /// Where modules may lie, and nobody looked: the snapshot neither has it nor lists what is there.
    Unseen,
}

/// What says whose memory is that no module owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// Every byte of it: nothing is believed.
    Contents,
    /// It begins as such code does. What follows is in no file that it could be compared with.
    Form,
    /// The kernel's list of symbols, whatever the bytes are.
    Listed,
    /// Who asked for it, as the list of areas says: its bytes were not read.
    Caller,
}

impl StrayKind {
    /// Whether nothing explains it, or nobody knows.
    pub fn is_unexplained(&self) -> bool {
        matches!(self, StrayKind::NoOwner | StrayKind::Between | StrayKind::Unlisted(_) | StrayKind::Unseen)
    }
}

/// Memory that no listed module owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Its addresses.
    pub range: Range<u64>,
    /// The function that asked for it, as the kernel says; empty if unknown.
    pub caller: String,
    /// What it is.
    pub kind: StrayKind,
}

/// Whether the memory at some addresses, which the module of that index had until its init was over, still is what it
/// was.
pub(super) type IsStillInit<'i> = dyn FnMut(usize, &Range<u64>) -> Result<bool, Error> + 'i;

pub(super) fn find(
    snapshot: &Snapshot,
    profile: &Profile,
    modules: &[Checked],
    records: &[&ModuleRecord],
    is_still_init: &mut IsStillInit<'_>,
) -> Result<Vec<Stray>, Error> {
    let survey = Survey::of(snapshot, profile);
    let places = Places::of(snapshot, modules, records);
    let mut strays: Vec<Stray> = Vec::new();
    for piece in &survey.pieces {
        let is_shared = !places.owned_in(&piece.range).is_empty();
        for gap in places.gaps(&piece.range) {
            let stray = |range, kind| Stray { range, caller: piece.caller.clone(), kind };
            if let Some(index) = late_init(&places, &gap, is_still_init)? {
                let module = modules.get(index).map(|module| module.name.clone()).unwrap_or_default();
                strays.push(stray(gap, StrayKind::LateInit(module)));
                continue;
            }
            let found = contents(snapshot, profile, &places, piece, &gap, is_shared);
            strays.extend(found.into_iter().map(|(range, kind)| stray(range, kind)));
        }
    }
    let unseen = survey.unseen.into_iter();
    strays.extend(unseen.map(|range| Stray { range, caller: String::new(), kind: StrayKind::Unseen }));
    strays.extend(unlisted(snapshot));
    Ok(strays)
}

/// The module whose init memory is still at these addresses, byte by byte.
fn late_init(
    places: &Places,
    gap: &Range<u64>,
    is_still_init: &mut IsStillInit<'_>,
) -> Result<Option<usize>, Error> {
    for (index, range) in places.former_owners(gap) {
        if is_still_init(index, &range)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// What lies in a gap between what modules own, in a piece that has something of theirs or not.
fn contents(
    snapshot: &Snapshot,
    profile: &Profile,
    places: &Places,
    piece: &Piece,
    gap: &Range<u64>,
    is_shared: bool,
) -> Vec<(Range<u64>, StrayKind)> {
    let nobodys = || if is_shared { StrayKind::Between } else { StrayKind::NoOwner };
    // Memory of nobody is whole pages; between what modules own it is what there is.
    let page = profile.page_size;
    let whole = |range: Range<u64>| match is_shared {
        true => range,
        false => {
            let end = range.end.checked_next_multiple_of(page).unwrap_or(u64::MAX);
            (range.start / page * page).max(gap.start)..end.min(gap.end)
        }
    };
    if let Some(kind) = places.uncompared_in(gap) {
        return vec![(gap.clone(), kind)];
    }
    let Some(bytes) = bytes(snapshot, gap) else {
        // What was not read can be anything: nothing speaks for it but who asked for it.
        let listed = places.listed_in(gap).first().map(|listed| (listed.owner, Sign::Listed));
        let known = piece.by_caller().map(|owner| (owner, Sign::Caller)).or(listed);
        let known = known.filter(|_| !is_shared);
        return vec![(
            gap.clone(),
            known.map_or_else(nobodys, |(owner, sign)| StrayKind::Known(owner, sign)),
        )];
    };
    if profile.machine == Machine::X86_64 {
        let extents = x86_64::extents(gap.start, &bytes, places, profile.text_pack.is_some());
        let found = |extent: x86_64::Extent| match extent.owner {
            Some((owner, sign)) => (extent.range, StrayKind::Known(owner, sign)),
            None => (whole(extent.range), nobodys()),
        };
        return extents.into_iter().map(found).collect();
    }
    let Some(first) = bytes.iter().position(|byte| *byte != 0) else { return Vec::new() };
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(first);
    let trampolines = || {
        let asked = s390::CALLERS.contains(&piece.caller.as_str()) || piece.caller.is_empty();
        let is_s390_page = profile.machine == Machine::S390 && !is_shared;
        let is_s390 = profile.machine == Machine::S390 && asked;
        let shared = is_s390_page && s390::is_shared_part(&bytes);
        let own = || is_s390 && s390::are_trampolines(snapshot, gap, &bytes, places);
        (shared || own()).then_some(("ftrace trampolines", Sign::Contents))
    };
    let pages = || {
        let format = profile.machine.format().ok().filter(|format| format.word() == 8)?;
        let word = |bytes: &[u8]| format.read_word(bytes).unwrap_or(0);
        pages::are_listed(&snapshot.areas, places, &bytes, word)
            .then_some(("the list of a module's pages", Sign::Contents))
    };
    let listed = || places.listed_in(gap).first().map(|listed| (listed.owner, Sign::Listed));
    let by_caller = || piece.by_caller().map(|owner| (owner, Sign::Caller));
    let known = trampolines().or_else(pages).or_else(listed).or_else(by_caller);
    match known {
        Some((owner, sign)) => vec![(gap.clone(), StrayKind::Known(owner, sign))],
        None => vec![(whole(gap.start + first as u64..gap.start + last as u64 + 1), nobodys())],
    }
}

/// The bytes at some addresses, where the snapshot has them all.
fn bytes<'s>(snapshot: &'s Snapshot, range: &Range<u64>) -> Option<Cow<'s, [u8]>> {
    let length = usize::try_from(range.end - range.start).ok()?;
    if let Some(bytes) = snapshot.memory.bytes(range.start, length) {
        return Some(Cow::Borrowed(bytes));
    }
    // A lie about a range's length takes no more memory than there is in records.
    if length as u64 > snapshot.memory.len() {
        return None;
    }
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(length).ok()?;
    buffer.resize(length, 0);
    snapshot.memory.copy(range.start, &mut buffer)?;
    Some(Cow::Owned(buffer))
}

/// Whether a symbol is one that the kernel gives to code that it made at run time: it has a few names for each kind, and
/// they are all of code.
fn is_of_kernel(list: &str, symbol: &Symbol<'_>) -> bool {
    let is_code = matches!(symbol.letter, 't' | 'T');
    let names = KNOWN_LISTS.iter().find(|known| known.list == list).map(|known| known.names);
    is_code && names.is_some_and(|names| names.iter().any(|start| symbol.name.starts_with(start)))
}

/// Modules that have symbols and are not listed.
fn unlisted(snapshot: &Snapshot) -> Vec<Stray> {
    let listed: HashSet<&str> = snapshot.modules.iter().map(|module| module.name.as_str()).collect();
    let mut unlisted: BTreeMap<&str, Range<u64>> = BTreeMap::new();
    for symbol in snapshot.symbols.of_modules() {
        let Some(module) = symbol.module else { continue };
        if is_of_kernel(module, &symbol) || listed.contains(module) {
            continue;
        }
        let end = symbol.address.saturating_add(1);
        let range = unlisted.entry(module).or_insert(symbol.address..end);
        *range = range.start.min(symbol.address)..range.end.max(end);
    }
    let stray = |(module, range): (&str, Range<u64>)| {
        let kind = StrayKind::Unlisted(module.to_owned());
        Stray { range, caller: String::new(), kind }
    };
    unlisted.into_iter().map(stray).collect()
}

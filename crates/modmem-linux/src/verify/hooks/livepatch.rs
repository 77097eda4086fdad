//! What livepatches replace: a livepatch's module has an array of functions (`struct klp_func`, include/linux/livepatch.h)
//! with the old one's name, the new one, which of several of that name it is, and where the old one was found.

use std::collections::BTreeMap;

use super::map::Map;
use super::{HookRow, HookSite, HookWay, Hooker, Owner};

/// Fields, in words.
const NEW: u64 = 1;
const OLD: u64 = 3;
/// The taint of a livepatch's module.
const TAINT: char = 'K';

pub(super) fn rows(map: &Map<'_>) -> Vec<HookRow> {
    let is_livepatch =
        |name: &str| map.snapshot.module(name).is_some_and(|module| module.taints.contains(TAINT));
    let mut rows: BTreeMap<Hooker, Vec<HookSite>> = BTreeMap::new();
    for range in map.data() {
        let own = match map.owner(range.start) {
            Owner::Module(name) if !is_livepatch(&name) => continue,
            own => own,
        };
        for (at, word) in map.words(&range) {
            let Some((new, old)) = function(map, at, word, &own) else { continue };
            let by = Hooker::of_function(map, new).described(map, at);
            rows.entry(by).or_default().push(map.site(old));
        }
    }
    rows.into_iter().map(|(by, sites)| HookRow::plain(HookWay::Livepatch, by, sites)).collect()
}

/// The new and the old function that the words at `at` name, if they are such an entry: the name must be the old one's.
fn function(map: &Map<'_>, at: u64, name: u64, own: &Owner) -> Option<(u64, u64)> {
    let word = |index: u64| map.word(at.checked_add(index * map.word_size())?);
    let new = word(NEW).filter(|new| map.owner(*new) == *own && map.is_code(*new))?;
    let old = word(OLD).filter(|old| map.is_code(*old))?;
    let name = map.text(name)?;
    let mut named = map.snapshot.symbols.at_address(old);
    named.any(|symbol| symbol.name == name).then_some((new, old))
}

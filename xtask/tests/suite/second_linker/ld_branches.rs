//! From where on the second linker itself takes a branch for one that does not reach.
//!
//! Where Linux lets a branch go through a stub, it is compared by a branch to that stub. Here the second linker is asked
//! about the branch itself: what lies beyond the limit it must refuse, or lead through a stub of its own.

use crate::second_linker::ld::Binutils;
use crate::second_linker::module::{self, Numbers};
use crate::second_linker::probe::{Probe, SLOT, Scene, Setting};
use crate::second_linker::row::Beyond;
use crate::second_linker::target::{Target, no_tables};

/// Values for which it does otherwise than their rows say.
pub(crate) fn wrong_limits(target: &Target, binutils: &Binutils<'_>) -> Vec<String> {
    let probes = Probe::all(target, |row| match row.beyond {
        Beyond::Refused => Vec::new(),
        // It would stop at the first odd value.
        _ => row.values().into_iter().filter(|value| value % 2 == 0).collect(),
    });
    if probes.is_empty() {
        return Vec::new();
    }
    let scene = Scene { target, section: target.base, tables: no_tables(0, &probes) };
    let linked = |value: fn(&Probe<'_>) -> i64| {
        let settings: Vec<Setting> = probes.iter().map(|probe| probe.setting(value(probe), &scene)).collect();
        let file = module::file(target, &probes, &settings, Numbers::Own);
        binutils.link(&file, scene.section, &settings)
    };
    let branches = linked(|probe| probe.value);
    let cut_off = linked(|probe| probe.row.linux.wrap(probe.value));
    let mut wrong = Vec::new();
    for probe in &probes {
        let slot = probe.slot..probe.slot + SLOT;
        let is_direct = branches.bytes[slot.clone()] == cut_off.bytes[slot];
        let reaches = is_direct && !branches.refused.contains(&probe.offset);
        if reaches != probe.row.ld.takes(probe.value) {
            let verb = if reaches { "reaches" } else { "does not reach" };
            wrong.push(format!("{}: to ld it {verb}", probe.label()));
        }
    }
    wrong
}

//! What relocations mean that need a table: shown with the second linker's own tables.
//!
//! Its entries lie elsewhere than modmem's, so bytes cannot be compared with those. But a row says which number computes
//! the same without a table, and the second linker can be asked about that: linked with the place that the entry has in
//! its own table, this other number must give the very bytes that its own handling of the first one gives.

use crate::second_linker::ld::Binutils;
use crate::second_linker::module::{self, Numbers, SECTION};
use crate::second_linker::probe::{Probe, SLOT, Scene, Setting};
use crate::second_linker::target::{Slot, Tables, Target};

/// Numbers that are not like those that they are said to be like.
pub(crate) fn wrong_likenesses(target: &Target, binutils: &Binutils<'_>) -> Vec<String> {
    let rows = target.rows.iter().filter(|row| row.like != row.number);
    let probes: Vec<Probe<'_>> = rows.enumerate().map(|(index, row)| Probe::new(row, index, 0, 0)).collect();
    if probes.is_empty() {
        return Vec::new();
    }
    // Close to each other, so that all fits. Without a shared object, ld lets branches go to the symbol itself.
    let (got, section, symbols) = (target.base, target.base + 0x4000, target.base + 0x8000);
    let settings: Vec<Setting> =
        (0..probes.len() as u64).map(|index| Setting { symbol: symbols + index * 0x10, addend: 2 }).collect();
    let file = module::file(target, &probes, &settings, Numbers::Own);
    let own = binutils.link_with_tables(&file, section, got, &settings);
    let entry = |symbol: u64| {
        let mut entries = own.entries.chunks_exact(8);
        let index = entries.position(|entry| target.word(entry) == symbol);
        got + index.unwrap_or_default() as u64 * 8
    };
    let slots = settings.iter().map(|setting| Slot { entry: entry(setting.symbol), stub: setting.symbol });
    let scene = Scene { target, section, tables: Tables { got: own.got, slots: slots.collect() } };
    let like: Vec<Setting> = (probes.iter().zip(&settings))
        .map(|(probe, setting)| Setting { symbol: probe.like_symbol(*setting, &scene, None), ..*setting })
        .collect();
    let file = module::file(target, &probes, &settings, Numbers::Like);
    let like = binutils.link(&file, section, &like);
    let mut wrong = Vec::new();
    for probe in &probes {
        let slot = probe.slot..probe.slot + SLOT;
        let refused = own.linked.refused.contains(&probe.offset) || like.refused.contains(&probe.offset);
        let (own, like) = (&own.linked.bytes[slot.clone()], &like.bytes[slot]);
        let is_alike = own == like && !refused;
        if is_alike != probe.row.unlike_ld.is_empty() {
            let name = probe.row.name;
            wrong.push(format!(
                "{name} in {SECTION} is {own:02x?} to ld, and {like:02x?} if it is like {}",
                probe.row.like
            ));
        }
    }
    wrong
}

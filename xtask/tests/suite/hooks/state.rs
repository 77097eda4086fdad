//! One site out of step with the machine's state that all others show.

use std::collections::BTreeMap;

use crate::hooks::scene::{FOREIGN, Scene, Site, branch};

/// NOPs of one to eight bytes, as Linux joins them.
const NOPS: [&[u8]; 8] = [
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// A run of single-byte NOPs at the end of code, joined.
fn joined(code: &[u8]) -> Vec<u8> {
    let run = code.iter().rev().take_while(|&&byte| byte == 0x90).count();
    let mut joined = code[..code.len() - run].to_vec();
    if let Some(nop) = run.checked_sub(1).and_then(|at| NOPS.get(at)) {
        joined.extend_from_slice(nop);
    } else {
        joined.extend_from_slice(&code[code.len() - run..]);
    }
    joined
}

struct Alternative {
    site: Site,
    length: usize,
    replacement: u64,
    replacement_length: usize,
}

pub(crate) fn alternatives(scene: &mut Scene) {
    // Entries of 6.4 and later have flags of their own.
    let flagged = !scene.victim.snapshot.release.starts_with("6.1.");
    let size = if flagged { 14 } else { 12 };
    let mut all: BTreeMap<(u16, u16), Vec<Alternative>> = BTreeMap::new();
    let mut sites: BTreeMap<u64, usize> = BTreeMap::new();
    for (module, at) in scene.victim.entries(".altinstructions", size) {
        let site = scene.victim.relative(at);
        if !scene.victim.is_text(&module, site) {
            continue;
        }
        *sites.entry(site).or_default() += 1;
        let entry = scene.running(at, size as usize);
        let half = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        let key = if flagged { (half(8), half(10)) } else { (half(8) & 0x7fff, half(8) >> 15) };
        let lengths = if flagged { 12 } else { 10 };
        all.entry(key).or_default().push(Alternative {
            site: (module, site),
            length: usize::from(entry[lengths]),
            replacement: scene.victim.relative(at + 4),
            replacement_length: usize::from(entry[lengths + 1]),
        });
    }
    let mut alone = Vec::new();
    for ((feature, flags), entries) in all {
        // Of sites with one entry only: what those with several must be depends on more than one feature.
        let single: Vec<&Alternative> = entries.iter().filter(|entry| sites[&entry.site.1] == 1).collect();
        let Some(entry) = single.first() else { continue };
        let what = format!("{}*32+{}, flags {flags}", feature / 32, feature % 32);
        let site = entry.site.1;
        let is = scene.running(site, entry.length).to_vec();
        let mut trap = is.clone();
        trap[0] = 0xcc;
        scene.one("an alternative with other bytes", site, trap);
        // Calls of paravirt slots (flag 2) are another matter; so are replacements that have to be moved.
        let original = joined(scene.relocated(site, entry.length));
        let mut replacement = scene.relocated(entry.replacement, entry.replacement_length).to_vec();
        let moves =
            replacement.iter().any(|byte| matches!(byte, 0xe8 | 0xe9 | 0xeb | 0x0d | 0x05 | 0x15 | 0x25));
        replacement.resize(entry.length.max(replacement.len()), 0x90);
        let replacement = joined(&replacement);
        if flags & 2 != 0 || single.len() < 3 {
            alone.push(format!("{what}: {} sites", single.len()));
            continue;
        }
        if is != original {
            scene.one(&format!("one alternative put back ({what})"), site, original);
        } else if !moves {
            scene.one(&format!("one alternative put in ({what})"), site, replacement);
        }
    }
    println!("not played, as too few other sites depend on the feature: {alone:?}");
}

pub(crate) fn locks_and_seals(scene: &mut Scene) {
    let locks = scene.victim.sites(".smp_locks");
    if let Some((_, site)) = scene.changed(&locks, 1) {
        let lock = scene.relocated(site, 1).to_vec();
        scene.one("one lock prefix put back", site, lock);
        scene.one("a lock prefix made another prefix", site, [0x26]);
    }
    let seals = scene.victim.sites(".ibt_endbr_seal");
    if let Some((_, site)) = scene.changed(&seals, 4) {
        let endbr = scene.relocated(site, 4).to_vec();
        scene.one("one ENDBR put back", site, endbr);
        scene.one("another NOP in place of an ENDBR", site, NOPS[3]);
    }
}

pub(crate) fn jump_labels(scene: &mut Scene) {
    let mut keys: BTreeMap<u64, Vec<(Site, u64)>> = BTreeMap::new();
    for (module, at) in scene.victim.entries("__jump_table", 16) {
        let (site, to) = (scene.victim.relative(at), scene.victim.relative(at + 4));
        if scene.victim.is_text(&module, site) {
            let key = (at + 8).wrapping_add(scene.victim.word(at + 8)) & !3;
            keys.entry(key).or_default().push(((module, site), to));
        }
    }
    let mut played: BTreeMap<&str, usize> = BTreeMap::new();
    let mut alone = 0;
    for (key, sites) in keys {
        let what = match (scene.victim.has(key, 4), sites.len()) {
            (true, 1) => "a jump label flipped, its key in a module, one site",
            (true, _) => "a jump label flipped, its key in a module",
            (false, 3..) => "a jump label flipped, its key in the kernel",
            _ => {
                alone += 1;
                continue;
            }
        };
        let count = played.entry(what).or_default();
        *count += 1;
        if *count > 2 {
            continue;
        }
        // The last one: the first speaks first, and should not win because of that.
        for ((_, site), to) in [&sites[0], &sites[sites.len() - 1]] {
            let is = scene.running(*site, 5);
            let length = if matches!(is[0], 0x66 | 0xeb) { 2 } else { 5 };
            let is_jump = matches!(is[0], 0xe9 | 0xeb);
            let flipped = match (is_jump, length) {
                (true, length) => NOPS[length - 1].to_vec(),
                (false, 2) => vec![0xeb, to.wrapping_sub(site + 2) as u8],
                (false, _) => branch(0xe9, *site, *to),
            };
            scene.one(what, *site, flipped);
            if length == 5 {
                scene.one("a jump label led elsewhere", *site, branch(0xe9, *site, to + 1));
            }
        }
    }
    println!("{alone} keys of jump labels have too few sites to tell");
}

pub(crate) fn static_calls(scene: &mut Scene) {
    let mut keys: BTreeMap<u64, Vec<Site>> = BTreeMap::new();
    for (module, at) in scene.victim.entries(".static_call_sites", 8) {
        let (site, key) = (scene.victim.relative(at), scene.victim.relative(at + 4) & !3);
        if scene.victim.is_text(&module, site) && scene.running(site, 1) == [0xe8] {
            keys.entry(key).or_default().push((module, site));
        }
    }
    let printk = scene.kernel_symbol("_printk");
    let mut played: BTreeMap<&str, usize> = BTreeMap::new();
    let mut alone = Vec::new();
    for (key, sites) in keys {
        let symbol = scene.victim.snapshot.symbols.nearest(key, None).map_or("", |near| near.symbol.name);
        let what = match (scene.victim.has(key, 8), symbol.starts_with("__SCK__tp_func_"), sites.len()) {
            (true, ..) => "a static call to another function, its key in a module",
            (false, true, 1) => "a static call of a tracepoint to another function, one site",
            (false, _, 3..) => "a static call to another function, its key in the kernel",
            _ => {
                alone.push(symbol.to_owned());
                continue;
            }
        };
        let count = played.entry(what).or_default();
        *count += 1;
        if *count > 2 {
            continue;
        }
        let (module, site) = sites[0].clone();
        let own = scene.functions(&module)[0];
        scene.one(what, site, branch(0xe8, site, printk));
        scene.one(what, site, branch(0xe8, site, own));
        scene.one("a static call taken out", site, NOPS[4]);
        scene.one("a static call led to foreign memory", site, branch(0xe8, site, FOREIGN));
    }
    println!("static calls with too few sites to tell: {alone:?}");
}

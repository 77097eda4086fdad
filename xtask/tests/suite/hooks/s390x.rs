//! Hooks on s390x.

use modmem::layout::MemoryKind;

use crate::hooks::scene::{Scene, Site};

/// `bcr 0,%r0`, `bc 0,0` and `br %r14`.
const NOP: [u8; 2] = [0x07, 0x00];
const NOP_LONG: [u8; 4] = [0x47, 0x00, 0x00, 0x00];
const RETURN: [u8; 2] = [0x07, 0xfe];
const BREAKPOINT: [u8; 2] = [0x00, 0x02];
/// Second bytes of branches of six bytes: never and always taken, and calls by the register that they leave behind.
const NEVER: u8 = 0x04;
const ALWAYS: u8 = 0xf4;
const CALL: u8 = 0xe5;
const CALL_TRACER: u8 = 0x05;
/// Bytes of a trampoline, of entries of the PLT, the jump table and the table of alternatives.
const TRAMPOLINE: u64 = 24;
const PLT_ENTRY: u64 = 22;
const LABEL: u64 = 16;
const ALTERNATIVE: u64 = 13;
/// Where nothing is, within reach of text: before all modules.
const FOREIGN: u64 = 0x3ff_5ff0_1230;

pub(crate) fn all(scene: &mut Scene) {
    entries_of_functions(scene);
    trampolines(scene);
    got_and_plt(scene);
    calls(scene);
    alternatives(scene);
    jump_labels(scene);
    tables(scene);
    constants(scene);
    anywhere(scene);
}

fn word(scene: &Scene, at: u64) -> u64 {
    u64::from_be_bytes(scene.running(at, 8).try_into().expect("8 bytes"))
}

/// What a distance of 32 bits leads to, counted from where it stands.
fn relative(scene: &Scene, at: u64) -> u64 {
    let distance = i32::from_be_bytes(scene.running(at, 4).try_into().expect("4 bytes"));
    at.wrapping_add(i64::from(distance) as u64)
}

fn branch(kind: u8, from: u64, to: u64) -> Vec<u8> {
    let mut bytes = vec![0xc0, kind];
    bytes.extend(((to.wrapping_sub(from) as i64 >> 1) as i32).to_be_bytes());
    bytes
}

/// Where a branch of six bytes leads.
fn target(bytes: &[u8], from: u64) -> u64 {
    let distance = i32::from_be_bytes(bytes[2..6].try_into().expect("4 bytes"));
    from.wrapping_add((i64::from(distance) * 2) as u64)
}

/// Entries of functions that are still there: whose, and where.
fn entries(scene: &Scene) -> Vec<Site> {
    let entries = scene.victim.entries("__mcount_loc", 8).into_iter();
    let sites = entries.map(|(module, at)| (module, word(scene, at)));
    sites.filter(|(module, site)| scene.victim.is_text(module, *site)).collect()
}

fn entries_of_functions(scene: &mut Scene) {
    let sites = entries(scene);
    let (_, site) = sites[sites.len() / 2].clone();
    let (printk, tracer) = (scene.kernel_symbol("_printk"), scene.kernel_symbol("ftrace_caller"));
    let neighbour = sites[sites.len() / 2 + 1].1;
    let own = target(scene.running(site, 6), site);
    for (what, bytes) in [
        ("a branch to foreign memory at a function's entry", branch(ALWAYS, site, FOREIGN)),
        ("a call of foreign memory at a function's entry", branch(CALL_TRACER, site, FOREIGN)),
        ("a call of the kernel at a function's entry", branch(CALL, site, printk)),
        ("a branch to the tracer at a function's entry", branch(ALWAYS, site, tracer)),
        ("a call of the tracer past its trampoline", branch(CALL_TRACER, site, tracer)),
        ("a branch to another function at a function's entry", branch(ALWAYS, site, neighbour)),
        ("another function's trampoline at a function's entry", branch(ALWAYS, site, own + TRAMPOLINE)),
        ("another function's trampoline, not called", branch(NEVER, site, own + TRAMPOLINE)),
        ("a branch into a trampoline at a function's entry", branch(ALWAYS, site, own + 8)),
        ("a conditional branch at a function's entry", branch(0x84, site, own)),
        ("a call of the trampoline at a function's entry", branch(CALL, site, own)),
        ("one function's entry as it was built", branch(NEVER, site, site)),
        ("a breakpoint at a function's entry", BREAKPOINT.into()),
        ("a return at a function's entry", RETURN.into()),
    ] {
        scene.one(what, site, bytes);
    }
    scene.one("a branch behind a function's entry", site + 6, branch(ALWAYS, site + 6, FOREIGN));
}

fn trampolines(scene: &mut Scene) {
    let sites = entries(scene);
    let known = sites.iter().map(|(_, site)| (*site, target(scene.running(*site, 6), *site)));
    let known = known.filter(|(_, at)| scene.victim.has(*at, 2 * TRAMPOLINE as usize)).nth(5);
    // Not all recordings have them.
    let Some((site, at)) = known else { return };
    let printk = scene.kernel_symbol("_printk");
    for (what, offset, bytes) in [
        ("a trampoline that calls foreign memory", 0, branch(0x15, at, FOREIGN)),
        ("a trampoline that calls the kernel", 0, branch(0x15, at, printk)),
        ("a trampoline that branches", 0, branch(ALWAYS, at, target(scene.running(at, 6), at))),
        ("something in a trampoline's gap", 6, vec![0x41]),
        ("a trampoline back to its start", 8, site.to_be_bytes().into()),
        ("a trampoline back to foreign memory", 8, FOREIGN.to_be_bytes().into()),
        ("a trampoline for foreign memory", 16, FOREIGN.to_be_bytes().into()),
        ("a trampoline for a function of the kernel", 16, printk.to_be_bytes().into()),
    ] {
        scene.one(what, at + offset, bytes);
    }
    let length = TRAMPOLINE as usize;
    let swapped = [scene.running(at + TRAMPOLINE, length), scene.running(at, length)].concat();
    scene.one("two trampolines swapped", at, swapped);
}

fn got_and_plt(scene: &mut Scene) {
    const START: [u8; 10] = [0x0d, 0x10, 0xe3, 0x10, 0x10, 0x0c, 0x00, 0x04, 0x07, 0xf1];
    let printk = scene.kernel_symbol("_printk");
    let memories = scene.victim.memories.clone();
    let texts = memories.iter().filter(|(_, kind, _)| *kind == MemoryKind::Text);
    // A GOT of more than one entry, then a PLT.
    let mut found = texts.filter_map(|(_, _, range)| {
        let at =
            (range.start..range.end.min(range.start + 0x800)).find(|&at| scene.running(at, 10) == START)?;
        (at >= range.start + 16 && at < range.start + 0x400).then_some((range.start, at))
    });
    let (got, plt) = found.next_back().expect("a module with GOT and PLT");
    let length = PLT_ENTRY as usize;
    let swapped = [scene.running(plt + PLT_ENTRY, length), scene.running(plt, length)].concat();
    let swapped_addresses = [scene.running(got + 8, 8), scene.running(got, 8)].concat();
    for (what, at, bytes) in [
        ("an address in the GOT made foreign", got, FOREIGN.to_be_bytes().to_vec()),
        ("an address in the GOT made another of the kernel's", got, (printk + 2).to_be_bytes().to_vec()),
        ("two addresses in the GOT swapped", got, swapped_addresses),
        ("an entry of the PLT led to foreign memory", plt + 14, FOREIGN.to_be_bytes().to_vec()),
        ("an entry of the PLT led into the kernel", plt + 14, (printk + 2).to_be_bytes().to_vec()),
        ("code in an entry of the PLT", plt, branch(ALWAYS, plt, FOREIGN)),
        ("something in the gap of a PLT's entry", plt + 12, vec![0x41]),
        ("an empty entry of the PLT", plt, vec![0; length]),
        ("two entries of the PLT swapped", plt, swapped),
    ] {
        scene.one(what, at, bytes);
    }
}

fn calls(scene: &mut Scene) {
    let (module, _, range) = scene.victim.memories[0].clone();
    let functions = scene.functions(&module);
    let calls = (range.start..range.end - 6).step_by(2).filter(|&at| {
        let bytes = scene.relocated(at, 6);
        bytes[0] == 0xc0 && bytes[1] == CALL && !range.contains(&target(bytes, at))
    });
    let call = calls.last().expect("a call of the kernel");
    let to = target(scene.running(call, 6), call);
    scene.one("a call redirected to another function", call, branch(CALL, call, functions[0]));
    scene.one("a call redirected to foreign memory", call, branch(CALL, call, FOREIGN));
    scene.one("a call redirected to the module's PLT", call, branch(CALL, call, range.start));
    scene.one("a call made a branch", call, branch(ALWAYS, call, to));
    scene.one("a call left out", call, [NOP_LONG.to_vec(), NOP.to_vec()].concat());
}

fn alternatives(scene: &mut Scene) {
    let entries = scene.victim.entries(".altinstructions", ALTERNATIVE);
    let sites = entries.into_iter().map(|(module, at)| {
        let length = usize::from(scene.running(at + 12, 1)[0]);
        (module, relative(scene, at), relative(scene, at + 4), length)
    });
    let sites: Vec<_> = sites.filter(|(module, site, ..)| scene.victim.is_text(module, *site)).collect();
    let is_replaced = |site: u64, length: usize| scene.relocated(site, length) != scene.running(site, length);
    let replaced = sites.iter().filter(|(_, site, _, length)| is_replaced(*site, *length));
    let replaced: Vec<(u64, usize)> = replaced.map(|(_, site, _, length)| (*site, *length)).collect();
    let kept = sites.iter().find(|(_, site, _, length)| !is_replaced(*site, *length));
    let kept = kept.map(|(_, site, with, length)| (*site, scene.running(*with, *length).to_vec()));
    let (site, length) = replaced[replaced.len() / 2];
    let as_built = scene.relocated(site, length).to_vec();
    scene.one("one instruction as it was built where others are replaced", site, as_built);
    scene.one("code in place of an alternative", site, RETURN);
    if let Some((site, other)) = kept {
        scene.one("one instruction replaced where others are as they were built", site, other);
    }
}

fn jump_labels(scene: &mut Scene) {
    let entries = scene.victim.entries("__jump_table", LABEL);
    // Keys of modules, as one site may be the only one, and most recordings have none of the kernel's.
    let own = entries.iter().filter(|(module, at)| {
        let key = (at + 8).wrapping_add(word(scene, at + 8)) & !3;
        scene.victim.has(key, 4) && scene.victim.is_text(module, relative(scene, *at))
    });
    let sites: Vec<(u64, u64)> =
        own.map(|(_, at)| (relative(scene, *at), relative(scene, *at + 4))).collect();
    let shows = |kind: u8| sites.iter().find(|(site, _)| scene.running(*site, 2)[1] == kind).copied();
    let (on, off) = (shows(ALWAYS), shows(NEVER));
    let (site, target) = off.expect("a label that is off");
    scene.one("one jump label on", site, branch(ALWAYS, site, target));
    scene.one("a jump label led elsewhere", site, branch(ALWAYS, site, target + 2));
    scene.one("a jump label that is off led elsewhere", site, branch(NEVER, site, target + 2));
    scene.one("a jump label led to foreign memory", site, branch(ALWAYS, site, FOREIGN));
    scene.one("a jump label made a call", site, branch(CALL, site, target));
    if let Some((site, target)) = on {
        scene.one("one jump label off", site, branch(NEVER, site, target));
    }
}

fn tables(scene: &mut Scene) {
    for (table, size, distances) in [
        ("__ex_table", 12, &[0, 4][..]),
        ("__mcount_loc", 8, &[]),
        ("__jump_table", LABEL, &[0, 4]),
        (".altinstructions", ALTERNATIVE, &[0, 4]),
        ("__bug_table", 12, &[0, 4]),
        ("__ksymtab", 24, &[]),
    ] {
        let entries = scene.victim.entries(table, size);
        let length = size as usize;
        let pair = entries.windows(2).find(|pair| {
            pair[0].0 == pair[1].0
                && scene.victim.has(pair[0].1, 2 * length)
                && scene.running(pair[0].1, length) != scene.running(pair[1].1, length)
        });
        let Some([(_, first), (_, second)]) = pair else { continue };
        let (first, second) = (*first, *second);
        let (one, other) = (scene.running(first, length).to_vec(), scene.running(second, length).to_vec());
        let moved = |mut entry: Vec<u8>, by: u64| {
            for &at in distances {
                let field: [u8; 4] = entry[at..at + 4].try_into().expect("4 bytes");
                let distance = u32::from_be_bytes(field).wrapping_add(by as u32);
                entry[at..at + 4].copy_from_slice(&distance.to_be_bytes());
            }
            entry
        };
        scene.one(&format!("two entries of {table} swapped as they are"), first, [&other[..], &one].concat());
        if !distances.is_empty() {
            let swapped = [moved(other, size), moved(one, size.wrapping_neg())].concat();
            scene.one(&format!("two entries of {table} in the wrong order"), first, swapped);
        }
    }
}

fn constants(scene: &mut Scene) {
    let memories = scene.victim.memories.clone();
    for (module, ..) in memories.iter().filter(|(_, kind, _)| *kind == MemoryKind::RoData) {
        // Constants with addresses in them are writable as far as the loader knows, and nobody writes them.
        let Some(table) = scene.victim.section(module, ".data.rel.ro") else { continue };
        let functions = scene.functions(module);
        let mut words = (table.start.next_multiple_of(8)..table.end - 8).step_by(8);
        let Some(at) = words.find(|&at| functions.contains(&word(scene, at))) else { continue };
        let other = functions.iter().find(|&&other| other != word(scene, at)).expect("another");
        scene.one("a pointer in a constant table to another function", at, other.to_be_bytes());
        scene.one("a pointer in a constant table to foreign memory", at, FOREIGN.to_be_bytes());
        break;
    }
    for (what, section) in [
        ("a string changed", ".rodata.str"),
        ("a parameter changed", "__param"),
        ("an export changed", "__ksymtab_strings"),
        ("a build id changed", ".note.gnu.build-id"),
        ("a warning's place changed", "__bug_table"),
    ] {
        let entries = scene.victim.entries(section, 1);
        let Some((_, at)) = entries.iter().find(|(_, at)| scene.victim.has(*at, 1)) else { continue };
        let byte = scene.running(*at, 1)[0] ^ 0x20;
        scene.one(what, *at, [byte]);
    }
}

fn anywhere(scene: &mut Scene) {
    for (what, kind) in
        [("code behind text", MemoryKind::Text), ("data behind constants", MemoryKind::RoData)]
    {
        let padded = scene.victim.memories.iter().find(|(_, other, range)| {
            *other == kind && scene.running(range.end - 64, 64).iter().all(|&byte| byte == 0)
        });
        let Some((_, _, range)) = padded.cloned() else { continue };
        scene.one(what, range.end - 32, branch(ALWAYS, range.end - 32, FOREIGN));
        scene.one(&format!("{what}, its last byte"), range.end - 1, [0x41]);
    }
    // A load of an address: `larl`.
    let (_, _, range) = scene.victim.memories[0].clone();
    let larl = (range.start..range.end - 6).step_by(2).find(|&at| {
        let bytes = scene.running(at, 6);
        bytes[0] == 0xc0 && bytes[1] & 0xf == 0 && bytes == scene.relocated(at, 6)
    });
    let at = larl.expect("an address is loaded");
    let elsewhere = branch(scene.running(at, 2)[1], at, target(scene.running(at, 6), at) + 8);
    scene.one("another address loaded", at, elsewhere);
    scene.one("a breakpoint inside a function", at, BREAKPOINT);
    scene.one("NOPs inside a function", at, NOP_LONG);
}

//! Hooks on arm64.

use std::collections::BTreeMap;

use modmem::layout::MemoryKind;
use xtask::tamper::Change;

use crate::hooks::modules;
use crate::hooks::scene::{Scene, Site};

const NOP: u32 = 0xd503_201f;
const TRAP: u32 = 0xd420_0000;
const RETURN: u32 = 0xd65f_03c0;
const SAVE_RETURN_ADDRESS: u32 = 0xaa1e_03e9;
const B: u32 = 0x1400_0000;
const BL: u32 = 0x9400_0000;
/// Where nothing is, within reach of text and in the range of modules.
const FOREIGN: u64 = 0xffff_8000_7f12_3450;
/// What the kernel allocates lies around there.
const HEAP: u64 = 0xffff_0000_082b_8c00;

pub(crate) fn all(scene: &mut Scene) {
    entries_of_functions(scene);
    trampolines(scene);
    calls(scene);
    alternatives(scene);
    jump_labels(scene);
    tables(scene);
    constants(scene);
    anywhere(scene);
    modules::hidden(scene);
    modules::foreign_memory(scene, FOREIGN & !0xfff);
    modules::of_other_files(scene);
}

fn word(scene: &Scene, at: u64) -> u32 {
    u32::from_le_bytes(scene.running(at, 4).try_into().expect("4 bytes"))
}

fn branch(opcode: u32, from: u64, to: u64) -> [u8; 4] {
    (opcode | (to.wrapping_sub(from) >> 2) as u32 & 0x03ff_ffff).to_le_bytes()
}

fn target(word: u32, from: u64) -> u64 {
    from.wrapping_add(i64::from((word << 6) as i32 >> 4) as u64)
}

/// `adrp x16, to; add x16, x16, #lo12; br x16`
fn stub(at: u64, to: u64) -> Vec<u8> {
    let pages = ((to >> 12).wrapping_sub(at >> 12) & 0x1f_ffff) as u32;
    let adrp = 0x9000_0010 | (pages & 3) << 29 | (pages >> 2) << 5;
    [adrp, 0x9100_0210 | ((to & 0xfff) as u32) << 10, 0xd61f_0200].map(u32::to_le_bytes).concat()
}

fn entries_of_functions(scene: &mut Scene) {
    let entries = scene.victim.entries("__patchable_function_entries", 8);
    // Eight bytes for whoever traces the function, the return address saved, and the call.
    let marks = entries.into_iter().map(|(module, at)| (module, scene.victim.word(at)));
    let marks: Vec<Site> = marks.filter(|(module, mark)| scene.victim.is_text(module, *mark)).collect();
    let (_, mark) = marks[marks.len() / 2].clone();
    let (entry, site) = (mark + 8, mark + 12);
    assert_eq!([word(scene, entry), word(scene, site)], [SAVE_RETURN_ADDRESS, NOP], "nobody traces");
    let (printk, tracer) = (scene.kernel_symbol("_printk"), scene.kernel_symbol("ftrace_caller"));
    let neighbour = marks[marks.len() / 2 + 1].1 + 8;
    let name = &marks[marks.len() / 2].0;
    let far = scene.victim.snapshot.module(name).and_then(|module| module.section(".text.ftrace_trampoline"));
    let far = far.expect("a trampoline");
    for (what, bytes) in [
        ("a branch to foreign memory at a function's entry", branch(B, site, FOREIGN)),
        ("a call of foreign memory at a function's entry", branch(BL, site, FOREIGN)),
        ("a call of the kernel at a function's entry", branch(BL, site, printk)),
        ("a call into the tracer at a function's entry", branch(BL, site, tracer + 8)),
        ("a branch to the tracer at a function's entry", branch(B, site, tracer)),
        ("a call of another function at a function's entry", branch(BL, site, neighbour)),
        ("a detour to the tracer that is not needed", branch(BL, site, far)),
        ("a trap at a function's entry", TRAP.to_le_bytes()),
        ("a return at a function's entry", RETURN.to_le_bytes()),
        ("another NOP at a function's entry", 0xd503_2020_u32.to_le_bytes()),
    ] {
        scene.one(what, site, bytes);
    }
    scene.one("one function's entry as it was built", entry, NOP.to_le_bytes());
    scene.one("a branch before the return address is saved", entry, branch(B, entry, FOREIGN));
    let several = scene.kernel_symbol("ftrace_list_ops");
    for (what, ops) in [
        ("a function marked as traced that is not", several),
        ("a function marked as traced by foreign memory", FOREIGN),
        ("a function marked as traced by the heap that is not", HEAP),
        ("a function whose mark is as it was built", 0xd503_201f_d503_201f),
    ] {
        scene.one(what, mark, ops.to_le_bytes());
    }
    // The tracer is called, but what it finds before the function is not the kernel's, or no address of a structure.
    for (what, ops, callee) in [
        ("a traced function with a foreign mark", FOREIGN, tracer),
        ("a traced function with a mark amid the heap", HEAP + 4, tracer),
        ("a traced function marked by the heap that calls foreign memory", HEAP, FOREIGN),
    ] {
        let traced = [Change::new(mark, ops.to_le_bytes()), Change::new(site, branch(BL, site, callee))];
        let verification = scene.victim.with(&traced);
        scene.verified(what, &verification, |verification| {
            xtask::tamper::unexplained(verification).iter().any(|span| span.address.0.abs_diff(mark) < 16)
        });
    }
}

fn trampolines(scene: &mut Scene) {
    let modules = scene.victim.modules();
    let module = scene.victim.snapshot.module(&modules[modules.len() / 2]).expect("a module");
    let far = module.section(".text.ftrace_trampoline").expect("a trampoline");
    let plt = module.section(".plt").expect("a .plt");
    let (tracer, printk) = (scene.kernel_symbol("ftrace_caller"), scene.kernel_symbol("_printk"));
    assert_eq!(scene.running(far, 12), stub(far, tracer));
    scene.one("the trampoline to the tracer led to foreign memory", far, stub(far, FOREIGN));
    scene.one("the trampoline to the tracer led to the kernel", far, stub(far, printk));
    scene.one("a trampoline that is not there", far, [0; 12]);
    scene.one("a stub that nothing needs", plt, stub(plt, FOREIGN));
}

fn calls(scene: &mut Scene) {
    let (module, _, range) = scene.victim.memories[0].clone();
    let functions = scene.functions(&module);
    let is_call = |at: &u64| {
        let word = word(scene, *at);
        word & 0xfc00_0000 == BL && !range.contains(&target(word, *at))
    };
    let call = (range.start..range.end).step_by(4).find(is_call).expect("a call of the kernel");
    scene.one("a call redirected to another function", call, branch(BL, call, functions[0]));
    scene.one("a call redirected to foreign memory", call, branch(BL, call, FOREIGN));
    scene.one("a call made a branch", call, (word(scene, call) & !0x8000_0000).to_le_bytes());
    scene.one("a call left out", call, NOP.to_le_bytes());
    let address =
        (range.start..range.end).step_by(4).find(|&at| word(scene, at) & 0x9f00_0000 == 0x9000_0000);
    let address = address.expect("an ADRP");
    scene.one("an address led to another page", address, (word(scene, address) ^ 1 << 29).to_le_bytes());
    let saved = (range.start..range.end).step_by(4).find(|&at| word(scene, at) == 0xd503_233f);
    if let Some(at) = saved {
        scene.one("a return address that is not signed", at, NOP.to_le_bytes());
    }
}

fn alternatives(scene: &mut Scene) {
    let mut all: BTreeMap<u16, Vec<(u64, u64, usize)>> = BTreeMap::new();
    for (module, at) in scene.victim.entries(".altinstructions", 12) {
        let (site, replacement) = (scene.victim.relative(at), scene.victim.relative(at + 4));
        let entry = scene.running(at, 12);
        if scene.victim.is_text(&module, site) {
            let capability = u16::from_le_bytes([entry[8], entry[9]]);
            all.entry(capability).or_default().push((site, replacement, usize::from(entry[10])));
        }
    }
    for (capability, sites) in all {
        let what = capability & 0x7fff;
        let (site, replacement, length) = sites[sites.len() / 2];
        scene.one("an alternative with other code", site, TRAP.to_le_bytes());
        if sites.len() < 3 {
            continue;
        }
        let (is, was) = (scene.running(site, length).to_vec(), scene.relocated(site, length).to_vec());
        if is != was {
            scene.one(&format!("one alternative put back ({what})"), site, was);
        } else if capability & 0x8000 != 0 {
            let nops = NOP.to_le_bytes().repeat(length / 4);
            scene.one(&format!("one alternative made NOPs ({what})"), site, nops);
        } else {
            // Atomics need no moving.
            let other = scene.relocated(replacement, length).to_vec();
            if other != is {
                scene.one(&format!("one alternative put in ({what})"), site, other);
            }
        }
    }
}

fn jump_labels(scene: &mut Scene) {
    let mut keys: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for (module, at) in scene.victim.entries("__jump_table", 16) {
        let (site, to) = (scene.victim.relative(at), scene.victim.relative(at + 4));
        if scene.victim.is_text(&module, site) {
            let key = (at + 8).wrapping_add(scene.victim.word(at + 8)) & !3;
            keys.entry(key).or_default().push((site, to));
        }
    }
    let mut played: BTreeMap<&str, usize> = BTreeMap::new();
    for (key, sites) in keys {
        let what = match (scene.victim.has(key, 4), sites.len()) {
            (true, _) => "a jump label flipped, its key in a module",
            (false, 3..) => "a jump label flipped, its key in the kernel",
            _ => continue,
        };
        let count = played.entry(what).or_default();
        *count += 1;
        if *count > 2 {
            continue;
        }
        for (site, to) in [sites[0], sites[sites.len() - 1]] {
            let off = word(scene, site) == NOP;
            scene.one(what, site, if off { branch(B, site, to) } else { NOP.to_le_bytes() });
            scene.one("a jump label led elsewhere", site, branch(B, site, to + 4));
            scene.one("a jump label led to foreign memory", site, branch(B, site, FOREIGN));
            scene.one("a jump label made a call", site, branch(BL, site, to));
        }
    }
}

fn tables(scene: &mut Scene) {
    for (table, size, distances) in [
        ("__ex_table", 12, &[0, 4][..]),
        ("__patchable_function_entries", 8, &[]),
        ("__jump_table", 16, &[0, 4]),
        (".altinstructions", 12, &[0, 4]),
        ("__ksymtab", 12, &[0, 4, 8]),
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
                let distance = u32::from_le_bytes(field).wrapping_add(by as u32);
                entry[at..at + 4].copy_from_slice(&distance.to_le_bytes());
            }
            if table == "__jump_table" {
                let field: [u8; 8] = entry[8..16].try_into().expect("8 bytes");
                entry[8..16].copy_from_slice(&u64::from_le_bytes(field).wrapping_add(by).to_le_bytes());
            }
            entry
        };
        scene.one(&format!("two entries of {table} swapped as they are"), first, [&other[..], &one].concat());
        let swapped = [moved(other, size), moved(one, size.wrapping_neg())].concat();
        scene.one(&format!("two entries of {table} in the wrong order"), first, swapped);
    }
}

fn constants(scene: &mut Scene) {
    let memories = scene.victim.memories.clone();
    for (module, _, range) in memories.iter().filter(|(_, kind, _)| *kind == MemoryKind::RoData) {
        let Some(rodata) = scene.victim.section(module, ".rodata") else { continue };
        let functions = scene.functions(module);
        let mut words = (rodata.start.next_multiple_of(8)..rodata.end.min(range.end) - 8).step_by(8);
        let Some(at) = words.find(|&at| functions.contains(&scene.victim.word(at))) else { continue };
        let other = functions.iter().find(|&&other| other != scene.victim.word(at)).expect("another");
        scene.one("a pointer in a constant table to another function", at, other.to_le_bytes());
        scene.one("a pointer in a constant table to foreign memory", at, FOREIGN.to_le_bytes());
        break;
    }
    for (what, section) in [
        ("a string changed", ".rodata.str1.8"),
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
        scene.one(what, range.end - 32, branch(B, range.end - 32, FOREIGN));
        scene.one(&format!("{what}, its last byte"), range.end - 1, [0x41]);
    }
    let (_, _, range) = scene.victim.memories[0].clone();
    let middle = (range.start + (range.end - range.start) / 3) & !3;
    scene.one("a trap inside a function", middle, TRAP.to_le_bytes());
    scene.one("a branch inside a function", middle, branch(B, middle, FOREIGN));
}

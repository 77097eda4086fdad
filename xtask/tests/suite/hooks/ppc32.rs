//! Hooks on 32-bit PowerPC.

use modmem::image::{Image, SymbolPlace};
use modmem::layout::MemoryKind;
use xtask::tamper::Change;

use crate::hooks::scene::{Scene, Site};

const NOP: u32 = 0x6000_0000;
const MFLR: u32 = 0x7c08_02a6;
const TRAP: u32 = 0x7fe0_0008;
const RETURN: u32 = 0x4e80_0020;
/// Where nothing is, within reach of text: below all modules.
const FOREIGN: u64 = 0xbd12_3450;
/// Bytes of a stub, and of an entry of the jump table.
const STUB: u64 = 16;
const LABEL: u64 = 12;

pub(crate) fn all(scene: &mut Scene) {
    entries_of_functions(scene);
    stubs(scene);
    calls(scene);
    jump_labels(scene);
    barriers(scene);
    tables(scene);
    constants(scene);
    anywhere(scene);
}

fn word(scene: &Scene, at: u64) -> u32 {
    u32::from_be_bytes(scene.running(at, 4).try_into().expect("4 bytes"))
}

fn branch(from: u64, to: u64, link: u32) -> [u8; 4] {
    (0x4800_0000 | (to.wrapping_sub(from) as u32 & 0x03ff_fffc) | link).to_be_bytes()
}

fn target(word: u32, from: u64) -> u64 {
    from.wrapping_add(i64::from((word << 6) as i32 >> 6 & !3) as u64)
}

fn entries_of_functions(scene: &mut Scene) {
    let entries = scene.victim.entries("__patchable_function_entries", 4);
    let sites = entries.into_iter().map(|(module, at)| (module, u64::from(word(scene, at)) + 4));
    let sites: Vec<Site> = sites.filter(|(module, site)| scene.victim.is_text(module, *site)).collect();
    let (module, site) = sites[sites.len() / 2].clone();
    let (printk, tracer) = (scene.kernel_symbol("_printk"), scene.kernel_symbol("ftrace_caller"));
    let plt = scene.victim.snapshot.module(&module).and_then(|module| module.section(".plt"));
    let neighbour = sites[sites.len() / 2 + 1].1;
    for (what, bytes) in [
        ("a branch to foreign memory at a function's entry", branch(site, FOREIGN, 0)),
        ("a call of foreign memory at a function's entry", branch(site, FOREIGN, 1)),
        ("a call of the kernel at a function's entry", branch(site, printk, 1)),
        ("a call into the tracer at a function's entry", branch(site, tracer + 8, 1)),
        ("a branch to the tracer at a function's entry", branch(site, tracer, 0)),
        ("a branch to another function at a function's entry", branch(site, neighbour, 0)),
        ("a call into a stub at a function's entry", branch(site, plt.expect("a .plt") + 4, 1)),
        ("a trap at a function's entry", TRAP.to_be_bytes()),
        ("a return at a function's entry", RETURN.to_be_bytes()),
        ("another NOP at a function's entry", 0x6042_0000_u32.to_be_bytes()),
    ] {
        scene.one(what, site, bytes);
    }
    assert_eq!(word(scene, site - 4), MFLR);
    scene.one("one function's entry as it was built", site - 4, NOP.to_be_bytes());
}

fn stubs(scene: &mut Scene) {
    let entries = scene.victim.snapshot.modules.iter();
    let tables: Vec<u64> = entries.filter_map(|module| module.section(".plt")).collect();
    let tracer = scene.kernel_symbol("ftrace_caller");
    let stub = |to: u64| {
        let (upper, lower) = ((to as u32).wrapping_add(0x8000) >> 16, to as u32 & 0xffff);
        [0x3d80_0000 | upper, 0x398c_0000 | lower, 0x7d89_03a6, 0x4e80_0420].map(u32::to_be_bytes).concat()
    };
    let table =
        *tables.iter().find(|&&at| scene.running(at, 16) == stub(tracer)).expect("a stub to the tracer");
    scene.one("a stub to the tracer led to foreign memory", table, stub(FOREIGN));
    scene.one("a stub to the tracer led to the kernel", table, stub(scene.kernel_symbol("_printk")));
    scene.one("a stub that is not there", table, [0; 16]);
    scene.one("a stub too many", table + 2 * STUB, stub(FOREIGN));
    let swapped = [scene.running(table + STUB, 16), scene.running(table, 16)].concat();
    scene.one("two stubs swapped", table, swapped);
}

fn calls(scene: &mut Scene) {
    let (module, _, range) = scene.victim.memories[0].clone();
    let functions = scene.functions(&module);
    let call = (range.start..range.end).step_by(4).find(|&at| {
        let word = word(scene, at);
        word & 0xfc00_0003 == 0x4800_0001 && !range.contains(&target(word, at))
    });
    let call = call.expect("a call of the kernel");
    scene.one("a call redirected to another function", call, branch(call, functions[0], 1));
    scene.one("a call redirected to foreign memory", call, branch(call, FOREIGN, 1));
    scene.one("a call made a branch", call, (word(scene, call) & !1).to_be_bytes());
    scene.one("a call left out", call, NOP.to_be_bytes());
}

fn jump_labels(scene: &mut Scene) {
    let entries = scene.victim.entries("__jump_table", LABEL);
    // Keys of modules: those of the kernel are not in what was recorded, and one site may be the only one.
    let own = entries.iter().filter(|(module, at)| {
        let key = (at + 8).wrapping_add(i64::from(word(scene, at + 8) as i32) as u64) & !3;
        let code = at.wrapping_add(i64::from(word(scene, *at) as i32) as u64);
        scene.victim.has(key, 4) && scene.victim.is_text(module, code)
    });
    let code = |at: u64| at.wrapping_add(i64::from(word(scene, at) as i32) as u64);
    let sites: Vec<(u64, u64)> = own.map(|&(_, at)| (at, code(at))).collect();
    let to = |at: u64| (at + 4).wrapping_add(i64::from(word(scene, at + 4) as i32) as u64);
    let off = sites.iter().find(|(_, site)| word(scene, *site) == NOP).copied();
    let (entry, site) = off.expect("a label that is off");
    let target = to(entry);
    scene.one("one jump label on", site, branch(site, target, 0));
    scene.one("a jump label led elsewhere", site, branch(site, target + 4, 0));
    scene.one("a jump label led to foreign memory", site, branch(site, FOREIGN, 0));
    scene.one("a jump label made a call", site, branch(site, target, 1));
    if let Some(&(_, site)) = sites.iter().find(|(_, site)| word(scene, *site) != NOP) {
        scene.one("one jump label off", site, NOP.to_be_bytes());
    }
}

fn barriers(scene: &mut Scene) {
    let entries = scene.victim.entries("__lwsync_fixup", 4).into_iter();
    let sites =
        entries.map(|(module, at)| (module, at.wrapping_add(i64::from(word(scene, at) as i32) as u64)));
    let sites: Vec<Site> = sites.filter(|(module, site)| scene.victim.is_text(module, *site)).collect();
    let Some((_, site)) = sites.get(sites.len() / 2).cloned() else { return };
    scene.one("one light barrier where the others are heavy", site, 0x7c20_04ac_u32.to_be_bytes());
    scene.one("a barrier left out", site, NOP.to_be_bytes());
}

fn tables(scene: &mut Scene) {
    for (table, size, distances) in [
        ("__ex_table", 8, &[0, 4][..]),
        ("__patchable_function_entries", 4, &[]),
        ("__jump_table", LABEL, &[0, 4, 8]),
        ("__lwsync_fixup", 4, &[0]),
        ("__ksymtab", 12, &[]),
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
        let swapped = [moved(other, size), moved(one, size.wrapping_neg())].concat();
        scene.one(&format!("two entries of {table} in the wrong order"), first, swapped);
    }
}

fn constants(scene: &mut Scene) {
    let memories = scene.victim.memories.clone();
    for (module, _, range) in memories.iter().filter(|(_, kind, _)| *kind == MemoryKind::RoData) {
        let Some(rodata) = scene.victim.section(module, ".rodata") else { continue };
        let functions = scene.functions(module);
        let mut words = (rodata.start.next_multiple_of(4)..rodata.end.min(range.end) - 4).step_by(4);
        let Some(at) = words.find(|&at| functions.contains(&u64::from(word(scene, at)))) else { continue };
        let other = functions.iter().find(|&&other| other != u64::from(word(scene, at))).expect("another");
        let other = (*other as u32).to_be_bytes();
        scene.one("a pointer in a constant table to another function", at, other);
        scene.one("a pointer in a constant table to foreign memory", at, (FOREIGN as u32).to_be_bytes());
        break;
    }
    for (what, section) in [
        ("a string changed", ".rodata.str1.4"),
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
        scene.one(what, range.end - 32, branch(range.end - 32, FOREIGN, 0));
        scene.one(&format!("{what}, its last byte"), range.end - 1, [0x41]);
    }
    // An address in two halves: one instruction of such a pair.
    let (module, _, range) = scene.victim.memories[0].clone();
    let image = Image::parse(&scene.victim.files[&module]).expect("a module");
    let text = image.section(".text").expect("text");
    let sections = image.relocations().filter(|section| section.target().index() == text.index());
    let halves = sections.flat_map(|section| section.iter()).find(|relocation| {
        let symbol = image.symbols().get(relocation.symbol as usize);
        relocation.kind == 4 && symbol.is_some_and(|symbol| symbol.place != SymbolPlace::Undefined)
    });
    let offset = halves.expect("the lower half of an address").offset & !3;
    let at = scene.victim.snapshot.module(&module).and_then(|module| module.section(".text")).expect(".text");
    let at = at + offset;
    assert!(range.contains(&at));
    scene.found(
        "the lower half of an address changed",
        &[Change::new(at, (word(scene, at) ^ 0x10).to_be_bytes())],
    );
    scene.one("a trap inside a function", at, TRAP.to_be_bytes());
}

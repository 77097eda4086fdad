//! Code changed where the kernel patches code, and where it does not.

use modmem::layout::MemoryKind;

use crate::hooks::scene::{FOREIGN, Scene, Site, branch, target};

pub(crate) fn entries_of_functions(scene: &mut Scene) {
    let entries = scene.victim.entries("__mcount_loc", 8).into_iter();
    let sites: Vec<Site> = entries.map(|(module, at)| (module, scene.victim.word(at))).collect();
    let sites: Vec<Site> =
        sites.into_iter().filter(|(module, site)| scene.victim.is_text(module, *site)).collect();
    let (module, site) = sites[sites.len() / 2].clone();
    let (printk, tracer) = (scene.kernel_symbol("_printk"), scene.kernel_symbol("ftrace_caller"));
    let neighbour = sites[sites.len() / 2 + 1].1;
    for (what, bytes) in [
        ("a jump to foreign memory at a function's entry", branch(0xe9, site, FOREIGN)),
        ("a call of foreign memory at a function's entry", branch(0xe8, site, FOREIGN)),
        ("a call of the kernel at a function's entry", branch(0xe8, site, printk)),
        ("a jump to another function at a function's entry", branch(0xe9, site, neighbour)),
        ("a jump to the tracer at a function's entry", branch(0xe9, site, tracer)),
        ("a call into the tracer at a function's entry", branch(0xe8, site, tracer + 8)),
        ("a short jump at a function's entry", vec![0xeb, 0x10]),
        ("a breakpoint at a function's entry", vec![0xcc]),
        ("a return at a function's entry", vec![0xc3]),
        ("another NOP at a function's entry", vec![0x66, 0x66, 0x66, 0x66, 0x90]),
    ] {
        scene.one(what, site, bytes);
    }
    scene.one("a jump behind the NOP at a function's entry", site + 5, branch(0xe9, site + 5, FOREIGN));
    let far = |address: &u64| sites.iter().all(|(_, site)| address.abs_diff(*site) > 64);
    let plain = scene.functions(&module).into_iter().find(far);
    if let Some(at) = plain {
        scene.one("a jump at the entry of a function without NOP", at, branch(0xe9, at, FOREIGN));
    }
}

pub(crate) fn calls_and_returns(scene: &mut Scene) {
    // A call within a module: those of one of its functions by another.
    let (module, _, range) = scene.victim.memories[0].clone();
    let functions = scene.functions(&module);
    let call = (range.start..range.end - 5).find(|&at| {
        let bytes = scene.relocated(at, 5);
        bytes[0] == 0xe8 && functions.contains(&target(bytes, at)) && scene.running(at, 5) == bytes
    });
    let call = call.expect("a call");
    let other = functions.iter().find(|&&other| other != target(scene.running(call, 5), call));
    scene.one("a call redirected to another function", call, branch(0xe8, call, *other.expect("another")));
    scene.one("a call redirected to foreign memory", call, branch(0xe8, call, FOREIGN));
    scene.one("a call made a jump", call, [0xe9]);

    for (_, site) in scene.victim.sites(".call_sites").into_iter().take(1) {
        let to = target(scene.running(site, 5), site);
        scene.one("a call led into the padding before its function", site, branch(0xe8, site, to - 9));
        scene.one("a call site led to the kernel", site, branch(0xe8, site, scene.kernel_symbol("_printk")));
    }

    let returns = scene.victim.sites(".return_sites");
    let (_, site) = returns[returns.len() / 2].clone();
    let thunk = scene.kernel_symbol("__x86_return_thunk");
    if scene.running(site, 1) == [0xc3] {
        scene.one("one return made a jump to the return thunk", site, branch(0xe9, site, thunk));
    } else {
        scene.one("one return without thunk", site, [0xc3, 0xcc, 0xcc, 0xcc, 0xcc]);
    }
    scene.one("a return led to foreign memory", site, branch(0xe9, site, FOREIGN));
    scene.one("a return that goes on", site, [0x0f, 0x1f, 0x44, 0x00, 0x00]);

    let retpolines = scene.victim.sites(".retpoline_sites");
    let thunks = scene.kernel_symbol("__x86_indirect_thunk_array");
    let simple = retpolines.iter().find(|(_, site)| {
        let bytes = scene.running(*site, 5);
        bytes[0] == 0xe8 && target(bytes, *site).wrapping_sub(thunks) < 8 * 32
    });
    let (_, site) = simple.cloned().expect("a call of a retpoline");
    let register = ((target(scene.running(site, 5), site) - thunks) / 32) as u8;
    let other = thunks + u64::from(register ^ 1) * 32;
    let call = 0xd0 + register;
    for (what, bytes) in [
        ("one retpoline made an indirect call", vec![0xff, call, 0x0f, 0x1f, 0x00]),
        ("one retpoline made an indirect call with prefixes", vec![0x2e, 0x2e, 0x2e, 0xff, call]),
        ("one retpoline made a fenced indirect call", vec![0x0f, 0xae, 0xe8, 0xff, call]),
        ("a retpoline of another register", branch(0xe8, site, other)),
        ("a retpoline led to foreign memory", branch(0xe8, site, FOREIGN)),
        ("a retpoline led to a place where a thunk might be", branch(0xe8, site, (FOREIGN & !0xfff) + 32)),
        ("a retpoline made a jump", branch(0xe9, site, thunks + u64::from(register) * 32)),
    ] {
        scene.one(what, site, bytes);
    }
}

pub(crate) fn anywhere(scene: &mut Scene) {
    for (kind, code) in [(MemoryKind::Text, true), (MemoryKind::RoData, false)] {
        let padded = scene.victim.memories.iter().find(|(_, other, range)| {
            *other == kind && scene.running(range.end - 64, 64).iter().all(|byte| matches!(byte, 0 | 0xcc))
        });
        let Some((_, _, range)) = padded.cloned() else { continue };
        let at = range.end - 32;
        match code {
            true => {
                scene.one("code in the padding behind text", at, branch(0xe9, at, FOREIGN));
                scene.one("a byte in the last place of text", range.end - 1, [0xc3]);
            }
            false => {
                scene.one("data in the padding behind read-only data", at, FOREIGN.to_le_bytes());
                scene.one("a byte in the last place of read-only data", range.end - 1, [0x41]);
            }
        }
    }
    let (_, _, range) = scene.victim.memories[0].clone();
    let middle = range.start + (range.end - range.start) / 3;
    let at = (middle..range.end).find(|&at| scene.running(at, 1) == [0x48]).expect("an instruction");
    scene.one("a breakpoint inside a function", at, [0xcc]);
    scene.one("NOPs inside a function", at, [0x66, 0x90]);
    let hole = (range.start..range.end - 16).find(|&at| {
        let gap = scene.running(at, 11);
        gap.iter().all(|byte| matches!(byte, 0x90 | 0xcc))
    });
    if let Some(at) = hole {
        scene.one("code in a gap between functions", at + 3, branch(0xe9, at + 3, FOREIGN));
    }
}

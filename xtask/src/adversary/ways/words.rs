//! What the kernel's own words say, and the code that goes by them.

use crate::adversary::intruder::{CODE, Intruder};

const CALL: u8 = 0xe8;
const JUMP: u8 = 0xe9;
const LOCK: u8 = 0xf0;
const NO_LOCK: u8 = 0x3e;
/// Bytes of the code that counts calls.
const COUNT: usize = 9;

/// Takes all lock prefixes out, or puts all in where they are out.
fn all_locks(intruder: &mut Intruder<'_>) -> Option<()> {
    let sites = intruder.machine.sites(".smp_locks");
    let is = |site: &u64, byte: u8| intruder.machine.bytes(*site, 1) == Some(&[byte]);
    let out: Vec<u64> = sites.iter().filter(|site| is(site, NO_LOCK)).copied().collect();
    let (sites, other) = match out.is_empty() {
        true => (sites.into_iter().filter(|site| is(site, LOCK)).collect(), NO_LOCK),
        false => (out, LOCK),
    };
    (sites.len() > 1).then_some(())?;
    sites.into_iter().try_for_each(|site| intruder.write(site, &[other]))
}

pub(super) fn locks_out(intruder: &mut Intruder<'_>) -> Option<()> {
    intruder.cpus = Some(1);
    all_locks(intruder)
}

pub(super) fn locks_unread(intruder: &mut Intruder<'_>) -> Option<()> {
    intruder.cpus = Some(1);
    if let Some(word) = intruder.machine.kernel("uniproc_patched") {
        let _ = intruder.forget(word);
    }
    all_locks(intruder)
}

pub(super) fn locks_word(intruder: &mut Intruder<'_>) -> Option<()> {
    intruder.cpus = Some(2);
    let sites = intruder.machine.sites(".smp_locks");
    if sites.iter().any(|site| intruder.machine.bytes(*site, 1) == Some(&[NO_LOCK])) {
        // They are out already, as one CPU was online.
        return Some(());
    }
    if let Some(word) = intruder.machine.kernel("uniproc_patched") {
        let _ = intruder.write(word, &[1]);
    }
    all_locks(intruder)
}

pub(super) fn lock_out(intruder: &mut Intruder<'_>) -> Option<()> {
    let sites = intruder.machine.sites(".smp_locks");
    (sites.len() > 2).then_some(())?;
    let (site, byte) = sites.into_iter().find_map(|site| match intruder.machine.bytes(site, 1)? {
        [LOCK] => Some((site, NO_LOCK)),
        [NO_LOCK] => Some((site, LOCK)),
        _ => None,
    })?;
    intruder.write(site, &[byte])
}

pub(super) fn return_thunk(intruder: &mut Intruder<'_>) -> Option<()> {
    let word = intruder.machine.kernel("x86_return_thunk")?;
    let thunk = intruder.machine.word(word)?;
    let own = intruder.pages(1)?;
    intruder.write(word, &own.to_le_bytes())?;
    let mut any = None;
    for site in intruder.machine.sites(".return_sites") {
        let bytes = intruder.machine.bytes(site, 5)?;
        let target =
            (site + 5).wrapping_add_signed(i64::from(i32::from_le_bytes(*bytes[1..].first_chunk()?)));
        if bytes[0] == JUMP && target == thunk {
            any = intruder.branch(JUMP, site, own);
        }
    }
    any
}

/// A static call that is a call now: site, key, and what the key holds.
fn a_static_call(intruder: &Intruder<'_>, read: bool) -> Option<(u64, u64)> {
    intruder.machine.static_calls().into_iter().find(|(site, key)| {
        intruder.machine.bytes(*site, 1) == Some(&[CALL]) && (!read || intruder.machine.word(*key).is_some())
    })
}

/// Turns all sites of a key to a function.
fn turn(intruder: &mut Intruder<'_>, key: u64, function: u64) -> Option<()> {
    for (site, other) in intruder.machine.static_calls() {
        let opcode = *intruder.machine.bytes(site, 1)?.first()?;
        if other == key && matches!(opcode, CALL | JUMP) {
            intruder.branch(opcode, site, function)?;
        }
    }
    Some(())
}

pub(super) fn static_call(intruder: &mut Intruder<'_>) -> Option<()> {
    let (site, _) = a_static_call(intruder, false)?;
    let own = intruder.pages(1)?;
    intruder.branch(CALL, site, own)
}

pub(super) fn static_call_key(intruder: &mut Intruder<'_>) -> Option<()> {
    static_call_own(intruder).map(drop)
}

/// Leads a static call to own code, key and sites; where that is.
fn static_call_own(intruder: &mut Intruder<'_>) -> Option<u64> {
    let (_, key) = a_static_call(intruder, true)?;
    let own = intruder.pages(1)?;
    intruder.write(key, &own.to_le_bytes())?;
    turn(intruder, key, own)?;
    Some(own)
}

pub(super) fn static_call_symbol(intruder: &mut Intruder<'_>) -> Option<()> {
    let own = static_call_own(intruder)?;
    intruder.list("a_function_of_the_kernel", own, 't', None);
    Some(())
}

pub(super) fn static_call_module(intruder: &mut Intruder<'_>) -> Option<()> {
    let own = static_call_own(intruder)?;
    let (module, _) = intruder.machine.largest()?;
    intruder.list("a_function_of_the_module", own, 't', Some(module));
    Some(())
}

pub(super) fn static_call_middle(intruder: &mut Intruder<'_>) -> Option<()> {
    let (_, key) = a_static_call(intruder, true)?;
    let (module, text) = intruder.machine.largest()?;
    let middle = text.start + (text.end - text.start) / 2 + 3;
    intruder.write(key, &middle.to_le_bytes())?;
    turn(intruder, key, middle)?;
    intruder.list("a_function_of_the_module", middle, 't', Some(module));
    Some(())
}

pub(super) fn static_call_unread(intruder: &mut Intruder<'_>) -> Option<()> {
    let (_, key) = a_static_call(intruder, false)?;
    let _ = intruder.forget(key);
    let other = intruder.machine.kernel("commit_creds")?;
    turn(intruder, key, other)
}

/// A branch of five bytes on a key, as it is turned.
fn turned(intruder: &Intruder<'_>, site: u64) -> Option<[u8; 5]> {
    const NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];
    (intruder.machine.bytes(site, 5)? == NOP).then_some([JUMP, 0x10, 0, 0, 0])
}

pub(super) fn label(intruder: &mut Intruder<'_>) -> Option<()> {
    let labels = intruder.machine.jump_labels().into_iter();
    let jump = |site: u64| intruder.machine.bytes(site, 1) == Some(&[JUMP]);
    let nop = [0x0f, 0x1f, 0x44, 0, 0];
    match labels.map(|(site, _)| site).find(|site| jump(*site)) {
        Some(site) => intruder.write(site, &nop),
        None => {
            let mut labels = intruder.machine.jump_labels().into_iter();
            let (site, code) = labels.find_map(|(site, _)| Some((site, turned(intruder, site)?)))?;
            intruder.write(site, &code)
        }
    }
}

pub(super) fn label_unread(intruder: &mut Intruder<'_>) -> Option<()> {
    let labels = intruder.machine.jump_labels();
    let is_jump = |site: u64| intruder.machine.bytes(site, 1) == Some(&[JUMP]);
    let key = labels.iter().find(|(site, _)| is_jump(*site))?.1;
    let _ = intruder.forget(key);
    for (site, other) in labels.iter().filter(|(site, _)| is_jump(*site)) {
        if *other == key {
            intruder.write(*site, &[0x0f, 0x1f, 0x44, 0, 0])?;
        }
    }
    // Short ones too would have to be turned.
    labels.iter().filter(|(_, other)| *other == key).all(|(site, _)| is_jump(*site)).then_some(())
}

pub(super) fn paravirt(intruder: &mut Intruder<'_>) -> Option<()> {
    let table = intruder.machine.kernel("pv_ops")?;
    // The slot that most calls go to.
    let own = intruder.pages(1)?;
    let mut slots: Vec<(u64, u64)> = Vec::new();
    for at in (table..table + 1024).step_by(8) {
        let Some(function) = intruder.machine.word(at).filter(|function| *function != 0) else { continue };
        slots.push((at, function));
    }
    let mut any = None;
    for site in intruder.machine.alternative_sites() {
        let Some([CALL, distance @ ..]) = intruder.machine.bytes(site, 5) else { continue };
        let target = (site + 5).wrapping_add_signed(i64::from(i32::from_le_bytes(*distance.first_chunk()?)));
        let mut of_slot = slots.iter().filter(|(_, function)| *function == target);
        if let (Some((slot, _)), None) = (of_slot.next(), of_slot.next()) {
            intruder.write(*slot, &own.to_le_bytes())?;
            any = intruder.branch(CALL, site, own);
        }
    }
    any
}

pub(super) fn counting(intruder: &mut Intruder<'_>) -> Option<()> {
    let template = intruder.machine.kernel("skl_call_thunk_template")?;
    let (_, text) = intruder.machine.largest()?;
    let bytes = intruder.machine.bytes(text.start, (text.end - text.start) as usize)?;
    let count = [0x65, 0x48, 0xc1, 0x3d];
    let places: Vec<u64> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, w)| *w == count)
        .map(|(at, _)| text.start + at as u64)
        .collect();
    (!places.is_empty()).then_some(())?;
    intruder.write(template, &CODE[..COUNT])?;
    places.into_iter().try_for_each(|at| intruder.write(at, &CODE[..COUNT]))
}

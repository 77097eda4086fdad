//! Tables that the loader sorts and rewrites, whatever the machine.

use alloc::vec::Vec;

use super::Standing;
use super::Variable;
use super::kernel_sort::kernel_sort;
use super::subject::Subject;
use super::{OutOfMemory, Rule};
use crate::address::RunAddr;
use crate::image::elf::ByteOrder;
use crate::image::{Symbol, SymbolPlace};
use crate::name::Name;

/// One entry of `__jump_table` (`struct jump_entry`, relative form).
#[derive(Clone, Copy, Debug)]
pub(crate) struct JumpEntry {
    /// Where the branch is.
    pub(crate) code: RunAddr,
    /// Where it goes.
    pub(crate) target: RunAddr,
    /// The static key that decides.
    pub(crate) key: RunAddr,
    /// Whether the branch is taken while the key is off.
    pub(crate) inverted: bool,
}

/// One entry of `.static_call_sites` (`struct static_call_site`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct StaticCallSite {
    /// Where the call is.
    pub(crate) code: RunAddr,
    /// The key that says what is called.
    pub(crate) key: RunAddr,
    /// Whether it is a jump at a function's end.
    pub(crate) tail: bool,
}

/// How many entries of that size there are, at most as many as there are bytes.
fn entries<T>(size: u64, entry: u64) -> Result<Vec<T>, OutOfMemory> {
    let mut list = Vec::new();
    list.try_reserve_exact((size / entry) as usize).map_err(|_| OutOfMemory)?;
    Ok(list)
}

fn ordering<T: Ord>(a: T, b: T) -> i32 {
    a.cmp(&b) as i32
}

/// `__ex_table`: instruction, fixup and what to do there, sorted by instruction (lib/extable.c:sort_extable).
///
/// The first two are 32-bit distances from their own places, which change with those; what follows them, 4 bytes on
/// most machines and none on powerpc, goes along as it is: but where it is the distance of a handler, which changes too
/// (`handlers`). `entry` is the size of it all.
pub(crate) fn exceptions<K>(
    subject: &mut Subject<'_, '_, K>,
    entry: u64,
    handlers: bool,
) -> Result<(), OutOfMemory> {
    const LARGEST: usize = 12;
    let Some((table, size)) = subject.section("__ex_table") else { return Ok(()) };
    let format = subject.module.format();
    let order = format.order;
    let mut list = entries(size, entry)?;
    for index in 0..size / entry {
        let at = table + index * entry;
        let module = &subject.module;
        let (Some(insn), Some(fixup), Some(bytes)) =
            (module.offset32(at), module.offset32(at + 4), module.ours(at, entry as usize))
        else {
            return Ok(());
        };
        let handler = if handlers { module.offset32(at + 8) } else { None };
        let mut rest = [0; LARGEST];
        rest[..bytes.len()].copy_from_slice(bytes);
        let wrap = |address: RunAddr| RunAddr(format.wrap(address.0));
        let handler = handler.map(|handler| wrap(at + 8 + handler as u64));
        list.push((wrap(at + insn as u64), wrap(at + 4 + fixup as u64), handler, rest));
    }
    kernel_sort(&mut list, subject.profile.patching.sort, |a, b| ordering(a.0, b.0));
    for (index, (insn, fixup, handler, mut bytes)) in (0..).zip(list) {
        let at = table + index * entry;
        bytes[..4].copy_from_slice(&distance(order, insn, at));
        bytes[4..8].copy_from_slice(&distance(order, fixup, at + 4));
        if let Some(handler) = handler {
            bytes[8..12].copy_from_slice(&distance(order, handler, at + 8));
        }
        subject.module.write(at, &bytes[..entry as usize], Rule::SortedTable, Standing::Certain);
    }
    Ok(())
}

fn distance(order: ByteOrder, to: RunAddr, from: RunAddr) -> [u8; 4] {
    order.bytes_of_u32(to.0.wrapping_sub(from.0) as u32)
}

/// `__mcount_loc`: addresses of function entries, sorted (kernel/trace/ftrace.c:ftrace_process_locs). Machines whose
/// compiler lists them in sections of their own name that section.
pub(crate) fn function_entries<K>(
    subject: &mut Subject<'_, '_, K>,
    section: &str,
) -> Result<Vec<RunAddr>, OutOfMemory> {
    let Some((table, size)) = subject.section(section) else { return Ok(Vec::new()) };
    let format = subject.module.format();
    let word = format.word() as u64;
    let mut list: Vec<u64> = entries(size, word)?;
    for index in 0..size / word {
        let Some(address) = subject.module.word(table + index * word) else { return Ok(Vec::new()) };
        list.push(address);
    }
    let was_sorted = list.is_sorted();
    kernel_sort(&mut list, subject.profile.patching.sort, |a, b| ordering(a, b));
    let mut addresses = entries(size, word)?;
    for (index, address) in (0..).zip(list) {
        if !was_sorted {
            let place = table + index * word;
            let bytes = format.bytes_of_word(address);
            subject.module.write(place, bytes.as_ref(), Rule::SortedTable, Standing::Certain);
        }
        addresses.push(RunAddr(address));
    }
    Ok(addresses)
}

/// `__jump_table`: two 32-bit distances and one as wide as an address, sorted by key and code, with a bit that marks
/// init code (kernel/jump_label.c).
pub(crate) fn jump_labels<K>(subject: &mut Subject<'_, '_, K>) -> Result<Vec<JumpEntry>, OutOfMemory> {
    let Some((table, size)) = subject.section("__jump_table") else { return Ok(Vec::new()) };
    let format = subject.module.format();
    let entry = 8 + format.word() as u64;
    let mut list: Vec<JumpEntry> = entries(size, entry)?;
    for index in 0..size / entry {
        let at = table + index * entry;
        let module = &subject.module;
        let (Some(code), Some(target), Some(key)) =
            (module.offset32(at), module.offset32(at + 4), module.word(at + 8))
        else {
            return Ok(Vec::new());
        };
        // The flags are part of the distance: keys are aligned.
        let key = format.wrap((at + 8).0.wrapping_add(key));
        list.push(JumpEntry {
            code: RunAddr(format.wrap(at.0.wrapping_add(code as u64))),
            target: RunAddr(format.wrap((at + 4).0.wrapping_add(target as u64))),
            key: RunAddr(key & !3),
            inverted: key & 1 != 0,
        });
    }
    kernel_sort(&mut list, subject.profile.patching.sort, |a, b| ordering((a.key, a.code), (b.key, b.code)));
    for (index, JumpEntry { code, target, key, inverted }) in (0..).zip(list.iter().copied()) {
        let at = table + index * entry;
        let init = subject.module.kind_at(code).is_some_and(|kind| kind.is_init());
        let flags = u64::from(inverted) | u64::from(init) << 1;
        let key = format.bytes_of_word((key.0 | flags).wrapping_sub((at + 8).0));
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&distance(format.order, code, at));
        bytes[4..8].copy_from_slice(&distance(format.order, target, at + 4));
        bytes[8..entry as usize].copy_from_slice(key.as_ref());
        subject.module.write(at, &bytes[..entry as usize], Rule::RewrittenTable, Standing::Certain);
    }
    Ok(list)
}

/// `.static_call_sites`: keys looked up, sorted by key, init code marked (kernel/static_call_inline.c).
pub(crate) fn static_calls<K>(subject: &mut Subject<'_, '_, K>) -> Result<Vec<StaticCallSite>, OutOfMemory> {
    const ENTRY: u64 = 8;
    const TAIL: u64 = 1;
    const INIT: u64 = 2;
    let Some((table, size)) = subject.section(".static_call_sites") else { return Ok(Vec::new()) };
    let order = subject.module.format().order;
    let mut list: Vec<(RunAddr, RunAddr, u64)> = entries(size, ENTRY)?;
    for index in 0..size / ENTRY {
        let at = table + index * ENTRY;
        let (Some(code), Some(key)) = (subject.module.offset32(at), subject.module.offset32(at + 4)) else {
            return Ok(Vec::new());
        };
        let key = (at + 4).0.wrapping_add(key as u64);
        let flags = key & 3;
        list.push((at + code as u64, key_of(subject, RunAddr(key & !3)), flags));
    }
    kernel_sort(&mut list, subject.profile.patching.sort, |a, b| ordering(a.1, b.1));
    let mut sites = entries(size, ENTRY)?;
    for (index, (code, key, flags)) in (0..).zip(list) {
        let at = table + index * ENTRY;
        let init = subject.module.kind_at(code).is_some_and(|kind| kind.is_init());
        let flags = flags | if init { INIT } else { 0 };
        let mut bytes = [0; ENTRY as usize];
        bytes[..4].copy_from_slice(&distance(order, code, at));
        bytes[4..].copy_from_slice(&distance(order, RunAddr(key.0 | flags), at + 4));
        subject.module.write(at, &bytes, Rule::RewrittenTable, Standing::Certain);
        sites.push(StaticCallSite { code, key, tail: flags & TAIL != 0 });
    }
    Ok(sites)
}

/// The trampolines of the static calls that the module defines, `__SCT__NAME`, each with its key, `__SCK__NAME`.
pub(crate) fn trampolines<K>(subject: &Subject<'_, '_, K>) -> Result<Vec<(RunAddr, RunAddr)>, OutOfMemory> {
    let image = subject.image;
    let place = |symbol: &Symbol<'_>| match symbol.place {
        SymbolPlace::Section(index) => subject.section_address(index).map(|start| start + symbol.value),
        _ => None,
    };
    let mut keys: Vec<(&[u8], RunAddr)> = Vec::new();
    for symbol in image.symbols().iter() {
        let Some(name) = symbol.name.bytes().strip_prefix(b"__SCK__") else { continue };
        if let Some(address) = place(&symbol) {
            keys.try_reserve(1).map_err(|_| OutOfMemory)?;
            keys.push((name, address));
        }
    }
    keys.sort_unstable();
    let mut trampolines = Vec::new();
    for symbol in image.symbols().iter() {
        let Some(name) = symbol.name.bytes().strip_prefix(b"__SCT__") else { continue };
        let Ok(at) = keys.binary_search_by_key(&name, |(name, _)| name) else { continue };
        if let Some(address) = place(&symbol).filter(|&address| subject.module.has_text(address)) {
            trampolines.try_reserve(1).map_err(|_| OutOfMemory)?;
            trampolines.push((address, keys[at].1));
        }
    }
    Ok(trampolines)
}

/// Where only the trampoline of a static call is exported, a site names that instead of the key.
fn key_of<K>(subject: &Subject<'_, '_, K>, named: RunAddr) -> RunAddr {
    const TRAMPOLINE: &str = "__SCT__";
    if subject.module.kind_at(named).is_some() {
        return named;
    }
    let symbol =
        subject.guest.symbol_at(named).filter(|symbol| symbol.offset == 0 && symbol.module.is_none());
    let name = symbol.and_then(|symbol| symbol.name.strip_prefix(TRAMPOLINE));
    let key = name.and_then(|name| {
        let mut key = Vec::new();
        key.try_reserve_exact(7 + name.len()).ok()?;
        key.extend_from_slice(b"__SCK__");
        key.extend_from_slice(name.as_bytes());
        subject.guest.kernel_symbol(Name(&key))
    });
    key.map_or(named, RunAddr)
}

/// Whether the branch of a jump label is taken, by the state of its key.
///
/// `found` is what the site shows: whether it is taken there, if it is either.
pub(crate) fn is_taken<K>(
    subject: &mut Subject<'_, '_, K>,
    entry: &JumpEntry,
    found: Option<bool>,
) -> (bool, Standing) {
    let variable = Variable::Key(entry.key);
    if !subject.state.knows(variable) {
        // `enabled` is the first word; a negative count is one on its way up.
        let mut count = [0; 4];
        let known = subject.read(entry.key, &mut count);
        let value = known.then(|| u64::from(count != [0; 4]));
        subject.state.pin(variable, value);
    }
    let proven = subject.state.pinned(variable).is_some();
    if let (None, Some(taken)) = (subject.state.certain(variable), found) {
        subject.state.vote(variable, u64::from(taken != entry.inverted));
        return (taken, Standing::Unproven);
    }
    let leaning = subject.state.leaning(variable);
    if leaning.is_none() {
        subject.state.assume(variable, 0);
    }
    let enabled = leaning == Some(1);
    let taken = enabled != entry.inverted;
    let standing = match found {
        Some(found) if found != taken => Standing::OutOfStep(variable),
        _ if proven => Standing::Certain,
        _ => Standing::Unproven,
    };
    (taken, standing)
}

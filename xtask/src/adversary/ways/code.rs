//! Code and tables of listed modules.

use modmem::MemoryKind;

use crate::adversary::intruder::{CODE, Intruder};

/// `e8`: a call; `e9`: a jump.
const CALL: u8 = 0xe8;
const JUMP: u8 = 0xe9;

fn x86(intruder: &Intruder<'_>) -> Option<()> {
    intruder.machine.is_x86().then_some(())
}

/// An entry of a function that nobody traces, in the largest module.
fn entry(intruder: &Intruder<'_>) -> Option<u64> {
    let (module, _) = intruder.machine.largest()?;
    let entries = intruder.machine.entries(module);
    entries.into_iter().find(|entry| intruder.machine.bytes(*entry, 1).is_some_and(|bytes| bytes[0] != CALL))
}

pub(super) fn call(intruder: &mut Intruder<'_>) -> Option<()> {
    x86(intruder)?;
    let site = intruder.machine.calls().first()?.site;
    let own = intruder.pages(1)?;
    intruder.branch(CALL, site, own)
}

pub(super) fn entry_jump(intruder: &mut Intruder<'_>) -> Option<()> {
    x86(intruder)?;
    let entry = entry(intruder)?;
    let own = intruder.pages(1)?;
    intruder.branch(JUMP, entry, own)
}

pub(super) fn entry_return(intruder: &mut Intruder<'_>) -> Option<()> {
    x86(intruder)?;
    let entry = entry(intruder)?;
    intruder.write(entry, &[0x31, 0xc0, 0xc3])
}

/// Lets an entry call own code, so far behind the start of a page of it that is listed as made by the kernel.
fn planted(intruder: &mut Intruder<'_>, caller: &str, symbol: (&str, &str), behind: u64) -> Option<()> {
    x86(intruder)?;
    let entry = entry(intruder)?;
    let own = intruder.pages(1)?;
    let (name, list) = symbol;
    intruder.area(own, 1, caller);
    intruder.list(name, own, 't', Some(list));
    intruder.branch(CALL, entry, own + behind)
}

const OF_FTRACE: (&str, &str) = ("ftrace_trampoline", "__builtin__ftrace");

pub(super) fn planted_ftrace(intruder: &mut Intruder<'_>) -> Option<()> {
    planted(intruder, "arch_ftrace_update_trampoline", OF_FTRACE, 0)
}

pub(super) fn planted_bpf(intruder: &mut Intruder<'_>) -> Option<()> {
    planted(intruder, "bpf_trampoline_alloc", ("bpf_trampoline_6442450944", "bpf"), 0)
}

pub(super) fn middle_of_trampoline(intruder: &mut Intruder<'_>) -> Option<()> {
    planted(intruder, "arch_ftrace_update_trampoline", OF_FTRACE, 16)
}

pub(super) fn branch_out(intruder: &mut Intruder<'_>) -> Option<()> {
    x86(intruder)?;
    let (_, text) = intruder.machine.largest()?;
    let bytes = intruder.machine.bytes(text.start, (text.end - text.start) as usize)?;
    // A `test %eax,%eax; je` of six bytes.
    let at = bytes.windows(4).position(|window| window == [0x85, 0xc0, 0x0f, 0x84])?;
    intruder.write(text.start + at as u64 + 2, &[0x66, 0x0f, 0x1f, 0x44, 0, 0])
}

/// A word of read-only data that holds an address of code.
fn pointer_in_data(intruder: &Intruder<'_>) -> Option<u64> {
    let data = intruder.machine.memories.iter().filter(|(_, kind, _)| *kind == MemoryKind::RoData);
    let words = data.flat_map(|(.., range)| range.clone().step_by(8));
    let mut words = words.filter(|at| {
        let value = intruder.machine.word(*at);
        value.is_some_and(|value| intruder.machine.is_in(MemoryKind::Text, value))
    });
    words.nth(20)
}

pub(super) fn pointer(intruder: &mut Intruder<'_>) -> Option<()> {
    x86(intruder)?;
    let at = pointer_in_data(intruder)?;
    let own = intruder.pages(1)?;
    intruder.write(at, &own.to_le_bytes())
}

pub(super) fn own_pointer(intruder: &mut Intruder<'_>) -> Option<()> {
    x86(intruder)?;
    let at = pointer_in_data(intruder)?;
    let (module, _) = intruder.machine.largest()?;
    let (_, function) = intruder.machine.function_of(module)?;
    (intruder.machine.word(at)? != function).then_some(())?;
    intruder.write(at, &function.to_le_bytes())
}

pub(super) fn padding(intruder: &mut Intruder<'_>) -> Option<()> {
    let texts = intruder.machine.memories.iter().filter(|(_, kind, _)| *kind == MemoryKind::Text);
    let free = |start: u64| {
        intruder.machine.bytes(start, CODE.len()).is_some_and(|bytes| bytes.iter().all(|b| *b == 0))
    };
    let place = texts.map(|(.., range)| range.end - CODE.len() as u64).find(|start| free(*start))?;
    intruder.write(place, &CODE)
}

pub(super) fn symbol_table(intruder: &mut Intruder<'_>) -> Option<()> {
    let (module, _) = intruder.machine.largest()?;
    let (_, function) = intruder.machine.function_of(module)?;
    let little = intruder.machine.profile.machine != modmem::arch::Machine::S390;
    let bytes = |value: u64| if little { value.to_le_bytes() } else { value.to_be_bytes() };
    // The table lies in writable data, behind all that the module has there itself.
    let own = intruder
        .machine
        .memories
        .iter()
        .filter(|(name, kind, _)| name == module && *kind == MemoryKind::Data);
    let mut words = own.flat_map(|(.., range)| range.clone().step_by(8));
    let at = words.find(|at| {
        // The name's offset, what kind it is, its section, and its value.
        let before = intruder.machine.bytes(at.wrapping_sub(8), 8);
        let is_function = before.is_some_and(|before| before[4] & 0xf == 2 && before[5] == 0);
        is_function && intruder.machine.bytes(*at, 8) == Some(&bytes(function))
    })?;
    intruder.write(at, &bytes(function + 4))
}

pub(super) fn fixup(intruder: &mut Intruder<'_>) -> Option<()> {
    x86(intruder)?;
    let modules = intruder.machine.snapshot.modules.iter();
    let table = modules.filter_map(|module| intruder.machine.section(&module.name, "__ex_table")).next()?;
    let own = intruder.pages(1)?;
    intruder.write(table.start + 4, &(own.wrapping_sub(table.start + 4) as u32).to_le_bytes())
}

pub(super) fn torn(intruder: &mut Intruder<'_>) -> Option<()> {
    let (_, text) = intruder.machine.largest()?;
    intruder.torn.push(text.clone());
    let at = text.start + (text.end - text.start) / 2;
    let byte = *intruder.machine.bytes(at, 1)?.first()?;
    intruder.write(at, &[byte ^ 0x55])
}

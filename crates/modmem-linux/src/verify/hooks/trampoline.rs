//! Trampolines of ftrace on x86-64: copies of the kernel's entry of tracing with two holes, which name whoever traces
//! and the function that is called (arch/x86/kernel/ftrace.c:create_trampoline, arch_ftrace_update_trampoline).

use super::map::Map;

/// `mov disp32(%rip), %rdx`: what loads the description's address, from behind the copy.
const LOAD: [u8; 3] = [0x48, 0x8b, 0x15];
const LOAD_LENGTH: u64 = 7;
const CALL: u8 = 0xe8;
/// A trampoline is smaller than a page.
const PAGE: u64 = 4096;
/// The call comes a few moves behind the load.
const NEAR: usize = 96;
/// The kernel's entries, and where in them the load is.
const ENTRIES: [(&str, &str); 2] =
    [("ftrace_caller", "ftrace_caller_op_ptr"), ("ftrace_regs_caller", "ftrace_regs_caller_op_ptr")];

/// What a trampoline's memory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trampoline {
    /// The description of whoever traces.
    pub(super) ops: u64,
    /// The function that it calls.
    pub(super) function: Option<u64>,
}

/// Reads the trampoline at an address, if the snapshot has it and it is a copy of an entry.
pub(super) fn read(map: &Map<'_>, address: u64) -> Option<Trampoline> {
    let symbols = &map.snapshot.symbols;
    let offset = |(entry, load): &(&str, &str)| {
        symbols.kernel(load)?.checked_sub(symbols.kernel(entry)?).filter(|offset| *offset < PAGE)
    };
    let bytes = map.snapshot.memory.bytes_from(address);
    let bytes = &bytes[..bytes.len().min(PAGE as usize)];
    ENTRIES.iter().filter_map(offset).find_map(|load| at_load(map, address, bytes, load))
}

fn at_load(map: &Map<'_>, address: u64, bytes: &[u8], load: u64) -> Option<Trampoline> {
    let rest = bytes.get(load as usize..)?;
    let displacement = rest.strip_prefix(&LOAD)?.first_chunk()?;
    let behind = load + LOAD_LENGTH;
    let place = behind.checked_add_signed(i64::from(i32::from_le_bytes(*displacement)))?;
    let ops = u64::from_le_bytes(*bytes.get(place as usize..)?.first_chunk()?);
    let code = &rest[LOAD_LENGTH as usize..];
    let called = |at: usize| {
        let displacement = code.get(at + 1..)?.first_chunk()?;
        let from = address.wrapping_add(behind + at as u64 + 5);
        let to = from.wrapping_add(i64::from(i32::from_le_bytes(*displacement)) as u64);
        let begins = map.symbol(to).is_some_and(|symbol| symbol.text);
        (begins || !map.is_of_kernel(to) && map.is_code(to)).then_some(to)
    };
    let calls = code.iter().take(NEAR).enumerate().filter(|(_, byte)| **byte == CALL);
    let function = calls.map(|(at, _)| at).find_map(called);
    Some(Trampoline { ops, function })
}

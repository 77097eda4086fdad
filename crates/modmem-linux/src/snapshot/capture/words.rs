//! The kernel's own words that decide how the code of modules was patched.
//!
//! Taken beside module memory, because neither the module's file nor the kernel's symbols tell them:
//!
//! | what | why |
//! |---|---|
//! | every `__SCK__*` symbol of the kernel | where calls through static calls go |
//! | keys in the kernel that a module's `__jump_table` names | whether each branch is a jump or a nop |
//! | the machine's [`KernelWord`](modmem::arch::KernelWord)s | see there |
//! | what functions of modules are marked with on arm64 | see [`tracers`] |

use std::ops::Range;

use modmem::arch::Machine;

use super::{kcore::Kcore, tracers};
use crate::snapshot::{MemoryRecords, ModuleRecord, Snapshot, members::elf_machine};

/// Bytes that no kernel has.
const LARGEST: u64 = 1 << 30;
/// Bits of the key's offset that are flags.
const FLAGS: u64 = 3;
/// The flag of code that lies in init memory, and may be gone.
const INIT: u64 = 2;

/// The ranges to be read, by address, none of which overlap each other or what was read.
pub(super) fn ranges(snapshot: &Snapshot, memory: &MemoryRecords, kcore: &Kcore) -> Vec<Range<u64>> {
    let symbols = &snapshot.symbols;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut take = |address: u64, length: u64| {
        if let Some(end) = address.checked_add(length).filter(|_| address != 0) {
            ranges.push(address..end);
        }
    };
    let machine = elf_machine(&snapshot.machine).unwrap_or(Machine::X86_64);
    for word in machine.kernel_words() {
        if let Some(address) = symbols.kernel(word.symbol) {
            let size = symbols.nearest(address, None).and_then(|nearest| nearest.size).unwrap_or(word.most);
            take(address, size.min(word.most));
        }
    }
    let form = Form::of(&snapshot.machine, kcore.is_64, kcore.is_little);
    let own = symbols.iter().filter(|symbol| symbol.module.is_none());
    let static_calls = own.filter(|symbol| symbol.name.starts_with("__SCK__"));
    static_calls.for_each(|symbol| take(symbol.address, form.key()));
    if let Some(image) = image(snapshot, kcore) {
        for module in &snapshot.modules {
            let keys = jump_label_keys(snapshot, module, memory, form);
            keys.into_iter().filter(|key| image.contains(key)).for_each(|key| take(key, form.key()));
        }
    }
    ranges.extend(tracers::ranges(snapshot, memory));
    merge(ranges, memory)
}

/// The addresses of the kernel itself. Kernels that keep no symbols of data have none for the end: there the segment
/// of the core file tells, which is the kernel and nothing else.
fn image(snapshot: &Snapshot, kcore: &Kcore) -> Option<Range<u64>> {
    let first = |names: &[&str]| names.iter().find_map(|name| snapshot.symbols.kernel(name));
    let start = first(&["_text", "_stext"])?;
    let segment =
        || kcore.segment(start).filter(|segment| segment.start == start && segment.end - start < LARGEST);
    let end = first(&["_end", "__bss_stop", "_edata"]).or_else(|| segment().map(|segment| segment.end))?;
    (start < end).then_some(start..end)
}

/// The keys that a module's jump table names. Nothing tells how long the table is: it ends where the next section
/// begins, or where an entry no longer points into the module's memory.
fn jump_label_keys(
    snapshot: &Snapshot,
    module: &ModuleRecord,
    memory: &MemoryRecords,
    form: Form,
) -> Vec<u64> {
    let mut keys = Vec::new();
    let Some(table) = module.section("__jump_table") else { return keys };
    let end = present(snapshot, module).filter(|address| *address > table).min().unwrap_or(u64::MAX);
    let areas: Vec<Range<u64>> = own_areas(snapshot, module, memory);
    let is_own = |address: u64| areas.iter().any(|area| area.contains(&address));
    let mut entry = table;
    while entry.checked_add(form.entry()).is_some_and(|next| next <= end) {
        let Some(bytes) = memory.bytes(entry, form.entry() as usize) else { break };
        if bytes.iter().all(|byte| *byte == 0) {
            break;
        }
        let Some((code, target, key)) = form.fields(bytes, entry) else { break };
        if !(is_own(code) && is_own(target)) && key & INIT == 0 {
            break;
        }
        keys.push(key & !FLAGS);
        entry += form.entry();
    }
    keys
}

fn present<'s>(snapshot: &'s Snapshot, module: &'s ModuleRecord) -> impl Iterator<Item = u64> + 's {
    module.present_sections(&snapshot.machine).map(|section| section.address)
}

/// How a machine writes static keys and the entries of `__jump_table`.
#[derive(Clone, Copy, Debug)]
struct Form {
    is_64: bool,
    is_little: bool,
    /// Whether entries hold addresses, and not distances from their own places (HAVE_ARCH_JUMP_LABEL_RELATIVE).
    is_absolute: bool,
}

impl Form {
    fn of(machine: &str, is_64: bool, is_little: bool) -> Form {
        let absolute = ["arm", "mips", "sparc"];
        Form { is_64, is_little, is_absolute: absolute.iter().any(|start| machine.starts_with(start)) }
    }

    const fn word(self) -> u64 {
        if self.is_64 { 8 } else { 4 }
    }

    /// Bytes of a static call's key, and of a jump label's: two words.
    const fn key(self) -> u64 {
        2 * self.word()
    }

    /// Bytes of an entry: code, target and key, the first two of 32 bits where they are distances.
    const fn entry(self) -> u64 {
        if self.is_absolute { 3 * self.word() } else { 8 + self.word() }
    }

    /// A number of the machine, with its sign where it is one of 32 bits.
    fn number(self, bytes: &[u8], size: u64) -> Option<u64> {
        if size == 8 {
            let bytes = *bytes.first_chunk()?;
            return Some(if self.is_little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) });
        }
        let bytes = *bytes.first_chunk()?;
        let number = if self.is_little { i32::from_le_bytes(bytes) } else { i32::from_be_bytes(bytes) };
        Some(i64::from(number) as u64)
    }

    /// Code, target and key of the entry at `address`, the key with its flags.
    fn fields(self, bytes: &[u8], address: u64) -> Option<(u64, u64, u64)> {
        let size = if self.is_absolute { self.word() } else { 4 };
        let field = |at: u64, size: u64| {
            let value = self.number(bytes.get(at as usize..)?, size)?;
            let place = if self.is_absolute { 0 } else { address.wrapping_add(at) };
            let target = place.wrapping_add(value);
            Some(if self.is_64 { target } else { target & u64::from(u32::MAX) })
        };
        // The key's flags are those of the distance, whatever its place adds.
        let flags = self.number(bytes.get(2 * size as usize..)?, self.word())? & FLAGS;
        let key = field(2 * size, self.word())?.wrapping_sub(flags);
        Some((field(0, size)?, field(size, size)?, key | flags))
    }
}

/// The areas that hold the module's sections; where areas are unknown, the records that do.
fn own_areas(snapshot: &Snapshot, module: &ModuleRecord, memory: &MemoryRecords) -> Vec<Range<u64>> {
    let area = |address: u64| match snapshot.area(address) {
        Some(area) => Some(area.range.clone()),
        None => memory.record(address).map(|record| record.address..record.end()),
    };
    let mut areas: Vec<Range<u64>> = present(snapshot, module).filter_map(area).collect();
    areas.sort_unstable_by_key(|area| area.start);
    areas.dedup();
    areas
}

/// Puts ranges in order, joins those that touch, and takes out those that were read already.
fn merge(mut ranges: Vec<Range<u64>>, memory: &MemoryRecords) -> Vec<Range<u64>> {
    ranges.retain(|range| !memory.touches(range));
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_jump_tables_are_read_as_the_machine_writes_them() {
        let big = Form::of("ppc", false, false);
        let entry =
            [&(-0x100_i32).to_be_bytes()[..], &0x20_i32.to_be_bytes(), &(-0x3000_0007_i32).to_be_bytes()];
        assert_eq!((big.entry(), big.key()), (12, 8));
        // The key at 0xc0001000 is for a branch that is usually taken.
        assert_eq!(big.fields(&entry.concat(), 0xf000_1000), Some((0xf000_0f00, 0xf000_1024, 0xc000_1001)));
        let little = Form::of("x86_64", true, true);
        let entry = [&8_i32.to_le_bytes()[..], &8_i32.to_le_bytes(), &(-0x0ff6_i64).to_le_bytes()];
        assert_eq!((little.entry(), little.key()), (16, 16));
        assert_eq!(little.fields(&entry.concat(), 0x2000), Some((0x2008, 0x200c, 0x1010 | 2)));
        let arm = Form::of("armv7l", false, true);
        let entry = [0xbf00_0010_u32, 0xbf00_0020, 0xc100_0003].map(u32::to_le_bytes).concat();
        assert_eq!(arm.entry(), 12);
        assert_eq!(arm.fields(&entry, 0xbf00_8000), Some((0xbf00_0010, 0xbf00_0020, 0xc100_0003)));
    }

    #[test]
    fn ranges_that_touch_are_joined_and_module_memory_is_not_read_twice() {
        let record = crate::snapshot::MemoryRecord { address: 0x1000, bytes: vec![0; 16] };
        let memory = MemoryRecords::new(vec![record]).unwrap();
        let ranges = vec![0x30..0x40, 0x20..0x30, 0x100f..0x1011, 0x38..0x39, 0xff0..0x1000, 0x1010..0x1011];
        assert_eq!(merge(ranges, &memory), [0x20..0x40, 0xff0..0x1000, 0x1010..0x1011]);
    }
}

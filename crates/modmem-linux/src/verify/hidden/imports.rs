//! What a module's code calls of others: every branch of its text that leads to where a function of the kernel or of a
//! module begins. A number that looks like one by chance does not hit the very start of a function.

use std::collections::BTreeMap;
use std::ops::Range;

use modmem::arch::Machine;
use modmem::layout::MemoryKind;

use crate::snapshot::Snapshot;

/// Bytes of text that are looked through.
const MOST: u64 = 64 << 20;

/// Something of others that a module calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The function.
    pub name: String,
    /// The module that has it; `None` for the kernel.
    pub module: Option<String>,
    /// Its address.
    pub address: u64,
    /// How many branches lead there.
    pub calls: usize,
}

pub(super) fn find(
    snapshot: &Snapshot,
    machine: Machine,
    memories: &[(Option<MemoryKind>, Range<u64>)],
) -> Vec<Import> {
    let mut targets: BTreeMap<u64, usize> = BTreeMap::new();
    let is_own = |address: u64| memories.iter().any(|(_, range)| range.contains(&address));
    // Where the kinds are not known, any of them may be text.
    let text = memories.iter().filter(|(kind, _)| kind.is_none_or(MemoryKind::is_text));
    for (_, range) in text {
        let bytes = snapshot.memory.bytes_from(range.start);
        let length = (range.end - range.start).min(MOST).min(bytes.len() as u64) as usize;
        for target in branches(machine, range.start, &bytes[..length]).filter(|target| !is_own(*target)) {
            *targets.entry(target).or_default() += 1;
        }
    }
    let import = |(address, calls): (u64, usize)| {
        let mut here = snapshot.symbols.at_address(address);
        let symbol = here.find(|symbol| matches!(symbol.letter, 't' | 'T' | 'w' | 'W'))?;
        let module = symbol.module.map(str::to_owned);
        Some(Import { name: symbol.name.to_owned(), module, address, calls })
    };
    let mut imports: Vec<Import> = targets.into_iter().filter_map(import).collect();
    imports.sort_by(|a, b| (&a.module, &a.name, a.address).cmp(&(&b.module, &b.name, b.address)));
    imports
}

/// Where the branches lead that the bytes at `start` can be.
fn branches(machine: Machine, start: u64, bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let step = match machine {
        Machine::Arm64 => 4,
        Machine::S390 => 2,
        _ => 1,
    };
    (0..bytes.len()).step_by(step).filter_map(move |at| {
        let here = start.wrapping_add(at as u64);
        let rest = &bytes[at..];
        let distance = match (machine, rest) {
            (Machine::X86_64, [0xe8 | 0xe9, rest @ ..]) => {
                5 + i64::from(i32::from_le_bytes(*rest.first_chunk()?))
            }
            (Machine::S390, [0xc0, code, rest @ ..]) if matches!(code & 0xf, 4 | 5) => {
                2 * i64::from(i32::from_be_bytes(*rest.first_chunk()?))
            }
            (Machine::Arm64, rest) => {
                let word = u32::from_le_bytes(*rest.first_chunk()?);
                let is_branch = word & 0x7c00_0000 == 0x1400_0000;
                is_branch.then_some(i64::from((word << 6) as i32 >> 4))?
            }
            _ => return None,
        };
        Some(here.wrapping_add(distance as u64))
    })
}

//! Symbols and relocations.

use super::super::model::{Model, RELOCATION, SHT_RELA, SYMBOL, THIS_MODULE};
use super::sections::any;
use crate::random::Random;

const SYMBOLS: &[&str] = &[
    "_GLOBAL_OFFSET_TABLE_",
    "kfree",
    "_printk",
    "no_such_symbol",
    "__this_module",
    "init_module",
    "__versions",
    "",
    "jiffies",
    "memcpy",
    "modmem_local",
    "__stack_chk_guard",
    "$d",
    ".L1",
    "__crc_x",
    "a b",
];

/// The symbol table, and how many symbols it has: some.
fn table(model: &Model) -> Option<(usize, usize)> {
    let table = model.symbols()?;
    let count = model.sections[table].bytes.len() / SYMBOL;
    (count > 0).then_some((table, count))
}

/// How often, of a hundred, something is done of which Linux mostly dies.
const RARE: usize = 3;

pub(super) fn symbol(model: &mut Model, random: &mut Random) -> Option<String> {
    let (table, count) = table(model)?;
    let sections = model.sections.len() as u16;
    let at = random.below(count);
    let bytes = &mut model.sections[table].bytes[at * SYMBOL..][..SYMBOL];
    let what = match random.below(6) {
        0 => {
            let section =
                random.one(&[0, 1, 2, 3, sections - 1, sections, 0xff00, 0xff20, 0xfff1, 0xfff2, 0xffff]);
            bytes[6..8].copy_from_slice(&section.to_le_bytes());
            format!("st_shndx {section:#x}")
        }
        1 => {
            bytes[4] = random.one(&[0, 1, 2, 3, 4, 0x10, 0x11, 0x12, 0x20, 0x21, 0x22, 0xa0, 0x1a]);
            format!("st_info {:#x}", bytes[4])
        }
        2 => {
            let value = random.one(&[0_u64, 1, 0x1000, u64::MAX, 1 << 63, 1 << 31]);
            bytes[8..16].copy_from_slice(&value.to_le_bytes());
            format!("st_value {value:#x}")
        }
        3 => {
            let name = random.one(&[0_u32, 1, 5, 0x7fff_ffff, u32::MAX]);
            bytes[..4].copy_from_slice(&name.to_le_bytes());
            format!("st_name {name:#x}")
        }
        4 => {
            bytes[16..24].copy_from_slice(&random.one(&[0_u64, 1, u64::MAX]).to_le_bytes());
            "st_size".to_owned()
        }
        _ => {
            bytes[5] = random.one(&[0, 1, 2, 3, 4, 0xff]);
            format!("st_other {}", bytes[5])
        }
    };
    Some(format!("{at} of {count}: {what}"))
}

pub(super) fn add_symbol(model: &mut Model, random: &mut Random) -> Option<String> {
    let name = random.one(SYMBOLS);
    let info = random.one(&[0x10, 0x11, 0x12, 0x20, 0x00, 0x01, 0x02, 0x03]);
    let sections = model.sections.len();
    let any = 1 + random.below(sections - 1) as u16;
    let section = random.one(&[0, 0, 0, any, 0xfff1, 0xfff2]);
    let value = random.one(&[0, 4, 8, 0x10000]);
    model.add_symbol(name, info, section, value)?;
    Some(format!("{name:?} st_info {info:#x} st_shndx {section:#x} st_value {value:#x}"))
}

/// Another name for a symbol that there is: one that others have, or none, or a long one.
pub(super) fn rename(model: &mut Model, random: &mut Random) -> Option<String> {
    let (table, count) = table(model)?;
    let (at, other) = (random.below(count), random.below(count));
    let place = match random.below(4) {
        0 => model.add_string(&"long_name_".repeat(random.one(&[6, 26, 52, 7000])))?,
        1 => model.add_string(random.one(SYMBOLS))?,
        2 => 0,
        _ => {
            let bytes = model.sections[table].bytes[other * SYMBOL..].first_chunk().copied()?;
            u32::from_le_bytes(bytes)
        }
    };
    model.sections[table].bytes[at * SYMBOL..][..4].copy_from_slice(&place.to_le_bytes());
    Some(format!("{at} of {count}: st_name {place:#x}"))
}

pub(super) fn relocation(model: &mut Model, random: &mut Random) -> Option<String> {
    let tables: Vec<usize> = (0..model.sections.len())
        .filter(|at| model.sections[*at].kind == SHT_RELA && model.sections[*at].bytes.len() >= RELOCATION)
        .collect();
    let table = *tables.get(random.below(tables.len().max(1)))?;
    let symbols = model.symbols().map_or(0, |at| model.sections[at].bytes.len() / SYMBOL) as u32;
    let target =
        model.sections.get(model.sections[table].info as usize).map_or(0, |target| target.bytes.len()) as u64;
    let section = &mut model.sections[table];
    let count = section.bytes.len() / RELOCATION;
    let at = random.below(count);
    let bytes = &mut section.bytes[at * RELOCATION..][..RELOCATION];
    let what = match random.below(4) {
        0 => {
            let mut offset =
                random.one(&[0, 1, target.saturating_sub(8), target.saturating_sub(4), target, target + 1]);
            // Linux mostly dies of these, and takes a second to start again.
            if random.percent(RARE) {
                offset = random.one(&[u64::MAX, 1 << 40]);
            }
            bytes[..8].copy_from_slice(&offset.to_le_bytes());
            format!("r_offset {offset:#x}")
        }
        1 => {
            let kind = random.below(45) as u32;
            bytes[8..12].copy_from_slice(&kind.to_le_bytes());
            format!("type {kind}")
        }
        2 => {
            let any = random.below(symbols as usize + 1) as u32;
            let mut symbol = random.one(&[0, 1, symbols.wrapping_sub(1), symbols, any]);
            if random.percent(RARE) {
                symbol = u32::MAX;
            }
            bytes[12..16].copy_from_slice(&symbol.to_le_bytes());
            format!("symbol {symbol}")
        }
        _ => {
            let addend =
                random.one(&[0_i64, -4, 1, i64::MAX, i64::MIN, 1 << 31, -(1 << 31), 1 << 32, 0x7fff_0000]);
            bytes[16..].copy_from_slice(&addend.to_le_bytes());
            format!("r_addend {addend:#x}")
        }
    };
    Some(format!("{} entry {at}: {what}", section.name))
}

pub(super) fn add_relocations(model: &mut Model, random: &mut Random) -> Option<String> {
    let symbols = model.symbols().map_or(0, |at| model.sections[at].bytes.len() / SYMBOL);
    let target = any(model, random);
    // The kernel writes to struct module before it relocates.
    if model.sections[target].name == THIS_MODULE {
        return None;
    }
    let length = model.sections[target].bytes.len().max(1);
    let mut relocations = Vec::new();
    for _ in 0..1 + random.below(3) {
        let kind = random.one(&[0, 1, 1, 2, 2, 4, 4, 10, 11, 24, 26]);
        let symbol = random.below(symbols.max(1)) as u32;
        relocations.push((
            random.below(length) as u64,
            kind,
            symbol,
            random.one(&[0, 0, 0, -4, 16, 1 << 33]),
        ));
    }
    // Linux writes to fields of zeros only.
    if random.percent(70) {
        let bytes = &mut model.sections[target].bytes;
        for (offset, ..) in &relocations {
            for byte in bytes.iter_mut().skip(*offset as usize).take(8) {
                *byte = 0;
            }
        }
    }
    let what = format!("of {} ({target}): {relocations:x?}", model.sections[target].name);
    model.add_relocations(target, &relocations)?;
    Some(what)
}

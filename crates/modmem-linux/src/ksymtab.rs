//! The kernel's own exports, from the tables that it looks them up in.
//!
//! On machines with relative references (x86-64, arm64 and more) an entry of `__ksymtab` is three 32-bit offsets, each
//! from its own place: to the symbol, to its name, to its namespace. Others have three pointers. Until Linux 6.x
//! `__ksymtab_gpl` holds what is for GPL modules only; since 7.x all are in one table, and `__kflagstab` has a byte of
//! flags for each. `__kcrctab` and `__kcrctab_gpl` have a 32-bit checksum for each, where the kernel has modversions.

pub(crate) mod find;

use crate::{Error, KernelSymbol, image::bytes::Bytes};
use std::borrow::Cow;

/// In `__kflagstab`: for GPL modules only.
const FLAG_GPL_ONLY: u8 = 1;

/// More exports than any kernel has; a hostile file must not make us believe in more.
const MAX_SYMBOLS: usize = 1 << 20;

/// Longer than any name in a kernel (KSYM_NAME_LEN). Names may share their ends: without a bound a small file could
/// have more bytes of names than anybody has memory.
const MAX_NAME: usize = 1024;

/// A part of a kernel that has an address.
#[derive(Debug)]
pub(crate) struct Section<'d> {
    pub(crate) name: &'static str,
    pub(crate) address: u64,
    pub(crate) data: Cow<'d, [u8]>,
}

impl Section<'_> {
    /// The address behind it.
    pub(crate) fn end(&self) -> u64 {
        self.address.wrapping_add(self.data.len() as u64)
    }
}

/// The tables of a kernel, as far as it has them.
#[derive(Debug)]
pub(crate) struct Tables<'d> {
    pub(crate) plain: Option<Section<'d>>,
    pub(crate) gpl: Option<Section<'d>>,
    pub(crate) crcs: Option<Section<'d>>,
    pub(crate) gpl_crcs: Option<Section<'d>>,
    pub(crate) flags: Option<Section<'d>>,
    pub(crate) strings: Option<Section<'d>>,
}

/// The symbols in a kernel's tables, sorted by name. `word`: bytes of a pointer.
pub(crate) fn symbols(
    file: &str,
    tables: &Tables<'_>,
    little: bool,
    word: usize,
) -> Result<Vec<KernelSymbol>, Error> {
    let mut symbols = Vec::new();
    for (table, crcs, gpl_only) in
        [(&tables.plain, &tables.crcs, false), (&tables.gpl, &tables.gpl_crcs, true)]
    {
        let Some(table) = table else {
            continue;
        };
        let Some(strings) = &tables.strings else {
            return Err(Error::malformed(file, "has __ksymtab but no __ksymtab_strings"));
        };
        let mut entries = entries(file, table, strings, little, word)?;
        if let Some(crcs) = crcs {
            let bytes = Bytes { data: &crcs.data, little, word };
            same_length(file, crcs, crcs.data.len() / 4, table, entries.len())?;
            for (at, entry) in entries.iter_mut().enumerate() {
                entry.crc = bytes.u32(4 * at);
            }
        }
        let flags = tables.flags.as_ref().filter(|_| !gpl_only);
        if let Some(flags) = flags {
            same_length(file, flags, flags.data.len(), table, entries.len())?;
        }
        for (at, entry) in entries.iter_mut().enumerate() {
            let flag = flags.and_then(|flags| flags.data.get(at)).copied().unwrap_or(0);
            entry.gpl_only = gpl_only || flag & FLAG_GPL_ONLY != 0;
        }
        symbols.append(&mut entries);
    }
    if symbols.is_empty() {
        return Err(Error::malformed(
            file,
            "exports no symbols (no __ksymtab section; were the section headers stripped?)",
        ));
    }
    symbols.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(symbols)
}

fn same_length(
    file: &str,
    section: &Section<'_>,
    found: usize,
    table: &Section<'_>,
    wanted: usize,
) -> Result<(), Error> {
    if found == wanted {
        return Ok(());
    }
    let problem = format!("section {}: {found} entries, but {} has {wanted}", section.name, table.name);
    Err(Error::malformed(file, problem))
}

/// How the entries of a table refer to things.
#[derive(Clone, Copy)]
enum Shape {
    /// Offsets of 32 bits from their own place: symbol, name and, since Linux 5.4, namespace.
    Relative { fields: usize },
    /// Pointers.
    Absolute { fields: usize },
}

const SHAPES: [Shape; 4] = [
    Shape::Relative { fields: 3 },
    Shape::Relative { fields: 2 },
    Shape::Absolute { fields: 3 },
    Shape::Absolute { fields: 2 },
];

impl Shape {
    fn size(self, word: usize) -> usize {
        match self {
            Shape::Relative { fields } => fields * 4,
            Shape::Absolute { fields } => fields * word,
        }
    }

    fn fields(self) -> usize {
        match self {
            Shape::Relative { fields } | Shape::Absolute { fields } => fields,
        }
    }

    /// The address that a field of the entry at `address` refers to.
    fn field(self, entry: Bytes<'_>, address: u64, field: usize) -> Option<u64> {
        match self {
            Shape::Relative { .. } => {
                let offset = entry.u32(field * 4)? as i32;
                // A null reference is an offset of zero: no namespace.
                let place = address.wrapping_add(field as u64 * 4);
                let target = place.wrapping_add_signed(i64::from(offset));
                Some(match (offset, entry.word) {
                    (0, _) => 0,
                    (_, 4) => target & u64::from(u32::MAX),
                    _ => target,
                })
            }
            Shape::Absolute { .. } => entry.word(field * entry.word),
        }
    }
}

/// The entries of a table. The shape is the one in which every entry has a name among the strings.
fn entries(
    file: &str,
    table: &Section<'_>,
    strings: &Section<'_>,
    little: bool,
    word: usize,
) -> Result<Vec<KernelSymbol>, Error> {
    let bytes = Bytes { data: &table.data, little, word };
    let found = SHAPES.iter().find_map(|&shape| {
        let size = shape.size(word);
        if !table.data.len().is_multiple_of(size) || table.data.len() / size > MAX_SYMBOLS {
            return None;
        }
        let entries = table.data.chunks_exact(size).enumerate();
        entries
            .map(|(at, entry)| {
                read_entry(shape, bytes.with(entry), table.address.wrapping_add((at * size) as u64), strings)
            })
            .collect()
    });
    found.ok_or_else(|| {
        Error::malformed(
            file,
            format!("section {}: its entries do not refer to names in {}", table.name, strings.name),
        )
    })
}

fn read_entry(shape: Shape, entry: Bytes<'_>, address: u64, strings: &Section<'_>) -> Option<KernelSymbol> {
    let name = string_at(strings, shape.field(entry, address, 1)?).filter(|name| !name.is_empty())?;
    let namespace = match shape.fields() {
        3 => match shape.field(entry, address, 2)? {
            0 => None,
            // It must at least point into the strings, or this is not the table's shape.
            at => Some(string_at(strings, at)?).filter(|namespace| !namespace.is_empty()),
        },
        _ => None,
    };
    Some(KernelSymbol {
        name: name.into(),
        address: Some(shape.field(entry, address, 0)?),
        gpl_only: false,
        crc: None,
        namespace: namespace.map(Into::into),
    })
}

fn string_at<'s>(strings: &'s Section<'_>, address: u64) -> Option<&'s str> {
    let offset = usize::try_from(address.checked_sub(strings.address)?).ok()?;
    // The linker lets a name share the end of a longer one: any place in the section may start a name.
    let rest = strings.data.get(offset..)?;
    let rest = rest.get(..MAX_NAME).unwrap_or(rest);
    let end = rest.iter().position(|&byte| byte == 0)?;
    // Where strings have no known end, other data must not be taken for names.
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    text.bytes().all(|byte| byte.is_ascii_graphic()).then_some(text)
}

//! The kernel's own exports, from the tables in its ELF file.
//!
//! On machines with relative references (x86-64, arm64 and more) an entry of `__ksymtab` is three 32-bit offsets, each
//! from its own place: to the symbol, to its name, to its namespace. Others have three pointers. Until Linux 6.x
//! `__ksymtab_gpl` holds what is for GPL modules only; since 7.x all are in one table, and `__kflagstab` has a byte of
//! flags for each. `__kcrctab` and `__kcrctab_gpl` have a 32-bit checksum for each, where the kernel has modversions.

use crate::{Error, ImageFacts, KernelSymbol};
use object::{
    Endianness, Object, ObjectSection,
    elf::PT_LOAD,
    read::elf::{ElfFile64, FileHeader, ProgramHeader},
};
use std::borrow::Cow;

/// In `__kflagstab`: for GPL modules only.
const FLAG_GPL_ONLY: u8 = 1;

/// More exports than any kernel has; a hostile file must not make us believe in more.
const MAX_SYMBOLS: usize = 1 << 20;

/// Longer than any name in a kernel (KSYM_NAME_LEN). Names may share their ends: without a bound a small file could
/// have more bytes of names than anybody has memory.
const MAX_NAME: usize = 1024;

struct Section<'d> {
    name: &'static str,
    address: u64,
    data: Cow<'d, [u8]>,
}

/// The symbols that a kernel's ELF file (see [`kernel_elf`](crate::kernel_elf)) exports to modules, sorted by name.
///
/// `file` names it in errors.
pub fn kernel_symbols(file: &str, elf: &[u8]) -> Result<Vec<KernelSymbol>, Error> {
    let image = parse(file, elf)?;
    let section = |name| find(file, &image, name);
    let strings = section("__ksymtab_strings")?;
    let mut symbols = Vec::new();
    let tables = [("__ksymtab", "__kcrctab", false), ("__ksymtab_gpl", "__kcrctab_gpl", true)];
    for (table, crcs, gpl_only) in tables {
        let Some(table) = section(table)? else {
            continue;
        };
        let Some(strings) = &strings else {
            return Err(Error::malformed(file, "has __ksymtab but no __ksymtab_strings"));
        };
        let mut entries = entries(file, &table, strings)?;
        if let Some(crcs) = section(crcs)? {
            let values =
                crcs.data.chunks_exact(4).map(|crc| u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]));
            same_length(file, &crcs, values.len(), &table, entries.len())?;
            for (entry, crc) in entries.iter_mut().zip(values) {
                entry.crc = Some(crc);
            }
        }
        let flags = if gpl_only { None } else { section("__kflagstab")? };
        if let Some(flags) = &flags {
            same_length(file, flags, flags.data.len(), &table, entries.len())?;
        }
        for (at, entry) in entries.iter_mut().enumerate() {
            let flag = flags.as_ref().and_then(|flags| flags.data.get(at)).copied().unwrap_or(0);
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

/// Where the kernel's parts are, from its ELF file.
pub fn image_facts(file: &str, elf: &[u8]) -> Result<ImageFacts, Error> {
    let image = parse(file, elf)?;
    let mut facts = ImageFacts::default();
    for section in image.sections() {
        if section.name() == Ok(".data..percpu")
            && let Some(end) = section.address().checked_add(section.size())
        {
            facts.percpu = Some(section.address()..end);
        }
    }
    let (header, endian) = (image.elf_header(), image.endian());
    let segments =
        header.program_headers(endian, elf).map_err(|error| Error::malformed(file, error.to_string()))?;
    let mut first = u64::MAX;
    for segment in segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD) {
        let (start, size) = (segment.p_vaddr(endian), segment.p_memsz(endian));
        // The percpu template had a segment of its own at address 0.
        if start == 0 || size == 0 {
            continue;
        }
        let Some(end) = start.checked_add(size) else {
            return Err(Error::malformed(file, "a program header's segment wraps around the address space"));
        };
        first = first.min(start);
        facts.end = facts.end.max(end);
    }
    if first == u64::MAX {
        return Err(Error::malformed(file, "no program header says where the kernel is loaded"));
    }
    facts.text = first;
    Ok(facts)
}

fn parse<'d>(file: &str, elf: &'d [u8]) -> Result<ElfFile64<'d, Endianness>, Error> {
    let image: ElfFile64<'d, Endianness> = ElfFile64::parse(elf)
        .map_err(|error| Error::malformed(file, format!("not a 64-bit kernel: {error}")))?;
    if image.endian() != Endianness::Little {
        return Err(Error::malformed(
            file,
            "big-endian kernels are not supported; give their Module.symvers",
        ));
    }
    Ok(image)
}

fn find<'d>(
    file: &str,
    image: &ElfFile64<'d, Endianness>,
    name: &'static str,
) -> Result<Option<Section<'d>>, Error> {
    let Some(section) = image.section_by_name(name) else {
        return Ok(None);
    };
    let problem = |problem: &str| Error::malformed(file, format!("section {name}: {problem}"));
    let data = section.data().map_err(|_| problem("lies behind the end of the file"))?;
    if data.is_empty() && section.size() > 0 {
        return Err(problem("has no contents (a file with only debug information?)"));
    }
    if section.address().checked_add(section.size()).is_none() {
        return Err(problem("wraps around the address space"));
    }
    let data = Cow::Borrowed(data);
    Ok(Some(Section { name, address: section.address(), data }).filter(|section| !section.data.is_empty()))
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
    fn size(self) -> usize {
        match self {
            Shape::Relative { fields } => fields * 4,
            Shape::Absolute { fields } => fields * 8,
        }
    }

    fn fields(self) -> usize {
        match self {
            Shape::Relative { fields } | Shape::Absolute { fields } => fields,
        }
    }

    /// The address that a field of the entry at `address` refers to.
    fn field(self, entry: &[u8], address: u64, field: usize) -> Option<u64> {
        match self {
            Shape::Relative { .. } => {
                let offset = i32::from_le_bytes(*entry.get(field * 4..)?.first_chunk()?);
                // A null reference is an offset of zero: no namespace.
                let place = address.wrapping_add(field as u64 * 4);
                Some(if offset == 0 { 0 } else { place.wrapping_add_signed(i64::from(offset)) })
            }
            Shape::Absolute { .. } => Some(u64::from_le_bytes(*entry.get(field * 8..)?.first_chunk()?)),
        }
    }
}

/// The entries of a table. The shape is the one in which every entry has a name among the strings.
fn entries(file: &str, table: &Section<'_>, strings: &Section<'_>) -> Result<Vec<KernelSymbol>, Error> {
    let found = SHAPES.iter().find_map(|&shape| {
        let size = shape.size();
        if !table.data.len().is_multiple_of(size) || table.data.len() / size > MAX_SYMBOLS {
            return None;
        }
        let entries = table.data.chunks_exact(size).enumerate();
        entries
            .map(|(at, entry)| read_entry(shape, entry, table.address + (at * size) as u64, strings))
            .collect()
    });
    found.ok_or_else(|| {
        Error::malformed(
            file,
            format!("section {}: its entries do not refer to names in {}", table.name, strings.name),
        )
    })
}

fn read_entry(shape: Shape, entry: &[u8], address: u64, strings: &Section<'_>) -> Option<KernelSymbol> {
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
    std::str::from_utf8(&rest[..end]).ok()
}

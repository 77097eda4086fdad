//! A kernel as it lies in memory, its tables found by its own symbols.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use modmem::arch::Machine;

use super::{
    ImageFacts,
    bytes::Bytes,
    kallsyms::{Base, Kallsyms},
    listed::{self, ListedSymbol},
    memory::{KernelMemory, Segment},
    relative::Relative,
};
use crate::{
    Error, KernelSymbol,
    ksymtab::{
        self, Section, Tables,
        find::{Fields, find},
    },
};

/// Symbols that say where the parts are.
const WANTED: [&str; 17] = [
    "_text",
    "_stext",
    "_etext",
    "_end",
    "__per_cpu_start",
    "__per_cpu_end",
    "kallsyms_token_table",
    "__start___ksymtab",
    "__stop___ksymtab",
    "__start___ksymtab_gpl",
    "__stop___ksymtab_gpl",
    "__start___kcrctab",
    "__stop___kcrctab",
    "__start___kcrctab_gpl",
    "__stop___kcrctab_gpl",
    "__start___kflagstab",
    "__stop___kflagstab",
];

/// Functions that every kernel exports and lists: what they tell must agree with what the tables say.
const EXPORTED: [&str; 6] = ["_printk", "kfree", "schedule", "msleep", "mutex_unlock", "complete"];

/// Bytes of the smallest page.
const PAGE: u64 = 4096;
/// What a kernel's start is aligned to at least, where it may be moved (MIN_KIMG_ALIGN is more).
const LARGE_PAGE: u64 = 64 << 10;
/// How far before its first symbol an image may begin.
const FARTHEST_FIRST: u64 = 32 << 20;
/// So many entries of a table tell as much as all.
const SAMPLE: usize = 512;

/// The kernel's bytes from its first one on.
#[derive(Debug)]
pub(super) struct Flat {
    pub(super) bytes: Vec<u8>,
    pub(super) machine: Machine,
    pub(super) little: bool,
    /// Bytes of a pointer.
    pub(super) word: usize,
    /// Bytes of memory that the kernel takes, if a header says so.
    pub(super) size: Option<u64>,
    /// Where such kernels are linked, for those whose symbols do not say it.
    pub(super) base: Option<u64>,
}

/// Where the parts of a kernel are.
#[derive(Debug)]
pub(super) struct Map {
    addresses: HashMap<&'static str, u64>,
    /// What the symbols' offsets count from.
    base: u64,
    /// The address of the image's first byte.
    first: u64,
    /// Whether a symbol of something that was found says so. Otherwise the image is taken to begin with the first symbol.
    certain: bool,
}

impl Map {
    /// Finds out from the kernel's own symbols; `None` if there are none. Where they count from their own places, `base_at`
    /// has the base of what is at a place of the image.
    pub(super) fn of(
        bytes: Bytes<'_>,
        relative: &Relative,
        base_at: impl FnOnce(usize) -> Option<u64>,
    ) -> Option<Map> {
        let kallsyms = Kallsyms::find(bytes)?;
        let mut offsets = kallsyms.offsets_of(&[&WANTED[..], &EXPORTED].concat());
        // Kernels that keep the symbols of functions alone have none of the table: they begin with their first symbol.
        let anchor = offsets.get("kallsyms_token_table").copied();
        let shift = anchor.map(|offset| (kallsyms.token_table() as u64).wrapping_sub(offset));
        let (base, first) = match kallsyms.base() {
            Base::Place => (base_at(kallsyms.token_table())?, None),
            Base::Word(at) => match bytes.word(at)? {
                0 => moved_base(relative, at as u64, shift, bytes.data.len() as u64)?,
                base => (base, None),
            },
        };
        let first = first.or_else(|| Some(base.wrapping_sub(shift?)));
        for offset in offsets.values_mut() {
            *offset = offset.wrapping_add(base);
        }
        Some(Map { certain: first.is_some(), first: first.unwrap_or(base), base, addresses: offsets })
    }

    pub(super) fn address(&self, name: &str) -> Option<u64> {
        self.addresses.get(name).copied()
    }

    /// What the symbols' offsets count from.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    fn range(&self, start: &str, end: &str) -> Option<Range<u64>> {
        let range = self.address(start)?..self.address(end)?;
        (range.start < range.end).then_some(range)
    }

    pub(super) fn percpu(&self) -> Option<Range<u64>> {
        self.range("__per_cpu_start", "__per_cpu_end")
    }
}

/// The base of a kernel that holds 0 where its base is: what the kernel writes there when it starts. With it the address of
/// the image's first byte, which is as far before the base as `shift` says, or else any number of pages.
fn moved_base(relative: &Relative, at: u64, shift: Option<u64>, length: u64) -> Option<(u64, Option<u64>)> {
    let pointers = relative.pointers();
    let (lowest, highest) = (pointers.first()?.0, pointers.last()?.0);
    let candidate = |&(place, base): &(u64, u64)| {
        let first = place.wrapping_sub(at);
        let fits = match shift {
            Some(shift) => base.wrapping_sub(shift) == first,
            // All that moves lies in the image, which begins where large pages may.
            None => {
                let before = base.checked_sub(first)?;
                let holds_all = first <= lowest && highest - first < length;
                holds_all && before < FARTHEST_FIRST && first % LARGE_PAGE == 0
            }
        };
        (fits && base % PAGE == 0).then_some((base, Some(first)))
    };
    let mut candidates = pointers.iter().filter_map(candidate);
    let found = candidates.next()?;
    candidates.all(|other| other == found).then_some(found)
}

/// Where kernels are linked that are configured like this; `number` has what the configuration sets to a number.
pub(super) fn usual_base(machine: Machine, number: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    match machine {
        // KIMAGE_VADDR: 2 GiB behind the start of the upper half. Larger addresses than of 48 bits are for CPUs that have
        // them (VA_BITS_MIN).
        Machine::Arm64 => {
            let is_16k =
                number("CONFIG_ARM64_PAGE_SHIFT").or_else(|| number("CONFIG_PAGE_SHIFT")) == Some(14);
            let bits = match number("CONFIG_ARM64_VA_BITS").unwrap_or(48) {
                49.. if is_16k => 47,
                bits => bits.clamp(36, 48),
            };
            Some((u64::MAX << (bits - 1)).wrapping_add(2 << 30))
        }
        Machine::RiscV => Some(0xffff_ffff_8000_0000),
        Machine::S390 => Some(0x10_0000),
        _ => None,
    }
}

/// What the kernel's memory holds before it runs.
pub(super) fn memory(file: &str, flat: &Flat) -> Result<KernelMemory, Error> {
    let (map, relative) = flat.map(file)?;
    let mut bytes = flat.bytes.clone();
    relative.apply(&mut bytes, map.first, flat.little, flat.word);
    let end = map.address("_end").map(|end| end.saturating_sub(map.first));
    let size = end.or(flat.size).unwrap_or(0).max(bytes.len() as u64);
    Ok(KernelMemory { segments: vec![Segment { address: map.first, bytes, size }] })
}

impl Flat {
    fn bytes(&self) -> Bytes<'_> {
        Bytes { data: &self.bytes, little: self.little, word: self.word }
    }

    fn map(&self, file: &str) -> Result<(Map, Relative), Error> {
        let relative = Relative::find(self.bytes(), self.machine);
        let map = Map::of(self.bytes(), &relative, |_| self.base);
        let map = map.and_then(|map| if map.certain { Some(map) } else { self.with_first(map) });
        let map = map.ok_or_else(|| {
            Error::malformed(
                file,
                "the kernel's own symbols are not found in it; give Module.symvers or a System.map with --symbols",
            )
        })?;
        Ok((map, relative))
    }

    /// Finds out where the image begins from its table of exports: before the first symbol, where the names that the
    /// table points to begin behind the ends of others. Some share their ends with longer ones, and begin elsewhere.
    fn with_first(&self, map: Map) -> Option<Map> {
        let table = map.range("__start___ksymtab", "__stop___ksymtab")?;
        let (word, bytes) = (self.word, self.bytes());
        let begins = |first: u64, entry: u64, is_relative: bool| {
            let at = |address: u64| usize::try_from(address.checked_sub(first)?).ok();
            let name = match is_relative {
                true => {
                    let place = entry.checked_add(4)?;
                    place.wrapping_add_signed(i64::from(bytes.u32(at(place)?)? as i32))
                }
                false => bytes.word(at(entry.checked_add(word as u64)?)?)?,
            };
            let name = at(name)?;
            Some(self.bytes.get(name.checked_sub(1)?)? == &0 && self.bytes.get(name)? != &0)
        };
        let is_first = |first: u64| {
            [(12, true), (3 * word, false)].into_iter().any(|(size, is_relative)| {
                let entries = || table.clone().step_by(size).take(SAMPLE);
                let good = entries().filter(|entry| begins(first, *entry, is_relative) == Some(true)).count();
                good * 4 > entries().count() * 3
            })
        };
        let firsts = (0..FARTHEST_FIRST / PAGE).map(|page| map.first.wrapping_sub(page * PAGE));
        let first = firsts.into_iter().find(|first| is_first(*first))?;
        Some(Map { first, certain: true, ..map })
    }

    /// All symbols that the kernel lists of itself.
    pub(super) fn listed(&self) -> Option<Vec<ListedSymbol>> {
        let relative = Relative::find(self.bytes(), self.machine);
        listed::symbols(self.bytes(), &relative, |_| self.base)
    }

    /// What the kernel exports to modules.
    pub(super) fn symbols(&self, file: &str) -> Result<Vec<KernelSymbol>, Error> {
        let (map, relative) = self.map(file)?;
        let section = |name: &'static str, start: &str, end: &str| {
            let Some(range) = map.range(start, end) else { return Ok(None) };
            let section = self.section(&map, &relative, name, range).map(Some);
            section.ok_or_else(|| Error::malformed(file, format!("{name} lies behind the end of the file")))
        };
        let plain = section("__ksymtab", "__start___ksymtab", "__stop___ksymtab")?;
        let gpl = section("__ksymtab_gpl", "__start___ksymtab_gpl", "__stop___ksymtab_gpl")?;
        let crcs = section("__kcrctab", "__start___kcrctab", "__stop___kcrctab")?;
        let gpl_crcs = section("__kcrctab_gpl", "__start___kcrctab_gpl", "__stop___kcrctab_gpl")?;
        let flags = section("__kflagstab", "__start___kflagstab", "__stop___kflagstab")?;
        if plain.is_none() && gpl.is_none() {
            return self.unlisted_symbols(file, &map, &relative);
        }
        // The linker puts the names behind the tables, and nothing says where they end.
        let tables = [&plain, &gpl, &crcs, &gpl_crcs, &flags];
        let end = tables.iter().filter_map(|table| Some(table.as_ref()?.end())).max();
        let end = end.unwrap_or(map.first);
        let last = map.first.wrapping_add(self.bytes.len() as u64);
        let strings = self.section(&map, &Relative::default(), "__ksymtab_strings", end..last);
        let tables = Tables { plain, gpl, crcs, gpl_crcs, flags, strings };
        ksymtab::symbols(file, &tables, self.little, self.word)
    }

    /// The same where the kernel lists functions alone (CONFIG_KALLSYMS_ALL is off): its tables are found by what they look
    /// like, and must say of functions what the list does.
    fn unlisted_symbols(
        &self,
        file: &str,
        map: &Map,
        relative: &Relative,
    ) -> Result<Vec<KernelSymbol>, Error> {
        let missing = || {
            let problem = "the kernel's own symbols do not tell where its exports are (CONFIG_KALLSYMS_ALL is off), and what \
                           looks like them is not to be found; give Module.symvers or a System.map with --symbols";
            Error::malformed(file, problem)
        };
        let mut bytes = Cow::Borrowed(&self.bytes[..]);
        if !relative.is_empty() {
            relative.apply(bytes.to_mut(), map.first, self.little, self.word);
        }
        let forms = [Fields::Offsets, Fields::Pointers { first: map.first }];
        let places = forms.into_iter().find_map(|fields| find(self.bytes().with(&bytes), fields));
        let places = places.ok_or_else(missing)?;
        let section = |name, range: &Range<usize>| Section {
            name,
            address: map.first.wrapping_add(range.start as u64),
            data: Cow::Borrowed(bytes.get(range.clone()).unwrap_or_default()),
        };
        let tables = Tables {
            plain: Some(section("__ksymtab", &places.plain)),
            gpl: places.gpl.as_ref().map(|range| section("__ksymtab_gpl", range)),
            crcs: places.crcs.as_ref().map(|range| section("__kcrctab", range)),
            gpl_crcs: places.gpl_crcs.as_ref().map(|range| section("__kcrctab_gpl", range)),
            flags: None,
            strings: Some(section("__ksymtab_strings", &(places.strings..self.bytes.len()))),
        };
        let symbols = ksymtab::symbols(file, &tables, self.little, self.word)?;
        let address = |name: &str| {
            let at = symbols.binary_search_by(|symbol| (*symbol.name).cmp(name)).ok()?;
            symbols.get(at)?.address
        };
        let told = EXPORTED.iter().filter_map(|name| Some((map.address(name)?, address(name)?)));
        let agree: Vec<bool> = told.map(|(listed, exported)| listed == exported).collect();
        if agree.len() * 2 > EXPORTED.len() && agree.iter().all(|agrees| *agrees) {
            return Ok(symbols);
        }
        Err(missing())
    }

    /// The bytes of a range of addresses, as the kernel has them once it has started.
    fn section(
        &self,
        map: &Map,
        relative: &Relative,
        name: &'static str,
        range: Range<u64>,
    ) -> Option<Section<'_>> {
        let at = |address: u64| usize::try_from(address.checked_sub(map.first)?).ok();
        let data = self.bytes.get(at(range.start)?..at(range.end)?)?;
        let mut data = Cow::Borrowed(data);
        if !relative.is_empty() {
            relative.apply(data.to_mut(), range.start, self.little, self.word);
        }
        Some(Section { name, address: range.start, data })
    }

    /// Where the kernel's parts are.
    pub(super) fn facts(&self, file: &str) -> Result<ImageFacts, Error> {
        let (map, _) = self.map(file)?;
        let text = map.address("_text").unwrap_or(map.first);
        let size = self.size.unwrap_or(self.bytes.len() as u64);
        let end = map.address("_end").or_else(|| map.first.checked_add(size));
        let end = end.filter(|end| *end > text);
        let end = end.ok_or_else(|| Error::malformed(file, "the kernel in it ends before it begins"))?;
        Ok(ImageFacts { percpu: map.percpu(), start: text, text, text_end: map.address("_etext"), end })
    }
}

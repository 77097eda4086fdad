//! The floor: as much as loading must do and as little as it can, written for this one purpose.
//!
//! It validates what it reads, lays sections out in Linux's seven types of module memory, copies, finds symbols by
//! name and applies x86-64 relocations with Linux's checks (place inside of its section, bytes there still zero,
//! value fits). It knows no names, exports, parameters or versions of modules, keeps no symbol tables and builds no
//! index: what a loader that does those takes beyond the floor is their price.

use crate::arena::{Arena, PAGE};
use crate::contender::{Contender, KERNEL_MODULES, Loaded, Placements};
use crate::elf::{
    self, FileHeader, R_32, R_32S, R_64, R_NONE, R_PC32, R_PC64, R_PLT32, Rela, SHF_ALLOC, SHF_EXECINSTR,
    SHF_WRITE, SHN_ABS, SHN_LORESERVE, SHN_UNDEF, SHT_NOBITS, SHT_RELA, SHT_SYMTAB, Section, Symbol,
};
use crate::files::File;
use crate::names::{Hashed, Names, prefetch};

// Linux's enum mod_mem_type, by value.
const TEXT: u8 = 0;
const DATA: u8 = 1;
const RODATA: u8 = 2;
const RO_AFTER_INIT: u8 = 3;
const INIT_TEXT: u8 = 4;
const INIT_DATA: u8 = 5;
const INIT_RODATA: u8 = 6;
const TYPES: usize = 7;
/// A section that stays in the file.
const ABSENT: u8 = 7;
/// The section that every CPU has a copy of: it has addresses for symbols, but no bytes here.
const PERCPU: u8 = 8;

/// Where modules' per-CPU offsets start, after the kernel's own.
const FIRST_PERCPU: u64 = 0x3_0000;

/// Loads for a kernel: relocates for the addresses from `KERNEL_MODULES` on, and writes elsewhere.
#[derive(Debug)]
pub(crate) struct Floor {
    names: &'static Names,
    /// Of the current module, by section index. The vectors live on only to be reused.
    places: Vec<Place>,
    /// Of the current module, by symbol index.
    values: Vec<u64>,
    /// Undefined symbols of the current module.
    undefined: Vec<(u32, Hashed)>,
    next_percpu: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Offset in the arena; until the blocks are taken, offset in its type's block.
    start: usize,
    /// Run address; 0 if absent.
    base: u64,
    size: usize,
    kind: u8,
    /// Its bytes are in the arena.
    copied: bool,
}

impl Place {
    fn is_memory(&self) -> bool {
        usize::from(self.kind) < TYPES
    }

    fn address(&self) -> Option<u64> {
        (self.kind != ABSENT).then_some(self.base)
    }
}

type Result<T> = std::result::Result<T, &'static str>;

impl Floor {
    /// `names` has addresses from `KERNEL_NAMES` on.
    pub(crate) fn new(names: &'static Names) -> Self {
        Self {
            names,
            places: Vec::new(),
            values: Vec::new(),
            undefined: Vec::new(),
            next_percpu: FIRST_PERCPU,
        }
    }

    fn load(&mut self, file: &[u8], arena: &mut Arena) -> Result<()> {
        let header = elf::table::<FileHeader>(file, 0, size_of::<FileHeader>() as u64)
            .and_then(|headers| headers.first())
            .ok_or("the file is shorter than its header")?;
        if header.ident[..6] != *b"\x7fELF\x02\x01" || header.kind != 1 || header.machine != 62 {
            return Err("not an x86-64 module");
        }
        if usize::from(header.section_header_size) != size_of::<Section>() {
            return Err("section headers of an unknown size");
        }
        let size = u64::from(header.section_header_count) * size_of::<Section>() as u64;
        let sections = elf::table::<Section>(file, header.section_headers, size)
            .ok_or("the section headers are outside of the file")?;
        let names = sections
            .get(usize::from(header.section_names))
            .and_then(|section| elf::range(file, section.offset, section.size))
            .ok_or("no section names")?;

        self.lay_out(sections, names, arena)?;
        let symbols = sections.iter().find(|s| s.kind == SHT_SYMTAB).ok_or("no symbols")?;
        let strings = sections
            .get(symbols.link as usize)
            .and_then(|section| elf::range(file, section.offset, section.size))
            .ok_or("no symbol names")?;
        let symbols = elf::table::<Symbol>(file, symbols.offset, symbols.size)
            .ok_or("the symbols are outside of the file")?;
        self.resolve(symbols, strings)?;
        self.fill(file, sections, arena.bytes_mut())
    }

    /// Gives every section its place.
    fn lay_out(&mut self, sections: &[Section], names: &[u8], arena: &mut Arena) -> Result<()> {
        self.places.clear();
        let mut sizes = [0_usize; TYPES];
        let mut seen = 0_u8;
        for section in sections {
            let size = section.size as usize;
            let mut place = Place { start: 0, base: 0, size, kind: ABSENT, copied: false };
            if section.flags & SHF_ALLOC != 0 {
                let name = names.get(section.name as usize..).ok_or("a section name is out of range")?;
                place.kind = kind(section.flags, name, &mut seen);
            }
            if place.kind != ABSENT {
                let align = (section.align as usize).max(1);
                if !align.is_power_of_two() || align > PAGE {
                    return Err("an alignment that pages cannot give");
                }
                // Linux's sizes are 32 bits; this also keeps the sums far from overflow.
                if section.size > u64::from(u32::MAX) {
                    return Err("a section above 4 GiB");
                }
                if place.kind == PERCPU {
                    place.base = self.next_percpu.next_multiple_of(align as u64);
                    self.next_percpu = place.base + section.size;
                } else {
                    let end = &mut sizes[usize::from(place.kind)];
                    place.start = (*end + align - 1) & !(align - 1);
                    *end = place.start + size;
                }
            }
            self.places.push(place);
        }

        let mut blocks = [0_usize; TYPES];
        for (block, size) in blocks.iter_mut().zip(sizes) {
            *block = arena.take(size).ok_or("the arena is full")?;
        }
        for place in &mut self.places {
            if let Some(block) = blocks.get(usize::from(place.kind)) {
                place.start += block;
                place.base = KERNEL_MODULES + place.start as u64;
            }
        }
        Ok(())
    }

    /// Computes the value of every symbol.
    fn resolve(&mut self, symbols: &[Symbol], strings: &[u8]) -> Result<()> {
        self.values.clear();
        self.values.resize(symbols.len(), 0);
        self.undefined.clear();
        for (index, (symbol, value)) in symbols.iter().zip(&mut self.values).enumerate().skip(1) {
            *value = match symbol.section {
                SHN_UNDEF => {
                    if let Some(first) = strings.get(symbol.name as usize) {
                        prefetch(first);
                    }
                    self.undefined.push((index as u32, Hashed::default()));
                    0
                }
                SHN_ABS => symbol.value,
                SHN_LORESERVE.. => return Err("a symbol in a special section"),
                section => {
                    let place = self.places.get(usize::from(section));
                    place.ok_or("a symbol in no section")?.base.wrapping_add(symbol.value)
                }
            };
        }
        // In steps, so that the caches' misses do not wait for each other.
        for (index, hashed) in &mut self.undefined {
            let name = symbols[*index as usize].name as usize;
            *hashed = self.names.hash_in(strings, name).ok_or("a symbol's name is out of range")?;
        }
        for &(index, hashed) in &self.undefined {
            let symbol = &symbols[index as usize];
            match self.names.get_hashed(hashed, strings, symbol.name as usize) {
                Some(address) => self.values[index as usize] = address,
                None if symbol.is_weak() => {}
                None => return Err("unknown symbol"),
            }
        }
        Ok(())
    }

    /// Copies each section and relocates it while it is in the cache: relocations follow their section in the file.
    fn fill(&mut self, file: &[u8], sections: &[Section], memory: &mut [u8]) -> Result<()> {
        for (index, section) in sections.iter().enumerate() {
            self.copy(file, sections, index, memory)?;
            if section.kind != SHT_RELA {
                continue;
            }
            let target = section.info as usize;
            match self.places.get(target) {
                Some(place) if place.is_memory() => {}
                _ => continue,
            }
            self.copy(file, sections, target, memory)?;
            let relocations = elf::table::<Rela>(file, section.offset, section.size)
                .ok_or("the relocations are outside of the file")?;
            let place = self.places[target];
            let bytes = &mut memory[place.start..place.start + place.size];
            relocate(relocations, &self.values, place.base, bytes)?;
        }
        Ok(())
    }

    fn copy(&mut self, file: &[u8], sections: &[Section], index: usize, memory: &mut [u8]) -> Result<()> {
        let place = &mut self.places[index];
        let section = &sections[index];
        if !place.is_memory() || place.copied || section.kind == SHT_NOBITS {
            return Ok(());
        }
        place.copied = true;
        let bytes =
            elf::range(file, section.offset, section.size).ok_or("a section is outside of the file")?;
        memory[place.start..place.start + place.size].copy_from_slice(bytes);
        Ok(())
    }
}

/// Sections that Linux treats by name. Only the first of each name counts, hence `seen`, a bit for each.
const SPECIAL: [(&[u8], u8); 5] = [
    (b".modinfo\0", ABSENT),
    (b"__versions\0", ABSENT),
    (b".data..percpu\0", PERCPU),
    (b".data..ro_after_init\0", RO_AFTER_INIT),
    (b"__jump_table\0", RO_AFTER_INIT),
];

/// The type of memory that an `SHF_ALLOC` section belongs in. Linux tries masks in turn and, within a mask,
/// sections in order; as no type but data is reached by two masks, and data by the second only on alpha, one pass
/// over the sections gives the same places.
fn kind(flags: u64, name: &[u8], seen: &mut u8) -> u8 {
    let mut ro_after_init = false;
    // Most names start with ".text", ".rodata", ".bss", ".orc" and such.
    if matches!(name, [b'_', b'_', b'v' | b'j', ..] | [b'.', b'm' | b'd', ..]) {
        for (bit, (special, kind)) in SPECIAL.iter().enumerate() {
            if name.starts_with(special) && *seen & (1 << bit) == 0 {
                *seen |= 1 << bit;
                if *kind != RO_AFTER_INIT {
                    return *kind;
                }
                ro_after_init = true;
            }
        }
    }
    let init = name.starts_with(b".init");
    match (flags & SHF_EXECINSTR != 0, flags & SHF_WRITE != 0) {
        (true, _) => [TEXT, INIT_TEXT][usize::from(init)],
        (false, false) => [RODATA, INIT_RODATA][usize::from(init)],
        (false, true) if ro_after_init && !init => RO_AFTER_INIT,
        (false, true) => [DATA, INIT_DATA][usize::from(init)],
    }
}

/// Applies a section's relocations; `base` is the section's run address.
#[inline(never)]
fn relocate(relocations: &[Rela], values: &[u64], base: u64, bytes: &mut [u8]) -> Result<()> {
    for relocation in relocations {
        let symbol = *values.get(relocation.symbol as usize).ok_or("a relocation against no symbol")?;
        let value = symbol.wrapping_add(relocation.addend as u64);
        let place = base.wrapping_add(relocation.offset);
        // Types mix without a pattern that a branch or a jump table could be predicted by, so the three that write
        // four signed bytes share one path. Linux lets distances wrap; that check costs nothing here.
        if SIGNED_32.checked_shr(relocation.kind).is_some_and(|set| set & 1 != 0) {
            let value = value.wrapping_sub(if relocation.kind == R_32S { 0 } else { place });
            if value as i32 as u64 != value {
                return Err("a relocation overflows");
            }
            put(bytes, relocation, (value as u32).to_le_bytes())?;
        } else if relocation.kind == R_64 {
            put(bytes, relocation, value.to_le_bytes())?;
        } else {
            relocate_rarely(relocation, value, place, bytes)?;
        }
    }
    Ok(())
}

/// Relocation types that write four bytes which are sign-extended, a bit for each.
const SIGNED_32: u32 = 1 << R_PC32 | 1 << R_PLT32 | 1 << R_32S;

#[cold]
fn relocate_rarely(relocation: &Rela, value: u64, place: u64, bytes: &mut [u8]) -> Result<()> {
    match relocation.kind {
        R_PC64 => put(bytes, relocation, value.wrapping_sub(place).to_le_bytes()),
        R_32 if u64::from(value as u32) == value => put(bytes, relocation, (value as u32).to_le_bytes()),
        R_NONE => Ok(()),
        R_32 => Err("a relocation overflows"),
        _ => Err("an unknown relocation"),
    }
}

#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8], relocation: &Rela, value: [u8; N]) -> Result<()> {
    let field = usize::try_from(relocation.offset)
        .ok()
        .and_then(|offset| bytes.get_mut(offset..)?.first_chunk_mut::<N>())
        .ok_or("a relocation outside of its section")?;
    if *field != [0; N] {
        return Err("a relocated place is not zero");
    }
    *field = value;
    Ok(())
}

impl Contender for Floor {
    fn name(&self) -> &str {
        "floor"
    }

    fn note(&self) -> &str {
        "7 memory types, all checks; no names, exports, modinfo, kallsyms, index"
    }

    fn load_all(&mut self, files: &[File], arena: &mut Arena) -> Loaded {
        self.next_percpu = FIRST_PERCPU;
        let mut loaded = Loaded::default();
        for file in files {
            loaded.count(file, self.load(file.bytes(), arena));
        }
        loaded
    }

    fn place_all(&mut self, files: &[File], arena: &mut Arena) -> Option<Placements> {
        self.next_percpu = FIRST_PERCPU;
        let modules = files
            .iter()
            .map(|file| {
                self.load(file.bytes(), arena).ok()?;
                Some(self.places.iter().map(Place::address).collect())
            })
            .collect();
        Some(Placements::linear(KERNEL_MODULES, self.names, modules))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_linux() {
        let mut seen = 0;
        let mut kind = |flags, name: &str| super::kind(SHF_ALLOC | flags, name.as_bytes(), &mut seen);
        assert_eq!(kind(SHF_EXECINSTR, ".text\0"), TEXT);
        assert_eq!(kind(SHF_EXECINSTR, ".init.text\0"), INIT_TEXT);
        assert_eq!(kind(SHF_EXECINSTR, ".exit.text\0"), TEXT);
        assert_eq!(kind(0, ".modinfo\0"), ABSENT);
        assert_eq!(kind(0, ".modinfo\0"), RODATA);
        assert_eq!(kind(0, "__versions\0"), ABSENT);
        assert_eq!(kind(0, ".init.rodata\0"), INIT_RODATA);
        assert_eq!(kind(SHF_WRITE, ".data\0"), DATA);
        assert_eq!(kind(SHF_WRITE, ".data..percpu\0"), PERCPU);
        assert_eq!(kind(SHF_WRITE, ".data..ro_after_init\0"), RO_AFTER_INIT);
        assert_eq!(kind(SHF_WRITE, "__jump_table\0"), RO_AFTER_INIT);
        assert_eq!(kind(SHF_WRITE, "__jump_table\0"), DATA);
        assert_eq!(kind(SHF_WRITE, ".init.data\0"), INIT_DATA);
    }

    #[test]
    fn relocations_are_checked() {
        let values = [0, 0xffff_ffff_c000_1000];
        let rela = |kind, offset, addend| [Rela { offset, kind, symbol: 1, addend }];
        let base = 0xffff_ffff_c000_0000;
        let mut bytes = [0; 8];
        assert_eq!(relocate(&rela(R_PC32, 2, -4), &values, base, &mut bytes), Ok(()));
        assert_eq!(bytes, [0, 0, 0xfa, 0x0f, 0, 0, 0, 0]);
        assert!(relocate(&rela(R_PC32, 2, -4), &values, base, &mut bytes).is_err(), "not zero any more");
        let mut bytes = [0; 8];
        assert!(relocate(&rela(R_PC32, 5, 0), &values, base, &mut bytes).is_err(), "past the end");
        assert!(relocate(&rela(R_PC32, u64::MAX, 0), &values, base, &mut bytes).is_err());
        assert!(relocate(&rela(R_32, 0, 0), &values, base, &mut bytes).is_err(), "overflow");
        assert!(relocate(&rela(R_32S, 0, -0x6000_0000), &values, base, &mut bytes).is_err(), "overflow");
        assert!(relocate(&rela(9, 0, 0), &values, base, &mut bytes).is_err(), "unknown");
        assert_eq!(bytes, [0; 8]);
        assert_eq!(relocate(&rela(R_32S, 0, 0), &values, base, &mut bytes), Ok(()));
        assert_eq!(bytes[..4], [0, 0x10, 0, 0xc0]);
    }
}

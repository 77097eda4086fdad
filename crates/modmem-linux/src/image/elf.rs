//! The ELF file of a kernel, `vmlinux`: any class and byte order.

use std::borrow::Cow;

use modmem::arch::Machine;
use object::{
    Endianness, FileKind, Object, ObjectSection, ObjectSegment,
    read::elf::{ElfFile, FileHeader},
};

use super::{
    ImageFacts,
    bytes::Bytes,
    flat::Map,
    listed::{self, ListedSymbol},
    memory::{KernelMemory, Segment},
    relative::Relative,
};
use crate::{
    Error, KernelSymbol,
    ksymtab::{self, Section, Tables},
};

/// A kernel's ELF file, whatever its class.
struct Vmlinux<'d, H: FileHeader<Endian = Endianness>> {
    file: &'d str,
    data: &'d [u8],
    elf: ElfFile<'d, H>,
}

/// The machine that an ELF file is for.
pub(super) fn machine(file: &str, elf: &[u8]) -> Result<Machine, Error> {
    match FileKind::parse(elf) {
        Ok(FileKind::Elf32) => Ok(Vmlinux::<Elf32>::parse(file, elf)?.machine()),
        _ => Ok(Vmlinux::<Elf64>::parse(file, elf)?.machine()),
    }
}

/// The symbols that a kernel's ELF file exports to modules, sorted by name.
///
/// `file` names it in errors.
pub fn kernel_symbols(file: &str, elf: &[u8]) -> Result<Vec<KernelSymbol>, Error> {
    match FileKind::parse(elf) {
        Ok(FileKind::Elf32) => Vmlinux::<Elf32>::parse(file, elf)?.symbols(),
        _ => Vmlinux::<Elf64>::parse(file, elf)?.symbols(),
    }
}

/// All symbols that the kernel lists of itself; `None` if there is no list in the file.
pub(super) fn listed(file: &str, elf: &[u8]) -> Result<Option<Vec<ListedSymbol>>, Error> {
    Ok(match FileKind::parse(elf) {
        Ok(FileKind::Elf32) => Vmlinux::<Elf32>::parse(file, elf)?.listed(),
        _ => Vmlinux::<Elf64>::parse(file, elf)?.listed(),
    })
}

/// Where the kernel's parts are, from its ELF file.
pub fn image_facts(file: &str, elf: &[u8]) -> Result<ImageFacts, Error> {
    match FileKind::parse(elf) {
        Ok(FileKind::Elf32) => Vmlinux::<Elf32>::parse(file, elf)?.facts(),
        _ => Vmlinux::<Elf64>::parse(file, elf)?.facts(),
    }
}

/// What the kernel's memory holds before it runs.
pub(super) fn memory(file: &str, elf: &[u8]) -> Result<KernelMemory, Error> {
    match elf.get(4) {
        Some(1) => Vmlinux::<Elf32>::parse(file, elf)?.memory(),
        _ => Vmlinux::<Elf64>::parse(file, elf)?.memory(),
    }
}

type Elf32 = object::elf::FileHeader32<Endianness>;
type Elf64 = object::elf::FileHeader64<Endianness>;

impl<'d, H: FileHeader<Endian = Endianness>> Vmlinux<'d, H> {
    fn parse(file: &'d str, data: &'d [u8]) -> Result<Vmlinux<'d, H>, Error> {
        let elf = ElfFile::parse(data)
            .map_err(|error| Error::malformed(file, format!("not a kernel's ELF file: {error}")))?;
        Ok(Vmlinux { file, data, elf })
    }

    fn machine(&self) -> Machine {
        Machine::from_elf(self.elf.elf_header().e_machine(self.elf.endian()).0)
    }

    fn bytes<'b>(&self, data: &'b [u8]) -> Bytes<'b> {
        let little = self.elf.endian() == Endianness::Little;
        Bytes { data, little, word: if self.elf.is_64() { 8 } else { 4 } }
    }

    /// What the kernel adds to itself when it starts, where it may run anywhere.
    fn relative(&self) -> Relative {
        let table = self.elf.section_by_name(".rela.dyn").and_then(|section| section.data().ok());
        table.map(|table| Relative::of(self.bytes(table), self.machine())).unwrap_or_default()
    }

    fn symbols(&self) -> Result<Vec<KernelSymbol>, Error> {
        let relative = self.relative();
        let section = |name| self.section(name, &relative);
        let tables = Tables {
            plain: section("__ksymtab")?,
            gpl: section("__ksymtab_gpl")?,
            crcs: section("__kcrctab")?,
            gpl_crcs: section("__kcrctab_gpl")?,
            flags: section("__kflagstab")?,
            strings: section("__ksymtab_strings")?,
        };
        let bytes = self.bytes(&[]);
        ksymtab::symbols(self.file, &tables, bytes.little, bytes.word)
    }

    /// The section of this name, as the kernel has it once it has started; `None` if it is not there or empty.
    fn section(&self, name: &'static str, relative: &Relative) -> Result<Option<Section<'d>>, Error> {
        let Some(section) = self.elf.section_by_name(name) else {
            return Ok(None);
        };
        let problem = |problem: &str| Error::malformed(self.file, format!("section {name}: {problem}"));
        let data = section.data().map_err(|_| problem("lies behind the end of the file"))?;
        if data.is_empty() && section.size() > 0 {
            return Err(problem("has no contents (a file with only debug information?)"));
        }
        if section.address().checked_add(section.size()).is_none() {
            return Err(problem("wraps around the address space"));
        }
        let mut data = Cow::Borrowed(data);
        if !relative.is_empty() {
            let bytes = self.bytes(&[]);
            relative.apply(data.to_mut(), section.address(), bytes.little, bytes.word);
        }
        Ok(Some(Section { name, address: section.address(), data })
            .filter(|section| !section.data.is_empty()))
    }

    fn facts(&self) -> Result<ImageFacts, Error> {
        let mut facts = ImageFacts::default();
        for section in self.elf.sections() {
            let Some(end) = section.address().checked_add(section.size()) else { continue };
            match section.name() {
                Ok(".data..percpu") => facts.percpu = Some(section.address()..end),
                Ok(".text") => facts.text_end = Some(end),
                _ => {}
            }
        }
        let mut first = u64::MAX;
        for segment in self.elf.segments() {
            let (start, size) = (segment.address(), segment.size());
            // The percpu template had a segment of its own at address 0.
            if start == 0 || size == 0 {
                continue;
            }
            let Some(end) = start.checked_add(size) else {
                let problem = "a program header's segment wraps around the address space";
                return Err(Error::malformed(self.file, problem));
            };
            first = first.min(start);
            facts.end = facts.end.max(end);
        }
        if first == u64::MAX {
            return Err(Error::malformed(self.file, "no program header says where the kernel is loaded"));
        }
        facts.text = first;
        // Sections and segments of other machines than x86-64 have other parts of the file around the kernel.
        if self.machine() != Machine::X86_64
            && let Some(map) = Map::of(self.bytes(self.data), &self.relative(), |at| self.base_at(at))
        {
            facts.percpu = map.percpu().or(facts.percpu);
            facts.text = map.address("_text").unwrap_or(facts.text);
            facts.text_end = map.address("_etext").or(facts.text_end);
            facts.end = map.address("_end").unwrap_or(facts.end);
        }
        facts.start = facts.text;
        Ok(facts)
    }

    fn memory(&self) -> Result<KernelMemory, Error> {
        let relative = self.relative();
        let mut segments = Vec::new();
        for segment in self.elf.segments() {
            let bytes = segment.data().map_err(|error| Error::malformed(self.file, error.to_string()))?;
            let (address, mut bytes) = (segment.address(), bytes.to_vec());
            let Bytes { little, word, .. } = self.bytes(&[]);
            relative.apply(&mut bytes, address, little, word);
            // Percpu data of x86-64 was linked to 0, where no memory of the kernel's is.
            if address > 0 {
                segments.push(Segment { address, bytes, size: segment.size() });
            }
        }
        Ok(KernelMemory { segments })
    }

    fn listed(&self) -> Option<Vec<ListedSymbol>> {
        listed::symbols(self.bytes(self.data), &self.relative(), |at| self.base_at(at))
    }

    /// How far the addresses of what is at a place of the file are from its place.
    fn base_at(&self, at: usize) -> Option<u64> {
        let mut sections = self.elf.sections().filter(|section| section.address() > 0);
        let here = sections.find(|section| {
            let (start, size) = section.file_range().unwrap_or_default();
            (start..start.saturating_add(size)).contains(&(at as u64))
        })?;
        Some(here.address().wrapping_sub(here.file_range()?.0))
    }
}

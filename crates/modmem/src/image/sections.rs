//! Section headers: bounds, names, alignments and the sections that Linux looks for by name.

use alloc::vec::Vec;
use core::ops::Range;

use super::elf::{Encoding, FileHeader, SectionHeader, section_flag, section_type};
use super::error::{ImageError, SectionLabel};
use super::name_ends::{LONGEST_NAME, NameEnds};
use crate::name::{Name, string_at};

/// Bytes of section names that take no time to read, however often they are shared.
const FEW_NAMES: usize = 64 << 10;

/// One section of a module.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    index: usize,
    name: Name<'a>,
    header: SectionHeader,
    data: &'a [u8],
}

impl<'a> Section<'a> {
    /// Index in the section header table.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Name.
    pub fn name(&self) -> Name<'a> {
        self.name
    }

    /// `sh_type`, see [`section_type`].
    pub fn kind(&self) -> u32 {
        self.header.kind
    }

    /// `sh_flags`, see [`section_flag`].
    pub fn flags(&self) -> u64 {
        self.header.flags
    }

    /// Bytes that the section takes in memory.
    pub fn size(&self) -> u64 {
        self.header.size
    }

    /// Alignment in bytes, 1 where the file says 0. Nobody checks that it is a power of two.
    pub fn alignment(&self) -> u64 {
        self.header.alignment.max(1)
    }

    /// `sh_link`
    pub fn link(&self) -> u32 {
        self.header.link
    }

    /// `sh_info`
    pub fn info(&self) -> u32 {
        self.header.info
    }

    /// Offset in the file.
    pub fn offset(&self) -> u64 {
        self.header.offset
    }

    pub(crate) fn entry_size(&self) -> u64 {
        self.header.entry_size
    }

    /// The section's bytes in the file; empty for NOBITS.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Whether the file marks the section as part of the loaded module.
    pub fn is_alloc(&self) -> bool {
        self.header.flags & section_flag::ALLOC != 0
    }

    /// Whether the section is zero in memory and absent from the file.
    pub fn is_nobits(&self) -> bool {
        self.header.kind == section_type::NOBITS
    }

    /// The section as an error names it.
    pub fn label(&self) -> SectionLabel {
        SectionLabel::new(self.index, self.name)
    }

    /// The bytes of the file that the section takes, if it has any.
    fn extent(&self) -> Range<u64> {
        self.header.offset..self.header.offset + self.data.len() as u64
    }

    pub(super) fn bad(&self, field: &'static str, value: u64, expected: &'static str) -> ImageError {
        ImageError::BadSection { section: self.label(), field, value, expected }
    }
}

/// Sections that Linux looks for by name, found in one pass; the first ALLOC section of each name.
#[derive(Clone, Debug, Default)]
pub(crate) struct WellKnown {
    pub(crate) this_module: usize,
    pub(crate) symtab: usize,
    pub(crate) modinfo: Option<usize>,
    pub(crate) versions: Option<usize>,
    pub(crate) extended_crcs: Option<usize>,
    pub(crate) extended_names: Option<usize>,
    pub(crate) percpu: Option<usize>,
    pub(crate) ro_after_init: Option<usize>,
    pub(crate) jump_table: Option<usize>,
    pub(crate) static_call_sites: Option<usize>,
    pub(crate) ksymtab: Option<usize>,
    pub(crate) ksymtab_gpl: Option<usize>,
    pub(crate) kcrctab: Option<usize>,
    pub(crate) kcrctab_gpl: Option<usize>,
    pub(crate) kflagstab: Option<usize>,
    pub(crate) has_ctors: bool,
    pub(crate) has_init_array: bool,
}

/// Reads and checks all section headers.
pub(super) fn read_sections<'a, E: Encoding>(
    bytes: &'a [u8],
    header: &FileHeader,
) -> Result<(Vec<Section<'a>>, WellKnown), ImageError> {
    let table = section_table::<E>(bytes, header)?;
    let entry = SectionHeader::size::<E>();
    let names = section_names::<E>(bytes, header, table)?;
    let mut sections = Vec::new();
    sections.try_reserve_exact(usize::from(header.section_count)).map_err(|_| ImageError::OutOfMemory)?;
    let mut finder = Finder::default();
    for (index, record) in table.chunks_exact(entry).enumerate() {
        let header = SectionHeader::decode::<E>(record);
        let section = check_section(bytes, names, index, header)?;
        finder.see(&section)?;
        sections.push(section);
    }
    if !obviously_apart(&sections) {
        check_overlaps(&sections)?;
    }
    let known = finder.finish(&sections)?;
    Ok((sections, known))
}

fn section_table<'a, E: Encoding>(bytes: &'a [u8], header: &FileHeader) -> Result<&'a [u8], ImageError> {
    let entry = SectionHeader::size::<E>();
    if usize::from(header.section_header_size) != entry {
        let value = u64::from(header.section_header_size);
        let expected = if E::IS_64 { "0x40" } else { "0x28" };
        return Err(ImageError::BadHeader { field: "e_shentsize", value, expected });
    }
    if header.section_count == 0 {
        let expected = "at least 1 (Linux takes no extended numbering)";
        return Err(ImageError::BadHeader { field: "e_shnum", value: 0, expected });
    }
    let length = bytes.len() as u64;
    let size = entry as u64 * u64::from(header.section_count);
    let end = header.section_table.checked_add(size).filter(|&end| end <= length).ok_or({
        let end = header.section_table.saturating_add(size);
        ImageError::Truncated { what: "section header table", end, length }
    })?;
    Ok(&bytes[header.section_table as usize..end as usize])
}

fn section_names<'a, E: Encoding>(
    bytes: &'a [u8],
    header: &FileHeader,
    table: &[u8],
) -> Result<&'a [u8], ImageError> {
    let index = usize::from(header.section_names);
    if index == 0 || index >= usize::from(header.section_count) {
        let expected = "the index of a section";
        return Err(ImageError::BadHeader { field: "e_shstrndx", value: index as u64, expected });
    }
    let entry = SectionHeader::size::<E>();
    let names = SectionHeader::decode::<E>(&table[index * entry..]);
    let label = || SectionLabel::new(index, Name(b"section names"));
    if names.kind != section_type::STRTAB {
        let (section, value) = (label(), u64::from(names.kind));
        return Err(ImageError::BadSection { section, field: "sh_type", value, expected: "SHT_STRTAB (3)" });
    }
    let data = file_range(bytes, &names).ok_or_else(|| outside(label(), &names, bytes))?;
    if data.last() != Some(&0) {
        return Err(ImageError::Unterminated { section: label() });
    }
    if data.len() > FEW_NAMES
        && let Some(offset) = NameEnds::of(data)?.long_name()
    {
        return Err(ImageError::LongName { section: label(), offset, bound: LONGEST_NAME as u64 });
    }
    Ok(data)
}

fn file_range<'a>(bytes: &'a [u8], header: &SectionHeader) -> Option<&'a [u8]> {
    let end = header.offset.checked_add(header.size).filter(|&end| end <= bytes.len() as u64)?;
    Some(&bytes[header.offset as usize..end as usize])
}

fn outside(section: SectionLabel, header: &SectionHeader, bytes: &[u8]) -> ImageError {
    let (offset, size, length) = (header.offset, header.size, bytes.len() as u64);
    ImageError::SectionOutsideFile { section, offset, size, length }
}

#[inline]
fn check_section<'a>(
    bytes: &'a [u8],
    names: &'a [u8],
    index: usize,
    header: SectionHeader,
) -> Result<Section<'a>, ImageError> {
    let mut section = Section { index, name: Name(b""), header, data: &[] };
    if header.kind == section_type::NULL {
        if index == 0 && (header.size != 0 || header.address != 0) {
            let value = header.size | header.address;
            return Err(section.bad("sh_size or sh_addr", value, "0 in the first section"));
        }
        // Linux loads it, if it is to be loaded, and does not look where its bytes are (main.c:move_module).
        if header.flags & section_flag::ALLOC != 0 && header.size != 0 {
            let value = u64::from(header.kind);
            return Err(section.bad("sh_type", value, "the type of a section that is loaded"));
        }
        // One that is to be loaded has its place among the others, without bytes (main.c:__layout_sections). Else it is
        // inactive: but for what tells the letters of its symbols (kernel/module/kallsyms.c:elf_type), what the header says
        // means nothing, so nothing later sees it.
        if header.flags & section_flag::ALLOC == 0 {
            section.header.flags &= section_flag::EXECINSTR;
            section.header.alignment = 1;
        }
        section.header.size = 0;
        if u64::from(header.name) < names.len() as u64 {
            section.name = string_at(names, header.name);
        }
        return Ok(section);
    }
    if index == 0 {
        return Err(section.bad("sh_type", u64::from(header.kind), "SHT_NULL in the first section"));
    }
    if u64::from(header.name) >= names.len() as u64 {
        return Err(section.bad("sh_name", u64::from(header.name), "inside the section name table"));
    }
    section.name = string_at(names, header.name);
    if header.kind != section_type::NOBITS {
        section.data = file_range(bytes, &header).ok_or_else(|| outside(section.label(), &header, bytes))?;
    }
    Ok(section)
}

/// Whether the order of sections alone shows that none overlap: linkers write sections in the order of their headers,
/// except that all relocations come in a row behind the others or between two of them.
fn obviously_apart(sections: &[Section<'_>]) -> bool {
    let is_relocations = |section: &Section<'_>| {
        matches!(section.kind(), section_type::RELA | section_type::REL) && !section.data.is_empty()
    };
    let mut relocations: Option<Range<u64>> = None;
    for section in sections.iter().filter(|section| is_relocations(section)) {
        let extent = section.extent();
        match &mut relocations {
            Some(all) if extent.start < all.end => return false,
            Some(all) => all.end = extent.end,
            None => relocations = Some(extent),
        }
    }
    let relocations = relocations.unwrap_or_default();
    let mut end = 0;
    let others = sections.iter().filter(|section| !is_relocations(section) && !section.data.is_empty());
    others.map(Section::extent).all(|extent| {
        let apart =
            extent.start >= end && (extent.end <= relocations.start || extent.start >= relocations.end);
        end = extent.end;
        apart
    })
}

fn check_overlaps(sections: &[Section<'_>]) -> Result<(), ImageError> {
    let mut order: Vec<usize> = Vec::new();
    order.try_reserve_exact(sections.len()).map_err(|_| ImageError::OutOfMemory)?;
    order.extend(sections.iter().filter(|s| !s.data.is_empty()).map(|s| s.index));
    order.sort_unstable_by_key(|&index| sections[index].header.offset);
    for pair in order.windows(2) {
        let (first, second) = (&sections[pair[0]], &sections[pair[1]]);
        if second.header.offset < first.header.offset + first.header.size {
            let offset = second.header.offset;
            return Err(ImageError::SectionsOverlap { first: first.label(), second: second.label(), offset });
        }
    }
    Ok(())
}

#[derive(Default)]
struct Finder {
    known: WellKnown,
    this_module: Option<usize>,
    symtab: Option<usize>,
}

impl Finder {
    fn see(&mut self, section: &Section<'_>) -> Result<(), ImageError> {
        let index = section.index;
        let duplicate = |name, first| Err(ImageError::DuplicateSection { name, first, second: index });
        if section.kind() == section_type::SYMTAB
            && let Some(first) = self.symtab.replace(index)
        {
            return duplicate("SHT_SYMTAB", first);
        }
        // Linux counts these two by name, whatever else they are (main.c:elf_validity_cache_copy).
        let is_counted = matches!(section.name.bytes(), b".modinfo" | b".gnu.linkonce.this_module");
        let is_table = matches!(section.kind(), section_type::RELA | section_type::REL);
        let passed_over = match section.kind() {
            section_type::NULL => is_counted || !section.is_alloc(),
            // Others it finds by name among those that are loaded, whatever type they have (main.c:find_sec).
            _ => is_table && !is_counted && !section.is_alloc(),
        };
        if passed_over {
            return Ok(());
        }
        let known = &mut self.known;
        let slot = match section.name.bytes() {
            b".modinfo" => {
                if let Some(first) = known.modinfo.replace(index) {
                    return duplicate(".modinfo", first);
                }
                return Ok(());
            }
            b".gnu.linkonce.this_module" => {
                if let Some(first) = self.this_module.replace(index) {
                    return duplicate(".gnu.linkonce.this_module", first);
                }
                return Ok(());
            }
            b"__versions" => &mut known.versions,
            b"__version_ext_crcs" => &mut known.extended_crcs,
            b"__version_ext_names" => &mut known.extended_names,
            b".data..percpu" => &mut known.percpu,
            b".data..ro_after_init" => &mut known.ro_after_init,
            b"__jump_table" => &mut known.jump_table,
            b".static_call_sites" => &mut known.static_call_sites,
            b"__ksymtab" => &mut known.ksymtab,
            b"__ksymtab_gpl" => &mut known.ksymtab_gpl,
            b"__kcrctab" => &mut known.kcrctab,
            b"__kcrctab_gpl" => &mut known.kcrctab_gpl,
            b"__kflagstab" => &mut known.kflagstab,
            b".ctors" => {
                known.has_ctors |= section.is_alloc();
                return Ok(());
            }
            b".init_array" => {
                known.has_init_array |= section.is_alloc();
                return Ok(());
            }
            _ => return Ok(()),
        };
        if section.is_alloc() && slot.is_none() {
            *slot = Some(index);
        }
        Ok(())
    }

    fn finish(self, sections: &[Section<'_>]) -> Result<WellKnown, ImageError> {
        let name = ".gnu.linkonce.this_module";
        let meaning = "not a kernel module (an object file, or linked without modpost's .mod.o)";
        let this_module = self.this_module.ok_or(ImageError::MissingSection { name, meaning })?;
        let section = &sections[this_module];
        if section.is_nobits() {
            return Err(section.bad("sh_type", u64::from(section.kind()), "a type with bytes in the file"));
        }
        if !section.is_alloc() {
            return Err(section.bad("sh_flags", section.flags(), "SHF_ALLOC and more"));
        }
        let meaning = "the module has no symbols (stripped?)";
        let symtab = self.symtab.ok_or(ImageError::MissingSection { name: "SHT_SYMTAB", meaning })?;
        Ok(WellKnown { this_module, symtab, ..self.known })
    }
}

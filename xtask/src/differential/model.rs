//! A module that can be changed: sections with their bytes, symbols and relocations, written as a file again.

use anyhow::{Context as _, Result, ensure};

/// Bytes of a section header, a symbol and a relocation of 64-bit ELF.
const HEADER: usize = 64;
const SECTION: usize = 64;
pub(super) const SYMBOL: usize = 24;
pub(super) const RELOCATION: usize = 24;

pub(super) const SHT_PROGBITS: u32 = 1;
pub(super) const SHT_SYMTAB: u32 = 2;
pub(super) const SHT_RELA: u32 = 4;
pub(super) const SHT_NOBITS: u32 = 8;

/// Where `struct module` has its name, and how many bytes that may have.
pub(super) const NAME: usize = 24;
pub(super) const NAME_LENGTH: usize = 56;

/// The section that holds `struct module`.
pub(super) const THIS_MODULE: &str = ".gnu.linkonce.this_module";

/// A section.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) kind: u32,
    pub(super) flags: u64,
    pub(super) address: u64,
    pub(super) align: u64,
    pub(super) entry: u64,
    pub(super) link: u32,
    pub(super) info: u32,
    pub(super) bytes: Vec<u8>,
    /// What its header says, where that is not what it has; of sections without bytes in the file, the only one.
    pub(super) size: Option<u64>,
}

/// A module.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// The file's header, as it was.
    pub(super) header: [u8; HEADER],
    pub(super) sections: Vec<Section>,
    /// Which section has the sections' names.
    pub(super) names: usize,
    /// Behind all that the file describes.
    pub(super) trailer: Vec<u8>,
    /// Whether tables of exports have offsets in them (HAVE_ARCH_PREL32_RELOCATIONS).
    pub(super) prel32: bool,
    /// Whether exports for GPL-compatible modules are in the same table as others, and flagged.
    pub(super) export_flags: bool,
    /// Where the kernel's `struct module` has the pointers to init and exit, if it is known.
    pub(super) entries: [Option<u64>; 2],
    /// Bytes to cut off the end.
    pub(super) cut: usize,
    /// What the header says of the number of sections, where that is not theirs.
    pub(super) count: Option<u16>,
    /// The same of the section that has their names.
    pub(super) names_index: Option<u16>,
}

/// A symbol that a module exports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Export<'e> {
    pub(super) name: &'e str,
    pub(super) gpl: bool,
    pub(super) namespace: &'e str,
    /// The section that its address lies in.
    pub(super) section: &'e str,
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk).copied();
    found.with_context(|| format!("the file ends at {at:#x}"))
}

fn number(bytes: &[u8], at: usize) -> Result<u64> {
    word(bytes, at).map(u64::from_le_bytes)
}

fn half(bytes: &[u8], at: usize) -> Result<u32> {
    word(bytes, at).map(u32::from_le_bytes)
}

fn text(bytes: &[u8], at: usize) -> String {
    let rest = bytes.get(at..).unwrap_or_default();
    String::from_utf8_lossy(rest.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

impl Model {
    /// Reads a well-made module of a 64-bit little-endian machine.
    pub(super) fn read(file: &[u8]) -> Result<Model> {
        let header = word(file, 0)?;
        let table = number(file, 40)? as usize;
        let count = usize::from(u16::from_le_bytes(word(file, 60)?));
        let names = usize::from(u16::from_le_bytes(word(file, 62)?));
        let mut sections = Vec::new();
        let mut name_offsets = Vec::new();
        for index in 0..count {
            let at = table + SECTION * index;
            let (offset, size) = (number(file, at + 24)? as usize, number(file, at + 32)?);
            let kind = half(file, at + 4)?;
            let has_bytes = kind != SHT_NOBITS && kind != 0;
            let bytes =
                if has_bytes { file.get(offset..offset + size as usize).context("cut off")? } else { &[] };
            name_offsets.push(half(file, at)? as usize);
            sections.push(Section {
                name: String::new(),
                kind,
                flags: number(file, at + 8)?,
                address: number(file, at + 16)?,
                align: number(file, at + 48)?,
                entry: number(file, at + 56)?,
                link: half(file, at + 40)?,
                info: half(file, at + 44)?,
                bytes: bytes.to_vec(),
                size: (!has_bytes).then_some(size),
            });
        }
        let table = sections.get(names).context("no names")?.bytes.clone();
        for (section, offset) in sections.iter_mut().zip(name_offsets) {
            section.name = text(&table, offset);
        }
        ensure!(sections.iter().any(|section| section.name == THIS_MODULE), "no {THIS_MODULE}");
        Ok(Model {
            header,
            sections,
            names,
            trailer: Vec::new(),
            prel32: true,
            export_flags: false,
            entries: [None; 2],
            cut: 0,
            count: None,
            names_index: None,
        })
    }

    /// The file.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut sections = self.sections.clone();
        let mut table = vec![0];
        let mut offsets = Vec::new();
        for section in &sections {
            offsets.push(if section.name.is_empty() { 0 } else { table.len() });
            if !section.name.is_empty() {
                table.extend(section.name.bytes());
                table.push(0);
            }
        }
        if let Some(section) = sections.get_mut(self.names) {
            section.bytes = table;
        }
        let mut file = self.header.to_vec();
        let mut places = Vec::new();
        for section in &sections {
            let align = section.align.clamp(1, 64).next_power_of_two() as usize;
            file.resize(file.len().next_multiple_of(align), 0);
            places.push(file.len());
            file.extend(&section.bytes);
        }
        file.resize(file.len().next_multiple_of(8), 0);
        let start = file.len() as u64;
        file[40..48].copy_from_slice(&start.to_le_bytes());
        file[60..62].copy_from_slice(&self.count.unwrap_or(sections.len() as u16).to_le_bytes());
        file[62..64].copy_from_slice(&self.names_index.unwrap_or(self.names as u16).to_le_bytes());
        for (index, section) in sections.iter().enumerate() {
            let size = section.size.unwrap_or(section.bytes.len() as u64);
            let place = if section.kind == 0 { 0 } else { places[index] as u64 };
            file.extend((offsets[index] as u32).to_le_bytes());
            file.extend(section.kind.to_le_bytes());
            for value in [section.flags, section.address, place, size] {
                file.extend(value.to_le_bytes());
            }
            file.extend(section.link.to_le_bytes());
            file.extend(section.info.to_le_bytes());
            file.extend(section.align.to_le_bytes());
            file.extend(section.entry.to_le_bytes());
        }
        file.extend(&self.trailer);
        file.truncate(file.len().saturating_sub(self.cut));
        file
    }

    /// The index of the section of this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.sections.iter().position(|section| section.name == name)
    }

    /// The index of the symbol table.
    pub(super) fn symbols(&self) -> Option<usize> {
        self.sections.iter().position(|section| section.kind == SHT_SYMTAB)
    }

    /// Takes init and exit from `struct module`: a module that does nothing when it is loaded, and can be unloaded.
    pub(super) fn without_entries(mut self) -> Model {
        let name = format!(".rela{THIS_MODULE}");
        if let Some(section) = self.sections.iter_mut().find(|section| section.name == name) {
            section.bytes.clear();
        }
        self
    }

    /// Adds a section; gives its index.
    pub(super) fn add(&mut self, section: Section) -> usize {
        self.sections.push(section);
        self.sections.len() - 1
    }

    /// Adds a string to the table of the symbols' names; gives its offset.
    pub(super) fn add_string(&mut self, text: &str) -> Option<u32> {
        let table = self.sections.get(self.symbols()?)?.link as usize;
        let strings = &mut self.sections.get_mut(table)?.bytes;
        let offset = strings.len() as u32;
        strings.extend(text.bytes());
        strings.push(0);
        Some(offset)
    }

    /// Adds a symbol; gives its index.
    pub(super) fn add_symbol(&mut self, name: &str, info: u8, section: u16, value: u64) -> Option<u32> {
        let name = self.add_string(name)?;
        let table = self.symbols()?;
        let bytes = &mut self.sections[table].bytes;
        let index = (bytes.len() / SYMBOL) as u32;
        bytes.extend(name.to_le_bytes());
        bytes.extend([info, 0]);
        bytes.extend(section.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        bytes.extend(8_u64.to_le_bytes());
        Some(index)
    }

    /// Adds a relocation section for a section.
    pub(super) fn add_relocations(
        &mut self,
        target: usize,
        relocations: &[(u64, u32, u32, i64)],
    ) -> Option<usize> {
        let link = self.symbols()? as u32;
        let name = format!(".rela{}", self.sections.get(target)?.name);
        let mut bytes = Vec::new();
        for &(offset, kind, symbol, addend) in relocations {
            bytes.extend(offset.to_le_bytes());
            bytes.extend((u64::from(symbol) << 32 | u64::from(kind)).to_le_bytes());
            bytes.extend(addend.to_le_bytes());
        }
        Some(self.add(Section {
            name,
            kind: SHT_RELA,
            flags: 0x40,
            align: 8,
            entry: RELOCATION as u64,
            link,
            info: target as u32,
            bytes,
            ..Section::default()
        }))
    }

    /// Puts the sections in another order: `order` has their indices of now. All that names them by number follows.
    pub(super) fn reorder(&mut self, order: &[usize]) {
        const FIRST_RESERVED: u16 = 0xff00;
        let mut now = vec![0; self.sections.len()];
        for (new, old) in order.iter().enumerate() {
            now[*old] = new;
        }
        let renumbered = |old: u32| now.get(old as usize).map_or(old, |new| *new as u32);
        let mut sections: Vec<Section> = order.iter().map(|old| self.sections[*old].clone()).collect();
        for section in &mut sections {
            section.link = renumbered(section.link);
            if section.kind == SHT_RELA {
                section.info = renumbered(section.info);
            }
            if section.kind == SHT_SYMTAB {
                for symbol in section.bytes.chunks_exact_mut(SYMBOL) {
                    let old = u16::from_le_bytes([symbol[6], symbol[7]]);
                    if old < FIRST_RESERVED {
                        symbol[6..8].copy_from_slice(&(renumbered(old.into()) as u16).to_le_bytes());
                    }
                }
            }
        }
        self.names = now.get(self.names).copied().unwrap_or(self.names);
        self.sections = sections;
    }

    /// Adds tables of exports: the entries in that order, those for GPL-compatible modules in a table of their own.
    pub(super) fn add_exports(&mut self, exports: &[Export<'_>]) -> Option<()> {
        const STRINGS: &str = "__ksymtab_strings";
        let mut strings = self.find(STRINGS).map_or(vec![0], |at| self.sections[at].bytes.clone());
        let mut add = |text: &str| {
            let place = strings.len() as i64;
            strings.extend(text.bytes());
            strings.push(0);
            (!text.is_empty()).then_some(place)
        };
        let places: Vec<[Option<i64>; 2]> =
            exports.iter().map(|export| [add(export.name), add(export.namespace)]).collect();
        // An offset of none leads to this.
        let nothing = strings.len() as i64;
        strings.push(0);
        let strings = match self.find(STRINGS) {
            Some(at) => {
                self.sections[at].bytes = strings;
                at
            }
            None => self.add(Section {
                name: STRINGS.to_owned(),
                kind: SHT_PROGBITS,
                flags: 0x32,
                align: 1,
                bytes: strings,
                ..Section::default()
            }),
        };
        let strings = self.add_symbol("", 3, strings as u16, 0)?;
        // Three offsets from their own places, or three pointers.
        let (word, kind) = if self.prel32 { (4, 2) } else { (8, 1) };
        for gpl in [false, true] {
            let is_here = |export: &Export<'_>| match self.export_flags {
                true => !gpl,
                false => export.gpl == gpl,
            };
            let entries: Vec<_> = exports.iter().zip(&places).filter(|(export, _)| is_here(export)).collect();
            if entries.is_empty() {
                continue;
            }
            let mut relocations = Vec::new();
            for (index, (export, [name, namespace])) in (0..).zip(&entries) {
                let section = self.find(export.section)? as u16;
                let symbol = self.add_symbol(export.name, 0x12, section, 0)?;
                let entry = 3 * word * index;
                relocations.push((entry, kind, symbol, 0));
                relocations.push((entry + word, kind, strings, name.unwrap_or(nothing)));
                // A pointer may be none, an offset leads to an empty string.
                if self.prel32 || namespace.is_some() {
                    relocations.push((entry + 2 * word, kind, strings, namespace.unwrap_or(nothing)));
                }
            }
            let table = self.add(Section {
                name: if gpl { "__ksymtab_gpl" } else { "__ksymtab" }.to_owned(),
                kind: SHT_PROGBITS,
                flags: 2,
                align: word,
                bytes: vec![0; 3 * word as usize * entries.len()],
                ..Section::default()
            });
            self.add_relocations(table, &relocations)?;
        }
        if self.export_flags {
            self.add(Section {
                name: "__kflagstab".to_owned(),
                kind: SHT_PROGBITS,
                flags: 2,
                align: 1,
                bytes: exports.iter().map(|export| u8::from(export.gpl)).collect(),
                ..Section::default()
            });
        }
        Some(())
    }

    /// Has `struct module` say another name.
    pub(super) fn set_name(&mut self, name: &str) -> Option<()> {
        let at = self.find(THIS_MODULE)?;
        let place = self.sections[at].bytes.get_mut(NAME..NAME + NAME_LENGTH)?;
        place.fill(0);
        place.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(())
    }
}

//! Builds relocatable files of any class and byte order, right or wrong, for tests.

#![allow(dead_code, reason = "each test file uses its part of this")]

pub(crate) mod sample;

/// One section to be.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) alignment: u64,
    pub(crate) data: Vec<u8>,
    /// Size where it is not that of the data: NOBITS.
    pub(crate) size: Option<u64>,
    pub(crate) link: u32,
    pub(crate) info: u32,
    pub(crate) entry_size: u64,
}

/// A relocatable file to be.
#[derive(Clone, Debug)]
pub(crate) struct Elf {
    pub(crate) is_64: bool,
    pub(crate) big: bool,
    pub(crate) machine: u16,
    /// Without the empty first one and the section names, which come last.
    pub(crate) sections: Vec<Section>,
}

pub(crate) const PROGBITS: u32 = 1;
pub(crate) const SYMTAB: u32 = 2;
pub(crate) const STRTAB: u32 = 3;
pub(crate) const RELA: u32 = 4;
pub(crate) const NOBITS: u32 = 8;
pub(crate) const WRITE: u64 = 1;
pub(crate) const ALLOC: u64 = 2;
pub(crate) const EXEC: u64 = 4;

impl Section {
    pub(crate) fn new(name: &str, kind: u32, flags: u64, alignment: u64, data: Vec<u8>) -> Section {
        let name = name.to_owned();
        Section { name, kind, flags, alignment, data, size: None, link: 0, info: 0, entry_size: 0 }
    }
}

impl Elf {
    /// An x86-64 file without sections.
    pub(crate) fn x86_64() -> Elf {
        Elf { is_64: true, big: false, machine: 62, sections: Vec::new() }
    }

    /// Adds a section and returns its index in the file.
    pub(crate) fn add(&mut self, section: Section) -> u32 {
        self.sections.push(section);
        self.sections.len() as u32
    }

    /// Adds the least that makes a module: a name, `struct module` and a symbol table of these records and strings.
    pub(crate) fn add_module_parts(&mut self, name: &str, symbols: &[Symbol], strings: &[u8]) {
        let modinfo = format!("name={name}\0license=GPL\0intree=Y\0").into_bytes();
        self.add(Section::new(".modinfo", PROGBITS, ALLOC, 1, modinfo));
        let mut this_module = vec![0; if self.is_64 { 0x500 } else { 0x200 }];
        this_module[if self.is_64 { 24 } else { 12 }..][..name.len()].copy_from_slice(name.as_bytes());
        self.add(Section::new(".gnu.linkonce.this_module", PROGBITS, ALLOC | WRITE, 64, this_module));
        let strings = self.add(Section::new(".strtab", STRTAB, 0, 1, strings.to_vec()));
        let mut records = self.symbol(&Symbol::default());
        for symbol in symbols {
            records.extend(self.symbol(symbol));
        }
        let entry_size = self.symbol(&Symbol::default()).len() as u64;
        let mut table = Section::new(".symtab", SYMTAB, 0, 8, records);
        table.link = strings;
        table.entry_size = entry_size;
        self.add(table);
    }

    /// Adds `.rela` relocations (offset, symbol, type, addend) against the section of index `target`.
    pub(crate) fn add_relocations(&mut self, target: u32, symtab: u32, entries: &[(u64, u32, u32, i64)]) {
        let mut data = Vec::new();
        for &(offset, symbol, kind, addend) in entries {
            self.word(&mut data, offset);
            match self.is_64 {
                true => self.word(&mut data, u64::from(symbol) << 32 | u64::from(kind)),
                false => self.word(&mut data, u64::from(symbol << 8 | kind)),
            }
            self.word(&mut data, addend as u64);
        }
        let name = format!(".rela{}", self.sections[target as usize - 1].name);
        let mut section = Section::new(&name, RELA, 0, 8, data);
        (section.link, section.info, section.entry_size) = (symtab, target, if self.is_64 { 24 } else { 12 });
        self.add(section);
    }

    /// A record of a symbol table.
    pub(crate) fn symbol(&self, symbol: &Symbol) -> Vec<u8> {
        let mut record = Vec::new();
        self.u32(&mut record, symbol.name);
        let place = |record: &mut Vec<u8>| {
            record.push(symbol.info);
            record.push(0);
            self.u16(record, symbol.section);
        };
        if self.is_64 {
            place(&mut record);
        }
        self.word(&mut record, symbol.value);
        self.word(&mut record, 0);
        if !self.is_64 {
            place(&mut record);
        }
        record
    }

    /// The file's bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        let header_size = if self.is_64 { 64 } else { 52 };
        let mut body: Vec<u8> = Vec::new();
        let mut names = vec![0];
        let mut headers = vec![self.section_header(0, 0, &Section::new("", 0, 0, 0, Vec::new()))];
        let mut sections = self.sections.clone();
        sections.push(Section::new(".shstrtab", STRTAB, 0, 1, Vec::new()));
        let last = sections.len();
        for (index, mut section) in sections.into_iter().enumerate() {
            let name = names.len() as u32;
            names.extend(section.name.bytes());
            names.push(0);
            if index + 1 == last {
                section.data.clone_from(&names);
            }
            let offset = (header_size + body.len()) as u64;
            headers.push(self.section_header(name, offset, &section));
            body.extend(&section.data);
        }
        let table = (header_size + body.len()) as u64;
        let mut file = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(self.is_64), 1 + u8::from(self.big), 1];
        file.resize(16, 0);
        self.u16(&mut file, 1);
        self.u16(&mut file, self.machine);
        self.u32(&mut file, 1);
        self.word(&mut file, 0);
        self.word(&mut file, 0);
        self.word(&mut file, table);
        self.u32(&mut file, 0);
        for value in [header_size as u16, 0, 0, headers[0].len() as u16, headers.len() as u16, last as u16] {
            self.u16(&mut file, value);
        }
        file.extend(body);
        file.extend(headers.concat());
        file
    }

    fn section_header(&self, name: u32, offset: u64, section: &Section) -> Vec<u8> {
        let mut header = Vec::new();
        self.u32(&mut header, name);
        self.u32(&mut header, section.kind);
        self.word(&mut header, section.flags);
        self.word(&mut header, 0);
        self.word(&mut header, offset);
        self.word(&mut header, section.size.unwrap_or(section.data.len() as u64));
        self.u32(&mut header, section.link);
        self.u32(&mut header, section.info);
        self.word(&mut header, section.alignment);
        self.word(&mut header, section.entry_size);
        header
    }

    fn u16(&self, to: &mut Vec<u8>, value: u16) {
        to.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn u32(&self, to: &mut Vec<u8>, value: u32) {
        to.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn word(&self, to: &mut Vec<u8>, value: u64) {
        if !self.is_64 {
            self.u32(to, value as u32);
        } else {
            to.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        }
    }
}

/// A symbol to be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Symbol {
    pub(crate) name: u32,
    pub(crate) info: u8,
    pub(crate) section: u16,
    pub(crate) value: u64,
}

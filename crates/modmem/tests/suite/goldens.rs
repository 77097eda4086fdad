//! The same as Linux: layouts against what running kernels reported (`goldens/`, made by `cargo xtask goldens`).
//!
//! Each table has a module's section headers, from which a file with the same layout is built, and the address that
//! the kernel gave each section.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::support::{ALLOC, Elf, NOBITS, RELA, STRTAB, SYMTAB, Section, Symbol};
use modmem::arch::Machine;
use modmem::image::Image;
use modmem::layout::{Layout, MemoryKind};
use modmem::profile::Profile;

/// R_PPC_REL24
const BRANCH: u32 = 10;
const R_AARCH64_CALL26: u64 = 283;
const R_390_GOTENT: u64 = 26;
const R_390_PLT32DBL: u64 = 20;

#[derive(Default)]
struct Golden {
    name: String,
    core_size: u64,
    symbols: u64,
    strtab_size: u64,
    core_symbols: u64,
    core_strings: u64,
    /// Header and address of each section.
    sections: Vec<(Section, Option<u64>)>,
    /// Names of relocation sections, and how many different targets the branches in each have.
    branches: Vec<(String, u64)>,
    /// How many symbols need an entry in a GOT, and in a PLT.
    tables: [u64; 2],
    areas: BTreeMap<u64, u64>,
}

/// What a table says of its kernel.
struct Kernel {
    profile: Profile,
    is_64: bool,
    big: bool,
    elf_machine: u16,
}

impl Kernel {
    fn of(release: &str, machine: &str) -> Kernel {
        let (elf_machine, is_64, big) = match machine {
            "x86-64" => (62, true, false),
            "ppc32" => (20, false, true),
            "s390x" => (22, true, true),
            "arm64" => (183, true, false),
            _ => panic!("{machine}"),
        };
        let profile = Profile::named_for(Machine::from_elf(elf_machine), release).unwrap();
        Kernel { profile, is_64, big, elf_machine }
    }

    /// A file without sections.
    fn elf(&self) -> Elf {
        Elf { is_64: self.is_64, big: self.big, machine: self.elf_machine, sections: Vec::new() }
    }
}

fn read(text: &str) -> (Kernel, Vec<Golden>) {
    let mut kernel = None;
    let mut modules: Vec<Golden> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["kernel", release, machine] => kernel = Some(Kernel::of(release, machine)),
            ["module", name, ref numbers @ ..] => {
                let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
                let [core_size, symbols, strtab_size, core_symbols, core_strings] = numbers[..] else {
                    panic!("{line}")
                };
                let name = name.to_owned();
                let counts = Golden {
                    name,
                    core_size,
                    symbols,
                    strtab_size,
                    core_symbols,
                    core_strings,
                    ..Golden::default()
                };
                modules.push(counts);
            }
            ["branches", targets, name] => {
                modules.last_mut().unwrap().branches.push((name.to_owned(), hex(targets)));
            }
            ["tables", got, plt] => modules.last_mut().unwrap().tables = [hex(got), hex(plt)],
            ["area", address, size] => {
                modules.last_mut().unwrap().areas.insert(hex(address), hex(size));
            }
            [kind, flags, size, alignment, address, name] => {
                let mut section =
                    Section::new(name, hex(kind) as u32, hex(flags), hex(alignment), Vec::new());
                section.size = Some(hex(size));
                let address = (address != "-").then(|| hex(address));
                modules.last_mut().unwrap().sections.push((section, address));
            }
            _ => panic!("{line}"),
        }
    }
    (kernel.unwrap(), modules)
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or_else(|_| panic!("{text}"))
}

impl Golden {
    /// A file with these section headers and as many symbols and bytes of names.
    fn file(&self, kernel: &Kernel) -> Vec<u8> {
        let mut elf = kernel.elf();
        for (section, _) in &self.sections {
            let mut section = section.clone();
            let size = section.size.take().unwrap();
            match section.kind {
                NOBITS => section.size = Some(size),
                SYMTAB => {
                    section.entry_size = elf.symbol(&Symbol::default()).len() as u64;
                    section.link = self.index_of(STRTAB);
                    section.data = self.symbol_table(&elf);
                }
                STRTAB => {
                    // One string at the end, whose tails are all the names.
                    let size = self.strtab_size as usize;
                    section.data = vec![0; size];
                    section.data[size - size.min(200)..size - 1].fill(b'x');
                }
                _ => section.data = vec![0; size as usize],
            }
            elf.add(section);
        }
        for (name, entries) in self.branches.iter().filter(|_| kernel.elf_machine == 183) {
            let target = name.strip_prefix(".rela").unwrap();
            let target = self.sections.iter().position(|(section, _)| section.name == target).unwrap() + 1;
            let mut section = Section::new(name, RELA, 0, 8, Vec::new());
            (section.link, section.info, section.entry_size) = (self.index_of(SYMTAB), target as u32, 24);
            for addend in 1..=*entries {
                section.data.extend([0, R_AARCH64_CALL26, addend].map(u64::to_le_bytes).concat());
            }
            elf.add(section);
        }
        for (name, targets) in self.branches.iter().filter(|_| kernel.elf_machine == 20) {
            // For no section that is kept: they are counted, not applied.
            let mut section = Section::new(name, RELA, 0, 4, Vec::new());
            for addend in 1..=*targets as u32 {
                section.data.extend([0, BRANCH, addend].map(u32::to_be_bytes).concat());
            }
            elf.add(section);
        }
        if self.tables != [0, 0] {
            // Again for no section that is kept.
            let mut section = Section::new(".rela.debug", RELA, 0, 8, Vec::new());
            for (kind, count) in [R_390_GOTENT, R_390_PLT32DBL].into_iter().zip(self.tables) {
                for symbol in 0..count {
                    section.data.extend([0, symbol << 32 | kind, 0].map(u64::to_be_bytes).concat());
                }
            }
            elf.add(section);
        }
        elf.build()
    }

    fn index_of(&self, kind: u32) -> u32 {
        self.sections.iter().position(|(section, _)| section.kind == kind).unwrap() as u32 + 1
    }

    /// Core symbols are all of `struct module`; their names are tails of the one long string, which add up to the
    /// bytes that the kernel keeps.
    fn symbol_table(&self, elf: &Elf) -> Vec<u8> {
        let this_module =
            self.sections.iter().position(|(s, _)| s.name == ".gnu.linkonce.this_module").unwrap() + 1;
        let (count, mut bytes) = (self.core_symbols - 1, self.core_strings - 1);
        let mut records = elf.symbol(&Symbol::default());
        let size = records.len();
        for left in (1..=count).rev() {
            let length = bytes / left - 1;
            bytes -= length + 1;
            let symbol = Symbol {
                name: (self.strtab_size - 1 - length) as u32,
                section: this_module as u16,
                ..Symbol::default()
            };
            records.extend(elf.symbol(&symbol));
        }
        records.resize(size * self.symbols as usize, 0);
        records
    }
}

fn check(text: &str) {
    let (kernel, modules) = read(text);
    let profile = &kernel.profile;
    assert!(modules.len() > 30);
    let mut texts: Vec<Range<u64>> = Vec::new();
    for golden in modules {
        let name = &golden.name;
        let file = golden.file(&kernel);
        let image = Image::parse(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        let layout = Layout::of(&image, profile).unwrap();
        let mut bases: BTreeMap<MemoryKind, u64> = BTreeMap::new();
        for (index, (section, address)) in golden.sections.iter().enumerate() {
            let Some(address) = address else {
                let shape = layout.shape(&image.sections()[index + 1]);
                let empty = shape.size == 0;
                assert!(
                    empty || layout.place(index + 1).is_none(),
                    "{name}: {} is not in memory",
                    section.name
                );
                continue;
            };
            let place = layout.place(index + 1).unwrap_or_else(|| panic!("{name}: {}", section.name));
            let base = address - place.offset;
            assert_eq!(
                *bases.entry(place.kind).or_insert(base),
                base,
                "{name}: {} in {}",
                section.name,
                place.kind
            );
            assert_eq!(base % profile.page_size, 0, "{name}: {}", section.name);
        }
        let text_alone = profile.switches.data_in_vmalloc;
        let core = layout.memories().iter();
        let core = core.filter(|(kind, _)| !kind.is_init() && (kind.is_text() || !text_alone));
        assert_eq!(
            core.map(|(_, memory)| memory.allocated).sum::<u64>(),
            golden.core_size,
            "{name}: core size"
        );
        for block in layout.blocks().iter().filter(|block| !block.kind.is_init()) {
            let Some(&base) = bases.get(&block.kind) else { continue };
            if block.kind.is_text() && profile.text_pack.is_some() {
                // Packed: it has no area of its own, and shares no byte with another module's.
                texts.push(base..base + block.size);
                continue;
            }
            assert_eq!(golden.areas.get(&base), Some(&block.size), "{name}: block of {}", block.kind);
        }
        assert!(golden.sections.iter().any(|(section, _)| section.flags & ALLOC != 0));
    }
    texts.sort_by_key(|text| text.start);
    assert!(texts.windows(2).all(|pair| pair[0].end <= pair[1].start), "packed texts overlap");
    assert_eq!(texts.is_empty(), profile.text_pack.is_none());
}

#[test]
fn every_section_of_linux_7_2_lies_where_the_kernel_had_it() {
    check(include_str!("../goldens/amd64-7.2.txt"));
}

#[test]
fn every_section_of_linux_6_12_lies_where_the_kernel_had_it() {
    check(include_str!("../goldens/amd64-6.12.txt"));
}

#[test]
fn every_section_of_linux_6_1_lies_where_the_kernel_had_it() {
    check(include_str!("../goldens/amd64-6.1.txt"));
}

#[test]
fn every_section_of_linux_6_12_on_32_bit_powerpc_lies_where_the_kernel_had_it() {
    check(include_str!("../goldens/ppc32-6.12.txt"));
}

#[test]
fn every_section_of_linux_6_12_on_s390x_lies_where_the_kernel_had_it() {
    check(include_str!("../goldens/s390x-6.12.txt"));
}

#[test]
fn every_section_of_linux_6_12_on_arm64_lies_where_the_kernel_had_it() {
    check(include_str!("../goldens/arm64-6.12.txt"));
}

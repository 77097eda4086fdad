//! Modules by random: a well-made one of the kernel's own package, and a few changes that follow ELF's grammar and the
//! loader's. The same seed and package give the same modules.

use super::model::{Model, RELOCATION, SHT_NOBITS, SHT_PROGBITS, SHT_RELA, SYMBOL, Section, THIS_MODULE};
use crate::random::Random;

/// A module made so, and what was done to it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) base: String,
    /// One line a change.
    pub(super) changes: Vec<String>,
    pub(super) file: Vec<u8>,
}

type Change = fn(&mut Model, &mut Random) -> Option<String>;

/// What can be done, each as often as it stands here.
const CHANGES: &[(&str, Change)] = &[
    ("flags", flags),
    ("flags", flags),
    ("add section", add_section),
    ("add section", add_section),
    ("add section", add_section),
    ("alignment", alignment),
    ("name of a section", rename),
    ("size of a section", size),
    ("field of a section", field),
    ("symbol", symbol),
    ("symbol", symbol),
    ("add symbol", add_symbol),
    ("relocation", relocation),
    ("relocation", relocation),
    ("add relocations", add_relocations),
    ("modinfo", modinfo),
    ("modinfo", modinfo),
    ("exports", exports),
    ("struct module", this_module),
    ("end of the file", end),
    ("header", header),
];

const FLAGS: &[u64] = &[1, 2, 4, 0x10, 0x20, 0x40, 0x80, 0x100, 0x200, 0x400, 0x800, 0x20_0000, 0x1000_0000];
const NAMES: &[&str] = &[
    ".text",
    ".text.unlikely",
    ".text.hot",
    ".init.text",
    ".init.data",
    ".init.rodata",
    ".init.unknown",
    ".exit.text",
    ".exit.data",
    ".exit.unknown",
    ".data",
    ".data..ro_after_init",
    ".data..percpu",
    ".data..read_mostly",
    ".rodata",
    ".rodata.str1.8",
    ".bss",
    ".bss.more",
    ".unknown",
    ".note.modmem",
    ".modinfo",
    "__versions",
    "__ex_table",
    "__bug_table",
    "__jump_table",
    "__ksymtab_strings",
    ".symtab",
    ".strtab",
    ".ctors",
    ".init_array",
    ".fini_array",
    ".altinstructions",
    ".comment",
    ".debug_info",
    ".static_call_sites",
    "a b",
    "x",
];
const ALIGNMENTS: &[u64] = &[0, 1, 2, 3, 4, 8, 12, 16, 32, 64, 100, 128, 640, 2048, 4096, 8192, 65536];
const SIZES: &[u64] = &[0, 1, 4, 7, 8, 64, 100, 4095, 4096, 4097, 20000];
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
];
const INFO: &[(&str, &str)] = &[
    ("license", "GPL"),
    ("license", "Proprietary"),
    ("license", "GPL v2"),
    ("license", "Dual MIT/GPL"),
    ("license", ""),
    ("vermagic", "6.12.0 mod_unload "),
    ("vermagic", ""),
    ("name", "other"),
    ("name", ""),
    ("import_ns", "NOBODYS"),
    ("retpoline", "Y"),
    ("intree", "Y"),
    ("staging", "Y"),
    ("livepatch", "Y"),
    ("test", "Y"),
    ("depends", "nobody"),
    ("srcversion", "0123"),
    ("unknown", "x"),
];

/// How often, of a hundred, something is done of which Linux mostly dies.
const RARE: usize = 3;

/// The module of a seed.
pub(super) fn case(seed: u64, bases: &[(String, Model)], prel32: bool) -> Case {
    let mut random = Random::of(seed);
    // A good start may be far from that of the seed before.
    random.below(2);
    let (base, model) = &bases[random.below(bases.len())];
    let mut model = Model { prel32, ..model.clone() };
    let mut changes = Vec::new();
    let count = random.one(&[1, 1, 1, 2, 2, 3, 4]);
    for _ in 0..count {
        let (name, change) = random.one(CHANGES);
        if let Some(what) = change(&mut model, &mut random) {
            changes.push(format!("{name}: {what}"));
        }
    }
    Case { base: base.clone(), changes, file: model.write() }
}

fn any(model: &Model, random: &mut Random) -> usize {
    1 + random.below(model.sections.len() - 1)
}

fn flags(model: &mut Model, random: &mut Random) -> Option<String> {
    let at = any(model, random);
    let section = &mut model.sections[at];
    let before = section.flags;
    let count = 1 + random.below(2);
    for flag in random.some(FLAGS, count) {
        section.flags ^= flag;
    }
    Some(format!("{} ({at}) from {before:#x} to {:#x}", section.name, section.flags))
}

fn add_section(model: &mut Model, random: &mut Random) -> Option<String> {
    let size = random.one(SIZES);
    let nobits = random.percent(25);
    let kind =
        if nobits { SHT_NOBITS } else { random.one(&[SHT_PROGBITS, SHT_PROGBITS, SHT_PROGBITS, 7, 14, 99]) };
    let mut flags = random.one(&[0, 1, 2, 3, 3, 6, 7, 2]);
    if random.percent(25) {
        flags |= random.one(FLAGS);
    }
    let section = Section {
        name: random.one(NAMES).to_owned(),
        kind,
        flags,
        align: random.one(ALIGNMENTS),
        bytes: if nobits { Vec::new() } else { (0..size).map(|at| (at * 7 + 1) as u8).collect() },
        size: nobits.then_some(size),
        ..Section::default()
    };
    let what =
        format!("{} type {kind} flags {flags:#x} alignment {} size {size}", section.name, section.align);
    let at = model.add(section);
    if random.percent(30) {
        model.add_symbol("modmem_added", random.one(&[0x11, 0x12, 0x01, 0x22, 0x10]), at as u16, size / 2)?;
    }
    Some(what)
}

fn alignment(model: &mut Model, random: &mut Random) -> Option<String> {
    let at = any(model, random);
    let section = &mut model.sections[at];
    section.align = random.one(ALIGNMENTS);
    Some(format!("{} ({at}) to {}", section.name, section.align))
}

fn rename(model: &mut Model, random: &mut Random) -> Option<String> {
    let at = any(model, random);
    let section = &mut model.sections[at];
    let before = section.name.clone();
    section.name = match random.below(12) {
        0 => "long".repeat(60),
        1 => String::new(),
        _ => random.one(NAMES).to_owned(),
    };
    Some(format!("{before} ({at}) to {:?}", section.name))
}

fn size(model: &mut Model, random: &mut Random) -> Option<String> {
    let at = any(model, random);
    let section = &mut model.sections[at];
    let size = match random.below(5) {
        0 => 0,
        1 => section.bytes.len() as u64 / 2,
        2 => section.bytes.len() as u64 + random.below(64) as u64,
        3 => random.one(&[u64::MAX, 1 << 32, 1 << 31, 1 << 20]),
        _ => (section.bytes.len() as u64).saturating_sub(1),
    };
    section.size = Some(size);
    Some(format!("{} ({at}) of {:#x} to {size:#x}", section.name, section.bytes.len()))
}

fn field(model: &mut Model, random: &mut Random) -> Option<String> {
    let count = model.sections.len() as u32;
    let at = any(model, random);
    let section = &mut model.sections[at];
    let value = random.one(&[0, 1, 2, count - 1, count, count + 1, u32::MAX, 24]);
    let field = match random.below(5) {
        0 => {
            section.link = value;
            "sh_link"
        }
        1 => {
            section.info = value;
            "sh_info"
        }
        2 => {
            section.entry = u64::from(value);
            "sh_entsize"
        }
        3 => {
            section.address = u64::from(value);
            "sh_addr"
        }
        _ => {
            section.kind = random.one(&[0, 1, 2, 3, 4, 7, 8, 9, 11, 14, 17, 99, 0x6fff_fff5]);
            return Some(format!("{} ({at}): sh_type {}", section.name, section.kind));
        }
    };
    Some(format!("{} ({at}): {field} {value}", section.name))
}

fn symbol(model: &mut Model, random: &mut Random) -> Option<String> {
    let table = model.symbols()?;
    let sections = model.sections.len() as u16;
    let count = model.sections[table].bytes.len() / SYMBOL;
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

fn add_symbol(model: &mut Model, random: &mut Random) -> Option<String> {
    let name = random.one(SYMBOLS);
    let info = random.one(&[0x10, 0x11, 0x12, 0x20, 0x00, 0x01, 0x02, 0x03]);
    let sections = model.sections.len();
    let any = 1 + random.below(sections - 1) as u16;
    let section = random.one(&[0, 0, 0, any, 0xfff1, 0xfff2]);
    let value = random.one(&[0, 4, 8, 0x10000]);
    model.add_symbol(name, info, section, value)?;
    Some(format!("{name:?} st_info {info:#x} st_shndx {section:#x} st_value {value:#x}"))
}

fn relocation(model: &mut Model, random: &mut Random) -> Option<String> {
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

fn add_relocations(model: &mut Model, random: &mut Random) -> Option<String> {
    let symbols = model.symbols().map_or(0, |at| model.sections[at].bytes.len() / SYMBOL);
    let target = any(model, random);
    // The kernel writes to struct module before it relocates, and relocates its symbol table as well, which modmem leaves.
    let names = model.symbols().map(|at| model.sections[at].link as usize);
    if model.sections[target].name == THIS_MODULE || Some(target) == model.symbols() || Some(target) == names
    {
        return None;
    }
    let length = model.sections[target].bytes.len().max(1);
    let mut relocations = Vec::new();
    for _ in 0..1 + random.below(3) {
        let kind = random.one(&[0, 1, 1, 2, 2, 4, 4, 10, 11, 24, 26]);
        let symbol = random.below(symbols.max(1)) as u32;
        relocations.push((random.below(length) as u64, kind, symbol, random.one(&[0, -4, 16])));
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

fn modinfo(model: &mut Model, random: &mut Random) -> Option<String> {
    let at = model.find(".modinfo")?;
    let bytes = &mut model.sections[at].bytes;
    let mut strings: Vec<Vec<u8>> = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    strings.retain(|string| !string.is_empty());
    let what = match random.below(4) {
        0 if !strings.is_empty() => {
            let gone = strings.remove(random.below(strings.len()));
            format!("without {}", String::from_utf8_lossy(&gone))
        }
        1 => {
            let (key, value) = random.one(INFO);
            let start = format!("{key}=");
            strings.retain(|string| !string.starts_with(start.as_bytes()));
            strings.push(format!("{key}={value}").into_bytes());
            format!("{key}={value} instead")
        }
        2 => {
            let (key, value) = random.one(INFO);
            strings.insert(0, format!("{key}={value}").into_bytes());
            format!("{key}={value} before all")
        }
        _ => {
            let (key, value) = random.one(INFO);
            strings.push(format!("{key}={value}").into_bytes());
            format!("{key}={value} behind all")
        }
    };
    *bytes = strings.iter().flat_map(|string| string.iter().copied().chain([0])).collect();
    if random.percent(10) {
        bytes.pop();
        return Some(format!("{what}, no NUL at the end"));
    }
    Some(what)
}

/// Tables of exports.
fn exports(model: &mut Model, random: &mut Random) -> Option<String> {
    let gpl = random.percent(40);
    let name = if gpl { "__ksymtab_gpl" } else { "__ksymtab" };
    if model.find(name).is_some() || model.find("__ksymtab_strings").is_some() {
        return None;
    }
    let text = model.find(".text")? as u16;
    let names: Vec<&str> = match random.below(5) {
        0 => vec!["modmem_b", "modmem_a"],
        1 => vec!["modmem_a", "modmem_a"],
        2 => vec!["kfree"],
        3 => vec!["modmem_a", "modmem_b"],
        _ => vec!["modmem_a"],
    };
    let mut strings = vec![0];
    let mut places = Vec::new();
    for name in &names {
        places.push(strings.len() as i64);
        strings.extend(name.bytes());
        strings.push(0);
    }
    let strings = model.add(Section {
        name: "__ksymtab_strings".to_owned(),
        kind: SHT_PROGBITS,
        flags: 0x32,
        align: 1,
        bytes: strings,
        ..Section::default()
    });
    let strings = model.add_symbol("", 3, strings as u16, 0)?;
    // Three offsets from their own places, or three pointers.
    let (word, kind) = if model.prel32 { (4, 2) } else { (8, 1) };
    let table = model.add(Section {
        name: name.to_owned(),
        kind: SHT_PROGBITS,
        flags: 2,
        align: word,
        bytes: vec![0; 3 * word as usize * names.len()],
        ..Section::default()
    });
    let mut relocations = Vec::new();
    for (index, (name, place)) in (0..).zip(names.iter().zip(places)) {
        let symbol = model.add_symbol(name, 0x12, text, 0)?;
        let entry = 3 * word * index;
        relocations.push((entry, kind, symbol, 0));
        relocations.push((entry + word, kind, strings, place));
        relocations.push((entry + 2 * word, kind, strings, 0));
    }
    model.add_relocations(table, &relocations)?;
    Some(format!("{name}: {}", names.join(", ")))
}

fn this_module(model: &mut Model, random: &mut Random) -> Option<String> {
    const NAME: usize = 24;
    let at = model.find(THIS_MODULE)?;
    let bytes = &mut model.sections[at].bytes;
    Some(match random.below(5) {
        0 => {
            bytes.truncate(bytes.len() - 64);
            "64 bytes less".to_owned()
        }
        1 => {
            bytes.extend([0; 64]);
            "64 bytes more".to_owned()
        }
        2 => {
            let name = random.one(&["other_name", "a-b", "a/b", "x", ".", "vmlinux", "a b"]);
            bytes.get_mut(NAME..NAME + 56)?.fill(0);
            bytes.get_mut(NAME..NAME + name.len())?.copy_from_slice(name.as_bytes());
            format!("name {name:?}")
        }
        3 => {
            let length = random.one(&[0, 54, 55, 56]);
            bytes.get_mut(NAME..NAME + 56)?.fill(0);
            bytes.get_mut(NAME..NAME + length)?.fill(b'n');
            format!("a name of {length} bytes")
        }
        _ => {
            let copy = model.sections[at].clone();
            model.add(copy);
            "twice".to_owned()
        }
    })
}

fn end(model: &mut Model, random: &mut Random) -> Option<String> {
    const MARK: &[u8] = b"~Module signature appended~\n";
    Some(match random.below(5) {
        0 => {
            model.trailer.extend(b"\n");
            "a newline".to_owned()
        }
        1 => {
            model.trailer.extend(vec![0; 1 + random.below(100)]);
            "zeros".to_owned()
        }
        2 => {
            model.trailer.extend(MARK);
            "a mark without a signature".to_owned()
        }
        3 => {
            model.trailer.extend([1; 100]);
            model.trailer.extend([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 100]);
            model.trailer.extend(MARK);
            "a signature of nobody".to_owned()
        }
        _ => {
            model.cut = 1 + random.below(2000);
            format!("{} bytes cut off", model.cut)
        }
    })
}

fn header(model: &mut Model, random: &mut Random) -> Option<String> {
    // e_ident's class, order, version, ABI; e_type, e_machine, e_version, e_entry, e_phoff, e_flags, e_ehsize, e_phnum,
    // e_shentsize. What says where sections are is written anew.
    let at = random.one(&[0, 4, 5, 6, 7, 8, 16, 18, 20, 24, 32, 48, 52, 54, 56, 58]);
    let value = random.one(&[0, 1, 2, 3, 62, 64, 0xff]);
    let before = model.header[at];
    model.header[at] = value;
    Some(format!("byte {at} from {before} to {value}"))
}

#[cfg(test)]
mod tests {
    use modmem::Image;

    use super::*;

    const SAMPLE: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../samples/root/lib/modules/6.12.0-sample/kernel/fs/sample/sample_fs.ko"
    );

    #[test]
    fn a_module_is_written_as_it_was_read_and_a_seed_is_one_module() {
        let file = std::fs::read(SAMPLE).unwrap();
        let model = Model::read(&file).unwrap();
        let written = model.write();
        let names = |file: &[u8]| -> Vec<(String, u64, Vec<u8>)> {
            let image = Image::parse(file).unwrap();
            let sections = image.sections().iter().filter(|section| section.name().to_text() != ".shstrtab");
            sections.map(|one| (one.name().to_text(), one.size(), one.data().to_vec())).collect()
        };
        assert_eq!(names(&written), names(&file));
        let bases = [("sample".to_owned(), model.without_entries())];
        let [init, exit] = Image::parse(&bases[0].1.write()).unwrap().entry_offsets();
        assert_eq!((init, exit), (None, None));
        let mut files: Vec<Vec<u8>> = Vec::new();
        for seed in 0..200 {
            let (one, again) = (case(seed, &bases, true), case(seed, &bases, true));
            assert_eq!((&one.file, &one.changes), (&again.file, &again.changes), "{seed}");
            files.push(one.file);
        }
        files.sort();
        files.dedup();
        assert!(files.len() > 150, "{} of 200 are different", files.len());
    }
}

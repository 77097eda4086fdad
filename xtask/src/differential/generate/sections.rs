//! Sections: flags, names, sizes, alignments, their order.

use super::super::model::{Model, SHT_NOBITS, SHT_PROGBITS, Section};
use crate::random::Random;

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
    ".init",
    ".exit",
    ".initcall",
    ".data.rel.ro",
    ".data..ro_after_init.more",
    ".data..percpu..more",
    ".discard.x",
    ".gnu.linkonce.this_module",
    ".gnu.linkonce.more",
    ".text.exit",
    ".rela.text",
    ".group",
    ".noinstr.text",
    ".static_call.text",
    "__kcrctab",
    "__ksymtab",
    "__obsparm",
    "__tracepoints_ptrs",
    "_ftrace_events",
    ".BTF",
    ".orc_unwind",
    ".parainstructions",
    ".smp_locks",
    ".retpoline_sites",
    "x",
];
const ALIGNMENTS: &[u64] = &[0, 1, 2, 3, 4, 8, 12, 16, 32, 64, 100, 128, 640, 2048, 4096, 8192, 65536];
const SIZES: &[u64] = &[0, 1, 4, 7, 8, 64, 100, 4095, 4096, 4097, 20000];

/// Any section but the first, which is none.
pub(super) fn any(model: &Model, random: &mut Random) -> usize {
    1 + random.below(model.sections.len() - 1)
}

fn any_alignment(random: &mut Random) -> u64 {
    if random.percent(70) {
        return random.one(ALIGNMENTS);
    }
    let bits = random.one(&[4, 8, 12, 17]);
    random.below(1 << bits) as u64
}

pub(super) fn flags(model: &mut Model, random: &mut Random) -> Option<String> {
    let at = any(model, random);
    let section = &mut model.sections[at];
    let before = section.flags;
    let count = 1 + random.below(4);
    for flag in random.some(FLAGS, count) {
        section.flags ^= flag;
    }
    Some(format!("{} ({at}) from {before:#x} to {:#x}", section.name, section.flags))
}

pub(super) fn add_section(model: &mut Model, random: &mut Random) -> Option<String> {
    let size = random.one(SIZES);
    let nobits = random.percent(25);
    let kind =
        if nobits { SHT_NOBITS } else { random.one(&[SHT_PROGBITS, SHT_PROGBITS, SHT_PROGBITS, 7, 14, 99]) };
    let mut flags = random.one(&[0, 1, 2, 3, 3, 6, 7, 2]);
    if random.percent(40) {
        let count = 1 + random.below(4);
        flags = random.some(FLAGS, count).into_iter().fold(flags, |flags, flag| flags | flag);
    }
    let section = Section {
        name: random.one(NAMES).to_owned(),
        kind,
        flags,
        align: any_alignment(random),
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

pub(super) fn alignment(model: &mut Model, random: &mut Random) -> Option<String> {
    let at = any(model, random);
    let section = &mut model.sections[at];
    section.align = any_alignment(random);
    Some(format!("{} ({at}) to {}", section.name, section.align))
}

pub(super) fn rename(model: &mut Model, random: &mut Random) -> Option<String> {
    let at = any(model, random);
    let doubled = model.sections[any(model, random)].name.clone();
    let section = &mut model.sections[at];
    let before = section.name.clone();
    section.name = match random.below(12) {
        0 => "long".repeat(random.one(&[16, 60, 64, 130])),
        1 => String::new(),
        2 => doubled,
        _ => random.one(NAMES).to_owned(),
    };
    Some(format!("{before} ({at}) to {:?}", section.name))
}

pub(super) fn size(model: &mut Model, random: &mut Random) -> Option<String> {
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

pub(super) fn field(model: &mut Model, random: &mut Random) -> Option<String> {
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

/// Sections in another order, with all that names them by number.
pub(super) fn order(model: &mut Model, random: &mut Random) -> Option<String> {
    let count = model.sections.len();
    let mut order: Vec<usize> = (0..count).collect();
    let what = match random.below(4) {
        0 => {
            order[1..].reverse();
            "turned around".to_owned()
        }
        1 => {
            let all = order.split_off(1);
            order.extend(random.some(&all, count - 1));
            "shuffled".to_owned()
        }
        2 => {
            let (one, other) = (any(model, random), any(model, random));
            order.swap(one, other);
            format!("{one} and {other} swapped")
        }
        _ => {
            let (from, to) = (any(model, random), any(model, random));
            let moved = order.remove(from);
            order.insert(to, moved);
            format!("{from} moved to {to}")
        }
    };
    model.reorder(&order);
    Some(what)
}

/// Bytes of any section but those of `struct module`, which Linux believes.
pub(super) fn bytes(model: &mut Model, random: &mut Random) -> Option<String> {
    const GRAMMAR: &[&str] = &[super::super::model::THIS_MODULE, "__param", ".modinfo"];
    let at = any(model, random);
    let section = &mut model.sections[at];
    // What Linux follows without a look has changes of its own.
    if section.bytes.is_empty() || section.kind != SHT_PROGBITS || GRAMMAR.contains(&&*section.name) {
        return None;
    }
    let (from, value) = (random.below(section.bytes.len()), random.one(&[0, 1, 0x80, 0xe8, 0xff]));
    let length = random.one(&[1, 1, 4, 8]).min(section.bytes.len() - from);
    section.bytes[from..from + length].fill(value);
    Some(format!("{} ({at}) at {from:#x}: {length} of {value:#x}", section.name))
}

//! Tables of the loader's: exports, versions, parts of livepatch.

use super::super::model::{Export, Model, SHT_PROGBITS, Section};
use crate::random::Random;

/// Tables of exports.
pub(super) fn exports(model: &mut Model, random: &mut Random) -> Option<String> {
    let gpl = random.percent(40);
    let name = if gpl { "__ksymtab_gpl" } else { "__ksymtab" };
    let twice = if model.export_flags { "__ksymtab" } else { name };
    if model.find(twice).is_some() {
        return None;
    }
    let names: Vec<&str> = match random.below(6) {
        5 => vec!["modmem_c", "modmem_a", "modmem_b", "modmem_a"],
        0 => vec!["modmem_b", "modmem_a"],
        1 => vec!["modmem_a", "modmem_a"],
        2 => vec!["kfree"],
        3 => vec!["modmem_a", "modmem_b"],
        _ => vec!["modmem_a"],
    };
    let namespace = random.one(&["", "", "", "NOBODYS", "module:nobody"]);
    let exports: Vec<Export<'_>> =
        names.iter().map(|name| Export { name, gpl, namespace, section: ".text" }).collect();
    model.add_exports(&exports)?;
    if let Some(at) = model.find("__kflagstab").filter(|_| random.percent(20)) {
        model.sections[at].name = "__kflags".to_owned();
    }
    Some(format!("{name} in {namespace:?}: {}", names.join(", ")))
}

/// Versions of what the module imports. Kernels without MODVERSIONS do not look at them, but they are sections.
pub(super) fn versions(model: &mut Model, random: &mut Random) -> Option<String> {
    let mut table = Vec::new();
    for (crc, name) in [(0x1234_5678_u64, "module_layout"), (1 << 40, "kfree"), (0, "")] {
        let mut entry = crc.to_le_bytes().to_vec();
        entry.extend(name.bytes());
        entry.resize(64, 0);
        table.extend(entry);
    }
    table.truncate(random.one(&[0, 1, 64, 100, 192]));
    let name = random.one(&["__versions", "__versions", "__version_ext_crcs", "__version_ext_names"]);
    let flags = random.one(&[2, 0, 3]);
    let what = format!("{name} of {} bytes, flags {flags}", table.len());
    let section = Section {
        name: name.to_owned(),
        kind: SHT_PROGBITS,
        flags,
        align: random.one(&[8, 64, 1]),
        bytes: table,
        ..Section::default()
    };
    match model.find(name).filter(|_| random.percent(60)) {
        Some(at) => model.sections[at] = section,
        None => drop(model.add(section)),
    }
    Some(what)
}

/// Parts of livepatch modules: relocations that its own code applies, and symbols that it looks up.
pub(super) fn livepatch(model: &mut Model, random: &mut Random) -> Option<String> {
    const SHN_LIVEPATCH: u16 = 0xff20;
    const SHF_RELA_LIVEPATCH: u64 = 0x10_0000;
    let name = random.one(&[".klp.sym.vmlinux.kfree,0", ".klp.sym.vmlinux.nobody,0", ".klp.sym.x", "kfree"]);
    let symbol = model.add_symbol(name, 0x10, SHN_LIVEPATCH, 0)?;
    let target = model.find(".text").or_else(|| model.find(".data"))?;
    let at = model.add_relocations(target, &[(0, random.one(&[1, 2, 4]), symbol, 0)])?;
    let table = &mut model.sections[at];
    table.name =
        random.one(&[".klp.rela.vmlinux..text", ".klp.rela.x..text", ".klp.rela", ".rela.text"]).to_owned();
    if random.percent(80) {
        table.flags |= SHF_RELA_LIVEPATCH;
    }
    let what = format!("{} with flags {:#x}, {name}", table.name, table.flags);
    if random.percent(40) {
        let info = model.find(".modinfo")?;
        model.sections[info].bytes.extend(b"livepatch=Y\0");
        return Some(format!("{what}, marked"));
    }
    Some(what)
}

//! The kernel's lists of modules, sections, symbols, areas and probes.

use std::io::ErrorKind;

use super::{ATTEMPTS, Machine, is_absent, rights};
use crate::{
    Error,
    snapshot::{
        Kprobe, ModuleRecord, SectionAddress,
        areas::{self, Areas, Listed},
        kprobes,
        lines::hex,
        modules, notes,
        symbols::SymbolTable,
    },
};

/// Bytes of a file of sysfs.
const LIMIT: u64 = 1 << 20;
/// The list of probes.
const KPROBES: &str = "sys/kernel/debug/kprobes/list";

pub(super) fn modules(machine: &Machine<'_>) -> Result<Vec<ModuleRecord>, Error> {
    let path = "proc/modules";
    let shown = machine.path(path).display().to_string();
    let file = machine.open(path).map_err(|error| match is_absent(&error) {
        true => Error::malformed(&shown, "not there: this kernel was built without modules (CONFIG_MODULES)"),
        false => error,
    })?;
    modules::parse(&shown, file)
}

/// What `/sys/module` says of each module.
pub(super) fn read_sysfs(machine: &mut Machine<'_>, modules: &mut [ModuleRecord]) {
    let (mut hidden, mut seen, mut denied) = (false, false, 0);
    let consequence = "verify and lookup need the addresses of sections";
    for module in modules {
        let folder = format!("sys/module/{}", module.name);
        let number = |name: &str| {
            let bytes = machine.read(&format!("{folder}/{name}"), LIMIT).ok()?;
            std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
        };
        (module.core_size, module.init_size) = (number("coresize"), number("initsize"));
        match sections(machine, &format!("{folder}/sections")) {
            Ok(sections) => {
                hidden |= sections.iter().any(|section| section.address == 0);
                seen |= sections.iter().any(|section| section.address != 0);
                module.sections = sections;
            }
            // A module that has just gone has no folder; the list of modules will tell.
            Err(error) if is_absent(&error) && machine.files.names("sys/module").is_ok() => {}
            // To whom one file is shut, all are: once is enough.
            Err(Error::Read { source, .. }) if source.kind() == ErrorKind::PermissionDenied => denied += 1,
            Err(error) => drop(machine.missed::<()>("sections", &error, consequence)),
        }
        module.notes = all_notes(machine, &format!("{folder}/notes"));
        module.build_id = notes::build_id(&module.notes);
        if hidden && !seen {
            module.sections.clear();
            machine.miss("sections", &rights::why_hidden(machine), consequence);
        }
    }
    if denied > 0 {
        let why = format!("no permission to read /sys/module/*/sections of {denied} modules: run it as root");
        machine.miss("sections", &why, consequence);
    }
}

fn sections(machine: &Machine<'_>, folder: &str) -> Result<Vec<SectionAddress>, Error> {
    let mut sections = Vec::new();
    for name in machine.files.names(folder)? {
        let path = format!("{folder}/{name}");
        let bytes = machine.read(&path, LIMIT)?;
        let address = std::str::from_utf8(&bytes).ok().and_then(|text| hex(text.trim()));
        let address = address
            .ok_or_else(|| Error::malformed(machine.path(&path).display().to_string(), "no address"))?;
        sections.push(SectionAddress { name, address });
    }
    Ok(sections)
}

/// All notes of a module, one behind the other.
fn all_notes(machine: &Machine<'_>, folder: &str) -> Vec<u8> {
    let mut notes = Vec::new();
    for name in machine.files.names(folder).unwrap_or_default() {
        notes.extend(machine.read(&format!("{folder}/{name}"), LIMIT).unwrap_or_default());
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
    notes
}

pub(super) fn symbols(machine: &mut Machine<'_>) -> SymbolTable {
    let path = "proc/kallsyms";
    let shown = machine.path(path).display().to_string();
    let consequence = "no symbol has a name: lookup and symbolize tell sections only, verify cannot link";
    let symbols = machine.open(path).and_then(|file| SymbolTable::read_from(&shown, file));
    match symbols {
        Ok(symbols) if symbols.is_hidden() => {
            machine.miss("kallsyms", &rights::why_hidden(machine), consequence);
            SymbolTable::default()
        }
        Ok(symbols) => symbols,
        Err(error) => machine.missed("kallsyms", &error, consequence).unwrap_or_default(),
    }
}

/// The areas of vmalloc, or why they cannot be read.
///
/// A list that contradicts itself was read while it changed: it is read again.
pub(super) fn areas(machine: &Machine<'_>) -> Result<Listed, String> {
    let path = "proc/vmallocinfo";
    let shown = machine.path(path).display().to_string();
    let read = || machine.open(path).and_then(|file| areas::parse(&shown, file));
    let torn = |read: &Result<Areas, Error>| matches!(read, Ok(Areas::Known(listed)) if !listed.contradictory.is_empty());
    let mut list = read();
    for _ in 1..ATTEMPTS {
        if !torn(&list) {
            break;
        }
        list = read();
    }
    match list {
        Ok(Areas::Known(listed)) => Ok(listed),
        Ok(Areas::Hidden) => {
            Err("its addresses are hashed or hidden (kernel.kptr_restrict=1 shows them to root)".into())
        }
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn kprobes(machine: &mut Machine<'_>, config: Option<&str>) -> Option<Vec<Kprobe>> {
    // A kernel that cannot have any needs no list.
    if config.is_some_and(|config| !config.lines().any(|line| line == "CONFIG_KPROBES=y")) {
        return Some(Vec::new());
    }
    let shown = machine.path(KPROBES).display().to_string();
    match machine.open(KPROBES).and_then(|file| kprobes::parse(&shown, file)) {
        Ok(probes) => Some(probes),
        Err(error) => {
            let consequence = "verify cannot tell kprobes from other breakpoints (debugfs has to be mounted)";
            machine.missed("kprobes", &error, consequence)
        }
    }
}

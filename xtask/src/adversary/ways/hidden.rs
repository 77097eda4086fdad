//! Modules and code that are in no list.

use modmem_linux::snapshot::ModuleRecord;

use crate::adversary::intruder::{CODE, Intruder, PAGE};

/// Takes a module that nobody uses out of the list of modules; its record.
fn unlinked(intruder: &mut Intruder<'_>) -> Option<ModuleRecord> {
    let unused =
        intruder.modules.iter().find(|module| module.users.is_empty() && module.refcnt == Some(0))?;
    let name = unused.name.clone();
    intruder.unlink(&name)
}

pub(super) fn unlisted(intruder: &mut Intruder<'_>) -> Option<()> {
    unlinked(intruder).map(drop)
}

pub(super) fn no_symbols(intruder: &mut Intruder<'_>) -> Option<()> {
    let module = unlinked(intruder)?;
    intruder.unlist(&module.name);
    Some(())
}

/// The areas that a module has.
fn is_of(module: &ModuleRecord, area: &modmem_linux::snapshot::Area) -> bool {
    module.sections.iter().any(|section| area.range.contains(&section.address))
}

/// Whether any of a module's memories is in an area of its own: in packs it has none.
fn has_areas(intruder: &Intruder<'_>, module: &ModuleRecord) -> bool {
    intruder.areas.iter().any(|area| is_of(module, area))
}

pub(super) fn no_areas(intruder: &mut Intruder<'_>) -> Option<()> {
    let module = unlinked(intruder)?;
    intruder.unlist(&module.name);
    intruder.areas.retain(|area| !is_of(&module, area));
    Some(())
}

pub(super) fn unread(intruder: &mut Intruder<'_>) -> Option<()> {
    let module = unlinked(intruder)?;
    intruder.unlist(&module.name);
    intruder.areas.retain(|area| !is_of(&module, area));
    // Where all of the range was read, pages that are not there hold nothing: then the kernel itself lies.
    intruder.machine.snapshot.memory.scanned().is_empty().then_some(())?;
    let memories = intruder.machine.memories.iter().filter(|(name, ..)| *name == module.name);
    let pages: Vec<u64> = memories.flat_map(|(.., range)| range.clone().step_by(PAGE as usize)).collect();
    for page in pages {
        let _ = intruder.forget(page);
    }
    Some(())
}

pub(super) fn renamed_areas(intruder: &mut Intruder<'_>) -> Option<()> {
    let module = unlinked(intruder)?;
    intruder.unlist(&module.name);
    has_areas(intruder, &module).then_some(())?;
    for area in intruder.areas.iter_mut().filter(|area| is_of(&module, area)) {
        area.rest = area.rest.replace(&area.caller, "bpf_prog_pack_alloc");
        area.caller = "bpf_prog_pack_alloc".to_owned();
    }
    Some(())
}

/// Lists a hidden module's symbols under another name.
fn renamed(intruder: &mut Intruder<'_>, list: &str) -> Option<()> {
    let module = unlinked(intruder)?;
    for symbol in intruder.symbols.iter_mut().filter(|symbol| symbol.module.as_ref() == Some(&module.name)) {
        symbol.module = Some(list.to_owned());
    }
    Some(())
}

pub(super) fn named_bpf(intruder: &mut Intruder<'_>) -> Option<()> {
    renamed(intruder, "bpf")
}

pub(super) fn named_builtin(intruder: &mut Intruder<'_>) -> Option<()> {
    renamed(intruder, "__builtin__hidden")
}

pub(super) fn named_kprobes(intruder: &mut Intruder<'_>) -> Option<()> {
    let module = unlinked(intruder)?;
    intruder.unlist(&module.name);
    let memories = intruder.machine.memories.iter().filter(|(name, ..)| *name == module.name);
    let pages: Vec<u64> = memories.flat_map(|(.., range)| range.clone().step_by(PAGE as usize)).collect();
    for page in pages {
        intruder.list("kprobe_insn_page", page, 't', Some("__builtin__kprobes"));
    }
    Some(())
}

pub(super) fn pages(intruder: &mut Intruder<'_>) -> Option<()> {
    intruder.pages(2).map(drop)
}

pub(super) fn pages_of_bpf(intruder: &mut Intruder<'_>) -> Option<()> {
    let own = intruder.pages(2)?;
    intruder.area(own, 2, "bpf_prog_pack_alloc");
    intruder.list("bpf_prog_6deef7357e7b4530", own, 't', Some("bpf"));
    Some(())
}

pub(super) fn pages_with_header(intruder: &mut Intruder<'_>) -> Option<()> {
    let own = intruder.pages(1)?;
    intruder.area(own, 1, "bpf_prog_pack_alloc");
    let mut program = vec![0xcc; 128];
    program[..4].copy_from_slice(&128_u32.to_le_bytes());
    program[8..17].copy_from_slice(&[0x0f, 0x1f, 0x44, 0, 0, 0x55, 0x48, 0x89, 0xe5]);
    program[17..17 + CODE.len()].copy_from_slice(&CODE);
    let mut page = vec![0xcc; PAGE as usize];
    page[..128].copy_from_slice(&program);
    intruder.write(own, &page)
}

pub(super) fn pages_as_trampoline(intruder: &mut Intruder<'_>) -> Option<()> {
    let own = intruder.pages(1)?;
    intruder.area(own, 1, "arch_ftrace_update_trampoline");
    intruder.list("ftrace_trampoline", own, 't', Some("__builtin__ftrace"));
    Some(())
}

pub(super) fn pages_of_loader(intruder: &mut Intruder<'_>) -> Option<()> {
    let own = intruder.pages(1)?;
    (!intruder.areas.is_empty() || !intruder.machine.snapshot.memory.scanned().is_empty()).then_some(())?;
    intruder.area(own, 1, "module_alloc");
    Some(())
}

/// A page in a module's init memory that was given back, which nobody has now.
pub(super) fn init(intruder: &mut Intruder<'_>) -> Option<()> {
    let init = intruder.machine.memories.iter().filter(|(_, kind, _)| kind.is_init());
    let ranges: Vec<u64> = init.map(|(.., range)| range.start).collect();
    let free = ranges.into_iter().find(|start| {
        intruder.machine.bytes(*start, 1).is_none()
            && !intruder.areas.iter().any(|area| area.range.contains(start))
            && !intruder
                .machine
                .memories
                .iter()
                .any(|(_, kind, range)| !kind.is_init() && range.contains(start))
    })?;
    intruder.put(free, 1);
    intruder.area(free, 1, "execmem_alloc");
    Some(())
}

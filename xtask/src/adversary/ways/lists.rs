//! The texts that a machine writes about itself, and the code that agrees with them.

use modmem::MemoryKind;
use modmem_linux::snapshot::{Kprobe, ModuleState};

use crate::adversary::intruder::Intruder;

const CALL: u8 = 0xe8;
const INT3: u8 = 0xcc;

/// Leads all calls of a function elsewhere.
fn redirect(intruder: &mut Intruder<'_>, sites: &[u64], to: u64) -> Option<()> {
    sites.iter().try_for_each(|site| intruder.branch(CALL, *site, to))
}

pub(super) fn symbol_moved(intruder: &mut Intruder<'_>) -> Option<()> {
    let (name, sites) = intruder.machine.favourite()?;
    let own = intruder.pages(1)?;
    intruder.own(&name)?.address = own;
    redirect(intruder, &sites, own)
}

pub(super) fn symbol_shifted(intruder: &mut Intruder<'_>) -> Option<()> {
    let (name, sites) = intruder.machine.favourite()?;
    let symbol = intruder.own(&name)?;
    symbol.address += 1;
    let to = symbol.address;
    redirect(intruder, &sites, to)
}

pub(super) fn symbol_swapped(intruder: &mut Intruder<'_>) -> Option<()> {
    let (name, sites) = intruder.machine.favourite()?;
    let at = intruder.symbols.iter().position(|symbol| symbol.name == name && symbol.module.is_none())?;
    let other = intruder.symbols.iter().skip(at + 1).position(|symbol| symbol.letter == 'T')? + at + 1;
    let to = intruder.symbols.get(other)?.address;
    let name = intruder.symbols[other].name.clone();
    let name = std::mem::replace(&mut intruder.symbols[at].name, name);
    intruder.symbols[other].name = name;
    redirect(intruder, &sites, to)
}

pub(super) fn size(intruder: &mut Intruder<'_>) -> Option<()> {
    let module = intruder.modules.iter_mut().find(|module| module.size > 4096)?;
    module.size -= 4096;
    Some(())
}

pub(super) fn state(intruder: &mut Intruder<'_>) -> Option<()> {
    let name = intruder.machine.largest()?.0;
    let has_init = intruder.machine.has_section(name, ".init.text");
    let module = intruder.modules.iter_mut().find(|module| module.name == name && has_init)?;
    module.state = ModuleState::Loading;
    Some(())
}

/// A copy of a module's memories, untouched; what runs is changed.
pub(super) fn decoy(intruder: &mut Intruder<'_>) -> Option<()> {
    let (name, text) = intruder.machine.largest()?;
    let length = text.end - text.start;
    let copy = intruder.pages(length.div_ceil(4096))?;
    let bytes = intruder.machine.bytes(text.start, length as usize)?;
    intruder.write(copy, bytes)?;
    let module = intruder.modules.iter_mut().find(|module| module.name == name)?;
    for section in module.sections.iter_mut().filter(|section| text.contains(&section.address)) {
        section.address = section.address - text.start + copy;
    }
    module.address = copy;
    let at = text.start + length / 2;
    let byte = *intruder.machine.bytes(at, 1)?.first()?;
    intruder.write(at, &[byte ^ 0x55])
}

pub(super) fn no_sections(intruder: &mut Intruder<'_>) -> Option<()> {
    let name = intruder.machine.largest()?.0;
    let module = intruder.modules.iter_mut().find(|module| module.name == name)?;
    module.sections.clear();
    Some(())
}

pub(super) fn configuration(intruder: &mut Intruder<'_>) -> Option<()> {
    let config = intruder.config.as_mut()?;
    let name = ["CONFIG_RETHUNK=y", "CONFIG_MITIGATION_RETHUNK=y", "CONFIG_JUMP_LABEL=y"];
    let line = name.into_iter().find(|line| config.contains(line))?;
    *config = config.replace(line, "# nothing");
    Some(())
}

/// A place in a module's text where an instruction begins: a function.
fn place(intruder: &Intruder<'_>) -> Option<u64> {
    let (module, _) = intruder.machine.largest()?;
    let (_, function) = intruder.machine.function_of(module)?;
    intruder.machine.is_x86().then_some(function)
}

fn list_probe(intruder: &mut Intruder<'_>, address: u64) {
    let probe = Kprobe {
        address,
        kind: 'k',
        place: "function+0x0".to_owned(),
        on_ftrace: false,
        optimized: false,
        disabled: false,
        gone: false,
    };
    intruder.kprobes.get_or_insert_default().push(probe);
}

pub(super) fn probe(intruder: &mut Intruder<'_>) -> Option<()> {
    let place = place(intruder)?;
    list_probe(intruder, place);
    intruder.write(place, &[INT3])
}

pub(super) fn probe_expected(intruder: &mut Intruder<'_>) -> Option<()> {
    intruder.expects_probes = true;
    probe(intruder)
}

pub(super) fn probe_optimized(intruder: &mut Intruder<'_>) -> Option<()> {
    intruder.expects_probes = true;
    let place = place(intruder)?;
    list_probe(intruder, place);
    let own = intruder.pages(1)?;
    intruder.area(own, 1, "alloc_optinsn_page");
    intruder.list("kprobe_optinsn_page", own, 't', Some("__builtin__kprobes"));
    intruder.branch(0xe9, place, own)
}

pub(super) fn planted(intruder: &mut Intruder<'_>) -> Option<()> {
    let (module, _) = intruder.machine.largest()?;
    let machine = intruder.machine;
    let outside = machine.memories.iter().find(|(_, kind, _)| *kind == MemoryKind::Data)?.2.start;
    intruder.list("planted", outside, 't', Some(module));
    Some(())
}

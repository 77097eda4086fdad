//! What livepatch does to a module of its own, and the loader does not: symbols that it looks up by name and module, and
//! relocations with these (kernel/livepatch/core.c:klp_resolve_symbols, klp_write_section_relocs).
//!
//! A section `.klp.rela.OBJECT.SECTION` is applied to SECTION as soon as OBJECT is there: the kernel, `vmlinux`, while
//! the module is loaded, before anything is patched; a module as soon as both are loaded, when all else is done. Its
//! symbols are called `.klp.sym.OBJECT.NAME,POSITION`; their values stay in the symbol table that the module keeps.

use super::unloaded::{self, record};
use super::{Rule, VerifyError};
use crate::address::RunAddr;
use crate::arch::{Architecture, with_machine};
use crate::finalize::Standing;
use crate::finalize::subject::Subject;
use crate::image::elf::{Encoding, section_flag, section_type, with_encoding};
use crate::image::{Relocation, Section, SymbolPlace};
use crate::layout::MemoryKind;
use crate::link::relocation::Expression;
use crate::link::stubs::Site;
use crate::name::Name;

/// What has arrived, and what is applied therefore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objects {
    Kernel,
    Modules,
}

const KERNEL: &[u8] = b"vmlinux";

/// Applies the relocations that wait for these objects.
pub(super) fn apply(subject: &mut Subject<'_, '_>, objects: Objects) -> Result<(), VerifyError> {
    let image = subject.image;
    let is_own = |section: &&Section<'_>| {
        section.kind() == section_type::RELA && section.flags() & section_flag::RELA_LIVEPATCH != 0
    };
    for section in image.sections().iter().filter(is_own) {
        let Some(object) = object_of(section.name().bytes()) else { continue };
        if (object == KERNEL) != (objects == Objects::Kernel) {
            continue;
        }
        let Some(start) = subject.section_address(section.info() as usize) else { continue };
        with_encoding!(image.format(), E => {
            for bytes in section.data().chunks_exact(Relocation::size::<E>(true)) {
                relocate::<E>(subject, start, Relocation::decode::<E, true>(bytes))?;
            }
        });
    }
    Ok(())
}

/// OBJECT of `.klp.rela.OBJECT.SECTION`.
fn object_of(name: &[u8]) -> Option<&[u8]> {
    let rest = name.strip_prefix(b".klp.rela.")?;
    rest.split(|&byte| byte == b'.').next()
}

/// OBJECT and NAME of `.klp.sym.OBJECT.NAME,POSITION`.
fn symbol_of(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = name.strip_prefix(b".klp.sym.")?;
    let dot = rest.iter().position(|&byte| byte == b'.')?;
    let (object, rest) = (rest.get(..dot)?, rest.get(dot + 1..)?);
    let comma = rest.iter().position(|&byte| byte == b',')?;
    Some((object, rest.get(..comma)?))
}

fn relocate<E: Encoding>(
    subject: &mut Subject<'_, '_>,
    section: RunAddr,
    relocation: Relocation,
) -> Result<(), VerifyError> {
    let index = relocation.symbol as usize;
    let symbol = subject.image.symbols().get(index);
    let Some(symbol) = symbol.filter(|symbol| symbol.place == SymbolPlace::Livepatch) else { return Ok(()) };
    let Some((object, name)) = symbol_of(symbol.name.bytes()) else { return Ok(()) };
    // Where the symbol's value is kept, and what is there.
    let (size, value) = record(subject.image.format());
    let [loading, kept] =
        unloaded::tables(subject).map(|table| table.map(|table| table + index as u64 * size + value));
    let Some(kept) = kept else { return Ok(()) };
    let format = subject.module.format();
    let found = subject.module.found(kept, format.word()).and_then(|bytes| format.read_word(bytes));
    let Some(address) = found.and_then(|found| resolve(subject, object, Name(name), found)) else {
        if object != KERNEL
            && let Some(found) = found
        {
            // The module has gone, or has not come: what was looked up for the one before stays, and nobody uses it.
            let bytes = format.bytes_of_word(found);
            subject.module.write(kept, bytes.as_ref(), Rule::Livepatch, Standing::Unproven);
        }
        return Ok(());
    };
    let is_loading = subject.module.found_memory(MemoryKind::InitData).is_some();
    if object != KERNEL && is_loading && found == Some(symbol.value) {
        // The patch is registered by the module's init.
        return Ok(());
    }
    let bytes = format.bytes_of_word(address);
    // What belongs to the kernel is looked up before the table is copied.
    let places = [loading.filter(|_| object == KERNEL), Some(kept)];
    for place in places.into_iter().flatten() {
        subject.module.write(place, bytes.as_ref(), Rule::Livepatch, Standing::Certain);
    }
    put::<E>(subject, section + relocation.offset, relocation, address)
}

/// The address of a symbol of the kernel or of a module. Where several have that name, the module says which by a number
/// that only the kernel can count by: what was found must be one of them.
fn resolve(subject: &Subject<'_, '_>, object: &[u8], name: Name<'_>, found: u64) -> Option<u64> {
    let object = core::str::from_utf8(object).ok()?;
    let module = Some(object).filter(|object| object.as_bytes() != KERNEL);
    let is_one = subject
        .guest
        .symbol_at(RunAddr(found))
        .is_some_and(|symbol| symbol.offset == 0 && symbol.module == module && name == *symbol.name);
    if is_one {
        return Some(found);
    }
    match module {
        None => subject.guest.kernel_symbol(name),
        Some(module) => subject.guest.module_symbol(module, name),
    }
}

/// Writes the value of one relocation.
fn put<E: Encoding>(
    subject: &mut Subject<'_, '_>,
    place: RunAddr,
    relocation: Relocation,
    symbol: u64,
) -> Result<(), VerifyError> {
    let profile = subject.profile;
    let table = with_machine!(profile.machine, A => A::relocations(&profile.machine_state))?;
    let Some(kind) = table.get(relocation.kind).filter(|kind| kind.expression != Expression::Nothing) else {
        return Ok(());
    };
    let Some(memory) = subject.module.kind_at(place) else { return Ok(()) };
    let site = Site { kind, memory, place, index: relocation.symbol, symbol, addend: relocation.addend };
    let Some(value) = site.value().filter(|&value| kind.check.accepts(value)) else { return Ok(()) };
    let Some(field) = subject.module.ours(place, kind.field.size()) else { return Ok(()) };
    let length = field.len();
    let mut bytes = [0; 8];
    match length {
        4 => {
            let word = kind.field.set(u64::from(E::u32(field, 0)), value);
            E::put_u32(&mut bytes, 0, word as u32);
        }
        8 => E::put_u64(&mut bytes, 0, kind.field.set(E::u64(field, 0), value)),
        _ => return Ok(()),
    }
    subject.module.write(place, &bytes[..length], Rule::Livepatch, Standing::Certain);
    Ok(())
}

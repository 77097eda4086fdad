//! Relocations of livepatch modules against the kernel, which Linux applies while the module is loaded
//! (kernel/livepatch/core.c:klp_apply_section_relocs, klp_resolve_symbols).
//!
//! A section `.klp.rela.OBJECT.SECTION` waits for OBJECT. That of the kernel, `vmlinux`, is always there; modules come
//! and go, and what waits for them is applied by livepatch itself. Symbols are called `.klp.sym.OBJECT.NAME,POSITION`:
//! the POSITION-th of that name, or with 0 the only one.

use alloc::vec::Vec;

use super::error::{LinkError, LivepatchProblem};
use super::remark::Remark;
use super::resolve::Scope;
use crate::image::elf::section_flag::RELA_LIVEPATCH;
use crate::image::{Image, RelocationSection, SymbolPlace};
use crate::name::Name;

/// What is called `vmlinux` is the kernel itself.
const KERNEL: &[u8] = b"vmlinux";
/// Bytes that the name of an object may have, and that of a symbol, for Linux to read them.
const OBJECT_LENGTH: usize = 55;
const NAME_LENGTH: usize = 511;

/// A symbol of the kernel or of a module, exported or not, looked up for livepatch (core.c:klp_find_object_symbol).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InternalSymbol {
    /// Its address.
    Found(u64),
    /// There is none of that name.
    Absent,
    /// There are several of that name, and no position says which is meant.
    Ambiguous,
    /// There are fewer of that name than the position says.
    NoSuchPosition,
    /// Nobody told which symbols there are.
    Unknown,
}

impl InternalSymbol {
    /// The one at that position among all of a name, in the order of kallsyms.
    pub fn of(mut addresses: impl Iterator<Item = u64>, position: u64) -> InternalSymbol {
        let Some(first) = addresses.next() else { return InternalSymbol::Absent };
        match position {
            0 if addresses.next().is_some() => InternalSymbol::Ambiguous,
            0 | 1 => InternalSymbol::Found(first),
            position => {
                let at = usize::try_from(position - 2).ok().and_then(|at| addresses.nth(at));
                at.map_or(InternalSymbol::NoSuchPosition, InternalSymbol::Found)
            }
        }
    }
}

/// What was found before anything is relocated.
#[derive(Default)]
pub(super) struct Livepatch<'i, 'a> {
    /// The sections to apply.
    pub(super) sections: Vec<RelocationSection<'i, 'a>>,
    /// Symbols of the kernel that nobody could tell about; sections that need one are not applied.
    pub(super) unknown: Option<Remark>,
}

/// Finds the kernel's symbols that livepatch's relocations need, and puts their addresses into `values`.
pub(super) fn resolve<'i, 'a, S: Scope>(
    image: &'i Image<'a>,
    scope: &S,
    values: &mut [u64],
) -> Result<Livepatch<'i, 'a>, LinkError> {
    let mut found = Livepatch::default();
    for section in image.sections().iter().filter(|section| section.flags() & RELA_LIVEPATCH != 0) {
        let Some(relocations) = RelocationSection::of_livepatch(image, section) else { continue };
        let bad = |name: Name<'_>, problem| LinkError::Livepatch { name: name.to_text().into(), problem };
        let object = object_of(section.name().bytes());
        let object = object.ok_or_else(|| bad(section.name(), LivepatchProblem::SectionName))?;
        if object != KERNEL {
            continue;
        }
        let mut known = true;
        for relocation in relocations.iter() {
            let index = relocation.symbol as usize;
            let symbol = image.symbols().get(index);
            let name = symbol.map(|symbol| symbol.name).unwrap_or_default();
            if symbol.is_none_or(|symbol| symbol.place != SymbolPlace::Livepatch) {
                return Err(bad(name, LivepatchProblem::NotMarked));
            }
            let (object, wanted, position) =
                symbol_of(name.bytes()).ok_or_else(|| bad(name, LivepatchProblem::SymbolName))?;
            let object = Some(Name(object)).filter(|object| object.bytes() != KERNEL);
            match scope.internal_symbol(object, Name(wanted), position) {
                InternalSymbol::Found(address) => {
                    if let Some(value) = values.get_mut(index) {
                        *value = address;
                    }
                }
                InternalSymbol::Absent => return Err(bad(name, LivepatchProblem::Absent)),
                InternalSymbol::Ambiguous => return Err(bad(name, LivepatchProblem::Ambiguous)),
                InternalSymbol::NoSuchPosition => return Err(bad(name, LivepatchProblem::NoSuchPosition)),
                InternalSymbol::Unknown => {
                    known = false;
                    match &mut found.unknown {
                        Some(Remark::UnknownInternalSymbols { count, .. }) => *count += 1,
                        unknown => {
                            let first = Name(wanted).to_text().into();
                            *unknown = Some(Remark::UnknownInternalSymbols { first, count: 1 });
                        }
                    }
                }
            }
        }
        if known {
            found.sections.try_reserve(1).map_err(|_| LinkError::OutOfMemory)?;
            found.sections.push(relocations);
        }
    }
    Ok(found)
}

/// OBJECT of `.klp.rela.OBJECT.SECTION`; as Linux reads it, SECTION may be missing.
fn object_of(name: &[u8]) -> Option<&[u8]> {
    let rest = name.strip_prefix(b".klp.rela.")?;
    let length = rest.iter().position(|&byte| byte == b'.').unwrap_or(rest.len());
    (length > 0).then(|| &rest[..length.min(OBJECT_LENGTH)])
}

/// The parts of `.klp.sym.OBJECT.NAME,POSITION`.
fn symbol_of(name: &[u8]) -> Option<(&[u8], &[u8], u64)> {
    let rest = name.strip_prefix(b".klp.sym.")?;
    let dot = rest.iter().position(|&byte| byte == b'.')?;
    let (object, rest) = (&rest[..dot], &rest[dot + 1..]);
    let comma = rest.iter().position(|&byte| byte == b',')?;
    let (name, number) = (&rest[..comma], &rest[comma + 1..]);
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let position = core::str::from_utf8(&number[..digits]).ok()?.parse().ok()?;
    let fits = |part: &[u8], length| (1..=length).contains(&part.len());
    (fits(object, OBJECT_LENGTH) && fits(name, NAME_LENGTH)).then_some((object, name, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_livepatch_have_parts() {
        assert_eq!(object_of(b".klp.rela.vmlinux..text"), Some(&b"vmlinux"[..]));
        assert_eq!(object_of(b".klp.rela.ext4"), Some(&b"ext4"[..]));
        assert_eq!((object_of(b".klp.rela."), object_of(b".klp.rela..text")), (None, None));
        let parts = symbol_of(b".klp.sym.vmlinux.name.isra.0,12x");
        assert_eq!(parts, Some((&b"vmlinux"[..], &b"name.isra.0"[..], 12)));
        for bad in
            ["x", ".klp.sym.vmlinux", ".klp.sym.vmlinux.name", ".klp.sym.vmlinux.name,", ".klp.sym..name,0"]
        {
            assert_eq!(symbol_of(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn positions_count_from_one_and_none_means_the_only_one() {
        let of = |addresses: &[u64], position| InternalSymbol::of(addresses.iter().copied(), position);
        assert_eq!(of(&[], 0), InternalSymbol::Absent);
        assert_eq!((of(&[7], 0), of(&[7], 1)), (InternalSymbol::Found(7), InternalSymbol::Found(7)));
        assert_eq!(of(&[7], 2), InternalSymbol::NoSuchPosition);
        assert_eq!((of(&[7, 8], 0), of(&[7, 8], 2)), (InternalSymbol::Ambiguous, InternalSymbol::Found(8)));
    }
}

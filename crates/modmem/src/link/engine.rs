//! The relocation engine: evaluates a machine's table over a relocation section.

use super::error::{LinkError, RelocationError, RelocationProblem};
use super::relocation::{Expression, Field, RelocationType, Relocations};
use crate::address::RunAddr;
use crate::image::elf::{Encoding, section_type, symbol_type};
use crate::image::{Image, Relocation, RelocationSection, SymbolPlace};

/// Applies every relocation of `section` to the bytes of its target, which will run at `address`.
///
/// `values` has the final value of each symbol. The field must be zero beforehand, as Linux insists on x86-64
/// (arch/x86/kernel/module.c:__write_relocate_add): addends come with the relocation.
pub(super) fn apply<E: Encoding>(
    image: &Image<'_>,
    table: &Relocations,
    section: &RelocationSection<'_, '_>,
    target: &mut [u8],
    address: RunAddr,
    values: &[u64],
) -> Result<usize, LinkError> {
    let records = section.section().data();
    if section.section().kind() != section_type::RELA {
        return match section.get(0) {
            None => Ok(0),
            Some(first) => Err(describe(image, table, section, 0, first, RelocationProblem::NoAddends)),
        };
    }
    let size = Relocation::size::<E>(true);
    for (entry, record) in records.chunks_exact(size).enumerate() {
        let relocation = Relocation::decode::<E, true>(record);
        let applied = match table.get(relocation.kind) {
            Some(kind) => apply_one::<E>(kind, &relocation, target, address, values),
            None => Err(RelocationProblem::UnknownType),
        };
        if let Err(problem) = applied {
            return Err(describe(image, table, section, entry, relocation, problem));
        }
    }
    Ok(records.len() / size)
}

#[inline(always)]
fn apply_one<E: Encoding>(
    kind: &RelocationType,
    relocation: &Relocation,
    target: &mut [u8],
    address: RunAddr,
    values: &[u64],
) -> Result<(), RelocationProblem> {
    // The symbol's index was checked when the image was read.
    let symbol = values.get(relocation.symbol as usize).copied().unwrap_or(0);
    let sum = symbol.wrapping_add(relocation.addend as u64);
    let value = match kind.expression {
        Expression::Nothing => return Ok(()),
        Expression::SymbolPlusAddend => sum,
        Expression::SymbolPlusAddendMinusPlace => sum.wrapping_sub(address.0.wrapping_add(relocation.offset)),
    };
    let start = relocation.offset as usize;
    let length = target.len() as u64;
    let field = start.checked_add(kind.field.size()).and_then(|end| target.get_mut(start..end));
    let field = field.ok_or(RelocationProblem::OutsideSection { size: length })?;
    let found = match kind.field {
        Field::None => 0,
        Field::Word32 => u64::from(E::u32(field, 0)),
        Field::Word64 => E::u64(field, 0),
    };
    if found != 0 {
        return Err(RelocationProblem::NotZero { found });
    }
    if !kind.check.accepts(value) {
        return Err(RelocationProblem::Overflow { value, check: kind.check });
    }
    match kind.field {
        Field::None => {}
        Field::Word32 => E::put_u32(field, 0, value as u32),
        Field::Word64 => E::put_u64(field, 0, value),
    }
    Ok(())
}

#[cold]
fn describe(
    image: &Image<'_>,
    table: &Relocations,
    section: &RelocationSection<'_, '_>,
    entry: usize,
    relocation: Relocation,
    problem: RelocationProblem,
) -> LinkError {
    let symbol = image.symbols().get(relocation.symbol as usize);
    let symbol = symbol.map(|symbol| match symbol.place {
        SymbolPlace::Section(index) if symbol.kind == symbol_type::SECTION => {
            image.sections().get(index).map(|section| section.name()).unwrap_or_default()
        }
        _ => symbol.name,
    });
    LinkError::Relocation(
        RelocationError {
            section: section.section().label(),
            entry,
            kind: relocation.kind,
            name: table.get(relocation.kind).map(|kind| kind.name),
            offset: relocation.offset,
            symbol: symbol.unwrap_or_default().to_text().into(),
            problem,
        }
        .into(),
    )
}

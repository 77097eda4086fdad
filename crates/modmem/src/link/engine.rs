//! The relocation engine: evaluates a machine's table over a relocation section.

use core::slice::ChunksExact;

use super::error::{LinkError, RelocationError, RelocationProblem};
use super::relocation::{Expression, Field, NUMBERS, Relocations, Steps};
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
    let count = records.len() / size;
    let mut rest = records.chunks_exact(size);
    while let Some(relocation) = take_steps::<E>(table.steps(), &mut rest, target, address, values) {
        apply_one::<E>(table, &relocation, target, address, values).map_err(|problem| {
            let entry = count - rest.len() - 1;
            describe(image, table, section, entry, relocation, problem)
        })?;
    }
    Ok(count)
}

/// Applies relocations of the kinds that nearly all are of, to fields that are inside of the section and zero, with
/// values that are allowed. Returns the first that is different in anything; with it, nothing has happened yet.
#[inline(always)]
fn take_steps<E: Encoding>(
    steps: &Steps,
    records: &mut ChunksExact<'_, u8>,
    target: &mut [u8],
    address: RunAddr,
    values: &[u64],
) -> Option<Relocation> {
    for record in records.by_ref() {
        let relocation = Relocation::decode::<E, true>(record);
        if take_step::<E>(steps, relocation, target, address, values).is_none() {
            return Some(relocation);
        }
    }
    None
}

#[inline(always)]
fn take_step<E: Encoding>(
    steps: &Steps,
    relocation: Relocation,
    target: &mut [u8],
    address: RunAddr,
    values: &[u64],
) -> Option<()> {
    let kind = relocation.kind as usize;
    if kind >= NUMBERS {
        return None;
    }
    let symbol = *values.get(relocation.symbol as usize)?;
    let place = address.0.wrapping_add(relocation.offset);
    let value = symbol.wrapping_add(relocation.addend as u64).wrapping_sub(place & steps.place[kind]);
    let field = target.get_mut(usize::try_from(relocation.offset).ok()?..)?;
    if steps.bytes[kind] == 4 {
        let field = field.first_chunk_mut::<4>().filter(|field| **field == [0; 4])?;
        if (value ^ value as i32 as u64) & steps.signed[kind] != 0 {
            return None;
        }
        E::put_u32(field, 0, value as u32);
    } else if steps.bytes[kind] == 8 {
        let field = field.first_chunk_mut::<8>().filter(|field| **field == [0; 8])?;
        E::put_u64(field, 0, value);
    } else {
        return None;
    }
    Some(())
}

/// The same for any relocation, one decision at a time, to apply it or to say what is wrong with it.
#[cold]
fn apply_one<E: Encoding>(
    table: &Relocations,
    relocation: &Relocation,
    target: &mut [u8],
    address: RunAddr,
    values: &[u64],
) -> Result<(), RelocationProblem> {
    let kind = table.get(relocation.kind).ok_or(RelocationProblem::UnknownType)?;
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

//! The relocation engine: evaluates a machine's table over a relocation section.

use alloc::vec::Vec;
use core::slice::ChunksExact;

use super::error::{LinkError, RelocationError, RelocationProblem};
use super::relocation::{Expression, RelocationType, Relocations};
use super::stubs::{Applied, Site, Stubs};
use crate::address::RunAddr;
use crate::arch::Architecture;
use crate::image::elf::{Encoding, section_type, symbol_type};
use crate::image::{Image, Relocation, RelocationSection, SymbolPlace};
use crate::layout::MemoryKind;

/// A relocation section with what it changes.
pub(super) struct Task<'t, 'i, 'a> {
    pub(super) image: &'i Image<'a>,
    pub(super) table: &'t Relocations,
    pub(super) section: RelocationSection<'i, 'a>,
    /// The memory that the target lies in, and the address at which it will run.
    pub(super) kind: MemoryKind,
    pub(super) address: RunAddr,
    /// The final value of each symbol.
    pub(super) values: &'t [u64],
}

impl Task<'_, '_, '_> {
    /// Applies every relocation of the section to the bytes of its target. Addends come with the relocation; whether
    /// the field must be zero beforehand is the machine's to say.
    ///
    /// Those that need a table of the module's wait until the others are done where the machine has an order of its
    /// own for them.
    pub(super) fn apply<A: Architecture>(
        &self,
        target: &mut [u8],
        stubs: &mut A::Stubs,
    ) -> Result<usize, LinkError> {
        let records = self.section.section().data();
        if self.section.section().kind() != section_type::RELA {
            return match self.section.get(0) {
                None => Ok(0),
                Some(first) => Err(self.describe(0, first, RelocationProblem::NoAddends)),
            };
        }
        let size = Relocation::size::<A::Encoding>(true);
        let count = records.len() / size;
        let mut waiting: Vec<u32> = Vec::new();
        let mut rest = records.chunks_exact(size);
        while let Some(relocation) = self.take_steps::<A>(&mut rest, target, stubs.entries()) {
            let entry = count - rest.len() - 1;
            if A::Stubs::ORDERED {
                waiting.try_reserve(1).map_err(|_| LinkError::OutOfMemory)?;
                waiting.push(entry as u32);
                continue;
            }
            self.apply_one::<A>(&relocation, target, stubs)
                .map_err(|problem| self.describe(entry, relocation, problem))?;
        }
        if !waiting.is_empty() {
            A::Stubs::order(self.image, &self.section, &mut waiting)?;
            for entry in waiting {
                let record = records.get(entry as usize * size..).and_then(|rest| rest.get(..size));
                let Some(record) = record else { continue };
                let relocation = Relocation::decode::<A::Encoding, true>(record);
                self.apply_one::<A>(&relocation, target, stubs)
                    .map_err(|problem| self.describe(entry as usize, relocation, problem))?;
            }
        }
        Ok(count)
    }

    /// Applies relocations of the kinds that nearly all are of, to fields that are inside of the section, with values
    /// that are allowed. Returns the first that is different in anything; with it, nothing has happened yet.
    #[inline(always)]
    fn take_steps<A: Architecture>(
        &self,
        records: &mut ChunksExact<'_, u8>,
        target: &mut [u8],
        entries: &[u64],
    ) -> Option<Relocation> {
        // Written out of `self`, whose fields the compiler would read again after each write to `target`.
        let Task { table, values, address, .. } = *self;
        for record in records.by_ref() {
            let relocation = Relocation::decode::<A::Encoding, true>(record);
            let tables = (values, entries);
            if take_step::<A>(table, tables, address.0, relocation, target).is_none() {
                return Some(relocation);
            }
        }
        None
    }

    /// The same for any relocation, one decision at a time, to apply it or to say what is wrong with it.
    #[cold]
    fn apply_one<A: Architecture>(
        &self,
        relocation: &Relocation,
        target: &mut [u8],
        stubs: &mut A::Stubs,
    ) -> Result<(), RelocationProblem> {
        let kind = self.table.get(relocation.kind).ok_or(RelocationProblem::UnknownType)?;
        // The symbol's index was checked when the image was read.
        let symbol = self.values.get(relocation.symbol as usize).copied().unwrap_or(0);
        let site = Site {
            kind,
            memory: self.kind,
            place: self.address + relocation.offset,
            index: relocation.symbol,
            symbol,
            addend: relocation.addend,
        };
        if kind.expression == Expression::Nothing {
            return Ok(());
        }
        let length = target.len() as u64;
        let start = kind.field.start(relocation.offset) as usize;
        let field = start.checked_add(kind.field.size()).and_then(|end| target.get_mut(start..end));
        let field = field.ok_or(RelocationProblem::OutsideSection { size: length })?;
        let value = match stubs.apply(&site, field)? {
            Applied::Done => return Ok(()),
            Applied::Value(value) => value,
            Applied::AsTheTableSays => site.value().ok_or(RelocationProblem::UnknownType)?,
        };
        put::<A>(kind, field, in_width::<A::Encoding>(value))
    }

    #[cold]
    fn describe(&self, entry: usize, relocation: Relocation, problem: RelocationProblem) -> LinkError {
        let symbol = self.image.symbols().get(relocation.symbol as usize);
        let symbol = symbol.map(|symbol| match symbol.place {
            SymbolPlace::Section(index) if symbol.kind == symbol_type::SECTION => {
                self.image.sections().get(index).map(|section| section.name()).unwrap_or_default()
            }
            _ => symbol.name,
        });
        LinkError::Relocation(
            RelocationError {
                section: self.section.section().label(),
                entry,
                kind: relocation.kind,
                name: self.table.get(relocation.kind).map(|kind| kind.name),
                offset: relocation.offset,
                symbol: symbol.unwrap_or_default().to_text().into(),
                problem,
            }
            .into(),
        )
    }
}

/// Applies one relocation if there is nothing special about it. `values` has the value of each symbol, `entries` the
/// address of its entry in the table of addresses.
#[inline(always)]
fn take_step<A: Architecture>(
    table: &Relocations,
    (values, entries): (&[u64], &[u64]),
    address: u64,
    relocation: Relocation,
    target: &mut [u8],
) -> Option<()> {
    let step = table.step(relocation.kind)?;
    let values = if A::Stubs::ENTRIES && step.entry { entries } else { values };
    let symbol = *values.get(relocation.symbol as usize)?;
    let place = address.wrapping_add(relocation.offset);
    if A::Stubs::REACH && !step.reach.contains(symbol.wrapping_sub(place)) {
        return None;
    }
    let sum = symbol.wrapping_add(relocation.addend as u64);
    // Where fields are whole words nothing is rounded, and they begin at the place.
    let sum = if A::ZERO_BEFORE { sum } else { sum.wrapping_add(step.added) & step.sum };
    let value = in_width::<A::Encoding>(sum.wrapping_sub(place & step.place));
    if value.wrapping_add(step.bias) & step.reject != 0 {
        return None;
    }
    let start = if A::ZERO_BEFORE { relocation.offset } else { relocation.offset & !step.unaligned };
    let field = target.get_mut(usize::try_from(start).ok()?..)?;
    if A::ZERO_BEFORE {
        // All fields are whole words.
        match step.bytes {
            4 => {
                let field = field.first_chunk_mut::<4>().filter(|field| **field == [0; 4])?;
                A::Encoding::put_u32(field, 0, value as u32);
            }
            8 => {
                let field = field.first_chunk_mut::<8>().filter(|field| **field == [0; 8])?;
                A::Encoding::put_u64(field, 0, value);
            }
            _ => return None,
        }
        return Some(());
    }
    match step.bytes {
        4 => {
            let field = field.first_chunk_mut::<4>()?;
            let word = u64::from(A::Encoding::u32(field, 0));
            A::Encoding::put_u32(field, 0, step.set(word, value) as u32);
        }
        8 => A::Encoding::put_u64(field.first_chunk_mut::<8>()?, 0, value),
        2 => {
            let field = field.first_chunk_mut::<2>()?;
            let word = u64::from(A::Encoding::u16(field, 0));
            A::Encoding::put_u16(field, 0, step.set(word, value) as u16);
        }
        _ => return None,
    }
    Some(())
}

/// A value as the machine computes it: with 32-bit addresses, differences wrap at 4 GiB.
#[inline(always)]
fn in_width<E: Encoding>(value: u64) -> u64 {
    if E::IS_64 { value } else { value as i32 as u64 }
}

/// Checks a value and writes it to its field.
fn put<A: Architecture>(
    kind: &RelocationType,
    field: &mut [u8],
    value: u64,
) -> Result<(), RelocationProblem> {
    let found = match kind.field.size() {
        1 => u64::from(field[0]),
        2 => u64::from(A::Encoding::u16(field, 0)),
        4 => u64::from(A::Encoding::u32(field, 0)),
        8 => A::Encoding::u64(field, 0),
        _ => 0,
    };
    if A::ZERO_BEFORE && found != 0 {
        return Err(RelocationProblem::NotZero { found });
    }
    if !kind.check.accepts(value) {
        return Err(RelocationProblem::Overflow { value, check: kind.check });
    }
    let word = kind.field.set(found, value);
    match kind.field.size() {
        1 => field[0] = word as u8,
        2 => A::Encoding::put_u16(field, 0, word as u16),
        4 => A::Encoding::put_u32(field, 0, word as u32),
        8 => A::Encoding::put_u64(field, 0, word),
        _ => {}
    }
    Ok(())
}

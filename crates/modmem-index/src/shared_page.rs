//! Pages that several ranges share, or that a range covers in part: records of where in the page which cell begins.
//!
//! A record is a cache line for up to seven pieces: a version, the number of pieces that there is room for, the first
//! and the last byte of each piece (in one word, ascending; unused ones are beyond any page), and the cell of each.
//! Bytes of no piece are nobody's. Pages with more pieces have longer records of the same form.
//!
//! A record is not changed once it is linked, except that a removal empties one cell: one store, which needs no memory
//! and cannot fail. An insertion writes a new record and retires the old one. Records of a size stay records of that
//! size for ever, so that the first word of one is always its version.

use core::hint::select_unpredictable;

use crate::IndexError;
use crate::memory::{OutOfMemory, Pool, PoolWriter};
use crate::owner::Cell;
use crate::sync::{AtomicU32, LoadOwn, Ordering};

/// Words of the smallest record: a cache line, or for the model checker as few as will do.
#[cfg(not(loom))]
const SMALLEST: usize = 16;
#[cfg(loom)]
const SMALLEST: usize = 4;
/// Words before the pieces: version and capacity.
const HEAD: usize = 2;
/// Pieces of the smallest record.
const FEW: usize = (SMALLEST - HEAD) / 2;
/// The bytes of an unused piece: none, behind the end of the largest page.
const UNUSED: u32 = 0xffff_0000;
/// The largest page: 32 KiB.
pub(crate) const MAX_PAGE_SHIFT: u32 = 15;

/// Part of a page that has one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The first byte, counted from the start of the page.
    pub(crate) start: u32,
    /// The byte behind the last one.
    pub(crate) end: u32,
    /// Whose it is.
    pub(crate) cell: Cell,
}

/// The record's words, as far as its capacity says: of a record that was reused meanwhile that may be nonsense, which
/// the version tells afterwards.
fn words(pool: &Pool, record: u32) -> Option<&[AtomicU32]> {
    let start = record.checked_mul(SMALLEST as u32)?;
    let capacity = pool.word(start + 1)?.load(Ordering::Relaxed) as usize;
    pool.words(start, HEAD + 2 * capacity)
}

/// A record, as readers see it.
#[derive(Clone, Copy)]
pub(crate) struct Record<'p> {
    /// The head and, if there are few, all of the pieces.
    line: &'p [AtomicU32; SMALLEST],
    pool: &'p Pool,
    number: u32,
}

impl<'p> Record<'p> {
    /// The record of that number, which every number that was ever linked has.
    #[inline]
    pub(crate) fn of(pool: &'p Pool, number: u32) -> Option<Record<'p>> {
        let line = pool.words(number.wrapping_mul(SMALLEST as u32), SMALLEST)?.try_into().ok()?;
        Some(Record { line, pool, number })
    }

    /// How often the record was retired.
    #[inline]
    pub(crate) fn version(self) -> u32 {
        // Acquire: what is read of the record afterwards is of that version or a later one. Pairs with `retire`.
        self.line[0].load(Ordering::Acquire)
    }

    /// The cell at `offset`: right if the record is linked, or held, or its version turns out not to have changed.
    pub(crate) fn find(self, offset: u32) -> Cell {
        self.find_among_few(offset).unwrap_or_else(|| find_among_many(self.pool, self.number, offset))
    }

    /// The same, if there are so few pieces that all of them are in the record's first line.
    #[inline]
    pub(crate) fn find_among_few(self, offset: u32) -> Option<Cell> {
        if self.line[1].load(Ordering::Relaxed) as usize > FEW {
            return None;
        }
        // All seven are looked at, the last that begins in time wins: nothing that the processor would have to guess
        // depends on the offset, and no load waits for another.
        let (bytes, cells) = self.line[HEAD..].split_at(FEW);
        let nobody = (UNUSED, Cell::EMPTY.0);
        let (bytes, cell) = bytes.iter().zip(cells).fold(nobody, |before, (bytes, cell)| {
            let (bytes, cell) = (bytes.load(Ordering::Relaxed), cell.load(Ordering::Relaxed));
            let begun = begins_by(bytes, offset);
            (select_unpredictable(begun, bytes, before.0), select_unpredictable(begun, cell, before.1))
        });
        Some(cell_at(bytes, cell, offset))
    }
}

/// Whether a piece begins at the offset or before it.
#[inline]
fn begins_by(bytes: u32, offset: u32) -> bool {
    bytes <= offset << 16 | 0xffff
}

/// The cell of a byte, which is nobody's if the last piece that begins in time ends before it.
#[inline]
fn cell_at(bytes: u32, cell: u32, offset: u32) -> Cell {
    Cell(if offset <= bytes & 0xffff { cell & Cell::MASK } else { 0 })
}

fn find_among_many(pool: &Pool, record: u32, offset: u32) -> Cell {
    let Some(words) = words(pool, record) else { return Cell::EMPTY };
    let (bytes, cells) = words[HEAD..].split_at((words.len() - HEAD) / 2);
    let begun = bytes.partition_point(|bytes| begins_by(bytes.load(Ordering::Relaxed), offset));
    match begun.checked_sub(1).and_then(|last| Some((bytes.get(last)?, cells.get(last)?))) {
        Some((bytes, cell)) => cell_at(bytes.load(Ordering::Relaxed), cell.load(Ordering::Relaxed), offset),
        None => Cell::EMPTY,
    }
}

/// The pieces of a page that have an owner, ascending. For the writer.
pub(crate) fn pieces(pool: &Pool, record: u32) -> impl Iterator<Item = Piece> + '_ {
    let words = words(pool, record).unwrap_or_default();
    let (bytes, cells) = words.get(HEAD..).unwrap_or_default().split_at(words.len().saturating_sub(HEAD) / 2);
    let all = bytes.iter().zip(cells).map(|(bytes, cell)| {
        let bytes = bytes.load_own();
        Piece { start: bytes >> 16, end: (bytes & 0xffff) + 1, cell: Cell(cell.load_own()) }
    });
    all.filter(|piece| piece.cell != Cell::EMPTY)
}

/// A record of the pieces of `old` and one more, which nobody sees until the caller links it. `old` stays as it is.
///
/// # Errors
/// `new` overlaps a piece that has an owner, or there is no memory.
pub(crate) fn with_piece(
    pool: &Pool,
    writer: &mut PoolWriter,
    old: Option<u32>,
    new: Piece,
) -> Result<u32, IndexError> {
    let kept = || old.into_iter().flat_map(|record| pieces(pool, record));
    if kept().any(|piece| piece.start < new.end && new.start < piece.end) {
        return Err(IndexError::Overlap);
    }
    let before = kept().take_while(|piece| piece.start < new.start);
    let after = kept().skip_while(|piece| piece.start < new.start);
    let (start, length) = writer.take(pool, (HEAD + 2 * (kept().count() + 1)).max(SMALLEST))?;
    let words = pool.words(start, length).ok_or(OutOfMemory)?;
    let capacity = (length - HEAD) / 2;
    words[1].store(capacity as u32, Ordering::Relaxed);
    let used =
        before.chain([new]).chain(after).map(|piece| (piece.start << 16 | (piece.end - 1), piece.cell));
    let unused = core::iter::repeat((UNUSED, Cell::EMPTY));
    for (index, (bytes, cell)) in used.chain(unused).take(capacity).enumerate() {
        words[HEAD + index].store(bytes, Ordering::Relaxed);
        words[HEAD + capacity + index].store(cell.0, Ordering::Relaxed);
    }
    Ok(start / SMALLEST as u32)
}

/// Takes the piece that starts at `start` from its owner, in place; the piece as it was.
pub(crate) fn clear(pool: &Pool, record: u32, start: u32) -> Option<Piece> {
    let words = words(pool, record)?;
    let (bytes, cells) = words[HEAD..].split_at((words.len() - HEAD) / 2);
    let index = bytes.iter().position(|bytes| bytes.load_own() >> 16 == start)?;
    let piece = pieces(pool, record).find(|piece| piece.start == start)?;
    cells[index].store(Cell::EMPTY.0, Ordering::Relaxed);
    Some(piece)
}

/// Whether nobody owns any of it.
pub(crate) fn is_empty(pool: &Pool, record: u32) -> bool {
    pieces(pool, record).next().is_none()
}

/// Gives back a record that is not linked any more, or never was.
pub(crate) fn retire(pool: &Pool, writer: &mut PoolWriter, record: u32) {
    let start = record * SMALLEST as u32;
    let (Some(version), Some(words)) = (pool.word(start), words(pool, record)) else { return };
    // Release: who sees the new version sees that the record was unlinked before. One writer at a time changes it.
    version.store(version.load_own().wrapping_add(1), Ordering::Release);
    writer.retire(start, words.len());
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{MemoryKind, Owner, OwnerId};
    use alloc::vec::Vec;

    fn find(pool: &Pool, record: u32, offset: u32) -> Cell {
        Record::of(pool, record).unwrap().find(offset)
    }

    fn cell(number: u32) -> Cell {
        Cell::new(Owner::new(OwnerId::new(number).unwrap(), MemoryKind::Data), true)
    }

    #[test]
    fn a_page_of_many_pieces_answers_each_byte_and_loses_them_one_by_one() {
        let (pool, mut writer) = (Pool::new(), PoolWriter::default());
        let mut record = None;
        // Every third stretch of 5 bytes stays free; inserted in an order that is neither ascending nor descending.
        let places: Vec<u32> = (0..800).filter(|n| n % 3 != 2).collect();
        for step in 0..places.len() {
            let n = places[step * 7 % places.len()];
            let piece = Piece { start: n * 5, end: n * 5 + 5, cell: cell(n) };
            let new = with_piece(&pool, &mut writer, record, piece).unwrap();
            if let Some(old) = record.replace(new) {
                retire(&pool, &mut writer, old);
            }
            let overlap = Piece { start: n * 5 + 4, end: n * 5 + 6, cell: cell(n) };
            assert_eq!(with_piece(&pool, &mut writer, record, overlap), Err(IndexError::Overlap));
        }
        let record = record.unwrap();
        for offset in 0..4096 {
            let owned = offset / 5 % 3 != 2 && offset < 4000;
            let expected = if owned { cell(offset / 5) } else { Cell::EMPTY };
            assert_eq!(find(&pool, record, offset), expected, "{offset}");
        }
        assert_eq!(pieces(&pool, record).count(), places.len());
        for &n in &places {
            assert!(!is_empty(&pool, record));
            assert_eq!(clear(&pool, record, n * 5).unwrap().end, n * 5 + 5);
            assert_eq!(clear(&pool, record, n * 5), None);
            assert_eq!(find(&pool, record, n * 5 + 2), Cell::EMPTY);
        }
        assert!(is_empty(&pool, record));
    }

    #[test]
    fn a_retired_record_has_another_version() {
        let (pool, mut writer) = (Pool::new(), PoolWriter::default());
        let piece = Piece { start: 0, end: 10, cell: cell(1) };
        let record = with_piece(&pool, &mut writer, None, piece).unwrap();
        let reader = Record::of(&pool, record).unwrap();
        let before = reader.version();
        retire(&pool, &mut writer, record);
        assert_ne!(reader.version(), before);
        assert_eq!(with_piece(&pool, &mut writer, None, piece), Ok(record));
    }
}

//! What writers do: look at every page of a range before they change one, then change each by one store.

use super::window::OpenWindow;
use super::{PageMap, SHARED};
use crate::address::Address;
use crate::memory::PoolWriter;
use crate::owner::Cell;
use crate::shared_page::{self, Piece};
use crate::sync::{AtomicU32, LoadOwn, Ordering};
use crate::{Extent, IndexError, Owner};

/// The pages of a range in a window.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    last: usize,
    /// Of the first byte in the first page.
    from: u32,
    /// Of the byte behind the last one, in the last page.
    to: u32,
    page_size: u32,
}

impl Span {
    /// The part of a page that lies in the span.
    fn part(&self, page: usize) -> (u32, u32) {
        let from = if page == self.first { self.from } else { 0 };
        let to = if page == self.last { self.to } else { self.page_size };
        (from, to)
    }

    fn covers(&self, page: usize) -> bool {
        self.part(page) == (0, self.page_size)
    }
}

impl<A: Address> PageMap<A> {
    fn page_size(&self) -> u32 {
        1 << self.page_shift
    }

    /// The window of an address.
    fn window_of(&self, address: A) -> Option<&OpenWindow<A>> {
        self.open_windows().find(|window| window.contains(address))
    }

    fn span(&self, window: &OpenWindow<A>, first: A, last: A) -> Result<Span, IndexError> {
        if !window.contains(last) {
            return Err(IndexError::OutsideWindows);
        }
        let (first, from) = window.position(first);
        let (last, to) = window.position(last);
        Ok(Span { first, last, from, to: to + 1, page_size: self.page_size() })
    }

    pub(super) fn insert_range(&self, extent: Extent<A>, owner: Owner) -> Result<(), IndexError> {
        let last = extent.last().ok_or(IndexError::BadRange)?;
        let mut writer = self.writer.lock();
        let window = self.window_of(extent.start).ok_or(IndexError::OutsideWindows)?;
        let span = self.span(window, extent.start, last)?;
        window.grow(span.first..=span.last)?;
        let slot = |page| window.entry(page).ok_or(IndexError::OutOfMemory);
        for page in span.first..=span.last {
            let entry = slot(page)?.load_own();
            let may_share = entry & SHARED != 0 && !span.covers(page);
            if entry != 0 && !may_share {
                return Err(IndexError::Overlap);
            }
        }
        let mut entry_of = |page| -> Result<u32, IndexError> {
            let cell = Cell::new(owner, page == span.first);
            if span.covers(page) {
                return Ok(cell.0);
            }
            let (start, end) = span.part(page);
            let old = record_of(slot(page)?.load_own());
            let piece = Piece { start, end, cell };
            let record = shared_page::with_piece(&self.pool, &mut writer, old, piece)?;
            Ok(record | SHARED)
        };
        // Only the pages at the two ends can need a record, and only getting one can fail.
        let head = entry_of(span.first)?;
        let tail = match span.last == span.first {
            true => Ok(head),
            false => entry_of(span.last),
        };
        let tail = tail.inspect_err(|_| self.retire(&mut writer, head))?;
        for page in span.first..=span.last {
            let entry = match page {
                page if page == span.first => head,
                page if page == span.last => tail,
                _ => Cell::new(owner, false).0,
            };
            self.link(&mut writer, slot(page)?, entry);
        }
        Ok(())
    }

    /// Changes the entry of a page, and retires the record that it stood for.
    fn link(&self, writer: &mut PoolWriter, slot: &AtomicU32, entry: u32) {
        let old = slot.load_own();
        // Release: who finds the entry finds the record written, and all that the writer did before.
        slot.store(entry, Ordering::Release);
        self.retire(writer, old);
    }

    fn retire(&self, writer: &mut PoolWriter, entry: u32) {
        if let Some(record) = record_of(entry) {
            shared_page::retire(&self.pool, writer, record);
        }
    }

    /// The piece of a page that begins at `offset`.
    fn piece_at(&self, window: &OpenWindow<A>, page: usize, offset: u32) -> Option<Piece> {
        self.pieces(window, page)?.find(|piece| piece.start == offset)
    }

    /// The pieces of a page that have owners.
    fn pieces(&self, window: &OpenWindow<A>, page: usize) -> Option<impl Iterator<Item = Piece> + '_> {
        let entry = window.entry(page)?.load_own();
        let end = self.page_size();
        let whole = (entry != 0 && entry & SHARED == 0).then_some(Piece { start: 0, end, cell: Cell(entry) });
        let shared = record_of(entry).into_iter();
        let shared = shared.flat_map(move |record| shared_page::pieces(&self.pool, record));
        Some(whole.into_iter().chain(shared))
    }

    pub(super) fn remove_range(&self, start: A) -> Option<(Extent<A>, Owner)> {
        let mut writer = self.writer.lock();
        let window = self.window_of(start)?;
        let (first, offset) = window.position(start);
        let begin = self.piece_at(window, first, offset).filter(|piece| piece.cell.is_start())?;
        let owner = begin.cell.owner()?;
        let (last, end) = self.end_of_range(window, first, begin);
        for page in first..=last {
            let Some(slot) = window.entry(page) else { continue };
            match record_of(slot.load_own()) {
                Some(record) => {
                    let start = if page == first { offset } else { 0 };
                    shared_page::clear(&self.pool, record, start);
                    if shared_page::is_empty(&self.pool, record) {
                        self.link(&mut writer, slot, Cell::EMPTY.0);
                    }
                }
                None => self.link(&mut writer, slot, Cell::EMPTY.0),
            }
        }
        Some((self.extent(window, (first, offset), (last, end)), owner))
    }

    /// The last page of the range that begins with `piece`, and the offset of the byte behind its last one.
    fn end_of_range(&self, window: &OpenWindow<A>, mut page: usize, piece: Piece) -> (usize, u32) {
        let rest = piece.cell.owner().map(|owner| Cell::new(owner, false));
        let mut end = piece.end;
        while end == self.page_size()
            && let Some(next) = self.piece_at(window, page + 1, 0)
            && Some(next.cell) == rest
        {
            page += 1;
            end = next.end;
        }
        (page, end)
    }

    /// The addresses from a byte of a page up to the byte before another one.
    fn extent(&self, window: &OpenWindow<A>, from: (usize, u32), to: (usize, u32)) -> Extent<A> {
        // The byte behind the last one of the whole space is 2^64.
        let address = |(page, offset): (usize, u32)| {
            let distance = ((page as u64) << self.page_shift).wrapping_add(u64::from(offset));
            window.base().to_u64().wrapping_add(distance)
        };
        Extent::between(address(from), address(to).wrapping_sub(1))
    }

    pub(super) fn next_range(&self, address: A) -> Option<(Extent<A>, Owner)> {
        // Nothing may change between looking for a range's start and for its end.
        let _writer = self.writer.lock();
        let mut from = address;
        loop {
            let ahead = self.open_windows().filter(|window| window.last() >= from);
            let window = ahead.min_by_key(|window| window.base())?;
            if let Some(found) = self.next_in_window(window, from.max(window.base())) {
                return Some(found);
            }
            from = window.last().checked_add(A::from_u64(1))?;
        }
    }

    fn next_in_window(&self, window: &OpenWindow<A>, from: A) -> Option<(Extent<A>, Owner)> {
        let (mut page, mut offset) = window.position(from);
        let mut piece = loop {
            let there = window.skip_missing(page)?;
            if there > page {
                (page, offset) = (there, 0);
            }
            if let Some(piece) = self.pieces(window, page)?.find(|piece| piece.end > offset) {
                break piece;
            }
            (page, offset) = (page + 1, 0);
        };
        while !piece.cell.is_start() {
            page = page.checked_sub(1)?;
            piece = self.pieces(window, page)?.last()?;
        }
        let end = self.end_of_range(window, page, piece);
        Some((self.extent(window, (page, piece.start), end), piece.cell.owner()?))
    }
}

/// The record that an entry stands for.
fn record_of(entry: u32) -> Option<u32> {
    (entry & SHARED != 0).then_some(entry & !SHARED)
}

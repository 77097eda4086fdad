//! What writers do. An insertion first makes room: it cuts each block's stretches where the range begins and ends,
//! which takes memory but changes no answer, so that it can stop at any point. Then it stores the range's owner, once
//! for each block. A removal stores "nobody" in the same places, for which there is always room; the cuts stay until
//! the block's next insertion.

use super::block::Block;
use super::map::{Apart, Map, SHARED, Writer};
use super::window::Window;
use super::word::Word;
use crate::address::{Address, AtomicCell};
use crate::memory::OutOfMemory;
use crate::owner::Cell;
use crate::shared_page::{self, Piece};
use crate::sync::Ordering;
use crate::{Extent, IndexError, Owner};

/// Pages of a range that have one value in each block.
#[derive(Clone, Copy)]
struct Part {
    first: usize,
    last: usize,
    /// The value, and that of further blocks.
    value: u32,
    further: u32,
}

/// Pages, or bytes of one page, that have one owner.
#[derive(Clone, Copy)]
struct Stretch {
    first: usize,
    last: usize,
    /// The first byte in the first page.
    start: u32,
    /// The byte behind the last one, in the last page.
    end: u32,
    cell: Cell,
}

impl<A: Address, W: Word> Map<A, W> {
    fn page_size(&self) -> u32 {
        1 << self.page_shift
    }

    fn window_of(&self, address: A) -> Option<&Window<A, W>> {
        self.open_windows().find(|window| window.page(address) < window.pages())
    }

    /// The word of a page's block.
    fn word(&self, window: &Window<A, W>, page: usize) -> W {
        // Relaxed: only writers store it.
        window.block(page).map_or(W::EMPTY, |word| word.load(Ordering::Relaxed))
    }

    /// What a page has.
    fn value_of(&self, window: &Window<A, W>, page: usize) -> u32 {
        // Relaxed: only writers store it.
        self.value(self.word(window, page), page).map_or(0, |value| value.load(Ordering::Relaxed))
    }

    /// Gives the page's whole stretch another value.
    fn link(&self, writer: &mut Writer, window: &Window<A, W>, page: usize, value: u32) {
        let Some(place) = self.value(self.word(window, page), page) else { return };
        let old = place.load(Ordering::Relaxed);
        // Release: who finds the value finds the record that it names written, and all that the writer did before.
        place.store(value, Ordering::Release);
        if let Some(record) = record_of(old) {
            self.unlinked();
            shared_page::retire(&self.pool, &mut writer.pool, record);
        }
    }

    /// Changes the word of a page's block, and gives back the run that it had.
    fn publish(&self, writer: &mut Writer, window: &Window<A, W>, page: usize, new: W) {
        let Some(word) = window.block(page) else { return };
        let old = Block::of(word.load(Ordering::Relaxed));
        // Release: the new run's values were written before.
        word.store(new, Ordering::Release);
        if old.run != 0 {
            self.unlinked();
            writer.runs.retire(old.run, old.values());
        }
    }

    /// Tells readers that something was unlinked, before it can be used again.
    fn unlinked(&self) {
        let Apart(version) = &self.version;
        // Release: who sees the new version sees that it was unlinked. One writer at a time changes it.
        version.store(version.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    pub(super) fn insert_range(&self, extent: Extent<A>, owner: Owner) -> Result<(), IndexError> {
        let last = extent.last().ok_or(IndexError::BadRange)?;
        let writer = &mut *self.writer.0.lock();
        let window = self.window_of(extent.start).ok_or(IndexError::OutsideWindows)?;
        let (first, start) = window.position(extent.start);
        let (last, end) = window.position(last);
        let end = end + 1;
        if last >= window.pages() {
            return Err(IndexError::OutsideWindows);
        }
        // The pages at the two ends have records if they are covered in part; they may be one page.
        let in_part = |page| (page == first && start > 0) || (page == last && end < self.page_size());
        let (head, tail) = (in_part(first), last > first && in_part(last));
        let whole = first + usize::from(head)..last + 1 - usize::from(tail);
        if !self.is_vacant(window, whole.start, whole.end) {
            return Err(IndexError::Overlap);
        }
        let mut record = |wanted: bool, page| -> Result<Option<Part>, IndexError> {
            if !wanted {
                return Ok(None);
            }
            let start = if page == first { start } else { 0 };
            let end = if page == last { end } else { self.page_size() };
            let piece = Piece { start, end, cell: Cell::new(owner, page == first) };
            let old = match self.value_of(window, page) {
                0 => None,
                value => Some(record_of(value).ok_or(IndexError::Overlap)?),
            };
            let value = SHARED | shared_page::with_piece(&self.pool, &mut writer.pool, old, piece)?;
            Ok(Some(Part { first: page, last: page, value, further: value }))
        };
        let head = record(head, first)?;
        let tail = record(tail, last).inspect_err(|_| self.discard(writer, head))?;
        let whole = (!whole.is_empty()).then(|| Part {
            first: whole.start,
            last: whole.end - 1,
            value: Cell::new(owner, whole.start == first).0,
            further: Cell::new(owner, false).0,
        });
        let parts = [head, whole, tail];
        let blocks = first / W::PAGES..=last / W::PAGES;
        let mut cut = blocks.map(|block| self.cut(writer, window, block * W::PAGES, &parts));
        if let Err(error) = cut.try_for_each(|done| done) {
            self.discard(writer, head);
            self.discard(writer, tail);
            return Err(error.into());
        }
        for part in parts.into_iter().flatten() {
            self.link(writer, window, part.first, part.value);
            for block in part.first / W::PAGES + 1..=part.last / W::PAGES {
                self.link(writer, window, block * W::PAGES, part.further);
            }
        }
        Ok(())
    }

    /// Gives back the record of a part that is not linked.
    fn discard(&self, writer: &mut Writer, part: Option<Part>) {
        if let Some(record) = part.and_then(|part| record_of(part.value)) {
            shared_page::retire(&self.pool, &mut writer.pool, record);
        }
    }

    /// Whether nobody owns anything of the pages from `page` up to the one before `end`.
    fn is_vacant(&self, window: &Window<A, W>, mut page: usize, end: usize) -> bool {
        while page < end {
            if self.value_of(window, page) != 0 {
                return false;
            }
            page = self.behind(window, page);
        }
        true
    }

    /// The page behind the stretch that a page lies in.
    fn behind(&self, window: &Window<A, W>, page: usize) -> usize {
        let block = Block::of(self.word(window, page));
        page - page % W::PAGES + block.stretch(page % W::PAGES).1 + 1
    }

    /// Sees to it that the block's pages of each part are a stretch, in a run of the block's own.
    fn cut(
        &self,
        writer: &mut Writer,
        window: &Window<A, W>,
        start: usize,
        parts: &[Option<Part>],
    ) -> Result<(), OutOfMemory> {
        let inside = |page: &usize| (start..start + W::PAGES).contains(page);
        let ends = parts.iter().flatten().flat_map(|part| [part.first, part.last + 1]);
        let cuts = ends.filter(inside).fold(0, |cuts, page| cuts | 1 << (page - start));
        let old = Block::of(self.word(window, start));
        let value = |page| {
            // Relaxed: only writers store it.
            self.runs.value(old.index(page)).map_or(0, |value| value.load(Ordering::Relaxed))
        };
        let changes = old.with_cuts(cuts, value);
        if changes == old.changes && old.run != 0 {
            return Ok(());
        }
        let values = changes.count_ones() as usize + 1;
        let run = writer.runs.take(&self.runs, &self.pool, values, W::LAST_RUN)?;
        let new = Block::of(W::new(changes, run));
        for page in new.begins() {
            if let Some(place) = self.runs.value(new.index(page)) {
                // Relaxed: published with the run.
                place.store(value(page), Ordering::Relaxed);
            }
        }
        self.publish(writer, window, start, W::new(changes, run));
        Ok(())
    }

    /// The stretches of the value that a page has.
    fn stretches(&self, window: &Window<A, W>, page: usize) -> impl Iterator<Item = Stretch> + '_ {
        let end = self.page_size();
        let value = self.value_of(window, page);
        let shared = record_of(value).into_iter();
        let shared = shared.flat_map(move |record| shared_page::pieces(&self.pool, record));
        let shared = shared.map(move |Piece { start, end, cell }| Stretch {
            first: page,
            last: page,
            start,
            end,
            cell,
        });
        let block = Block::of(self.word(window, page));
        let (first, last) = block.stretch(page % W::PAGES);
        let (first, last) = (page - page % W::PAGES + first, page - page % W::PAGES + last);
        let whole = Stretch { first, last, start: 0, end, cell: Cell(value) };
        (value != 0 && value & SHARED == 0).then_some(whole).into_iter().chain(shared)
    }

    /// What follows `stretch` of its range.
    fn further(&self, window: &Window<A, W>, stretch: Stretch) -> Option<Stretch> {
        if stretch.end < self.page_size() || stretch.last + 1 >= window.pages() {
            return None;
        }
        let next = self.stretches(window, stretch.last + 1).next()?;
        (next.start == 0 && !next.cell.is_start()).then_some(next)
    }

    pub(super) fn remove_range(&self, start: A) -> Option<(Extent<A>, Owner)> {
        let writer = &mut *self.writer.0.lock();
        let window = self.window_of(start)?;
        let (page, offset) = window.position(start);
        let begins =
            |stretch: &Stretch| (stretch.first, stretch.start) == (page, offset) && stretch.cell.is_start();
        let begin = self.stretches(window, page).find(begins)?;
        let mut end = begin;
        self.clear(writer, window, begin);
        while let Some(next) = self.further(window, end) {
            self.clear(writer, window, next);
            end = next;
        }
        Some((self.extent(window, begin, end), begin.cell.owner()?))
    }

    /// Takes a stretch from its owner.
    fn clear(&self, writer: &mut Writer, window: &Window<A, W>, stretch: Stretch) {
        let page = stretch.first;
        if let Some(record) = record_of(self.value_of(window, page)) {
            shared_page::clear(&self.pool, record, stretch.start);
            if !shared_page::is_empty(&self.pool, record) {
                return;
            }
        }
        self.link(writer, window, page, Cell::EMPTY.0);
        let start = page - page % W::PAGES;
        if self.is_vacant(window, start, start + W::PAGES) {
            self.publish(writer, window, start, W::EMPTY);
        }
    }

    /// From the begin of a stretch to the end of one.
    fn extent(&self, window: &Window<A, W>, from: Stretch, to: Stretch) -> Extent<A> {
        let base = window.base().to_u64();
        let start = base + ((from.first as u64) << self.page_shift) + u64::from(from.start);
        let last = base + ((to.last as u64) << self.page_shift) + u64::from(to.end - 1);
        Extent::between(start, last)
    }

    pub(super) fn next_range(&self, address: A) -> Option<(Extent<A>, Owner)> {
        // Nothing may change between looking for a range's start and for its end.
        let _writer = self.writer.0.lock();
        let mut from = address.to_u64();
        loop {
            let ahead = self.open_windows().filter(|window| window.last_page() >= from >> self.page_shift);
            let window = ahead.min_by_key(|window| window.base())?;
            let start = A::from_u64(from.max(window.base().to_u64()));
            if let Some(found) = self.next_in_window(window, start) {
                return Some(found);
            }
            from = window.last_page().checked_add(1)?.checked_mul(1 << self.page_shift)?;
        }
    }

    fn next_in_window(&self, window: &Window<A, W>, from: A) -> Option<(Extent<A>, Owner)> {
        let (mut page, offset) = window.position(from);
        let from = (page, offset);
        let mut begin = loop {
            let ahead = |stretch: &Stretch| (stretch.last, stretch.end) > from;
            if let Some(stretch) = self.stretches(window, page).find(ahead) {
                break stretch;
            }
            page = self.behind(window, page);
            if page >= window.pages() {
                return None;
            }
        };
        while !begin.cell.is_start() {
            begin = self.stretches(window, begin.first.checked_sub(1)?).last()?;
        }
        let mut end = begin;
        while let Some(next) = self.further(window, end) {
            end = next;
        }
        Some((self.extent(window, begin, end), begin.cell.owner()?))
    }
}

/// The record that a value names.
fn record_of(value: u32) -> Option<u32> {
    (value & SHARED != 0).then_some(value & !SHARED)
}

//! Bounds in front of a structure: which addresses need not be looked for.
//!
//! A profiler or a stack walk asks for many addresses that no module owns. Where a search is slow it pays to compare
//! with the lowest and the highest address that has an owner first, as Linux does in `__module_address()`. The
//! questions that its developers discussed when a module's memory became seven blocks, perhaps in two ranges far
//! apart, are policies here, to be put in front of any [`AddressIndex`] and compared:
//!
//! | which pairs of bounds | |
//! |---|---|
//! | [`Single`] | one pair for everything |
//! | [`TextData`] | a pair for each of two windows, by the window that a block lies in: what the discussion decided |
//! | [`PerType`] | a pair for each type of memory: two cache lines, and no better where windows hold several types |
//! | [`Linux`] | what the kernel ships: meant as `TextData`, but on 32-bit PowerPC it admits all of lowmem |
//!
//! | when a range is removed | |
//! |---|---|
//! | [`Never`] | bounds stay as they are: Linux |
//! | [`Scan`] | if the range touched a bound, all that remain are looked through |
//! | [`Augmented`] | heaps of all starts and ends know the next one: the "over-engineered" one |
//!
//! Take none of them in front of a `PageMap`, whose answer to such an address costs no more than the comparison.

mod pair;
mod removal;
mod scheme;
#[cfg(all(test, not(loom)))]
mod tests;

use core::fmt;

pub use pair::Pair;
pub use removal::{Augmented, Never, Removal, Scan};
pub use scheme::{Linux, PerType, Scheme, Single, TextData};

use crate::sync::WriterLock;
use crate::{AddressIndex, AtomicAddress, Extent, IndexError, Owner};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Beginning at a cache line, as the bounds of Linux do.
#[repr(align(64))]
struct Aligned<T>(T);

/// An index behind bounds.
///
/// Bounds are widened before a range is inserted and narrowed after it has gone. So a range that is there during a
/// whole lookup is admitted, whatever a writer does meanwhile: each word, at any moment, leaves room for every range
/// that is there, which is why readers may load them one by one, in any order.
pub struct Bounded<A: AtomicAddress, I, B: Scheme<A>> {
    pairs: Aligned<B::Pairs>,
    index: I,
    scheme: B,
    writer: WriterLock<B::Removal>,
}

impl<A: AtomicAddress, I: AddressIndex<A>, B: Scheme<A>> Bounded<A, I, B> {
    /// How many bytes of bounds a lookup reads that is not admitted. One that is admitted may stop earlier.
    pub const BOUNDS_BYTES: usize = size_of::<B::Pairs>();

    /// How many cache lines those are.
    pub const BOUNDS_LINES: usize = Self::BOUNDS_BYTES.div_ceil(LINE);

    /// Puts bounds in front of `index`, which may hold ranges already.
    ///
    /// # Errors
    /// There is no memory for what `B` keeps of the ranges.
    pub fn new(index: I, scheme: B) -> Result<Bounded<A, I, B>, IndexError> {
        let pairs = Aligned(scheme.pairs());
        let mut removal = B::Removal::default();
        for (extent, owner) in index.iter() {
            let pair = scheme.pair_of(extent, owner.kind());
            removal.reserve(pair)?;
            pairs.0.as_ref()[pair].widen(extent.start, scheme.max_of(extent));
            removal.inserted(pair, extent);
        }
        Ok(Bounded { pairs, index, scheme, writer: WriterLock::new(removal) })
    }

    /// Whether a lookup of `address` goes on into the index.
    #[inline]
    pub fn admits(&self, address: A) -> bool {
        self.pairs().iter().any(|pair| pair.admits(address))
    }

    /// The pairs of bounds.
    #[inline]
    pub fn pairs(&self) -> &[Pair<A>] {
        self.pairs.0.as_ref()
    }

    /// What is behind the bounds: for questions. A range that is inserted there directly is not admitted.
    pub fn index(&self) -> &I {
        &self.index
    }

    /// Bytes that are allocated so that bounds can follow removals.
    pub fn memory_bytes(&self) -> usize {
        self.writer.lock().memory_bytes()
    }
}

impl<A: AtomicAddress, I: AddressIndex<A>, B: Scheme<A>> AddressIndex<A> for Bounded<A, I, B> {
    fn insert(&self, extent: Extent<A>, owner: Owner) -> Result<(), IndexError> {
        if extent.last().is_none() {
            return Err(IndexError::BadRange);
        }
        let mut removal = self.writer.lock();
        let number = self.scheme.pair_of(extent, owner.kind());
        removal.reserve(number)?;
        let pair = &self.pairs()[number];
        let before = pair.words();
        pair.widen(extent.start, self.scheme.max_of(extent));
        let result = self.index.insert(extent, owner);
        match result {
            Ok(()) => removal.inserted(number, extent),
            Err(_) if B::UNDOES_FAILURES => pair.set(before),
            Err(_) => {}
        }
        result
    }

    fn remove(&self, start: A) -> Option<(Extent<A>, Owner)> {
        let mut removal = self.writer.lock();
        let (extent, owner) = self.index.remove(start)?;
        let number = self.scheme.pair_of(extent, owner.kind());
        let remaining =
            self.index.iter().filter(|(extent, owner)| self.scheme.pair_of(*extent, owner.kind()) == number);
        let pair = &self.pairs()[number];
        pair.set(removal.removed(number, extent, pair.words(), remaining.map(|(extent, _)| extent)));
        Some((extent, owner))
    }

    #[inline]
    fn find(&self, address: A) -> Option<Owner> {
        if self.admits(address) { self.index.find(address) } else { None }
    }

    #[inline]
    fn find_text(&self, address: A) -> Option<Owner> {
        if self.admits(address) { self.index.find_text(address) } else { None }
    }

    fn next(&self, address: A) -> Option<(Extent<A>, Owner)> {
        self.index.next(address)
    }
}

impl<A: AtomicAddress, I: fmt::Debug, B: Scheme<A>> fmt::Debug for Bounded<A, I, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Bounded");
        out.field("scheme", &self.scheme).field("pairs", &self.pairs.0.as_ref()).field("index", &self.index);
        out.finish_non_exhaustive()
    }
}

//! Which pairs of bounds there are, and which of them makes room for a range.

use core::fmt;
use core::marker::PhantomData;

use super::{Never, Pair, Removal};
use crate::{AtomicAddress, Extent, MemoryKind};

/// Which pairs of bounds there are, and which of them makes room for a range.
pub trait Scheme<A: AtomicAddress>: fmt::Debug {
    /// An array of pairs.
    type Pairs: AsRef<[Pair<A>]>;
    /// What becomes of a pair when a range is removed.
    type Removal: Removal<A>;
    /// Whether bounds move back that were moved for a range whose insertion then failed.
    const UNDOES_FAILURES: bool = true;

    /// The pairs as they are before the first insertion.
    fn pairs(&self) -> Self::Pairs;

    /// The pair that makes room for a range: an index into the pairs.
    fn pair_of(&self, extent: Extent<A>, kind: MemoryKind) -> usize;

    /// The highest address that is admitted for a range.
    fn max_of(&self, extent: Extent<A>) -> A {
        extent.last().unwrap_or(A::MAX)
    }
}

/// One pair: lowest and highest address of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Single<R = Never>(PhantomData<R>);

impl<R> Single<R> {
    /// One pair.
    pub fn new() -> Single<R> {
        Single(PhantomData)
    }
}

impl<A: AtomicAddress, R: Removal<A>> Scheme<A> for Single<R> {
    type Pairs = [Pair<A>; 1];
    type Removal = R;

    fn pairs(&self) -> [Pair<A>; 1] {
        [Pair::new(Pair::EMPTY)]
    }

    fn pair_of(&self, _: Extent<A>, _: MemoryKind) -> usize {
        0
    }
}

/// Two pairs, for two windows of addresses that text and data come from.
///
/// A range counts into the window that it lies in, whatever it is used for. Init data comes from where other data comes
/// from, so that the gap between the windows stays outside both pairs. Deciding by type instead is how Linux loses it.
#[derive(Clone, Copy, Debug)]
pub struct TextData<A, R = Never> {
    upper_window: A,
    removal: PhantomData<R>,
}

impl<A, R> TextData<A, R> {
    /// Two windows, the upper of which begins at `upper_window`; which of them is for data does not matter.
    pub fn new(upper_window: A) -> TextData<A, R> {
        TextData { upper_window, removal: PhantomData }
    }
}

impl<A: AtomicAddress, R: Removal<A>> Scheme<A> for TextData<A, R> {
    type Pairs = [Pair<A>; 2];
    type Removal = R;

    fn pairs(&self) -> [Pair<A>; 2] {
        [(); 2].map(|()| Pair::new(Pair::EMPTY))
    }

    fn pair_of(&self, extent: Extent<A>, _: MemoryKind) -> usize {
        usize::from(extent.start >= self.upper_window)
    }
}

/// A pair for each type of memory, in the order of [`MemoryKind::ALL`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PerType<R = Never>(PhantomData<R>);

impl<R> PerType<R> {
    /// Seven pairs.
    pub fn new() -> PerType<R> {
        PerType(PhantomData)
    }
}

impl<A: AtomicAddress, R: Removal<A>> Scheme<A> for PerType<R> {
    type Pairs = [Pair<A>; 7];
    type Removal = R;

    fn pairs(&self) -> [Pair<A>; 7] {
        MemoryKind::ALL.map(|_| Pair::new(Pair::EMPTY))
    }

    fn pair_of(&self, _: Extent<A>, kind: MemoryKind) -> usize {
        kind as usize
    }
}

/// Exactly what Linux has, 6.4 to 6.12 at least (kernel/module/main.c: `__mod_update_bounds`, `__module_address`).
///
/// With ARCH_WANTS_MODULES_DATA_IN_VMALLOC the second pair is for data, but only the first one begins empty: the
/// lowest address of data is 0 from the beginning, and stays. Init data counts into the first pair, although it lies
/// where other data lies. A highest address is the one behind a range, and is admitted. Nothing ever moves back, nor
/// for a range whose insertion failed. Without the option there is one pair, of which the rest is true.
///
/// One thing cannot be the same. Behind a range that ends at the top of the space there is no address; where the
/// kernel's sum would wrap to 0 and lose the range, the last address stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux<const DATA_IN_VMALLOC: bool = true>;

fn highest_of_linux<A: AtomicAddress>(extent: Extent<A>) -> A {
    extent.start.checked_add(extent.size).unwrap_or(A::MAX)
}

impl<A: AtomicAddress> Scheme<A> for Linux<true> {
    type Pairs = [Pair<A>; 2];
    type Removal = Never;
    const UNDOES_FAILURES: bool = false;

    fn pairs(&self) -> [Pair<A>; 2] {
        [Pair::EMPTY, (A::ZERO, A::ZERO)].map(Pair::new)
    }

    fn pair_of(&self, _: Extent<A>, kind: MemoryKind) -> usize {
        usize::from(!kind.is_text() && !kind.is_init())
    }

    fn max_of(&self, extent: Extent<A>) -> A {
        highest_of_linux(extent)
    }
}

impl<A: AtomicAddress> Scheme<A> for Linux<false> {
    type Pairs = [Pair<A>; 1];
    type Removal = Never;
    const UNDOES_FAILURES: bool = false;

    fn pairs(&self) -> [Pair<A>; 1] {
        [Pair::new(Pair::EMPTY)]
    }

    fn pair_of(&self, _: Extent<A>, _: MemoryKind) -> usize {
        0
    }

    fn max_of(&self, extent: Extent<A>) -> A {
        highest_of_linux(extent)
    }
}

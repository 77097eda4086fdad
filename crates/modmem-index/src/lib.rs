//! Which module owns an address.
//!
//! A map from address ranges to owners, for kernels, monitors, plugin and JIT hosts: writers insert and remove ranges,
//! and readers in any context (a signal handler, an NMI that interrupts the writer itself) ask who owns an address,
//! without a lock, an allocation or thread-local storage. Ranges never overlap, need no alignment, and several may
//! share a page; the answer is exact to the byte.
//!
//! | structure | take it when |
//! |---|---|
//! | [`PageMap`] | always, unless one of the others' reasons applies: one load for the page, wait-free |
//! | [`PackedMap`] | caches are small, or a page fault is forbidden: about a hundred bytes a module, all of it present |
//! | [`LatchTree`] | to compare: it is what Linux does, two red-black trees behind a sequence latch |
//!
//! All three have one interface, [`AddressIndex`]. [`bounds`] has the answers that Linux's developers discussed to a
//! question that only a slow structure raises: which addresses need not be looked for. A map answers with an
//! [`Owner`], four bytes that stay true whatever happens to the owner; to *use* the owner while another thread
//! unloads it, keep owners in a [`Registry`] and pin them, under one of the [`protection`]s.
//!
//! # Examples
//!
//! A host of compiled code, which has no ELF in sight:
//!
//! ```
//! use modmem_index::protection::Counters;
//! use modmem_index::{AddressIndex, Extent, Form, MemoryKind, Owner, PageMap, Registry, Window};
//!
//! # struct Compiled { name: &'static str }
//! # fn run(start: u64, pc: u64) -> Result<(), Box<dyn std::error::Error>> {
//! let window = Window { extent: Extent { start: 0x7f00_0000_0000_u64, size: 1 << 32 }, form: Form::TwoLevel };
//! let index = PageMap::new(&[window], 12)?;                   // an entry for each page of 2^12 bytes
//! let mut functions = Registry::new(Counters::new());
//! let reader = functions.reader();                            // for other threads and signal handlers
//!
//! let place = functions.reserve()?;
//! index.insert(Extent { start, size: 700 }, Owner::new(place.id(), MemoryKind::Text))?;
//! let id = functions.publish(place, Compiled { name: "fib" });
//!
//! if let Some((function, _)) = reader.pin_at(&index, pc) {    // no lock, no allocation, no thread-local
//!     println!("{}", function.name);                          // cannot go while it is pinned
//! }
//! functions.remove(id, |_| { index.remove(start); });         // hides it, waits for those who look, gives it back
//! # Ok(())
//! # }
//! # run(0x7f00_0000_1230, 0x7f00_0000_1300).unwrap();
//! ```
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(loom)]
extern crate std;

mod address;
pub mod bounds;
mod kind;
mod latch_tree;
mod memory;
mod owner;
mod packed_map;
mod page_map;
pub mod protection;
mod registry;
mod retirable;
mod shared_page;
mod sync;

use core::fmt;

pub use address::{Address, AtomicAddress, AtomicCell, Extent};
pub use kind::{MemoryKind, PerKind};
pub use latch_tree::LatchTree;
pub use owner::{Owner, OwnerId};
pub use packed_map::PackedMap;
pub use page_map::{Form, PageMap, Window};
pub use registry::{Entered, Pinned, Reader, Registry, RegistryError, Reservation};
pub use retirable::Retirable;

/// Why a range was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexError {
    /// The range is empty or wraps around the top of the address space.
    BadRange,
    /// Part of the range has an owner already.
    Overlap,
    /// Part of the range lies in no window of the map.
    OutsideWindows,
    /// The map has as many windows as it can have.
    TooManyWindows,
    /// No memory to grow into.
    OutOfMemory,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IndexError::BadRange => "the range is empty or wraps around the top of the address space",
            IndexError::Overlap => "part of the range has an owner already",
            IndexError::OutsideWindows => "part of the range lies outside the windows of the map",
            IndexError::TooManyWindows => "the map has as many windows as it can have",
            IndexError::OutOfMemory => "no memory for the map to grow into",
        })
    }
}

impl core::error::Error for IndexError {}

/// A map from address ranges to owners.
///
/// All methods take `&self`: writers take turns by a lock that readers never touch. [`find`](AddressIndex::find) and
/// [`find_text`](AddressIndex::find_text) may be called in any context; the others may not be called from a context
/// that can interrupt a writer, since they would wait for it.
pub trait AddressIndex<A: Address> {
    /// Gives the addresses of `extent` to `owner`.
    ///
    /// # Errors
    /// See [`IndexError`]; nothing has changed.
    fn insert(&self, extent: Extent<A>, owner: Owner) -> Result<(), IndexError>;

    /// Takes the range that starts at `start` from its owner, and says who that was and which addresses it had.
    /// It needs no memory and cannot fail for want of it.
    fn remove(&self, start: A) -> Option<(Extent<A>, Owner)>;

    /// The owner of `address`: of some moment between call and return.
    fn find(&self, address: A) -> Option<Owner>;

    /// The owner of `address`, if it lies in text.
    #[inline]
    fn find_text(&self, address: A) -> Option<Owner> {
        self.find(address).filter(|owner| owner.kind().is_text())
    }

    /// The range that `address` lies in, or else the first one behind it.
    fn next(&self, address: A) -> Option<(Extent<A>, Owner)>;

    /// All ranges in address order. What a writer changes meanwhile may be seen or not, each range as a whole.
    fn iter(&self) -> Iter<'_, A, Self>
    where
        Self: Sized,
    {
        Iter { index: self, from: Some(A::ZERO) }
    }
}

/// Ranges in address order: see [`AddressIndex::iter`].
#[derive(Debug)]
pub struct Iter<'i, A, I> {
    index: &'i I,
    /// Where to look next; none behind the last address of the space.
    from: Option<A>,
}

impl<A: Address, I: AddressIndex<A>> Iterator for Iter<'_, A, I> {
    type Item = (Extent<A>, Owner);

    fn next(&mut self) -> Option<(Extent<A>, Owner)> {
        let found = self.index.next(self.from?);
        self.from = found.and_then(|(extent, _)| extent.last()?.checked_add(A::from_u64(1)));
        found
    }
}

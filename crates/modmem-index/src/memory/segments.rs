//! An array that grows by doubling and never moves: segments, each as long as all before it together. They begin with a
//! cache line, so that records and nodes of 64 bytes lie in one.
#![expect(unsafe_code, reason = "a segment is published through an atomic pointer")]

use core::fmt;
use core::ptr::NonNull;

use super::{Array, OutOfMemory, Zeroable};
use crate::sync::{AtomicPtr, LoadOwn, Ordering};

/// Elements of the first segment; a power of two.
#[cfg(not(loom))]
const FIRST: usize = 1024;
#[cfg(loom)]
const FIRST: usize = 32;

/// As many as make 2^31 elements.
#[cfg(not(loom))]
const SEGMENTS: usize = 22;
#[cfg(loom)]
const SEGMENTS: usize = 2;

/// A segment in memory.
type Segment<T> = Array<T, 64>;

/// An array of up to 2^31 elements, of which only the segments that were asked for exist.
pub(crate) struct Segments<T> {
    /// Null, or the start of a segment that lives as long as this.
    segments: [AtomicPtr<T>; SEGMENTS],
}

/// Which segment holds `index`, and where in it.
#[inline]
fn position(index: u32) -> (usize, usize) {
    let index = index as usize;
    let segment = (usize::BITS - (index / FIRST).leading_zeros()) as usize;
    match segment {
        0 => (0, index),
        segment => (segment, index - (FIRST << (segment - 1))),
    }
}

/// Elements of a segment.
pub(crate) const fn segment_len(segment: usize) -> usize {
    if segment == 0 { FIRST } else { FIRST << (segment - 1) }
}

impl<T: Zeroable> Segments<T> {
    pub(crate) fn new() -> Segments<T> {
        Segments { segments: core::array::from_fn(|_| AtomicPtr::new(core::ptr::null_mut())) }
    }

    /// Makes sure that the segment of `index` exists. One writer at a time.
    pub(crate) fn grow(&self, index: u32) -> Result<(), OutOfMemory> {
        self.grow_segment(position(index).0)
    }

    /// Makes sure that a segment exists. One writer at a time.
    pub(crate) fn grow_segment(&self, segment: usize) -> Result<(), OutOfMemory> {
        let slot = self.segments.get(segment).ok_or(OutOfMemory)?;
        if !slot.load_own().is_null() {
            return Ok(());
        }
        let (start, _) = Segment::<T>::zeroed(segment_len(segment))?.into_raw();
        // Release: who finds the segment finds it zeroed.
        slot.store(start.as_ptr(), Ordering::Release);
        Ok(())
    }

    /// `length` elements from `index` on, if their segment exists. They lie in one segment if the index is a multiple
    /// of a power of two that is at least `length`.
    #[inline]
    pub(crate) fn slice(&self, index: u32, length: usize) -> Option<&[T]> {
        let (segment, offset) = position(index);
        self.part(segment, offset, length)
    }

    /// `length` elements of a segment, if it exists and has them.
    #[inline]
    pub(crate) fn part(&self, segment: usize, offset: usize, length: usize) -> Option<&[T]> {
        let start = NonNull::new(self.segments.get(segment)?.load(Ordering::Acquire))?;
        if offset + length > segment_len(segment) {
            return None;
        }
        // SAFETY: the segment has `segment_len` elements, of which `offset` and those up to `offset + length` are some.
        let start = unsafe { start.add(offset) };
        // SAFETY: those elements were valid when the segment was published (the load above synchronises with that),
        // are only ever borrowed shared, and live as long as `self`.
        Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), length) })
    }

    /// The element of that index, if its segment exists.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.slice(index, 1)?.first()
    }

    /// Bytes of the segments that exist.
    pub(crate) fn bytes(&self) -> usize {
        let exist = |slot: &AtomicPtr<T>| !slot.load(Ordering::Acquire).is_null();
        let lengths = self.segments.iter().enumerate().filter(|(_, slot)| exist(slot));
        lengths.map(|(segment, _)| segment_len(segment) * size_of::<T>()).sum()
    }
}

impl<T> Drop for Segments<T> {
    fn drop(&mut self) {
        for (segment, slot) in self.segments.iter().enumerate() {
            // Relaxed: whoever has the only reference knows of all that happened before.
            if let Some(start) = NonNull::new(slot.load(Ordering::Relaxed)) {
                // SAFETY: the pointer came from `into_raw` of an array of that length, and nobody uses it after this.
                drop(unsafe { Segment::from_raw(start, segment_len(segment)) });
            }
        }
    }
}

impl<T> fmt::Debug for Segments<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Segments")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::AtomicU32;

    #[test]
    fn every_index_has_a_place_of_its_own_and_neighbours_are_neighbours() {
        let mut expected = (0, 0);
        for index in 0..40_000_u32 {
            assert_eq!(position(index), expected);
            expected.1 += 1;
            if expected.1 == segment_len(expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[test]
    fn elements_exist_once_their_segment_was_grown_and_keep_their_place() {
        let segments = Segments::<AtomicU32>::new();
        assert!(segments.get(5000).is_none());
        segments.grow(5000).unwrap();
        assert!(segments.get(0).is_none());
        let element = segments.get(5000).unwrap();
        element.store(7, Ordering::Relaxed);
        segments.grow(0).unwrap();
        segments.grow(5000).unwrap();
        assert!(core::ptr::eq(element, segments.get(5000).unwrap()));
        assert_eq!(segments.bytes(), (1024 + 4096) * 4);
        assert!(segments.slice(4096, 4096).is_some());
        assert!(segments.slice(4096, 4097).is_none());
    }
}

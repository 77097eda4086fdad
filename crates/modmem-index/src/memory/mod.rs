//! Memory that readers stand on: it grows, it never moves, and it is freed only when the whole structure is dropped.

mod array;
mod pool;
mod segments;
mod sparse;

pub(crate) use array::{Array, Zeroable};
pub(crate) use pool::{Pool, PoolWriter};
pub(crate) use segments::Segments;
pub(crate) use sparse::Sparse;

use crate::IndexError;

/// No memory to grow into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory;

impl From<OutOfMemory> for IndexError {
    fn from(_: OutOfMemory) -> IndexError {
        IndexError::OutOfMemory
    }
}

//! Which processor a reader runs on: a hint that spreads load, and nothing else.

/// Says which processor the caller runs on.
///
/// Any answer is right, also one that is out of date when it is used: readers on different processors that get
/// different numbers do not share a cache line, that is all. It is called in any context that readers run in, so that
/// it may neither wait nor panic.
pub trait CpuNumber {
    /// A number for the processor that this runs on.
    fn current(&self) -> usize;
}

/// Does not know: all readers share one counter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl CpuNumber for Plain {
    #[inline]
    fn current(&self) -> usize {
        0
    }
}

//! Telling the user that something takes a while.

/// Told about work that may take longer than a blink: downloads, unpacking, scans of all modules.
///
/// Phases do not nest: each [`phase`](Progress::phase) ends with [`done`](Progress::done) before the next begins.
/// [`advance`](Progress::advance) may be called from several threads.
pub trait Progress: Send + Sync {
    /// A phase begins. `total` counts what `advance` counts (bytes, modules), where that is known.
    fn phase(&self, what: &str, total: Option<u64>);
    /// So much more of the phase is done.
    fn advance(&self, amount: u64);
    /// The phase is over.
    fn done(&self);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _amount: u64) {}
    fn done(&self) {}
}

/// Calls [`Progress::done`] when dropped, so that a failed phase ends too.
pub(crate) struct Phase<'p>(&'p dyn Progress);

impl<'p> Phase<'p> {
    pub(crate) fn begin(progress: &'p dyn Progress, what: &str, total: Option<u64>) -> Self {
        progress.phase(what, total);
        Phase(progress)
    }

    pub(crate) fn advance(&self, amount: u64) {
        self.0.advance(amount);
    }
}

impl Drop for Phase<'_> {
    fn drop(&mut self) {
        self.0.done();
    }
}

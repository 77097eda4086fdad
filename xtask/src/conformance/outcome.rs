//! How a boot ended.

use std::fmt;

use anyhow::Result;

use super::boots::Boot;
use super::run::Report;

/// What a machine without network, qemu or apt cannot do. Told loudly, and a failure where nothing may be skipped.
#[derive(Debug)]
pub(crate) struct NotToBeHad(pub(super) String);

impl fmt::Display for NotToBeHad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotToBeHad {}

/// Turns an error into one that skips.
pub(crate) fn not_to_be_had(what: &str) -> impl FnOnce(anyhow::Error) -> anyhow::Error {
    let what = what.to_owned();
    move |error| NotToBeHad(format!("{what}: {error:#}")).into()
}

/// What one boot came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    Skipped,
    /// Something differs, where the gate does not mind.
    Reported,
    /// The boot came to no comparison, where the gate does not mind: the kernel, the emulator or time ended before.
    Stopped,
}

impl Outcome {
    pub(super) fn of(boot: &Boot, result: &Result<Report>) -> Outcome {
        match result {
            Ok(report) if report.is_clean() => Outcome::Passed,
            Err(error) if error.is::<NotToBeHad>() => Outcome::Skipped,
            _ if boot.gates => Outcome::Failed,
            Ok(_) => Outcome::Reported,
            Err(_) => Outcome::Stopped,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "SKIPPED",
            Outcome::Reported => "differs",
            Outcome::Stopped => "stopped",
        }
    }
}

/// What the chore as a whole came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Boots in which everything was as modmem computes it.
    pub passed: usize,
    /// Boots in which something was not.
    pub failed: usize,
    /// Boots that this machine cannot do.
    pub skipped: usize,
    /// Boots that only report, and had something to report.
    pub reported: usize,
    /// Boots that only report, and came to no comparison.
    pub stopped: usize,
}

impl Counts {
    pub(super) fn add(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Passed => &mut self.passed,
            Outcome::Failed => &mut self.failed,
            Outcome::Skipped => &mut self.skipped,
            Outcome::Reported => &mut self.reported,
            Outcome::Stopped => &mut self.stopped,
        } += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { passed, failed, skipped, reported, stopped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} SKIPPED")?;
        if *reported > 0 {
            write!(f, ", {reported} with differences where the chore only reports")?;
        }
        if *stopped > 0 {
            write!(f, ", {stopped} that ended before anything was compared")?;
        }
        Ok(())
    }
}

//! The stage itself: a linked module in, a finalized one out.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::subject::Subject;
use super::target::Target;
use super::{Answers, Decided, LiveText, OutOfMemory, Rule, Rules, Stated};
use crate::address::RunAddr;
use crate::arch::{Architecture, NotBuilt, with_machine};
use crate::guest::Guest;
use crate::image::Image;
use crate::layout::{MemoryKind, PerKind};
use crate::link::{Linked, Placement};
use crate::profile::Profile;
use crate::space::Block;

/// Why a module cannot be finalized.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FinalizeError {
    /// This build has nothing for the machine.
    Machine(NotBuilt),
    /// The linked module was made from another file.
    OtherImage,
    /// No memory for bookkeeping.
    OutOfMemory,
}

impl fmt::Display for FinalizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FinalizeError::Machine(machine) => machine.fmt(f),
            FinalizeError::OtherImage => f.write_str("the linked module was made from another file"),
            FinalizeError::OutOfMemory => OutOfMemory.fmt(f),
        }
    }
}

impl core::error::Error for FinalizeError {}

impl From<OutOfMemory> for FinalizeError {
    fn from(_: OutOfMemory) -> FinalizeError {
        FinalizeError::OutOfMemory
    }
}

/// Finalizes the modules of one kernel.
pub struct Finalizer<'k> {
    kernel: &'k dyn Guest,
    profile: &'k Profile,
    rules: Box<dyn Rules>,
}

impl<'k> Finalizer<'k> {
    /// A finalizer for modules of the kernel that `kernel` gives symbols and memory of, and that behaves as `profile` says.
    /// What that memory does not have has to be stated.
    ///
    /// # Errors
    /// The profile is for a machine that this build has nothing for.
    pub fn new(kernel: &'k dyn Guest, profile: &'k Profile) -> Result<Finalizer<'k>, FinalizeError> {
        let rules = with_machine!(profile.machine, A => A::rules(kernel, profile));
        Ok(Finalizer { kernel, profile, rules: rules.map_err(FinalizeError::Machine)? })
    }

    /// Does to a linked module what the kernel does before its init runs, on the machine that `stated` describes.
    ///
    /// # Errors
    /// It was made from another file, or memory is short; the module is gone with the error.
    pub fn finalize<B: Block>(
        &self,
        image: &Image<'_>,
        mut linked: Linked<B>,
        stated: &dyn Stated,
    ) -> Result<Finalized<B>, FinalizeError> {
        if !linked.placement.layout().is_of(image) {
            return Err(FinalizeError::OtherImage);
        }
        let mut answers = Answers::new(stated);
        let module = Target::new(&mut linked.placement, image.format())?;
        let subject = Subject::alone(image, self.profile, self.kernel, module, &mut answers);
        let subject = self.rules.apply(subject)?;
        subject.module.check()?;
        let mut module = subject.module;
        let live = module.take_live_text();
        let patched = patched(module)?;
        if answers.lacks_memory() {
            return Err(FinalizeError::OutOfMemory);
        }
        let mut state = Vec::new();
        state.try_reserve_exact(answers.decided().count()).map_err(|_| OutOfMemory)?;
        state.extend(answers.decided());
        state.sort_unstable();
        Ok(Finalized { linked, patched, state, live })
    }
}

impl fmt::Debug for Finalizer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finalizer").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// A place that a rule wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Patched {
    /// Where.
    pub address: RunAddr,
    /// Bytes.
    pub length: u32,
    /// Which rule.
    pub rule: Rule,
}

/// By address; of what overlaps, what was written last comes last.
fn patched(module: Target<'_>) -> Result<Vec<Patched>, OutOfMemory> {
    let starts = MemoryKind::ALL.map(|kind| module.address(kind));
    let patches: PerKind<_> = module.into_patches();
    let mut all = Vec::new();
    all.try_reserve_exact(patches.iter().map(|(_, patches)| patches.len()).sum()).map_err(|_| OutOfMemory)?;
    for (kind, start) in MemoryKind::ALL.into_iter().zip(starts) {
        let Some(start) = start else { continue };
        all.extend(patches[kind].iter().map(|patch| Patched {
            address: start + u64::from(patch.offset),
            length: patch.length,
            rule: patch.rule,
        }));
    }
    all.sort_by_key(|patched| patched.address);
    Ok(all)
}

/// A linked module as its kernel leaves it before its init runs.
#[derive(Debug)]
pub struct Finalized<B> {
    linked: Linked<B>,
    patched: Vec<Patched>,
    state: Vec<Decided>,
    live: LiveText,
}

impl<B: Block> Finalized<B> {
    /// Where the module lies, and its bytes.
    pub fn placement(&self) -> &Placement<B> {
        self.linked.placement()
    }

    /// What rules wrote to, by address.
    pub fn patched(&self) -> &[Patched] {
        &self.patched
    }

    /// What the kernel changes in the module's text while it runs; a copy outlives this value.
    pub fn live_text(&self) -> &LiveText {
        &self.live
    }

    /// What the module's code depends on, and how it was.
    pub fn state(&self) -> &[Decided] {
        &self.state
    }
}

impl<B> From<Finalized<B>> for Linked<B> {
    fn from(finalized: Finalized<B>) -> Linked<B> {
        finalized.linked
    }
}

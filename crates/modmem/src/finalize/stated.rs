//! A machine that the caller describes.

use core::fmt;

use hashbrown::HashMap;

use super::{Decided, State, Tracer, Variable};
use crate::address::RunAddr;
use crate::seed::Seeded;

/// What a caller says of the machine whose kernel finalizes modules. What it does not say is what the kernel's memory says,
/// as the kernel that is given has it; what that does not say either is assumed to be off, and told
/// ([`Decided::told`](super::Decided::told)).
pub trait Stated: fmt::Debug {
    /// The value of a variable.
    fn value(&self, variable: Variable) -> Option<u64>;

    /// Who traces the function whose entry is patched at `site` (the address that ftrace has it by).
    fn tracer(&self, _site: RunAddr) -> Option<Tracer> {
        None
    }

    /// Where the kernel puts code that it makes for the module that is finalized, counted from 0: on x86-64 the pages with
    /// thunks of indirect branches (arch/x86/kernel/alternative.c:its_alloc), without which such branches are finalized as on a
    /// CPU that needs none; on s390x the area of its trampolines, which otherwise is what was placed
    /// [beside](crate::Placement::with_beside) the module.
    fn made_code(&self, _index: usize) -> Option<RunAddr> {
        None
    }
}

/// The state of a described machine: what was stated, what the kernel's memory says, and what is assumed.
#[derive(Debug)]
pub(crate) struct Answers<'m> {
    stated: &'m dyn Stated,
    /// What was asked for, and what is said of it.
    pinned: HashMap<Variable, Option<u64>, Seeded>,
    /// What nobody says, with what it was taken for.
    assumed: HashMap<Variable, u64, Seeded>,
    out_of_memory: bool,
}

impl<'m> Answers<'m> {
    pub(crate) fn new(stated: &'m dyn Stated) -> Answers<'m> {
        Answers { stated, pinned: HashMap::default(), assumed: HashMap::default(), out_of_memory: false }
    }

    pub(super) fn lacks_memory(&self) -> bool {
        self.out_of_memory
    }

    /// What was asked for and has a value, in no order.
    pub(super) fn decided(&self) -> impl Iterator<Item = Decided> {
        let told = self.pinned.iter().filter_map(|(&variable, value)| Some((variable, (*value)?, true)));
        let assumed = self.assumed.iter().map(|(&variable, &value)| (variable, value, false));
        told.chain(assumed).map(|(variable, value, told)| Decided { variable, value, told })
    }
}

impl State for Answers<'_> {
    fn knows(&self, variable: Variable) -> bool {
        self.pinned.contains_key(&variable)
    }

    fn pin(&mut self, variable: Variable, value: Option<u64>) {
        // Who states something is asked first.
        let value = self.stated.value(variable).or(value);
        match self.pinned.try_reserve(1) {
            Ok(()) => _ = self.pinned.insert(variable, value),
            Err(_) => self.out_of_memory = true,
        }
    }

    fn pinned(&self, variable: Variable) -> Option<u64> {
        self.stated.value(variable).or_else(|| *self.pinned.get(&variable)?)
    }

    fn certain(&self, variable: Variable) -> Option<u64> {
        self.pinned(variable)
    }

    fn leaning(&self, variable: Variable) -> Option<u64> {
        self.pinned(variable)
    }

    fn votes(&mut self, variable: Variable, value: u64, _: u64) {
        if self.pinned(variable).is_some() || self.assumed.contains_key(&variable) {
            return;
        }
        match self.assumed.try_reserve(1) {
            Ok(()) => _ = self.assumed.insert(variable, value),
            Err(_) => self.out_of_memory = true,
        }
    }

    fn assume(&mut self, variable: Variable, value: u64) {
        self.rely(variable, value);
    }

    fn tracer(&self, site: RunAddr) -> Option<Tracer> {
        self.stated.tracer(site)
    }

    fn made_code(&self, index: usize) -> Option<RunAddr> {
        self.stated.made_code(index)
    }

    fn lack_memory(&mut self) {
        self.out_of_memory = true;
    }
}

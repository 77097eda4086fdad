//! One machine state for all sites: what decides between the forms that code can take, and what speaks for each.
//!
//! A site where a rule allows several forms asks the evidence which one it must be. Where the guest's own memory says
//! it (CPU features, static keys), that is the answer. Otherwise the form that is found speaks for a value, and in the
//! end the value that most sites speak for is the machine's; the modules that went by another one are verified again,
//! with that value, and what does not fit it is unexplained.

use alloc::vec::Vec;
use core::fmt;

use hashbrown::HashMap;

use super::VerifyError;
use crate::finalize::{State, Variable};
use crate::seed::Seeded;

/// What is known of a variable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim {
    /// What the guest's own memory says.
    pinned: Option<u64>,
    /// What it is taken for, once all modules have spoken.
    settled: Option<u64>,
    values: HashMap<u64, Support, Seeded>,
    /// The value that most sites speak for; of equals the one that spoke first.
    favourite: Option<u64>,
}

#[derive(Clone, Debug)]
struct Support {
    /// How many values spoke before it.
    before: usize,
    sites: u64,
    /// Modules that went by this value, by index.
    modules: Vec<u32>,
}

/// All that is known of the machine's state.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    claims: HashMap<Variable, Claim, Seeded>,
    /// The module that speaks now.
    module: u32,
    out_of_memory: bool,
}

impl Evidence {
    pub(crate) fn begin_module(&mut self, module: u32) {
        self.module = module;
    }

    /// Something could not be kept: the result would not be whole.
    pub(crate) fn check(&self) -> Result<(), VerifyError> {
        if self.out_of_memory { Err(VerifyError::OutOfMemory) } else { Ok(()) }
    }

    fn claim(&self, variable: Variable) -> Option<&Claim> {
        self.claims.get(&variable)
    }

    fn claim_mut(&mut self, variable: Variable) -> Option<&mut Claim> {
        if self.claims.try_reserve(1).is_err() {
            self.out_of_memory = true;
            return None;
        }
        Some(self.claims.entry(variable).or_default())
    }

    fn support(&mut self, variable: Variable, value: u64, sites: u64) {
        let module = self.module;
        let Some(claim) = self.claim_mut(variable) else { return };
        if claim.pinned.or(claim.settled).is_some() {
            return;
        }
        let done = claim.support(value, sites, module);
        self.out_of_memory |= done.is_none();
    }

    /// Takes for each variable the value that most sites speak for, and names the modules that went by another.
    pub(crate) fn settle(&mut self) -> Result<Vec<u32>, VerifyError> {
        let mut again = Vec::new();
        for claim in self.claims.values_mut() {
            claim.settled = claim.favourite;
            let others = claim.values.iter().filter(|(value, _)| Some(**value) != claim.settled);
            for (_, support) in others {
                again.try_reserve(support.modules.len()).map_err(|_| VerifyError::OutOfMemory)?;
                again.extend_from_slice(&support.modules);
            }
        }
        again.sort_unstable();
        again.dedup();
        Ok(again)
    }

    /// In words: what a variable is, and why it is taken for that.
    pub(crate) fn describe(&self, variable: Variable) -> impl fmt::Display {
        Described { variable, claim: self.claim(variable).cloned() }
    }

    /// Each variable, in no order, with its value, whether the guest's memory says it, and the sites that speak for it.
    pub(crate) fn facts(&self) -> impl Iterator<Item = (Variable, u64, bool, u64)> {
        self.claims.iter().filter_map(|(&variable, claim)| {
            let value = claim.pinned.or(claim.settled).or(claim.favourite)?;
            let sites = claim.values.get(&value).map_or(0, |support| support.sites);
            Some((variable, value, claim.pinned.is_some(), sites))
        })
    }
}

impl State for Evidence {
    fn lack_memory(&mut self) {
        self.out_of_memory = true;
    }

    fn knows(&self, variable: Variable) -> bool {
        self.claim(variable).is_some()
    }

    fn pin(&mut self, variable: Variable, value: Option<u64>) {
        if let Some(claim) = self.claim_mut(variable) {
            claim.pinned = value;
        }
    }

    fn pinned(&self, variable: Variable) -> Option<u64> {
        self.claim(variable)?.pinned
    }

    fn certain(&self, variable: Variable) -> Option<u64> {
        let claim = self.claim(variable)?;
        claim.pinned.or(claim.settled)
    }

    fn leaning(&self, variable: Variable) -> Option<u64> {
        let claim = self.claim(variable)?;
        claim.pinned.or(claim.settled).or(claim.favourite)
    }

    fn votes(&mut self, variable: Variable, value: u64, sites: u64) {
        self.support(variable, value, sites);
    }
}

impl Claim {
    /// So many sites of a module speak for a value; `None` without memory.
    fn support(&mut self, value: u64, sites: u64, module: u32) -> Option<()> {
        self.values.try_reserve(1).ok()?;
        let before = self.values.len();
        let support =
            self.values.entry(value).or_insert_with(|| Support { before, sites: 0, modules: Vec::new() });
        support.sites += sites;
        if support.modules.last() != Some(&module) {
            support.modules.try_reserve(1).ok()?;
            support.modules.push(module);
        }
        let (sites, before) = (support.sites, support.before);
        let best = self.favourite.and_then(|favourite| self.values.get(&favourite));
        let is_better = |best: &Support| sites > best.sites || (sites == best.sites && before < best.before);
        if best.is_none_or(is_better) {
            self.favourite = Some(value);
        }
        Some(())
    }
}

struct Described {
    variable: Variable,
    claim: Option<Claim>,
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.variable)?;
        let Some(claim) = &self.claim else { return Ok(()) };
        let Some(value) = claim.pinned.or(claim.settled).or(claim.favourite) else { return Ok(()) };
        match (self.variable.is_switch(), value) {
            (true, 0) => f.write_str(" is off")?,
            (true, _) => f.write_str(" is on")?,
            (false, value) => write!(f, " is {value:#x}")?,
        }
        if claim.pinned.is_some() {
            return f.write_str(", as the kernel's memory says");
        }
        let sites = claim.values.get(&value).map_or(0, |support| support.sites);
        write!(f, ", as {sites} sites show")
    }
}

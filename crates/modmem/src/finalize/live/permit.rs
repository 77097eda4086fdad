//! Whether a write to text is one of the kernel's own.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::Steps;
use super::site::Site;
use crate::address::RunAddr;
use crate::finalize::{OutOfMemory, Rule, Variable};
use crate::guest::Guest;

/// The most bytes of one write: what the kernel changes at once, with what is between.
const LONGEST_WRITE: usize = 4096;

/// The places in a module's text that its kernel changes while it runs, and into what.
///
/// ```
/// # fn f(live: &modmem::finalize::LiveText, kernel: &dyn modmem::guest::Guest, trap: (modmem::RunAddr, [u8; 5], [u8; 5])) {
/// let (address, old, new) = trap;
/// match live.permits(kernel, address, &old, &new) {
///     Ok(permit) => println!("{:?} of {}", permit.step, permit.rule),
///     Err(refusal) => println!("{address}: {refusal}"),
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct LiveText {
    /// By address, none of which overlap.
    sites: Vec<Site>,
    /// The kernel's own entries of tracing, trampolines to them in this module, and its own descriptions of who
    /// traces.
    tracers: Vec<RunAddr>,
}

/// A write that is one of the kernel's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Where what is changed begins: the first of several.
    pub site: RunAddr,
    /// What the kernel changes there.
    pub rule: Rule,
    /// How far it is.
    pub step: Step,
    /// What the machine is like afterwards, as far as one variable says: a key that is switched, a static call that calls another function.
    /// `None` where nothing does: of a breakpoint, of tracing.
    pub towards: Option<(Variable, u64)>,
}

/// How far a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing changes.
    Nothing,
    /// A breakpoint is put on the first byte (x86).
    Breakpoint,
    /// Behind it, the rest becomes that of the new text.
    Rest,
    /// The first byte becomes that of the new text: the change is done.
    Done,
    /// All at once, on machines that write whole instructions.
    Whole,
}

/// Why a write is none of the kernel's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `old` and `new` are not of one length, or empty, or longer than 4096 bytes.
    NoWrite,
    /// That byte is in no place that the kernel changes.
    Elsewhere(RunAddr),
    /// What is there, or is said to be, is nothing that the kernel makes of that place.
    Old(RunAddr),
    /// What it would become is nothing that the kernel makes of that place.
    New(RunAddr),
    /// Both would be right, and the kernel does not go from one to the other in one write.
    Order(RunAddr),
    /// Not enough of the instruction is given to say; give all of it, old and new.
    Part(RunAddr),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoWrite => f.write_str("no write: old and new must be 1 to 4096 bytes, and as many"),
            Refusal::Elsewhere(at) => write!(f, "the kernel changes nothing at {at}"),
            Refusal::Old(at) => write!(f, "what is at {at} is nothing that the kernel makes of that place"),
            Refusal::New(at) => write!(f, "what {at} becomes is nothing that the kernel makes of that place"),
            Refusal::Order(at) => write!(f, "the kernel does not change {at} in this order"),
            Refusal::Part(at) => write!(f, "a part of the branch at {at} does not tell where it leads"),
        }
    }
}

impl core::error::Error for Refusal {}

/// What a part of a site shows of its text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// A text, and what the machine is like then.
    Text(Option<(Variable, u64)>),
    /// A part that is as in some text.
    Part,
    /// A part of a branch that does not tell where it leads.
    Unclear,
    Foreign,
}

impl LiveText {
    pub(crate) fn new(mut sites: Vec<Site>, tracers: Vec<RunAddr>) -> LiveText {
        sites.sort_unstable_by_key(|site| site.address);
        let mut end = 0;
        sites.retain(|site| {
            let is_free = site.address.0 >= end;
            end = end.max(site.end());
            is_free
        });
        LiveText { sites, tracers }
    }

    /// Forgets the places in memory that is gone: that of init, once it has run.
    pub fn forget(&mut self, range: &Range<RunAddr>) {
        self.sites.retain(|site| !range.contains(&site.address));
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.sites.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// The place that `address` is in: where it begins, how many bytes it has, and what the kernel changes there.
    pub fn site(&self, address: RunAddr) -> Option<(RunAddr, usize, Rule)> {
        let after = self.sites.partition_point(|site| site.address <= address);
        let site = self.sites.get(after.checked_sub(1)?)?;
        (address.0 < site.end()).then_some((site.address, site.len(), site.rule))
    }

    /// All places, by address, with their length and what the kernel changes there.
    pub fn sites(&self) -> impl Iterator<Item = (RunAddr, usize, Rule)> {
        self.sites.iter().map(|site| (site.address, site.len(), site.rule))
    }

    /// Says whether the kernel may change the bytes at `address` from `old` to `new` in one write. `kernel` is asked for
    /// symbols alone: which functions there are, and which code ftrace and BPF made.
    ///
    /// Both may span more than what is written: bytes of no site have to stay as they are. A part of a branch that does
    /// not tell where it leads (a page may end in the middle of one) is refused; give the whole [site](LiveText::site).
    /// Nothing is remembered from one write to the next, nothing is allocated, and the time is that of a binary search
    /// for the first site and of a look at each in the range.
    ///
    /// # Errors
    /// It may not; why.
    pub fn permits(
        &self,
        kernel: &dyn Guest,
        address: RunAddr,
        old: &[u8],
        new: &[u8],
    ) -> Result<Permit, Refusal> {
        let length = old.len() as u64;
        let end = address.0.checked_add(length).filter(|_| old.len() == new.len() && !old.is_empty());
        let end = end.filter(|_| old.len() <= LONGEST_WRITE).ok_or(Refusal::NoWrite)?;
        let first = self.sites.partition_point(|site| site.end() <= address.0);
        let sites = self.sites.get(first..).unwrap_or_default();
        let mut permit = None;
        // Where what has been looked at ends.
        let mut done = address.0;
        for site in sites.iter().take_while(|site| site.address.0 < end) {
            let (from, to) = (site.address.0.max(address.0), site.end().min(end));
            unchanged(address, done..from, old, new)?;
            let part = (from - address.0) as usize..(to - address.0) as usize;
            let (old, new) = (&old[part.clone()], &new[part]);
            if old != new {
                let (step, towards) = self.step(kernel, site, (from - site.address.0) as usize, old, new)?;
                permit.get_or_insert(Permit { site: site.address, rule: site.rule, step, towards });
            }
            done = to;
        }
        unchanged(address, done..end, old, new)?;
        let nothing = || {
            let rule = sites.first().map_or(Rule::JumpLabel, |site| site.rule);
            Permit { site: address, rule, step: Step::Nothing, towards: None }
        };
        Ok(permit.unwrap_or_else(nothing))
    }

    /// How a site goes from `old` to `new`, which begin `at` bytes behind its start.
    fn step(
        &self,
        kernel: &dyn Guest,
        site: &Site,
        at: usize,
        old: &[u8],
        new: &[u8],
    ) -> Result<(Step, Option<(Variable, u64)>), Refusal> {
        let here = site.address;
        let legal = |shown: Shown, foreign: Refusal| match shown {
            Shown::Text(towards) => Ok(towards),
            Shown::Part => Ok(None),
            Shown::Unclear => Err(Refusal::Part(here)),
            Shown::Foreign => Err(foreign),
        };
        let trap = match site.steps {
            Steps::Breakpoint(trap) if site.length > 1 => trap,
            _ => {
                legal(self.shown(kernel, site, at, old), Refusal::Old(here))?;
                let towards = legal(self.shown(kernel, site, at, new), Refusal::New(here))?;
                return Ok((Step::Whole, towards));
            }
        };
        if at > 0 {
            // Without the first byte: the rest, while the breakpoint stands.
            legal(self.shown(kernel, site, at, old), Refusal::Old(here))?;
            return Ok((Step::Rest, legal(self.shown(kernel, site, at, new), Refusal::New(here))?));
        }
        let rest_stays = old[1..] == new[1..];
        match (old[0] == trap, new[0] == trap) {
            (false, true) if rest_stays => {
                // A byte alone does not tell where a branch leads, and need not: it is what was there.
                match self.shown(kernel, site, 0, old) {
                    Shown::Foreign => Err(Refusal::Old(here)),
                    _ => Ok((Step::Breakpoint, None)),
                }
            }
            (true, false) if rest_stays => match self.shown(kernel, site, 0, new) {
                // Where it leads was looked at when the rest was written.
                Shown::Unclear if new.len() == 1 => Ok((Step::Done, None)),
                shown => Ok((Step::Done, legal(shown, Refusal::New(here))?)),
            },
            (true, true) => {
                legal(self.shown(kernel, site, 1, &old[1..]), Refusal::Old(here))?;
                Ok((Step::Rest, legal(self.shown(kernel, site, 1, &new[1..]), Refusal::New(here))?))
            }
            _ => match (self.shown(kernel, site, 0, old), self.shown(kernel, site, 0, new)) {
                (Shown::Foreign, _) => Err(Refusal::Old(here)),
                (_, Shown::Foreign) if new[0] != trap => Err(Refusal::New(here)),
                _ => Err(Refusal::Order(here)),
            },
        }
    }

    /// What the bytes that begin `at` bytes behind a site's start show of its text.
    fn shown(&self, kernel: &dyn Guest, site: &Site, at: usize, part: &[u8]) -> Shown {
        let is_whole = part.len() == site.len();
        let same = |code: &[u8]| code.get(at..at + part.len()) == Some(part);
        if let Some(text) = site.texts().find(|text| same(&text.code)) {
            // The rest of one text may be that of another.
            let alone = || site.texts().filter(|text| same(&text.code)).count() == 1;
            return if is_whole || (at == 1 && part.len() + 1 == site.len() && alone()) {
                Shown::Text(text.towards)
            } else {
                Shown::Part
            };
        }
        let mut shown = Shown::Foreign;
        for (branch, leads) in site.branches.iter().flatten() {
            let mut code = [0; super::site::LONGEST];
            let target = if is_whole {
                branch.target(site.address, part)
            } else if let super::Branch::X86 { opcode, length } = branch
                && at <= usize::from(*length)
                && at + part.len() == site.len()
            {
                // All but the opcode, which is known.
                let length = usize::from(*length);
                code[..length].copy_from_slice(&opcode[..length]);
                code[at..at + part.len()].copy_from_slice(part);
                let is_it = at >= length || opcode[at..length] == part[..length - at];
                is_it.then(|| branch.target(site.address, &code[..site.len()])).flatten()
            } else {
                if branch.may_have(at, part) {
                    shown = Shown::Unclear;
                }
                None
            };
            let Some(target) = target else { continue };
            if let Some(towards) = leads.allows(kernel, &self.tracers, RunAddr(target)) {
                return Shown::Text(towards);
            }
        }
        shown
    }
}

/// Bytes of no site have to stay as they are.
fn unchanged(start: RunAddr, range: Range<u64>, old: &[u8], new: &[u8]) -> Result<(), Refusal> {
    let range = (range.start - start.0) as usize..(range.end - start.0) as usize;
    let differs = old[range.clone()].iter().zip(&new[range.clone()]).position(|(old, new)| old != new);
    match differs {
        None => Ok(()),
        Some(at) => Err(Refusal::Elsewhere(start + (range.start + at) as u64)),
    }
}

/// Sites and tracers while a module is finalized.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    sites: Vec<Site>,
    tracers: Vec<RunAddr>,
}

impl Noted {
    pub(crate) fn site(&mut self, site: Site) -> Result<(), OutOfMemory> {
        self.sites.try_reserve(1).map_err(|_| OutOfMemory)?;
        self.sites.push(site);
        Ok(())
    }

    pub(crate) fn tracer(&mut self, tracer: RunAddr) -> Result<(), OutOfMemory> {
        self.tracers.try_reserve(1).map_err(|_| OutOfMemory)?;
        self.tracers.push(tracer);
        Ok(())
    }

    pub(crate) fn into_live(self) -> LiveText {
        LiveText::new(self.sites, self.tracers)
    }
}

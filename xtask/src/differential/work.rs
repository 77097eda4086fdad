//! Cases, asked about and judged: several kernels at a time, each started again when it has died.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};

use super::answers::CaseAnswer;
use super::compare::{self, Outcome};
use super::generate::Case;
use super::guest::Guest;
use super::ours::Ours;
use super::stricter::{self, Stricter};
use super::uml::Uml;

/// Cases that are asked about in one start of the kernel, at most.
const BATCH: u64 = 400;
/// Of so many cases of which Linux often dies, it is asked about one.
const DEADLY: u64 = 16;

/// What came of a case: of each step, and whether the kernel died.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) died: bool,
}

/// A kernel and modmem, side by side.
pub(super) struct Asker<'u> {
    guest: Guest<'u>,
    ours: Ours<'u>,
}

impl<'u> Asker<'u> {
    pub(super) fn new(uml: &'u Uml, number: usize) -> Result<Asker<'u>> {
        Ok(Asker { guest: Guest::new(uml, number)?, ours: Ours::new(uml)? })
    }

    /// Asks about cases; what came of each. `all` asks about deadly ones too.
    pub(super) fn ask(&mut self, cases: Vec<Case>, all: bool) -> Result<Vec<(Case, Judged)>> {
        let (mut results, mut asked) = (Vec::new(), Vec::new());
        for case in cases {
            let foreseen = self.ours.foresee(&case)?;
            let deadly = foreseen.rule.and_then(|rule| stricter::find(&rule)).filter(|rule| rule.deadly);
            match deadly.filter(|_| !all && !case.seed.is_multiple_of(DEADLY)) {
                Some(Stricter { rule, .. }) => {
                    results.push((case, Judged { outcomes: vec![Outcome::Unasked { rule }], died: false }));
                }
                None => asked.push((case, foreseen.looks)),
            }
        }
        let mut from = 0;
        let mut judged: Vec<Option<Judged>> = vec![None; asked.len()];
        while from < asked.len() {
            let answers = self.guest.ask(&asked, from)?;
            for (&index, answer) in &answers.of {
                let Some((case, _)) = asked.get(index) else { continue };
                judged[index] = Some(Judged { outcomes: self.ours.judge(case, answer)?, died: false });
            }
            let is_stuck = |answer: &CaseAnswer| answer.gone.last().is_some_and(|errno| *errno != 0);
            from = match (answers.complete, answers.died_of, answers.of.last_key_value()) {
                (true, ..) => asked.len(),
                (false, Some(index), _) => {
                    if let Some((case, _)) = asked.get(index) {
                        let outcome = compare::deadly(self.ours.foresee(case)?.rule);
                        judged[index] = Some(Judged { outcomes: vec![outcome], died: true });
                    }
                    index + 1
                }
                (false, None, Some((index, answer))) if is_stuck(answer) => index + 1,
                (false, None, _) => bail!("the kernel stopped between two cases"),
            };
        }
        let judged = asked.into_iter().zip(judged);
        results.extend(judged.filter_map(|((case, _), result)| Some((case, result?))));
        Ok(results)
    }
}

/// Asks about the cases of all these seeds, with as many kernels at a time as there are processors, and tells of each.
pub(super) fn ask_all(
    uml: &Uml,
    seeds: std::ops::Range<u64>,
    make: &(impl Fn(u64) -> Case + Sync),
    tell: &(impl Fn(Case, Judged) -> Result<()> + Sync),
) -> Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let batch = (seeds.end - seeds.start).div_ceil(processors as u64).clamp(1, BATCH);
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(None);
    let work = |number: usize| -> Result<()> {
        let mut asker = Asker::new(uml, number)?;
        loop {
            let start = next.fetch_add(batch, Ordering::Relaxed);
            if start >= seeds.end {
                return Ok(());
            }
            let cases = (start..seeds.end.min(start + batch)).map(make).collect();
            for (case, result) in asker.ask(cases, batch == 1)? {
                tell(case, result)?;
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 0..processors {
            let (work, failed, next) = (&work, &failed, &next);
            scope.spawn(move || {
                if let Err(error) = work(number) {
                    next.store(u64::MAX / 2, Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    failed.get_or_insert(error);
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

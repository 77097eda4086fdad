//! What all cases came to.

use std::collections::BTreeMap;

use anyhow::Result;

use super::compare::Outcome;
use super::coverage;
use super::stricter;
use super::work::Judged;

#[derive(Debug, Default)]
pub(super) struct Totals {
    cases: u64,
    loaded: u64,
    unloaded: u64,
    bytes: u64,
    init_bytes: u64,
    /// By rule and number.
    refused: BTreeMap<(String, i32), u64>,
    otherwise: BTreeMap<(String, i32), u64>,
    unplaced: u64,
    stricter: BTreeMap<&'static str, u64>,
    unasked: BTreeMap<&'static str, u64>,
    remarks: BTreeMap<String, u64>,
    /// Seeds, by what differs, with numbers left out.
    differs: BTreeMap<String, Vec<u64>>,
    died: u64,
    /// Of which of modmem's rules those were, as far as it has one.
    died_of: BTreeMap<String, u64>,
    /// Those that Linux dies of, and modmem loads.
    deadly: Vec<u64>,
}

impl Totals {
    pub(super) fn add(&mut self, seed: u64, judged: &Judged) {
        self.cases += 1;
        self.died += u64::from(judged.died);
        for outcome in judged.outcomes.iter().filter(|_| judged.died) {
            if let Outcome::Stricter { rule } = outcome {
                *self.died_of.entry((*rule).to_owned()).or_default() += 1;
            }
            if let Outcome::RefusedOtherwise { rule, .. } = outcome {
                *self.died_of.entry(rule.clone()).or_default() += 1;
            }
        }
        for outcome in &judged.outcomes {
            self.count(seed, outcome);
        }
    }

    fn count(&mut self, seed: u64, outcome: &Outcome) {
        match outcome {
            Outcome::Loaded { bytes, init, remarks } => {
                self.loaded += 1;
                self.bytes += bytes;
                self.init_bytes += init;
                for remark in remarks {
                    *self.remarks.entry(remark.clone()).or_default() += 1;
                }
            }
            Outcome::Refused { errno, rule } => *self.refused.entry((rule.clone(), *errno)).or_default() += 1,
            Outcome::RefusedOtherwise { rule, errno } => {
                *self.otherwise.entry((rule.clone(), *errno)).or_default() += 1;
            }
            Outcome::Unloaded => self.unloaded += 1,
            Outcome::Deadly => self.deadly.push(seed),
            Outcome::Unplaced => self.unplaced += 1,
            Outcome::Stricter { rule } => *self.stricter.entry(rule).or_default() += 1,
            Outcome::Unasked { rule } => *self.unasked.entry(rule).or_default() += 1,
            Outcome::Differs(what) => {
                let kind: String =
                    what.chars().filter(|character| !character.is_ascii_digit()).take(100).collect();
                self.differs.entry(kind).or_default().push(seed);
            }
        }
    }

    /// Whether nothing differs.
    pub(super) fn agree(&self) -> bool {
        self.differs.is_empty()
    }

    /// Adds those of others.
    pub(super) fn append(&mut self, others: Totals) {
        fn join<K: Ord>(to: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
            for (key, count) in from {
                *to.entry(key).or_default() += count;
            }
        }
        self.cases += others.cases;
        self.loaded += others.loaded;
        self.unloaded += others.unloaded;
        self.bytes += others.bytes;
        self.init_bytes += others.init_bytes;
        self.unplaced += others.unplaced;
        self.died += others.died;
        join(&mut self.refused, others.refused);
        join(&mut self.otherwise, others.otherwise);
        join(&mut self.stricter, others.stricter);
        join(&mut self.unasked, others.unasked);
        join(&mut self.remarks, others.remarks);
        join(&mut self.died_of, others.died_of);
        self.deadly.extend(others.deadly);
        for (kind, seeds) in others.differs {
            self.differs.entry(kind).or_default().extend(seeds);
        }
    }

    pub(super) fn print(&self, what: &str, seconds: f64) {
        let Totals { loaded, unloaded, bytes, init_bytes, .. } = self;
        println!(
            "{what}: loaded by both: {loaded}, {bytes} bytes equal, {init_bytes} of them of init memory"
        );
        if *unloaded > 0 {
            println!("unloaded by both: {unloaded}");
        }
        println!("refused by both:");
        for ((rule, errno), count) in &self.refused {
            println!("  {count:>7}  {rule} ({errno})");
        }
        println!("refused by both, with other numbers (by modmem's rule, Linux's number):");
        for ((rule, errno), count) in &self.otherwise {
            println!("  {count:>7}  {rule} ({errno})");
        }
        println!("refused by one for a value that depends on its place: {}", self.unplaced);
        println!("refused by modmem on purpose (and Linux was not asked):");
        for known in stricter::STRICTER {
            let [count, unasked] =
                [&self.stricter, &self.unasked].map(|counts| counts.get(known.rule).copied().unwrap_or(0));
            if count + unasked > 0 {
                println!("  {count:>7}  {} ({unasked}): {}", known.rule, known.why);
            }
        }
        if !self.died_of.is_empty() {
            println!("Linux died of some, by modmem's rule: {:?}", self.died_of);
        }
        if !self.deadly.is_empty() {
            let mut seeds = self.deadly.clone();
            seeds.sort_unstable();
            println!("Linux dies of these, and modmem loads them: seeds {seeds:?}");
        }
        for (kind, seeds) in &self.differs {
            let first = seeds.iter().min().copied().unwrap_or(0);
            println!("DIFFERENT {:>5}  {kind} (seed {first})", seeds.len());
        }
        let (cases, differs) = (self.cases, self.differs.values().map(Vec::len).sum::<usize>());
        println!(
            "differential: {cases} {what}, {differs} differ, Linux died of {}, {seconds:.0} s ({:.0} a second)",
            self.died,
            cases as f64 / seconds.max(0.001)
        );
    }

    /// Which of modmem's rules were reached.
    pub(super) fn print_coverage(&self) -> Result<()> {
        let mut reached = self.remarks.clone();
        let rules =
            self.refused.iter().chain(&self.otherwise).map(|((rule, _), count)| (rule.clone(), *count));
        let own = self.stricter.iter().chain(&self.unasked).map(|(rule, count)| ((*rule).to_owned(), *count));
        for (rule, count) in rules.chain(own) {
            *reached.entry(rule).or_default() += count;
        }
        coverage::print(&reached)
    }
}

//! How long a lookup takes: all structures in turn, round after round, so that what else the machine does hits all
//! alike.

use crate::contenders::Structure;
use crate::timing::{Contender, PIECE, Questions, Summary, Times};
use crate::workload::{Family, Layout, Queries, Workload};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Each address is known only once the last answer is.
    Latency,
    /// All addresses are known in advance.
    Throughput,
}

impl Measure {
    pub(crate) const ALL: [Measure; 2] = [Measure::Latency, Measure::Throughput];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Measure::Latency => "latency",
            Measure::Throughput => "throughput",
        }
    }
}

/// What a number is a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) layout: Layout,
    pub(crate) count: usize,
    pub(crate) family: Family,
    pub(crate) measure: Measure,
}

/// All that was measured: nanoseconds a lookup.
#[derive(Debug, Default)]
pub(crate) struct Speed(Vec<(Case, Structure, Summary)>);

impl Speed {
    /// Nanoseconds a lookup, if that was measured.
    pub(crate) fn get(&self, case: Case, structure: Structure) -> Option<Summary> {
        let mut found = self.0.iter().filter(|entry| entry.0 == case && entry.1 == structure);
        found.next().map(|entry| entry.2)
    }

    /// Measures all structures in one layout at one size.
    pub(crate) fn measure(&mut self, layout: Layout, count: usize, rounds: usize) -> Result<(), String> {
        let workload = Workload::new(layout, count);
        let contenders: Vec<(Structure, Box<dyn Contender>)> = Structure::ALL
            .into_iter()
            .filter_map(|structure| Some((structure, structure.build(&workload)?)))
            .collect();
        for family in Family::ALL {
            let common = workload.queries(family, 1);
            let mut entrants = Vec::new();
            for (structure, contender) in &contenders {
                let own = match contender.questions(family) {
                    Questions::None => continue,
                    Questions::Own(own) => Some(own),
                    Questions::Common => None,
                    Questions::Unchecked => {
                        entrants.push(Entrant::new(*structure, contender.as_ref(), None));
                        continue;
                    }
                };
                let entrant = Entrant::new(*structure, contender.as_ref(), own);
                entrant.check(entrant.own.as_ref().unwrap_or(&common), layout)?;
                entrants.push(entrant);
            }
            for _ in 0..rounds {
                for entrant in &mut entrants {
                    entrant.run(&common);
                }
            }
            for entrant in entrants {
                for (measure, times) in Measure::ALL.into_iter().zip(&entrant.times) {
                    let case = Case { layout, count, family, measure };
                    self.0.push((case, entrant.structure, times.summary()));
                }
            }
        }
        Ok(())
    }
}

/// A structure with its times.
struct Entrant<'c> {
    structure: Structure,
    contender: &'c dyn Contender,
    own: Option<Queries>,
    times: [Times; 2],
}

impl<'c> Entrant<'c> {
    fn new(structure: Structure, contender: &'c dyn Contender, own: Option<Queries>) -> Entrant<'c> {
        Entrant { structure, contender, own, times: Default::default() }
    }

    fn check(&self, queries: &Queries, layout: Layout) -> Result<(), String> {
        match self.contender.first_wrong(queries) {
            None => Ok(()),
            Some((address, answer, owner)) => Err(format!(
                "{}, {}: {address:#x} belongs to {owner}, the answer was {answer}",
                layout.name(),
                self.structure.name()
            )),
        }
    }

    /// One round of both measures, after a pass that warms the caches up. A pass is timed in short pieces, so that the
    /// median is of pieces in which nothing else used the processor.
    fn run(&mut self, common: &Queries) {
        let addresses = &self.own.as_ref().unwrap_or(common).addresses;
        self.contender.throughput(addresses);
        for piece in addresses.chunks(PIECE) {
            self.times[0].push(self.contender.latency(piece));
        }
        for piece in addresses.chunks(PIECE) {
            self.times[1].push(self.contender.throughput(piece));
        }
    }
}

//! All measurements of a run.

use std::time::Instant;

use crate::beside_writer::{self, BesideWriter};
use crate::contenders::Structure;
use crate::memory::{self, Footprint};
use crate::options::{Options, Part};
use crate::protection_cost::{self, ProtectionCost};
use crate::side_by_side;
use crate::speed::Speed;
use crate::thread_case::{self, ThreadCase};
use crate::updates::{self, Updates};
use crate::workload::Layout;

/// How many ranges there are.
pub(crate) const SIZES: [usize; 4] = [200, 1_500, 10_000, 30_000];
/// Where only one size is measured.
pub(crate) const LARGE: usize = 10_000;
/// The size of the memory table.
pub(crate) const LARGEST: usize = 30_000;

#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) thread_case: ThreadCase,
    pub(crate) speed: Speed,
    pub(crate) memory: Vec<(Layout, Structure, Footprint)>,
    /// By number of ranges, in the x86-64 layout.
    pub(crate) updates: Vec<(usize, Vec<Updates>)>,
    /// Nanoseconds that reading the clock adds to each of them.
    pub(crate) clock: f64,
    pub(crate) beside_writer: Vec<BesideWriter>,
    /// How many times as many lookups two threads do.
    pub(crate) two_readers: Vec<(Structure, f64)>,
    pub(crate) protection: Vec<ProtectionCost>,
}

impl Results {
    pub(crate) fn measure(options: &Options) -> Result<Results, String> {
        let start = Instant::now();
        let mut results =
            Results { quick: options.quick, rounds: options.scale(3, 21), ..Results::default() };
        if options.wants(Part::Thread) {
            eprintln!("the thread's case");
            results.thread_case = thread_case::measure(results.rounds)?;
        }
        if options.wants(Part::Speed) {
            results.measure_speed()?;
        }
        if options.wants(Part::Memory) {
            results.measure_memory()?;
        }
        if options.wants(Part::Updates) {
            results.measure_updates(options);
        }
        if options.wants(Part::Writer) {
            results.measure_readers(options);
        }
        if options.wants(Part::Protection) {
            eprintln!("protection");
            results.protection =
                protection_cost::measure(Layout::X86_64, LARGE, options.scale(2, results.rounds));
        }
        results.seconds = start.elapsed().as_secs_f64();
        Ok(results)
    }

    fn measure_speed(&mut self) -> Result<(), String> {
        for layout in Layout::ALL {
            for count in SIZES {
                eprintln!("speed: {}, {count} ranges", layout.name());
                self.speed.measure(layout, count, self.rounds)?;
            }
        }
        Ok(())
    }

    fn measure_memory(&mut self) -> Result<(), String> {
        for layout in Layout::ALL {
            eprintln!("memory: {}", layout.name());
            for structure in Structure::ALL.into_iter().filter(|structure| structure.has_memory_of_its_own())
            {
                self.memory.push((layout, structure, memory::measure(structure, layout, LARGEST)?));
            }
        }
        Ok(())
    }

    fn measure_updates(&mut self, options: &Options) {
        self.clock = updates::clock();
        for count in SIZES {
            eprintln!("updates: {count} ranges");
            self.updates.push((count, updates::measure(Layout::X86_64, count, options.scale(1, 7))));
        }
    }

    fn measure_readers(&mut self, options: &Options) {
        let rounds = options.scale(2, 8);
        for layout in [Layout::X86_64, Layout::SharedPages] {
            for structure in
                Structure::ALL.into_iter().filter(|structure| structure.may_be_written_beside_readers())
            {
                eprintln!("beside a writer: {}, {}", layout.name(), structure.name());
                let lookups = options.scale(1_000_000, structure.verified_lookups());
                self.beside_writer.extend(beside_writer::measure(structure, layout, LARGE, rounds, lookups));
            }
        }
        for structure in
            Structure::ALL.into_iter().filter(|structure| structure.may_be_written_beside_readers())
        {
            let ratio = side_by_side::two_readers(structure, Layout::X86_64, LARGE, rounds);
            self.two_readers.extend(ratio.map(|ratio| (structure, ratio)));
        }
    }
}

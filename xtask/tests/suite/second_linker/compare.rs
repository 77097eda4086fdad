//! The comparison.

use modmem::link::{LinkError, RelocationProblem};

use crate::second_linker::ld::{self, Binutils};
use crate::second_linker::module::{self, Numbers};
use crate::second_linker::ours::{Linked, Placed};
use crate::second_linker::probe::{Fate, Probe, SLOT, Scene, Setting};
use crate::second_linker::row::Beyond;
use crate::second_linker::target::Target;
use crate::second_linker::{ld_branches, ld_tables};

/// Compares all that there is to compare of a machine.
pub(crate) fn with_gnu_ld(target: &Target) {
    let binutils = Binutils::of(target);
    let limits = Probe::at_limits(target);
    let mut comparison = Comparison::new(target, &limits);
    comparison.every_number_has_a_row();
    comparison.every_row_is_probed_at_its_limits();
    if let Some(binutils) = &binutils {
        comparison.names_are_those_of_binutils(binutils);
        comparison.failures.extend(ld_tables::wrong_likenesses(target, binutils));
        comparison.failures.extend(ld_branches::wrong_limits(target, binutils));
        comparison.compare(binutils);
    }
    comparison.end();
    for row in target.rows.iter().filter(|row| row.linux != row.ld) {
        println!("{}: Linux takes {}, ld {}: {}", row.name, row.linux, row.ld, row.because);
    }
    let random = Probe::at_random(target);
    let mut comparison = Comparison::new(target, &random);
    if let Some(binutils) = &binutils {
        comparison.compare(binutils);
    }
    comparison.end();
}

/// What is compared, and what was found to differ.
struct Comparison<'t> {
    scene: Scene<'t>,
    probes: &'t [Probe<'t>],
    failures: Vec<String>,
}

impl<'t> Comparison<'t> {
    fn new(target: &'t Target, probes: &'t [Probe<'t>]) -> Comparison<'t> {
        let tables = (target.tables)(target.base, probes);
        let mut scene = Scene { target, section: 0, tables };
        let anywhere: Vec<Setting> = probes.iter().map(|probe| probe.setting(0, &scene)).collect();
        let file = module::file(target, probes, &anywhere, Numbers::Own);
        scene.section = Placed::new(target, &file).address;
        Comparison { scene, probes, failures: Vec::new() }
    }

    fn check(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(failure());
        }
    }

    fn compare(&mut self, binutils: &Binutils<'_>) {
        let target = self.scene.target;
        let harmless = self.settings(None);
        let file = module::file(target, self.probes, &harmless, Numbers::Own);
        let ours = Placed::new(target, &file).link(&harmless);
        let ours = ours.unwrap_or_else(|error| panic!("{}: {error}", target.name));
        let stubs = (target.stubs)(&ours);
        self.tables_lead_to_symbols(&ours, &stubs);
        let theirs = self.linked_by_ld(binutils, &stubs);
        self.limits_are_those_of_ld(&theirs);
        self.bytes_are_those_of_ld(ours.section(), &theirs.bytes);
        self.what_linux_refuses_is_refused();
    }

    /// All that the second linker says of the probes.
    fn linked_by_ld(&self, binutils: &Binutils<'_>, stubs: &[(u64, u64)]) -> ld::Linked {
        let (file, settings) = self.their_file(None, stubs);
        let mut linked = binutils.link(&file, self.scene.section, &settings);
        for probe in self.probes.iter().filter(|probe| probe.stops_ld()) {
            let (file, settings) = self.their_file(Some(probe.index), stubs);
            let refused = binutils.refused(&file, self.scene.section, &settings);
            linked.refused.extend(refused.get(&probe.offset));
        }
        linked
    }

    /// What the second linker is given: the probes, but of those that stop it only the one that is tried.
    fn their_file(&self, tried: Option<usize>, stubs: &[(u64, u64)]) -> (Vec<u8>, Vec<Setting>) {
        let is_tried = |probe: &Probe<'_>| !probe.stops_ld() || tried == Some(probe.index);
        let value = |probe: &Probe<'_>| if is_tried(probe) { probe.value } else { 0 };
        let settings: Vec<Setting> =
            self.probes.iter().map(|probe| probe.setting(value(probe), &self.scene)).collect();
        let file = module::file(self.scene.target, self.probes, &settings, Numbers::Like);
        let theirs = self.probes.iter().zip(settings).map(|(probe, setting)| {
            let stub = self.stub(probe, stubs);
            Setting { symbol: probe.like_symbol(setting, &self.scene, stub), ..setting }
        });
        (file, theirs.collect())
    }

    /// Settings that Linux takes, but for that of the probe that is tried.
    fn settings(&self, tried: Option<usize>) -> Vec<Setting> {
        let value =
            |probe: &Probe<'_>| if tried == Some(probe.index) { probe.value } else { probe.harmless() };
        self.probes.iter().map(|probe| probe.setting(value(probe), &self.scene)).collect()
    }

    /// What Linux keeps of a symbol for relocations that need a table.
    fn tables_lead_to_symbols(&mut self, ours: &Linked, stubs: &[(u64, u64)]) {
        for probe in self.probes {
            let symbol = probe.setting(probe.harmless(), &self.scene).symbol;
            let slot = self.scene.tables.slots[probe.index];
            if probe.row.has_entry() {
                let entry = ours.from(slot.entry).and_then(|bytes| bytes.first_chunk::<8>());
                let holds = entry.is_some_and(|entry| u64::from_be_bytes(*entry) == symbol);
                self.check(holds, || {
                    format!("{}: its entry is {entry:02x?}, not {symbol:#x}", probe.label())
                });
            }
            if probe.row.has_stub() {
                let holds = stubs.contains(&(slot.stub, symbol));
                self.check(holds, || format!("{}: its stub does not lead to {symbol:#x}", probe.label()));
            }
            if probe.fate() == Fate::ThroughStub {
                let is_there = self.stub(probe, stubs).is_some();
                self.check(is_there, || format!("{}: no stub leads there", probe.label()));
            }
        }
    }

    fn end(self) {
        let name = self.scene.target.name;
        // Of each relocation a few, so that others are seen too.
        let mut shown: Vec<&String> = Vec::new();
        for failure in &self.failures {
            let subject = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
            let like_it = shown.iter().filter(|other| subject(other) == subject(failure)).count();
            if like_it < 3 {
                shown.push(failure);
            }
        }
        let shown: String = shown.into_iter().map(|failure| format!("\n{failure}")).collect();
        assert!(self.failures.is_empty(), "{name}: {} differ:{shown}", self.failures.len());
        println!("{name}: {} relocation numbers, {} probes", self.scene.target.rows.len(), self.probes.len());
    }

    fn every_number_has_a_row(&mut self) {
        let target = self.scene.target;
        for kind in target.table.iter() {
            let row = target.rows.iter().find(|row| row.number == kind.number);
            let is_known = row.is_some_and(|row| row.name == kind.name);
            self.check(is_known, || format!("{} ({}) is not tested", kind.name, kind.number));
        }
        for row in &target.rows {
            self.check(target.table.get(row.number).is_some(), || format!("the table has no {}", row.name));
            let is_explained = (row.linux == row.ld) == row.because.is_empty();
            self.check(is_explained, || format!("{} differs without a reason", row.name));
        }
    }

    /// A number is nothing without values at both ends of its range and just beyond.
    fn every_row_is_probed_at_its_limits(&mut self) {
        for row in
            self.scene.target.rows.iter().filter(|row| self.scene.target.table.get(row.number).is_some())
        {
            let probes: Vec<&Probe<'_>> =
                self.probes.iter().filter(|probe| probe.row.number == row.number).collect();
            let is_probed = |value: i64, fate: Fate| {
                probes.iter().any(|probe| probe.value == value && probe.fate() == fate)
            };
            let beyond = |value| is_probed(value, Fate::Refused) || is_probed(value, Fate::ThroughStub);
            let mut complete = is_probed(0, Fate::Direct);
            if let Some([low, high]) = row.linux.ends(row.step) {
                complete &= is_probed(low, Fate::Direct) && is_probed(high, Fate::Direct);
                complete &= beyond(low - row.step) && beyond(high + row.step);
            }
            self.check(complete, || format!("{} is not probed at its limits", row.name));
        }
    }

    fn names_are_those_of_binutils(&mut self, binutils: &Binutils<'_>) {
        let target = self.scene.target;
        let names = binutils.names(&module::file(target, self.probes, &self.settings(None), Numbers::Own));
        assert_eq!(names.len(), self.probes.len(), "{}", target.name);
        for (probe, (offset, name)) in self.probes.iter().zip(&names) {
            assert_eq!(probe.offset, *offset, "{}", target.name);
            self.check(probe.row.name == name, || format!("{} is {name} to objdump", probe.row.name));
        }
    }

    /// The stub that a probe's branch must go through, if it must.
    fn stub(&self, probe: &Probe<'_>, stubs: &[(u64, u64)]) -> Option<u64> {
        let setting = probe.setting(probe.value, &self.scene);
        let leads_to = match (probe.fate(), probe.row.beyond) {
            (Fate::Direct | Fate::Refused, _) => return None,
            (Fate::ThroughStub, Beyond::Stub) => {
                self.scene.target.cut((setting.symbol as i64).wrapping_add(setting.addend))
            }
            (Fate::ThroughStub, _) => setting.symbol,
        };
        stubs.iter().find(|(_, target)| *target == leads_to).map(|(stub, _)| *stub)
    }

    fn limits_are_those_of_ld(&mut self, theirs: &ld::Linked) {
        for probe in self.probes {
            let takes = probe.fate() == Fate::ThroughStub || probe.row.ld.takes(probe.value);
            let refused = theirs.refused.contains(&probe.offset);
            let verb = if refused { "refuses" } else { "takes" };
            self.check(takes != refused, || format!("{}: ld {verb} it", probe.label()));
        }
    }

    fn bytes_are_those_of_ld(&mut self, ours: &[u8], theirs: &[u8]) {
        for probe in self.probes.iter().filter(|probe| probe.fate() != Fate::Refused) {
            let slot = probe.slot..probe.slot + SLOT;
            let (ours, theirs) = (&ours[slot.clone()], &theirs[slot]);
            self.check(ours == theirs, || {
                format!("{}: modmem has {ours:02x?}, ld {theirs:02x?}", probe.label())
            });
        }
    }

    /// Each value that does not fit alone, among others that do.
    fn what_linux_refuses_is_refused(&mut self) {
        let target = self.scene.target;
        let refused = self.probes.iter().enumerate().filter(|(_, probe)| probe.fate() == Fate::Refused);
        for (number, probe) in refused {
            let settings = self.settings(Some(number));
            let file = module::file(target, self.probes, &settings, Numbers::Own);
            let problem = match Placed::new(target, &file).link(&settings) {
                Ok(_) => "is not refused".to_owned(),
                Err(LinkError::Relocation(error)) => {
                    let section = format!(".rela{}", module::SECTION);
                    let is_this = *error.section.name == *section
                        && (error.kind, error.name) == (probe.row.number, Some(probe.row.name))
                        && (error.offset, &*error.symbol) == (probe.offset as u64, &*module::symbol(number))
                        && matches!(error.problem, RelocationProblem::Overflow { value, .. } if value == probe.value as u64);
                    if is_this { String::new() } else { error.to_string() }
                }
                Err(error) => error.to_string(),
            };
            self.check(problem.is_empty(), || format!("{}: {problem}", probe.label()));
        }
    }
}

//! The comparison.

use modmem::link::{LinkError, RelocationProblem};

use crate::ld::{Binutils, Linked};
use crate::module;
use crate::ours::Placed;
use crate::probe::{Probe, SLOT};
use crate::target::Target;

/// Compares all that there is to compare of a machine.
pub(crate) fn with_gnu_ld(target: &Target) {
    every_number_has_a_row(target);
    let probes = Probe::all(target);
    every_row_is_probed_at_its_limits(target, &probes);
    let Some(binutils) = Binutils::of(target) else { return };
    let file = module::file(target, &probes);
    names_are_those_of_binutils(target, &probes, &binutils.names(&file));
    let placed = Placed::new(target, &file);
    let address = placed.address;
    let theirs = binutils.link(
        &file,
        address,
        probes.iter().map(|probe| probe.symbol_for(probe.value, target, address)),
    );
    limits_are_those_of_ld(target, &probes, &theirs);
    bytes_are_those_of_ld(target, &probes, &placed, &theirs.bytes);
    what_linux_refuses_is_refused(target, &probes, &placed);
    println!("{}: {} relocation numbers, {} probes", target.name, target.rows.len(), probes.len());
}

fn every_number_has_a_row(target: &Target) {
    let name = target.name;
    for kind in target.table.iter() {
        let row = target.rows.iter().find(|row| row.number == kind.number);
        let row = row.unwrap_or_else(|| panic!("{name}: {} ({}) is not tested", kind.name, kind.number));
        assert_eq!(row.name, kind.name, "{name}: {}", kind.number);
    }
    for row in &target.rows {
        assert!(target.table.get(row.number).is_some(), "{name}: the table has no {}", row.name);
        assert_eq!(
            row.linux == row.ld,
            row.because.is_empty(),
            "{name}: {} differs without a reason",
            row.name
        );
    }
}

/// A number is nothing without values at both ends of its range and just beyond.
fn every_row_is_probed_at_its_limits(target: &Target, probes: &[Probe<'_>]) {
    for row in &target.rows {
        let is_probed = |value: i64| probes.iter().any(|p| p.row.number == row.number && p.value == value);
        assert!(is_probed(0), "{}: {}", target.name, row.name);
        for (end, outward) in
            row.linux.ends(row.step).into_iter().flat_map(|[low, high]| [(low, -1), (high, 1)])
        {
            assert!(is_probed(end) && is_probed(end + outward * row.step), "{}: {}", target.name, row.name);
            assert!(
                row.linux.takes(end) && !row.linux.takes(end + outward * row.step),
                "{}: {}",
                target.name,
                row.name
            );
        }
    }
}

fn names_are_those_of_binutils(target: &Target, probes: &[Probe<'_>], names: &[(usize, String)]) {
    assert_eq!(names.len(), probes.len(), "{}", target.name);
    for (probe, (offset, name)) in probes.iter().zip(names) {
        assert_eq!((probe.offset, probe.row.name), (*offset, name.as_str()), "{}", target.name);
    }
}

fn limits_are_those_of_ld(target: &Target, probes: &[Probe<'_>], theirs: &Linked) {
    for probe in probes {
        let refused = theirs.refused.contains(&probe.offset);
        assert_eq!(probe.row.ld.takes(probe.value), !refused, "{}: ld: {}", target.name, probe.label());
    }
}

fn bytes_are_those_of_ld(target: &Target, probes: &[Probe<'_>], placed: &Placed<'_>, theirs: &[u8]) {
    let ours =
        placed.link(probes.iter().map(|probe| probe.symbol_for(harmless(probe), target, placed.address)));
    let ours = ours.unwrap_or_else(|error| panic!("{}: {error}", target.name));
    assert_eq!(ours.len(), theirs.len(), "{}", target.name);
    for probe in probes.iter().filter(|probe| probe.is_taken()) {
        let slot = probe.slot..probe.slot + SLOT;
        assert_eq!(ours[slot.clone()], theirs[slot], "{}: {}", target.name, probe.label());
    }
}

/// The probe's value if Linux takes it, and one that it takes for sure if not.
fn harmless(probe: &Probe<'_>) -> i64 {
    if probe.is_taken() { probe.value } else { 0 }
}

/// Each value that is too large alone, among others that fit.
fn what_linux_refuses_is_refused(target: &Target, probes: &[Probe<'_>], placed: &Placed<'_>) {
    for (number, probe) in probes.iter().enumerate().filter(|(_, probe)| !probe.is_taken()) {
        let values = probes.iter().enumerate().map(|(other, probe)| {
            let value = if other == number { probe.value } else { harmless(probe) };
            probe.symbol_for(value, target, placed.address)
        });
        let label = format!("{}: {}", target.name, probe.label());
        let Err(LinkError::Relocation(error)) = placed.link(values) else { panic!("{label} is not refused") };
        assert_eq!(&*error.section.name, format!(".rela{}", module::SECTION), "{label}");
        assert_eq!((error.kind, error.name), (probe.row.number, Some(probe.row.name)), "{label}");
        assert_eq!(
            (error.offset, &*error.symbol),
            (probe.offset as u64, &*module::symbol(number)),
            "{label}"
        );
        let RelocationProblem::Overflow { value, .. } = error.problem else { panic!("{label}: {error}") };
        assert_eq!(value, probe.value as u64, "{label}");
    }
}

//! Tampering with recorded kernels: every changed byte of code and read-only data is found, and nothing else is.

use xtask::tamper::{Change, Dice, Victim, unexplained};

const CHANGES: usize = 10_000;
const BATCHES: usize = 20;
/// Changes of one batch are at least that far from each other, so that each is found for itself.
const APART: u64 = 32;

fn every_single_byte_is_found(name: &str) {
    let blamed = found_in_batches(name, BATCHES);
    assert!(blamed.is_empty(), "{name}: not changed: {blamed:#x?}");
}

/// The same with fewer changes at once, for recordings of few modules: no more places than a report keeps. Gives what was
/// blamed for changes elsewhere: where two sites alone speak for something, nobody knows which one of them was changed.
fn found_in_batches(name: &str, batches: usize) -> Vec<modmem::verify::Unexplained> {
    let mut victim = Victim::from_environment(name);
    let total: u64 = victim.memories.iter().map(|(_, _, range)| range.end - range.start).sum();
    let mut dice = Dice(0x5eed);
    let (mut missed, mut blamed) = (Vec::new(), Vec::new());
    for _ in 0..batches {
        let mut changes: Vec<Change> = Vec::new();
        while changes.len() < CHANGES / batches {
            let mut offset = dice.below(total);
            let address = victim.memories.iter().find_map(|(_, _, range)| {
                let length = range.end - range.start;
                let found = (offset < length).then_some(range.start + offset);
                offset = offset.wrapping_sub(length);
                found
            });
            let address = address.expect("an address");
            let is_far = |change: &Change| change.address.abs_diff(address) >= APART;
            if changes.iter().all(is_far) {
                let byte = victim.bytes(address, 1)[0] ^ (1 + dice.below(255) as u8);
                changes.push(Change::new(address, [byte]));
            }
        }
        let verification = victim.with(&changes);
        let spans = unexplained(&verification);
        let within = |span: &modmem::verify::Unexplained, address: u64| {
            (span.address.0..span.address.0 + span.found.len() as u64).contains(&address)
        };
        for change in &changes {
            if !spans.iter().any(|span| within(span, change.address)) {
                missed.push((change.clone(), victim.bytes(change.address, 1)[0]));
            }
        }
        for span in spans {
            if !changes.iter().any(|change| within(span, change.address)) {
                blamed.push(span.clone());
            }
        }
    }
    println!(
        "{name}: {} of {CHANGES} changes missed, {} spans blamed for others'",
        missed.len(),
        blamed.len()
    );
    assert!(missed.is_empty(), "{name}: not found: {missed:#x?}");
    blamed
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_single_byte_changed_in_linux_6_1_is_found() {
    every_single_byte_is_found("amd64-6.1");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_single_byte_changed_in_linux_6_12_is_found() {
    every_single_byte_is_found("amd64-6.12");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_single_byte_changed_in_linux_7_2_is_found() {
    every_single_byte_is_found("amd64-7.2");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_single_byte_changed_in_linux_6_12_on_32_bit_powerpc_is_found() {
    every_single_byte_is_found("ppc32-6.12");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_single_byte_changed_in_linux_6_12_on_s390x_is_found() {
    every_single_byte_is_found("s390x-6.12");
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn every_single_byte_changed_in_linux_6_12_on_arm64_is_found() {
    every_single_byte_is_found("arm64-6.12");
}

#[test]
#[cfg_attr(not(alarms), ignore = "there are no recordings of false alarms beside MODMEM_ORACLE")]
fn every_single_byte_changed_where_there_was_a_false_alarm_is_found() {
    // On s390x one byte turns a function's entry into a branch to the tracer's trampoline, as the kernel does.
    for name in ["endbr-6.17", "livepatch-6.12", "stufffull-6.12"] {
        found_in_batches(&format!("../fresh/{name}"), 5 * BATCHES);
    }
}

//! CPU features: what the kernel's own words say, and what sites that depend on them show.

use super::Subject;
use super::insn::Code;
use super::looks_like;
use crate::address::RunAddr;
use crate::name::Name;
use crate::verify::Guest;
use crate::verify::choice;
use crate::verify::evidence::{Evidence, Variable};
use crate::verify::twin::Standing;

/// Words of features and bugs in `boot_cpu_data` (NCAPINTS + NBUGINTS; 6.1 to 7.2).
pub(super) const WORDS: usize = 24;

pub(super) const RETPOLINE: u16 = 11 * 32 + 12;
pub(super) const RETPOLINE_LFENCE: u16 = 11 * 32 + 13;
pub(super) const RETHUNK: u16 = 11 * 32 + 14;
pub(super) const CALL_DEPTH: u16 = 11 * 32 + 19;
/// X86_FEATURE_ALWAYS
const ALWAYS: u16 = 3 * 32 + 21;

/// Vendor strings of x86 processors that Linux knows; one follows the feature words in `struct cpuinfo_x86`.
const VENDORS: &[&[u8; 12]] =
    &[b"GenuineIntel", b"AuthenticAMD", b"HygonGenuine", b"CentaurHauls", b"  Shanghai  ", b"GenuineTMx86"];

/// The kernel's own words about the CPU, from `boot_cpu_data`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuWords([u32; WORDS]);

impl CpuWords {
    /// Reads them from the guest, if its memory has them.
    pub(crate) fn read(guest: &dyn Guest) -> Option<CpuWords> {
        const LENGTH: usize = 192;
        let address = RunAddr(guest.kernel_symbol(Name(b"boot_cpu_data"))?);
        let bytes = guest.bytes(address, LENGTH)?;
        let is_vendor = |at: &usize| {
            bytes.get(*at..*at + 12).is_some_and(|text| VENDORS.iter().any(|vendor| text == *vendor))
        };
        let vendor = (WORDS * 4..LENGTH - 12).step_by(4).find(is_vendor)?;
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes[vendor - WORDS * 4..vendor].chunks_exact(4)) {
            *word = bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        }
        let words = CpuWords(words);
        // Somewhere else than we think: better nothing than nonsense.
        words.has(ALWAYS).then_some(words)
    }

    fn has(&self, feature: u16) -> bool {
        self.0.get(usize::from(feature / 32)).is_some_and(|word| word >> (feature % 32) & 1 != 0)
    }
}

/// A choice of values for a few features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice<'f> {
    features: &'f [u16],
    bits: u32,
}

impl Choice<'_> {
    pub(super) fn has(&self, feature: u16) -> bool {
        self.features.iter().position(|&known| known == feature).is_some_and(|at| self.bits >> at & 1 != 0)
    }
}

/// Learns what the kernel's words say of a feature, once.
fn ask(evidence: &mut Evidence, words: Option<&CpuWords>, feature: u16) {
    let variable = Variable::Feature(feature);
    if !evidence.knows(variable) {
        let certain =
            if feature == ALWAYS { Some(1) } else { words.map(|words| u64::from(words.has(feature))) };
        evidence.pin(variable, certain);
    }
}

/// The code at `address` as it must be, where its form depends on `features`; `build` makes the form for a choice of
/// them. What is found there speaks for the features that nothing else tells.
pub(super) fn decide(
    subject: &mut Subject<'_, '_>,
    address: RunAddr,
    features: &[u16],
    mut build: impl FnMut(Choice<'_>) -> Code,
) -> (Code, Standing) {
    let features = &features[..features.len().min(choice::MOST)];
    let mut variables = [Variable::Feature(0); choice::MOST];
    for (variable, &feature) in variables.iter_mut().zip(features) {
        ask(subject.evidence, subject.kernel.words.as_ref(), feature);
        *variable = Variable::Feature(feature);
    }
    let variables = &variables[..features.len()];
    choice::decide(subject, address, variables, |bits| build(Choice { features, bits }), looks_like)
}

/// Whether a feature is on, as far as is known, for rules that cannot ask a single site.
pub(super) fn leaning(subject: &mut Subject<'_, '_>, feature: u16) -> bool {
    ask(subject.evidence, subject.kernel.words.as_ref(), feature);
    subject.evidence.leaning(Variable::Feature(feature)) == Some(1)
}

//! CPU features: what the kernel's own words say, and what sites that depend on them show.

use super::Subject;
use super::insn::Code;
use super::looks_like;
use super::nops::{self, Nops};
use crate::address::RunAddr;
use crate::arch::x86_64::words::BOOT_CPU_DATA;
use crate::finalize::Standing;
use crate::finalize::choice;
use crate::finalize::{State, Variable};
use crate::guest::Guest;

/// Words of features and bugs in `boot_cpu_data` (NCAPINTS + NBUGINTS, to a multiple of two): 24 from 6.1 to 7.2, 26 in
/// 5.10 with what was ported back to it.
const COUNTS: [usize; 5] = [20, 22, 24, 26, 28];
const MOST_WORDS: usize = 28;
/// Features that every x86-64 CPU with Linux has: in words 0, 1 and 3
/// (arch/x86/include/asm/required-features.h; X86_FEATURE_ALWAYS).
const REQUIRED: [(usize, u32); 3] = [(0, 0x0700_0161), (1, 1 << 29), (3, 1 << 21)];

pub(super) const RETPOLINE: u16 = 11 * 32 + 12;
pub(super) const RETPOLINE_LFENCE: u16 = 11 * 32 + 13;
pub(super) const RETHUNK: u16 = 11 * 32 + 14;
pub(super) const CALL_DEPTH: u16 = 11 * 32 + 19;
/// X86_FEATURE_ALWAYS
const ALWAYS: u16 = 3 * 32 + 21;

/// X86_FEATURE_NOPL
const NOPL: u16 = 3 * 32 + 20;

/// Vendor strings of x86 processors that Linux knows; one follows the feature words in `struct cpuinfo_x86`.
const VENDORS: &[&[u8; 12]] =
    &[b"GenuineIntel", b"AuthenticAMD", b"HygonGenuine", b"CentaurHauls", b"  Shanghai  ", b"GenuineTMx86"];

/// The kernel's own words about the CPU, from `boot_cpu_data`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuWords {
    words: [u32; MOST_WORDS],
    vendor: [u8; 12],
    family: u8,
    model: u8,
}

impl CpuWords {
    /// Reads them from the guest, if its memory has them.
    pub(crate) fn read(guest: &dyn Guest) -> Option<CpuWords> {
        const LENGTH: usize = 192;
        let bytes = BOOT_CPU_DATA.bytes(guest, LENGTH)?;
        let is_vendor = |at: &usize| {
            bytes.get(*at..*at + 12).is_some_and(|text| VENDORS.iter().any(|vendor| text == *vendor))
        };
        let vendor = (COUNTS[0] * 4..LENGTH - 12).step_by(4).find(is_vendor)?;
        let words = |count: usize| {
            let mut words = [0; MOST_WORDS];
            let bytes = bytes.get(vendor.checked_sub(count * 4)?..vendor)?;
            for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
            }
            REQUIRED.iter().all(|&(at, bits)| words[at] & bits == bits).then_some(words)
        };
        // None or several: somewhere else than we think, and better nothing than nonsense.
        let mut fitting = COUNTS.into_iter().filter_map(words);
        let (words, other) = (fitting.next()?, fitting.next());
        let vendor = *bytes[vendor..].first_chunk()?;
        other.is_none().then_some(CpuWords { words, vendor, family: bytes[0], model: bytes[2] })
    }

    fn has(&self, feature: u16) -> bool {
        self.words.get(usize::from(feature / 32)).is_some_and(|word| word >> (feature % 32) & 1 != 0)
    }

    /// The NOPs that kernels before 5.13 found best for the CPU (arch/x86/kernel/alternative.c:arch_init_ideal_nops).
    pub(super) fn ideal_nops(&self) -> &'static Nops {
        let slow_nopl = [0x1c, 0x26, 0x27];
        let is_p6 = match &self.vendor {
            b"GenuineIntel" if self.family == 6 && (0xf..0x30).contains(&self.model) => {
                slow_nopl.contains(&self.model) && self.has(NOPL)
            }
            b"GenuineIntel" => self.has(NOPL),
            b"HygonGenuine" => true,
            b"AuthenticAMD" => self.family > 0xf,
            _ => false,
        };
        if is_p6 { &nops::P6 } else { &nops::K8 }
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
fn ask(state: &mut dyn State, words: Option<&CpuWords>, feature: u16) {
    let variable = Variable::Feature(feature);
    if !state.knows(variable) {
        let certain =
            if feature == ALWAYS { Some(1) } else { words.map(|words| u64::from(words.has(feature))) };
        state.pin(variable, certain);
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
        ask(subject.state, subject.kernel.words.as_ref(), feature);
        *variable = Variable::Feature(feature);
    }
    let variables = &variables[..features.len()];
    choice::decide(subject, address, variables, |bits| build(Choice { features, bits }), looks_like)
}

/// Whether a feature is on, as far as is known, for rules that cannot ask a single site.
pub(super) fn leaning(subject: &mut Subject<'_, '_>, feature: u16) -> bool {
    ask(subject.state, subject.kernel.words.as_ref(), feature);
    subject.state.leaning(Variable::Feature(feature)) == Some(1)
}

//! Recorded kernels with a few bytes of their memory changed: what a verifier must find.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use modmem::Image;
use modmem::layout::MemoryKind;
use modmem::verify::{ModuleReport, Unexplained};
use modmem_linux::snapshot::{MemoryRecord, MemoryRecords, Snapshot};
use modmem_linux::verify::{Options, Outcome, Verification, verify};

use crate::oracle::folder;

/// A change to a recorded kernel's memory: bytes from an address on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub address: u64,
    /// What is put there.
    pub bytes: Vec<u8>,
}

impl Change {
    /// These bytes at that address.
    pub fn new(address: u64, bytes: impl Into<Vec<u8>>) -> Change {
        Change { address, bytes: bytes.into() }
    }

    /// The addresses that it covers.
    pub fn range(&self) -> Range<u64> {
        self.address..self.address + self.bytes.len() as u64
    }
}

/// A recorded kernel, as it was and as somebody might have changed it.
#[derive(Debug)]
pub struct Victim {
    /// What was recorded. Parts may be taken out or changed; [`Victim::with`] puts the memory back.
    pub snapshot: Snapshot,
    /// The modules' files.
    pub files: BTreeMap<String, Vec<u8>>,
    pristine: MemoryRecords,
    /// Text and read-only data of all modules: whose, which, and where.
    pub memories: Vec<(String, MemoryKind, Range<u64>)>,
}

impl Victim {
    /// The recording of that name below `MODMEM_ORACLE`.
    ///
    /// # Panics
    /// As [`Victim::read`], and where there are no recordings.
    pub fn from_environment(name: &str) -> Victim {
        Victim::read(&folder(name))
    }

    /// Reads a recording.
    ///
    /// # Panics
    /// It is not whole, or not clean before anybody has changed it.
    pub fn read(folder: &Path) -> Victim {
        let snapshot = Snapshot::open(folder).unwrap_or_else(|error| panic!("{error}"));
        let files = snapshot.module_files.as_ref().expect("module files").read();
        let files = files.unwrap_or_else(|error| panic!("{error}"));
        let pristine = snapshot.memory.clone();
        let mut victim = Victim { snapshot, files, pristine, memories: Vec::new() };
        let verification = victim.verify();
        assert!(verification.is_clean(), "{}: not clean as it was recorded", folder.display());
        for report in reports(&verification) {
            for (kind, memory) in report.memories.iter() {
                if let (MemoryKind::Text | MemoryKind::RoData, Some(memory)) = (kind, memory) {
                    let start = memory.address.0;
                    victim.memories.push((report.name.clone(), kind, start..start + memory.tally.total));
                }
            }
        }
        victim
    }

    /// The recorded bytes from an address on.
    ///
    /// # Panics
    /// They were not recorded.
    pub fn bytes(&self, address: u64, length: usize) -> &[u8] {
        self.pristine.bytes(address, length).unwrap_or_else(|| panic!("{length} bytes at {address:#x}"))
    }

    /// Whether that was recorded.
    pub fn has(&self, address: u64, length: usize) -> bool {
        self.pristine.bytes(address, length).is_some()
    }

    /// Verifies as it is.
    pub fn verify(&self) -> Verification {
        let mut files = |name: &str| Ok(self.files.get(name).cloned());
        verify(&self.snapshot, &Options::default(), &mut files).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Verifies with these changes, alone.
    pub fn with(&mut self, changes: &[Change]) -> Verification {
        let mut records: Vec<MemoryRecord> = self.pristine.records().to_vec();
        for change in changes {
            let at = records.partition_point(|record| record.address <= change.address) - 1;
            let start = (change.address - records[at].address) as usize;
            records[at].bytes[start..start + change.bytes.len()].copy_from_slice(&change.bytes);
        }
        let memory = MemoryRecords::new(records).expect("the same records");
        self.snapshot.memory = memory.with_scanned(self.pristine.scanned().to_vec());
        let verification = self.verify();
        self.snapshot.memory = self.pristine.clone();
        verification
    }

    /// Address and size of a module's section.
    pub fn section(&self, module: &str, name: &str) -> Option<Range<u64>> {
        let image = Image::parse(self.files.get(module)?).expect("a module");
        let size = image.section(name)?.size();
        let start = self.snapshot.module(module)?.section(name)?;
        Some(start..start + size)
    }

    /// The names of all modules, the oldest first.
    pub fn modules(&self) -> Vec<String> {
        self.snapshot.modules.iter().rev().map(|module| module.name.clone()).collect()
    }

    /// The entries of a table in all modules that have it: whose, and where.
    pub fn entries(&self, table: &str, size: u64) -> Vec<(String, u64)> {
        let mut entries = Vec::new();
        for module in self.modules() {
            let Some(range) = self.section(&module, table) else { continue };
            let addresses = range.clone().step_by(size as usize);
            entries.extend(addresses.filter(|at| at + size <= range.end).map(|at| (module.clone(), at)));
        }
        entries
    }

    /// What a distance of 32 bits leads to, counted from where it stands.
    pub fn relative(&self, at: u64) -> u64 {
        at.wrapping_add(i64::from(i32::from_le_bytes(self.bytes(at, 4).try_into().expect("4 bytes"))) as u64)
    }

    /// The word of 64 bits at an address.
    pub fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().expect("8 bytes"))
    }

    /// The places that tables of distances of 32 bits name, of code that is still there.
    pub fn sites(&self, table: &str) -> Vec<(String, u64)> {
        let sites = self.entries(table, 4).into_iter().map(|(module, at)| (module, self.relative(at)));
        sites.filter(|(module, site)| self.is_text(module, *site)).collect()
    }

    /// Whether an address is in a module's text.
    pub fn is_text(&self, module: &str, address: u64) -> bool {
        self.memories.iter().any(|(name, kind, range)| {
            name == module && *kind == MemoryKind::Text && range.contains(&address)
        })
    }
}

/// The reports of all modules.
///
/// # Panics
/// One was not compared.
pub fn reports(verification: &Verification) -> impl Iterator<Item = &ModuleReport> {
    verification.modules.iter().map(|checked| match &checked.outcome {
        Outcome::Compared(report) => &**report,
        outcome => panic!("{}: {outcome:?}", checked.name),
    })
}

/// All that is unexplained.
///
/// # Panics
/// There was so much that not all of it was kept.
pub fn unexplained(verification: &Verification) -> Vec<&Unexplained> {
    let mut all = Vec::new();
    for report in reports(verification) {
        assert_eq!(report.more_unexplained, 0, "{}: too many spans at once", report.name);
        all.extend(&report.unexplained);
    }
    all
}

/// Numbers that look random and are the same each time (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.roll()) * u128::from(bound)) >> 64) as u64
    }
}

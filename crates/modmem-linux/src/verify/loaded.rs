//! What loading makes of a snapshot's modules, beside what the snapshot has: the proof that `load` gives the bytes of a
//! running kernel.

use modmem::finalize::{Stated, Variable};
use modmem::verify::{Verifier, VerifyError};
use modmem::{Image, RunAddr};

use super::{Checked, FileSource, Options, Outcome, SnapshotGuest, guest_module, is_live, machine, sections};
use crate::snapshot::{ModuleRecord, Snapshot};
use crate::{Error, memory};

/// The state of a snapshot's machine, as the kernel's variables have it; nothing is stated beside.
#[derive(Debug)]
struct AsKernelSays;

impl Stated for AsKernelSays {
    fn value(&self, _: Variable) -> Option<u64> {
        None
    }
}

/// Lays out, links and finalizes each module of a snapshot where the snapshot has it, in the state that the kernel's own
/// variables there tell, and compares the result. No rule looks at the module's bytes in the snapshot.
///
/// # Errors
/// The kernel is none that can be verified, or a file cannot be read.
pub fn compare_loaded(
    snapshot: &Snapshot,
    options: &Options,
    files: &mut FileSource<'_>,
) -> Result<Vec<Checked>, Error> {
    memory::seed_hashes();
    let records: Vec<&ModuleRecord> = snapshot.modules.iter().rev().collect();
    let profile = machine::of(snapshot.profile()?, &records, files)?;
    let guest = SnapshotGuest::new(snapshot).with_exports(options.exports.as_ref());
    let wrong = |error: VerifyError| Error::malformed("the snapshot", error.to_string());
    let verifier = Verifier::new(&guest, profile, Vec::<RunAddr>::new()).map_err(wrong)?;
    let mut verifier = verifier.with_most_memory(memory::of_module());
    let mut modules = Vec::new();
    for record in records {
        let outcome = match files(&record.name)? {
            None => Outcome::NoFile,
            Some(file) => compare(&mut verifier, record, &file),
        };
        modules.push(Checked { name: record.name.clone(), outcome });
    }
    Ok(modules)
}

fn compare(verifier: &mut Verifier<'_>, record: &ModuleRecord, file: &[u8]) -> Outcome {
    let image = match Image::parse(file) {
        Ok(image) => image,
        Err(error) => return Outcome::NotComparable(format!("its file: {error}")),
    };
    let sections = sections(record);
    let module = guest_module(record, &sections, is_live(record));
    match verifier.check_loaded(&image, &module, &AsKernelSays) {
        Ok(report) => Outcome::Compared(Box::new(report)),
        Err(error) => Outcome::NotComparable(error.to_string()),
    }
}

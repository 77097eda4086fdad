//! What loading makes of a snapshot's modules, beside what the snapshot has: the proof that `load` gives the bytes of a
//! running kernel.

use modmem::finalize::{LiveText, Stated};
use modmem::verify::{ModuleReport, Verifier, VerifyError};
use modmem::{Image, RunAddr};

use super::{
    Checked, FileSource, Options, Outcome, SnapshotGuest, Verification, guest_module, is_live, machine,
    sections,
};
use crate::machine::SnapshotMachine;
use crate::snapshot::{ModuleRecord, Snapshot};
use crate::{Error, memory};

/// Lays out, links and finalizes each module of a snapshot where the snapshot has it, in the state that the kernel's own
/// variables there tell, and compares the result. No rule looks at the module's bytes in the snapshot. Who traces functions,
/// where pages lie that the kernel made for modules, and variables that the snapshot's memory does not have, are what
/// `verification` of the same snapshot says.
///
/// # Errors
/// The kernel is none that can be verified, or a file cannot be read.
pub fn compare_loaded(
    snapshot: &Snapshot,
    verification: &Verification,
    options: &Options,
    files: &mut FileSource<'_>,
) -> Result<Vec<Checked>, Error> {
    let mut modules = Vec::new();
    load_all(snapshot, verification, options, files, &mut |record, loaded| {
        let outcome = match loaded {
            None => Outcome::NoFile,
            Some(Ok((report, _))) => Outcome::Compared(Box::new(report)),
            Some(Err(why)) => Outcome::NotComparable(why),
        };
        modules.push(Checked { name: record.name.clone(), outcome });
    })?;
    Ok(modules)
}

/// What the kernel of a snapshot changes in the text of each of its modules while it runs: for who watches it. Modules without a
/// file, and those that cannot be loaded, have none.
///
/// # Errors
/// The kernel is none that can be verified, or a file cannot be read.
pub fn live_text(
    snapshot: &Snapshot,
    verification: &Verification,
    options: &Options,
    files: &mut FileSource<'_>,
) -> Result<Vec<(String, LiveText)>, Error> {
    let mut modules = Vec::new();
    load_all(snapshot, verification, options, files, &mut |record, loaded| {
        if let Some(Ok((_, live))) = loaded {
            modules.push((record.name.clone(), live));
        }
    })?;
    Ok(modules)
}

/// What became of a module that was loaded once more; `None` if it has no file.
type Loaded = Option<Result<(ModuleReport, LiveText), String>>;

fn load_all(
    snapshot: &Snapshot,
    verification: &Verification,
    options: &Options,
    files: &mut FileSource<'_>,
    tell: &mut dyn FnMut(&ModuleRecord, Loaded),
) -> Result<(), Error> {
    memory::seed_hashes();
    let records: Vec<&ModuleRecord> = snapshot.modules.iter().rev().collect();
    let profile = machine::of(snapshot.profile()?, &records, files)?;
    let guest = SnapshotGuest::new(snapshot).with_exports(options.exports.as_ref());
    let wrong = |error: VerifyError| Error::malformed("the snapshot", error.to_string());
    let verifier = Verifier::new(&guest, profile, Vec::<RunAddr>::new()).map_err(wrong)?;
    let mut verifier = verifier.with_most_memory(memory::of_module());
    let machine = SnapshotMachine::of(verification);
    for record in records {
        let file = files(&record.name)?;
        let stated = machine.of_module(&record.name);
        tell(record, file.map(|file| load(&mut verifier, record, &file, &stated)));
    }
    Ok(())
}

fn load(
    verifier: &mut Verifier<'_>,
    record: &ModuleRecord,
    file: &[u8],
    stated: &dyn Stated,
) -> Result<(ModuleReport, LiveText), String> {
    let image = Image::parse(file).map_err(|error| format!("its file: {error}"))?;
    let sections = sections(record);
    let module = guest_module(record, &sections, is_live(record));
    verifier.check_loaded(&image, &module, stated).map_err(|error| error.to_string())
}

//! `modmem snapshot`: write the module memory of this machine, and what tells about it, to a file.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Result, bail};
use modmem_linux::snapshot::Snapshot;
use modmem_linux::{NewFile, Output};

use crate::args::SnapshotArgs;
use crate::output::{self, harmless};
use crate::rights;

pub(crate) fn run(arguments: &SnapshotArgs) -> Result<ExitCode> {
    if let Some(name) = rights::confined_output() {
        // What is written goes where the process with the rights wants it.
        rights::confine(false, None)?;
        return take(arguments, &name, Output::Stdout);
    }
    let path = &arguments.output;
    if Output::is_stdout(path) && std::io::stdout().is_terminal() {
        bail!("a snapshot is no text for a terminal; give -o FILE, or send standard output elsewhere");
    }
    let output = Output::open(path, arguments.write.options(true))?;
    if !rights::must_split(arguments.rights.keep_rights) {
        return take(arguments, path, output);
    }
    let (file, new): (Option<Stdio>, Option<NewFile>) = match output {
        Output::Stdout => (None, None),
        Output::Special(file, _) => (Some(file.into()), None),
        Output::File(mut new) => (Some(new.file().try_clone()?.into()), Some(new)),
    };
    rights::split(&arguments.root, path, file, new)
}

fn take(arguments: &SnapshotArgs, path: &Path, output: Output) -> Result<ExitCode> {
    let files = rights::machine_files(&arguments.root)?;
    let snapshot = Snapshot::capture_from(&files)?;
    output.write(|out| snapshot.write_to(out))?;
    files.done()?;
    for missing in &snapshot.missing {
        output::tell(&format!("missing: {}", harmless(missing)));
    }
    if let Some(contradiction) = snapshot.contradiction() {
        output::tell(&format!("note: {}", harmless(&contradiction)));
    }
    let name = if Output::is_stdout(path) { "standard output".into() } else { path.display().to_string() };
    output::tell(&format!(
        "{}: {}, {} modules, {} symbols, {} of memory",
        harmless(&name),
        harmless(&snapshot.release),
        output::grouped(snapshot.modules.len() as u64),
        output::grouped(snapshot.symbols.len() as u64),
        output::bytes(snapshot.memory.len()),
    ));
    let lacks = snapshot.lacks();
    if !lacks.is_empty() {
        bail!("{} has no {}: verify can do nothing with it", name, lacks.join(" and no "));
    }
    Ok(ExitCode::SUCCESS)
}

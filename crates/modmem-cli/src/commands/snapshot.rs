//! `modmem snapshot`: write the module memory of this machine, and what tells about it, to a file.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::{Result, bail};
use modmem_linux::snapshot::Snapshot;

use crate::args::SnapshotArgs;
use crate::output::{self, harmless};

pub(crate) fn run(arguments: &SnapshotArgs) -> Result<()> {
    let to_stdout = arguments.output == Path::new("-");
    if to_stdout && std::io::stdout().is_terminal() {
        bail!("a snapshot is no text for a terminal; give -o FILE, or send standard output elsewhere");
    }
    let snapshot = Snapshot::capture(&arguments.root)?;
    if to_stdout {
        let mut out = std::io::stdout().lock();
        snapshot.write_to(&mut out)?;
        out.flush()?;
    } else {
        snapshot.write(&arguments.output)?;
    }
    for missing in &snapshot.missing {
        output::tell(&format!("missing: {}", harmless(missing)));
    }
    if let Some(contradiction) = snapshot.contradiction() {
        output::tell(&format!("note: {}", harmless(&contradiction)));
    }
    let name = if to_stdout { "standard output".into() } else { arguments.output.display().to_string() };
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
    Ok(())
}

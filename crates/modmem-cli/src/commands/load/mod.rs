//! `modmem load`: load modules and what they need, and show where each memory lies.

mod report;
mod text;
mod view;
mod write;

use std::io::{BufWriter, Write as _};

use anyhow::Result;

use crate::args::LoadArgs;
use crate::output::{self, json};
use crate::session::Session;
use report::Report;

pub(crate) fn run(arguments: &LoadArgs) -> Result<()> {
    let folder = arguments.write.as_deref();
    let options = arguments.writing.options(false);
    let mut folder = folder.map(|path| write::Folder::create(path, options)).transpose()?;
    let session = Session::load_on(
        arguments.machine(),
        &arguments.modules,
        &arguments.kernel,
        &arguments.space,
        &mut |module, _, file| match &mut folder {
            Some(folder) => folder.module(module, file),
            None => Ok(()),
        },
    )?;
    if let Some(folder) = folder {
        folder.finish(&session)?;
    }
    if let Some(view) = arguments.view {
        let mut out = output::Harmless(BufWriter::new(std::io::stdout().lock()));
        view::write(&session.modules, view, &mut out)?;
        out.flush()?;
        session.remarks().iter().for_each(|remark| output::tell(&output::harmless(remark)));
        return session.finish();
    }
    let report = Report::of(&session, arguments.verbose);
    if arguments.json {
        json::print("load", &report)?;
    } else {
        let text = match output::is_wide_terminal() {
            true => text::tables(&report, arguments.verbose),
            false => text::lines(&report, arguments.verbose),
        };
        output::print(&text)?;
    }
    session.finish()
}

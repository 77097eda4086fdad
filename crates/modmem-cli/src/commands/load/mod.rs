//! `modmem load`: load modules and what they need, and show where each memory lies.

mod report;
mod text;
mod view;

use std::io::{BufWriter, Write as _};

use anyhow::Result;

use crate::args::LoadArgs;
use crate::output::{self, json};
use crate::session::Session;
use report::Report;

pub(crate) fn run(arguments: &LoadArgs) -> Result<()> {
    let session = Session::load(&arguments.modules, &arguments.kernel, &arguments.space)?;
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
            true => text::tables(&report),
            false => text::lines(&report),
        };
        output::print(&text)?;
    }
    session.finish()
}

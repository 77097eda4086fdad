//! `modmem map`: the picture of the address space after a load, on the terminal or as SVG.

mod gather;
mod model;
mod rows;
mod svg;
mod terminal;
mod text;
mod write;

use std::io::Write as _;

use anyhow::Result;

use crate::args::MapArgs;
use crate::output;
use crate::session::Session;

pub(crate) fn run(arguments: &MapArgs) -> Result<()> {
    let session = Session::load(&arguments.modules, &arguments.kernel, &arguments.space)?;
    let map = gather::map(&session, &arguments.space);
    match &arguments.svg {
        Some(path) => write::to(path, &svg::picture(&map))?,
        None => {
            let mut out = anstream::stdout().lock();
            out.write_all(terminal::picture(&map, usize::from(output::terminal_width())).as_bytes())?;
            out.flush()?;
        }
    }
    session.finish()
}

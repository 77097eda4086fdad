//! `modmem map`: the picture of the address space after a load, on the terminal or as SVG.

mod gather;
mod model;
mod rows;
mod svg;
mod terminal;
mod text;

use anyhow::Result;
use modmem_linux::Output;

use crate::args::MapArgs;
use crate::output;
use crate::session::Session;

pub(crate) fn run(arguments: &MapArgs) -> Result<()> {
    let session = Session::load(&arguments.modules, &arguments.kernel, &arguments.space)?;
    let map = gather::map(&session, &arguments.space);
    match &arguments.svg {
        Some(path) => {
            let options = arguments.write.options(false);
            Output::open(path, options)?.write(|out| out.write_all(svg::picture(&map).as_bytes()))?;
        }
        None => output::print(&terminal::picture(&map, usize::from(output::terminal_width())))?,
    }
    session.finish()
}

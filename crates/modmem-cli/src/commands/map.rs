//! placeholder while its author writes it
use anyhow::Result;
pub(crate) fn run(_arguments: &crate::args::MapArgs) -> Result<()> {
    Ok(())
}

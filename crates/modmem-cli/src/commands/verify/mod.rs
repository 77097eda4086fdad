//! `modmem verify`: is the module memory of a machine what the modules' files say?

mod atlas;
mod belief;
mod code;
mod data;
mod disassembler;
mod doubt;
mod file_map;
mod files;
mod finding;
mod foreign;
mod grounds;
mod hidden;
mod hooks;
mod input;
mod looks;
mod report;
mod state;
mod stray;
mod text;
mod window;

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::args::VerifyArgs;
use crate::output::{self, json};
use crate::rights;
use input::Input;
use report::Report;

/// Exit status if something is unexplained.
const UNEXPLAINED: u8 = 1;
/// Exit status if nothing could be verified.
pub(crate) const FAILED: u8 = 2;

/// Verifies and reports. An error means that there is no verdict.
pub(crate) fn run(arguments: &VerifyArgs) -> Result<ExitCode> {
    if arguments.live {
        if rights::must_split(arguments.rights.keep_rights) {
            return rights::split(Path::new("/"), Path::new(""), None, None);
        }
        rights::confine(true, arguments.kernel.cache.as_ref())?;
    }
    let input = Input::open(arguments)?;
    let verification =
        modmem_linux::verify::verify(&input.snapshot, &input.options, &mut |name| input.file(name))?;
    let report = Report::of(&input, &verification, arguments)?;
    let printed = match arguments.json {
        true => json::print("verify", &report),
        false => output::print(&text::page(&report, arguments.verbose)).map_err(Into::into),
    };
    match printed {
        // Whoever stops reading still gets the verdict: it is the exit status.
        Err(error) if !is_hung_up(&error) => Err(error),
        _ if report.verdict.clean => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::from(UNEXPLAINED)),
    }
}

fn is_hung_up(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

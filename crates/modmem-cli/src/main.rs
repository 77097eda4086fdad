//! `modmem`: load, inspect, map and measure Linux kernel modules without a kernel.
//!
//! Data goes to standard output and everything else to standard error; the exit status is 0 only if all that was
//! asked for was done. `verify` says 1 if something is unexplained, and 2 if it could not be done.

mod args;
mod commands;
mod features;
mod output;
mod rights;
mod sample;
mod session;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use args::{Command, Options};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if version::is_asked(&words) {
        let printed = output::print(&version::long());
        return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let options = Options::parse();
    if let Some(bytes) = options.memory {
        modmem_linux::set_memory_limit(bytes);
    }
    let done = rights::refuse_setuid().and_then(|()| run(&options));
    match done {
        Ok(status) => status,
        Err(error) if is_broken_pipe(&error) && !matches!(options.command, Command::Verify(_)) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let (style, plain) = (output::ERROR.render(), output::ERROR.render_reset());
            output::tell(&format!("{style}modmem:{plain} {}", explain(&error)));
            match options.command {
                Command::Verify(_) => ExitCode::from(commands::verify::FAILED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Runs the command; `verify` and `snapshot` have statuses of their own.
fn run(options: &Options) -> anyhow::Result<ExitCode> {
    match &options.command {
        Command::Load(arguments) => commands::load::run(arguments),
        Command::Info(arguments) => commands::info::run(arguments),
        Command::Map(arguments) => commands::map::run(arguments),
        Command::Lookup(arguments) => commands::lookup::run(arguments),
        Command::Snapshot(arguments) => return commands::snapshot::run(arguments),
        Command::Symbolize(arguments) => commands::symbolize::run(arguments),
        Command::Footprint(arguments) => commands::footprint::run(arguments),
        Command::Verify(arguments) => return commands::verify::run(arguments),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// What failed and why. Some errors say their cause themselves; nothing is said twice. What files or users had in it
/// for the terminal is made visible.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    // Whatever is read or written elsewhere says where.
    if error.is::<std::io::Error>() {
        text.push_str("standard output");
    }
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    let lines: Vec<String> = text.split('\n').map(output::harmless).collect();
    lines.join("\n")
}

/// Whoever reads our output may stop at any time (`modmem load --all | head`); that is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

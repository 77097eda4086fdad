//! `modmem lookup`: which module, memory, section and symbol an address belongs to.

mod answer;
mod found;

use std::io::{BufRead, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use modmem::RunAddr;

use crate::args::{LookupArgs, parse_address};
use crate::output::{self, json};
use crate::session::{OpenSnapshot, Session, doubts};
use answer::{Answer, Answers, line};
pub(crate) use found::describe as describe_found;

/// Bytes of a line of standard input: no address is that long, and what is no address must not fill the memory.
const LONGEST_LINE: u64 = 256;

pub(crate) fn run(arguments: &LookupArgs) -> Result<()> {
    let (addresses, modules) = split(&arguments.words);
    if let Some(path) = &arguments.snapshot {
        return in_snapshot(path, addresses, &modules, arguments);
    }
    let mut space = arguments.space.clone();
    space.all |= modules.is_empty();
    if modules.is_empty() {
        output::tell("note: no modules are named, so all of the kernel's are loaded, in its build's order");
    }
    let session = Session::load(&modules, &arguments.kernel, &space)?;
    doubts(&session.kernel.profile).for_each(|doubt| output::tell(&format!("note: {doubt}")));
    answer_all(addresses, arguments.json, |address| {
        let lookup = session.modules.lookup(address);
        match arguments.json {
            true => Reply::Json(Box::new(Answer::of(address, &lookup))),
            false => Reply::Line(line(address, &lookup, &session.modules)),
        }
    })?;
    session.finish()
}

/// Looks up in a snapshot, whose modules are those that the machine had.
fn in_snapshot(
    path: &Path,
    addresses: Vec<RunAddr>,
    modules: &[String],
    arguments: &LookupArgs,
) -> Result<()> {
    if let Some(word) = modules.first() {
        bail!("\"{word}\" is no address; a snapshot has the modules that the machine had");
    }
    let opened = OpenSnapshot::open(path, &arguments.kernel)?;
    let mut locator = opened.locator();
    answer_all(addresses, arguments.json, |address| {
        let found = locator.find(address);
        match arguments.json {
            true => Reply::Json(Box::new(found::answer(address, &found))),
            false => Reply::Line(found::line(address, &found)),
        }
    })
}

/// The answer for one address, as it is shown.
enum Reply {
    Json(Box<Answer>),
    Line(String),
}

/// Answers each address, or each that standard input has.
fn answer_all(addresses: Vec<RunAddr>, json: bool, mut find: impl FnMut(RunAddr) -> Reply) -> Result<()> {
    let mut answers = Vec::new();
    let mut out = output::Harmless(anstream::stdout().lock());
    let mut answer = |address: RunAddr| -> Result<()> {
        match find(address) {
            Reply::Json(answer) => answers.push(*answer),
            Reply::Line(line) => writeln!(out, "{line}")?,
        }
        Ok(())
    };
    if addresses.is_empty() {
        read_addresses(std::io::stdin().lock(), &mut answer)?;
    } else {
        addresses.into_iter().try_for_each(answer)?;
    }
    if json {
        json::print("lookup", Answers { addresses: answers })?;
    }
    Ok(())
}

/// Reads addresses, one a line.
fn read_addresses(mut input: impl BufRead, answer: &mut impl FnMut(RunAddr) -> Result<()>) -> Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).context("standard input")?;
        if line.is_empty() {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        match parse_address(text) {
            Some(address) => answer(address)?,
            None => bail!("standard input, line {number}: \"{text}\" is no address"),
        }
    }
    Ok(())
}

/// Parts words into addresses and modules.
fn split(words: &[String]) -> (Vec<RunAddr>, Vec<String>) {
    let mut modules = Vec::new();
    let mut addresses = Vec::new();
    for word in words {
        match parse_address(word) {
            Some(address) => addresses.push(address),
            None => modules.push(word.clone()),
        }
    }
    (addresses, modules)
}

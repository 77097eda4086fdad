//! `modmem lookup`: which module, memory, section and symbol an address belongs to.

use std::fmt::Write as _;
use std::io::{BufRead, Read as _, Write as _};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use modmem::modules::{Lookup, Place};
use modmem::{Name, RunAddr};

use crate::args::{LookupArgs, parse_address};
use crate::output;
use crate::output::json::{self, Address, Kind};
use crate::session::{LoadedModules, Session};

/// Bytes of a line of standard input: no address is that long, and what is no address must not fill the memory.
const LONGEST_LINE: u64 = 256;

pub(crate) fn run(arguments: &LookupArgs) -> Result<()> {
    let (addresses, modules) = split(&arguments.words);
    let mut space = arguments.space.clone();
    space.all |= modules.is_empty();
    if modules.is_empty() {
        output::tell("note: no modules are named, so all of the kernel's are loaded, in its build's order");
    }
    let session = Session::load(&modules, &arguments.kernel, &space)?;
    let mut answers = Vec::new();
    let mut out = anstream::stdout().lock();
    let mut answer = |address: RunAddr| -> Result<()> {
        let lookup = session.modules.lookup(address);
        match arguments.json {
            true => answers.push(Answer::of(address, &lookup)),
            false => writeln!(out, "{}", line(address, &lookup, &session.modules))?,
        }
        Ok(())
    };
    if addresses.is_empty() {
        read_addresses(std::io::stdin().lock(), &mut answer)?;
    } else {
        addresses.into_iter().try_for_each(answer)?;
    }
    if arguments.json {
        json::print("lookup", Answers { addresses: answers })?;
    }
    session.finish()
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

fn line(address: RunAddr, lookup: &Lookup<'_>, modules: &LoadedModules) -> String {
    match lookup {
        Lookup::Nothing if modules.is_empty() => format!("{address} no module (none is loaded)"),
        Lookup::Nothing => format!("{address} no module"),
        Lookup::Module(place) => format!("{address} {} {}", Name::from(place.module), describe(place)),
        Lookup::Freed(place) => {
            format!("{address} freed with init of {}: {}", Name::from(place.module), describe(place))
        }
    }
}

fn describe(place: &Place<'_>) -> String {
    let mut text = place.kind.to_string();
    // Writing to a string cannot fail.
    let _ = match place.section {
        Some((section, offset)) => write!(text, " {section}+{offset:#x}"),
        None => write!(text, "+{:#x}", place.offset),
    };
    if let Some(symbol) = place.symbol {
        let _ = write!(text, " {}+{:#x}/{:#x}", symbol.name, symbol.offset, symbol.size);
    }
    text
}

#[derive(Serialize)]
struct Answers {
    addresses: Vec<Answer>,
}

#[derive(Serialize)]
struct Answer {
    address: Address,
    /// `module`, `freed` or `none`.
    owner: &'static str,
    #[serde(flatten)]
    place: Option<PlaceReport>,
}

#[derive(Serialize)]
struct PlaceReport {
    module: String,
    #[serde(rename = "type")]
    kind: Kind,
    offset: u64,
    section: Option<Inside>,
    symbol: Option<Inside>,
}

#[derive(Serialize)]
struct Inside {
    name: String,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl Answer {
    fn of(address: RunAddr, lookup: &Lookup<'_>) -> Answer {
        let (owner, place) = match lookup {
            Lookup::Module(place) => ("module", Some(place)),
            Lookup::Freed(place) => ("freed", Some(place)),
            Lookup::Nothing => ("none", None),
        };
        let place = place.map(|place| PlaceReport {
            module: Name::from(place.module).to_text(),
            kind: Kind(place.kind),
            offset: place.offset,
            section: place.section.map(|(name, offset)| Inside { name: name.to_text(), offset, size: None }),
            symbol: place.symbol.map(|symbol| Inside {
                name: symbol.name.to_text(),
                offset: symbol.offset,
                size: Some(symbol.size),
            }),
        });
        Answer { address: Address(address), owner, place }
    }
}

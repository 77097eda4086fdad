//! Answers of a look-up: a line, or JSON.

use std::fmt::Write as _;

use modmem::modules::{Lookup, Place};
use modmem::{Name, RunAddr};
use serde::Serialize;

use crate::output::json::{Address, Kind};
use crate::session::LoadedModules;

pub(super) fn line(address: RunAddr, lookup: &Lookup<'_>, modules: &LoadedModules) -> String {
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

/// The document.
#[derive(Serialize)]
pub(super) struct Answers {
    pub(super) addresses: Vec<Answer>,
}

/// One address's answer.
#[derive(Serialize)]
pub(super) struct Answer {
    pub(super) address: Address,
    /// `module`, `freed`, `kernel`, `runtime` or `none`.
    pub(super) owner: &'static str,
    #[serde(flatten)]
    pub(super) place: Option<PlaceReport>,
    #[serde(flatten)]
    pub(super) other: Option<Other>,
}

/// A place in a module's memory.
#[derive(Serialize)]
pub(super) struct PlaceReport {
    pub(super) module: String,
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    /// Whether the module's file says which memory it is.
    pub(super) certain: bool,
    pub(super) offset: Option<u64>,
    pub(super) section: Option<Inside>,
    pub(super) symbol: Option<Inside>,
}

/// What is no module's.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Other {
    Kernel { freed: bool, symbol: Inside },
    Runtime { by: String, symbol: Inside },
    Area { area: String },
}

/// A name and how far behind it.
#[derive(Serialize)]
pub(super) struct Inside {
    pub(super) name: String,
    pub(super) offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
}

impl Answer {
    pub(super) fn of(address: RunAddr, lookup: &Lookup<'_>) -> Answer {
        let (owner, place) = match lookup {
            Lookup::Module(place) => ("module", Some(place)),
            Lookup::Freed(place) => ("freed", Some(place)),
            Lookup::Nothing => ("none", None),
        };
        let place = place.map(|place| PlaceReport {
            module: Name::from(place.module).to_text(),
            kind: Kind(place.kind),
            certain: true,
            offset: Some(place.offset),
            section: place.section.map(|(name, offset)| Inside { name: name.to_text(), offset, size: None }),
            symbol: place.symbol.map(|symbol| Inside {
                name: symbol.name.to_text(),
                offset: symbol.offset,
                size: Some(symbol.size),
            }),
        });
        Answer { address: Address(address), owner, place, other: None }
    }
}

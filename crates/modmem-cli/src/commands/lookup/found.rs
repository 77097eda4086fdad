//! What lies at an address of a snapshot, in words and as JSON.

use std::fmt::Write as _;

use modmem::RunAddr;
use modmem_linux::snapshot::{Found, Nearest, Place};

use super::answer::{Answer, Inside, Other, PlaceReport};
use crate::output::harmless;
use crate::output::json::{Address, Kind};

/// One line for one address.
pub(super) fn line(address: RunAddr, found: &Found<'_>) -> String {
    match found {
        Found::Module(place) => format!("{address} {} {}", name(place), in_module(place)),
        Found::Freed(place) => format!("{address} freed with init of {}: {}", name(place), in_module(place)),
        Found::Kernel { symbol: at, freed: false } => format!("{address} kernel {}", symbol(at)),
        Found::Kernel { symbol: at, freed: true } => {
            format!("{address} freed with init of the kernel: {}", symbol(at))
        }
        Found::Runtime { owner, symbol: at } => format!("{address} {owner} {}", symbol(at)),
        Found::Area(area) => format!("{address} no module (vmalloc area of {})", caller(&area.caller)),
        Found::Nothing => format!("{address} no module"),
    }
}

/// What stands behind an address in a log; `None` where nothing is worth saying: an address of kernel code or of a
/// module says something, one of the kernel's data is most often chance.
pub(crate) fn describe(found: &Found<'_>) -> Option<String> {
    match found {
        Found::Module(place) => Some(format!("{} {}", name(place), briefly(place))),
        Found::Freed(place) => Some(format!("{} {}, freed after init", name(place), briefly(place))),
        Found::Kernel { symbol: at, freed } if matches!(at.symbol.letter, 't' | 'T' | 'w' | 'W') => {
            let freed = if *freed { ", freed after init" } else { "" };
            Some(format!("kernel {}{freed}", symbol(at)))
        }
        Found::Runtime { owner, symbol: at } => Some(format!("{owner} {}", symbol(at))),
        Found::Kernel { .. } | Found::Area(_) | Found::Nothing => None,
    }
}

/// The same for programs.
pub(super) fn answer(address: RunAddr, found: &Found<'_>) -> Answer {
    let address = Address(address);
    let answer = |owner, place, other| Answer { address, owner, place, other };
    match found {
        Found::Module(place) => answer("module", Some(report(place)), None),
        Found::Freed(place) => answer("freed", Some(report(place)), None),
        Found::Kernel { symbol, freed } => {
            answer("kernel", None, Some(Other::Kernel { freed: *freed, symbol: inside(symbol) }))
        }
        Found::Runtime { owner, symbol } => {
            answer("runtime", None, Some(Other::Runtime { by: (*owner).into(), symbol: inside(symbol) }))
        }
        Found::Area(area) => answer("none", None, Some(Other::Area { area: area.caller.clone() })),
        Found::Nothing => answer("none", None, None),
    }
}

fn report(place: &Place<'_>) -> PlaceReport {
    PlaceReport {
        module: place.module.name.clone(),
        kind: Kind(place.kind),
        certain: place.certain,
        offset: place.offset,
        section: place.section.map(|(name, offset)| Inside { name: name.into(), offset, size: None }),
        symbol: place.symbol.as_ref().map(inside),
    }
}

fn inside(at: &Nearest<'_>) -> Inside {
    Inside { name: at.symbol.name.into(), offset: at.offset, size: at.size }
}

fn name(place: &Place<'_>) -> String {
    harmless(&place.module.name)
}

fn caller(name: &str) -> String {
    if name.is_empty() { "an unknown owner".into() } else { harmless(name) }
}

/// Type, section and symbol.
fn in_module(place: &Place<'_>) -> String {
    let mut text = kind(place);
    // Writing to a string cannot fail.
    let _ = match (place.section, place.offset) {
        (Some((section, offset)), _) => write!(text, " {}+{offset:#x}", harmless(section)),
        (None, Some(offset)) => write!(text, "+{offset:#x}"),
        (None, None) => Ok(()),
    };
    if let Some(at) = &place.symbol {
        let _ = write!(text, " {}", symbol(at));
    }
    text
}

/// Type and symbol; section where there is none.
fn briefly(place: &Place<'_>) -> String {
    match &place.symbol {
        Some(at) => format!("{} {}", kind(place), symbol(at)),
        None => in_module(place),
    }
}

fn kind(place: &Place<'_>) -> String {
    if place.certain { place.kind.to_string() } else { format!("probably {}", place.kind) }
}

fn symbol(at: &Nearest<'_>) -> String {
    let name = harmless(at.symbol.name);
    match at.size {
        Some(size) => format!("{name}+{:#x}/{size:#x}", at.offset),
        None => format!("{name}+{:#x}", at.offset),
    }
}

//! Modules that are in no list, as their own memory describes them.

use modmem::RunAddr;
use modmem_linux::verify::{HiddenModule, Verification};
use serde::Serialize;

use super::hooks::HookReport;
use crate::output::json::{Address, Kind};

#[derive(Debug, Serialize)]
pub(super) struct HiddenReport {
    /// The name that it gives itself.
    pub(super) name: String,
    /// Its `struct module`.
    pub(super) address: Address,
    pub(super) memories: Vec<HiddenMemory>,
    pub(super) symbols: Vec<HiddenSymbol>,
    pub(super) exports: Vec<String>,
    pub(super) imports: Vec<Import>,
    /// Which of `hooks[]` are its, by index.
    pub(super) hooks: Vec<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct HiddenMemory {
    /// Null where it is not known.
    #[serde(rename = "type")]
    pub(super) kind: Option<Kind>,
    pub(super) start: Address,
    pub(super) end: Address,
}

#[derive(Debug, Serialize)]
pub(super) struct HiddenSymbol {
    pub(super) name: String,
    pub(super) address: Address,
    pub(super) letter: char,
}

/// A function of others that its code calls.
#[derive(Debug, Serialize)]
pub(super) struct Import {
    pub(super) name: String,
    /// Whose it is; null for the kernel.
    pub(super) module: Option<String>,
    pub(super) address: Address,
    pub(super) calls: usize,
}

impl HiddenReport {
    pub(super) fn all(verification: &Verification, hooks: &[HookReport]) -> Vec<HiddenReport> {
        verification.hidden.iter().map(|hidden| HiddenReport::of(hidden, hooks)).collect()
    }

    fn of(hidden: &HiddenModule, hooks: &[HookReport]) -> HiddenReport {
        let address = |address: u64| Address(RunAddr(address));
        let is_own = |hook: &HookReport| {
            let by = &hook.by;
            let places = [&by.function, &by.description].into_iter().flatten();
            places.into_iter().any(|named| hidden.contains(named.address.0.0))
        };
        let memories = hidden.memories.iter().map(|(kind, range)| HiddenMemory {
            kind: kind.map(Kind),
            start: address(range.start),
            end: address(range.end),
        });
        let symbols = hidden.symbols.iter().map(|symbol| HiddenSymbol {
            name: symbol.name.clone(),
            address: address(symbol.address),
            letter: symbol.letter,
        });
        let imports = hidden.imports.iter().map(|import| Import {
            name: import.name.clone(),
            module: import.module.clone(),
            address: address(import.address),
            calls: import.calls,
        });
        HiddenReport {
            name: hidden.name.clone(),
            address: address(hidden.address),
            memories: memories.collect(),
            symbols: symbols.collect(),
            exports: hidden.exports.clone(),
            imports: imports.collect(),
            hooks: (0..hooks.len()).filter(|index| is_own(&hooks[*index])).collect(),
        }
    }
}

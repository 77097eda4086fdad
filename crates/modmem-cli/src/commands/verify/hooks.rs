//! Who hooks what, with names.

use std::collections::HashMap;

use modmem::RunAddr;
use modmem_linux::Error;
use modmem_linux::verify::{HookRow, HookSite, HookWay, Hooker, Outcome, Owner, Verification};
use serde::Serialize;

use super::file_map::FileMap;
use super::input::Input;
use crate::output::json::Address;

/// Sites of one row that have names where not all are wanted.
pub(super) const FEW: usize = 12;
/// What the kernel writes before the names of what a tracepoint and a static call are.
const PREFIXES: [&str; 3] = ["__tracepoint_", "__SCK__", "__SCT__"];
/// Farther behind a function's start ftrace does not patch.
const ENTRY: u64 = 16;

/// All that one hooks in one way.
#[derive(Debug, Serialize)]
pub(super) struct HookReport {
    /// `ftrace`, `kprobe`, `livepatch`, `tracepoint` or `static-call`.
    pub(super) way: &'static str,
    pub(super) by: HookerReport,
    /// What the kernel's description says, in the kernel's words.
    pub(super) flags: Vec<&'static str>,
    pub(super) explained: bool,
    /// What is not known of it.
    pub(super) note: Option<String>,
    pub(super) sites: Vec<SiteReport>,
    /// Sites that are not listed; in JSON all are.
    #[serde(skip)]
    pub(super) more: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct HookerReport {
    /// `kernel`, `module`, `hidden` (a module that is in no list), `bpf`, `nobody` or `unknown`.
    pub(super) owner: &'static str,
    pub(super) module: Option<String>,
    /// The function that is called.
    pub(super) function: Option<Named>,
    /// The kernel's description of the hook.
    pub(super) description: Option<Named>,
    /// Whose memory the description is in, as `owner`; and the module.
    pub(super) described_by: Option<&'static str>,
    pub(super) describing_module: Option<String>,
    pub(super) trampoline: Option<Address>,
}

/// An address with the symbol that is there.
#[derive(Debug, Serialize)]
pub(super) struct Named {
    pub(super) address: Address,
    pub(super) symbol: Option<String>,
}

/// One place that is hooked.
#[derive(Debug, Serialize)]
pub(super) struct SiteReport {
    pub(super) address: Address,
    /// The module; null for the kernel.
    pub(super) module: Option<String>,
    pub(super) section: Option<String>,
    pub(super) symbol: Option<String>,
    pub(super) offset: u64,
}

/// Names of addresses: of modules by their files, as far as these can be read.
struct Names<'i> {
    input: &'i Input,
    verification: &'i Verification,
    maps: HashMap<usize, FileMap>,
}

impl HookReport {
    /// Reports of all rows; of each with all its sites, or with the first of them.
    pub(super) fn all(
        input: &Input,
        verification: &Verification,
        all: bool,
    ) -> Result<Vec<HookReport>, Error> {
        let mut names = Names { input, verification, maps: HashMap::new() };
        verification.hooks.iter().map(|row| HookReport::of(&mut names, row, all)).collect()
    }

    fn of(names: &mut Names<'_>, row: &HookRow, all: bool) -> Result<HookReport, Error> {
        let most = if all { usize::MAX } else { FEW };
        let sites: Result<Vec<SiteReport>, Error> =
            row.sites.iter().take(most).map(|site| names.site(row.way, *site)).collect();
        Ok(HookReport {
            way: match row.way {
                HookWay::Ftrace => "ftrace",
                HookWay::Kprobe => "kprobe",
                HookWay::Livepatch => "livepatch",
                HookWay::Tracepoint => "tracepoint",
                HookWay::StaticCall => "static-call",
            },
            by: names.hooker(&row.by),
            flags: row.flags.clone(),
            explained: row.explained,
            note: row.note.clone(),
            sites: sites?,
            more: row.sites.len().saturating_sub(most),
        })
    }
}

impl Names<'_> {
    fn hooker(&self, by: &Hooker) -> HookerReport {
        let (owner, module) = owner(&by.owner);
        let described = by.described_by.as_ref().map(self::owner);
        HookerReport {
            owner,
            module,
            function: by.function.map(|address| self.named(address)),
            description: by.description.map(|address| self.named(address)),
            described_by: described.as_ref().map(|(owner, _)| *owner),
            describing_module: described.and_then(|(_, module)| module),
            trampoline: by.trampoline.map(|address| Address(RunAddr(address))),
        }
    }

    fn named(&self, address: u64) -> Named {
        let symbols = &self.input.snapshot.symbols;
        // The compiler's padding before functions and aliases of init and exit come last.
        let better =
            |name: &str| !name.starts_with("__pfx_") && name != "cleanup_module" && name != "init_module";
        let here = || symbols.at_address(address);
        let symbol = here().find(|symbol| better(symbol.name)).or_else(|| here().next());
        let of_hidden = || {
            let mut all = self.verification.hidden.iter().flat_map(|hidden| &hidden.symbols);
            all.find(|symbol| symbol.address == address && better(&symbol.name))
                .map(|symbol| symbol.name.clone())
        };
        let symbol = symbol.map(|symbol| symbol.name.to_owned()).or_else(of_hidden);
        Named { address: Address(RunAddr(address)), symbol }
    }

    fn map(&mut self, module: usize) -> Result<&FileMap, Error> {
        if !self.maps.contains_key(&module) {
            let checked = self.verification.modules.get(module);
            let report = checked.and_then(|checked| match &checked.outcome {
                Outcome::Compared(report) => Some(report),
                _ => None,
            });
            let name = checked.map_or("", |checked| &checked.name);
            let map = match report {
                Some(report) => {
                    let file = self.input.file(name)?;
                    file.and_then(|file| FileMap::of(&file, &self.verification.profile, report))
                }
                None => None,
            };
            self.maps.insert(module, map.unwrap_or_else(|| FileMap::empty(name)));
        }
        Ok(&self.maps[&module])
    }

    fn site(&mut self, way: HookWay, site: HookSite) -> Result<SiteReport, Error> {
        let address = site.address;
        let (mut section, mut symbol, mut module) = (None, None, None);
        if let Some(index) = site.module {
            let map = self.map(index)?;
            module = Some(map.module.clone());
            section = map.section(address).map(|section| section.name.clone());
            symbol = map.symbol(address).map(|symbol| (symbol.name.clone(), address - symbol.range.start));
        }
        if symbol.is_none() {
            let near = self.input.snapshot.symbols.nearest(address, module.as_deref());
            symbol = near.map(|near| (near.symbol.name.to_owned(), near.offset));
        }
        let (name, offset) = symbol.unzip();
        let plain = |name: String| {
            let rest = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
            rest.map(str::to_owned).unwrap_or(name)
        };
        let is_entry = way == HookWay::Ftrace && offset.is_some_and(|offset| offset <= ENTRY);
        let offset = if is_entry { 0 } else { offset.unwrap_or(0) };
        let of_data = matches!(way, HookWay::Tracepoint | HookWay::StaticCall);
        let symbol = if of_data { name.map(plain) } else { name };
        Ok(SiteReport { address: Address(RunAddr(address)), module, section, symbol, offset })
    }
}

fn owner(owner: &Owner) -> (&'static str, Option<String>) {
    match owner {
        Owner::Kernel => ("kernel", None),
        Owner::Module(name) => ("module", Some(name.clone())),
        Owner::Hidden(name) => ("hidden", Some(name.clone())),
        Owner::Bpf => ("bpf", None),
        Owner::Nobody => ("nobody", None),
        Owner::Unknown => ("unknown", None),
    }
}

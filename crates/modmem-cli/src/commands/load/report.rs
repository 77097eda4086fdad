//! What a load came to, as data: the JSON document, and what the texts are made from.

use serde::Serialize;

use modmem::finalize::Variable;
use modmem::layout::MemoryKind;
use modmem::modules::{Module, State};
use modmem::space::Block;
use modmem::{Name, RunAddr};

use crate::features;
use crate::output::json::{Address, Kind};
use crate::session::{Loaded, LoadedModules, Machine, Session};

/// The document `modmem.load`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) kernel: KernelReport,
    /// The machine that the modules were finalized for; null if they are as relocation leaves them.
    pub(crate) machine: Option<MachineReport>,
    pub(crate) modules: Vec<ModuleReport>,
    pub(crate) failed: Vec<FailedReport>,
    pub(crate) total: Total,
}

#[derive(Debug, Serialize)]
pub(crate) struct KernelReport {
    pub(crate) release: String,
    /// Where its files come from.
    pub(crate) source: String,
    /// The version whose rules were used.
    pub(crate) profile: String,
    pub(crate) proven: bool,
    /// Where its own symbols come from.
    pub(crate) symbols: String,
    pub(crate) symbol_count: usize,
    pub(crate) synthetic_symbols: usize,
    pub(crate) page_size: u64,
    /// What limits how far the result can be trusted.
    pub(crate) remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct MachineReport {
    /// What it is.
    pub(crate) about: String,
    /// All that the code of these modules depends on.
    pub(crate) state: Vec<VariableReport>,
}

#[derive(Debug, Serialize)]
pub(crate) struct VariableReport {
    pub(crate) variable: String,
    /// A number, or the name of a function.
    pub(crate) value: String,
    /// Whether the machine or the kernel's image says so; otherwise it is assumed.
    pub(crate) told: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct ModuleReport {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) why: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) state: &'static str,
    pub(crate) taints: String,
    pub(crate) memories: Vec<MemoryReport>,
    pub(crate) percpu: Option<PerCpuReport>,
    pub(crate) relocations: usize,
    pub(crate) symbols: SymbolsReport,
    pub(crate) exports: usize,
    pub(crate) init: Option<Address>,
    pub(crate) exit: Option<Address>,
    /// Bytes of blocks that init discard gave back.
    pub(crate) given_back: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sections: Vec<SectionReport>,
}

#[derive(Debug, Serialize)]
pub(crate) struct MemoryReport {
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) address: Address,
    pub(crate) used: u64,
    pub(crate) allocated: u64,
    pub(crate) protection: String,
    /// Whether init discard gave it back.
    pub(crate) discarded: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct PerCpuReport {
    pub(crate) offset: Address,
    pub(crate) size: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct SymbolsReport {
    pub(crate) kernel: usize,
    pub(crate) modules: Vec<ProviderReport>,
    /// Weak ones that nobody defines.
    pub(crate) weak_unresolved: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct ProviderReport {
    pub(crate) module: String,
    pub(crate) symbols: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct SectionReport {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) address: Address,
}

#[derive(Debug, Serialize)]
pub(crate) struct FailedReport {
    pub(crate) module: String,
    pub(crate) reason: String,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Total {
    pub(crate) modules: usize,
    pub(crate) memories: Vec<KindTotal>,
    pub(crate) relocations: usize,
    pub(crate) symbols_from_kernel: usize,
    pub(crate) symbols_from_modules: usize,
    pub(crate) given_back: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct KindTotal {
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    /// Modules that have it.
    pub(crate) modules: usize,
    pub(crate) used: u64,
    pub(crate) allocated: u64,
}

impl Report {
    pub(crate) fn of(session: &Session, sections: bool) -> Report {
        let modules: Vec<ModuleReport> = session
            .loaded
            .iter()
            .filter_map(|loaded| {
                let module = session.modules.get(loaded.id)?;
                Some(ModuleReport::of(loaded, module, &session.modules, sections))
            })
            .collect();
        let failed = session.failed.iter();
        let failed = failed.map(|f| FailedReport { module: f.name.clone(), reason: f.reason.clone() });
        Report {
            kernel: KernelReport::of(session),
            machine: session.machine.as_ref().map(|machine| MachineReport::of(session, machine)),
            total: Total::of(&modules),
            modules,
            failed: failed.collect(),
        }
    }
}

impl MachineReport {
    pub(super) fn of(session: &Session, machine: &Machine) -> MachineReport {
        let of_module = |address: RunAddr| {
            let module = session.modules.get(session.modules.find(address)?.id())?;
            let symbol = module.symbol_at(address).filter(|symbol| symbol.offset == 0)?;
            Some(format!("{} [{}]", symbol.name.to_text(), shown(module.name())))
        };
        let symbol = |address: RunAddr| of_module(address).or_else(|| machine.symbol(address));
        let place = |address: u64| match symbol(RunAddr(address)) {
            Some(symbol) => symbol,
            None => format!("{address:#x}"),
        };
        let state = machine.decided().map(|decided| {
            let value = match decided.variable {
                Variable::ReturnThunk | Variable::StaticCall(_) | Variable::ParavirtCall(_)
                    if decided.value != 0 =>
                {
                    place(decided.value)
                }
                _ => decided.value.to_string(),
            };
            let at = match decided.variable {
                Variable::Key(at)
                | Variable::StaticCall(at)
                | Variable::ParavirtCall(at)
                | Variable::CountedCall(at) => symbol(at),
                _ => None,
            };
            let variable = features::shown(decided.variable, machine.profile());
            let variable = at.map_or(variable.clone(), |symbol| format!("{variable} ({symbol})"));
            VariableReport { variable, value, told: decided.told }
        });
        MachineReport { about: machine.about.clone(), state: state.collect() }
    }
}

impl KernelReport {
    pub(super) fn of(session: &Session) -> KernelReport {
        let kernel = &session.kernel;
        KernelReport {
            release: kernel.files.release().to_owned(),
            source: kernel.files.describe(),
            profile: kernel.profile_name(),
            proven: kernel.is_proven(),
            symbols: kernel.symbol_source(),
            symbol_count: kernel.symbols.symbols.len(),
            synthetic_symbols: kernel.invented,
            page_size: kernel.profile.page_size,
            remarks: session.remarks(),
        }
    }
}

impl ModuleReport {
    fn of<B: Block>(
        loaded: &Loaded,
        module: &Module<B>,
        modules: &LoadedModules,
        sections: bool,
    ) -> ModuleReport {
        let memories: Vec<MemoryReport> =
            MemoryKind::ALL.into_iter().filter_map(|kind| MemoryReport::of(module, kind)).collect();
        let uses = module.uses();
        let provider = |&(id, symbols): &(modmem::ModuleId, usize)| {
            let module = shown(modules.get(id)?.name());
            Some(ProviderReport { module, symbols })
        };
        ModuleReport {
            name: shown(module.name()),
            path: loaded.path.clone(),
            why: loaded.why.to_string(),
            arguments: loaded.arguments.clone(),
            state: match module.state() {
                State::Coming => "coming",
                State::Live => "live",
                State::Going => "going",
            },
            taints: module.taints().letters(),
            percpu: module.layout().percpu().map(|percpu| PerCpuReport {
                offset: Address(modmem::RunAddr(module.percpu())),
                size: percpu.size,
            }),
            relocations: module.relocations(),
            symbols: SymbolsReport {
                kernel: uses.kernel,
                modules: uses.modules.iter().filter_map(provider).collect(),
                weak_unresolved: uses.weak_unresolved,
            },
            exports: module.export_count(),
            init: module.init().map(Address),
            exit: module.exit().map(Address),
            given_back: memories
                .iter()
                .filter(|memory| memory.discarded)
                .map(|memory| memory.allocated)
                .sum(),
            memories,
            sections: if sections { section_reports(module) } else { Vec::new() },
        }
    }

    /// Symbols that other modules provided.
    pub(crate) fn symbols_from_modules(&self) -> usize {
        self.symbols.modules.iter().map(|provider| provider.symbols).sum()
    }
}

impl MemoryReport {
    fn of<B: Block>(module: &Module<B>, kind: MemoryKind) -> Option<MemoryReport> {
        let layout = module.layout().memories()[kind];
        Some(MemoryReport {
            kind: Kind(kind),
            address: Address(module.original_range(kind)?.start),
            used: layout.used,
            allocated: layout.allocated,
            protection: module.protection(kind).to_string(),
            discarded: module.address(kind).is_none(),
        })
    }
}

/// A module's name as all names from files are shown.
pub(super) fn shown(name: &str) -> String {
    Name::from(name).to_text()
}

pub(super) fn section_reports<B: Block>(module: &Module<B>) -> Vec<SectionReport> {
    let sections = module.sections().filter_map(|section| {
        Some(SectionReport {
            name: section.name.to_text(),
            kind: Kind(section.kind),
            offset: section.offset,
            size: section.size,
            address: Address(module.original_range(section.kind)?.start + section.offset),
        })
    });
    let mut sections: Vec<SectionReport> = sections.collect();
    sections.sort_by_key(|section| (section.kind.0, section.offset));
    sections
}

impl Total {
    fn of(modules: &[ModuleReport]) -> Total {
        let mut total = Total { modules: modules.len(), ..Total::default() };
        for kind in MemoryKind::ALL {
            let mut sum = KindTotal { kind: Kind(kind), modules: 0, used: 0, allocated: 0 };
            let memories = modules.iter().flat_map(|module| &module.memories);
            for memory in memories.filter(|memory| memory.kind.0 == kind) {
                sum.modules += 1;
                sum.used += memory.used;
                sum.allocated += memory.allocated;
            }
            total.memories.push(sum);
        }
        for module in modules {
            total.relocations += module.relocations;
            total.symbols_from_kernel += module.symbols.kernel;
            total.symbols_from_modules += module.symbols_from_modules();
            total.given_back += module.given_back;
        }
        total
    }
}

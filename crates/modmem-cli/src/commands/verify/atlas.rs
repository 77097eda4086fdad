//! What lies at an address of the guest, in a few words.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use modmem::RunAddr;
use modmem::arch::Machine;
use modmem::image::elf::{ByteOrder, Class, Format};
use modmem::verify::{ModuleReport, NotCompared};
use modmem_linux::snapshot::{Found, Locator, Snapshot};
use modmem_linux::verify::{Outcome, Verification};

use super::file_map::FileMap;
use crate::output::harmless;

/// The modules' memories and all symbols of a snapshot.
pub(super) struct Atlas<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) machine: Machine,
    /// Width of its addresses and byte order.
    pub(super) format: Format,
    /// Memories that modules which were compared have, by address, with the module's name.
    memories: Vec<(Range<u64>, &'s str)>,
    compared: HashSet<&'s str>,
    /// Whether words before functions say who traces them (arm64, CONFIG_DYNAMIC_FTRACE_WITH_CALL_OPS).
    marks_functions: bool,
    /// For all other addresses.
    locator: RefCell<Locator<'s>>,
}

/// What lies at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Memory of the module that the report is about.
    Here,
    /// Memory of another module.
    Module(String),
    /// Memory that a module gave back after init.
    Freed(String),
    /// The kernel's image.
    Kernel,
    /// Code that the kernel made: the name under which it is listed.
    Made(String),
    /// An area of vmalloc that is none of these, and who asked for it.
    Area(String),
    /// Nothing that the snapshot knows.
    Nothing,
}

/// An address with what lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: u64,
    pub(super) place: Place,
    /// The symbol with the offset behind it.
    pub(super) symbol: Option<String>,
}

impl Target {
    /// Whether nobody that the snapshot knows owns the address.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(self.place, Place::Freed(_) | Place::Area(_) | Place::Nothing)
    }

    /// Its name alone, as a comment behind an instruction; the address if it has none.
    pub(super) fn name(&self) -> String {
        let symbol = self.symbol.as_deref();
        match (&self.place, symbol) {
            (Place::Here | Place::Kernel, Some(symbol)) => symbol.to_owned(),
            (Place::Here, None) => format!("{:#x}", self.address),
            (Place::Kernel, None) => "in the kernel".to_owned(),
            (Place::Module(name) | Place::Made(name), Some(symbol)) => format!("{symbol} [{name}]"),
            (Place::Module(name) | Place::Made(name), None) => format!("in {name}"),
            (Place::Freed(name), _) => format!("no module, was init memory of {name}"),
            (Place::Area(caller), _) => format!("no module, memory from {caller}"),
            (Place::Nothing, _) => "no module".to_owned(),
        }
    }
}

/// As the object of a sentence: "a jump to ...".
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match (&self.place, &self.symbol) {
            (Place::Here, Some(symbol)) => write!(f, "{symbol}"),
            (Place::Here, None) => write!(f, "{address:#x} in the same module"),
            (Place::Module(name), Some(symbol)) => write!(f, "{symbol} in module {name}"),
            (Place::Module(name), None) => write!(f, "{address:#x} in module {name}"),
            (Place::Kernel, Some(symbol)) => write!(f, "the kernel's {symbol}"),
            (Place::Kernel, None) => write!(f, "{address:#x} in the kernel"),
            (Place::Made(name), Some(symbol)) => write!(f, "{symbol}, code that the kernel made ({name})"),
            (Place::Made(name), None) => write!(f, "{address:#x}, code that the kernel made ({name})"),
            (Place::Freed(name), _) => {
                write!(f, "{address:#x}, which is in no module (once init memory of {name})")
            }
            (Place::Area(caller), _) => {
                write!(f, "{address:#x}, which is in no module (memory that {caller} asked for)")
            }
            (Place::Nothing, _) => write!(f, "{address:#x}, which is in no module"),
        }
    }
}

impl<'s> Atlas<'s> {
    /// Whether any of these addresses changed while they were read.
    pub(super) fn is_torn(&self, range: &Range<u64>) -> bool {
        self.snapshot.torn.iter().any(|torn| torn.start < range.end && range.start < torn.end)
    }

    pub(super) fn new(snapshot: &'s Snapshot, verification: &'s Verification) -> Atlas<'s> {
        let mut memories: Vec<(Range<u64>, &str)> = Vec::new();
        let mut compared = HashSet::new();
        for checked in &verification.modules {
            if let Outcome::Compared(report) = &checked.outcome {
                memories.extend(present(report).map(|range| (range, &*checked.name)));
                compared.insert(&*checked.name);
            }
        }
        memories.sort_by_key(|(range, _)| range.start);
        let locator = RefCell::new(Locator::new(snapshot, |_| None));
        let machine = verification.profile.machine;
        // A machine that this build has nothing for was not verified.
        let format = machine.format().unwrap_or(Format { class: Class::Elf64, order: ByteOrder::Little });
        let marks_functions =
            machine == Machine::Arm64 && snapshot.symbols.kernel("ftrace_nop_ops").is_some();
        Atlas { snapshot, machine, format, memories, compared, marks_functions, locator }
    }

    /// What lies at an address, seen from a module.
    pub(super) fn look(&self, address: u64, here: &FileMap) -> Target {
        if let Some(name) = self.module_at(address) {
            let (place, symbol) = match name == here.module {
                true => (Place::Here, here.name(address)),
                false => (Place::Module(harmless(name)), self.symbol(address, name)),
            };
            return Target { address, place, symbol };
        }
        let mut locator = self.locator.borrow_mut();
        let (place, symbol) = match locator.find(RunAddr(address)) {
            Found::Kernel { symbol, .. } => (Place::Kernel, Some(symbol)),
            // Where the memories of modules that were compared are is known: this is behind them.
            Found::Module(found) if !self.compared.contains(&*found.module.name) => {
                (Place::Module(harmless(&found.module.name)), found.symbol)
            }
            Found::Freed(found) => (Place::Freed(harmless(&found.module.name)), None),
            Found::Runtime { owner, symbol } => (Place::Made(owner.to_owned()), Some(symbol)),
            Found::Area(_) | Found::Module(_) | Found::Nothing => match self.snapshot.area(address) {
                Some(area) if area.caller.is_empty() => (Place::Area("somebody".into()), None),
                Some(area) => (Place::Area(harmless(&area.caller)), None),
                None => (Place::Nothing, None),
            },
        };
        Target { address, place, symbol: symbol.map(|near| with_offset(near.symbol.name, near.offset)) }
    }

    /// Where the words lie that hold an address and say who traces the function behind them; they are no code.
    pub(super) fn mark(&self, address: u64, map: &FileMap) -> Option<u64> {
        map.mark(address).filter(|_| self.marks_functions)
    }

    /// Whether a number can be an address of kernel memory, and no small number, positive or negative.
    pub(super) fn is_kernel_address(&self, number: u64) -> bool {
        match self.machine {
            Machine::X86_64 | Machine::Arm64 => {
                (0xffff_0000_0000_0000..0xffff_ffff_ffff_0000).contains(&number)
            }
            Machine::PowerPc => (0x8000_0000..0xffff_0000).contains(&number),
            // The kernel has an address space of its own.
            _ => !self.look(number, &FileMap::empty("")).is_foreign(),
        }
    }

    /// The module that has memory at an address.
    fn module_at(&self, address: u64) -> Option<&'s str> {
        let after = self.memories.partition_point(|(range, _)| range.start <= address);
        let (range, name) = self.memories.get(after.checked_sub(1)?)?;
        range.contains(&address).then_some(*name)
    }

    fn symbol(&self, address: u64, module: &str) -> Option<String> {
        let near = self.snapshot.symbols.nearest(address, Some(module))?;
        Some(with_offset(near.symbol.name, near.offset))
    }

    /// The name of something that code refers to: `pv_ops+0xb8`, `ext4_key [ext4]`.
    pub(super) fn global(&self, address: u64) -> Option<String> {
        let target = self.look(address, &FileMap::empty(""));
        target.symbol.is_some().then(|| target.name())
    }
}

/// The memories that a module has, without those that were given back.
fn present(report: &ModuleReport) -> impl Iterator<Item = Range<u64>> {
    let memories = report.memories.iter().filter_map(|(_, memory)| memory.as_ref());
    let there = memories.filter(|memory| memory.tally.not_compared_for(NotCompared::FreedInit) == 0);
    there.map(|memory| memory.address.0..memory.address.0.saturating_add(memory.tally.total))
}

/// A symbol and, unless it is nothing, the offset behind it.
pub(super) fn with_offset(name: &str, offset: u64) -> String {
    match offset {
        0 => harmless(name),
        offset => format!("{}+{offset:#x}", harmless(name)),
    }
}

//! The machine whose kernel finalizes what is loaded.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use modmem::arch::Machine as Architecture;
use modmem::finalize::{Decided, Finalized, Finalizer, Stated, Tracer, Variable};
use modmem::link::Linked;
use modmem::profile::Profile;
use modmem::space::{Block, Memory, Request, SpaceBlock};
use modmem::verify::{Guest, GuestMemory, GuestSymbol};
use modmem::{AddressSpace, Image, MemoryKind, Name, RunAddr};
use modmem_linux::machine::{DescribedKernel, HostMachine, MachineState, SnapshotMachine, named};
use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::{Options, OwnSymbols, SnapshotGuest, verify};

use super::backing::{Bytes, Limited};
use super::{LoadedModules, OpenKernel};

/// A machine that was named.
#[derive(Debug)]
pub(crate) struct Machine {
    kind: Kind,
    /// What it is, in a line.
    pub(crate) about: String,
    profile: Profile,
    /// What the modules' code depends on, and how it is: one machine, so all say the same.
    decided: BTreeMap<Variable, Decided>,
}

#[derive(Debug)]
enum Kind {
    /// The machine of a snapshot that runs this kernel.
    Snapshot(Box<Snapshot>, SnapshotMachine),
    /// The kernel of the image, with variables as they are on a machine, and what is known of it beside.
    Described(Box<DescribedKernel>, Option<HostMachine>),
}

impl Machine {
    /// The machine that `name` stands for, with the kernel that is given. The kernel is moved to where a snapshot has it.
    pub(crate) fn open(name: &str, kernel: &mut OpenKernel) -> Result<Machine> {
        if name == "host" {
            return Machine::host(kernel);
        }
        if let Some(text) = named::text(name, kernel.profile.machine, kernel.files.release()) {
            return Machine::described(name, text, kernel);
        }
        let path = Path::new(name);
        if !path.exists() {
            let names = named::names(kernel.profile.machine).join(", ");
            bail!(
                "--machine {name}: neither a machine that is known ({names}, host) nor a file: a snapshot, or a machine's \
                 state"
            );
        }
        if let Some(text) = state_file(path)? {
            return Machine::described(name, &text, kernel);
        }
        Machine::of_snapshot(name, Snapshot::open(path)?, kernel)
    }

    fn new(kind: Kind, about: String, kernel: &OpenKernel) -> Machine {
        Machine { kind, about, profile: kernel.profile.clone(), decided: BTreeMap::new() }
    }

    /// This machine: what its memory says if that may be read and it runs the kernel, or else what anybody may see of it.
    fn host(kernel: &mut OpenKernel) -> Result<Machine> {
        let snapshot = Snapshot::capture("/").ok();
        let runs_it = |snapshot: &Snapshot| {
            snapshot.release == kernel.files.release()
                && snapshot.lacks().is_empty()
                && !snapshot.modules.is_empty()
        };
        if let Some(snapshot) = snapshot.filter(runs_it) {
            return Machine::of_snapshot("this machine", snapshot, kernel);
        }
        let described = describe("host", kernel)?;
        let host =
            HostMachine::read(Path::new("/"), &described, &kernel.profile).context("--machine host")?;
        let about = format!("this machine, {}; static keys as the kernel is built", host.cpu);
        Ok(Machine::new(Kind::Described(Box::new(described), Some(host)), about, kernel))
    }

    fn described(name: &str, text: &str, kernel: &OpenKernel) -> Result<Machine> {
        let state = MachineState::parse(name, text)?;
        let release = kernel.files.release();
        let mut described = describe(name, kernel)?;
        let absent = described.set(&state);
        let mut about = state.about.clone();
        if state.release != release {
            about.push_str(&format!(", as a kernel {} found it", state.release));
        }
        if !absent.is_empty() {
            about.push_str(&format!(" ({} of its variables this kernel has not)", absent.len()));
        }
        Ok(Machine::new(Kind::Described(Box::new(described), None), about, kernel))
    }

    fn of_snapshot(shown: &str, mut snapshot: Snapshot, kernel: &mut OpenKernel) -> Result<Machine> {
        let release = kernel.files.release();
        // A folder of modules alone may not tell; each is compared by its build id anyway.
        if snapshot.release != release && release != "unknown" {
            bail!(
                "--machine {shown}: it is of {}, and the kernel is {release}: what decides about code lies elsewhere in each \
                 build",
                snapshot.release
            );
        }
        let lacks = snapshot.lacks();
        if !lacks.is_empty() {
            bail!("--machine {shown}: it has no {}", lacks.join(" and no "));
        }
        let list = kernel.files.list()?;
        let own_symbols = match &list {
            Some(list) => {
                snapshot.check_own_symbols(list).map_err(|problem| anyhow!("{shown}: {problem}"))?
            }
            None => OwnSymbols::Believed,
        };
        if matches!(own_symbols, OwnSymbols::OtherKernel { .. } | OwnSymbols::Differ(_)) {
            bail!(
                "--machine {shown}: its kernel's symbols are not those of {release}'s image: it is another build"
            );
        }
        let options = Options { own_symbols, ..Options::default() };
        let files = &kernel.files;
        let verification =
            verify(&snapshot, &options, &mut |name| files.module(name).map(|file| file.read()).transpose())?;
        let profile = verification.profile.clone();
        kernel.move_to(&snapshot, profile);
        let count = snapshot.modules.len();
        let about = format!("as on {shown} ({count} modules, {} variables)", verification.state.len());
        let machine = SnapshotMachine::of(&verification);
        Ok(Machine::new(Kind::Snapshot(Box::new(snapshot), machine), about, kernel))
    }

    /// The snapshot that it is of.
    pub(crate) fn snapshot(&self) -> Option<(&Snapshot, &SnapshotMachine)> {
        match &self.kind {
            Kind::Snapshot(snapshot, machine) => Some((snapshot, machine)),
            Kind::Described(..) => None,
        }
    }

    /// Does to a linked module what the machine's kernel does. `made` keeps what the kernel makes for it.
    pub(crate) fn finalize(
        &mut self,
        image: &Image<'_>,
        linked: Linked<SpaceBlock<Bytes>>,
        modules: &LoadedModules,
        profile: &Profile,
        space: &mut AddressSpace<Limited>,
        made: &mut Vec<SpaceBlock<Bytes>>,
    ) -> Result<Finalized<SpaceBlock<Bytes>>> {
        let guest = Running { base: self.kind.guest(), modules };
        let finalizer = Finalizer::new(&guest, profile)?;
        let finalized = match &self.kind {
            Kind::Snapshot(_, machine) => {
                finalizer.finalize(image, linked, &machine.of_module(&image.name().to_text()))?
            }
            Kind::Described(_, host) => {
                let pages = Pages {
                    host: host.as_ref(),
                    profile,
                    first: made.len(),
                    place: RefCell::new((space, made)),
                };
                finalizer.finalize(image, linked, &pages)?
            }
        };
        for decided in finalized.state() {
            self.decided.entry(decided.variable).or_insert(*decided);
        }
        Ok(finalized)
    }

    /// What the code of the modules depends on, and how it is.
    pub(crate) fn decided(&self) -> impl Iterator<Item = &Decided> {
        self.decided.values()
    }

    /// How its kernel behaves.
    pub(crate) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The symbol at an address of the kernel.
    pub(crate) fn symbol(&self, address: RunAddr) -> Option<String> {
        let base = self.kind.guest();
        let symbol = base.symbol_at(address).filter(|symbol| symbol.offset == 0)?;
        Some(symbol.name.to_owned())
    }
}

impl Kind {
    /// The machine without what was loaded here.
    fn guest(&self) -> Box<dyn Guest + '_> {
        match self {
            Kind::Snapshot(snapshot, _) => Box::new(SnapshotGuest::new(snapshot)),
            Kind::Described(kernel, _) => Box::new(&**kernel),
        }
    }
}

/// The kernel of the package's image, as it is built.
fn describe(name: &str, kernel: &OpenKernel) -> Result<DescribedKernel> {
    let release = kernel.files.release();
    let image = kernel.files.kernel_image()?.ok_or_else(|| {
        anyhow!("--machine {name}: kernel {release} comes without its image, which holds the first values of its keys")
    })?;
    let placed = kernel.symbols.image.as_ref();
    if placed.is_some_and(|placed| image.facts().is_ok_and(|facts| facts.text != placed.text)) {
        bail!(
            "--machine {name}: the kernel of --symbols lies elsewhere than its image: give a snapshot of its machine"
        );
    }
    Ok(DescribedKernel::of(&format!("the image of kernel {release}"), &image)?)
}

/// The text of a state, if the file is one.
fn state_file(path: &Path) -> Result<Option<String>> {
    const MOST: u64 = 16 << 20;
    if !path.is_file() || path.metadata()?.len() > MOST {
        return Ok(None);
    }
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(String::from_utf8(bytes).ok().filter(|text| text.starts_with("modmem machine")))
}

/// A kernel with the modules that have been loaded.
struct Running<'r> {
    base: Box<dyn Guest + 'r>,
    modules: &'r LoadedModules,
}

impl Running<'_> {
    /// Bytes of a loaded module.
    fn of_module(&self, address: RunAddr, length: usize) -> Option<&[u8]> {
        let owner = self.modules.find(address)?;
        let module = self.modules.get(owner.id())?;
        let offset = usize::try_from(address.0 - module.address(owner.kind())?.0).ok()?;
        module.bytes(owner.kind()).get(offset..offset.checked_add(length)?)
    }
}

impl GuestMemory for Running<'_> {
    fn read(&self, address: RunAddr, buffer: &mut [u8]) -> bool {
        if self.base.read(address, buffer) {
            return true;
        }
        let bytes = self.of_module(address, buffer.len());
        bytes.is_some_and(|bytes| {
            buffer.copy_from_slice(bytes);
            true
        })
    }

    fn bytes(&self, address: RunAddr, length: usize) -> Option<Cow<'_, [u8]>> {
        self.base.bytes(address, length).or_else(|| self.of_module(address, length).map(Cow::Borrowed))
    }
}

impl Guest for Running<'_> {
    fn kernel_symbol(&self, name: Name<'_>) -> Option<u64> {
        self.base.kernel_symbol(name)
    }

    fn module_symbol(&self, module: &str, name: Name<'_>) -> Option<u64> {
        let here = || {
            let mut named = self.modules.by_name(module)?.symbols().filter(|symbol| symbol.name == name);
            let first = named.next().filter(|symbol| !symbol.undefined)?;
            named.next().is_none().then_some(first.value)
        };
        self.base.module_symbol(module, name).or_else(here)
    }

    fn any_module_symbol(&self, name: Name<'_>) -> Option<u64> {
        self.base.any_module_symbol(name)
    }

    fn symbol_at(&self, address: RunAddr) -> Option<GuestSymbol<'_>> {
        let Some(owner) = self.modules.find(address) else { return self.base.symbol_at(address) };
        let module = self.modules.get(owner.id())?;
        let symbol = module.symbol_at(address)?;
        Some(GuestSymbol {
            name: symbol.name.as_str()?,
            offset: symbol.offset,
            module: Some(module.name()),
            text: owner.kind().is_text(),
        })
    }
}

impl fmt::Debug for Running<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("modules", &self.modules.len()).finish_non_exhaustive()
    }
}

/// States what is known of this machine, if it is that: all else is as the kernel's memory has it, nobody traces, and pages for code that the kernel makes come from the
/// modelled space.
struct Pages<'p> {
    host: Option<&'p HostMachine>,
    profile: &'p Profile,
    /// How many pages other modules have.
    first: usize,
    place: RefCell<(&'p mut AddressSpace<Limited>, &'p mut Vec<SpaceBlock<Bytes>>)>,
}

impl Stated for Pages<'_> {
    fn value(&self, variable: Variable) -> Option<u64> {
        self.host?.value(variable)
    }

    fn tracer(&self, _: RunAddr) -> Option<Tracer> {
        None
    }

    fn made_code(&self, index: usize) -> Option<RunAddr> {
        // Only x86-64 makes pages; s390's area was placed beside the module.
        if self.profile.machine != Architecture::X86_64 {
            return None;
        }
        let (space, made) = &mut *self.place.borrow_mut();
        let index = self.first + index;
        if index == made.len() {
            let page = self.profile.page_size;
            made.push(space.allocate(Request { kind: MemoryKind::Text, size: page, alignment: page }).ok()?);
        }
        made.get(index).map(Block::address)
    }
}

impl fmt::Debug for Pages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

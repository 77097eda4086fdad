//! One run: a kernel opened, modules loaded into its modelled address space.

mod backing;
mod kernel;
mod machine;
mod place;
mod request;
mod snapshot;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow, bail};
use modmem::image::{Image, SymbolPlace};
use modmem::link::{LinkError, LinkOptions, Linked, Provider, Reason};
use modmem::modules::{LoadError, Module, ModuleId, State};
use modmem::space::{Guard, SpaceBlock, SpaceError};
use modmem::{AddressSpace, Linker, Modules, RunAddr};
use modmem_linux::{Error, LoadPlan, MissingDependency, ModuleFile, PlannedModule, Wanted, Why};
use rayon::prelude::*;

pub(crate) use backing::Bytes;
use backing::Limited;
pub(crate) use kernel::{OpenKernel, doubts, open_files, profile_name, profile_of};
pub(crate) use machine::Machine;
pub(crate) use request::Request;
pub(crate) use snapshot::OpenSnapshot;

use crate::args::{KernelArgs, SpaceArgs};
use crate::output::{Bars, harmless};

/// Modules that are decompressed ahead of the one that is loaded: enough to keep all cores busy, few enough not to
/// hold a whole package in memory.
const BATCH: usize = 32;

/// The table of modules of a modelled kernel.
pub(crate) type LoadedModules = Modules<SpaceBlock<Bytes>>;

/// One module that was loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) id: ModuleId,
    /// Its file under the kernel's module folder, or as given.
    pub(crate) path: String,
    pub(crate) why: Why,
    /// What configuration has for it, and what the user wrote behind its name.
    pub(crate) arguments: Vec<String>,
}

/// One module that could not be loaded while the rest went on.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// A kernel with modules loaded.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) kernel: OpenKernel,
    /// Whose kernel finalizes the modules; without one they are as relocation leaves them.
    pub(crate) machine: Option<Machine>,
    pub(crate) space: AddressSpace<Limited>,
    /// The same space with nothing taken by what a snapshot's machine has loaded, which has its places there.
    given: AddressSpace<Limited>,
    /// Pages that the kernel made for modules.
    made: Vec<SpaceBlock<Bytes>>,
    pub(crate) modules: LoadedModules,
    /// In load order.
    pub(crate) loaded: Vec<Loaded>,
    /// Only with `--all`; otherwise the first failure ends the run.
    pub(crate) failed: Vec<Failed>,
    /// What modules say that they need and nobody has.
    missing: Vec<MissingDependency>,
    /// Modules that say that they were built for another release, and for which.
    foreign: Vec<(String, String)>,
}

/// Is told of each module before its init runs: the module, its image, its file.
pub(crate) type BeforeInit<'w> = dyn FnMut(&Module<SpaceBlock<Bytes>>, &Image<'_>, &[u8]) -> Result<()> + 'w;

impl Session {
    /// Opens the kernel and loads what `words` ask for, with all that it needs.
    pub(crate) fn load(words: &[String], kernel: &KernelArgs, space: &SpaceArgs) -> Result<Session> {
        Session::load_on(None, words, kernel, space, &mut |_, _, _| Ok(()))
    }

    /// The same on a machine, whose kernel finalizes the modules.
    pub(crate) fn load_on(
        machine: Option<&str>,
        words: &[String],
        kernel: &KernelArgs,
        space: &SpaceArgs,
        before_init: &mut BeforeInit<'_>,
    ) -> Result<Session> {
        let bars = Bars::new();
        let request = Request::parse(words)?;
        let (mut kernel, mut plan) =
            OpenKernel::open(kernel, bars.clone(), |kernel| plan(kernel, &request, space.all))?;
        let machine = machine.map(|name| Machine::open(name, &mut kernel)).transpose()?;
        let snapshot = machine.as_ref().and_then(Machine::snapshot).map(|(snapshot, _)| snapshot);
        if snapshot.is_some() && (space.kaslr_offset != 0 || !space.reserve.is_empty()) {
            bail!("--kaslr-offset and --reserve say where modules lie, and so does the machine's snapshot");
        }
        kernel.learn(&plan.modules);
        let profile = kernel.profile.clone().with_kaslr_offset(space.kaslr_offset);
        let backing = Limited::default();
        let given = AddressSpace::with_backing(&profile, backing.clone(), Guard::None);
        let mut address_space = AddressSpace::with_backing(&profile, backing, Guard::Page);
        for range in &space.reserve {
            address_space.reserve(range.clone())?;
        }
        for record in snapshot.iter().flat_map(|snapshot| snapshot.memory.records()) {
            // What lies elsewhere is in nobody's way.
            let _ = address_space.reserve(RunAddr(record.address)..RunAddr(record.end()));
        }
        let mut modules = Modules::new(&profile, kernel.percpu_end());
        kernel.add_symbols(&mut modules)?;
        kernel.profile = profile;
        let missing = std::mem::take(&mut plan.missing);
        let (loaded, failed) = (Vec::new(), Vec::new());
        let mut session = Session {
            kernel,
            machine,
            space: address_space,
            given,
            made: Vec::new(),
            modules,
            loaded,
            failed,
            missing,
            foreign: Vec::new(),
        };
        session.load_plan(plan, &request, space, &bars, before_init)?;
        Ok(session)
    }

    /// Loads all modules of a plan, decompressing the next ones meanwhile.
    fn load_plan(
        &mut self,
        plan: LoadPlan,
        request: &Request,
        space: &SpaceArgs,
        bars: &Bars,
        before_init: &mut BeforeInit<'_>,
    ) -> Result<()> {
        use modmem_linux::Progress as _;
        let count = plan.modules.len();
        // What loads in a blink needs no bar.
        if count > BATCH {
            bars.phase("Loading", Some(count as u64));
        }
        let mut linker = Linker::new();
        let mut rest = plan.modules.into_iter();
        let mut ready = read_batch(rest.by_ref().take(BATCH).collect());
        let mut done = Ok(());
        while done.is_ok() && !ready.is_empty() {
            let next: Vec<PlannedModule> = rest.by_ref().take(BATCH).collect();
            let batch = std::mem::take(&mut ready);
            let load = || {
                batch.into_iter().try_for_each(|(planned, file)| {
                    bars.advance(1);
                    self.load_one(planned, file, request, space, (&mut linker, &mut *before_init))
                })
            };
            // What is told of modules need not be fit for other threads.
            let mut read = Vec::new();
            done = rayon::in_place_scope(|scope| {
                scope.spawn(|_| read = read_batch(next));
                load()
            });
            ready = read;
        }
        bars.done();
        done
    }

    fn load_one(
        &mut self,
        planned: Planned,
        file: Contents,
        request: &Request,
        space: &SpaceArgs,
        (linker, before_init): (&mut Linker, &mut BeforeInit<'_>),
    ) -> Result<()> {
        let file = match file {
            Contents::Read(file) => file,
            Contents::Later => planned.module.read().map_err(Into::into),
        };
        let result = file.and_then(|file| self.load_file(&planned, &file, space, (linker, before_init)));
        match result {
            Ok(id) => {
                // Configuration first, so that the user has the last word, as with modprobe.
                let arguments = [planned.options, request.arguments_of(&planned.module).to_vec()].concat();
                let path = planned.module.path().to_owned();
                self.loaded.push(Loaded { id, path, why: planned.why, arguments });
                Ok(())
            }
            Err(error) if space.all => {
                let (name, reason) = (planned.module.name().to_owned(), crate::explain(&error));
                self.failed.push(Failed { name, reason });
                Ok(())
            }
            Err(error) => Err(error.context(planned.module.path().to_owned())),
        }
    }

    fn load_file(
        &mut self,
        planned: &Planned,
        file: &[u8],
        space: &SpaceArgs,
        (linker, before_init): (&mut Linker, &mut BeforeInit<'_>),
    ) -> Result<ModuleId> {
        let image = Image::parse(file)?;
        self.kernel.invent_symbols(&image, &mut self.modules)?;
        self.kernel.tell_internals(&image, &mut self.modules)?;
        if space.before_init {
            self.start_providers(&image)?;
        }
        let linked = self.link(&image, linker, LinkOptions { force: space.force })?;
        let id = match &mut self.machine {
            None => self.modules.commit(&image, linked)?,
            Some(machine) => {
                let (profile, space, made) = (&self.kernel.profile, &mut self.space, &mut self.made);
                let finalized = machine.finalize(&image, linked, &self.modules, profile, space, made)?;
                self.modules.commit(&image, finalized)?
            }
        };
        if let Some(module) = self.modules.get(id) {
            before_init(module, &image, file)?;
        }
        // Whoever is loaded for others, softly too, has run its init when they come: as modprobe does it.
        self.note_release(&image);
        if !space.before_init || planned.why != Why::Requested {
            // Nothing runs here: init is taken to succeed.
            self.modules.start(id, |_| 0).with_context(|| format!("starting {}", planned.module.name()))?;
        }
        Ok(id)
    }

    fn link(
        &mut self,
        image: &Image<'_>,
        linker: &mut Linker,
        options: LinkOptions,
    ) -> Result<Linked<SpaceBlock<Bytes>>> {
        let snapshot = self.machine.as_ref().and_then(Machine::snapshot).map(|(snapshot, _)| snapshot);
        let name = image.name().to_text();
        let placed = snapshot.and_then(|snapshot| Some((snapshot, snapshot.module(&name)?)));
        let linked = match placed {
            Some(placed) => {
                let spaces = (&mut self.given, &mut self.space);
                let placement = place::place(image, placed, &self.kernel.profile, spaces)?;
                let linked = linker.link(image, &self.kernel.profile, placement, &self.modules, options);
                linked.map_err(LoadError::from)
            }
            None => self.modules.link(image, &self.kernel.profile, &mut self.space, linker, options),
        };
        match linked {
            Err(LoadError::Link(LinkError::Unresolved(symbols))) => {
                let absent = symbols.iter().filter(|symbol| symbol.reason == Reason::Absent);
                let advice = self.kernel.who_provides(absent.map(|symbol| &*symbol.symbol), &self.modules);
                let error = LinkError::Unresolved(symbols);
                Err(anyhow!("{error}{advice}{}", self.version_advice(&error, image)))
            }
            Err(error @ LoadError::Space(SpaceError::NoBytes { .. })) => {
                let limit = modmem_linux::memory_limit() >> 20;
                Err(anyhow!("{error}: files may take {limit} MiB here (--memory)"))
            }
            linked => Ok(linked?),
        }
    }

    /// Remembers a module that was built for another release, which CRCs may let in.
    fn note_release(&mut self, image: &Image<'_>) {
        let release = release_of(image);
        if !release.is_empty() && release != self.kernel.files.release() {
            self.foreign.push((image.name().to_text(), release));
        }
    }

    /// What to do about symbols of other versions.
    fn version_advice(&self, error: &LinkError, image: &Image<'_>) -> String {
        let LinkError::Unresolved(symbols) = error else { return String::new() };
        if !symbols.iter().any(|symbol| matches!(symbol.reason, Reason::Version { .. } | Reason::NoVersion)) {
            return String::new();
        }
        let (built, kernel) = (release_of(image), self.kernel.files.release());
        format!("\n  built for {built}, this kernel is {kernel}; --force loads it without comparing versions")
    }

    /// With `--before-init`, starts the modules whose symbols `image` uses: as in Linux, their inits come first.
    fn start_providers(&mut self, image: &Image<'_>) -> Result<()> {
        let undefined = image.symbols().iter().filter(|symbol| symbol.place == SymbolPlace::Undefined);
        let coming = undefined.filter_map(|symbol| match self.modules.exported(symbol.name)?.provider {
            Provider::Module(id) if self.modules.get(id)?.state() == State::Coming => Some(id),
            _ => None,
        });
        let coming: BTreeSet<ModuleId> = coming.collect();
        coming.into_iter().try_for_each(|id| Ok(self.modules.start(id, |_| 0)?))
    }

    /// What the user should know about how far the result can be trusted.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let missing = self.missing.iter();
        let missing =
            missing.map(|m| format!("{} says that it needs {}, which is nowhere", m.module, m.needs));
        let foreign = self.foreign.first().map(|(name, release)| match self.foreign.len() {
            1 => format!("{name} was built for {release}"),
            count => {
                format!("{count} modules were built for other releases: {name} for {release}, and so on")
            }
        });
        let odd = self.modules.iter().flat_map(|module| {
            let name = harmless(module.name());
            module.remarks().iter().map(move |remark| format!("{name}: {remark}"))
        });
        self.kernel.remarks().into_iter().chain(missing).chain(foreign).chain(odd).collect()
    }

    /// Ends the run: with an error that counts the modules that could not be loaded, if there are any.
    pub(crate) fn finish(&self) -> Result<()> {
        for Failed { name, reason } in &self.failed {
            crate::output::tell(&format!("{}: {reason}", harmless(name)));
        }
        match self.failed.len() {
            0 => Ok(()),
            count => bail!("{count} of {} modules could not be loaded", count + self.loaded.len()),
        }
    }
}

/// The release that a module was built for, as its version magic says; empty if it does not.
fn release_of(image: &Image<'_>) -> String {
    let magic = image.modinfo().get("vermagic").unwrap_or_default().to_text();
    magic.split(' ').next().unwrap_or_default().to_owned()
}

/// A planned module whose bytes have been taken out.
#[derive(Debug)]
struct Planned {
    module: ModuleFile,
    why: Why,
    options: Vec<String>,
}

/// A module's file.
enum Contents {
    Read(Result<Vec<u8>>),
    Later,
}

fn read_batch(planned: Vec<PlannedModule>) -> Vec<(Planned, Contents)> {
    let read = |mut planned: PlannedModule| {
        let options = std::mem::take(&mut planned.options);
        let kept = Planned { module: planned.module.clone(), why: planned.why.clone(), options };
        // Many at once must not take all memory: what is larger waits for its turn.
        let file = match planned.into_contents_within(modmem_linux::memory_limit() / 2 / BATCH as u64) {
            Err(Error::TooLarge { .. }) => Contents::Later,
            file => Contents::Read(file.map_err(Into::into)),
        };
        (kept, file)
    };
    planned.into_par_iter().map(read).collect()
}

fn plan(kernel: &modmem_linux::Kernel, request: &Request, all: bool) -> Result<LoadPlan> {
    let mut wanted = request.find(kernel)?;
    if all {
        wanted.extend(kernel.modules().cloned().map(Wanted::from));
    }
    let plan = kernel.load_order_for(&wanted)?;
    if plan.modules.is_empty() {
        bail!("nothing to load: {}", kernel.remarks().join("; "));
    }
    Ok(plan)
}

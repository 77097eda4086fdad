//! Verifying: is the memory of a running module what its file says?
//!
//! After relocation a kernel changes code and tables in many ways: alternatives, retpolines, returns, function
//! entries, static keys and calls, lock prefixes; sorted tables. A [`Verifier`] links each module where the guest has
//! it, does what that kernel does, and compares. Whatever depends on the machine must fit one state of it: CPU
//! features, mitigations, static keys, as the guest's own memory says them or as most code shows them.
//!
//! ```text
//! Image + addresses --link--> as relocated --rules--> as it must be  <--compare-->  the guest's memory
//!                                            ^
//!                                   one machine state (evidence)
//! ```
//!
//! Modules are [checked](Verifier::check) in the order in which they were loaded. [`Verifier::settle`] then names those
//! that went by another machine state than the rest; checked again, what does not fit is unexplained.

mod compare;
mod data;
mod error;
pub(crate) mod evidence;
mod given;
mod guest_module;
mod livepatch;
mod report;
mod scope;
mod unlisted;
mod unloaded;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

pub use error::VerifyError;
pub use guest_module::GuestModule;
pub use report::{MemoryReport, ModuleReport, NotCompared, Tally, Unexplained, Why};

pub use crate::finalize::{Hook, HookKind, Rule, Variable};
pub use crate::guest::{Guest, GuestMemory, GuestSymbol};

use crate::address::RunAddr;
use crate::arch::{Architecture, with_machine};
use crate::finalize::subject::{Outside, Subject};
use crate::finalize::target::Target;
use crate::finalize::{Answers, LiveText, OutOfMemory, Rules, Stated};
use crate::image::{Image, SymbolPlace};
use crate::layout::{Layout, MemoryKind, PerKind};
use crate::link::{LinkError, LinkOptions, Linker, Placement};
use crate::profile::Profile;
use crate::space::PerCpuPlace;
use compare::{Spans, compare, why};
use evidence::Evidence;
use given::{GivenBlock, GivenMemory, is_gone};
use livepatch::Objects;
use scope::GuestScope;
use unlisted::Unlisted;

/// Compares the modules of one guest with their files.
pub struct Verifier<'g> {
    guest: &'g dyn Guest,
    profile: Profile,
    rules: Box<dyn Rules>,
    kprobes: Vec<RunAddr>,
    evidence: Evidence,
    scope: GuestScope<'g>,
    linker: Linker,
    settled: bool,
    most_memory: u64,
}

impl<'g> Verifier<'g> {
    /// A verifier for a guest whose kernel behaves as `profile` says. Probes at the addresses `kprobes` are expected.
    ///
    /// # Errors
    /// The profile is for a machine that this build has nothing for.
    pub fn new(
        guest: &'g dyn Guest,
        profile: Profile,
        kprobes: Vec<RunAddr>,
    ) -> Result<Verifier<'g>, VerifyError> {
        let rules = with_machine!(profile.machine, A => A::rules(guest, &profile))?;
        let scope = GuestScope::new(guest, profile.machine);
        Ok(Verifier {
            guest,
            profile,
            rules,
            kprobes,
            evidence: Evidence::default(),
            scope,
            linker: Linker::new(),
            settled: false,
            most_memory: u64::MAX,
        })
    }

    /// The same with a limit to the bytes of all memories of one module; three copies of them are made. Files may say that
    /// they need any.
    #[must_use]
    pub fn with_most_memory(self, bytes: u64) -> Verifier<'g> {
        Verifier { most_memory: bytes, ..self }
    }

    /// Compares one module. `index` is any number that names it, see [`Verifier::settle`].
    ///
    /// # Errors
    /// The file is not the one that the guest has loaded, or cannot be linked where the guest has it.
    pub fn check(
        &mut self,
        index: u32,
        image: &Image<'_>,
        module: &GuestModule<'_>,
    ) -> Result<ModuleReport, VerifyError> {
        check_build(image, module)?;
        self.compare_whole(index, image, module, None)
            .map(|(report, _)| report)
            .map_err(|error| other_build(self.guest, image, module).unwrap_or(error))
    }

    /// Compares what loading makes of one module, on the machine that `stated` describes, with the guest's memory: no rule
    /// looks at the guest's bytes of the module. Of the guest is taken where things lie, and what the kernel's variables
    /// hold, as far as `stated` does not say it. Beside the result, what the kernel changes in the module's text while it runs.
    ///
    /// # Errors
    /// The file is not the one that the guest has loaded, or cannot be linked where the guest has it.
    pub fn check_loaded(
        &mut self,
        image: &Image<'_>,
        module: &GuestModule<'_>,
        stated: &dyn Stated,
    ) -> Result<(ModuleReport, LiveText), VerifyError> {
        check_build(image, module)?;
        self.compare_whole(0, image, module, Some(stated))
    }

    fn compare_whole(
        &mut self,
        index: u32,
        image: &Image<'_>,
        module: &GuestModule<'_>,
        stated: Option<&dyn Stated>,
    ) -> Result<(ModuleReport, LiveText), VerifyError> {
        let layout = Layout::of(image, &self.profile)?;
        check_size(&layout, module, self.most_memory)?;
        let mut memory = GivenMemory::of(image, &layout, module)?;
        let percpu = layout.percpu();
        let mut placement = Placement::allocate(layout, &mut memory).map_err(VerifyError::Memory)?;
        if let Some(percpu) = percpu {
            let base = self.percpu_base(image, &placement, module, percpu.section)?;
            placement = placement.with_percpu(PerCpuPlace::given(base));
        }
        let mut unlisted = core::mem::take(&mut self.scope.unlisted);
        let looked = unlisted.look(image, &self.profile, &placement, self.guest, module, &self.scope);
        self.scope.unlisted = unlisted;
        looked?;
        let options = LinkOptions { force: module.forced };
        let linked = self.linker.link(image, &self.profile, placement, &self.scope, options)?;
        if !self.settled {
            self.scope.add(linked.exports())?;
        }
        let guest = self.guest;
        let mut placement = linked.into_placement();
        let find = |kind, address, length| {
            if is_gone(kind, module) { None } else { guest.bytes(address, length) }
        };
        let alone = Target::new(&mut placement, image.format())?;
        if let Some(stated) = stated {
            return self.compare_finalized(image, module, alone, stated, find);
        }
        self.evidence.begin_module(index);
        let mut subject = Subject {
            image,
            profile: &self.profile,
            guest,
            module: alone.beside_guest(find),
            state: &mut self.evidence,
            kernel: &(),
            kprobes: &self.kprobes,
            outside: Vec::new(),
            areas: Vec::new(),
            made: Vec::new(),
            hooks: Vec::new(),
        };
        self.scope.unlisted.mark(&mut subject)?;
        unloaded::symbols(&mut subject)?;
        livepatch::apply(&mut subject, Objects::Kernel)?;
        let mut subject = self.rules.apply(subject)?;
        livepatch::apply(&mut subject, Objects::Modules)?;
        data::bug_flags(&mut subject)?;
        let Subject { module: mut target, outside, areas, made, hooks, .. } = subject;
        target.check()?;
        self.evidence.check()?;
        let mut report = self.report(image, module, &mut target, outside)?;
        (report.areas, report.made, report.hooks) = (areas, made, hooks);
        Ok((report, LiveText::default()))
    }

    /// Finalizes a module, and then looks at what the guest has.
    fn compare_finalized<'t>(
        &mut self,
        image: &Image<'_>,
        module: &GuestModule<'_>,
        alone: Target<'t>,
        stated: &dyn Stated,
        find: impl FnMut(MemoryKind, RunAddr, usize) -> Option<Cow<'t, [u8]>>,
    ) -> Result<(ModuleReport, LiveText), VerifyError>
    where
        'g: 't,
    {
        let mut answers = Answers::new(stated);
        let subject = Subject::alone(image, &self.profile, self.guest, alone, &mut answers);
        let mut subject = self.rules.apply(subject)?;
        subject.module = subject.module.beside_guest(find);
        // What no loader can foretell: where the copy of the file was that symbols in it point to, whom a livepatch found, and
        // flags that are set when something happens. None of it is code.
        unloaded::symbols(&mut subject)?;
        livepatch::apply(&mut subject, Objects::Kernel)?;
        livepatch::apply(&mut subject, Objects::Modules)?;
        data::bug_flags(&mut subject)?;
        let mut target = subject.module;
        target.check()?;
        let mut live = target.take_live_text();
        for kind in MemoryKind::ALL.into_iter().filter(|kind| is_gone(*kind, module)) {
            let start = target.address(kind).unwrap_or_default();
            live.forget(&(start..start + target.memory(kind).len() as u64));
        }
        Ok((self.report(image, module, &mut target, Vec::new())?, live))
    }

    fn report(
        &self,
        image: &Image<'_>,
        module: &GuestModule<'_>,
        target: &mut Target<'_>,
        outside: Vec<Outside>,
    ) -> Result<ModuleReport, VerifyError> {
        let mut spans = Spans::default();
        let mut memories: PerKind<Option<MemoryReport>> = PerKind::default();
        for kind in MemoryKind::ALL {
            let skipped = data::skipped(image, target.layout(), kind)?;
            memories[kind] = compare(target, kind, module, &skipped, &self.evidence, &mut spans)?;
        }
        for Outside { address, expected, found, rule, standing } in outside {
            let why = why(rule, standing, &self.evidence);
            let span = Unexplained { kind: MemoryKind::Text, address, expected, found, why };
            if let Some(memory) = &mut memories[span.kind] {
                memory.tally.total += span.found.len() as u64;
                memory.tally.unexplained += span.found.len() as u64;
            }
            spans.kept.push(span);
        }
        Ok(ModuleReport {
            name: module.name.into(),
            memories,
            unexplained: spans.kept,
            more_unexplained: spans.more,
            areas: Vec::new(),
            made: Vec::new(),
            hooks: Vec::new(),
        })
    }

    /// Decides what state the machine is in, now that all modules have been checked, and names those to be checked
    /// again because they went by another one. Their first reports are void.
    ///
    /// # Errors
    /// Out of memory.
    pub fn settle(&mut self) -> Result<Vec<u32>, VerifyError> {
        self.settled = true;
        self.evidence.settle()
    }

    /// What the machine's state is: each variable with its value, whether the guest's own memory says so, and how many
    /// sites speak for it.
    pub fn machine_state(&self) -> impl Iterator<Item = (Variable, u64, bool, u64)> {
        self.evidence.facts()
    }

    /// Whether the guest's memory holds the kernel's own words about the CPU.
    pub fn has_cpu_words(&self) -> bool {
        self.rules.has_cpu_words()
    }

    /// How many symbols of the kernel's data no list has, so that they were taken for what modules' memory shows; and how
    /// many of these only one place shows.
    pub fn unlisted_symbols(&self) -> (usize, usize) {
        self.scope.unlisted.count()
    }

    /// Where a module's percpu data starts: kallsyms has the values of its symbols.
    fn percpu_base(
        &self,
        image: &Image<'_>,
        placement: &Placement<GivenBlock>,
        module: &GuestModule<'_>,
        section: usize,
    ) -> Result<u64, VerifyError> {
        let symbols = image.symbols().iter();
        let mut own = symbols.filter(|s| s.place == SymbolPlace::Section(section) && !s.name.is_empty());
        let base = own.find_map(|symbol| {
            let value = self.guest.module_symbol(module.name, symbol.name)?;
            Some(value.wrapping_sub(symbol.value))
        });
        let shown = || Unlisted::percpu_base(image, &self.profile, placement, self.guest, module, section);
        Ok(match base {
            Some(base) => base,
            None => shown()?.unwrap_or(0),
        })
    }
}

impl core::fmt::Debug for Verifier<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Verifier").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// Whether the sections of a running module lie as `profile` lays them out. Where several
/// [machines](Profile::on_other_machines) are possible, this tells which it is.
pub fn lies_as(profile: &Profile, image: &Image<'_>, module: &GuestModule<'_>) -> bool {
    Layout::of(image, profile).is_ok_and(|layout| GivenMemory::of(image, &layout, module).is_ok())
}

/// Whether a file's memories can be those of a module that is as large as the machine shows. A file that is a little
/// larger is compared all the same, and told as what it is.
fn check_size(layout: &Layout, module: &GuestModule<'_>, most: u64) -> Result<(), VerifyError> {
    /// Bytes more than twice the size.
    const MORE: u64 = 1 << 20;
    let bytes = |init: bool| {
        let blocks = layout.blocks().iter().filter(|block| init || !block.kind.is_init());
        blocks.fold(0u64, |sum, block| sum.saturating_add(block.size))
    };
    let shown = module.size.map_or(u64::MAX, |size| size.saturating_mul(2).saturating_add(MORE));
    for (needs, most) in [(bytes(true), most), (bytes(false), shown)] {
        if needs > most {
            return Err(VerifyError::TooLarge { needs, most });
        }
    }
    Ok(())
}

/// Whether the file is the one that was loaded, as far as their build ids say.
fn check_build(image: &Image<'_>, module: &GuestModule<'_>) -> Result<(), VerifyError> {
    let (Some(running), Some(file)) = (module.build_id, image.build_id()) else { return Ok(()) };
    match running == file {
        true => Ok(()),
        false => Err(VerifyError::OtherBuild { running: running.into(), file: file.into() }),
    }
}

/// Whether the file is of another build, by the note in the module's own memory: for a file that does not fit, where
/// nobody has told the running module's build id.
fn other_build(guest: &dyn Guest, image: &Image<'_>, module: &GuestModule<'_>) -> Option<VerifyError> {
    // Sizes of name and description, the type, and "GNU".
    const HEADER: usize = 16;
    const LONGEST: usize = 64;
    let file = image.build_id().filter(|id| module.build_id.is_none() && id.len() <= LONGEST)?;
    let (_, note) = module.sections.iter().find(|(name, _)| *name == ".note.gnu.build-id")?;
    let note = guest.bytes(*note, HEADER + file.len())?;
    let (header, running) = note.split_at_checked(HEADER)?;
    let order = image.format().order;
    let expected = [4, file.len() as u32, 3, order.u32(*b"GNU\0")];
    let is_note =
        header.chunks_exact(4).zip(expected).all(|(word, expected)| word == order.bytes_of_u32(expected));
    (is_note && running != file)
        .then(|| VerifyError::OtherBuild { running: running.into(), file: file.into() })
}

impl From<OutOfMemory> for VerifyError {
    fn from(_: OutOfMemory) -> VerifyError {
        VerifyError::OutOfMemory
    }
}

impl From<LinkError> for VerifyError {
    fn from(error: LinkError) -> VerifyError {
        VerifyError::Link(error)
    }
}

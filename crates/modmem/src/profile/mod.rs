//! Profiles: the behaviour of one stated kernel, as data.
//!
//! A profile answers every question to which Linux's versions and configurations give different answers, and no code
//! elsewhere compares version numbers. It is built by name (`6.12`) or read from a kernel's `config` file and release.

mod config;
mod debian;
mod machine_state;
mod patching;
mod standing;
mod version;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

pub use config::KernelConfig;
pub use machine_state::MachineState;
pub use patching::{
    AlternativeStyle, CountedCalls, IndirectPadding, NopStyle, OrcStyle, Patching, S390Alternatives,
    SortStyle,
};
pub use standing::Doubt;
pub use version::KernelVersion;

use crate::address::RunAddr;
pub use crate::arch::KernelPlace;
use crate::arch::{Architecture, Machine, NotBuilt, Setup, with_machine};

/// How a kernel cuts module memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryModel {
    /// Linux 5.10 to 6.3: one block for the core and one for init (`struct module_layout`).
    ModuleLayout,
    /// Linux 6.4 and later: a block for each of seven types (`struct module_memory`).
    ModuleMemory,
}

/// Configuration switches that change what can be observed of module memory (CONFIG_ names in the field docs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switches {
    /// SMP: `.data..percpu` is set aside.
    pub smp: bool,
    /// MODULE_UNLOAD: `.exit` sections are core, not init.
    pub module_unload: bool,
    /// MODVERSIONS: CRCs of symbols are compared.
    pub modversions: bool,
    /// MODULE_FORCE_LOAD: a module without version magic or CRCs is loaded and taints, instead of being refused.
    pub module_force_load: bool,
    /// MODULE_SIG: unsigned modules taint.
    pub module_sig: bool,
    /// KALLSYMS: symbol tables stay in module memory.
    pub kallsyms: bool,
    /// KALLSYMS_ALL: data symbols too.
    pub kallsyms_all: bool,
    /// STRICT_MODULE_RWX: types lie on pages of their own with protections of their own.
    pub strict_module_rwx: bool,
    /// CONSTRUCTORS: `.ctors` and `.init_array` may not both be there.
    pub constructors: bool,
    /// HAVE_ARCH_PREL32_RELOCATIONS: export table entries are three 32-bit self-relative offsets.
    pub prel32: bool,
    /// ARCH_WANTS_MODULES_DATA_IN_VMALLOC: data comes from a range of its own.
    pub data_in_vmalloc: bool,
    /// INIT_STACK_ALL_ZERO: what the kernel does not write of what it copies into modules is zero.
    pub init_stack_zero: bool,
    /// DYNAMIC_FTRACE: on some machines modules get room for stubs to the tracer.
    pub dynamic_ftrace: bool,
    /// MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS: a missing import only warns.
    pub allow_missing_namespace_imports: bool,
    /// LIVEPATCH: modules that are live patches are taken, and their relocations against the kernel applied.
    pub livepatch: bool,
    /// RANDSTRUCT: where `struct module` has which member, nobody but the kernel's build knows.
    pub random_structures: bool,
}

/// Address ranges that module memory comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// For text.
    pub text: Range<RunAddr>,
    /// For data.
    pub data: Range<RunAddr>,
    /// Tried for text, and for data where that shares text's range, when the first one is full.
    pub fallback: Option<Range<RunAddr>>,
}

/// The behaviour of one stated kernel on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The version that was asked for.
    pub version: KernelVersion,
    /// Why it may be wrong; empty if it is proven: compared with running kernels of that version on that machine, with
    /// nothing in the configuration that is not modelled.
    pub doubts: Vec<Doubt>,
    /// Machine.
    pub machine: Machine,
    /// What sizes and relocated bytes depend on in the machine itself.
    pub machine_state: MachineState,
    /// How memory is cut.
    pub model: MemoryModel,
    /// Bytes of a page.
    pub page_size: u64,
    /// Whether `.static_call_sites` is read-only after init, as `__jump_table` and `.data..ro_after_init` are: from
    /// 6.16 on (da33e97b02ee), with HAVE_STATIC_CALL_INLINE.
    pub static_calls_ro_after_init: bool,
    /// Bytes of the huge pages that text is cut from, module behind module without guards, where the kernel keeps such
    /// packs (mm/execmem.c, EXECMEM_ROX_CACHE: x86-64 from 6.15 on); `None` where each block is mapped by itself.
    pub text_pack: Option<u64>,
    /// Whether what is not cut from a whole huge page lies at one all the same: until 6.18 (mm/execmem.c:execmem_vmalloc).
    pub packs_keep_alignment: bool,
    /// Whether a hole that fits exactly is found whatever the alignment, up to a page: from 5.16 on (9f531973dff3). Before,
    /// it had to have room for any alignment.
    pub exact_holes: bool,
    /// Whether the namespace `module:NAME,NAME` is open to the modules that it names, and to nobody else: from 6.16 on
    /// (main.c:verify_module_namespace).
    pub module_namespaces: bool,
    /// Whether `__kflagstab` says which symbols are exported to GPL-compatible modules only, and `__ksymtab_gpl` is not
    /// looked at: from 7.1 on (55fcb926b6d8).
    pub export_flags: bool,
    /// Whether `__version_ext_crcs` and `__version_ext_names` are read by the loader and not kept, as `__versions` is:
    /// from 6.14 on.
    pub extended_versions: bool,
    /// Whether a module that has `__versions`, but none for a symbol that it uses, is refused. Linux warns once and goes
    /// on (kernel/module/version.c:check_version); Debian's kernels are patched to refuse it, which their releases tell.
    pub refuses_missing_versions: bool,
    /// Whether two loaded sections of one name keep a module from being loaded, where KALLSYMS makes files of sections:
    /// from 6.12 on. Before, the module had none of these files then.
    pub refuses_duplicate_sections: bool,
    /// `sizeof(struct module)`, which `.gnu.linkonce.this_module` must have; `None` takes any.
    pub this_module_size: Option<u64>,
    /// Where in it the pointers to init and exit are; `None` takes any place.
    pub this_module_init: Option<u64>,
    /// The same for exit.
    pub this_module_exit: Option<u64>,
    /// The kernel's version magic; `None` takes any module's. One that ends with `RANDSTRUCT_` takes any hash behind that.
    pub vermagic: Option<Box<str>>,
    /// Configuration.
    pub switches: Switches,
    /// Address ranges.
    pub ranges: Ranges,
    /// Where the kernel maps all of the machine's memory, and what it allocates lies: on machines whose modules' code may
    /// name it, else empty.
    pub linear_map: Range<RunAddr>,
    /// Bytes of the reserved percpu chunk that modules' percpu data comes from (PERCPU_MODULE_RESERVE).
    pub percpu_reserve: u64,
    /// What it does to code and tables after relocation.
    pub patching: Patching,
}

/// Why there is no profile for a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProfileError {
    /// The text does not begin with a version.
    NotAVersion(Box<str>),
    /// Older than the oldest layout that modmem models.
    TooOld(KernelVersion),
    /// This build has nothing for the machine.
    Machine(NotBuilt),
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProfileError::NotAVersion(text) => {
                write!(f, "\"{text}\" is no kernel version; one looks like 6.12 or 6.12.117+deb12-amd64")
            }
            ProfileError::TooOld(version) => {
                write!(f, "Linux {version} is older than 5.10, the oldest whose module memory modmem models")
            }
            ProfileError::Machine(machine) => machine.fmt(f),
        }
    }
}

impl core::error::Error for ProfileError {}

impl Profile {
    /// The profile of Debian's configuration of a Linux version on x86-64, by name: `6.12`, `6.1`, `7.2`, or a whole
    /// release such as `6.12.117+deb12-amd64`.
    ///
    /// # Errors
    /// The text is no version, the version is older than 5.10, or this build has no x86-64.
    pub fn named(version: &str) -> Result<Profile, ProfileError> {
        Profile::named_for(Machine::X86_64, version)
    }

    /// The same for any machine.
    ///
    /// # Errors
    /// As [`Profile::named`].
    pub fn named_for(machine: Machine, version: &str) -> Result<Profile, ProfileError> {
        let release = version;
        let version = supported(release)?;
        let switches = with_machine!(machine, A => A::switches(version))?;
        let setup = with_machine!(machine, A => A::setup(version, None, None))?;
        let linear_map = with_machine!(machine, A => A::linear_map(version, None))?;
        let mut profile = Profile::new(machine, version, switches, setup);
        profile.linear_map = linear_map;
        profile.refuses_missing_versions = debian::is_debians(release);
        Ok(profile)
    }

    /// The profile of the kernel that was built with `config` and calls itself `release`. A configuration that names no
    /// machine is for x86-64.
    ///
    /// # Errors
    /// As [`Profile::named`].
    pub fn from_config(config: &KernelConfig<'_>, release: &str) -> Result<Profile, ProfileError> {
        Profile::from_config_at(config, release, None)
    }

    /// The same for a kernel that lies at `place`, which decides on some machines where its modules go: arm64, s390x,
    /// 32-bit PowerPC. Without it the kernel is where it was linked to be.
    ///
    /// # Errors
    /// As [`Profile::named`].
    pub fn from_config_at(
        config: &KernelConfig<'_>,
        release: &str,
        place: Option<KernelPlace>,
    ) -> Result<Profile, ProfileError> {
        let version = supported(release)?;
        let machine = config.machine().unwrap_or(Machine::X86_64);
        let setup = with_machine!(machine, A => A::setup(version, Some(config), place))?;
        let mut profile = Profile::new(machine, version, Switches::of(config), setup);
        profile.doubts.extend(standing::of_config(config));
        // main.c:module_mark_ro_after_init
        profile.static_calls_ro_after_init &= config.is_set("HAVE_STATIC_CALL_INLINE");
        profile.refuses_missing_versions = debian::is_debians(release);
        profile.linear_map = with_machine!(machine, A => A::linear_map(version, Some(config)))?;
        profile.machine_state.expolines = config.is_set("EXPOLINE") && !config.is_set("EXPOLINE_OFF");
        profile.vermagic = Some(config.vermagic(release).into());
        if config.is_set("MEM_ALLOC_PROFILING") {
            profile.percpu_reserve = 8 << 13;
        }
        Ok(profile)
    }

    fn new(machine: Machine, version: KernelVersion, switches: Switches, setup: Setup) -> Profile {
        let modern = version >= KernelVersion::new(6, 4);
        let proven = with_machine!(machine, A => A::PROVEN).unwrap_or_default();
        Profile {
            version,
            doubts: standing::of_version(version, proven).into_iter().collect(),
            machine,
            machine_state: MachineState::default(),
            model: if modern { MemoryModel::ModuleMemory } else { MemoryModel::ModuleLayout },
            page_size: setup.page_size,
            static_calls_ro_after_init: version >= KernelVersion::new(6, 16),
            text_pack: setup.text_pack,
            packs_keep_alignment: version < KernelVersion::new(6, 18),
            exact_holes: version >= KernelVersion::new(5, 16),
            module_namespaces: version >= KernelVersion::new(6, 16),
            export_flags: version >= KernelVersion::new(7, 1),
            extended_versions: version >= KernelVersion::new(6, 14),
            refuses_missing_versions: false,
            refuses_duplicate_sections: version >= KernelVersion::new(6, 12),
            this_module_size: None,
            this_module_init: None,
            this_module_exit: None,
            vermagic: None,
            switches,
            ranges: setup.ranges,
            linear_map: Range::default(),
            percpu_reserve: 8 << 10,
            patching: Patching::of(machine, version),
        }
    }

    /// Whether nothing makes it doubtful.
    pub fn is_proven(&self) -> bool {
        self.doubts.is_empty()
    }

    /// The same kernel on machines of other kinds that lay modules out in another way, if there are such.
    pub fn on_other_machines(&self) -> impl Iterator<Item = Profile> {
        let states: &[MachineState] = with_machine!(self.machine, A => A::STATES).unwrap_or_default();
        states.iter().map(|&machine_state| Profile { machine_state, ..self.clone() })
    }

    /// Whether others than modules, and code that the kernel makes, have memory at an address in the ranges of modules.
    pub fn is_shared(&self, address: RunAddr) -> bool {
        with_machine!(self.machine, A => A::is_shared(self, address)).unwrap_or(true)
    }

    /// Moves the module ranges up by `pages` pages, as KASLR does once at boot with 1 to 1024 of them
    /// (arch/x86/mm/init.c:execmem_arch_setup; 6.1: arch/x86/kernel/module.c:get_module_load_offset). On arm64 they are
    /// windows that end with the kernel, and any number moves them that leaves the kernel inside.
    #[must_use]
    pub fn with_kaslr_offset(mut self, pages: u64) -> Profile {
        let bytes = pages.saturating_mul(self.page_size);
        let shifted: Result<(), NotBuilt> =
            with_machine!(self.machine, A => A::shift(&mut self.ranges, bytes));
        debug_assert!(shifted.is_ok(), "a profile is for a machine that this build has");
        self
    }
}

/// The version of a release that modmem models.
fn supported(release: &str) -> Result<KernelVersion, ProfileError> {
    let version = KernelVersion::parse(release).ok_or_else(|| ProfileError::NotAVersion(release.into()))?;
    match version < KernelVersion::new(5, 10) {
        true => Err(ProfileError::TooOld(version)),
        false => Ok(version),
    }
}

impl From<NotBuilt> for ProfileError {
    fn from(machine: NotBuilt) -> ProfileError {
        ProfileError::Machine(machine)
    }
}

impl Switches {
    /// What Debian sets for x86-64 in 6.1 and 6.12.
    pub fn debian() -> Switches {
        Switches {
            smp: true,
            module_unload: true,
            modversions: true,
            module_force_load: true,
            module_sig: true,
            kallsyms: true,
            kallsyms_all: true,
            strict_module_rwx: true,
            constructors: false,
            prel32: true,
            data_in_vmalloc: false,
            init_stack_zero: true,
            dynamic_ftrace: true,
            allow_missing_namespace_imports: false,
            livepatch: true,
            random_structures: false,
        }
    }

    fn of(config: &KernelConfig<'_>) -> Switches {
        Switches {
            smp: config.is_set("SMP"),
            module_unload: config.is_set("MODULE_UNLOAD"),
            modversions: config.is_set("MODVERSIONS"),
            module_force_load: config.is_set("MODULE_FORCE_LOAD"),
            module_sig: config.is_set("MODULE_SIG"),
            kallsyms: config.is_set("KALLSYMS"),
            kallsyms_all: config.is_set("KALLSYMS_ALL"),
            strict_module_rwx: config.is_set("STRICT_MODULE_RWX"),
            constructors: config.is_set("CONSTRUCTORS"),
            prel32: config.is_set("HAVE_ARCH_PREL32_RELOCATIONS"),
            data_in_vmalloc: config.is_set("ARCH_WANTS_MODULES_DATA_IN_VMALLOC"),
            init_stack_zero: config.is_set("INIT_STACK_ALL_ZERO"),
            dynamic_ftrace: config.is_set("DYNAMIC_FTRACE"),
            allow_missing_namespace_imports: config.is_set("MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS"),
            livepatch: config.is_set("LIVEPATCH"),
            random_structures: config.has_random_structures(),
        }
    }
}

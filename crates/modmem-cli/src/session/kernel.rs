//! The kernel of a run: its files, its profile and its own symbols.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use modmem::Name;
use modmem::arch::Machine;
use modmem::image::{Image, SymbolPlace};
use modmem::link::Export;
use modmem::profile::{KernelConfig, Profile};
use modmem_linux::snapshot::Snapshot;
use modmem_linux::{ImageFacts, Kernel, KernelSymbols, ModuleFile, OpenOptions, PlannedModule, SymbolSource};

use super::LoadedModules;
use crate::args::KernelArgs;
use crate::output::Bars;
use crate::sample;

/// Bytes in which invented symbols lie: on 32-bit PowerPC, branches reach no farther than this from the modules' end.
const INVENTED_SIZE: u64 = 16 << 20;
/// The same on x86-64, where the kernel's window is larger.
const INVENTED_SIZE_X86_64: u64 = 256 << 20;

/// How many modules are asked what the kernel's `struct module` is like.
const WITNESSES: usize = 3;

/// Where in a kernel's tree the modules lie that were built with it.
const BUILT_WITH_THE_KERNEL: &str = "kernel/";

/// What the start of modules' percpu data is aligned to (PCPU_MIN_ALLOC_SIZE).
const PERCPU_ALIGNMENT: u64 = 4;

/// A kernel that was opened.
#[derive(Debug)]
pub(crate) struct OpenKernel {
    pub(crate) files: Kernel,
    pub(crate) profile: Profile,
    pub(crate) symbols: KernelSymbols,
    /// Symbols that have an address only because modmem gave them one.
    pub(crate) invented: usize,
    /// Where the user has symbols from.
    symbol_file: Option<PathBuf>,
    /// Whether the table of modules knows all symbols of the kernel.
    told_internals: bool,
    has_config: bool,
}

impl OpenKernel {
    /// Opens the kernel and, while its symbols are read, runs `meanwhile` on it.
    pub(crate) fn open<T: Send>(
        arguments: &KernelArgs,
        bars: Arc<Bars>,
        meanwhile: impl FnOnce(&Kernel) -> Result<T> + Send,
    ) -> Result<(OpenKernel, T)> {
        let files = open_files(arguments, bars)?;
        let (symbols, result) =
            rayon::join(|| files.symbols(arguments.symbols.as_deref()), || meanwhile(&files));
        let (symbols, result) = (symbols?, result?);
        let (profile, has_config) = profile_of(&files, symbols.image.as_ref())?;
        let symbol_file = arguments.symbols.clone();
        let (invented, told_internals) = (0, false);
        let kernel =
            OpenKernel { files, profile, symbols, invented, symbol_file, told_internals, has_config };
        Ok((kernel, result))
    }

    /// Opens the kernel to lay modules out, which needs none of its symbols.
    pub(crate) fn open_for_layout(arguments: &KernelArgs, bars: Arc<Bars>) -> Result<OpenKernel> {
        let files = open_files(arguments, bars)?;
        let (profile, has_config) = profile_of(&files, None)?;
        let symbols = KernelSymbols {
            symbols: Vec::new(),
            source: SymbolSource::None,
            licences_known: false,
            image: None,
        };
        let (invented, symbol_file, told_internals) = (0, None, false);
        Ok(OpenKernel { files, profile, symbols, invented, symbol_file, told_internals, has_config })
    }

    /// Moves the kernel to where a snapshot of a machine has it, which behaves as `profile` says.
    pub(crate) fn move_to(&mut self, snapshot: &Snapshot, profile: Profile) {
        self.symbols.move_to(&snapshot.symbols);
        self.profile = profile;
    }

    /// Learns what only modules of the kernel tell: the size of `struct module`, where in it init and exit are, and the
    /// version magic. `planned` are those that are read anyway.
    ///
    /// A module may be there that is none of the kernel's, built for another one: what most say of a few counts, and those
    /// that were built with the kernel are asked first.
    pub(crate) fn learn(&mut self, planned: &[PlannedModule]) {
        let built = |module: &ModuleFile| module.path().starts_with(BUILT_WITH_THE_KERNEL);
        let of_kernel = self.files.modules().any(built);
        let asked = |module: &ModuleFile| !module.is_outside() && (built(module) || !of_kernel);
        let planned: Vec<_> =
            planned.iter().filter(|planned| asked(&planned.module)).take(WITNESSES).collect();
        let is_planned = |module: &ModuleFile| planned.iter().any(|planned| planned.module == *module);
        let more = self.files.modules().filter(|module| asked(module) && !is_planned(module));
        let more = more.take(WITNESSES - planned.len()).filter_map(|module| module.read().ok());
        let contents = planned.iter().filter_map(|planned| planned.contents().ok());
        let files: Vec<Cow<'_, [u8]>> = contents.chain(more.map(Cow::Owned)).collect();
        let images: Vec<Image<'_>> = files.iter().filter_map(|file| Image::parse(file).ok()).collect();
        let release = format!("{} ", self.files.release());
        let magic = |image: &Image<'_>| {
            let magic = image.modinfo().get("vermagic").and_then(Name::as_str);
            magic.filter(|magic| magic.starts_with(&release)).map(str::to_owned)
        };
        let profile = &mut self.profile;
        profile.this_module_size = most(images.iter().map(|image| image.this_module().size()));
        profile.this_module_init = most(images.iter().filter_map(|image| image.entry_offsets()[0]));
        profile.this_module_exit = most(images.iter().filter_map(|image| image.entry_offsets()[1]));
        if let Some(magic) = most(images.iter().filter_map(magic)) {
            profile.vermagic = Some(magic.into());
        }
    }

    /// Where the kernel's own percpu data ends and that of modules begins, among the values of percpu symbols: behind the
    /// kernel's template (mm/percpu.c:pcpu_setup_first_chunk), which x86-64 fills up to a page.
    pub(crate) fn percpu_end(&self) -> u64 {
        let image = self.symbols.image.as_ref().and_then(|image| image.percpu.as_ref());
        let alignment = match self.profile.machine {
            Machine::X86_64 => self.profile.page_size,
            _ => PERCPU_ALIGNMENT,
        };
        image.map_or(0, |percpu| percpu.end.checked_next_multiple_of(alignment).unwrap_or(percpu.end))
    }

    /// Gives the kernel's symbols to the table of modules; those without an address get one.
    pub(crate) fn add_symbols(&mut self, modules: &mut LoadedModules) -> Result<()> {
        self.invented += self.symbols.symbols.iter().filter(|symbol| symbol.address.is_none()).count();
        let profile = &self.profile;
        let exports = self.symbols.symbols.iter().map(|symbol| Export {
            name: Name::from(&*symbol.name),
            value: symbol.address.unwrap_or_else(|| invented_address(profile, &symbol.name)),
            gpl_only: symbol.gpl_only,
            crc: symbol.crc,
            namespace: Name::from(symbol.namespace.as_deref().unwrap_or_default()),
        });
        modules.add_kernel_symbols(exports).map_err(|error| anyhow!("the kernel's symbols: {error}"))
    }

    /// Before a livepatch module, tells the table of modules all symbols of the kernel, which such a module may name.
    pub(crate) fn tell_internals(&mut self, image: &Image<'_>, modules: &mut LoadedModules) -> Result<()> {
        if self.told_internals || image.modinfo().get("livepatch").is_none() {
            return Ok(());
        }
        let symbols = self.files.internal_symbols(self.symbol_file.as_deref())?;
        modules.set_internal_symbols(symbols.iter().map(|(name, value)| (Name::from(&**name), *value)))?;
        self.told_internals = true;
        Ok(())
    }

    /// Where nothing tells what the kernel exports, whatever a module needs and nobody has is taken for the kernel's.
    pub(crate) fn invent_symbols(&mut self, image: &Image<'_>, modules: &mut LoadedModules) -> Result<()> {
        if self.symbols.source != SymbolSource::None {
            return Ok(());
        }
        let undefined =
            image.symbols().iter().skip(1).filter(|symbol| symbol.place == SymbolPlace::Undefined);
        let mut missing = BTreeMap::new();
        for symbol in undefined.filter(|symbol| !symbol.weak && modules.exported(symbol.name).is_none()) {
            missing.insert(symbol.name, invented_address(&self.profile, &symbol.name.to_text()));
        }
        self.invented += missing.len();
        let namespace = Name::default();
        let exports = missing.into_iter().map(|(name, value)| Export {
            name,
            value,
            gpl_only: false,
            crc: None,
            namespace,
        });
        modules.add_kernel_symbols(exports).map_err(|error| anyhow!("the kernel's symbols: {error}"))
    }

    /// Which modules of the kernel would provide symbols that nobody loaded has.
    pub(crate) fn who_provides<'s>(
        &self,
        symbols: impl Iterator<Item = &'s str>,
        modules: &LoadedModules,
    ) -> String {
        let mut providers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for symbol in symbols {
            if let Some(module) = self.files.exporters().get(symbol) {
                providers.entry(module.name()).or_default().push(symbol);
            }
        }
        let mut advice = String::new();
        for (module, symbols) in providers {
            let state =
                if modules.by_name(module).is_some() { "loaded, of another build?" } else { "not loaded" };
            // Writing to a string cannot fail.
            let _ = write!(advice, "\n  {} would come from {module} ({state})", symbols.join(", "));
        }
        advice
    }

    /// The version whose rules are used, and whether they are proven.
    pub(crate) fn profile_name(&self) -> String {
        profile_name(&self.profile)
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.profile.is_proven()
    }

    /// Where the kernel's symbols come from, in words.
    pub(crate) fn symbol_source(&self) -> String {
        match &self.symbols.source {
            SymbolSource::SymbolFile(path) => format!("symbol file {}", path.display()),
            SymbolSource::Image(path) => format!("kernel image {}", file_name(path)),
            SymbolSource::ModuleSymvers(path) => format!("{} (addresses are invented)", file_name(path)),
            SymbolSource::Listed => "the machine's own list".into(),
            SymbolSource::None => "nowhere (addresses are invented)".into(),
        }
    }

    /// What the user should know about how far the result can be trusted.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        remarks.extend(doubts(&self.profile));
        remarks.extend(self.files.remarks());
        if !self.has_config {
            remarks.push("no config file: Debian's configuration is assumed".into());
            if self.files.machine().is_none() {
                remarks.push("nothing tells which machine the kernel is for: x86-64 is assumed".into());
            }
        }
        if self.symbols.image.is_none() && self.profile.machine.places_modules_by_kernel() {
            let text = "nothing tells how large the kernel is and where it lies: modules are placed beside one as large \
                        as Debian's, where it was linked to lie";
            remarks.push(text.into());
        }
        if !self.symbols.symbols.is_empty() && !self.symbols.licences_known {
            remarks.push("nothing tells the licences and CRCs of kernel symbols: neither is checked".into());
        }
        if self.invented > 0 {
            remarks.push(format!(
                "{} kernel symbols have synthetic addresses, the same in every run; give --symbols FILE for real ones",
                self.invented
            ));
        }
        remarks
    }
}

/// What most of them say; of as many, what was said first.
fn most<T: PartialEq>(said: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: Vec<(T, usize)> = Vec::new();
    for said in said {
        match counts.iter_mut().find(|(known, _)| *known == said) {
            Some((_, count)) => *count += 1,
            None => counts.push((said, 1)),
        }
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(said, _)| said)
}

/// The version whose rules are used, and whether they are proven.
pub(crate) fn profile_name(profile: &Profile) -> String {
    let unproven = if profile.is_proven() { "" } else { " (unproven)" };
    format!("Linux {}{unproven}", profile.version)
}

/// Why a profile may be wrong, a sentence each.
pub(crate) fn doubts(profile: &Profile) -> impl Iterator<Item = String> + '_ {
    let version = profile.version;
    profile.doubts.iter().map(move |doubt| format!("unproven for this Linux {version}: {doubt}"))
}

/// Opens a kernel's files alone.
pub(crate) fn open_files(arguments: &KernelArgs, bars: Arc<Bars>) -> Result<Kernel> {
    let mut options = OpenOptions { sample: sample::FILES, progress: bars, ..OpenOptions::default() };
    if let Some(cache) = arguments.cache.as_ref().filter(|cache| !cache.is_empty()) {
        options.cache = Some(cache.into());
    }
    options.offline = arguments.offline;
    options.refresh = arguments.refresh;
    options.config = !arguments.no_config;
    options.command_line = arguments.cmdline.as_deref().map(command_line).transpose()?;
    let sources: Vec<&str> = arguments.kernel.iter().map(String::as_str).collect();
    Ok(Kernel::open(&sources, &options)?)
}

/// A command line as it was given, or as the file of that name has it.
fn command_line(text: &str) -> Result<String> {
    match std::path::Path::new(text).is_file() {
        true => std::fs::read_to_string(text).with_context(|| format!("--cmdline {text}")),
        false => Ok(text.to_owned()),
    }
}

/// The kernel's profile, and whether its configuration was there to make it from. Where the kernel lies decides on some
/// machines where its modules go; without that it lies where it was linked to lie.
pub(crate) fn profile_of(files: &Kernel, image: Option<&ImageFacts>) -> Result<(Profile, bool)> {
    let config = files.config();
    let profile = match &config {
        Some(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            // One that is empty or garbage would pass for a kernel with everything switched off.
            if !text.lines().any(|line| line.starts_with("CONFIG_")) {
                bail!(
                    "kernel {}: its config file has no line that starts with CONFIG_ (damaged?)",
                    files.release()
                );
            }
            let place = image.map(ImageFacts::place);
            Profile::from_config_at(&KernelConfig::parse(&text), files.release(), place)
        }
        None => Profile::named_for(files.machine().unwrap_or(Machine::X86_64), files.release()),
    };
    Ok((profile.with_context(|| format!("kernel {}", files.release()))?, config.is_some()))
}

/// An address that depends on the name and the machine alone (FNV-1a), 16-byte aligned, behind the kernel's start.
fn invented_address(profile: &Profile, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let size = match profile.machine {
        Machine::X86_64 => INVENTED_SIZE_X86_64,
        _ => INVENTED_SIZE,
    };
    invented_start(profile) + (hash & (size - 1) & !15)
}

/// Where the kernel lies whose symbols are invented: where kernels of the machine are linked to lie, so that modules
/// reach it.
fn invented_start(profile: &Profile) -> u64 {
    match profile.machine {
        Machine::Arm64 if profile.page_size == 16 << 10 => 0xffff_c000_8000_0000,
        Machine::Arm64 => 0xffff_8000_8000_0000,
        Machine::S390 => 0x3ff_e010_0000,
        Machine::PowerPc | Machine::Arm | Machine::I386 => 0xc000_0000,
        Machine::PowerPc64 => 0xc000_0000_0000_0000,
        Machine::RiscV => 0xffff_ffff_8000_0000,
        _ => 0xffff_ffff_8100_0000,
    }
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

//! Kernels recorded while they ran: what each reported about its modules, and the module files that it had loaded.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use modmem::profile::{KernelConfig, KernelPlace, Profile};
use modmem::verify::{GuestModule, lies_as};
use modmem::{Image, Name, RunAddr};

/// Module name to section name to the bytes of its notes.
pub type Notes = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// One recorded kernel.
#[derive(Debug)]
pub struct Oracle {
    /// Its release, such as `6.12.117+deb12-amd64`.
    pub release: String,
    /// Its configuration.
    pub config: String,
    /// Module name to file.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Module name to section name to address.
    pub sections: HashMap<String, HashMap<String, u64>>,
    /// The text of /proc/modules.
    pub proc_modules: String,
    /// Module name to what /sys/module had: `core=` bytes, `init=` bytes, `refcnt=`, `taint=`, `state=`.
    pub modinfo: BTreeMap<String, String>,
    /// Module name to bytes of core memory.
    pub core_sizes: HashMap<String, u64>,
    /// vmalloc areas: address to size, guard page included.
    pub areas: BTreeMap<u64, u64>,
    /// Memory as it was after all loads: address to bytes.
    pub memory: BTreeMap<u64, Vec<u8>>,
    /// Addresses of the kernel's own symbols; of names that stand twice, the exported one.
    pub symbols: HashMap<String, u64>,
    /// The lines of /proc/kallsyms about modules, and about what it shows like modules: BPF programs, trampolines.
    pub module_symbols: Vec<String>,
    /// The files of /sys/module/*/notes, where they were recorded.
    pub notes: Option<Notes>,
    /// Module names in load order.
    pub order: Vec<String>,
    /// What `mod_tree` held, from before the first load to after the last unload, where that was recorded.
    pub mod_tree: Vec<ModTree>,
}

/// The words of a kernel's `mod_tree` at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModTree {
    /// What had just happened: the name of a module that was loaded, `rmmod-` and the name of one that was to be
    /// unloaded, or a word about the moment.
    pub moment: String,
    /// The latch's sequence number.
    pub sequence: u32,
    /// The roots of both trees: addresses of `struct rb_node`.
    pub roots: [u32; 2],
    /// `addr_min`, `addr_max`, `data_addr_min` and `data_addr_max`.
    pub bounds: [u32; 4],
}

/// The folder of the recorded kernel of that name below `MODMEM_ORACLE`.
///
/// # Panics
/// There are no recordings. Tests that need some are ignored where the variable is not set when they are built:
/// `#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]`.
pub fn folder(name: &str) -> PathBuf {
    let root = std::env::var_os("MODMEM_ORACLE");
    PathBuf::from(root.unwrap_or_else(|| panic!("{name}: MODMEM_ORACLE is not set"))).join(name)
}

/// The bytes of a member of a recording: the file of this name, or the compressed one beside it.
fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let (plain, compressed) = (folder.join(name), folder.join(format!("{name}.zst")));
    if plain.exists() {
        return std::fs::read(&plain).with_context(|| plain.display().to_string());
    }
    let bytes = std::fs::read(&compressed).with_context(|| compressed.display().to_string())?;
    zstd::decode_all(&bytes[..]).with_context(|| compressed.display().to_string())
}

fn is_there(folder: &Path, name: &str) -> bool {
    folder.join(name).exists() || folder.join(format!("{name}.zst")).exists()
}

fn read_text(folder: &Path, name: &str) -> Result<String> {
    String::from_utf8(read(folder, name)?).with_context(|| format!("{}: {name}", folder.display()))
}

fn hex(text: &str) -> Result<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).with_context(|| format!("{text:?} is no address"))
}

impl Oracle {
    /// The recorded kernel of that name below `MODMEM_ORACLE`.
    ///
    /// # Panics
    /// It cannot be read, or there are no recordings.
    pub fn from_environment(name: &str) -> Oracle {
        Oracle::read(&folder(name)).unwrap_or_else(|error| panic!("{name}: {error:#}"))
    }

    /// Reads a recording that brings its modules' files and its configuration along.
    ///
    /// # Errors
    /// It is not complete: a broken recording must not pass for a small one.
    pub fn read(folder: &Path) -> Result<Oracle> {
        let files =
            files(&read(folder, "ko.tar")?).with_context(|| format!("{}: ko.tar", folder.display()))?;
        let config = read_text(folder, "config")?;
        Oracle::of(folder, files, config)
    }

    /// Reads a recording of a kernel whose modules' files and configuration are at hand.
    ///
    /// # Errors
    /// It is not complete.
    pub fn of(folder: &Path, files: BTreeMap<String, Vec<u8>>, config: String) -> Result<Oracle> {
        let mut sections: HashMap<String, HashMap<String, u64>> = HashMap::new();
        for line in read_text(folder, "sections")?.lines() {
            let [module, section, address] = line.split(' ').collect::<Vec<_>>()[..] else {
                bail!("{}: sections: {line:?}", folder.display())
            };
            sections.entry(module.into()).or_default().insert(section.into(), hex(address)?);
        }
        let (mut modinfo, mut core_sizes) = (BTreeMap::new(), HashMap::new());
        for line in read_text(folder, "modinfo")?.lines() {
            let fields = || {
                let (module, rest) = line.split_once(' ')?;
                let core = rest.strip_prefix("core=")?.split(' ').next()?.parse().ok()?;
                Some((module, rest, core))
            };
            let (module, rest, core) =
                fields().with_context(|| format!("{}: modinfo: {line:?}", folder.display()))?;
            core_sizes.insert(module.into(), core);
            modinfo.insert(module.into(), rest.into());
        }
        let mut areas = BTreeMap::new();
        for line in read_text(folder, "vmallocinfo")?.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let (start, end) =
                range.with_context(|| format!("{}: vmallocinfo: {line:?}", folder.display()))?;
            areas.insert(hex(start)?, hex(end)?.wrapping_sub(hex(start)?));
        }
        let proc_modules = read_text(folder, "modules")?;
        let kallsyms = read_text(folder, "kallsyms")?;
        let mut order: Vec<String> =
            proc_modules.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect();
        // The kernel lists the newest first.
        order.reverse();
        let mut mod_tree = Vec::new();
        for name in ["mod_tree", "mod_tree.after_rmmod"] {
            if is_there(folder, name) {
                mod_tree.extend(self::mod_tree(&read_text(folder, name)?)?);
            }
        }
        Ok(Oracle {
            release: read_text(folder, "kernel")?.trim().into(),
            config,
            files,
            sections,
            proc_modules,
            modinfo,
            core_sizes,
            areas,
            memory: if is_there(folder, "mem") { memory(&read(folder, "mem")?)? } else { BTreeMap::new() },
            symbols: symbols(&kallsyms)?,
            module_symbols: kallsyms.lines().filter(|line| line.contains('[')).map(str::to_owned).collect(),
            notes: notes(&folder.join("sysfs-notes"))?,
            order,
            mod_tree,
        })
    }

    /// What the kernel was, by its configuration and by where it lay.
    ///
    /// # Errors
    /// It is none that modmem has a profile for.
    pub fn profile(&self) -> Result<Profile> {
        let config = KernelConfig::parse(&self.config);
        let symbol = |name| self.symbols.get(name).copied().map(RunAddr);
        // On s390x the kernel's text lies that far into its image (TEXT_OFFSET).
        let before_text = if config.value("KERNEL_IMAGE_BASE").is_some() { 0x10_0000 } else { 0 };
        let place = || {
            let (text, text_end) = (symbol("_text")?, symbol("_etext")?);
            let start = RunAddr(text.0.wrapping_sub(before_text));
            Some(KernelPlace { start, text_end, end: symbol("_end").unwrap_or(text_end) })
        };
        let profile = Profile::from_config_at(&config, &self.release, place())?;
        // CPUs with errata need more room: the profile by which more of the modules lie as they do.
        let mut best = (self.fitting(&profile), profile.clone());
        for other in profile.on_other_machines() {
            let fitting = self.fitting(&other);
            if fitting > best.0 {
                best = (fitting, other);
            }
        }
        Ok(best.1)
    }

    /// How many modules lie as a profile lays them out.
    fn fitting(&self, profile: &Profile) -> usize {
        let fits = |(name, file): (&String, &Vec<u8>)| {
            let (Ok(image), Some(sections)) = (Image::parse(file), self.sections.get(name)) else {
                return false;
            };
            let sections: Vec<(Name<'_>, RunAddr)> =
                sections.iter().map(|(name, &address)| (Name::from(&**name), RunAddr(address))).collect();
            let module = GuestModule {
                name,
                sections: &sections,
                live: true,
                forced: false,
                build_id: None,
                size: None,
            };
            lies_as(profile, &image, &module)
        };
        self.files.iter().filter(|&module| fits(module)).count()
    }

    /// The `length` bytes at `address`, if they were recorded.
    pub fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let (start, bytes) = self.memory.range(..=address).next_back()?;
        let offset = usize::try_from(address - start).ok()?;
        bytes.get(offset..offset.checked_add(length)?)
    }
}

/// The modules in an archive, by name.
fn files(archive: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()).map(|name| name.replace('-', "_"))
        else {
            continue;
        };
        if path.extension().is_some_and(|extension| extension == "ko") {
            let mut file = Vec::new();
            entry.read_to_end(&mut file)?;
            files.insert(name, file);
        }
    }
    Ok(files)
}

/// Folders named by modules with files named by sections; nothing where notes were not recorded.
fn notes(folder: &Path) -> Result<Option<Notes>> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let mut notes = Notes::new();
    for module in std::fs::read_dir(folder)? {
        let module = module?;
        let sections = notes.entry(module.file_name().to_string_lossy().into_owned()).or_default();
        for section in std::fs::read_dir(module.path())? {
            let section = section?;
            sections
                .insert(section.file_name().to_string_lossy().into_owned(), std::fs::read(section.path())?);
        }
    }
    Ok(Some(notes))
}

/// Lines of the moment, the address of `mod_tree`, and its words: sequence and roots, bounds, what lies behind them.
fn mod_tree(text: &str) -> Result<Vec<ModTree>> {
    let words = |words: &str| {
        let words = words.split_whitespace().map(|word| u32::try_from(hex(word).ok()?).ok());
        words.collect::<Option<Vec<u32>>>()
    };
    let parse = |line: &str| {
        let (moment, rest) = line.split_once(" mod_tree@")?;
        let [tree, bounds, _] = rest.split(" | ").collect::<Vec<_>>()[..] else { return None };
        let tree = words(tree.split_once(" words ")?.1)?;
        let &[sequence, first, second, ..] = &tree[..] else { return None };
        let bounds = words(bounds)?.try_into().ok()?;
        Some(ModTree { moment: moment.into(), sequence, roots: [first, second], bounds })
    };
    let lines = text.lines().filter(|line| line.contains(" mod_tree@"));
    lines.map(|line| parse(line).with_context(|| format!("mod_tree: {line:?}"))).collect()
}

/// Records of a text line "address length", in hexadecimal, and that many bytes.
fn memory(all: &[u8]) -> Result<BTreeMap<u64, Vec<u8>>> {
    let mut memory = BTreeMap::new();
    let mut rest = all;
    while !rest.is_empty() {
        let record = || {
            let line = rest.iter().position(|&byte| byte == b'\n')?;
            let (address, length) = std::str::from_utf8(&rest[..line]).ok()?.split_once(' ')?;
            let length = usize::try_from(hex(length).ok()?).ok()?;
            let (bytes, tail) = rest[line + 1..].split_at_checked(length)?;
            Some((hex(address).ok()?, bytes, tail))
        };
        let (address, bytes, tail) =
            record().with_context(|| format!("mem: no record {} bytes before its end", rest.len()))?;
        memory.insert(address, bytes.to_vec());
        rest = tail;
    }
    Ok(memory)
}

fn symbols(kallsyms: &str) -> Result<HashMap<String, u64>> {
    let mut symbols = HashMap::new();
    let mut exported = HashMap::new();
    for line in kallsyms.lines().filter(|line| !line.contains('[')) {
        let [address, letter, name] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
        if letter.chars().all(char::is_uppercase) {
            exported.insert(name.to_owned(), hex(address)?);
        } else {
            symbols.entry(name.to_owned()).or_insert(hex(address)?);
        }
    }
    symbols.extend(exported);
    Ok(symbols)
}

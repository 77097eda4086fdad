//! One kernel's files, opened.

use crate::{
    Error, ModuleFile, OpenOptions, Source,
    cache::Cache,
    compress,
    depmod::{self, Aliases, SoftDependencies},
    image::{self, KernelImage},
    index::{self, Scan, Scanned},
    modinfo::normal_name,
    module_file::{Origin, module_name},
    progress::Progress,
    suggest,
    tree::Tree,
};
use modmem::{arch::Machine, profile::KernelConfig};
use std::{
    collections::{HashMap, HashSet},
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// So many modules are asked which machine they are for, before the kernel's image is.
const FIRST_MODULES: usize = 4;

/// How a remark begins about a file that is there and of no use.
const CANNOT_BE_READ: &str = "not used, since it cannot be read";

/// Folder of the cache with the results of scans.
const INDEXES: &str = "index";

/// One kernel: its modules, its image and what tells about them.
///
/// Nothing is read before it is needed. What needs a scan of all modules (aliases and exporters, where depmod's files
/// are absent) tells the user's [`Progress`] and is kept in the cache.
pub struct Kernel {
    tree: Tree,
    described: String,
    /// The folders that the files come from, and what those are worth.
    origins: Vec<(PathBuf, Origin)>,
    pub(crate) cache: Cache,
    progress: Arc<dyn Progress>,
    modules: Vec<ModuleFile>,
    by_name: HashMap<String, usize>,
    by_path: HashMap<String, usize>,
    builtin: OnceLock<Builtin>,
    dependencies: OnceLock<Option<HashMap<String, Vec<String>>>>,
    softdeps: OnceLock<Option<HashMap<String, SoftDependencies>>>,
    aliases: OnceLock<Aliases>,
    crypto_aliases: OnceLock<Aliases>,
    scanned: OnceLock<Vec<Scanned>>,
    /// What stands in for something else, in words.
    remarks: Mutex<Vec<String>>,
    exporters: OnceLock<HashMap<String, ModuleFile>>,
}

/// What is part of the kernel itself.
#[derive(Debug, Default)]
struct Builtin {
    names: HashSet<String>,
    aliases: Aliases,
}

impl Kernel {
    /// Opens the kernel that `sources` hold together; the running one if there are none.
    ///
    /// Each source is what [`Source::parse`] understands. Several are merged into one tree, for kernels that come in
    /// several packages; where two hold the same file the later one counts. They must be of one release.
    pub fn open(sources: &[&str], options: &OpenOptions) -> Result<Kernel, Error> {
        let sources: Vec<Source> = if sources.is_empty() {
            vec![Source::Running]
        } else {
            sources.iter().map(|spec| Source::parse(spec)).collect::<Result<_, _>>()?
        };
        Kernel::open_sources(&sources, options)
    }

    /// As [`Kernel::open`], with sources that were understood before.
    pub fn open_sources(sources: &[Source], options: &OpenOptions) -> Result<Kernel, Error> {
        let cache = Cache::new(options.cache.clone());
        let (mut roots, mut described, mut origins) = (Vec::new(), Vec::new(), Vec::new());
        let mut remarks = Vec::new();
        for source in sources {
            let (root, from, remark) = source.root(options, &cache)?;
            remarks.extend(remark);
            origins.extend(root.folder().map(|folder| (canonical(folder), source.origin())));
            roots.push(root);
            described.push(from);
        }
        remarks.extend(cache.remark());
        let described = described.join(" + ");
        let tree = Tree::merge(&roots, &described)?;
        let modules = modules_in_order(&tree, &mut remarks);
        let mut kernel = Kernel {
            tree,
            described,
            origins,
            cache,
            progress: options.progress.clone(),
            by_name: HashMap::with_capacity(modules.len()),
            by_path: modules
                .iter()
                .enumerate()
                .map(|(at, module)| (stem(module.path()).to_owned(), at))
                .collect(),
            modules,
            builtin: OnceLock::new(),
            dependencies: OnceLock::new(),
            softdeps: OnceLock::new(),
            aliases: OnceLock::new(),
            crypto_aliases: OnceLock::new(),
            scanned: OnceLock::new(),
            remarks: Mutex::new(remarks),
            exporters: OnceLock::new(),
        };
        kernel.name_modules();
        Ok(kernel)
    }

    /// Of two modules with one name: the one depmod chose, else the one in `updates`, else the first.
    fn name_modules(&mut self) {
        let mut by_name: HashMap<String, usize> = HashMap::with_capacity(self.modules.len());
        for (at, module) in self.modules.iter().enumerate() {
            let better = |other: &usize| {
                let rank = |module: &ModuleFile| {
                    let chosen =
                        self.dependencies().is_some_and(|chosen| chosen.contains_key(stem(module.path())));
                    (chosen, module.path().starts_with("updates/"))
                };
                rank(module) > rank(&self.modules[*other])
            };
            if by_name.get(module.name()).is_none_or(better) {
                by_name.insert(module.name().to_owned(), at);
            }
        }
        self.by_name = by_name;
    }

    /// The kernel's release, such as `6.12.117+deb12-amd64`; `unknown` if not even the modules say.
    pub fn release(&self) -> &str {
        &self.tree.release
    }

    /// Where the files come from, for the user to read.
    pub fn describe(&self) -> String {
        self.described.clone()
    }

    /// What one of its modules' files is worth.
    pub fn origin(&self, module: &ModuleFile) -> Origin {
        let Some(file) = module.file() else { return Origin::Program };
        let file = canonical(file);
        // This machine's own, by whatever name.
        if DISK.iter().any(|folder| file.starts_with(folder)) {
            return Origin::Disk;
        }
        let holding = self.origins.iter().filter(|(folder, _)| file.starts_with(folder));
        let innermost = holding.max_by_key(|(folder, _)| folder.components().count());
        innermost.map_or(Origin::Given, |(_, origin)| *origin)
    }

    /// The kernel's configuration, if it is there.
    pub fn config(&self) -> Option<Vec<u8>> {
        self.told(self.tree.read_first(&["boot/config", "modules/config"])?).map(Into::into)
    }

    /// The machine that the kernel is for: its configuration says so, or else its first module that can be read, or its
    /// image.
    pub fn machine(&self) -> Option<Machine> {
        let config = self.config();
        let configured =
            config.and_then(|config| KernelConfig::parse(&String::from_utf8_lossy(&config)).machine());
        let of_modules = || {
            let mut files = self.modules.iter().take(FIRST_MODULES).filter_map(|module| module.read().ok());
            files.find_map(|file| image::elf_machine(&file))
        };
        let of_image = || Some(KernelImage::read("", self.image()?.ok()?, None).ok()?.machine());
        configured.or_else(of_modules).or_else(of_image)
    }

    /// `System.map`, if there is a real one: Debian's consists of a line that says where it is.
    pub fn symbol_file(&self) -> Option<Vec<u8>> {
        let bytes = self.told(self.tree.read_first(&["boot/System.map", "modules/System.map"])?)?;
        (!crate::symbol_file::is_stub(&bytes)).then(|| bytes.into_owned())
    }

    /// The kernel's image as it boots, `vmlinuz`, or `vmlinux` where that is all there is.
    pub fn image(&self) -> Option<Result<Vec<u8>, Error>> {
        Some(self.tree.read_first(&IMAGE_NAMES)?.map(Into::into))
    }

    /// The image's file; `None` if there is no image, or if it is part of the program.
    pub fn image_path(&self) -> Option<&Path> {
        self.tree.path_of_first(&IMAGE_NAMES)
    }

    /// `Module.symvers`, if it is there: in a headers package, a build folder, or as `symvers.gz` beside the modules.
    pub fn module_symvers(&self) -> Option<Vec<u8>> {
        let bytes = self.told(self.tree.read_first(&SYMVERS_NAMES)?)?;
        self.told(compress::decompress("Module.symvers", bytes.into_owned()))
    }

    pub(crate) fn module_symvers_path(&self) -> Option<PathBuf> {
        self.tree.path_of_first(&SYMVERS_NAMES).map(Path::to_path_buf)
    }

    pub(crate) fn symbol_file_path(&self) -> Option<PathBuf> {
        self.tree.path_of_first(&["boot/System.map", "modules/System.map"]).map(Path::to_path_buf)
    }

    /// All modules, in the order of the kernel's build (`modules.order`), then those that are not in it.
    pub fn modules(&self) -> impl Iterator<Item = &ModuleFile> {
        self.modules.iter()
    }

    /// The module of exactly this name, with `-` for `_` if the user likes.
    pub fn module(&self, name: &str) -> Option<&ModuleFile> {
        self.by_name.get(&normal_name(name)).map(|&at| &self.modules[at])
    }

    /// Is this name a module that was built into the kernel?
    pub fn is_built_in(&self, name: &str) -> bool {
        self.builtin().names.contains(&normal_name(name))
    }

    /// The modules that `name` stands for, as modprobe understands names: a module's name (`-` and `_` are the same),
    /// else an alias such as `fs-ext4` or `pci:v00008086d...`, which may stand for several. Beyond modprobe, a path:
    /// of a module in this kernel (`kernel/fs/ext4/ext4.ko.xz`) or of a file elsewhere.
    pub fn find(&self, name: &str) -> Result<Vec<ModuleFile>, Error> {
        if let Some(module) = self.find_path(name)? {
            return Ok(vec![module]);
        }
        let plain = module_name(name).unwrap_or_else(|| name.to_owned());
        if let Some(module) = self.module(&plain) {
            return Ok(vec![module.clone()]);
        }
        // Before the built-ins, as modprobe: `crc32` is a library in the kernel, and an alias of two modules.
        let found = self.named(self.quick_aliases().find(name));
        if !found.is_empty() {
            return Ok(found);
        }
        let builtin = self.builtin();
        if self.is_built_in(&plain) || !builtin.aliases.find(name).is_empty() {
            return Err(Error::BuiltIn { name: name.to_owned(), release: self.release().to_owned() });
        }
        let found = self.named(self.aliases().find(name));
        if !found.is_empty() {
            return Ok(found);
        }
        let names = self.by_name.keys().chain(&builtin.names).map(String::as_str);
        let suggestions = suggest::closest(&normal_name(&plain), names);
        Err(Error::UnknownModule { name: name.to_owned(), release: self.release().to_owned(), suggestions })
    }

    fn find_path(&self, name: &str) -> Result<Option<ModuleFile>, Error> {
        if !name.contains('/') && module_name(name).is_none() {
            return Ok(None);
        }
        if let Some(&at) = self.by_path.get(stem(name)) {
            return Ok(Some(self.modules[at].clone()));
        }
        let path = Path::new(name);
        match fs::canonicalize(path) {
            Ok(full) if full.is_file() => {
                // A module of this kernel, given by its full path, stays one.
                let own = module_name(name).and_then(|name| self.module(&name).cloned());
                let same = |own: &ModuleFile| {
                    own.file().and_then(|file| fs::canonicalize(file).ok()).is_some_and(|file| file == full)
                };
                Ok(Some(own.filter(same).unwrap_or_else(|| ModuleFile::outside(path))))
            }
            // `ext4.ko` where no such file is: the module's name is clear all the same.
            _ if !name.contains('/') => Ok(None),
            Ok(_) => Err(Error::malformed(name, "not a file")),
            Err(error) => Err(Error::read(path)(error)),
        }
    }

    /// The module's bytes, decompressed.
    pub fn read(&self, module: &ModuleFile) -> Result<Vec<u8>, Error> {
        module.read()
    }

    /// Which module exports a symbol, by the symbol's name.
    ///
    /// The first call scans all modules, unless an earlier run did.
    pub fn exporters(&self) -> &HashMap<String, ModuleFile> {
        self.exporters.get_or_init(|| {
            let mut exporters = HashMap::new();
            for (module, scanned) in self.modules.iter().zip(self.scanned()) {
                for symbol in &scanned.exports {
                    exporters.entry(symbol.clone()).or_insert_with(|| module.clone());
                }
            }
            exporters
        })
    }

    pub(crate) fn progress(&self) -> &dyn Progress {
        &*self.progress
    }

    pub(crate) fn named(&self, names: Vec<&str>) -> Vec<ModuleFile> {
        names.into_iter().filter_map(|name| self.module(name).cloned()).collect()
    }

    /// The modules that a soft dependency names; none if it is not there, which is no error.
    ///
    /// Without depmod's files an alias would need a scan of everything. Nearly all are names of algorithms, which only
    /// the modules below `crypto` and `lib` provide: those alone are scanned. An alias of a device (`platform:...`)
    /// could be anybody's.
    pub(crate) fn find_soft(&self, name: &str) -> Vec<ModuleFile> {
        if let Some(module) = self.module(name) {
            return vec![module.clone()];
        }
        self.named(if name.contains(':') { self.aliases() } else { self.quick_aliases() }.find(name))
    }

    /// A module's hard dependencies as depmod wrote them, the last to be loaded first; `None` without `modules.dep`.
    pub(crate) fn dependencies(&self) -> Option<&HashMap<String, Vec<String>>> {
        let parse = || {
            let text = self.text("modules.dep")?;
            let lines = depmod::dependencies(&text).into_iter();
            let own = |path: &str| stem(path).to_owned();
            Some(lines.map(|(module, needs)| (own(module), needs.into_iter().map(own).collect())).collect())
        };
        self.dependencies.get_or_init(parse).as_ref()
    }

    /// The module at a path as `modules.dep` has it.
    pub(crate) fn at_path(&self, path: &str) -> Option<&ModuleFile> {
        self.by_path.get(stem(path)).map(|&at| &self.modules[at])
    }

    pub(crate) fn softdeps(&self) -> Option<&HashMap<String, SoftDependencies>> {
        self.softdeps.get_or_init(|| Some(depmod::softdeps(&self.text("modules.softdep")?))).as_ref()
    }

    fn builtin(&self) -> &Builtin {
        self.builtin.get_or_init(|| {
            let text = self.text("modules.builtin").unwrap_or_default();
            let modinfo = self.tree.place("modules/modules.builtin.modinfo");
            let modinfo = modinfo.and_then(|place| self.told(place.read()));
            Builtin {
                names: depmod::paths(&text).filter_map(module_name).collect(),
                aliases: depmod::builtin_aliases(&modinfo.unwrap_or_default()),
            }
        })
    }

    fn aliases(&self) -> &Aliases {
        self.aliases.get_or_init(|| match self.text("modules.alias") {
            Some(text) => Aliases::parse(&text),
            None => aliases_of(&self.modules, self.scanned()),
        })
    }

    /// All aliases where depmod wrote them down, else those of the modules below `crypto` and `lib`.
    fn quick_aliases(&self) -> &Aliases {
        if self.tree.place("modules/modules.alias").is_some() {
            return self.aliases();
        }
        self.crypto_aliases.get_or_init(|| {
            let is_library = |path: &str| path.split('/').any(|part| part == "crypto" || part == "lib");
            let modules: Vec<ModuleFile> =
                self.modules.iter().filter(|module| is_library(module.path())).cloned().collect();
            if modules.is_empty() {
                // A folder of modules without the kernel's own folders.
                return aliases_of(&self.modules, self.scanned());
            }
            let scanned = self.scan("crypto", &modules, "reading the crypto modules' aliases");
            aliases_of(&modules, &scanned)
        })
    }

    /// What all modules say, in the order of [`Kernel::modules`].
    pub(crate) fn scanned(&self) -> &[Scanned] {
        self.scanned
            .get_or_init(|| self.scan("all", &self.modules, "reading all modules, once for this kernel"))
    }

    /// As [`Kernel::scanned`], if that needs no scan.
    pub(crate) fn already_scanned(&self) -> Option<&[Scanned]> {
        self.scanned.get().map(Vec::as_slice)
    }

    fn scan(&self, which: &str, modules: &[ModuleFile], what: &str) -> Vec<Scanned> {
        let name = format!("{which}-{}", self.tree.fingerprint().name());
        let kept = self.cache.note(INDEXES, &name).and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(scanned) = kept.and_then(|text| index::load(&text, modules)) {
            return scanned;
        }
        let Scan { scanned, unread } = index::scan(modules, what, self.progress());
        match unread.first() {
            // Kept, it would pass for whole.
            Some(first) => self.remark(format!(
                "{} of {} modules could not be read, so that their aliases, dependencies and exports are not known: \
                 {first}{}",
                unread.len(),
                modules.len(),
                if unread.len() > 1 { ", ..." } else { "" }
            )),
            None => self.cache.keep_note(INDEXES, &name, index::save(modules, &scanned).as_bytes()),
        }
        scanned
    }

    /// The text of a file of depmod; one that cannot be read is told, and as if it were not there.
    fn text(&self, name: &str) -> Option<String> {
        self.told(self.tree.text(name)?)
    }

    /// What could be read. An error is told: the answer is what remains without.
    pub(crate) fn told<T>(&self, read: Result<T, Error>) -> Option<T> {
        read.map_err(|error| self.remark(format!("{CANNOT_BE_READ}: {error}"))).ok()
    }

    /// Says that something stands in for something else.
    pub(crate) fn remark(&self, remark: String) {
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if !remarks.contains(&remark) {
            remarks.push(remark);
        }
    }

    /// What was not to be had and what stands in for it, as far as it came up until now.
    pub fn remarks(&self) -> Vec<String> {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where a machine has its modules.
const DISK: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];

/// A path without links, where it can be followed.
fn canonical(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

const IMAGE_NAMES: [&str; 2] = ["boot/vmlinuz", "modules/vmlinuz"];
const SYMVERS_NAMES: [&str; 5] =
    ["symvers", "modules/Module.symvers", "modules/symvers.gz", "modules/symvers.xz", "modules/symvers.zst"];

fn aliases_of(modules: &[ModuleFile], scanned: &[Scanned]) -> Aliases {
    let mut aliases = Aliases::default();
    for (module, scanned) in modules.iter().zip(scanned) {
        for alias in &scanned.info.aliases {
            aliases.add(alias, module.name());
        }
    }
    aliases
}

/// A module's path without what its compression adds: `modules.order` and `modules.builtin` are older than that.
pub(crate) fn stem(path: &str) -> &str {
    [".xz", ".zst", ".gz"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path)
}

fn modules_in_order(tree: &Tree, remarks: &mut Vec<String>) -> Vec<ModuleFile> {
    let order = tree.text("modules.order").transpose().unwrap_or_else(|error| {
        remarks.push(format!("{CANNOT_BE_READ}: {error}"));
        None
    });
    let order = order.unwrap_or_default();
    let order: HashMap<&str, usize> =
        depmod::paths(&order).enumerate().map(|(at, path)| (path, at)).collect();
    let mut modules: Vec<(usize, ModuleFile)> = tree
        .modules()
        .filter_map(|(path, place)| {
            let at = order.get(stem(path)).copied().unwrap_or(usize::MAX);
            Some((at, ModuleFile::inside(module_name(path)?, path.to_owned(), place.clone())))
        })
        .collect();
    // Stable: those that are in no order keep that of their paths.
    modules.sort_by_key(|(at, _)| *at);
    modules.into_iter().map(|(_, module)| module).collect()
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel")
            .field("release", &self.tree.release)
            .field("from", &self.described)
            .field("modules", &self.modules.len())
            .finish_non_exhaustive()
    }
}

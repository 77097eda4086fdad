//! One kernel's files, opened.

use crate::{
    Error, ModuleFile, OpenOptions, Source,
    cache::Cache,
    compress,
    config::Candidate,
    ground::Ground,
    image::{self, KernelImage},
    modinfo::normal_name,
    module_file::{Origin, module_name},
    names::Names,
    order::array::{array, listed},
    progress::Progress,
    source::Opened,
    tree::Tree,
    trust::digest::Digest,
};
use modmem::{arch::Machine, profile::KernelConfig};
use std::{
    collections::{HashMap, HashSet},
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// So many modules are asked which machine they are for, before the kernel's image is.
const FIRST_MODULES: usize = 4;

/// How a remark begins about a file that is there and of no use.
const CANNOT_BE_READ: &str = "not used, since it cannot be read";

/// Modules with several files that are named, of many.
const NAMED_DOUBLES: usize = 3;

/// One kernel: its modules, its image and what tells about them.
///
/// Nothing is read before it is needed. What needs a scan of all modules (order of loading, aliases and exporters, where
/// depmod's files are absent) tells the user's [`Progress`] and is kept in the cache.
pub struct Kernel {
    pub(crate) tree: Tree,
    described: String,
    grounds: Vec<Ground>,
    /// The folders that the files come from, and what those are worth.
    origins: Vec<(PathBuf, Origin)>,
    pub(crate) cache: Cache,
    progress: Arc<dyn Progress>,
    /// One file for each name, in the order of the kernel's build.
    pub(crate) modules: Vec<ModuleFile>,
    /// The same as depmod's array has them.
    pub(crate) array: Vec<usize>,
    by_name: HashMap<String, usize>,
    /// All files, those too that another one of the same name goes before.
    by_path: HashMap<String, ModuleFile>,
    pub(crate) names: Names,
    /// What stands in for something else, in words.
    remarks: Mutex<Remarks>,
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
        crate::memory::seed_hashes();
        let cache = Cache::new(options.cache.as_deref(), options.state.as_deref())?;
        let (mut roots, mut described, mut origins) = (Vec::new(), Vec::new(), Vec::new());
        let (mut remarks, mut grounds) = (Vec::new(), Vec::new());
        for source in sources {
            let Opened { root, described: from, remark, grounds: own } = source.open(options, &cache)?;
            remarks.extend(remark);
            grounds.extend(own);
            origins.extend(root.folder().map(|folder| (canonical(folder), source.origin())));
            roots.push(root);
            described.push(from);
        }
        remarks.extend(cache.remark());
        let described = described.join(" + ");
        let tree = Tree::merge(&roots, &described, options, &mut remarks)?;
        let mut kernel = Kernel {
            tree,
            described,
            grounds,
            origins,
            cache,
            progress: options.progress.clone(),
            modules: Vec::new(),
            array: Vec::new(),
            by_name: HashMap::new(),
            by_path: HashMap::new(),
            names: Names::default(),
            remarks: Mutex::new(remarks.into_iter().collect()),
        };
        kernel.add_modules();
        Ok(kernel)
    }

    /// Finds the modules, of several files with one name the one that depmod took or would take.
    fn add_modules(&mut self) {
        let files = self.tree.modules().filter_map(|(path, place)| {
            Some(ModuleFile::inside(module_name(path)?, path.to_owned(), place.clone()))
        });
        let files: Vec<ModuleFile> = files.collect();
        let mut taken: HashMap<&str, &ModuleFile> = HashMap::with_capacity(files.len());
        let mut doubles: Vec<&str> = Vec::new();
        for file in &files {
            let Some(&other) = taken.get(file.name()) else {
                taken.insert(file.name(), file);
                continue;
            };
            doubles.push(file.name());
            let chosen = |file: &ModuleFile| {
                self.dependencies().is_some_and(|chosen| chosen.contains_key(stem(file.path())))
            };
            let better = match (chosen(file), chosen(other)) {
                (new, old) if new != old => new,
                _ => {
                    let (new, old) = (Candidate { path: file.path() }, Candidate { path: other.path() });
                    self.tree.depmod_d.prefers(&new, &old)
                }
            };
            if better {
                taken.insert(file.name(), file);
            }
        }
        let order = self.text("modules.order").unwrap_or_default();
        let listed = listed(&order);
        let mut modules: Vec<ModuleFile> =
            files.iter().filter(|file| taken[file.name()] == *file).cloned().collect();
        // Stable: those that are in no order keep that of their paths.
        modules.sort_by_key(|module| listed.get(stem(module.path())).copied().unwrap_or(usize::MAX));
        doubles.sort_unstable();
        doubles.dedup();
        if !doubles.is_empty() {
            let named = doubles.iter().take(NAMED_DOUBLES).map(|name| {
                let others = files.iter().filter(|file| file.name() == *name && taken[name] != *file);
                let others: Vec<&str> = others.map(ModuleFile::path).collect();
                format!("{name} ({}, not {})", taken[name].path(), others.join(", "))
            });
            let named: Vec<String> = named.collect();
            let more = if doubles.len() > NAMED_DOUBLES { ", ..." } else { "" };
            let count = doubles.len();
            let what = if count == 1 { "1 module has" } else { &format!("{count} modules have") };
            self.remark(format!("{what} several files, of which one is taken: {}{more}", named.join(", ")));
        }
        let pairs: Vec<(&str, &str)> =
            modules.iter().map(|module| (module.name(), stem(module.path()))).collect();
        self.array = array(&pairs, &order);
        self.by_name =
            modules.iter().enumerate().map(|(at, module)| (module.name().to_owned(), at)).collect();
        self.by_path = files.iter().map(|file| (stem(file.path()).to_owned(), file.clone())).collect();
        // Of `a.ko` and `a.ko.xz` the path means the one that is taken.
        self.by_path.extend(modules.iter().map(|file| (stem(file.path()).to_owned(), file.clone())));
        self.modules = modules;
    }

    /// The kernel's release, such as `6.12.117+deb12-amd64`; `unknown` if not even the modules say.
    pub fn release(&self) -> &str {
        &self.tree.release
    }

    /// Where the files come from, for the user to read.
    pub fn describe(&self) -> String {
        self.described.clone()
    }

    /// What its files rest on.
    pub fn grounds(&self) -> &[Ground] {
        &self.grounds
    }

    /// What one of its modules' files is worth.
    pub fn origin(&self, module: &ModuleFile) -> Origin {
        let Some(file) = module.file() else { return Origin::Program };
        // This machine's own, by whatever name.
        if Origin::of_given(file) == Origin::Disk {
            return Origin::Disk;
        }
        let file = canonical(file);
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

    /// What the image on disk is, by its content.
    pub(crate) fn image_digest(&self) -> Option<Digest> {
        self.tree.digest_of_first(&IMAGE_NAMES)
    }

    /// `Module.symvers`, if it is there: in a headers package, a build folder, or as `symvers.gz` beside the modules.
    pub fn module_symvers(&self) -> Option<Vec<u8>> {
        let bytes = self.told(self.tree.read_first(&SYMVERS_NAMES)?)?;
        self.told(compress::decompress("Module.symvers", bytes.into_owned(), crate::memory::of_file()))
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

    /// The module's bytes, decompressed.
    pub fn read(&self, module: &ModuleFile) -> Result<Vec<u8>, Error> {
        module.read()
    }

    pub(crate) fn progress(&self) -> &dyn Progress {
        &*self.progress
    }

    /// The module at a path below the kernel's folder, or at a full path that depmod's files have.
    pub(crate) fn at_path(&self, path: &str) -> Option<&ModuleFile> {
        self.by_path.get(stem(path))
    }

    /// The text of a file of depmod; one that cannot be read is told, and as if it were not there.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.told(self.tree.text(name)?)
    }

    /// What could be read. An error is told: the answer is what remains without.
    pub(crate) fn told<T>(&self, read: Result<T, Error>) -> Option<T> {
        read.map_err(|error| self.remark(format!("{CANNOT_BE_READ}: {error}"))).ok()
    }

    /// Says that something stands in for something else.
    pub(crate) fn remark(&self, remark: String) {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner).extend([remark]);
    }

    /// What was not to be had and what stands in for it, as far as it came up until now.
    pub fn remarks(&self) -> Vec<String> {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner).in_order.clone()
    }
}

/// Remarks, each once.
#[derive(Debug, Default)]
struct Remarks {
    in_order: Vec<String>,
    known: HashSet<String>,
}

impl Extend<String> for Remarks {
    fn extend<I: IntoIterator<Item = String>>(&mut self, remarks: I) {
        for remark in remarks {
            if self.known.insert(remark.clone()) {
                self.in_order.push(remark);
            }
        }
    }
}

impl FromIterator<String> for Remarks {
    fn from_iter<I: IntoIterator<Item = String>>(remarks: I) -> Self {
        let mut all = Remarks::default();
        all.extend(remarks);
        all
    }
}

/// A path without links, where it can be followed.
fn canonical(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

const IMAGE_NAMES: [&str; 2] = ["boot/vmlinuz", "modules/vmlinuz"];
const SYMVERS_NAMES: [&str; 5] =
    ["symvers", "modules/Module.symvers", "modules/symvers.gz", "modules/symvers.xz", "modules/symvers.zst"];

/// A module's path without what its compression adds: `modules.order` and `modules.builtin` are older than that.
pub(crate) fn stem(path: &str) -> &str {
    [".xz", ".zst", ".gz"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path)
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

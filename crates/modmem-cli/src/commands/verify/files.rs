//! Where the file of each module comes from, and how far it is to be trusted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use modmem::profile::KernelConfig;
use modmem_linux::snapshot::{ModuleRecord, Snapshot};
use modmem_linux::verify::{Choice, GivenFiles, KernelExports, OwnFiles};
use modmem_linux::{Error, Ground, Kernel, KernelList, ModuleFile, Origin, read_module_file};
use serde::Serialize;

/// The files of modules: of a kernel or of the snapshot, and those that were given by hand beside them.
pub(super) struct Files {
    base: Base,
    given: GivenFiles,
    /// The files and folders by hand, as they were named.
    named: Vec<PathBuf>,
    /// What was chosen for modules that have files given by hand.
    chosen: RefCell<HashMap<String, Choice>>,
    /// What was passed over.
    words: RefCell<Vec<String>>,
}

/// What is there without files given by hand.
pub(super) enum Base {
    None,
    /// The snapshot brings them along, in this archive.
    Own(OwnFiles, PathBuf),
    /// A kernel's files.
    Kernel(Box<Kernel>),
}

/// The file that a module was compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct FileReport {
    pub(super) path: String,
    /// `package`, `program`, `given`, `snapshot` or `disk`.
    #[serde(serialize_with = "name_of")]
    pub(super) origin: Origin,
}

impl FileReport {
    /// Whether the machine that is verified brings it, so that whoever changed its memory may have changed it too.
    pub(super) fn is_own(&self, live: bool) -> bool {
        self.origin == Origin::Snapshot || (live && self.origin == Origin::Disk)
    }
}

fn name_of<S: serde::Serializer>(origin: &Origin, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(origin.name())
}

impl Files {
    pub(super) fn new(base: Base, named: &[PathBuf], snapshot: &Snapshot) -> Result<Files, Error> {
        let given = GivenFiles::open(named)?;
        let words = given.not_loaded(|name| snapshot.module(name).is_some());
        Ok(Files {
            base,
            given,
            named: named.to_vec(),
            chosen: RefCell::default(),
            words: RefCell::new(words),
        })
    }

    /// The file of a module, if there is one.
    pub(super) fn get(&self, record: &ModuleRecord) -> Result<Option<Vec<u8>>, Error> {
        match self.choice(record)? {
            Choice::Given(path) => read_module_file(path).map(Some),
            Choice::Other => self.base.get(&record.name),
        }
    }

    /// Where it comes from.
    pub(super) fn report(&self, record: &ModuleRecord) -> Result<Option<FileReport>, Error> {
        // A copy of the machine's own file is named by hand, the file itself is still the machine's.
        let shown = |path: &Path, origin| Some(FileReport { path: path.display().to_string(), origin });
        Ok(match (self.choice(record)?, &self.base) {
            (Choice::Given(path), _) => shown(&path, Origin::of_given(&path)),
            (Choice::Other, Base::None) => None,
            (Choice::Other, Base::Own(files, archive)) => {
                files.has(&record.name).then(|| shown(archive, Origin::Snapshot)).flatten()
            }
            (Choice::Other, Base::Kernel(kernel)) => kernel.module(&record.name).and_then(|file| {
                let origin = kernel.origin(file);
                let of_package = || shown(Path::new(file.path()), origin);
                file.file().filter(|_| !origin.is_of_package()).map_or_else(of_package, |p| shown(p, origin))
            }),
        })
    }

    /// What the kernel exports, where these are its files and its own list of symbols has functions alone.
    pub(super) fn exports(&self, snapshot: &Snapshot) -> Option<KernelExports> {
        let Base::Kernel(kernel) = &self.base else { return None };
        let lists_all = |config: &String| KernelConfig::parse(config).is_set("KALLSYMS_ALL");
        if snapshot.config.as_ref().is_none_or(lists_all) {
            return None;
        }
        // Without an image, what modules show must do.
        KernelExports::of(&snapshot.symbols, &kernel.symbols(None).ok()?.symbols)
    }

    /// What the kernel lists of itself, where these are its files and its image is among them.
    pub(super) fn list(&self) -> Result<Option<KernelList>, Error> {
        match &self.base {
            Base::Kernel(kernel) => kernel.list(),
            Base::None | Base::Own(..) => Ok(None),
        }
    }

    /// The kernel's configuration, where these are its files.
    pub(super) fn config(&self) -> Option<String> {
        let Base::Kernel(kernel) = &self.base else { return None };
        Some(String::from_utf8_lossy(&kernel.config()?).into_owned())
    }

    /// What the kernel's files rest on, and its image.
    pub(super) fn grounds(&self) -> (&[Ground], Option<&Path>) {
        match &self.base {
            Base::Kernel(kernel) => (kernel.grounds(), kernel.image_path()),
            Base::None | Base::Own(..) => (&[], None),
        }
    }

    /// The files and folders by hand, as they were named.
    pub(super) fn named(&self) -> &[PathBuf] {
        &self.named
    }

    /// In words, where they come from.
    pub(super) fn describe(&self) -> String {
        let base = match &self.base {
            Base::None => None,
            Base::Own(_, path) => Some(path.display().to_string()),
            Base::Kernel(kernel) => Some(kernel.describe()),
        };
        let named = self.named.iter().map(|path| path.display().to_string());
        base.into_iter().chain(named).collect::<Vec<_>>().join(" + ")
    }

    /// In words, what was passed over, and what stands in for something else.
    pub(super) fn remarks(&self) -> Vec<String> {
        let of_kernel = match &self.base {
            Base::Kernel(kernel) => kernel.remarks(),
            Base::None | Base::Own(..) => Vec::new(),
        };
        of_kernel.into_iter().chain(self.words.borrow().iter().cloned()).collect()
    }

    fn choice(&self, record: &ModuleRecord) -> Result<Choice, Error> {
        if !self.given.has(&record.name) {
            return Ok(Choice::Other);
        }
        if let Some(choice) = self.chosen.borrow().get(&record.name) {
            return Ok(choice.clone());
        }
        let contents = self.base.get(&record.name)?;
        let other = self.base.origin(&record.name).zip(contents.as_deref());
        let choice = self.given.choose(record, other, &mut self.words.borrow_mut())?;
        self.chosen.borrow_mut().insert(record.name.clone(), choice.clone());
        Ok(choice)
    }
}

impl Base {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Base::None => Ok(None),
            Base::Own(files, _) => files.get(name),
            Base::Kernel(kernel) => kernel.module(name).map(ModuleFile::read).transpose(),
        }
    }

    fn origin(&self, name: &str) -> Option<Origin> {
        match self {
            Base::None => None,
            Base::Own(files, _) => files.has(name).then_some(Origin::Snapshot),
            Base::Kernel(kernel) => kernel.module(name).map(|file| kernel.origin(file)),
        }
    }
}

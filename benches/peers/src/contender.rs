//! What takes part.

use crate::arena::Arena;
use crate::files::File;
use crate::names::Names;
use std::any::Any;
use std::borrow::Cow;

/// Where the modules of the floor would run: the first module area of an x86-64 kernel with address
/// randomisation.
pub(crate) const KERNEL_MODULES: u64 = 0xffff_ffff_c000_0000;
/// Where the names that modules refer to are, for a contender that relocates for a kernel.
pub(crate) const KERNEL_NAMES: u64 = 0xffff_ffff_8100_0000;
/// The same, for a contender that relocates for the address it writes to.
pub(crate) const HOST_NAMES: u64 = 0x0100_0000;

/// Something that loads modules.
pub(crate) trait Contender {
    /// Name and version.
    fn name(&self) -> &str;

    /// What the figure includes or leaves out, in a few words.
    fn note(&self) -> &str;

    /// What is there before anything is loaded and is made anew for each load; not measured.
    fn prepare(&mut self) {}

    /// Loads every file into the arena, which is all zero and all free. This is what the clock measures.
    fn load_all(&mut self, files: &[File], arena: &mut Arena) -> Loaded;

    /// The same, not measured, telling where everything went; `None` if the contender relocates nothing.
    fn place_all(&mut self, _files: &[File], _arena: &mut Arena) -> Option<Placements> {
        None
    }
}

/// A load's result.
#[derive(Default)]
pub(crate) struct Loaded {
    /// How many modules were loaded.
    pub(crate) modules: usize,
    /// The first failure.
    pub(crate) failure: Option<String>,
    /// What the contender must keep as long as the modules are loaded; dropped after the clock has stopped.
    pub(crate) keep: Option<Box<dyn Any>>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("modules", &self.modules).field("failure", &self.failure).finish()
    }
}

impl Loaded {
    /// Counts one module.
    pub(crate) fn count<E: ToString>(&mut self, file: &File, result: Result<(), E>) {
        match result {
            Ok(()) => self.modules += 1,
            Err(error) if self.failure.is_none() => {
                self.failure = Some(format!("{}: {}", file.name, error.to_string()));
            }
            Err(_) => {}
        }
    }
}

/// Where a load put the modules.
#[derive(Debug)]
pub(crate) struct Placements {
    /// Where the names that modules refer to are.
    pub(crate) names: Cow<'static, Names>,
    /// For every file that was loaded: the place of each section by index, `None` if it has none.
    pub(crate) modules: Vec<Option<Vec<Option<Place>>>>,
}

/// Where a section is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its run address.
    pub(crate) address: u64,
    /// The offset of its bytes in the arena, if they are there.
    pub(crate) start: Option<usize>,
}

impl Placements {
    /// Of a contender whose run addresses lie as its bytes do: `base` is the run address of the arena's first byte.
    pub(crate) fn linear(base: u64, names: &'static Names, modules: Vec<Option<Vec<Option<u64>>>>) -> Self {
        let place = |address: u64| {
            let start = address.checked_sub(base).and_then(|start| usize::try_from(start).ok());
            Place { address, start }
        };
        let places =
            |addresses: Vec<Option<u64>>| addresses.into_iter().map(|address| address.map(place)).collect();
        let modules = modules.into_iter().map(|module| module.map(places)).collect();
        Self { names: Cow::Borrowed(names), modules }
    }
}

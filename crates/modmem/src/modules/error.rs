//! Why a module cannot be loaded or unloaded.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use modmem_index::{IndexError, RegistryError};

use crate::image::ImageError;
use crate::layout::{LayoutError, MemoryKind};
use crate::link::LinkError;
use crate::space::SpaceError;

/// Why a module cannot be loaded; nothing of it is left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// A module of that name is loaded (-EEXIST), or on its way in or out (-EBUSY).
    AlreadyLoaded {
        /// The name.
        name: Box<str>,
        /// Whether the other one is live.
        live: bool,
    },
    /// The module has no name, or one that is too long or not text.
    BadName {
        /// The name as shown.
        name: Box<str>,
        /// Bytes that a name may have on its machine.
        limit: usize,
    },
    /// Its file is no module; [`Modules::load`](super::Modules::load) takes an image that was read, so this is for
    /// callers who read and load in one step.
    Image(ImageError),
    /// It cannot be laid out.
    Layout(LayoutError),
    /// There is no room for it.
    Space(SpaceError),
    /// It cannot be linked.
    Link(LinkError),
    /// It exports a symbol that somebody else exports.
    DuplicateExport {
        /// The symbol.
        symbol: Box<str>,
        /// Who exports it already.
        owner: Box<str>,
    },
    /// Two of its parameters that sysfs would show have one name (-EEXIST).
    DuplicateParameter {
        /// The name as shown.
        name: Box<str>,
    },
    /// A module whose symbols it was linked to has been unloaded since.
    ProviderGone,
    /// One of its memories cannot be found by address: the memory gave out one address twice, or blocks in more
    /// far-apart places than the index has windows for.
    Unindexable {
        /// Which memory.
        kind: MemoryKind,
        /// Why.
        error: IndexError,
    },
    /// Its init returned an error.
    Init {
        /// What it returned, a negative errno.
        code: i32,
    },
    /// Its read-only-after-init memory stayed writable; otherwise it is live and well.
    NotSealed(SpaceError),
    /// Its memories share pages that would need different protections: 5.10 to 6.3 without STRICT_MODULE_RWX.
    SharedPages {
        /// A memory that does not begin and end with a page.
        kind: MemoryKind,
    },
    /// It is not waiting for its init to run.
    NotComing,
    /// There are as many modules as there are ids for (32,768).
    TooManyModules,
    /// No memory for our own bookkeeping.
    OutOfMemory,
}

/// Why a module cannot be unloaded; it stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnloadError {
    /// No such module.
    NotLoaded,
    /// Other modules use it.
    InUse {
        /// Their names.
        users: Vec<Box<str>>,
    },
    /// It is on its way in or out.
    Busy,
    /// The kernel was built without MODULE_UNLOAD.
    NoUnloading,
    /// It has an init and no exit, so it stays for good.
    Permanent,
}

impl From<ImageError> for LoadError {
    fn from(error: ImageError) -> LoadError {
        LoadError::Image(error)
    }
}

impl From<LayoutError> for LoadError {
    fn from(error: LayoutError) -> LoadError {
        LoadError::Layout(error)
    }
}

impl From<SpaceError> for LoadError {
    fn from(error: SpaceError) -> LoadError {
        LoadError::Space(error)
    }
}

impl From<LinkError> for LoadError {
    fn from(error: LinkError) -> LoadError {
        LoadError::Link(error)
    }
}

impl From<RegistryError> for LoadError {
    fn from(error: RegistryError) -> LoadError {
        match error {
            RegistryError::Full => LoadError::TooManyModules,
            _ => LoadError::OutOfMemory,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::AlreadyLoaded { name, live: true } => write!(f, "module {name} is already loaded"),
            LoadError::AlreadyLoaded { name, live: false } => {
                write!(f, "module {name} is being loaded or unloaded")
            }
            LoadError::BadName { name, limit } => {
                write!(
                    f,
                    "\"{name}\" is no module name: what struct module has must be text of 1 to {limit} bytes"
                )
            }
            LoadError::Image(error) => error.fmt(f),
            LoadError::Layout(error) => error.fmt(f),
            LoadError::Space(error) => error.fmt(f),
            LoadError::Link(error) => error.fmt(f),
            LoadError::DuplicateParameter { name } => write!(f, "two of its parameters are called {name}"),
            LoadError::DuplicateExport { symbol, owner } => {
                write!(f, "exports {symbol}, which {owner} exports already")
            }
            LoadError::ProviderGone => f.write_str("a module that it was linked to has been unloaded since"),
            LoadError::Unindexable { kind, error: IndexError::Overlap } => {
                write!(f, "its {kind} was placed where another module lies")
            }
            LoadError::Unindexable { kind, error } => {
                write!(f, "its {kind} cannot be found by address: {error}")
            }
            LoadError::Init { code } => write!(f, "init returned {code}"),
            LoadError::NotSealed(error) => write!(f, "loaded, but not sealed after init: {error}"),
            LoadError::SharedPages { kind } => write!(
                f,
                "{kind} shares pages with other memories, which this kernel does without STRICT_MODULE_RWX: it can be laid out, not loaded"
            ),
            LoadError::NotComing => f.write_str("the module is not waiting for its init to run"),
            LoadError::TooManyModules => f.write_str("as many modules are loaded as can be"),
            LoadError::OutOfMemory => f.write_str("out of memory while loading"),
        }
    }
}

impl fmt::Display for UnloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnloadError::NotLoaded => f.write_str("no such module is loaded"),
            UnloadError::InUse { users } => {
                f.write_str("in use by ")?;
                for (index, user) in users.iter().enumerate() {
                    write!(f, "{}{user}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            UnloadError::Busy => f.write_str("the module is being loaded or unloaded"),
            UnloadError::NoUnloading => f.write_str("the kernel does not unload modules (no MODULE_UNLOAD)"),
            UnloadError::Permanent => f.write_str("the module has an init but no exit and stays for good"),
        }
    }
}

impl core::error::Error for LoadError {}
impl core::error::Error for UnloadError {}

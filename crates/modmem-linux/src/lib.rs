//! Where Linux keeps what `modmem` reads: kernel packages, `/lib/modules`, compressed modules, kernel images and
//! symbol files.
//!
//! A [`Kernel`] is one kernel's files, whatever they came from (see [`Source`]): a Debian release by number, `.deb`
//! files as they come from the archive, an unpacked folder, a release under `/lib/modules`, or files built into the
//! program. It answers what a loader asks: which modules are there ([`Kernel::modules`], [`Kernel::find`]), what has
//! to be loaded before and after one ([`Kernel::load_order`]), and which symbols the kernel itself exports
//! ([`Kernel::symbols`]).
//!
//! ```no_run
//! use modmem_linux::{Kernel, OpenOptions};
//!
//! let kernel = Kernel::open(&["debian:6.12"], &OpenOptions::default())?;
//! for planned in kernel.load_order(&["ext4"])?.modules {
//!     println!("{} ({}): {} bytes", planned.module.name(), planned.why, planned.contents()?.len());
//! }
//! # Ok::<(), modmem_linux::Error>(())
//! ```
//!
//! A [`Snapshot`](snapshot::Snapshot) is a running kernel's module memory: taken from this machine, or read from a file.
//! [`verify`] compares it with the modules' files.
//!
//! # What is read, and how
//!
//! Everything here may come from strangers. Sizes, offsets and names are checked before use, decompression is bounded,
//! nothing outside the cache folder is ever written, and a damaged file is an [`Error`] that names it.
//!
//! Modules are not parsed deeply: `.modinfo` and symbol names, and these only where `depmod`'s files are absent, as in
//! a package nobody has installed. Then the order of loading is what depmod and modprobe would make of them. What a root
//! file system has in `modprobe.d` and `depmod.d`, and as the kernel's command line, is read and told
//! ([`OpenOptions::config`]). No path leads out of a root: links in it are followed as if it were `/`.

mod apt;
mod boot_image;
mod cache;
mod compress;
mod config;
mod deb;
mod debian;
mod depmod;
mod error;
mod fields;
mod files;
mod flavour;
mod glob;
mod ground;
mod image;
mod index;
mod inside;
mod kernel;
mod kernel_list;
mod ksymtab;
mod lookup;
pub mod machine;
mod memory;
mod modinfo;
mod module_file;
mod names;
mod order;
mod plan;
mod progress;
mod root;
pub mod snapshot;
mod source;
mod suggest;
mod symbol_file;
mod symbols;
mod symvers;
mod tree;
mod trust;
pub mod verify;
mod xz_index;

pub use crate::{
    cache::default_cache_folder,
    deb::Package,
    error::Error,
    fields::{Field, module_fields},
    files::{Caller, NewFile, Output, WriteOptions, caller},
    ground::Ground,
    image::{ImageFacts, KernelImage, KernelMemory, ListedSymbol, image_facts, kernel_symbols},
    kernel::Kernel,
    kernel_list::{KernelList, OwnSymbol},
    lookup::Wanted,
    memory::{memory_limit, set_memory_limit},
    module_file::{ModuleFile, Origin, read_module_file},
    plan::{LoadPlan, MissingDependency, PlannedModule, Why},
    progress::{Progress, Silent},
    source::{OpenOptions, Sample, Source},
    symbols::{KernelSymbol, KernelSymbols, SymbolSource},
    trust::{digest::Digest, key::default_state_folder},
};

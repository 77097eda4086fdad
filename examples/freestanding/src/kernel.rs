//! The kernel that the modules are loaded into: what it is, what it exports, and how it takes a module in.

use core::fmt;

use modmem::image::ImageError;
use modmem::layout::LayoutError;
use modmem::link::{Export, ExportsError, LinkError, LinkOptions};
use modmem::modules::LoadError;
use modmem::space::SpaceError;
use modmem::{Image, Linker, ModuleId, Modules, Name, Profile, RunAddr};

use crate::memory::{Arena, ArenaBlock};

/// Where this kernel's own percpu data ends; that of modules follows.
const PERCPU_END: u64 = 0x35000;

/// What it exports: name, address, CRC, whether to GPL-compatible modules only. A kernel written in Rust has addresses
/// of its functions and statics here.
#[rustfmt::skip]
const EXPORTS: &[(&str, u64, u32, bool)] = &[
    ("module_layout",      0xffff_ffff_8100_0050, 0x8f50_bf01, false),
    ("_printk",            0xffff_ffff_8100_01d0, 0xe384_0985, false),
    ("strcmp",             0xffff_ffff_8100_03d0, 0x9767_3e1f, false),
    ("ktime_get",          0xffff_ffff_8100_0ee0, 0xbe81_85aa, true),
    ("__fentry__",         0xffff_ffff_8100_1ff0, 0xf2a9_f1a7, false),
    ("__x86_return_thunk", 0xffff_ffff_8100_2030, 0xc734_4c8c, false),
    ("param_ops_int",      0xffff_ffff_8140_0000, 0xf61c_8d5d, false),
    ("param_ops_uint",     0xffff_ffff_8140_0020, 0xc59c_cfa9, false),
    ("param_ops_bool",     0xffff_ffff_8140_0040, 0xe683_faab, false),
    ("param_ops_charp",    0xffff_ffff_8140_0060, 0x0515_9d50, false),
    ("param_array_ops",    0xffff_ffff_8140_0080, 0x37d2_ece1, false),
    ("jiffies",            0xffff_ffff_8180_0000, 0x00f5_3b19, false),
    ("__per_cpu_offset",   0xffff_ffff_8180_0180, 0xe582_6642, false),
];

/// A kernel that takes modules.
pub(crate) struct Kernel {
    profile: Profile,
    linker: Linker,
    pub(crate) modules: Modules<ArenaBlock>,
}

impl Kernel {
    /// A kernel without modules.
    pub(crate) fn new() -> Result<Kernel, ExportsError<'static>> {
        // `named` is as Debian configures this version; what this kernel does differently is said field by field.
        let mut profile = Profile::named("6.12.0-sample").expect("is a version");
        profile.vermagic = Some("6.12.0-sample SMP preempt mod_unload modversions ".into());
        profile.this_module_size = Some(0x500);

        let mut modules = Modules::new(&profile, PERCPU_END);
        modules.add_kernel_symbols(EXPORTS.iter().map(|&(name, value, crc, gpl_only)| Export {
            name: Name::from(name),
            value,
            gpl_only,
            crc: Some(crc),
            namespace: Name::default(),
        }))?;
        Ok(Kernel { profile, linker: Linker::new(), modules })
    }

    /// Loads a module and starts it, as insmod does. After an error nothing of it is left.
    pub(crate) fn insert(&mut self, file: &[u8], arena: &mut Arena) -> Result<ModuleId, InsertError> {
        let image = Image::parse(file)?;
        let options = LinkOptions::default();
        let id = self.modules.load(&image, &self.profile, arena, &mut self.linker, options)?;
        self.modules.start(id, run_init)?;
        Ok(id)
    }
}

/// A real kernel calls the function at that address. This one has no pages mapped there and takes it for done.
fn run_init(_init: Option<RunAddr>) -> i32 {
    0
}

/// Why a module was not inserted.
#[derive(Debug)]
pub(crate) enum InsertError {
    /// The file is no module.
    Image(ImageError),
    /// This kernel cannot have it.
    Load(LoadError),
}

impl InsertError {
    /// Whether the heap is what ran out.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        matches!(
            self,
            InsertError::Image(ImageError::OutOfMemory)
                | InsertError::Load(
                    LoadError::OutOfMemory
                        | LoadError::Layout(LayoutError::OutOfMemory)
                        | LoadError::Space(SpaceError::OutOfMemory)
                        | LoadError::Link(LinkError::OutOfMemory)
                )
        )
    }
}

impl From<ImageError> for InsertError {
    fn from(error: ImageError) -> InsertError {
        InsertError::Image(error)
    }
}

impl From<LoadError> for InsertError {
    fn from(error: LoadError) -> InsertError {
        InsertError::Load(error)
    }
}

impl fmt::Display for InsertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InsertError::Image(error) => error.fmt(f),
            InsertError::Load(error) => error.fmt(f),
        }
    }
}

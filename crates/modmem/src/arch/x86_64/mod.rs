//! x86-64: no PLT and no GOT, because the kernel and its modules share the top 2 GiB of the address space.

#[cfg(feature = "verify")]
mod patching;
mod ranges;
mod relocations;

#[cfg(feature = "verify")]
pub(crate) use patching::{Kernel, apply as apply_patches};
pub(crate) use ranges::{MODULE_REGION_END, MODULE_REGION_END_KMAP_DEBUG, TEXT_PACK, module_region_start};
pub use relocations::RELOCATIONS;

//! Linux's module memory and module loader, anywhere.
//!
//! ```text
//! bytes --read--> Image --lay out--> Layout --place--> Placement --link--> Linked --finalize--> Finalized --commit--> Modules
//!                                                                                                                       |
//!                                                                                            address --find--> (module, memory type)
//! ```
//!
//! Each stage is a value that the next one takes; each can be used alone; dropping one undoes all that it stands
//! for. What is computed is what a running Linux has in memory, for the kernel that a [`profile::Profile`] states.
//!
//! ```
//! # use modmem::{AddressSpace, Image, Layout, LinkOptions, Linker, LoadError, Modules, Placement, Profile, RunAddr};
//! # fn run(_: Option<RunAddr>) -> i32 { 0 }
//! # fn load(file: &[u8], profile: Profile, address: RunAddr) -> Result<(), LoadError> {
//! # let (mut space, mut linker) = (AddressSpace::new(&profile), Linker::new());
//! # let mut modules = Modules::new(&profile, 0);
//! let image     = Image::parse(&file)?;                       // a validated view, borrowed
//! let layout    = Layout::of(&image, &profile)?;              // sections -> seven memories
//! let placement = Placement::allocate(layout, &mut space)?;   // run addresses, owned blocks
//! let linked    = linker.link(&image, &profile, placement, &modules, LinkOptions::default())?;
//! let id        = modules.commit(&image, linked)?;            // registered, found by address
//! modules.start(id, |init| run(init))?;                       // seals ro-after-init, gives init memory back
//!
//! let reader = modules.reader();                              // for any thread, signal handler, NMI
//! if let Some((module, owner)) = reader.pin_at(address) {     // from here it cannot be unloaded
//!     println!("{} {}", module.name(), owner.kind());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The crate needs `alloc` and nothing else: it knows of no files, no threads and no host machine.
#![no_std]
#![cfg_attr(
    any(
        not(all(feature = "x86_64", feature = "arm64", feature = "s390x", feature = "ppc32")),
        all(feature = "finalize", not(feature = "verify"))
    ),
    allow(
        dead_code,
        unused_imports,
        unused_mut,
        unused_variables,
        reason = "only what is left out needs it"
    )
)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod address;
pub mod arch;
#[cfg(feature = "finalize")]
pub mod finalize;
#[cfg(feature = "finalize")]
pub mod guest;
pub mod image;
pub mod layout;
pub mod link;
pub mod modules;
pub mod name;
pub mod profile;
mod seed;
pub mod space;
#[cfg(feature = "verify")]
pub mod verify;
mod visible;

pub use address::RunAddr;
pub use image::Image;
pub use layout::{Layout, MemoryKind};
pub use link::{Export, LinkOptions, Linker, Placement};
pub use modmem_index as index;
pub use modules::{LoadError, Lookup, ModuleId, Modules};
pub use name::Name;
pub use profile::Profile;
pub use seed::seed_hashes;
pub use space::{AddressSpace, Block, Memory, Protection};
pub use visible::{Visible, is_hidden};

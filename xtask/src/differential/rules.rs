//! modmem's rules by name, and the numbers that Linux has for them.

use std::fmt::Debug;

use modmem::LoadError;
use modmem::image::ImageError;
use modmem::layout::LayoutError;
use modmem::link::{LinkError, Reason};
use modmem::modules::UnloadError;

const ENOENT: i32 = 2;
const ENOEXEC: i32 = 8;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;

/// A variant's name, with what it belongs to.
pub(super) fn variant(of: &str, value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let name = text.split([' ', '(', '{']).next().unwrap_or_default();
    if of.is_empty() { name.to_owned() } else { format!("{of}::{name}") }
}

/// The variant's name, with that of the error in it.
pub(super) fn of(error: &LoadError) -> String {
    match error {
        LoadError::Image(error) => variant("Image", error),
        LoadError::Layout(error) => variant("Layout", error),
        LoadError::Link(LinkError::Unresolved(symbols)) => match symbols.first() {
            Some(symbol) => variant("Link::Unresolved", &symbol.reason),
            None => "Link::Unresolved".to_owned(),
        },
        LoadError::Link(LinkError::Relocation(error)) => variant("Link::Relocation", &error.problem),
        LoadError::Link(LinkError::Livepatch { problem, .. }) => variant("Link::Livepatch", problem),
        LoadError::Link(error) => variant("Link", error),
        error => variant("", error),
    }
}

/// What Linux returns for the same.
pub(super) fn errno(error: &LoadError) -> i32 {
    match error {
        LoadError::AlreadyLoaded { .. } | LoadError::DuplicateParameter { .. } => EEXIST,
        LoadError::Layout(LayoutError::DuplicateSections { .. }) => EEXIST,
        LoadError::Layout(LayoutError::OutOfMemory | LayoutError::TooLarge { .. }) => ENOMEM,
        LoadError::Link(LinkError::Unresolved(symbols)) => match symbols.first().map(|symbol| &symbol.reason)
        {
            Some(Reason::Version { .. } | Reason::NoVersion | Reason::Namespace(_)) => EINVAL,
            _ => ENOENT,
        },
        LoadError::Link(LinkError::Livepatch { .. }) => EINVAL,
        LoadError::Image(ImageError::OutOfMemory) | LoadError::Space(_) | LoadError::OutOfMemory => ENOMEM,
        LoadError::BadName { .. } => EINVAL,
        _ => ENOEXEC,
    }
}

/// What delete_module returns.
pub(super) fn unload_errno(error: &UnloadError) -> i32 {
    match error {
        UnloadError::NotLoaded => ENOENT,
        UnloadError::InUse { .. } => EAGAIN,
        _ => EBUSY,
    }
}

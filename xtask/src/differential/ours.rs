//! What modmem makes of a module, at the addresses where the kernel had it, if it had it.

use std::collections::BTreeMap;

use modmem::image::{Image, ImageError};
use modmem::layout::{Layout, LayoutError, MemoryKind};
use modmem::link::{LinkError, LinkOptions, Reason};
use modmem::{Linker, LoadError, Modules};

use super::answers::Answer;
use super::uml::Uml;
use crate::replay::{GivenBlock, GivenMemory};

const ENOENT: i32 = 2;
const ENOEXEC: i32 = 8;
const ENOMEM: i32 = 12;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;

/// What modmem says.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It refuses: Linux's number for that, the rule's name, and the reason in words.
    Refused { errno: i32, rule: String, why: String },
    /// It loads.
    Loaded(Box<Loaded>),
}

/// A module as modmem loads it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) name: String,
    pub(super) layout: Layout,
    pub(super) taints: String,
    /// By memory: the address, and what is there before init runs.
    pub(super) memories: BTreeMap<MemoryKind, (u64, Vec<u8>)>,
}

/// Loads a module. `answer` tells where the kernel had its sections.
pub(super) fn load(file: &[u8], uml: &Uml, answer: &Answer) -> Verdict {
    let image = match Image::parse(file) {
        Ok(image) => image,
        Err(error) => return refused(LoadError::Image(error)),
    };
    let layout = match Layout::of(&image, &uml.profile) {
        Ok(layout) => layout,
        Err(error) => return refused(LoadError::Layout(error)),
    };
    let mut modules: Modules<GivenBlock> = Modules::new(&uml.profile, 0);
    if modules.add_kernel_symbols(uml.exports()).is_err() {
        return refused(LoadError::OutOfMemory);
    }
    let mut memory = GivenMemory { addresses: addresses(&image, &layout, answer) };
    let mut linker = Linker::new();
    let id = match modules.load(&image, &uml.profile, &mut memory, &mut linker, LinkOptions::default()) {
        Ok(id) => id,
        Err(error) => return refused(error),
    };
    let Some(module) = modules.get(id) else { return refused(LoadError::OutOfMemory) };
    let memories = MemoryKind::ALL.into_iter().filter_map(|kind| {
        let address = module.address(kind)?.0;
        Some((kind, (address, module.bytes(kind).to_vec())))
    });
    Verdict::Loaded(Box::new(Loaded {
        name: module.name().to_owned(),
        taints: module.taints().letters(),
        memories: memories.collect(),
        layout,
    }))
}

/// Where the kernel had each block, by the sections in it; made up where it tells nothing.
fn addresses(image: &Image<'_>, layout: &Layout, answer: &Answer) -> BTreeMap<MemoryKind, u64> {
    let mut addresses: BTreeMap<MemoryKind, u64> =
        (1..).zip(MemoryKind::ALL).map(|(number, kind)| (kind, 0x7000_0000 + number * 0x10_0000)).collect();
    for section in image.sections().iter().filter(|section| layout.shape(section).size > 0) {
        let Some(place) = layout.place(section.index()) else { continue };
        let memory = layout.memories()[place.kind];
        let Some(block) = memory.block else { continue };
        let name = section.name().to_text();
        let found = answer.sections.iter().find(|(known, _)| *known == name);
        if let Some((_, address)) = found {
            let start = address.wrapping_sub(place.offset).wrapping_sub(memory.offset);
            addresses.insert(layout.blocks()[block].kind, start);
        }
    }
    addresses
}

fn refused(error: LoadError) -> Verdict {
    let rule = rule(&error);
    Verdict::Refused { errno: errno(&error), rule, why: error.to_string() }
}

/// The variant's name, with that of the error in it.
fn rule(error: &LoadError) -> String {
    let text = match error {
        LoadError::Image(error) => format!("Image::{error:?}"),
        LoadError::Layout(error) => format!("Layout::{error:?}"),
        LoadError::Link(LinkError::Unresolved(symbols)) => {
            let reason = symbols.first().map(|symbol| format!("{:?}", symbol.reason));
            format!("Link::Unresolved::{}", reason.unwrap_or_default())
        }
        LoadError::Link(LinkError::Relocation(error)) => format!("Link::Relocation::{:?}", error.problem),
        LoadError::Link(error) => format!("Link::{error:?}"),
        error => format!("{error:?}"),
    };
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

/// What Linux returns for the same.
fn errno(error: &LoadError) -> i32 {
    match error {
        LoadError::AlreadyLoaded { .. } => EEXIST,
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

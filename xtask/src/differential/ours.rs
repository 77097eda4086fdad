//! What modmem makes of a module, at the addresses where the kernel had it, if it had it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use modmem::image::{Image, ImageError, SymbolPlace};
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
    /// Whether something refers to a section that is not loaded: in Linux to the copy that the loader had of it.
    pub(super) is_temporary: bool,
    /// Bytes of `__ex_table`.
    pub(super) ex_table: u64,
    pub(super) taints: String,
    /// By memory: the address, and what is there before init runs.
    pub(super) memories: BTreeMap<MemoryKind, (u64, Vec<u8>)>,
}

/// modmem's side: a kernel without modules.
pub(super) struct Ours<'u> {
    uml: &'u Uml,
    modules: Modules<GivenBlock>,
    linker: Linker,
}

impl<'u> Ours<'u> {
    pub(super) fn new(uml: &'u Uml) -> Result<Ours<'u>> {
        let mut modules = Modules::new(&uml.profile, 0);
        modules.add_kernel_symbols(uml.exports()).map_err(|error| anyhow!("{error}"))?;
        Ok(Ours { uml, modules, linker: Linker::new() })
    }

    /// Loads a module, and unloads it again. `answer` tells where the kernel had its sections.
    pub(super) fn ask(&mut self, file: &[u8], answer: &Answer) -> Result<Verdict> {
        let image = match Image::parse(file) {
            Ok(image) => image,
            Err(error) => return Ok(refused(LoadError::Image(error))),
        };
        let profile = &self.uml.profile;
        let layout = match Layout::of(&image, profile) {
            Ok(layout) => layout,
            Err(error) => return Ok(refused(LoadError::Layout(error))),
        };
        let mut memory = GivenMemory { addresses: addresses(&image, &layout, answer) };
        let options = LinkOptions::default();
        let id = match self.modules.load(&image, profile, &mut memory, &mut self.linker, options) {
            Ok(id) => id,
            Err(error) => return Ok(refused(error)),
        };
        let module = self.modules.get(id).context("a module that was loaded is not there")?;
        let memories = MemoryKind::ALL.into_iter().filter_map(|kind| {
            let address = module.address(kind)?.0;
            Some((kind, (address, module.bytes(kind).to_vec())))
        });
        let loaded = Loaded {
            name: module.name().to_owned(),
            taints: module.taints().letters(),
            memories: memories.collect(),
            is_temporary: refers_to_a_copy(&image, &layout),
            ex_table: image.section("__ex_table").map_or(0, |section| section.size()),
            layout,
        };
        let gone = self.modules.start(id, |_| 0).is_ok() && self.modules.unload(id, |_| ()).is_ok();
        if !gone {
            *self = Ours::new(self.uml)?;
        }
        Ok(Verdict::Loaded(Box::new(loaded)))
    }
}

fn refers_to_a_copy(image: &Image<'_>, layout: &Layout) -> bool {
    let tables = image.relocations().filter(|table| layout.place(table.target().index()).is_some());
    let mut relocations = tables.flat_map(|table| table.iter());
    relocations.any(|relocation| {
        let symbol = image.symbols().get(relocation.symbol as usize);
        symbol.is_some_and(|symbol| match symbol.place {
            SymbolPlace::Section(section) => layout.place(section).is_none(),
            _ => false,
        })
    })
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

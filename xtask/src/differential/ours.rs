//! What modmem makes of a case, at the addresses where the kernel had its modules, if it had them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use modmem::image::{Image, SymbolPlace};
use modmem::layout::{Layout, MemoryKind};
use modmem::link::LinkOptions;
use modmem::modules::UnloadError;
use modmem::{Linker, LoadError, ModuleId, Modules};

use super::answers::{Answer, CaseAnswer};
use super::compare::{self, Outcome};
use super::generate::{Case, Step};
use super::rules;
use super::stricter;
use super::uml::Uml;
use super::views;
use crate::replay::{GivenBlock, GivenMemory};

/// What modmem says of a module.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Refused: the number that Linux would return, the rule, and why.
    Refused { errno: i32, rule: String, why: String },
    /// It loads.
    Loaded(Box<Loaded>),
}

/// A module as modmem loads it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) id: ModuleId,
    /// Addresses at which nothing can be said: what Linux sorts, or writes itself, and what refers to the copy of a section
    /// that the loader had of it.
    pub(super) unknown: Vec<std::ops::Range<u64>>,
    /// By memory: the address, and what is there before init runs.
    pub(super) memories: BTreeMap<MemoryKind, (u64, Vec<u8>)>,
    /// What was odd about it.
    pub(super) remarks: Vec<String>,
}

/// Addresses of blocks of which the kernel tells nothing.
pub(super) const MADE_UP: std::ops::Range<u64> = 0x10_0000..0x1000_0000;

/// modmem's side: a kernel without modules.
pub(super) struct Ours<'u> {
    uml: &'u Uml,
    modules: Modules<GivenBlock>,
    linker: Linker,
    /// Blocks that were placed without an answer.
    made_up: u64,
}

impl<'u> Ours<'u> {
    pub(super) fn new(uml: &'u Uml) -> Result<Ours<'u>> {
        let mut modules = Modules::new(&uml.profile, 0);
        modules.add_kernel_symbols(uml.exports()).map_err(|error| anyhow!("{error}"))?;
        Ok(Ours { uml, modules, linker: Linker::new(), made_up: MADE_UP.start })
    }

    /// What comes of each step; none behind the first about which the two do not agree.
    pub(super) fn judge(&mut self, case: &Case, answers: &CaseAnswer) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for (step, answer) in case.steps.iter().zip(&answers.steps) {
            let outcome = self.step(step, answer)?;
            let goes_on = outcome.agrees();
            outcomes.push(outcome);
            if !goes_on {
                *self = Ours::new(self.uml)?;
                return Ok(outcomes);
            }
        }
        let gone = self.clear();
        if gone != answers.gone {
            let what = format!("unloading all, Linux says {:?}, modmem {gone:?}", answers.gone);
            outcomes.push(Outcome::Differs(what));
        }
        if !self.modules.is_empty() {
            *self = Ours::new(self.uml)?;
        }
        Ok(outcomes)
    }

    fn step(&mut self, step: &Step, answer: &Answer) -> Result<Outcome> {
        let outcome = match step {
            Step::Load(file) => {
                let verdict = self.load(file, answer)?;
                let outcome = compare::load(&verdict, answer);
                let Verdict::Loaded(loaded) = &verdict else { return Ok(outcome) };
                if !outcome.agrees() {
                    return Ok(outcome);
                }
                self.modules.start(loaded.id, |_| 0).map_err(|error| anyhow!("{error}"))?;
                match views::of_module(&self.modules, loaded.id, answer) {
                    Some(difference) => return Ok(Outcome::Differs(difference)),
                    None => outcome,
                }
            }
            Step::Unload(name) => compare::unload(self.unload(name), answer),
        };
        match views::of_list(&self.modules, answer) {
            Some(difference) => Ok(Outcome::Differs(difference)),
            None => Ok(outcome),
        }
    }

    /// A rule by which modmem refuses one of the case's modules, if it has one: whatever the kernel says.
    pub(super) fn refusal(&mut self, case: &Case) -> Result<Option<String>> {
        let mut found = None;
        for step in &case.steps {
            match step {
                Step::Load(file) => match self.load(file, &Answer::default())? {
                    Verdict::Loaded(loaded) => {
                        self.modules.start(loaded.id, |_| 0).map_err(|error| anyhow!("{error}"))?;
                    }
                    // The one that Linux does not refuse is what it dies of.
                    Verdict::Refused { rule, .. } => {
                        let is_known = |rule: &String| stricter::find(rule).is_some();
                        found = found.filter(is_known).or(Some(rule));
                    }
                },
                Step::Unload(name) => drop(self.unload(name)),
            }
        }
        self.clear();
        if !self.modules.is_empty() {
            *self = Ours::new(self.uml)?;
        }
        Ok(found)
    }

    fn load(&mut self, file: &[u8], answer: &Answer) -> Result<Verdict> {
        let refused = |error: LoadError| {
            let (errno, rule) = (rules::errno(&error), rules::of(&error));
            Verdict::Refused { errno, rule, why: error.to_string() }
        };
        let image = match Image::parse(file) {
            Ok(image) => image,
            Err(error) => return Ok(refused(LoadError::Image(error))),
        };
        let profile = &self.uml.profile;
        let layout = match Layout::of(&image, profile) {
            Ok(layout) => layout,
            Err(error) => return Ok(refused(LoadError::Layout(error))),
        };
        let mut memory = GivenMemory { addresses: self.addresses(&image, &layout, answer) };
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
        let memories: BTreeMap<MemoryKind, (u64, Vec<u8>)> = memories.collect();
        let remarks = module.remarks().iter().map(|remark| rules::variant("Remark", remark)).collect();
        let unknown = unknown(&image, &layout, &memories);
        Ok(Verdict::Loaded(Box::new(Loaded { id, unknown, memories, remarks })))
    }

    fn unload(&mut self, name: &str) -> Result<(), UnloadError> {
        let id = self.modules.by_name(name).map(|module| module.id()).ok_or(UnloadError::NotLoaded)?;
        self.modules.unload(id, |_| ())
    }

    /// Unloads all, the newest first, until one stays; what Linux would return for each.
    fn clear(&mut self) -> Vec<i32> {
        let mut gone = Vec::new();
        while let Some(id) = self.modules.iter().last().map(|module| module.id()) {
            let errno = self.modules.unload(id, |_| ()).err().map_or(0, |error| rules::unload_errno(&error));
            gone.push(errno);
            if errno != 0 {
                break;
            }
        }
        gone
    }

    /// Where the kernel had each block, by the sections in it; made up where it tells nothing.
    fn addresses(&mut self, image: &Image<'_>, layout: &Layout, answer: &Answer) -> BTreeMap<MemoryKind, u64> {
        let mut addresses = BTreeMap::new();
        for block in layout.blocks() {
            // Apart from each other: the index does not take two that overlap.
            addresses.insert(block.kind, self.made_up);
            let size = block.size.next_multiple_of(0x1_0000) + 0x1_0000;
            let next = self.made_up.saturating_add(size);
            self.made_up = if next < MADE_UP.end { next } else { MADE_UP.start };
        }
        let loaded = image.sections().iter().filter(|section| layout.shape(section).size > 0);
        for section in loaded {
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
}

/// Where nothing can be said of a module's bytes.
fn unknown(
    image: &Image<'_>,
    layout: &Layout,
    memories: &BTreeMap<MemoryKind, (u64, Vec<u8>)>,
) -> Vec<std::ops::Range<u64>> {
    /// `sizeof(struct module)`, or more, of which the kernel itself writes most.
    const THIS_MODULE: u64 = 2048;
    let start = |section: usize| {
        let place = layout.place(section)?;
        Some(memories.get(&place.kind)?.0 + place.offset)
    };
    let mut unknown = Vec::new();
    if let Some(start) = start(image.this_module().index()) {
        unknown.push(start..start + THIS_MODULE);
    }
    // Sorted before init runs (kernel/module/main.c:post_relocation).
    if let Some(section) = image.section("__ex_table")
        && let Some(start) = start(section.index())
    {
        unknown.push(start..start + section.size());
    }
    // Symbols of sections that are not loaded have addresses in the copy.
    if let (Some(kallsyms), Some((data, _))) = (layout.kallsyms(), memories.get(&MemoryKind::InitData)) {
        let start = data + kallsyms.init_symbols;
        unknown.push(start..start + kallsyms.init_count * 24);
        let start = data + kallsyms.init_struct;
        unknown.push(start..start + 32);
    }
    for table in image.relocations() {
        let Some(start) = start(table.target().index()) else { continue };
        for relocation in table.iter() {
            let symbol = image.symbols().get(relocation.symbol as usize);
            let is_copy = symbol.is_some_and(|symbol| match symbol.place {
                SymbolPlace::Section(section) => layout.place(section).is_none(),
                _ => false,
            });
            if is_copy {
                let field = start.wrapping_add(relocation.offset);
                unknown.push(field..field.saturating_add(8));
            }
        }
    }
    unknown
}

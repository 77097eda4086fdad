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
    /// Whether something refers to such a copy.
    pub(super) needs_copy: bool,
    /// By memory: the address, and what is there before init runs.
    pub(super) memories: BTreeMap<MemoryKind, (u64, Vec<u8>)>,
    /// What was odd about it.
    pub(super) remarks: Vec<String>,
}

/// Addresses of blocks of which the kernel tells nothing: below its own, and without a byte of zero but the first, as
/// fields that were written once must not be zero any more.
pub(super) const MADE_UP: std::ops::Range<u64> = 0x1111_1000..0x5f00_0000;
/// What apart they are.
const STEP: u64 = 0x11_1000;
/// The kernel has less memory.
const MOST: u64 = 300 << 20;

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
        let stays = self.clear(&answers.gone);
        outcomes.extend(stays);
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
        self.clear(&[]);
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
        let (unknown, needs_copy) = unknown(&image, &layout, &memories);
        Ok(Verdict::Loaded(Box::new(Loaded { id, unknown, needs_copy, memories, remarks })))
    }

    fn unload(&mut self, name: &str) -> Result<(), UnloadError> {
        let id = self.modules.by_name(name).map(|module| module.id()).ok_or(UnloadError::NotLoaded)?;
        self.modules.unload(id, |_| ())
    }

    /// Unloads all, the newest first, until one stays; what came of that one, and whether Linux says the same.
    fn clear(&mut self, theirs: &[i32]) -> Vec<Outcome> {
        let (mut gone, mut outcomes) = (Vec::new(), Vec::new());
        while let Some(id) = self.modules.iter().last().map(|module| module.id()) {
            let error = self.modules.unload(id, |_| ()).err();
            let errno = error.as_ref().map_or(0, rules::unload_errno);
            gone.push(errno);
            if let Some(error) = error {
                outcomes.push(Outcome::Refused { errno, rule: rules::variant("Unload", &error) });
                break;
            }
        }
        if gone != theirs {
            let what = format!("unloading all, Linux says {theirs:?}, modmem {gone:?}");
            outcomes.push(Outcome::Differs(what));
        }
        outcomes
    }

    /// Where the kernel had each block, by the sections in it; made up where it tells nothing.
    fn addresses(
        &mut self,
        image: &Image<'_>,
        layout: &Layout,
        answer: &Answer,
    ) -> BTreeMap<MemoryKind, u64> {
        let mut addresses = BTreeMap::new();
        for block in layout.blocks() {
            if block.size > MOST {
                return BTreeMap::new();
            }
            // Apart from each other: the index does not take two that overlap.
            let next = self.made_up + (block.size / STEP + 1) * STEP;
            let (start, next) = match next < MADE_UP.end {
                true => (self.made_up, next),
                false => (MADE_UP.start, MADE_UP.start + (next - self.made_up)),
            };
            addresses.insert(block.kind, start);
            self.made_up = next;
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

/// Where nothing can be said of a module's bytes, and whether something refers to the copy of a section.
fn unknown(
    image: &Image<'_>,
    layout: &Layout,
    memories: &BTreeMap<MemoryKind, (u64, Vec<u8>)>,
) -> (Vec<std::ops::Range<u64>>, bool) {
    /// `sizeof(struct module)`, or more, of which the kernel itself writes most.
    const THIS_MODULE: u64 = 2048;
    let start = |section: usize| {
        let place = layout.place(section)?;
        Some(memories.get(&place.kind)?.0 + place.offset)
    };
    let (mut unknown, mut needs_copy) = (Vec::new(), false);
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
                needs_copy = true;
                let field = start.wrapping_add(relocation.offset);
                unknown.push(field..field.saturating_add(8));
            }
        }
    }
    (unknown, needs_copy)
}

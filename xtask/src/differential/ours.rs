//! What modmem makes of a case, at the addresses where the kernel had its modules, if it had them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow};
use modmem::image::{Image, Symbol, SymbolPlace};
use modmem::layout::{Layout, MemoryKind};
use modmem::link::{LinkError, LinkOptions, RelocationProblem};
use modmem::modules::UnloadError;
use modmem::{Linker, LoadError, ModuleId, Modules};

use super::answers::{Answer, CaseAnswer};
use super::compare::{self, Outcome};
use super::generate::{Case, Step};
use super::guest::Look;
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
    /// Refused for a value that depends on where the loader had its copy of the file.
    Unplaced,
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
    /// Whether something refers to such a copy, or a field may not be zero before it is written, as two relocations are for
    /// one byte, or the loader has been there before (`struct module` is in a list by then): what comes of that depends on
    /// where the module lies.
    pub(super) needs_place: bool,
    /// By memory: the address, and what is there before init runs.
    pub(super) memories: BTreeMap<MemoryKind, (u64, Vec<u8>)>,
    /// What was odd about it.
    pub(super) remarks: Vec<String>,
    /// Its blocks, by a section of each.
    pub(super) looks: Vec<Look>,
}

/// What modmem says of a case before Linux is asked.
#[derive(Debug)]
pub(super) struct Foreseen {
    /// A rule by which it refuses one of the modules.
    pub(super) rule: Option<String>,
    /// Where to look after each step.
    pub(super) looks: Vec<Vec<Look>>,
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
                match views::of_module(&self.modules, loaded, answer) {
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

    /// What modmem says of a case, whatever the kernel says.
    pub(super) fn foresee(&mut self, case: &Case) -> Result<Foreseen> {
        let (mut found, mut all) = (None, Vec::new());
        for step in &case.steps {
            let mut looks = Vec::new();
            match step {
                Step::Load(file) => match self.load(file, &Answer::default())? {
                    Verdict::Loaded(loaded) => {
                        self.modules.start(loaded.id, |_| 0).map_err(|error| anyhow!("{error}"))?;
                        looks = loaded.looks;
                    }
                    Verdict::Unplaced => {}
                    // The one that Linux does not refuse is what it dies of.
                    Verdict::Refused { rule, .. } => {
                        let is_known = |rule: &String| stricter::find(rule).is_some();
                        found = found.filter(is_known).or(Some(rule));
                    }
                },
                Step::Unload(name) => drop(self.unload(name)),
            }
            all.push(looks);
        }
        self.clear(&[]);
        if !self.modules.is_empty() {
            *self = Ours::new(self.uml)?;
        }
        Ok(Foreseen { rule: found, looks: all })
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
            Err(error) if is_of_copys_place(&error, &image, &layout) => return Ok(Verdict::Unplaced),
            Err(error) => return Ok(refused(error)),
        };
        let module = self.modules.get(id).context("a module that was loaded is not there")?;
        let memories = MemoryKind::ALL.into_iter().filter_map(|kind| {
            let address = module.address(kind)?.0;
            Some((kind, (address, module.bytes(kind).to_vec())))
        });
        let memories: BTreeMap<MemoryKind, (u64, Vec<u8>)> = memories.collect();
        let remarks = module.remarks().iter().map(|remark| rules::variant("Remark", remark)).collect();
        let (unknown, needs_place) = unknown(&image, &layout, &memories, answer);
        let looks = looks(&image, &layout);
        Ok(Verdict::Loaded(Box::new(Loaded { id, unknown, needs_place, memories, remarks, looks })))
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
        for (block, look) in sections(image, layout) {
            let found = answer.sections.iter().find(|(known, _)| *known == look.section);
            if let Some((_, address)) = found {
                addresses.insert(layout.blocks()[block].kind, address.wrapping_sub(look.offset));
            }
        }
        addresses
    }
}

/// All sections in memory, with the numbers of their blocks.
fn sections(image: &Image<'_>, layout: &Layout) -> impl Iterator<Item = (usize, Look)> {
    let loaded = image.sections().iter().filter(|section| layout.shape(section).size > 0);
    loaded.filter_map(|section| {
        let place = layout.place(section.index())?;
        let memory = layout.memories()[place.kind];
        let block = memory.block?;
        // As sysfs has it.
        let name = section.name().to_text().replace('/', "!");
        let offset = place.offset.wrapping_add(memory.offset);
        Some((block, Look { section: name, offset, size: layout.blocks()[block].size }))
    })
}

/// A section of each block.
fn looks(image: &Image<'_>, layout: &Layout) -> Vec<Look> {
    let mut looks: BTreeMap<usize, Look> = BTreeMap::new();
    // A name that leads nowhere stands for no block.
    let named = sections(image, layout).filter(|(_, look)| !["", ".", ".."].contains(&&*look.section));
    for (block, look) in named {
        looks.entry(block).or_insert(look);
    }
    looks.into_values().collect()
}

/// Whether a symbol's section is not loaded: then Linux takes its address in the copy of the file.
fn is_of_copy(layout: &Layout, symbol: &Symbol<'_>) -> bool {
    matches!(symbol.place, SymbolPlace::Section(section) if layout.place(section).is_none())
}

/// Whether a value does not fit, or finds another one, that has such an address in it.
fn is_of_copys_place(error: &LoadError, image: &Image<'_>, layout: &Layout) -> bool {
    let LoadError::Link(LinkError::Relocation(error)) = error else { return false };
    matches!(error.problem, RelocationProblem::Overflow { .. } | RelocationProblem::NotZero { .. })
        && image.relocations().flat_map(|table| table.iter()).any(|relocation| {
            let symbol = image.symbols().get(relocation.symbol as usize);
            symbol.is_some_and(|symbol| is_of_copy(layout, &symbol))
        })
}

/// Where nothing can be said of a module's bytes, and whether a field's bytes before a relocation depend on addresses.
fn unknown(
    image: &Image<'_>,
    layout: &Layout,
    memories: &BTreeMap<MemoryKind, (u64, Vec<u8>)>,
    answer: &Answer,
) -> (Vec<std::ops::Range<u64>>, bool) {
    /// `sizeof(struct module)`, or more, of which the kernel itself writes most.
    const THIS_MODULE: u64 = 2048;
    /// R_X86_64_64 and R_X86_64_PC64 write eight bytes, all others four (psABI x86-64, table of relocation types).
    const LONG_FIELDS: [u32; 2] = [1, 24];
    let start = |section: usize| {
        let place = layout.place(section)?;
        Some(memories.get(&place.kind)?.0 + place.offset)
    };
    let (mut unknown, mut needs_place, mut fields) = (Vec::new(), false, Vec::new());
    if let Some(start) = start(image.this_module().index()) {
        unknown.push(start..start + THIS_MODULE);
    }
    // Sorted before init runs (kernel/module/main.c:post_relocation).
    if let Some(section) = image.sections().iter().find(|section| section.name() == "__ex_table") {
        unknown.extend(start(section.index()).map(|start| start..start + section.size()));
    }
    // Symbols of sections that are not loaded have addresses in the copy.
    if let (Some(kallsyms), Some((data, _))) = (layout.kallsyms(), memories.get(&MemoryKind::InitData)) {
        let start = data + kallsyms.init_symbols;
        unknown.push(start..start + kallsyms.init_count * 24);
        let start = data + kallsyms.init_struct;
        unknown.push(start..start + 32);
    }
    // Where a block is only sysfs says, by the sections that have a name.
    let is_told = |look: &Look| answer.sections.iter().any(|(known, _)| *known == look.section);
    let told: BTreeSet<usize> =
        sections(image, layout).filter(|(_, look)| is_told(look)).map(|(block, _)| block).collect();
    let is_untold = |symbol: &Symbol<'_>| match symbol.place {
        SymbolPlace::Section(section) => {
            let block = layout.place(section).and_then(|place| layout.memories()[place.kind].block);
            block.is_some_and(|block| !told.contains(&block))
        }
        _ => false,
    };
    let (this_module, entries) = (image.this_module().index(), image.entry_offsets());
    for table in image.relocations() {
        let Some(start) = start(table.target().index()) else { continue };
        for relocation in table.iter() {
            let symbol = image.symbols().get(relocation.symbol as usize);
            let is_copy = symbol.is_some_and(|symbol| is_of_copy(layout, &symbol) || is_untold(&symbol));
            let field = start.wrapping_add(relocation.offset);
            needs_place |=
                table.target().index() == this_module && !entries.contains(&Some(relocation.offset));
            let is_long = LONG_FIELDS.contains(&relocation.kind);
            fields.push(field..field.saturating_add(if is_long { 8 } else { 4 }));
            if is_copy {
                needs_place = true;
                unknown.push(field..field.saturating_add(8));
            }
        }
    }
    fields.sort_by_key(|field| field.start);
    needs_place |= fields.windows(2).any(|pair| pair[1].start < pair[0].end);
    (unknown, needs_place)
}

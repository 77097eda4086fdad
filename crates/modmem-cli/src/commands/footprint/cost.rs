//! What memory costs in one case.

use std::ops::AddAssign;

use modmem::image::Image;
use modmem::layout::{Layout, MemoryKind, Rule, classify};
use modmem::profile::Profile;

use super::content::Content;

/// What the records of a symbol table are aligned to: fewer bytes than this are no gap between pages.
const SYMBOL_ALIGNMENT: u64 = 8;

/// Core or init memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Side {
    /// Bytes of content.
    pub(crate) needed: u64,
    /// The same with what the alignment of sections and tables puts between.
    pub(crate) used: u64,
    /// The same in whole pages.
    pub(crate) allocated: u64,
    /// Blocks asked of the allocator.
    pub(crate) blocks: u64,
    /// What would be allocated if no symbol table were kept.
    pub(crate) without_kallsyms: u64,
}

/// One module, or the sum of many, in one case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) core: Side,
    pub(crate) init: Side,
    /// Bytes of pages with code, of those that stay.
    pub(crate) text: u64,
}

impl Cost {
    /// As Linux does it: `layout`, and `bare` without symbol tables, of a module with this content.
    pub(crate) fn of_layout(content: &Content, layout: &Layout, bare: &Layout) -> Cost {
        let gaps = page_gaps(layout, bare);
        let side = |init: bool, needed| {
            let blocks = || layout.blocks().iter().filter(move |block| block.kind.is_init() == init);
            let used = layout.memories().iter().filter(|(kind, _)| kind.is_init() == init);
            let bare = bare.blocks().iter().filter(|block| block.kind.is_init() == init);
            Side {
                needed,
                used: used.map(|(_, memory)| memory.used).sum::<u64>() - gaps[usize::from(init)],
                allocated: blocks().map(|block| block.size).sum(),
                blocks: blocks().count() as u64,
                without_kallsyms: bare.map(|block| block.size).sum(),
            }
        };
        Cost {
            core: side(false, content.core()),
            init: side(true, content.init()),
            text: layout.memories()[MemoryKind::Text].allocated,
        }
    }

    /// As loaders do that give every section pages of its own and keep no symbol table.
    pub(crate) fn of_sections(image: &Image<'_>, profile: &Profile, layout: &Layout, page_size: u64) -> Cost {
        let mut cost = Cost::default();
        let shapes = image.sections().iter().map(|section| (section, layout.shape(section)));
        for (section, shape) in shapes.filter(|(_, shape)| shape.size > 0) {
            let (kind, size) = match classify(image, profile, section, shape.flags) {
                Err(_) | Ok((_, Rule::Kallsyms)) => continue,
                Ok((kind, _)) => (kind, shape.size),
            };
            let allocated = size.next_multiple_of(page_size);
            let side = if kind.is_init() { &mut cost.init } else { &mut cost.core };
            *side += Side { needed: size, used: size, allocated, blocks: 1, without_kallsyms: allocated };
            cost.text += if kind == MemoryKind::Text { allocated } else { 0 };
        }
        cost
    }

    /// Bytes while the module loads.
    pub(crate) fn allocated(&self) -> u64 {
        self.core.allocated + self.init.allocated
    }

    /// Bytes between sections.
    pub(crate) fn padding(&self) -> u64 {
        self.core.used + self.init.used - self.core.needed - self.init.needed
    }

    /// Bytes behind what is used, up to the end of the page.
    pub(crate) fn rounding(&self) -> u64 {
        self.allocated() - self.core.used - self.init.used
    }

    /// Bytes that hold nothing, while the module loads.
    pub(crate) fn waste(&self) -> u64 {
        self.padding() + self.rounding()
    }

    /// Bytes that hold nothing and stay.
    pub(crate) fn core_waste(&self) -> u64 {
        self.core.allocated - self.core.needed
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.core.blocks + self.init.blocks
    }

    /// Names, as in CSV and JSON, and numbers.
    pub(crate) fn fields(&self, page_size: u64) -> [(&'static str, u64); 18] {
        [
            ("needed", self.core.needed + self.init.needed),
            ("allocated", self.allocated()),
            ("resident", self.core.allocated),
            ("given_back", self.init.allocated),
            ("waste", self.waste()),
            ("waste_alignment", self.padding()),
            ("waste_rounding", self.rounding()),
            ("waste_resident", self.core_waste()),
            ("blocks", self.blocks()),
            ("blocks_resident", self.core.blocks),
            ("pages", self.allocated() / page_size),
            ("pages_resident", self.core.allocated / page_size),
            ("pages_text", self.text.div_ceil(page_size)),
            ("guard", self.blocks() * page_size),
            ("guard_resident", self.core.blocks * page_size),
            ("allocated_without_kallsyms", self.core.without_kallsyms + self.init.without_kallsyms),
            ("resident_without_kallsyms", self.core.without_kallsyms),
            ("given_back_without_kallsyms", self.init.without_kallsyms),
        ]
    }
}

/// Bytes between a data memory's last section and its symbol tables where these begin on a page of their own, as
/// under `module_layout`; for core and init. [`Layout`] counts them as used; they are what rounding to pages costs.
fn page_gaps(layout: &Layout, bare: &Layout) -> [u64; 2] {
    let Some(kallsyms) = layout.kallsyms() else { return [0; 2] };
    let tables = [(MemoryKind::Data, kallsyms.core_symbols), (MemoryKind::InitData, kallsyms.init_symbols)];
    tables.map(|(kind, start)| {
        let gap = start.saturating_sub(bare.memories()[kind].used);
        let on_page = start.is_multiple_of(layout.page_size());
        if on_page && gap >= SYMBOL_ALIGNMENT { gap } else { 0 }
    })
}

impl AddAssign for Side {
    fn add_assign(&mut self, other: Side) {
        self.needed += other.needed;
        self.used += other.used;
        self.allocated += other.allocated;
        self.blocks += other.blocks;
        self.without_kallsyms += other.without_kallsyms;
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.core += other.core;
        self.init += other.init;
        self.text += other.text;
    }
}

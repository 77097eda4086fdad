//! What a loaded kernel tells for the picture.

use std::ops::Range;

use modmem::RunAddr;
use modmem::layout::MemoryKind;
use modmem::modules::Module;
use modmem::space::Block;

use super::model::{Facts, KernelSpan, Map, Memory};
use super::text::harmless;
use crate::args::SpaceArgs;
use crate::output::grouped;
use crate::session::Session;

/// Sections that are named for each memory: enough to know what fills it, few enough to read.
const SECTIONS: usize = 3;

pub(crate) fn map(session: &Session, space: &SpaceArgs) -> Map {
    let kernel = &session.kernel;
    let ranges = session.space.ranges();
    let plain = |range: &Range<RunAddr>| range.start.0..range.end.0;
    let mut facts = Facts {
        release: harmless(kernel.files.release()),
        profile: kernel.profile_name(),
        remarks: session.remarks(),
        page_size: kernel.profile.page_size,
        guard: session.space.guard_size(),
        ranges: vec![("text", plain(&ranges.text)), ("data", plain(&ranges.data))],
        kernel: kernel
            .symbols
            .image
            .as_ref()
            .map(|image| KernelSpan { range: image.text..image.end, text_end: image.text_end }),
        holes: session.space.holes().iter().chain(&session.space.pack_holes()).map(plain).collect(),
        failed: session.failed.len(),
        before_init: space.before_init,
        ..Facts::default()
    };
    facts.ranges.extend(ranges.fallback.iter().map(|range| ("fallback", plain(range))));
    for loaded in &session.loaded {
        let Some(module) = session.modules.get(loaded.id) else { continue };
        add(&mut facts, module);
    }
    Map::new(facts)
}

fn add<B: Block>(facts: &mut Facts, module: &Module<B>) {
    let number = facts.modules.len();
    facts.modules.push(harmless(module.name()));
    for kind in MemoryKind::ALL {
        let layout = module.layout().memories()[kind];
        let Some(range) = module.range(kind) else {
            if module.original_range(kind).is_some() {
                facts.given_back += layout.allocated;
            }
            continue;
        };
        facts.memories.push(Memory {
            module: number,
            kind,
            range: range.start.0..range.end.0,
            used: layout.used,
            protection: module.protection(kind),
            sections: largest_sections(module, kind),
        });
    }
}

fn largest_sections<B: Block>(module: &Module<B>, kind: MemoryKind) -> String {
    let mut sections: Vec<_> = module.sections().filter(|s| s.kind == kind && s.size > 0).collect();
    sections.sort_by_key(|section| std::cmp::Reverse(section.size));
    let more = sections.len().saturating_sub(SECTIONS);
    let named = sections.iter().take(SECTIONS);
    let named =
        named.map(|section| format!("{} {}", harmless(&section.name.to_text()), grouped(section.size)));
    let mut words: Vec<String> = named.collect();
    if more > 0 {
        words.push(format!("{more} more"));
    }
    words.join(", ")
}

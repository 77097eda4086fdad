//! What a module brings into memory, however that memory is cut.

use std::ops::AddAssign;

use modmem::image::Image;
use modmem::layout::{Layout, MemoryKind, Rule, classify};
use modmem::profile::Profile;

use super::load_only::LoadOnly;

/// The stack unwinder's tables.
const ORC: [&str; 3] = [".orc_unwind", ".orc_unwind_ip", ".orc_header"];

/// Bytes that have to be somewhere: what no way to cut memory can save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// Sections that stay.
    pub(crate) core_sections: u64,
    /// Sections that go after init.
    pub(crate) init_sections: u64,
    /// Symbols of the sections that stay: records, names, type letters.
    pub(crate) core_kallsyms: u64,
    /// The whole symbol table, which goes after init.
    pub(crate) init_kallsyms: u64,
    /// Executable sections, of those that stay.
    pub(crate) text: u64,
    /// The unwinder's tables, of those that stay.
    pub(crate) orc: u64,
    /// Sections that stay although only the loader reads them.
    pub(crate) load_only: LoadOnly,
    /// `.data..percpu`, of which every CPU has a copy elsewhere.
    pub(crate) percpu: u64,
}

impl Content {
    /// Counts what `layout` has a place for. Which sections these are depends on the profile's switches, not on how
    /// memory is cut.
    pub(crate) fn of(image: &Image<'_>, profile: &Profile, layout: &Layout) -> Content {
        let mut content = Content::default();
        for section in image.sections() {
            let shape = layout.shape(section);
            let Ok((kind, rule)) = classify(image, profile, section, shape.flags) else { continue };
            let size = shape.size;
            if rule == Rule::Kallsyms {
                content.init_kallsyms += size;
            } else if kind.is_init() {
                content.init_sections += size;
            } else {
                content.core_sections += size;
                content.load_only.count(section.name(), size);
                content.text += if kind == MemoryKind::Text { size } else { 0 };
                content.orc += if ORC.iter().any(|&name| section.name() == name) { size } else { 0 };
            }
        }
        content.core_sections += layout.text_head();
        content.text += layout.text_head();
        if let Some(kallsyms) = layout.kallsyms() {
            // From the first record to the last type letter nothing is padded.
            content.core_kallsyms = kallsyms.core_types + kallsyms.core_count - kallsyms.core_symbols;
            // The same for the struct and its letters; the tables were counted as the sections they are.
            content.init_kallsyms += kallsyms.init_types + kallsyms.init_count - kallsyms.init_struct;
        }
        content.percpu = layout.percpu().map_or(0, |percpu| percpu.size);
        content
    }

    /// Everything that stays.
    pub(crate) fn core(&self) -> u64 {
        self.core_sections + self.core_kallsyms
    }

    /// Everything that goes after init.
    pub(crate) fn init(&self) -> u64 {
        self.init_sections + self.init_kallsyms
    }

    /// Names, as in CSV and JSON, and numbers.
    pub(crate) fn fields(&self) -> [(&'static str, u64); 8] {
        [
            ("core_sections", self.core_sections),
            ("init_sections", self.init_sections),
            ("core_kallsyms", self.core_kallsyms),
            ("init_kallsyms", self.init_kallsyms),
            ("text", self.text),
            ("orc", self.orc),
            ("load_only", self.load_only.total()),
            ("percpu", self.percpu),
        ]
    }
}

impl AddAssign for Content {
    fn add_assign(&mut self, other: Content) {
        self.core_sections += other.core_sections;
        self.init_sections += other.init_sections;
        self.core_kallsyms += other.core_kallsyms;
        self.init_kallsyms += other.init_kallsyms;
        self.text += other.text;
        self.orc += other.orc;
        self.load_only += other.load_only;
        self.percpu += other.percpu;
    }
}

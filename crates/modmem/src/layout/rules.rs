//! From section to memory type (main.c:__layout_sections and what it calls).

use core::fmt;

use super::MemoryKind;
use crate::image::elf::section_flag::{ALLOC, EXECINSTR, RO_AFTER_INIT, WRITE};
use crate::image::{Image, Section, has_prefix};
use crate::profile::Profile;

/// The rule that gives a section its memory type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// SHF_EXECINSTR: text.
    Executable,
    /// Not SHF_WRITE: read-only data.
    ReadOnly,
    /// SHF_RO_AFTER_INIT: Linux sets it for sections of a few names, and finds it where a file has SHF_GNU_RETAIN.
    ReadOnlyAfterInit,
    /// SHF_WRITE: data.
    Writable,
    /// The symbol table or its strings, kept for kallsyms: whole ones while loading.
    Kallsyms,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Executable => "ALLOC, EXECINSTR",
            Rule::ReadOnly => "ALLOC, not WRITE",
            Rule::ReadOnlyAfterInit => "read-only after init by name or SHF_GNU_RETAIN",
            Rule::Writable => "ALLOC, WRITE",
            Rule::Kallsyms => "kallsyms, whole while loading",
        })
    }
}

/// Why a section has no place in module memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLoaded {
    /// Not SHF_ALLOC: debug information, relocations and the like.
    NotAlloc,
    /// `.modinfo`, `__versions` and, from 6.14 on, their extended form: read by the loader and not kept.
    ReadOnly,
    /// `.data..percpu`: copied to every CPU's percpu area.
    PerCpu,
}

impl fmt::Display for NotLoaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotLoaded::NotAlloc => "not ALLOC",
            NotLoaded::ReadOnly => "read by the loader, not kept",
            NotLoaded::PerCpu => "percpu area",
        })
    }
}

/// The type that a section gets, and by which rule; or why it gets none.
pub type Classification = Result<(MemoryKind, Rule), NotLoaded>;

/// Classifies a section of `image` under `profile`. `flags` are those that it is laid out with, see
/// [`Layout::shape`](super::Layout::shape): the file's own on machines that change none.
///
/// Linux goes through five flag masks and gives a section to the first that fits. Written as questions: code, else
/// read-only, else read-only after init, else writable. A consequence that surprises: only a *writable* section can
/// be read-only after init, and an *init* section never is. The mask for small data is empty on every machine that
/// Linux 6.12 builds Debian kernels for.
pub fn classify(image: &Image<'_>, profile: &Profile, section: &Section<'_>, flags: u64) -> Classification {
    let tables = [image.known().symtab, image.symbols().strings_section()];
    match profile.switches.kallsyms && tables.contains(&section.index()) {
        true => Ok((MemoryKind::InitData, Rule::Kallsyms)),
        false => by_flags(image, profile, section, flags),
    }
}

/// The same as the passes over all sections see it, which come before the symbol tables' turn.
pub(super) fn by_flags(
    image: &Image<'_>,
    profile: &Profile,
    section: &Section<'_>,
    flags: u64,
) -> Classification {
    let known = image.known();
    let index = Some(section.index());
    if flags & ALLOC == 0 {
        return Err(NotLoaded::NotAlloc);
    }
    if is_not_kept(image, profile, section.index()) {
        return Err(NotLoaded::ReadOnly);
    }
    if profile.switches.smp && index == known.percpu {
        return Err(NotLoaded::PerCpu);
    }
    let init = is_init(profile, section);
    let (core_kind, init_kind, rule) = if flags & EXECINSTR != 0 {
        (MemoryKind::Text, MemoryKind::InitText, Rule::Executable)
    } else if flags & WRITE == 0 {
        (MemoryKind::RoData, MemoryKind::InitRoData, Rule::ReadOnly)
    } else if !init && is_read_only_after_init(image, profile, section, flags) {
        (MemoryKind::RoAfterInit, MemoryKind::InitData, Rule::ReadOnlyAfterInit)
    } else {
        (MemoryKind::Data, MemoryKind::InitData, Rule::Writable)
    };
    Ok((if init { init_kind } else { core_kind }, rule))
}

/// Whether the loader reads a section and does not keep it (main.c:rewrite_section_headers).
pub(crate) fn is_not_kept(image: &Image<'_>, profile: &Profile, section: usize) -> bool {
    let known = image.known();
    let extended =
        [known.extended_crcs, known.extended_names].map(|s| s.filter(|_| profile.extended_versions));
    [known.modinfo, known.versions].contains(&Some(section)) || extended.contains(&Some(section))
}

/// Whether a section goes when init has returned: by the start of its name alone
/// (include/linux/moduleloader.h:module_init_section, main.c:module_init_layout_section).
pub(crate) fn is_init(profile: &Profile, section: &Section<'_>) -> bool {
    has_prefix(section.name(), ".init")
        || (!profile.switches.module_unload && has_prefix(section.name(), ".exit"))
}

/// Whether a section has SHF_RO_AFTER_INIT: from the file, or set by Linux for the first of each of these names
/// (main.c:layout_and_allocate).
fn is_read_only_after_init(image: &Image<'_>, profile: &Profile, section: &Section<'_>, flags: u64) -> bool {
    let known = image.known();
    let index = Some(section.index());
    flags & RO_AFTER_INIT != 0
        || index == known.ro_after_init
        || index == known.jump_table
        || (profile.static_calls_ro_after_init && index == known.static_call_sites)
}

//! Relocation sections: where a symbol's value goes.

use super::Image;
use super::elf::{Encoding, Format, section_flag, section_type, with_encoding};
use super::error::ImageError;
use super::sections::{Section, WellKnown};
use super::symbols::SymbolTable;

/// One relocation, the same for every format once decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// `r_offset`: where in the target section.
    pub offset: u64,
    /// Index of the symbol.
    pub symbol: u32,
    /// The machine's number for what to do.
    pub kind: u32,
    /// `r_addend`, or 0 in a REL section, where the addend is in the target.
    pub addend: i64,
}

impl Relocation {
    pub(crate) const fn size<E: Encoding>(with_addend: bool) -> usize {
        match (E::IS_64, with_addend) {
            (true, true) => 24,
            (true, false) => 16,
            (false, true) => 12,
            (false, false) => 8,
        }
    }

    /// Decodes one record (gABI "Relocation": `ELF64_R_SYM`, `ELF32_R_SYM` and their kin).
    #[inline(always)]
    pub(crate) fn decode<E: Encoding, const ADDEND: bool>(b: &[u8]) -> Relocation {
        if E::IS_64 {
            let info = E::u64(b, 8);
            let addend = if ADDEND { E::u64(b, 16) as i64 } else { 0 };
            Relocation { offset: E::u64(b, 0), symbol: (info >> 32) as u32, kind: info as u32, addend }
        } else {
            let info = E::u32(b, 4);
            let addend = if ADDEND { i64::from(E::u32(b, 8) as i32) } else { 0 };
            Relocation { offset: u64::from(E::u32(b, 0)), symbol: info >> 8, kind: info & 0xff, addend }
        }
    }
}

/// A relocation section that the loader applies, and the section that it applies it to.
#[derive(Clone, Copy, Debug)]
pub struct RelocationSection<'i, 'a> {
    section: &'i Section<'a>,
    target: &'i Section<'a>,
    format: Format,
}

impl<'i, 'a> RelocationSection<'i, 'a> {
    pub(crate) fn of(image: &'i Image<'a>, section: &'i Section<'a>) -> Option<RelocationSection<'i, 'a>> {
        let target = applied_target(image.sections(), image.known(), section)?;
        Some(RelocationSection { section, target, format: image.format() })
    }

    /// One that livepatch applies, whatever its type: Linux looks at its flag (main.c:apply_relocations).
    pub(crate) fn of_livepatch(
        image: &'i Image<'a>,
        section: &'i Section<'a>,
    ) -> Option<RelocationSection<'i, 'a>> {
        let target = image.sections().get(section.info() as usize).filter(|target| target.is_alloc())?;
        Some(RelocationSection { section, target, format: image.format() })
    }

    /// The relocation section itself.
    pub fn section(&self) -> &'i Section<'a> {
        self.section
    }

    /// The section whose bytes change.
    pub fn target(&self) -> &'i Section<'a> {
        self.target
    }

    /// Whether the records carry their addends (SHT_RELA).
    pub fn has_addends(&self) -> bool {
        self.section.kind() == section_type::RELA
    }

    /// Number of relocations.
    pub fn len(&self) -> usize {
        let with_addend = self.has_addends();
        self.section.data().len() / with_encoding!(self.format, E => Relocation::size::<E>(with_addend))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.section.data().is_empty()
    }

    /// The relocation at `index`.
    pub fn get(&self, index: usize) -> Option<Relocation> {
        with_encoding!(self.format, E => {
            let size = Relocation::size::<E>(self.has_addends());
            let start = index.checked_mul(size)?;
            let record = self.section.data().get(start..start.checked_add(size)?)?;
            Some(if self.has_addends() {
                Relocation::decode::<E, true>(record)
            } else {
                Relocation::decode::<E, false>(record)
            })
        })
    }

    /// All relocations in table order.
    pub fn iter(&self) -> impl Iterator<Item = Relocation> + use<'i, 'a> {
        let table = *self;
        (0..self.len()).filter_map(move |index| table.get(index))
    }
}

/// Whether it is a table of relocations that the loader itself applies.
fn is_applied(section: &Section<'_>) -> bool {
    matches!(section.kind(), section_type::REL | section_type::RELA)
        && section.flags() & section_flag::RELA_LIVEPATCH == 0
}

/// The section that Linux would relocate with `section` (main.c:apply_relocations), if it applies it at all: not for
/// debug sections, not livepatch's own, not for what it reads and does not keep. Whether percpu data is relocated
/// depends on the kernel, which is not known here.
fn applied_target<'i, 'a>(
    sections: &'i [Section<'a>],
    known: &WellKnown,
    section: &Section<'a>,
) -> Option<&'i Section<'a>> {
    if !is_applied(section) {
        return None;
    }
    let target = sections.get(section.info() as usize)?;
    let set_aside = [known.modinfo, known.versions].contains(&Some(target.index()));
    (target.is_alloc() && !set_aside).then_some(target)
}

/// What Linux finds by name among the sections that are loaded, once it counts the symbol table and its strings to these
/// (main.c:find_module_sections).
const TABLES: [&[u8]; 29] = [
    b"__param",
    b"__ksymtab",
    b"__ksymtab_gpl",
    b"__kcrctab",
    b"__kcrctab_gpl",
    b"__kflagstab",
    b".ctors",
    b".init_array",
    b".noinstr.text",
    b"__tracepoints_ptrs",
    b"___srcu_struct_ptrs",
    b"__bpf_raw_tp_map",
    b".BTF",
    b".BTF.base",
    b"__jump_table",
    b".printk_index",
    b"_ftrace_events",
    b"_ftrace_eval_map",
    b"__trace_printk_fmt",
    b"__mcount_loc",
    b"__patchable_function_entries",
    b"_error_injection_whitelist",
    b".kprobes.text",
    b"_kprobe_blacklist",
    b".static_call_sites",
    b"__ex_table",
    b"__dyndbg",
    b"__dyndbg_classes",
    b"__obsparm",
];

/// Checks the shape of every applied relocation section, and each of its offsets and symbol indices.
pub(super) fn check_relocations<E: Encoding>(
    sections: &[Section<'_>],
    known: &WellKnown,
    symbols: &SymbolTable<'_>,
) -> Result<(), ImageError> {
    let symbol_count = symbols.len() as u64;
    let own = [known.symtab, symbols.strings_section()];
    for section in sections {
        // Linux marks these two as loaded (kallsyms.c:layout_symtab), and then changes names and symbols while it
        // resolves them. No linker relocates them.
        if is_applied(section) && section.size() != 0 && own.contains(&(section.info() as usize)) {
            let expected = "not the symbol table or its strings";
            return Err(section.bad("sh_info", u64::from(section.info()), expected));
        }
        // Under such a name it would use them as that table, and sort it, or write to it.
        if own.contains(&section.index()) && TABLES.contains(&section.name().bytes()) {
            let expected =
                "the name of a symbol table or of strings, and not of a table that Linux looks for";
            return Err(section.bad("sh_name", section.index() as u64, expected));
        }
        let Some(target) = applied_target(sections, known, section) else { continue };
        let size = Relocation::size::<E>(section.kind() == section_type::RELA) as u64;
        if section.entry_size() != size {
            return Err(section.bad("sh_entsize", section.entry_size(), "the size of a relocation"));
        }
        if section.size() % size != 0 {
            return Err(section.bad("sh_size", section.size(), "a multiple of sh_entsize"));
        }
        if section.link() as usize != known.symtab {
            return Err(section.bad("sh_link", u64::from(section.link()), "the index of the symbol table"));
        }
        if target.is_nobits() && section.size() != 0 {
            return Err(section.bad(
                "sh_info",
                u64::from(section.info()),
                "a section with bytes to relocate",
            ));
        }
        match section.kind() {
            section_type::RELA => check_entries::<E, true>(section, target, symbol_count)?,
            _ => check_entries::<E, false>(section, target, symbol_count)?,
        }
    }
    Ok(())
}

fn check_entries<E: Encoding, const ADDEND: bool>(
    section: &Section<'_>,
    target: &Section<'_>,
    symbol_count: u64,
) -> Result<(), ImageError> {
    // One pass without branches for the common case; the culprit is only looked for where there is one.
    // The symbol is the upper part of `r_info`, so the largest of these has the largest symbol.
    let (mut last_offset, mut last_info) = (0, 0);
    let records = section.data().chunks_exact(Relocation::size::<E>(ADDEND));
    for record in records.clone() {
        last_offset = last_offset.max(E::word(record, 0));
        last_info = last_info.max(E::word(record, if E::IS_64 { 8 } else { 4 }));
    }
    let last_symbol = last_info >> if E::IS_64 { 32 } else { 8 };
    if section.data().is_empty() || (last_offset < target.size() && last_symbol < symbol_count) {
        return Ok(());
    }
    for (entry, record) in records.enumerate() {
        let relocation = Relocation::decode::<E, ADDEND>(record);
        let fields = [
            ("r_offset", relocation.offset, target.size()),
            ("symbol index", u64::from(relocation.symbol), symbol_count),
        ];
        for (field, value, bound) in fields {
            if value >= bound {
                return Err(ImageError::BadRelocation {
                    section: section.label(),
                    entry,
                    field,
                    value,
                    bound,
                });
            }
        }
    }
    Ok(())
}

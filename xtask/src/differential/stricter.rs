//! Rules by which modmem refuses what Linux loads, and why: the table of docs/findings.md.

use anyhow::Result;

use crate::marked::Marked;

/// A rule.
#[derive(Debug)]
pub(super) struct Stricter {
    /// The error's variant.
    pub(super) rule: &'static str,
    pub(super) why: &'static str,
    /// Linux often dies of what is refused: then it is asked about few of them.
    pub(super) deadly: bool,
}

const fn rule(rule: &'static str, why: &'static str) -> Stricter {
    Stricter { rule, why, deadly: false }
}

const fn deadly(rule: &'static str, why: &'static str) -> Stricter {
    Stricter { rule, why, deadly: true }
}

pub(super) const STRICTER: &[Stricter] = &[
    rule("BadName", "a module without a name, which sysfs and users cannot name"),
    rule("Image::BadHeader", "fields of the ELF header that nobody needs to lie about"),
    rule(
        "Image::BadIdent",
        "Linux does not look at class, byte order and version: what reads the file afterwards does",
    ),
    deadly("Image::BadRelocation", "indices and offsets behind the ends of what they lead into"),
    rule(
        "Image::BadSection",
        "links, kinds and entry sizes that Linux does not look at, or takes on trust; relocations of the symbol table and its strings, which Linux applies; and names of tables for these two, which it then sorts or reads as such",
    ),
    rule(
        "Image::BadSignature",
        "a trailer that is no signature, which a kernel without signatures takes for padding",
    ),
    deadly("Image::BadSymbol", "indices behind the ends of tables: Linux reads what lies there"),
    rule(
        "Image::DuplicateSection",
        "a second symbol table, or a second section of what the kernel takes the first of",
    ),
    rule(
        "Image::LongName",
        "names of symbols longer than the kernel ever shows: they may share their ends, and so be more than the file",
    ),
    rule("Image::NotRelocatable", "a header in another byte order, which Linux does not look at"),
    rule("Image::SectionOutsideFile", "sections that are not loaded, whose bytes Linux never looks for"),
    rule("Image::SectionsOverlap", "one byte of the file would be two things"),
    rule(
        "Image::Truncated",
        "a signature's mark without one, which a kernel without signatures takes for padding",
    ),
    rule("Image::Unterminated", "strings without an end: Linux reads on behind them"),
    rule("Layout::NoTable", "a table of the loader's that module.lds always makes"),
    rule(
        "Layout::OtherEntry",
        "init or exit elsewhere in `struct module`: built for another kernel, though Linux looks at the size alone",
    ),
    rule(
        "Layout::OtherThisModule",
        "another size of `struct module`, where a kernel (6.1) compares none: what it reads behind the end is not the module's",
    ),
    deadly(
        "Layout::ThisModuleReadOnly",
        "`struct module` in a memory that is made read-only, or freed before the kernel is done with it",
    ),
    rule("Layout::TooLarge", "sizes that Linux adds up in 32 bits, and wraps"),
    deadly("Link::BadExport", "an entry of a table of exports that leads out of the module"),
    deadly("Link::Relocation::OutsideSection", "Linux writes wherever the offset leads: it can die of that"),
    deadly("Link::Relocation::UnknownSymbol", "Linux reads a symbol behind the end of the table"),
    rule(
        "SharedPages",
        "5.10 to 6.3 without STRICT_MODULE_RWX: code and data in one page, which modmem lays out and does not load",
    ),
];

/// The table's entry for a rule.
pub(super) fn find(rule: &str) -> Option<&'static Stricter> {
    STRICTER.iter().find(|known| known.rule == rule)
}

const PLACE: Marked = Marked {
    document: "docs/findings.md",
    begin: "<!-- stricter: written by `cargo xtask differential --table` -->\n",
    end: "<!-- /stricter -->\n",
};

/// Writes the table into the document.
pub(super) fn write_table() -> Result<()> {
    PLACE.write(&table())
}

fn table() -> String {
    let mut text = "| modmem refuses by | what Linux takes |\n|---|---|\n".to_owned();
    for Stricter { rule, why, deadly } in STRICTER {
        let mark = if *deadly { "; often deadly, so it is asked about one in sixteen" } else { "" };
        text += &format!("| `{rule}` | {why}{mark} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_table_is_this_one_and_each_rule_is_there_once() {
        assert!(PLACE.has(&table()).unwrap(), "run cargo xtask differential --table");
        assert!(STRICTER.windows(2).all(|pair| pair[0].rule < pair[1].rule), "in order");
    }
}

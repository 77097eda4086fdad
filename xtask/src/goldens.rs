//! Goldens: what a running kernel reported, in small text tables that the library's tests read.
//!
//! A table has what layout depends on (section headers, counts of symbols and bytes of names) and what the kernel
//! made of it (addresses, sizes), so that nobody needs the module files to check the one against the other.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use modmem::arch::Machine;
use modmem::image::elf::{section_flag, section_type};
use modmem::image::{Image, RelocationSection, Section, SymbolPlace};
use modmem::layout::Layout;

use crate::mod_tree;
use crate::oracle::Oracle;

/// The recorded kernels whose layout is proven.
const KERNELS: [&str; 6] = ["amd64-7.2", "amd64-6.12", "amd64-6.1", "ppc32-6.12", "s390x-6.12", "arm64-6.12"];

/// The table of what a kernel did to its `mod_tree`.
pub const MOD_TREE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/modmem-index/tests/data/ppc32-6.12.txt");

/// Writes the table of every proven kernel from the recordings below `folder`.
///
/// # Errors
/// A module cannot be read, or a table cannot be written.
pub fn write_all(folder: &Path) -> Result<()> {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/modmem/tests/goldens");
    for name in KERNELS {
        let path = goldens.join(format!("{name}.txt"));
        let text = golden(&Oracle::read(&folder.join(name))?)?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    std::fs::write(MOD_TREE, mod_tree::table(&Oracle::read(&folder.join("ppc32-6.12"))?)?)
        .context(MOD_TREE)?;
    Ok(())
}

fn golden(oracle: &Oracle) -> Result<String> {
    let profile = oracle.profile()?;
    let mut text = String::from(
        "# Where a running kernel had each section of its modules. Written by `cargo xtask goldens`.\n\
         # module NAME CORE_SIZE SYMBOLS STRTAB_SIZE CORE_SYMBOLS CORE_STRINGS_SIZE\n\
         # TYPE FLAGS SIZE ALIGNMENT ADDRESS NAME (hexadecimal; address - for what the kernel did not report)\n\
         # branches COUNT NAME: a section of relocations, with so many different targets of branches (32-bit PowerPC),\n\
         #   with so many branches that get an entry in a PLT (arm64)\n\
         # tables GOT PLT: how many symbols need an entry in each (s390x)\n\
         # area ADDRESS SIZE: a vmalloc area of the module alone, without its guard page\n",
    );
    writeln!(text, "kernel {} {}", oracle.release, profile.machine)?;
    for (name, file) in &oracle.files {
        let image = Image::parse(file).with_context(|| name.clone())?;
        let layout = Layout::of(&image, &profile).with_context(|| name.clone())?;
        let kallsyms = layout.kallsyms().context("the kernel has no kallsyms")?;
        let strtab = &image.sections()[image.sections()[symtab(&image)].link() as usize];
        writeln!(
            text,
            "module {name} {} {} {} {} {}",
            oracle.core_sizes[name.as_str()],
            image.symbols().len(),
            strtab.size(),
            kallsyms.core_count,
            kallsyms.core_strings_size
        )?;
        let reported = &oracle.sections[name.as_str()];
        let kept = |section: &&Section<'_>| {
            section.is_alloc() || [".symtab", ".strtab"].contains(&&*section.name().to_text())
        };
        for section in image.sections().iter().filter(kept) {
            let name = section.name().to_text();
            let address = reported.get(&name).filter(|_| layout.shape(section).size > 0);
            let address = address.map_or_else(|| "-".to_owned(), |address| format!("{address:x}"));
            let (kind, flags) = (section.kind(), section.flags());
            writeln!(
                text,
                "{kind:x} {flags:x} {:x} {:x} {address} {name}",
                section.size(),
                section.alignment()
            )?;
        }
        if profile.machine == Machine::PowerPc {
            branches(&image, &mut text)?;
        }
        if profile.machine == Machine::Arm64 {
            plt_entries(&image, &mut text)?;
        }
        if profile.machine == Machine::S390 {
            tables(&image, &mut text)?;
        }
        let page = profile.page_size;
        // Text that is packed shares its area with that of other modules.
        let packed = |section: &Section<'_>| {
            profile.text_pack.is_some()
                && layout.place(section.index()).is_some_and(|place| place.kind.is_text())
        };
        let own = image.sections().iter().filter(|section| !packed(section));
        // A memory does not begin with its first section where the loader has tables before it.
        let base = |section: &Section<'_>| {
            let address = reported.get(&section.name().to_text())?;
            Some(address.wrapping_sub(layout.place(section.index())?.offset))
        };
        let own: BTreeSet<u64> = own.filter_map(base).collect();
        let first = |address: &&u64| own.contains(address);
        for address in oracle.areas.keys().filter(first) {
            writeln!(text, "area {address:x} {:x}", oracle.areas[address] - page)?;
        }
    }
    Ok(text)
}

/// Counts of what Linux makes room for stubs by, of all relocation sections: those without branches count too.
fn branches(image: &Image<'_>, text: &mut String) -> Result<()> {
    const REL24: u32 = 10;
    for section in image.relocations() {
        let branches = section.iter().filter(|relocation| relocation.kind == REL24);
        let targets: BTreeSet<_> = branches.map(|branch| (branch.symbol, branch.addend)).collect();
        writeln!(text, "branches {:x} {}", targets.len(), section.section().name().to_text())?;
    }
    Ok(())
}

/// Entries that Linux makes room for in PLTs, counted as it does: branches to other sections are brought to the front
/// and sorted, and those that equal their neighbour share its entry.
fn plt_entries(image: &Image<'_>, text: &mut String) -> Result<()> {
    const BRANCHES: [u32; 2] = [282, 283];
    let of_code =
        |section: &RelocationSection<'_, '_>| section.target().flags() & section_flag::EXECINSTR != 0;
    for section in image.relocations().filter(of_code) {
        let own = SymbolPlace::Section(section.target().index());
        let leads_out = |(kind, symbol, _): &(u32, u32, i64)| {
            let place = image.symbols().get(*symbol as usize).map(|symbol| symbol.place);
            BRANCHES.contains(kind) && place != Some(own)
        };
        let mut all: Vec<(u32, u32, i64)> = section.iter().map(|r| (r.kind, r.symbol, r.addend)).collect();
        let (mut front, mut back) = (0, all.len().saturating_sub(1));
        while front < back {
            if leads_out(&all[front]) {
                front += 1;
            } else if leads_out(&all[back]) {
                all.swap(front, back);
            } else {
                back -= 1;
            }
        }
        all[..front].sort_unstable();
        let mut previous = None;
        let mut entries = 0;
        for branch in &all {
            let shared = branch.2 == 0 && previous == Some(branch);
            entries += u64::from(leads_out(branch) && !shared);
            previous = Some(branch);
        }
        writeln!(text, "branches {entries:x} {}", section.section().name().to_text())?;
    }
    Ok(())
}

/// Counts of what Linux makes room for in tables by, of all relocation sections together.
fn tables(image: &Image<'_>, text: &mut String) -> Result<()> {
    let (mut got, mut plt) = (BTreeSet::new(), BTreeSet::new());
    for relocation in image.relocations().flat_map(|section| section.iter()) {
        let name = image.machine().relocation_name(relocation.kind).unwrap_or_default();
        match name.strip_prefix("R_390_").unwrap_or_default() {
            // Those count from the start of the table, and need no entry.
            "GOTOFF16" | "GOTOFF32" | "GOTOFF64" | "GOTPC" | "GOTPCDBL" => {}
            name if name.starts_with("GOT") => drop(got.insert(relocation.symbol)),
            name if name.starts_with("PLT") => drop(plt.insert(relocation.symbol)),
            _ => {}
        }
    }
    writeln!(text, "tables {:x} {:x}", got.len(), plt.len())?;
    Ok(())
}

fn symtab(image: &Image<'_>) -> usize {
    let symtab = image.sections().iter().find(|section| section.kind() == section_type::SYMTAB);
    symtab.map_or(0, Section::index)
}

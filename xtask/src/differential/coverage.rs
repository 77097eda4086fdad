//! modmem's refusals and remarks, as its sources have them: which of them cases reached.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

use crate::marked::path;

/// Where they are defined, and what a rule of each is called: empty for those whose names stand alone.
const ENUMS: &[(&str, &str, &str)] = &[
    ("crates/modmem/src/image/error.rs", "ImageError", "Image"),
    ("crates/modmem/src/layout/error.rs", "LayoutError", "Layout"),
    ("crates/modmem/src/link/error.rs", "LinkError", "Link"),
    ("crates/modmem/src/link/error.rs", "Reason", "Link::Unresolved"),
    ("crates/modmem/src/link/error.rs", "RelocationProblem", "Link::Relocation"),
    ("crates/modmem/src/link/error.rs", "LivepatchProblem", "Link::Livepatch"),
    ("crates/modmem/src/link/remark.rs", "Remark", "Remark"),
    ("crates/modmem/src/modules/error.rs", "LoadError", ""),
    ("crates/modmem/src/modules/error.rs", "UnloadError", "Unload"),
];

/// Those that are only around others.
const AROUND: &[&str] =
    &["Image", "Layout", "Link", "Link::Unresolved", "Link::Relocation", "Link::Livepatch"];

/// Those that no module for this kernel can reach, and why.
const OUT_OF_REACH: &[(&str, &str)] = &[
    ("Image::OutOfMemory", "memory is there"),
    ("Init", "none has an init"),
    ("Layout::Machine", "all machines are built in"),
    ("Layout::NoSuchSymbol", "other machines count entries of tables"),
    ("Layout::NoTable", "other machines have tables"),
    ("Layout::OtherEntry", "the kernel's offsets are not told"),
    ("Layout::OtherFormat", "x86-64 has one"),
    ("Layout::OutOfMemory", "memory is there"),
    ("Layout::WritableAndExecutable", "no STRICT_MODULE_RWX"),
    ("Layout::TwoKindsOfConstructors", "no CONSTRUCTORS"),
    ("Link::ExportsWithoutFlags", "kernels since 7.1 have flags"),
    ("Link::ExportsWithoutVersions", "no MODVERSIONS"),
    ("Link::ExtendedVersions", "no MODVERSIONS"),
    ("Link::ImportsModuleNamespace", "kernels since 6.16 know such namespaces"),
    ("Link::Livepatch::Absent", "no LIVEPATCH"),
    ("Link::Livepatch::Ambiguous", "no LIVEPATCH"),
    ("Link::Livepatch::NoSuchPosition", "no LIVEPATCH"),
    ("Link::Livepatch::NotMarked", "no LIVEPATCH"),
    ("Link::Livepatch::SectionName", "no LIVEPATCH"),
    ("Link::Livepatch::SymbolName", "no LIVEPATCH"),
    ("Link::Machine", "all machines are built in"),
    ("Link::NoPerCpuPlace", "a place is given"),
    ("Link::OtherImage", "one image is used throughout"),
    ("Link::OutOfMemory", "memory is there"),
    ("Link::Relocation::NoAddends", "other machines"),
    ("Link::Relocation::OutOfMemory", "memory is there"),
    ("Link::Relocation::TableFull", "other machines have tables"),
    ("Link::Unresolved::Busy", "none is loading while another does"),
    ("Link::Unresolved::NoVersion", "no MODVERSIONS"),
    ("Link::Unresolved::Version", "no MODVERSIONS"),
    ("NotComing", "each is started once"),
    ("NotSealed", "memory takes any protection"),
    ("OutOfMemory", "memory is there"),
    ("ProviderGone", "nothing is unloaded between linking and loading"),
    ("Remark::NoVersions", "no MODVERSIONS"),
    ("Remark::UnknownInternalSymbols", "no LIVEPATCH"),
    ("SharedPages", "6.4 and later have memories of their own"),
    ("TooManyModules", "there are few"),
    ("Unindexable", "blocks lie apart"),
    ("Unload::Busy", "none is on its way"),
    ("Unload::NoUnloading", "MODULE_UNLOAD"),
];

/// The names of all of them.
fn all() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for (file, item, of) in ENUMS {
        let text = std::fs::read_to_string(path(file)).with_context(|| (*file).to_owned())?;
        let start = format!("pub enum {item} {{\n");
        let (_, body) = text.split_once(&*start).with_context(|| format!("{file} has no {item}"))?;
        let body = body.split("\n}\n").next().unwrap_or_default();
        // Variants, and not their fields.
        let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
        let variants = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
        for variant in variants {
            let name = variant.split([',', ' ', '(', '{']).next().unwrap_or_default();
            let name = if of.is_empty() { name.to_owned() } else { format!("{of}::{name}") };
            names.insert(name);
        }
    }
    names.retain(|name| !AROUND.contains(&&**name));
    Ok(names)
}

/// Says which of all were reached, and which that could have been were not.
pub(super) fn print(reached: &BTreeMap<String, u64>) -> Result<()> {
    let all = all()?;
    let out_of_reach = |name: &&String| OUT_OF_REACH.iter().any(|(known, _)| *known == **name);
    let missed: Vec<&str> = all
        .iter()
        .filter(|name| !reached.contains_key(*name) && !out_of_reach(name))
        .map(String::as_str)
        .collect();
    let met = all.iter().filter(|name| reached.contains_key(*name)).count();
    println!(
        "rules: {met} of {} reached, {} of which no module for this kernel can reach{}",
        all.len(),
        all.iter().filter(|name| !reached.contains_key(*name)).filter(out_of_reach).count(),
        if missed.is_empty() { String::new() } else { format!("; NOT REACHED: {}", missed.join(", ")) }
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_in_the_sources_and_none_is_out_of_reach_that_is_not_there() {
        let all = all().unwrap();
        for name in
            ["Image::Truncated", "Link::Unresolved::GplOnly", "Unload::InUse", "BadName", "Link::Common"]
        {
            assert!(all.contains(name), "{name}");
        }
        assert!(!all.contains("Link"));
        for (name, why) in OUT_OF_REACH {
            assert!(all.contains(*name) && !why.is_empty(), "{name}");
        }
        let known = super::super::stricter::STRICTER.iter();
        for rule in known.filter(|rule| !rule.rule.ends_with("UnknownSymbol")) {
            assert!(all.contains(rule.rule), "{}", rule.rule);
        }
    }
}

//! CRCs of symbols: kernel/module/version.c:check_version, main.c:elf_validity_cache_index_versions.

use modmem::Profile;
use modmem::image::Image;
use modmem::link::{LinkError, Reason, Remark};
use modmem::modules::LoadError;

use crate::odd::kernel::{Kernel, user_of};
use crate::support::{ALLOC, Elf, PROGBITS, Section};

const SYMBOLS: [(&str, Option<u32>); 2] = [("one", Some(0x11)), ("two", Some(0x22))];

/// A module that uses both symbols and has these versions.
fn versioned(entries: &[(u64, &str)]) -> Elf {
    let mut elf = user_of(&["one", "two"]);
    let mut data = Vec::new();
    for &(crc, name) in entries {
        data.extend(crc.to_le_bytes());
        data.extend(name.bytes());
        data.resize(data.len().next_multiple_of(64), 0);
    }
    elf.add(Section::new("__versions", PROGBITS, ALLOC, 8, data));
    elf
}

/// The same with versions in their extended form.
fn extended(crcs: &[u32], names: &[u8]) -> Elf {
    let mut elf = user_of(&["one", "two"]);
    let crcs = crcs.iter().flat_map(|crc| crc.to_le_bytes()).collect();
    elf.add(Section::new("__version_ext_crcs", PROGBITS, ALLOC, 4, crcs));
    elf.add(Section::new("__version_ext_names", PROGBITS, ALLOC, 1, names.to_vec()));
    elf
}

fn kernel(release: &str) -> Kernel {
    let mut profile = Profile::named(release).unwrap();
    // Debian's 7.2 compares none.
    profile.switches.modversions = true;
    Kernel::new(profile, &SYMBOLS)
}

fn reasons(error: LoadError) -> Vec<(String, Reason)> {
    let LoadError::Link(LinkError::Unresolved(symbols)) = error else { panic!("{error}") };
    symbols.into_iter().map(|unresolved| (unresolved.symbol.into(), unresolved.reason)).collect()
}

#[test]
fn a_symbol_that_versions_do_not_name_is_warned_of_once() {
    let elf = versioned(&[(0x11, "one")]);
    for release in ["5.10", "6.1", "6.12.0-sample", "7.2"] {
        let mut kernel = kernel(release);
        let remarks = kernel.loaded(&elf).remarks();
        assert_eq!(remarks, [Remark::NoVersions { first: "two".into(), count: 1 }], "{release}");
        assert!(remarks[0].to_string().starts_with("no symbol version for two"));
    }
}

#[test]
fn debians_kernels_refuse_a_symbol_that_versions_do_not_name() {
    let elf = versioned(&[(0x11, "one")]);
    for release in ["5.10.0-46-amd64", "6.1.0-57-amd64", "6.12.117+deb13-amd64"] {
        let error = kernel(release).load(&elf).unwrap_err();
        assert_eq!(reasons(error), [("two".to_owned(), Reason::NoVersion)], "{release}");
    }
}

#[test]
fn an_empty_section_of_versions_is_not_the_same_as_none() {
    let mut kernel = kernel("6.12");
    let module = kernel.loaded(&versioned(&[]));
    assert_eq!(module.remarks(), [Remark::NoVersions { first: "one".into(), count: 2 }]);
    assert!(!module.taints().forced);
    let mut kernel = self::kernel("6.12");
    let module = kernel.loaded(&user_of(&["one", "two"]));
    assert!(module.taints().forced && module.remarks().is_empty());
    let refused = self::kernel("6.12.117+deb13-amd64").load(&versioned(&[])).unwrap_err();
    assert!(reasons(refused).iter().all(|(_, reason)| *reason == Reason::NoVersion));
}

#[test]
fn an_empty_section_of_versions_frees_from_the_release() {
    let mut profile = Profile::named("6.12").unwrap();
    profile.vermagic = Some("6.12.7 SMP mod_unload modversions ".into());
    for (with, loads) in [(true, true), (false, false)] {
        let mut elf = if with { versioned(&[]) } else { user_of(&["one", "two"]) };
        elf.sections[0].data.extend(b"vermagic=6.12.9-other SMP mod_unload modversions \0");
        let loaded = Kernel::new(profile.clone(), &SYMBOLS).load(&elf);
        assert_eq!(loaded.is_ok(), loads, "{loaded:?}");
    }
}

#[test]
fn crcs_are_compared_as_long_as_they_are() {
    let high = versioned(&[(0x1_0000_0011, "one"), (0x22, "two")]);
    let error = kernel("6.12").load(&high).unwrap_err();
    let reason = Reason::Version { module: 0x1_0000_0011, provider: 0x11 };
    assert_eq!(reasons(error), [("one".to_owned(), reason)]);
    assert!(kernel("6.12").load(&versioned(&[(0x11, "one"), (0x22, "two")])).is_ok());
}

#[test]
fn extended_versions_are_read_from_6_14_on() {
    let right = extended(&[0x11, 0x22], b"one\0two\0");
    let file = right.build();
    let versions = Image::parse(&file).unwrap().extended_versions().unwrap();
    assert_eq!(versions.iter().map(|version| version.crc).collect::<Vec<_>>(), [0x11, 0x22]);
    assert!(!kernel("6.14").loaded(&right).taints().forced);
    // Older kernels do not know them: without `__versions` the module has none.
    assert!(kernel("6.12").loaded(&right).taints().forced);
    let wrong = kernel("6.14").load(&extended(&[0x11, 0x23], b"one\0two\0")).unwrap_err();
    let reason = Reason::Version { module: 0x23, provider: 0x22 };
    assert_eq!(reasons(wrong), [("two".to_owned(), reason)]);
}

#[test]
fn where_there_are_extended_versions_no_others_count() {
    let mut both = extended(&[0x11], b"one\0");
    let mut plain = versioned(&[(0x99, "one"), (0x99, "two")]);
    both.add(plain.sections.pop().unwrap());
    // Debian's patch is in the search of the others.
    for release in ["6.14", "7.2.13+deb14-amd64"] {
        let mut kernel = kernel(release);
        let remarks = kernel.loaded(&both).remarks();
        assert_eq!(remarks, [Remark::NoVersions { first: "two".into(), count: 1 }]);
    }
}

#[test]
fn extended_versions_have_both_parts_and_a_name_for_each() {
    let problem = |elf: &Elf, release| match kernel(release).load(elf) {
        Err(LoadError::Link(LinkError::ExtendedVersions { problem })) => Some(problem),
        _ => None,
    };
    let mut half = extended(&[0x11], b"one\0");
    half.sections.pop();
    assert_eq!(problem(&half, "6.14"), Some("extended version crc+name presence does not match"));
    assert_eq!(problem(&half, "6.12"), None);
    for names in [&b"one\0two"[..], b"one\0"] {
        let short = extended(&[0x11, 0x22], names);
        assert_eq!(problem(&short, "7.2"), Some("more extended version crcs than names"));
    }
}

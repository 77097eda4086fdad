//! `.altinstructions` and `.parainstructions`: code replaced for features of the CPU.
//!
//! Text begins at 0xffffffffc0001000. Branches and operands were assembled with GNU as, linked with
//! `ld -Ttext=0xffffffffc0001000 --defsym ...` and printed with `objdump -d`; NOPs are the recommended ones of the
//! instruction set manual ("NOP"), 10 and 11 bytes with further 0x66 and 0x2e prefixes.

use modmem::MemoryKind;
use modmem::verify::{Rule, Why};

use crate::verifying::guest::{Guest, assert_clean, assert_explained, the_unexplained};
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, hex};

pub(crate) const SMAP: u16 = 9 * 32 + 20;
const ERMS: u16 = 9 * 32 + 9;
const NOT: u16 = 1;

pub(crate) const FUNCTION: u64 = 0xffff_ffff_8100_0100;
pub(crate) const VARIABLE: u64 = 0xffff_ffff_8200_0040;

/// One entry to be: where, with what, and when.
pub(crate) struct Entry {
    pub(crate) site: u64,
    pub(crate) length: u8,
    pub(crate) replacement: u64,
    pub(crate) replacement_length: u8,
    pub(crate) feature: u16,
    pub(crate) flags: u16,
}

/// A module whose text is `original`, with replacements behind it and the table that joins them.
pub(crate) fn module(version: &'static str, original: &str, replacements: &str, entries: &[Entry]) -> Parts {
    let mut module = Module::new(version);
    let text = module.text(original);
    let replacements = module.add(".altinstr_replacement", MemoryKind::Text, &hex(replacements));
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend([0; 8]);
        if ["5.10", "6.1"].contains(&version) {
            bytes.extend((entry.feature | entry.flags << 15).to_le_bytes());
        } else {
            bytes.extend(entry.feature.to_le_bytes());
            bytes.extend(entry.flags.to_le_bytes());
        }
        bytes.extend([entry.length, entry.replacement_length]);
    }
    let table = module.add(".altinstructions", MemoryKind::RoData, &bytes);
    let size = bytes.len() as u64 / entries.len() as u64;
    for (at, entry) in (0..).step_by(size as usize).zip(entries) {
        module.distance(table, at, text, entry.site);
        module.distance(table, at + 4, replacements, entry.replacement);
    }
    Parts { module, text, replacements, table }
}

pub(crate) struct Parts {
    pub(crate) module: Module,
    pub(crate) text: usize,
    pub(crate) replacements: usize,
    pub(crate) table: usize,
}

/// One site that is all of `original`, replaced when `feature` is on.
pub(crate) fn one(
    version: &'static str,
    original: &str,
    replacement: &str,
    feature: u16,
    flags: u16,
) -> Parts {
    let length = |text: &str| hex(text).len() as u8;
    let (length, replacement_length) = (length(original), length(replacement));
    let entry = Entry { site: 0, length, replacement: 0, replacement_length, feature, flags };
    module(version, original, replacement, &[entry])
}

/// A machine with these features, on which the text of the module is `patched`.
pub(crate) fn machine(parts: &Parts, features: &[u16], patched: &str) -> (Guest, Loaded) {
    let mut guest = Guest::new();
    guest.cpu(features);
    guest.function("f", FUNCTION);
    guest.variable("v", VARIABLE, None);
    let loaded = guest.load(&parts.module);
    guest.code(loaded.at(parts.text, 0), patched);
    (guest, loaded)
}

#[track_caller]
fn assert_made(parts: &Parts, features: &[u16], patched: &str) {
    let (mut guest, loaded) = machine(parts, features, patched);
    assert_clean(&guest.verify(&loaded));
    // And nothing but this.
    let address = loaded.at(parts.text, 0);
    guest.write(address, &[guest.byte(address) ^ 0x40]);
    assert!(!guest.verify(&loaded).is_clean());
}

#[test]
fn without_its_feature_code_stays_and_its_nops_are_joined() {
    for version in ["6.1", "6.12", "7.2"] {
        let parts = one(version, "90 90 90 90 90", "0f 01 cb", SMAP, 0);
        let (guest, loaded) = machine(&parts, &[], "0f 1f 44 00 00");
        assert_explained(&guest.verify(&loaded), Rule::Alternative, 5);
    }
}

#[test]
fn with_its_feature_code_is_replaced_and_padded() {
    for version in ["6.1", "6.12", "7.2"] {
        // stac
        let parts = one(version, "90 90 90 90 90", "0f 01 cb", SMAP, 0);
        assert_made(&parts, &[SMAP], "0f 01 cb 66 90");
    }
}

#[test]
fn a_flag_turns_the_feature_around() {
    for version in ["6.1", "6.12", "7.2"] {
        let parts = one(version, "0f 01 ca 90 90", "31 c0", SMAP, NOT);
        assert_made(&parts, &[], "31 c0 0f 1f 00");
        assert_made(&parts, &[SMAP], "0f 01 ca 66 90");
    }
}

#[test]
fn nops_are_joined_as_each_version_joins_them() {
    let twelve = "90 90 90 90 90 90 90 90 90 90 90 90";
    let runs = [
        // Up to eight bytes, then up to eleven and a jump over more.
        ("6.1", twelve, "0f 1f 84 00 00 00 00 00 0f 1f 40 00"),
        ("6.12", twelve, "eb 0a cc cc cc cc cc cc cc cc cc cc"),
        ("6.12", &twelve[..11 * 3 - 1], "66 66 2e 0f 1f 84 00 00 00 00 00"),
        ("6.12", &twelve[..10 * 3 - 1], "66 2e 0f 1f 84 00 00 00 00 00"),
        ("6.12", &twelve[..9 * 3 - 1], "2e 0f 1f 84 00 00 00 00 00"),
        // Longer ones only from 6.5 on.
        ("6.1", "66 90 66 90", "66 90 66 90"),
        ("6.12", "66 90 66 90", "0f 1f 40 00"),
        // PAUSE is none, and a single one stays.
        ("6.1", "f3 90 90 90 90", "f3 90 0f 1f 00"),
        ("6.12", "f3 90 90 90 90", "f3 90 0f 1f 00"),
        ("6.12", "31 c0 90", "31 c0 90"),
        // Between other instructions.
        ("6.1", "90 90 90 31 c0 90 90", "0f 1f 00 31 c0 66 90"),
        ("7.2", "90 90 90 31 c0 90 90", "0f 1f 00 31 c0 66 90"),
        // mov %rax,%rax; jmp to the next instruction; lea 0(%rax),%rax; lea 0(%rsp),%rsp: NOPs from 6.19 on.
        ("6.18", "48 89 c0 90 90", "48 89 c0 66 90"),
        ("6.19", "48 89 c0 90 90", "0f 1f 44 00 00"),
        ("6.19", "4d 89 c0 90", "0f 1f 40 00"),
        ("6.19", "eb 00 90", "0f 1f 00"),
        ("6.19", "48 8d 40 00 90", "0f 1f 44 00 00"),
        ("6.19", "48 8d 64 24 00 90", "66 0f 1f 44 00 00"),
        // But not mov %eax,%eax; mov %rax,%r8; lea 0(%rax),%rbx; lea 1(%rax),%rax; xchg %r8,%rax; lea 0(%rax,%rax),%rax.
        ("6.19", "89 c0 90 90", "89 c0 66 90"),
        ("6.19", "49 89 c0 90 90", "49 89 c0 66 90"),
        ("6.19", "48 8d 58 00 90 90", "48 8d 58 00 66 90"),
        ("6.19", "48 8d 40 01 90 90", "48 8d 40 01 66 90"),
        ("6.19", "49 90 90 90", "49 90 66 90"),
        ("6.19", "48 8d 44 00 00 90 90", "48 8d 44 00 00 66 90"),
    ];
    for (version, original, joined) in runs {
        assert_made(&one(version, original, "c3", SMAP, 0), &[], joined);
    }
}

#[test]
fn a_run_of_nops_that_a_short_jump_cannot_pass_gets_a_long_one() {
    let original = vec!["90"; 200].join(" ");
    let patched = ["e9 c3 00 00 00".to_owned(), vec!["cc"; 195].join(" ")].join(" ");
    assert_made(&one("6.12", &original, "c3", SMAP, 0), &[], &patched);
}

#[test]
fn a_call_in_a_replacement_is_moved_to_the_site() {
    for version in ["6.1", "6.12", "7.2"] {
        let mut parts = one(version, "90 90 90 90 90 90 90", "e8 00 00 00 00", SMAP, 0);
        parts.module.branch(parts.replacements, 1, "f");
        assert_made(&parts, &[SMAP], "e8 fb f0 ff c0 66 90");
    }
}

#[test]
fn a_jump_in_a_replacement_is_moved_and_shortened_where_it_can_be() {
    for (version, near) in
        [("6.1", "eb 02 0f 1f 00 c3"), ("6.12", "eb 02 cc cc cc c3"), ("7.2", "eb 02 cc cc cc c3")]
    {
        let mut far = one(version, "90 90 90 90 90", "e9 00 00 00 00", SMAP, 0);
        far.module.branch(far.replacements, 1, "f");
        assert_made(&far, &[SMAP], "e9 fb f0 ff c0");

        // To four bytes behind the start: from 11 there in the replacement, which begins at 6.
        let entry =
            Entry { site: 0, length: 5, replacement: 0, replacement_length: 5, feature: SMAP, flags: 0 };
        let short = module(version, "90 90 90 90 90 c3", "e9 f9 ff ff ff", &[entry]);
        assert_made(&short, &[SMAP], near);
    }
}

#[test]
fn conditional_jumps_and_operands_relative_to_the_next_instruction_are_moved() {
    for version in ["6.12", "7.2"] {
        let mut jump = one(version, "90 90 90 90 90 90", "0f 85 00 00 00 00", SMAP, 0);
        jump.module.branch(jump.replacements, 2, "f");
        assert_made(&jump, &[SMAP], "0f 85 fa f0 ff c0");

        // mov v(%rip),%eax
        let mut load = one(version, "90 90 90 90 90 90 90", "8b 05 00 00 00 00", SMAP, 0);
        load.module.distance_to_kernel(load.replacements, 2, "v", -4);
        assert_made(&load, &[SMAP], "8b 05 3a f0 ff c1 90");

        // cmpl $5,v(%rip): the displacement is not at the end.
        let mut compare = one(version, "90 90 90 90 90 90 90", "83 3d 00 00 00 00 05", SMAP, 0);
        compare.module.distance_to_kernel(compare.replacements, 2, "v", -5);
        assert_made(&compare, &[SMAP], "83 3d 39 f0 ff c1 05");
    }
}

#[test]
fn a_jump_within_a_replacement_stays_as_it_is() {
    for version in ["6.12", "7.2"] {
        // test %eax,%eax; je 1f; inc %ecx; 1:
        let parts = one(version, "90 90 90 90 90 90 90 90", "85 c0 74 02 ff c1", SMAP, 0);
        assert_made(&parts, &[SMAP], "85 c0 74 02 ff c1 66 90");
    }
}

/// Three bytes replaced for ERMS, and the six bytes there for SMAP.
fn nested(version: &'static str) -> Parts {
    let entry = |length, replacement, replacement_length, feature| Entry {
        site: 0,
        length,
        replacement,
        replacement_length,
        feature,
        flags: 0,
    };
    // xor %eax,%eax; then clac, mov %edx,%edx.
    let replacements = "31 c0 0f 01 ca 89 d2";
    module(version, "90 90 90 66 90 90", replacements, &[entry(3, 0, 2, ERMS), entry(6, 2, 5, SMAP)])
}

#[test]
fn of_entries_for_one_place_the_last_that_applies_wins() {
    for version in ["6.1", "6.12", "7.2"] {
        for (features, patched) in [(&[SMAP][..], "0f 01 ca 89 d2 90"), (&[ERMS, SMAP], "0f 01 ca 89 d2 90")]
        {
            let parts = nested(version);
            let (mut guest, loaded) = machine(&parts, features, patched);
            widen(&mut guest, &parts, &loaded);
            assert_clean(&guest.verify(&loaded));
        }
    }
}

#[test]
fn entries_for_one_place_have_the_length_of_the_longest_from_6_4_on() {
    for (version, none, first) in [
        ("6.1", "0f 1f 00 66 90 90", "31 c0 90 66 90 90"),
        ("6.12", "66 0f 1f 44 00 00", "31 c0 0f 1f 40 00"),
        ("7.2", "66 0f 1f 44 00 00", "31 c0 0f 1f 40 00"),
    ] {
        for (features, patched) in [(&[][..], none), (&[ERMS], first)] {
            let parts = nested(version);
            let (mut guest, loaded) = machine(&parts, features, patched);
            widen(&mut guest, &parts, &loaded);
            assert_clean(&guest.verify(&loaded));
        }
    }
}

/// 6.12 writes the longest length into all entries of the table.
fn widen(guest: &mut Guest, parts: &Parts, loaded: &Loaded) {
    if loaded.version == "6.12" {
        guest.write(loaded.at(parts.table, 12), &[6]);
    }
}

#[test]
fn a_table_with_lengths_as_in_the_file_is_not_as_6_12_leaves_it() {
    let parts = nested("6.12");
    let (guest, loaded) = machine(&parts, &[], "66 0f 1f 44 00 00");
    let report = guest.verify(&loaded);
    let span = the_unexplained(&report);
    assert_eq!(span.address.0, loaded.at(parts.table, 12));
    assert_eq!((&span.expected[..], &span.found[..]), (&[6][..], &[3][..]));
    assert_eq!(span.why, Why::NotAsRule(Rule::RewrittenTable));
}

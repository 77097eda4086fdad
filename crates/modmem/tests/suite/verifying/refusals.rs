//! Modules that cannot be compared, and why; and what cannot be trusted.

use modmem::link::{LinkError, Reason};
use modmem::verify::{Verifier, VerifyError};
use modmem::{MemoryKind, Profile};

use crate::verifying::guest::{Guest, assert_clean, check};
use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, hex};
use crate::verifying::small_module::{TEXT, pristine};

/// What a verifier says of the one module.
fn refusal(guest: &Guest, module: &Loaded) -> VerifyError {
    check(&mut guest.verifier(module.version), 0, module).unwrap_err()
}

#[test]
fn a_file_of_another_build_is_said_before_anything_else() {
    let (guest, mut loaded) = pristine("6.12", true);
    loaded.build_id = Some(vec![1, 2, 3, 4]);
    // Nothing else fits either.
    loaded.sections.iter_mut().for_each(|(_, address)| *address ^= 0x123_4560);
    let error = refusal(&Guest::new(), &loaded);
    assert!(matches!(error, VerifyError::OtherBuild { .. }));
    assert_eq!(
        error.to_string(),
        "the file is of another build: the running module has build id 01020304, the file abcdef01"
    );
    // Where the guest does not tell, that is no reason.
    let (_, mut unknown) = pristine("6.12", true);
    unknown.build_id = None;
    assert_clean(&guest.verify(&unknown));
}

#[test]
fn a_section_that_does_not_lie_as_the_layout_says_is_named() {
    for version in ["6.1", "6.12", "7.2"] {
        for (section, by) in [(".altinstr_replacement", 1), ("__ex_table", 4), ("__mcount_loc", 0x1000)] {
            let (guest, mut loaded) = pristine(version, true);
            loaded.sections.iter_mut().filter(|(name, _)| *name == section).for_each(|(_, at)| *at += by);
            let error = refusal(&guest, &loaded);
            assert!(matches!(error, VerifyError::Misplaced { .. }), "{error:?}");
            assert!(error.to_string().contains(section), "{error}");
        }
    }
    // Below its own offset in memory.
    let (guest, mut loaded) = pristine("6.12", true);
    loaded.sections.iter_mut().filter(|(name, _)| *name == "__ex_table").for_each(|(_, at)| *at = 0);
    assert!(matches!(refusal(&guest, &loaded), VerifyError::Misplaced { kind: MemoryKind::RoData, .. }));
}

#[test]
fn a_memory_of_which_no_section_is_listed_is_named() {
    let (guest, mut loaded) = pristine("6.12", true);
    loaded.sections.retain(|(name, _)| !name.starts_with(".text") && !name.starts_with(".altinstr_"));
    assert_eq!(refusal(&guest, &loaded), VerifyError::NoAddress { kind: MemoryKind::Text });
    loaded.sections.clear();
    assert!(matches!(refusal(&guest, &loaded), VerifyError::NoAddress { .. }));
}

#[test]
fn the_addresses_of_some_sections_are_enough() {
    let (guest, mut loaded) = pristine("6.12", true);
    let some = [
        ".text",
        "__ex_table",
        ".gnu.linkonce.this_module",
        "__jump_table",
        ".init.text",
        ".init.rodata",
        ".strtab",
    ];
    loaded.sections.retain(|(name, _)| some.contains(name));
    assert_clean(&guest.verify(&loaded));
}

#[test]
fn memory_at_the_end_of_all_addresses_is_unreadable_and_no_more() {
    for address in [0, u64::MAX - 0xfff, u64::MAX - 3] {
        let (guest, mut loaded) = pristine("6.12", true);
        let text = loaded.at(TEXT, 0);
        for (_, at) in loaded.sections.iter_mut().filter(|(_, at)| (text..text + 4096).contains(at)) {
            *at = (*at - text).wrapping_add(address);
        }
        match check(&mut guest.verifier("6.12"), 0, &loaded) {
            Ok(report) => assert!(report.total().not_compared[2] >= 4096),
            Err(error) => {
                assert!(matches!(error, VerifyError::Misplaced { .. } | VerifyError::Link(_)), "{error}")
            }
        }
    }
}

#[test]
fn symbols_that_the_guest_does_not_have_are_named() {
    let mut module = Module::new("6.12");
    let text = module.text("e8 00 00 00 00");
    module.branch(text, 1, "missing");
    let mut guest = Guest::new();
    guest.function("missing", 0xffff_ffff_8100_0100);
    let loaded = guest.load(&module);
    let error = refusal(&Guest::new(), &loaded);
    let VerifyError::Link(LinkError::Unresolved(symbols)) = error else { panic!("{error}") };
    assert_eq!((&*symbols[0].symbol, &symbols[0].reason), ("missing", &Reason::Absent));
}

#[test]
fn a_symbol_of_a_module_whose_file_is_missing_is_taken_from_kallsyms() {
    let mut module = Module::new("6.12");
    let text = module.text("e8 00 00 00 00");
    module.branch(text, 1, "exported_elsewhere");
    let mut guest = Guest::new();
    let address = guest.function("exported_elsewhere", 0xffff_ffff_c090_0000);
    let loaded = guest.load(&module);
    let mut other = guest.clone();
    other.forget("exported_elsewhere");
    other.module_symbol_at("other", "exported_elsewhere", address, true);
    assert_clean(&other.verify(&loaded));
}

#[test]
fn percpu_data_is_where_kallsyms_says_it_is() {
    let mut module = Module::new("6.12");
    // mov %gs:counter(%rip),%eax
    let text = module.text("65 8b 05 00 00 00 00 c3");
    let percpu = module.add_aligned(".data..percpu", MemoryKind::Data, 8, &[0; 16]);
    module.distance(text, 3, percpu, 8 - 4);
    module.symbol("counter", 1, percpu, 8);
    let mut guest = Guest::new();
    let loaded = guest.load(&module);
    assert!(!guest.verify(&loaded).is_clean());
    guest.module_symbol_at("tested", "counter", loaded.at(percpu, 8), false);
    assert_clean(&guest.verify(&loaded));
}

#[test]
fn kernels_of_other_machines_are_refused() {
    let guest = Guest::new();
    let mut profile = Profile::named("6.12").unwrap();
    profile.machine = modmem::arch::Machine::Mips;
    let error = Verifier::new(&guest, profile, Vec::new()).unwrap_err();
    assert_eq!(error, VerifyError::Machine(modmem::arch::NotBuilt(modmem::arch::Machine::Mips)));
}

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        self.0 >> 33
    }

    /// Small numbers and distances more often than others, as those lead further.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = (0..count).flat_map(|_| match self.next() % 4 {
            0 => (self.next() as u32).to_le_bytes(),
            1 => ((self.next() % 64) as u32).to_le_bytes(),
            2 => (0_u32.wrapping_sub((self.next() % 0x400) as u32)).to_le_bytes(),
            _ => (0xfffe_0000 + (self.next() % 0x400) as u32).to_le_bytes(),
        });
        words.take(count).collect()
    }
}

#[test]
fn tables_of_nonsense_neither_panic_nor_hide_a_byte() {
    const TABLES: [(&str, MemoryKind); 12] = [
        (".altinstructions", MemoryKind::RoData),
        (".parainstructions", MemoryKind::RoData),
        (".retpoline_sites", MemoryKind::RoData),
        (".return_sites", MemoryKind::RoData),
        (".call_sites", MemoryKind::RoData),
        (".ibt_endbr_seal", MemoryKind::RoData),
        (".smp_locks", MemoryKind::RoData),
        (".orc_unwind_ip", MemoryKind::RoData),
        (".orc_unwind", MemoryKind::RoData),
        ("__ex_table", MemoryKind::RoData),
        ("__mcount_loc", MemoryKind::RoData),
        ("__bug_table", MemoryKind::Data),
    ];
    let mut numbers = Numbers(7);
    for round in 0..600 {
        let version = ["6.1", "6.12", "7.2"][round % 3];
        let mut module = Module::new(version);
        let code = numbers.bytes(0x180);
        module.add_aligned(".text", MemoryKind::Text, 64, &code);
        for (name, kind) in TABLES {
            let size = numbers.next() as usize % 90;
            let bytes = numbers.bytes(size);
            module.add(name, kind, &bytes);
        }
        for name in ["__jump_table", ".static_call_sites"] {
            let bytes = numbers.bytes(64);
            module.add(
                name,
                if version == "7.2" || name != ".static_call_sites" {
                    MemoryKind::RoAfterInit
                } else {
                    MemoryKind::Data
                },
                &bytes,
            );
        }
        let mut guest = Guest::new();
        let loaded = guest.load(&module);
        if round % 2 == 0 {
            guest.cpu(&[11 * 32 + 12, 11 * 32 + 14, 11 * 32 + 19, 21 * 32 + 6]);
        }
        for (name, address) in [
            ("__x86_indirect_thunk_array", 0xffff_ffff_c000_0f00),
            ("__x86_return_thunk", 0xffff_ffff_c000_0f80),
            ("pv_ops", loaded.at(0, 0x20)),
        ] {
            guest.function(name, address);
        }
        if round % 4 > 1 {
            guest.write(loaded.at(0, 0), &numbers.bytes(0x180));
        }
        // That each byte is counted once is asserted with each report.
        let mut verifier = guest.verifier(version);
        check(&mut verifier, 0, &loaded).unwrap();
        verifier.settle().unwrap();
        check(&mut verifier, 0, &loaded).unwrap();
    }
}

#[test]
fn a_build_id_that_leaves_its_note_is_none() {
    let mut module = Module::new("6.12");
    module.text("c3");
    module.add_aligned(
        ".note.gnu.build-id",
        MemoryKind::RoData,
        4,
        &hex("04 00 00 00 ff ff ff ff 03 00 00 00 47 4e 55 00 01"),
    );
    // A size past the note's end: the file has no build id that could differ.
    let mut guest = Guest::new();
    let loaded = guest.load(&module);
    assert_clean(&guest.verify(&loaded));
}

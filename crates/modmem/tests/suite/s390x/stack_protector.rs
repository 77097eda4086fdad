//! Loads of the address of the stack protector's canary.

use modmem::verify::{Rule, Why};

use crate::s390x::guest::{Guest, blamed, clean};
use crate::s390x::module::{Loaded, Module, R_390_64, profile};
use crate::support::ALLOC;

const FEATURES: u64 = 0x3ff_f000_0000;
/// `lgrl %r3` and `larl %r14`, of somewhere, and what the kernel makes of them.
const COMPILED: [[u8; 6]; 2] = [[0xc4, 0x38, 0, 0, 0, 4], [0xc0, 0xe0, 0, 0, 0, 4]];
const AS_USUAL: [[u8; 6]; 2] = [[0xc0, 0x3f, 0, 0, 0x02, 0x40], [0xc0, 0xef, 0, 0, 0x02, 0x40]];
const ELSEWHERE: [[u8; 6]; 2] = [[0xc0, 0x3f, 0, 0x07, 0x02, 0x40], [0xc0, 0xef, 0, 0x07, 0x02, 0x40]];

/// Both instructions, and one more that no table names.
fn module(version: &str) -> Loaded {
    let mut module = Module::new([COMPILED[0], COMPILED[1], COMPILED[0]].concat());
    let table = module.section("__stack_protector_loc", ALLOC, 8, vec![0; 16]);
    let text = module.symbol("text", 1, 0);
    module.relocate(table, &[(0, text, R_390_64, 0), (8, text, R_390_64, 6)]);
    module.load(&profile(version), &[]).unwrap()
}

#[test]
fn the_canary_is_loaded_from_the_lowcore_wherever_that_lies() {
    let loaded = module("7.2");
    let text = loaded.address(".text");
    for (features, right, wrong) in [(0, AS_USUAL, ELSEWHERE), (1, ELSEWHERE, AS_USUAL)] {
        let mut guest = Guest::with(&loaded);
        guest.put(text, &right.concat());
        // By nothing but what both places show.
        let report = guest.verify(&loaded, &profile("7.2"));
        clean(&report);
        assert!(report.total().explained_by(Rule::StackProtector) > 0);
        guest.variable("machine_features", FEATURES, &u64::to_be_bytes(features));
        clean(&guest.verify(&loaded, &profile("7.2")));
        guest.put(text, &wrong.concat());
        let report = guest.verify(&loaded, &profile("7.2"));
        assert_eq!(report.unexplained.len(), 1, "{:#x?}", report.unexplained);
        let rule = Rule::StackProtector;
        assert!(matches!(&report.unexplained[0].why, Why::OutOfStep { rule: by, .. } if *by == rule));
    }
}

#[test]
fn nothing_but_the_lowcore_s_field_is_loaded_and_only_where_the_table_says() {
    let loaded = module("7.2");
    let text = loaded.address(".text");
    let guest = |first: [u8; 6], second: [u8; 6], third: [u8; 6]| {
        let mut guest = Guest::with(&loaded);
        guest.put(text, &[first, second, third].concat());
        guest.verify(&loaded, &profile("7.2"))
    };
    let [first, second] = AS_USUAL;
    clean(&guest(first, second, COMPILED[0]));
    // Another field, another register, not replaced, and replaced where nothing says so.
    for (at, other) in
        [(5, [0xc0, 0x3f, 0, 0, 0x02, 0x48]), (1, [0xc0, 0x4f, 0, 0, 0x02, 0x40]), (0, COMPILED[0])]
    {
        blamed(&guest(other, second, COMPILED[0]), text + at);
    }
    assert!(matches!(blamed(&guest(first, second, first), text + 12), Why::NoRule));
    // Places that are not in step with each other.
    assert!(!guest(first, ELSEWHERE[1], COMPILED[0]).is_clean());
}

#[test]
fn kernels_before_6_19_leave_such_places_alone() {
    let loaded = module("6.18");
    let mut guest = Guest::with(&loaded);
    clean(&guest.verify(&loaded, &profile("6.18")));
    guest.put(loaded.address(".text"), &AS_USUAL.concat());
    assert!(!guest.verify(&loaded, &profile("6.18")).is_clean());
}

//! Moves of values with a sign: MOVZ or MOVN.

use modmem::link::{LinkError, RelocationProblem};
use modmem::modules::LoadError;

use crate::arm64::module::{Module, TEXT, profile};

const MOVZ_X5: u32 = 0xd280_0005;
const MOVN_X5: u32 = 0x9280_0005;

fn moved(kind: u32, value: u64) -> Result<u32, RelocationProblem> {
    let mut module = Module::new(MOVZ_X5.to_le_bytes().to_vec());
    module.symbol("value", 0, 0);
    module.relocate(1, &[(0, 1, kind, 0)]);
    match module.load(&profile(false), &[("value", value)]) {
        Ok(loaded) => Ok(loaded.words(".text")[0]),
        Err(LoadError::Link(LinkError::Relocation(error))) => Err(error.problem),
        Err(error) => panic!("{error}"),
    }
}

fn overflows(kind: u32, value: u64) -> bool {
    matches!(moved(kind, value), Err(RelocationProblem::Overflow { .. }))
}

#[test]
fn the_sign_of_the_value_chooses_the_instruction() {
    // R_AARCH64_MOVW_SABS_G0 to G2: the part of the value, or of its complement.
    for (kind, shift) in [(270, 0), (271, 16), (272, 32)] {
        let largest = (1_u64 << (shift + 16)) - 1;
        assert_eq!(moved(kind, 0x1234 << shift), Ok(MOVZ_X5 | 0x1234 << 5));
        assert_eq!(moved(kind, largest), Ok(MOVZ_X5 | 0xffff << 5));
        assert_eq!(moved(kind, !(0x1234 << shift)), Ok(MOVN_X5 | 0x1234 << 5));
        assert_eq!(moved(kind, !largest), Ok(MOVN_X5 | 0xffff << 5));
        assert!(overflows(kind, largest + 1) && overflows(kind, !largest - 1));
    }
}

#[test]
fn so_does_that_of_a_distance() {
    // R_AARCH64_MOVW_PREL_G0, G1, G2.
    for (kind, shift) in [(287, 0), (289, 16), (291, 32)] {
        let largest = (1_u64 << (shift + 16)) - 1;
        assert_eq!(moved(kind, TEXT.wrapping_add(0x1234 << shift)), Ok(MOVZ_X5 | 0x1234 << 5));
        assert_eq!(moved(kind, TEXT.wrapping_add(!(0x1234 << shift))), Ok(MOVN_X5 | 0x1234 << 5));
        assert!(overflows(kind, TEXT.wrapping_add(largest + 1)));
        assert!(overflows(kind, TEXT.wrapping_add(!largest - 1)));
    }
    // The highest part cannot overflow.
    assert_eq!(moved(293, TEXT.wrapping_add(0x1234 << 48)), Ok(MOVZ_X5 | 0x1234 << 5));
    assert_eq!(moved(293, TEXT.wrapping_add(u64::MAX)), Ok(MOVN_X5));
}

#[test]
fn lower_parts_keep_the_instruction_and_are_not_checked() {
    // R_AARCH64_MOVW_PREL_G0_NC and its kin.
    for (kind, shift) in [(288, 0), (290, 16), (292, 32)] {
        let value = TEXT.wrapping_add(0xfedc_ba98_7654_3210);
        let part = (0xfedc_ba98_7654_3210_u64 >> shift & 0xffff) as u32;
        assert_eq!(moved(kind, value), Ok(MOVZ_X5 | part << 5));
    }
}

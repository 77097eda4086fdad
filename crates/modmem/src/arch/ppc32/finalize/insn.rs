//! Instructions, as words (Power ISA; branches: I-form and B-form).

/// `ori r0, r0, 0`
pub(super) const NOP: u32 = 0x6000_0000;
/// `mflr r0`
pub(super) const MFLR: u32 = 0x7c08_02a6;
/// `stw r0, 4(r1)`
pub(super) const STORE_LR: u32 = 0x9001_0004;
/// `sync`, and its light form.
pub(super) const SYNC: u32 = 0x7c00_04ac;
pub(super) const LWSYNC: u32 = 0x7c20_04ac;
/// `blr`
pub(super) const RETURN: u32 = 0x4e80_0020;
/// `tw 31, r0, r0`
pub(super) const TRAP: u32 = 0x7fe0_0008;

/// Bits of a branch that are not its distance: I-form, B-form.
const BRANCH_REST: u32 = 0xfc00_0003;
const CONDITIONAL_REST: u32 = 0xffff_0003;
/// AA: the distance is an address.
const ABSOLUTE: u32 = 2;
const BRANCH: u32 = 0x4800_0000;
const CONDITIONAL: u32 = 0x4000_0000;
const OPCODE: u32 = 0xfc00_0000;
/// LK: a call.
const LINK: u32 = 1;

/// `b` or, with `link`, `bl`, if it reaches.
pub(super) fn branch(from: u32, to: u32, link: bool) -> Option<u32> {
    redirect(BRANCH | if link { LINK } else { 0 }, from, to)
}

/// Where a relative branch leads.
pub(super) fn target(word: u32, at: u32) -> Option<u32> {
    let distance = match word & (OPCODE | ABSOLUTE) {
        BRANCH => (word << 6) as i32 >> 6 & !3,
        CONDITIONAL => i32::from(word as i16 & !3),
        _ => return None,
    };
    Some(at.wrapping_add_signed(distance))
}

/// Where a `bl` leads.
pub(super) fn call_target(word: u32, at: u32) -> Option<u32> {
    (word & BRANCH_REST == BRANCH | LINK).then(|| target(word, at)).flatten()
}

/// Where a `b` leads.
pub(super) fn jump_target(word: u32, at: u32) -> Option<u32> {
    (word & BRANCH_REST == BRANCH).then(|| target(word, at)).flatten()
}

/// A relative branch that goes somewhere else, if it reaches.
pub(super) fn redirect(word: u32, from: u32, to: u32) -> Option<u32> {
    let rest = if word & OPCODE == BRANCH { BRANCH_REST } else { CONDITIONAL_REST };
    let distance = to.wrapping_sub(from);
    let word = word & rest | distance & !rest;
    (target(word, from) == Some(to)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_reach_as_far_as_their_bits() {
        assert_eq!(branch(0x1000, 0x1008, false), Some(0x4800_0008));
        assert_eq!(branch(0xc000_0000, 0xbe00_0000, true), Some(0x4a00_0001));
        assert_eq!(branch(0xc000_0000, 0xbdff_fffc, true), None);
        assert_eq!(branch(0xbe00_0004, 0xc000_0000, false), Some(0x49ff_fffc));
        assert_eq!(branch(0xbe00_0000, 0xc000_0000, false), None);
        assert_eq!(branch(0x1000, 0x1002, false), None);
        assert_eq!(call_target(0x4a00_0001, 0xc000_0000), Some(0xbe00_0000));
        assert_eq!(jump_target(0x4a00_0001, 0xc000_0000), None);
        // beq
        assert_eq!(target(0x4182_fffc, 0x1000), Some(0xffc));
        assert_eq!(redirect(0x4182_fffc, 0x8000, 0x7ff8), Some(0x4182_fff8));
        assert_eq!(redirect(0x4182_fffc, 0x1_0000, 0x7ffc), None);
        // With AA, and no branch at all.
        assert_eq!(target(0x4800_0102, 0x1000), None);
        assert_eq!(target(NOP, 0x1000), None);
    }
}

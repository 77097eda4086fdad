//! The few instructions that the kernel writes. Distances count halfwords from the instruction's own start.

use crate::address::RunAddr;

/// Bytes of a relative branch with a distance of 32 bits.
pub(super) const BRANCH: usize = 6;

/// `brcl 0`: never taken, a NOP with a distance.
pub(super) const BRCL_NEVER: u8 = 0x04;
/// `brcl 15`: always taken.
pub(super) const BRCL_ALWAYS: u8 = 0xf4;
/// `brasl %r0`: a call that leaves where it came from in register 0.
pub(super) const BRASL_R0: u8 = 0x05;
/// `brasl %r1`.
pub(super) const BRASL_R1: u8 = 0x15;

/// A relative branch: `0xc0`, what kind, and the distance.
pub(super) fn branch(kind: u8, from: RunAddr, to: RunAddr) -> [u8; BRANCH] {
    let distance = (to.0.wrapping_sub(from.0) as i64 >> 1) as i32;
    with_distance(kind, distance)
}

/// The same with a distance in halfwords.
pub(super) fn with_distance(kind: u8, distance: i32) -> [u8; BRANCH] {
    let [a, b, c, d] = distance.to_be_bytes();
    [0xc0, kind, a, b, c, d]
}

/// The second byte of a relative branch at `from`, and where it leads.
pub(super) fn decode(bytes: &[u8], from: RunAddr) -> Option<(u8, RunAddr)> {
    let &[0xc0, kind, a, b, c, d] = bytes.first_chunk::<BRANCH>()? else { return None };
    let distance = i64::from(i32::from_be_bytes([a, b, c, d])) * 2;
    Some((kind, RunAddr(from.0.wrapping_add(distance as u64))))
}

#[cfg(test)]
mod tests {
    use super::{BRCL_ALWAYS, branch, decode};
    use crate::address::RunAddr;

    #[test]
    fn branches_lead_where_they_were_made_to_lead() {
        for (from, to) in [(0x1000, 0x1006), (0x1006, 0x1000), (0, 0xffff_fffe), (0xffff_fffe, 2)] {
            let (from, to) = (RunAddr(from), RunAddr(to));
            let bytes = branch(BRCL_ALWAYS, from, to);
            assert_eq!(decode(&bytes, from), Some((BRCL_ALWAYS, to)));
        }
        assert_eq!(branch(0x04, RunAddr(0x10), RunAddr(0x1a)), [0xc0, 0x04, 0, 0, 0, 5]);
    }
}

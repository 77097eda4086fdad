//! Who owns an address, in four bytes.

use core::fmt;
use core::num::NonZeroU32;

use crate::MemoryKind;

/// Names an owner: a module, a plugin, a piece of compiled code.
///
/// It is a number of 27 bits. `Registry` hands out ids that carry a generation, so that an id whose
/// owner has gone means nobody even if its slot is used again; who keeps owners in another way numbers them as they
/// like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(u32);

impl OwnerId {
    /// Bits of an id.
    pub const BITS: u32 = 27;
    /// The largest number of an id.
    pub const MAX: u32 = (1 << OwnerId::BITS) - 1;

    /// The id of that number, if it is small enough.
    pub const fn new(number: u32) -> Option<OwnerId> {
        if number <= OwnerId::MAX { Some(OwnerId(number)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerId({})", self.0)
    }
}

/// Who owns an address, and which of the owner's memories it lies in. Four bytes, also in an `Option`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(NonZeroU32);

impl Owner {
    /// The owner with that id, and one of its memories.
    pub const fn new(id: OwnerId, kind: MemoryKind) -> Owner {
        // The kind is counted from 1, which is what keeps the number from being zero.
        let bits = id.0 | (kind as u32 + 1) << OwnerId::BITS;
        match NonZeroU32::new(bits) {
            Some(bits) => Owner(bits),
            None => unreachable!(),
        }
    }

    /// Who it is.
    #[inline]
    pub const fn id(self) -> OwnerId {
        OwnerId(self.0.get() & OwnerId::MAX)
    }

    /// Which memory it is.
    #[inline]
    pub const fn kind(self) -> MemoryKind {
        match self.0.get() >> OwnerId::BITS {
            1 => MemoryKind::Text,
            2 => MemoryKind::Data,
            3 => MemoryKind::RoData,
            4 => MemoryKind::RoAfterInit,
            5 => MemoryKind::InitText,
            6 => MemoryKind::InitData,
            _ => MemoryKind::InitRoData,
        }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({}, {})", self.id().0, self.kind())
    }
}

/// What a structure keeps for an address: nobody, or an owner and whether its range begins there. Bit 31 is never set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell(pub(crate) u32);

impl Cell {
    /// Nobody.
    pub(crate) const EMPTY: Cell = Cell(0);
    const START: u32 = 1 << 30;
    /// All that a cell can have set.
    pub(crate) const MASK: u32 = (1 << 31) - 1;

    /// The first cell of a range, or a further one.
    pub(crate) fn new(owner: Owner, start: bool) -> Cell {
        Cell(owner.0.get() | if start { Cell::START } else { 0 })
    }

    pub(crate) fn is_start(self) -> bool {
        self.0 & Cell::START != 0
    }

    /// The owner.
    #[inline]
    pub(crate) fn owner(self) -> Option<Owner> {
        NonZeroU32::new(self.0 & !Cell::START).map(Owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_keeps_its_id_and_kind_whatever_they_are() {
        for number in [0, 1, OwnerId::MAX] {
            for kind in MemoryKind::ALL {
                let id = OwnerId::new(number).unwrap();
                let owner = Owner::new(id, kind);
                assert_eq!((owner.id(), owner.kind()), (id, kind));
                for start in [false, true] {
                    let cell = Cell::new(owner, start);
                    assert_eq!((cell.owner(), cell.is_start()), (Some(owner), start));
                    assert_eq!(cell.0 & !Cell::MASK, 0);
                }
            }
        }
        assert_eq!(OwnerId::new(OwnerId::MAX + 1), None);
        assert_eq!(size_of::<Option<Owner>>(), 4);
    }
}

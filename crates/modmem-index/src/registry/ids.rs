//! Which ids are free, and how long a freed slot rests.
//!
//! An id is a slot and, above it, a generation. A slot that is given back is used again with the next generation, after
//! all slots that were given back before it, and only when many rest or no fresh one can be made: an id that somebody
//! kept too long means nobody for as long as possible before it means somebody else.

use alloc::collections::VecDeque;

use super::RegistryError;
use crate::OwnerId;
use crate::memory::OutOfMemory;

/// So many slots rest before the first of them is used again, as long as fresh ones can be had.
#[cfg(not(loom))]
const REST: usize = 256;
#[cfg(loom)]
const REST: usize = 1;

/// The ids of a registry that have no owner.
#[derive(Debug)]
pub(super) struct Ids {
    /// Bits of a slot's number.
    slot_bits: u32,
    /// The first slot that was never made, which is also how many were.
    fresh: u32,
    /// The next id of each slot that was made and has no owner, the one that rests longest in front. There is room for
    /// all slots that were made, so that giving one back needs no memory.
    resting: VecDeque<OwnerId>,
}

impl Ids {
    /// `slot_bits` is at most [`OwnerId::BITS`].
    pub(super) fn new(slot_bits: u32) -> Ids {
        Ids { slot_bits, fresh: 0, resting: VecDeque::new() }
    }

    /// How many slots were made: they are numbered from 0.
    pub(super) fn made(&self) -> u32 {
        self.fresh
    }

    /// The id of a new owner; `grow` finds memory for a slot that is made for it.
    pub(super) fn take(
        &mut self,
        grow: impl FnOnce(u32) -> Result<(), OutOfMemory>,
    ) -> Result<OwnerId, RegistryError> {
        if self.resting.len() < REST {
            match self.make(grow) {
                Ok(id) => return Ok(id),
                Err(error) => return self.resting.pop_front().ok_or(error),
            }
        }
        self.resting.pop_front().ok_or(RegistryError::Full)
    }

    /// The first id of a slot that never had an owner.
    fn make(&mut self, grow: impl FnOnce(u32) -> Result<(), OutOfMemory>) -> Result<OwnerId, RegistryError> {
        if self.fresh >> self.slot_bits != 0 {
            return Err(RegistryError::Full);
        }
        let id = OwnerId::new(self.fresh).ok_or(RegistryError::Full)?;
        let made = self.fresh as usize + 1;
        self.resting.try_reserve(made - self.resting.len()).map_err(|_| RegistryError::OutOfMemory)?;
        grow(self.fresh)?;
        self.fresh += 1;
        Ok(id)
    }

    /// Gives back an id that [`Ids::take`] gave out.
    pub(super) fn give_back(&mut self, id: OwnerId) {
        let next_generation = (id.number() + (1 << self.slot_bits)) & OwnerId::MAX;
        // There is room: `make` saw to it.
        self.resting.extend(OwnerId::new(next_generation));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn take(ids: &mut Ids) -> Result<u32, RegistryError> {
        ids.take(|_| Ok(())).map(OwnerId::number)
    }

    #[test]
    fn a_slot_rests_until_many_others_do_and_comes_back_as_the_next_generation() {
        let mut ids = Ids::new(15);
        let first = take(&mut ids).unwrap();
        for number in 0..REST as u32 {
            assert_eq!(ids.resting.len(), number as usize);
            ids.give_back(OwnerId::new(number).unwrap());
            let next = take(&mut ids).unwrap();
            assert_eq!(next, if number + 1 < REST as u32 { number + 1 } else { first | 1 << 15 });
        }
    }

    #[test]
    fn a_slot_is_used_again_at_once_where_no_other_can_be_made() {
        let mut ids = Ids::new(1);
        assert_eq!((take(&mut ids), take(&mut ids)), (Ok(0), Ok(1)));
        assert_eq!(take(&mut ids), Err(RegistryError::Full));
        ids.give_back(OwnerId::new(1).unwrap());
        ids.give_back(OwnerId::new(0).unwrap());
        assert_eq!((take(&mut ids), take(&mut ids)), (Ok(3), Ok(2)));

        let mut ids = Ids::new(15);
        assert_eq!(take(&mut ids), Ok(0));
        assert_eq!(ids.take(|_| Err(OutOfMemory)), Err(RegistryError::OutOfMemory));
        ids.give_back(OwnerId::new(0).unwrap());
        assert_eq!(ids.take(|_| Err(OutOfMemory)), OwnerId::new(1 << 15).ok_or(RegistryError::Full));
    }

    #[test]
    fn the_generation_behind_the_last_one_is_the_first() {
        let mut ids = Ids::new(0);
        for generation in (0..=3).chain(OwnerId::MAX - 1..=OwnerId::MAX).chain(0..2) {
            ids.fresh = 1;
            ids.resting.clear();
            ids.give_back(OwnerId::new(generation.wrapping_sub(1) & OwnerId::MAX).unwrap());
            assert_eq!(take(&mut ids), Ok(generation));
        }
    }
}

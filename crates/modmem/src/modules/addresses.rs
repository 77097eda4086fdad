//! Which module has which address: the index, and the windows that it gets when modules come to lie there.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use modmem_index::{AddressIndex, Extent, Form, IndexError, Owner, PageMap, Window};

use crate::address::RunAddr;
use crate::profile::Profile;

/// Addresses that a window is rounded to where the profile does not say where modules lie: a module's memories are
/// never far from each other.
const REGION: u64 = 1 << 32;

/// The index of a table of modules.
#[derive(Debug)]
pub(super) struct Addresses {
    map: Arc<PageMap<u64>>,
    /// Where the profile says that modules lie. They become windows when the first module does.
    declared: Vec<Range<u64>>,
    windows: Vec<Range<u64>>,
}

impl Addresses {
    pub(super) fn new(profile: &Profile) -> Addresses {
        let page_shift = profile.page_size.trailing_zeros();
        // Without windows the map asks for no memory, and so cannot fail.
        let map =
            PageMap::new(&[], page_shift).unwrap_or_else(|_| unreachable!("there is no window to refuse"));
        let ranges =
            [Some(&profile.ranges.text), Some(&profile.ranges.data), profile.ranges.fallback.as_ref()];
        let mut declared: Vec<Range<u64>> = Vec::new();
        for range in ranges.into_iter().flatten().map(|range| range.start.0..range.end.0) {
            // Ranges may be the same, or one a part of the other.
            match declared.iter_mut().find(|other| range.start <= other.end && other.start <= range.end) {
                Some(other) => *other = other.start.min(range.start)..other.end.max(range.end),
                None => declared.push(range),
            }
        }
        Addresses { map: Arc::new(map), declared, windows: Vec::new() }
    }

    pub(super) fn map(&self) -> &Arc<PageMap<u64>> {
        &self.map
    }

    pub(super) fn insert(&mut self, range: &Range<RunAddr>, owner: Owner) -> Result<(), IndexError> {
        let (start, end) = (range.start.0, range.end.0);
        let extent = Extent { start, size: end.wrapping_sub(start) };
        match self.map.insert(extent, owner) {
            Err(IndexError::OutsideWindows) => {
                self.open_window(start..end)?;
                self.map.insert(extent, owner)
            }
            result => result,
        }
    }

    pub(super) fn remove(&self, start: RunAddr) {
        self.map.remove(start.0);
    }

    /// Makes a window for a range that lies in none: what the profile says, or else the regions that the range touches,
    /// cut where windows are already.
    fn open_window(&mut self, range: Range<u64>) -> Result<(), IndexError> {
        self.windows.try_reserve(1).map_err(|_| IndexError::OutOfMemory)?;
        let holds = |window: &&Range<u64>| window.start <= range.start && range.end <= window.end;
        let window = self.declared.iter().find(holds).cloned().unwrap_or_else(|| {
            let start = range.start & !(REGION - 1);
            // A region at the top of the space ends with its last address but one; no module lies there.
            let end = range.end.checked_next_multiple_of(REGION).unwrap_or(u64::MAX);
            let taken = || self.windows.iter().chain(&self.declared);
            let before = taken().map(|other| other.end).filter(|&end| end <= range.start).max();
            let after = taken().map(|other| other.start).filter(|&start| range.end <= start).min();
            before.map_or(start, |before| before.max(start))..after.map_or(end, |after| after.min(end))
        });
        let extent = Extent { start: window.start, size: window.end - window.start };
        self.map.add_window(Window { extent, form: Form::TwoLevel })?;
        self.windows.push(window);
        Ok(())
    }
}

impl Drop for Addresses {
    /// Readers may keep the map; they find nothing in it any more.
    fn drop(&mut self) {
        let mut next = self.map.next(0);
        while let Some((extent, _)) = next {
            self.map.remove(extent.start);
            next = self.map.next(extent.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modmem_index::{MemoryKind, OwnerId};

    #[test]
    fn memory_is_found_wherever_it_lies() {
        let mut addresses = Addresses::new(&Profile::named("6.12").unwrap());
        let declared = addresses.declared[0].clone();
        let owner = Owner::new(OwnerId::new(1).unwrap(), MemoryKind::Data);
        let starts =
            [declared.start, declared.start - 0x1000, declared.end, 0x1000, 0xffff_f000, 0x7f12_3456_7000];
        for start in starts {
            addresses.insert(&RunAddr(start).extent(0x1000), owner).unwrap();
            assert_eq!(addresses.map.find(start + 0xfff), Some(owner), "{start:#x}");
        }
        for start in starts {
            addresses.remove(RunAddr(start));
            assert_eq!(addresses.map.find(start), None);
        }
        // Regions that touch: a memory may straddle the two that were one stretch from the start.
        let mut addresses = Addresses::new(&Profile::named("6.12").unwrap());
        addresses.insert(&(RunAddr(0xffff_f000)..RunAddr(0x1_0000_1000)), owner).unwrap();
        assert_eq!(addresses.map.find(0x1_0000_0fff), Some(owner));
    }
}

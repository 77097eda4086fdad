//! Which module has which address: the index, and the windows that it gets when modules come to lie there.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use modmem_index::{AddressIndex, Extent, Form, IndexError, Owner, PageMap, Window};

use crate::address::RunAddr;
use crate::profile::Profile;

/// The index of a table of modules.
#[derive(Debug)]
pub(super) struct Addresses {
    map: Arc<PageMap<u64>>,
    /// The windows that there are, and those that there are to be: where the profile says that modules lie.
    windows: Vec<Range<u64>>,
}

impl Addresses {
    /// An index with a window for each range of the profile.
    pub(super) fn new(profile: &Profile) -> Addresses {
        let page_shift = profile.page_size.trailing_zeros().clamp(4, 15);
        let declared = merged([
            Some(&profile.ranges.text),
            Some(&profile.ranges.data),
            profile.ranges.fallback.as_ref(),
        ]);
        let windows: Vec<Window<u64>> = declared.iter().filter_map(window).collect();
        match PageMap::new(&windows, page_shift) {
            Ok(map) => Addresses { map: Arc::new(map), windows: declared },
            // Without memory for their directories: windows are made when the first module needs them, or that fails.
            Err(_) => {
                let map = PageMap::new(&[], page_shift);
                let map = map
                    .unwrap_or_else(|_| unreachable!("there is no window to refuse, and none needs memory"));
                Addresses { map: Arc::new(map), windows: Vec::new() }
            }
        }
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

    /// Makes a window for a range that lies in none: the region around it as far as there are no windows, since more
    /// modules may come to lie there.
    fn open_window(&mut self, range: Range<u64>) -> Result<(), IndexError> {
        self.windows.try_reserve(1).map_err(|_| IndexError::OutOfMemory)?;
        let region = REGIONS[usize::from(self.windows.len() >= MANY)];
        let start = range.start & !(region - 1);
        let end = range.end.checked_next_multiple_of(region).unwrap_or(u64::MAX);
        let before = self.windows.iter().map(|other| other.end).filter(|&end| end <= range.start).max();
        let after = self.windows.iter().map(|other| other.start).filter(|&start| range.end <= start).min();
        let gap = before.map_or(start, |before| before.max(start))..after.map_or(end, |after| after.min(end));
        let window = window(&gap).ok_or(IndexError::BadRange)?;
        // Nobody has any of the range: it is a window that some of it lies in.
        self.map.add_window(window).map_err(|error| match error {
            IndexError::Overlap => IndexError::OutsideWindows,
            error => error,
        })?;
        self.windows.push(gap);
        Ok(())
    }
}

/// What a window is rounded to where the profile does not say where modules lie: 64 GiB, whose directory takes 32 KiB,
/// and once there are several such windows 64 TiB. A memory across such a border, in a window on one side of which
/// others lie already, is the one that cannot be indexed.
const REGIONS: [u64; 2] = [1 << 36, 1 << 46];
/// Windows from which on the larger regions are taken: the index has room for two of those.
const MANY: usize = 5;

fn window(range: &Range<u64>) -> Option<Window<u64>> {
    let extent = Extent::new(range.start, range.end.checked_sub(range.start)?)?;
    Some(Window { extent, form: Form::TwoLevel })
}

/// Ranges that touch or overlap made one.
fn merged<const N: usize>(ranges: [Option<&Range<RunAddr>>; N]) -> Vec<Range<u64>> {
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges.into_iter().flatten() {
        let mut range = range.start.0..range.end.0;
        // The new one may bridge several that were apart.
        while let Some(index) = merged.iter().position(|o| range.start <= o.end && o.start <= range.end) {
            let other = merged.swap_remove(index);
            range = range.start.min(other.start)..range.end.max(other.end);
        }
        merged.push(range);
    }
    merged
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
    use alloc::vec;
    use modmem_index::{MemoryKind, OwnerId};

    fn owner() -> Owner {
        Owner::new(OwnerId::new(1).unwrap(), MemoryKind::Data)
    }

    #[test]
    fn memory_is_found_wherever_it_lies() {
        let mut addresses = Addresses::new(&Profile::named("6.12").unwrap());
        let declared = addresses.windows[0].clone();
        // Beside the profile's range, across the border of two regions, and in more regions than there are windows.
        let mut starts = vec![declared.start, declared.start - 0x1000, declared.end, 0x1000];
        starts.extend([0xffff_f800, (1 << 40) - 0x800]);
        starts.extend((1..12).map(|n| (n << 42) + 0x1000));
        for &start in &starts {
            addresses.insert(&RunAddr(start).extent(0x1000), owner()).unwrap();
            assert_eq!(addresses.map.find(start + 0xfff), Some(owner()), "{start:#x}");
        }
        for &start in &starts {
            addresses.remove(RunAddr(start));
            assert_eq!(addresses.map.find(start), None);
        }
    }

    #[test]
    fn ranges_of_a_profile_that_a_third_one_bridges_are_one_window() {
        let mut profile = Profile::named("6.12").unwrap();
        let range = |start, end| RunAddr(start)..RunAddr(end);
        profile.ranges.text = range(0x1000_0000, 0x2000_0000);
        profile.ranges.data = range(0x3000_0000, 0x4000_0000);
        profile.ranges.fallback = Some(range(0x1800_0000, 0x3800_0000));
        let mut addresses = Addresses::new(&profile);
        assert_eq!((addresses.windows.len(), addresses.windows[0].clone()), (1, 0x1000_0000..0x4000_0000));
        for start in [0x3fff_f000, 0x1000_0000, 0x2fff_f800] {
            addresses.insert(&RunAddr(start).extent(0x1000), owner()).unwrap();
        }
    }
}

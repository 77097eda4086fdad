//! Where the code of modules may lie, whatever any list says of it.

use std::ops::Range;

use modmem::{RunAddr, profile::Profile};

use super::{Snapshot, memory::merged};

impl Snapshot {
    /// The addresses among which this kernel puts the text of modules, by address, without the kernel itself. Data lies
    /// there too, but where it comes from vmalloc.
    ///
    /// Where the kernel moves that range by a random number that nothing tells, it reaches up to the last section of a
    /// module.
    pub fn module_ranges(&self, profile: &Profile) -> Vec<Range<u64>> {
        let ranges = &profile.ranges;
        let text = ranges.text.start.0..ranges.text.end.0;
        let mut all = vec![text.clone()];
        all.extend(ranges.fallback.as_ref().map(|range| range.start.0..range.end.0));
        if ranges.data == ranges.text {
            let sections = self.modules.iter().flat_map(|module| &module.sections);
            let behind = |address: &u64| {
                address.checked_sub(text.end).is_some_and(|distance| distance < text.end - text.start)
            };
            all.extend(
                sections.map(|section| section.address).filter(behind).max().map(|last| text.end..last),
            );
        }
        without(merged(all), &self.kernel_range())
    }

    /// Those of [`module_ranges`](Snapshot::module_ranges) that nobody else has memory in: nothing that is not module
    /// memory or code made at run time.
    pub fn exclusive_module_ranges(&self, profile: &Profile) -> Vec<Range<u64>> {
        let is_shared = |address: u64| profile.is_shared(RunAddr(address));
        let exclusive = |range: Range<u64>| {
            // Where others begin, they go on.
            let (mut own, mut others) = (range.start, range.end);
            if !is_shared(range.end - 1) {
                return range;
            }
            while own < others {
                let middle = own + (others - own) / 2;
                match is_shared(middle) {
                    true => others = middle,
                    false => own = middle + 1,
                }
            }
            range.start..own
        };
        let ranges = self.module_ranges(profile).into_iter();
        ranges.map(exclusive).filter(|range| range.start < range.end).collect()
    }

    /// Where the kernel itself is: nothing of it is module memory, even where it lies in the range of modules.
    pub(crate) fn kernel_range(&self) -> Range<u64> {
        self.kernel_place().map_or(0..0, |place| place.start.0..place.end.0)
    }
}

/// Ranges without the addresses of another one.
pub(crate) fn without(ranges: Vec<Range<u64>>, hole: &Range<u64>) -> Vec<Range<u64>> {
    let cut = |range: Range<u64>| {
        let before = range.start..range.end.min(hole.start);
        let behind = range.start.max(hole.end)..range.end;
        match hole.is_empty() {
            true => [range, 0..0],
            false => [before, behind],
        }
    };
    ranges.into_iter().flat_map(cut).filter(|range| range.start < range.end).collect()
}

/// What of some ranges is in none of the others; both by address and merged.
pub(crate) fn uncovered(ranges: &[Range<u64>], covered: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = ranges.to_vec();
    for hole in covered {
        left = without(left, hole);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_covered_is_cut_out_wherever_it_lies() {
        let ranges = [0x1000..0x5000, 0x8000..0x9000];
        assert_eq!(uncovered(&ranges, &[]), ranges);
        assert_eq!(uncovered(&ranges, &[0..0x1000, 0x5000..0x8000]), ranges);
        assert_eq!(
            uncovered(&ranges, &[0x1000..0x1800, 0x2000..0x3000, 0x4800..0x8800]),
            [0x1800..0x2000, 0x3000..0x4800, 0x8800..0x9000]
        );
        assert_eq!(uncovered(&ranges, std::slice::from_ref(&(0..0x10000))), []);
        assert_eq!(without(ranges.to_vec(), &(7..7)), ranges);
    }
}

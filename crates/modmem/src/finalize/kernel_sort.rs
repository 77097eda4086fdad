//! The kernel's heapsort, with its very order of equal elements (lib/sort.c:sort_r).
//!
//! The loader sorts tables in place, and where keys are equal the result depends on each step that the sort takes.
//! This is the bottom-up heapsort with those steps: which child wins a tie while sifting, and how many of the largest
//! elements are taken from the heap at a time.

use crate::profile::SortStyle;

/// Sorts `items` as the kernel does. `compare` is the kernel's comparison: negative, zero or positive, and not always
/// symmetric.
pub(crate) fn kernel_sort<T>(items: &mut [T], style: SortStyle, compare: impl Fn(&T, &T) -> i32) {
    if items.len() < 2 {
        return;
    }
    for start in (0..items.len() / 2).rev() {
        sift_down(items, start, style, &compare);
    }
    let mut end = items.len();
    match style {
        SortStyle::OneByOne => {
            while end > 1 {
                end -= 1;
                items.swap(0, end);
                sift_down(&mut items[..end], 0, style, &compare);
            }
        }
        SortStyle::TwoLargest => {
            while end > 3 {
                end -= 1;
                items.swap(0, end);
                // The second largest is one of the root's children.
                let child = if compare(&items[1], &items[2]) <= 0 { 2 } else { 1 };
                end -= 1;
                items.swap(child, end);
                // The child's part of the heap first, then the root.
                sift_down(&mut items[..end], child, style, &compare);
                sift_down(&mut items[..end], 0, style, &compare);
            }
            end -= 1;
            items.swap(0, end);
            if end == 2 && compare(&items[0], &items[1]) > 0 {
                items.swap(0, 1);
            }
        }
    }
}

/// Puts the element at `root` where it belongs in the heap below it: down to a leaf along the larger children first,
/// then back up.
fn sift_down<T>(heap: &mut [T], root: usize, style: SortStyle, compare: &impl Fn(&T, &T) -> i32) {
    let end = heap.len();
    let mut at = root;
    while 2 * at + 2 < end {
        let (left, right) = (2 * at + 1, 2 * at + 2);
        let order = compare(&heap[left], &heap[right]);
        let takes_left = match style {
            SortStyle::OneByOne => order >= 0,
            SortStyle::TwoLargest => order > 0,
        };
        at = if takes_left { left } else { right };
    }
    // A last leaf without a sibling.
    if 2 * at + 2 == end {
        at = 2 * at + 1;
    }
    while at != root && compare(&heap[root], &heap[at]) >= 0 {
        at = (at - 1) / 2;
    }
    let place = at;
    while at != root {
        at = (at - 1) / 2;
        heap.swap(at, place);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::kernel_sort;
    use crate::profile::SortStyle;

    #[test]
    fn sorts_any_number_of_elements_in_both_styles() {
        for style in [SortStyle::OneByOne, SortStyle::TwoLargest] {
            for count in 0..200_u32 {
                let mut items: Vec<u32> = (0..count).map(|i| i.wrapping_mul(2_654_435_761) % 97).collect();
                let mut expected = items.clone();
                expected.sort_unstable();
                kernel_sort(&mut items, style, |a, b| a.cmp(b) as i32);
                assert_eq!(items, expected, "{count} elements, {style:?}");
            }
        }
    }
}

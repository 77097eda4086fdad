//! The list of a large area's pages: vmalloc keeps it in an area of its own, which has the same caller, where it takes more
//! than a page (mm/vmalloc.c:__vmalloc_area_node). On machines where the second range of modules is vmalloc's, it lies
//! where modules may lie.

use super::places::Places;
use crate::snapshot::Area;

/// Bytes of `struct page`, to which the list points, are a multiple of this; the pages of all memory have one array.
const ALIGNMENT: u64 = 64;
/// The bits that all addresses in that array share, however much memory there is.
const ARRAY: u64 = 0xffff_fc00_0000_0000;

/// Whether `bytes` are the list of the pages of an area that a listed module owns, and nothing else.
pub(super) fn are_listed(areas: &[Area], places: &Places, bytes: &[u8], word: impl Fn(&[u8]) -> u64) -> bool {
    let mut pages: Vec<u64> = bytes.chunks_exact(8).map(word).collect();
    let count = pages.iter().position(|page| *page == 0).unwrap_or(pages.len());
    if pages.split_off(count).iter().any(|page| *page != 0) {
        return false;
    }
    let of_module =
        |area: &&Area| area.pages() == Some(count as u64) && places.is_of_module(area.range.start);
    let Some(&first) = pages.first() else { return false };
    let is_page = |page: &u64| page.is_multiple_of(ALIGNMENT) && page & ARRAY == first & ARRAY;
    // Addresses of code or data would be in the way of each other: no page is in two places.
    let all = pages.iter().all(is_page);
    pages.sort_unstable();
    pages.dedup();
    all && pages.len() == count && count * 8 > 4096 && areas.iter().any(|area| of_module(&area))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(pages: u64) -> Vec<u8> {
        let page = |index: u64| 0xffff_fc00_0024_0000 + index * 64;
        let mut bytes: Vec<u8> = (0..pages).flat_map(|index| page(index).to_le_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        bytes
    }

    fn is_list(bytes: &[u8]) -> bool {
        let area = |start: u64, pages: u64| Area {
            range: start..start + (pages + 1) * 4096,
            caller: "load_module".to_owned(),
            rest: format!(" pages={pages} vmalloc"),
        };
        let areas = [area(0xffff_8000_0100_0000, 1263), area(0xffff_8000_0a27_3000, 3)];
        let mut places = Places::default();
        places.owned.push(0xffff_8000_0100_0000..0xffff_8000_0150_0000);
        let word = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk().unwrap());
        are_listed(&areas, &places, bytes, word)
    }

    #[test]
    fn the_pages_of_a_large_module_are_known_for_what_they_are() {
        assert!(is_list(&list(1263)));
    }

    #[test]
    fn what_is_no_list_of_pages_hides_behind_none() {
        assert!(!is_list(&list(1262)), "no area has so many pages");
        for (at, byte) in [(6, 1), (8, 0x40), (10_103, 1), (10_112, 1)] {
            let mut bytes = list(1263);
            bytes[at] ^= byte;
            assert!(!is_list(&bytes), "{at}");
        }
        assert!(!is_list(&vec![0; 12_288]));
    }
}

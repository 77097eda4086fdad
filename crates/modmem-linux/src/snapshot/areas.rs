//! The areas of vmalloc: `/proc/vmallocinfo`.

use std::{fmt::Write as _, io::BufRead, ops::Range};

use super::lines::{each_line, hex};
use crate::Error;

/// More areas than any kernel has.
const MOST_AREAS: usize = 1 << 20;

/// One area of vmalloc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Its addresses, the guard page at its end included.
    pub range: Range<u64>,
    /// The function that asked for it, without offset; empty if the kernel does not say.
    pub caller: String,
    /// All that the kernel says behind the size: caller with offset, number of pages, kind.
    pub rest: String,
}

/// What `/proc/vmallocinfo` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Areas {
    /// Its areas.
    Known(Listed),
    /// Its addresses are hidden or hashed: they do not fit the sizes beside them.
    Hidden,
}

/// The areas of one list, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    /// By address; none overlap.
    pub(crate) areas: Vec<Area>,
    /// Those that lie where one of the others does, by address.
    pub(crate) contradictory: Vec<Area>,
}

impl Area {
    /// Whether it was given back and only waits for its addresses to be free again (mm/vmalloc.c:show_purge_info).
    pub fn is_freed(&self) -> bool {
        self.rest == "unpurged vm_area"
    }

    /// Pages that back the area, where the kernel says.
    pub fn pages(&self) -> Option<u64> {
        self.rest.split(' ').find_map(|word| word.strip_prefix("pages=")?.parse().ok())
    }

    /// Its addresses without the guard page at its end, if it has one; all of them where the kernel does not say.
    pub fn backed(&self) -> Range<u64> {
        let size = self.range.end - self.range.start;
        let is_page = |page: u64| page.is_power_of_two() && page >= 4096;
        let page_of = |pages: u64| Some(size / pages).filter(|page| is_page(*page) && page * pages == size);
        let guard = self.pages().and_then(|pages| page_of(pages.checked_add(1)?));
        self.range.start..self.range.end - guard.unwrap_or_default()
    }
}

/// Reads `/proc/vmallocinfo`.
pub(crate) fn parse(shown: &str, input: impl BufRead) -> Result<Areas, Error> {
    let mut areas = Vec::new();
    let mut hidden = false;
    each_line(shown, input, |line| {
        // While too little is random to hash with, the kernel prints no number at all.
        if line.contains("ptrval") {
            hidden = true;
            return Ok(());
        }
        let (area, size) =
            parse_line(line).ok_or_else(|| format!("{line:?} is no line of /proc/vmallocinfo"))?;
        if areas.len() == MOST_AREAS {
            return Err(format!("more than {MOST_AREAS} areas"));
        }
        hidden |= area.range.end.checked_sub(area.range.start) != Some(size);
        areas.push(area);
        Ok(())
    })?;
    if hidden {
        return Ok(Areas::Hidden);
    }
    Ok(Areas::Known(in_order(areas)))
}

/// The areas by address, and apart from them those that lie where another one does.
///
/// No two areas overlap in any kernel, but its list is not of one moment. Areas in use are shown first and those that
/// were given back after them, under another lock: what is given back in between is there twice
/// (mm/vmalloc.c:vmalloc_info_show). Before 6.9 each piece of the list is found by its number, so that one more in front
/// of it repeats an area (mm/vmalloc.c:s_start). Of two, the one that is in use stays: it is the one to be explained.
pub(crate) fn in_order(mut areas: Vec<Area>) -> Listed {
    areas.sort_by_key(|area| (area.range.start, area.range.end, area.is_freed()));
    let mut listed = Listed { areas: Vec::with_capacity(areas.len()), contradictory: Vec::new() };
    for area in areas {
        match listed.areas.last_mut().filter(|last| area.range.start < last.range.end) {
            None => listed.areas.push(area),
            Some(last) if last.is_freed() && !area.is_freed() => {
                listed.contradictory.push(std::mem::replace(last, area));
            }
            Some(_) => listed.contradictory.push(area),
        }
    }
    listed
}

/// In words, what the areas are that contradict others; `None` without any.
pub(crate) fn contradiction(contradictory: &[Area]) -> Option<String> {
    let first = contradictory.first()?;
    let range = format!("{:#x}-{:#x}", first.range.start, first.range.end);
    Some(format!(
        "the list of vmalloc areas contradicts itself, so it changed while it was read: {} of its areas lie where \
         others do, the first at {range} ({}); each is judged as if it were the only one, and some may be missing",
        contradictory.len(),
        first.rest
    ))
}

/// An area and its size as told.
fn parse_line(line: &str) -> Option<(Area, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let rest = rest.trim_start();
    let (size, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let caller = rest.split([' ', '+']).next().unwrap_or_default();
    let area = Area { range: hex(start)?..hex(end)?, caller: caller.to_owned(), rest: rest.to_owned() };
    Some((area, size.parse().ok()?))
}

/// Writes what [`parse`] reads.
pub(crate) fn write<'a>(areas: impl IntoIterator<Item = &'a Area>) -> String {
    let mut text = String::new();
    for Area { range, rest, .. } in areas {
        let size = range.end.saturating_sub(range.start);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:#018x}-{:#018x} {size:7} {rest}", range.start, range.end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        0xffffffffc0201000-0xffffffffc0204000   12288 load_module+0x85c/0x2060 pages=2 vmalloc N0=2\n\
        0xffffffffc0204000-0xffffffffc0206000    8192 unpurged vm_area\n\
        0xffffffffc0400000-0xffffffffc0800000 4194304 \n";

    fn known(text: &str) -> Listed {
        let Areas::Known(listed) = parse("vmallocinfo", text.as_bytes()).unwrap() else { panic!() };
        listed
    }

    #[test]
    fn lines_come_back_as_they_were() {
        let Listed { areas, contradictory } = known(TEXT);
        assert_eq!(contradictory, []);
        assert_eq!((areas[0].caller.as_str(), areas[0].pages()), ("load_module", Some(2)));
        assert_eq!((areas[2].caller.as_str(), areas[2].pages()), ("", None));
        assert_eq!(areas[0].backed(), 0xffff_ffff_c020_1000..0xffff_ffff_c020_3000);
        assert_eq!(areas[2].backed(), areas[2].range);
        assert_eq!(write(&areas), TEXT);
    }

    #[test]
    fn hashed_addresses_are_recognised_by_the_size_beside_them() {
        let text = "0x00000000a1b2c3d4-0x00000000051f22e3   12288 load_module+0x85c/0x2060 pages=2 vmalloc\n";
        assert_eq!(parse("v", text.as_bytes()).unwrap(), Areas::Hidden);
        let text = "0x0000000000000000-0x0000000000000000   12288 load_module+0x85c/0x2060 pages=2 vmalloc\n";
        assert_eq!(parse("v", text.as_bytes()).unwrap(), Areas::Hidden);
        let text = "0x(____ptrval____)-0x(____ptrval____)   12288 load_module+0x85c/0x2060\n";
        assert_eq!(parse("v", text.as_bytes()).unwrap(), Areas::Hidden);
    }

    #[test]
    fn lines_that_are_no_areas_are_errors() {
        assert!(parse("v", &b"0x1000-0x3000\n"[..]).is_err());
        assert!(parse("v", &b"hello\n"[..]).is_err());
    }

    /// Callers and what is freed, of those that stay and of those that contradict them.
    fn split(text: &str) -> (Vec<String>, Vec<String>) {
        let Listed { areas, contradictory } = known(text);
        assert!(areas.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
        let shown = |areas: Vec<Area>| {
            let line = |area: Area| format!("{:x} {}", area.range.start, area.rest);
            areas.into_iter().map(line).collect()
        };
        (shown(areas), shown(contradictory))
    }

    #[test]
    fn of_areas_at_one_place_the_one_in_use_stays_and_no_other_is_lost() {
        let freed = "unpurged vm_area";
        let twice = format!("0x1000-0x3000 8192 {freed}\n0x1000-0x3000 8192 f\n0x3000-0x4000 4096 g\n");
        assert_eq!(
            split(&twice),
            (vec!["1000 f".into(), "3000 g".into()], vec![format!("1000 {freed}")]),
            "given back while the list was read"
        );
        let same = "0x1000-0x3000 8192 f\n0x1000-0x3000 8192 f\n";
        assert_eq!(split(same), (vec!["1000 f".into()], vec!["1000 f".into()]));
        let larger = format!("0x1000-0x5000 16384 {freed}\n0x2000-0x3000 4096 f\n0x4000-0x5000 4096 g\n");
        assert_eq!(
            split(&larger),
            (vec!["2000 f".into(), "4000 g".into()], vec![format!("1000 {freed}")]),
            "taken again by others"
        );
        let real = "0x1000-0x3000 8192 f\n0x2000-0x4000 8192 g\n0x3000-0x5000 8192 h\n";
        assert_eq!(split(real), (vec!["1000 f".into(), "3000 h".into()], vec!["2000 g".into()]));
        let said = contradiction(&known(real).contradictory).unwrap();
        assert!(said.contains("1 of its areas") && said.contains("0x2000-0x4000 (g)"), "{said}");
        assert_eq!(contradiction(&[]), None);
    }
}

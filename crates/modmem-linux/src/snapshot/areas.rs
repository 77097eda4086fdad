//! The areas of vmalloc: `/proc/vmallocinfo`.

use std::{fmt::Write as _, io::BufRead, ops::Range};

use super::lines::{each_line, hex};
use crate::Error;

/// More areas than any kernel has.
const MOST_AREAS: usize = 1 << 22;

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
    /// The areas, by address.
    Known(Vec<Area>),
    /// Its addresses are hidden or hashed: they do not fit the sizes beside them.
    Hidden,
}

impl Area {
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
    in_order(areas).map(Areas::Known).map_err(|problem| Error::malformed(shown, problem))
}

/// The areas by address; those that overlap are refused, in words.
pub(crate) fn in_order(mut areas: Vec<Area>) -> Result<Vec<Area>, String> {
    areas.sort_by_key(|area| (area.range.start, area.range.end));
    if let Some(pair) = areas.windows(2).find(|pair| pair[1].range.start < pair[0].range.end) {
        let [first, second] = [&pair[0].range, &pair[1].range];
        return Err(format!(
            "areas {:#x}-{:#x} and {:#x}-{:#x} overlap",
            first.start, first.end, second.start, second.end
        ));
    }
    Ok(areas)
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
pub(crate) fn write(areas: &[Area]) -> String {
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

    #[test]
    fn lines_come_back_as_they_were() {
        let Areas::Known(areas) = parse("vmallocinfo", TEXT.as_bytes()).unwrap() else { panic!() };
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
    fn areas_that_overlap_or_are_none_are_errors() {
        let error = parse("v", &b"0x1000-0x3000 8192 a\n0x2000-0x3000 4096 b\n"[..]).unwrap_err().to_string();
        assert!(error.contains("0x1000-0x3000 and 0x2000-0x3000 overlap"), "{error}");
        assert!(parse("v", &b"0x1000-0x3000\n"[..]).is_err());
        assert!(parse("v", &b"hello\n"[..]).is_err());
    }
}

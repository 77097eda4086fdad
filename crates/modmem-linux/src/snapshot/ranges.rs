//! Lists of address ranges, a line each: what was read throughout, what changed meanwhile.

use std::{fmt::Write as _, io::BufRead, ops::Range};

use super::{
    lines::{each_line, hex},
    memory::merged,
};
use crate::Error;

/// More ranges than anybody writes.
const MOST_RANGES: usize = 1 << 20;

/// Reads lines of `0xSTART-0xEND`; what overlaps or touches is joined.
pub(crate) fn parse(shown: &str, input: impl BufRead) -> Result<Vec<Range<u64>>, Error> {
    let mut ranges = Vec::new();
    each_line(shown, input, |line| {
        let range = line.split_once('-').and_then(|(start, end)| Some(hex(start)?..hex(end)?));
        let range = range.filter(|range| range.start < range.end);
        ranges.push(range.ok_or_else(|| format!("{line:?} is no range of addresses"))?);
        match ranges.len() > MOST_RANGES {
            true => Err(format!("more than {MOST_RANGES} ranges")),
            false => Ok(()),
        }
    })?;
    Ok(merged(ranges))
}

/// Writes what [`parse`] reads.
pub(crate) fn write(ranges: &[Range<u64>]) -> String {
    let mut text = String::new();
    for Range { start, end } in ranges {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{start:#x}-{end:#x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_back_joined_and_what_is_none_is_an_error() {
        let ranges = parse("r", &b"0x3000-0x4000\n0x1000-0x2000\n2000-2800\n"[..]).unwrap();
        assert_eq!(ranges, [0x1000..0x2800, 0x3000..0x4000]);
        assert_eq!(parse("r", write(&ranges).as_bytes()).unwrap(), ranges);
        for wrong in ["0x1000", "0x2000-0x1000", "0x1000-0x1000", "a-g", "0x1000-0x2000 4096"] {
            assert!(parse("r", wrong.as_bytes()).unwrap_err().to_string().contains("no range"), "{wrong}");
        }
    }
}

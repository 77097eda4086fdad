//! Sizes and shares in words, the same on the terminal and in pictures.

pub(crate) use crate::output::harmless;

use crate::output::grouped;

/// A number of bytes in the unit that reads best.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    // The next unit only from 10,000 of this one: "1,008 MiB" says more than "1.0 GiB" about a module range.
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) >= if unit == 0 { 1 << 10 } else { 10_000 } {
        unit += 1;
    }
    let shift = 10 * (unit + 1);
    // Two places where one is not enough to tell what is used from what is allocated.
    let places = if unit > 0 && bytes >> shift < 10 { 100 } else { 10 };
    let parts = ((u128::from(bytes) * places + (1 << (shift - 1))) >> shift) as u64;
    let (whole, part) = (parts / places as u64, parts % places as u64);
    match (part, places) {
        (0, _) => format!("{} {}", grouped(whole), UNITS[unit]),
        (part, 100) => format!("{}.{part:02} {}", grouped(whole), UNITS[unit]),
        (part, _) => format!("{}.{part} {}", grouped(whole), UNITS[unit]),
    }
}

/// `part` in percent of `whole`.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".into();
    }
    match part as f64 / whole as f64 * 100.0 {
        p if p < 0.01 => "< 0.01 %".into(),
        p if p < 1.0 => format!("{p:.2} %"),
        p => format!("{p:.1} %"),
    }
}

/// `1 module`, `2 modules`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_an_engineer_says_them() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(4096), "4 KiB");
        assert_eq!(size(500_764), "489 KiB");
        assert_eq!(size(6080), "5.9 KiB");
        assert_eq!(size(1 << 20), "1 MiB");
        assert_eq!(size(1_400_832), "1.34 MiB");
        assert_eq!(size(33 << 19), "16.5 MiB");
        assert_eq!(size(1008 << 20), "1,008 MiB");
        assert_eq!(size(u64::MAX), "16 EiB");
    }

    #[test]
    fn a_small_share_is_never_shown_as_nothing() {
        assert_eq!(share(1, u64::MAX), "< 0.01 %");
        assert_eq!(share(0, 7), "0 %");
        assert_eq!(share(0, 0), "0 %");
        assert_eq!(share(1, 8), "12.5 %");
    }
}

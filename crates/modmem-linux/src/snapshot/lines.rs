//! Text members, read line by line without holding them.

use std::io::{BufRead, Read as _};

use crate::Error;

/// Bytes of the longest line: a module's list of users is the longest that kernels print.
const LONGEST_LINE: u64 = 1 << 16;

/// Calls `each` with every line that is not empty, without its end. What it says is wrong is told with the line's
/// number.
pub(crate) fn each_line(
    shown: &str,
    mut input: impl BufRead,
    mut each: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), Error> {
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        input
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|error| broken(shown, error))?;
        if line.is_empty() {
            break;
        }
        let wrong = |problem: String| Error::malformed(shown, format!("line {number}: {problem}"));
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 == LONGEST_LINE {
            return Err(wrong(format!("longer than {LONGEST_LINE} bytes")));
        }
        if !line.is_empty() {
            each(&String::from_utf8_lossy(&line)).map_err(wrong)?;
        }
    }
    Ok(())
}

/// Reads a text of at most `limit` bytes; what is not UTF-8 in it is replaced.
pub(crate) fn text(shown: &str, input: impl BufRead, limit: u64) -> Result<String, Error> {
    let bytes = bytes(shown, input, limit)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Reads at most `limit` bytes.
pub(crate) fn bytes(shown: &str, input: impl BufRead, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes).map_err(|error| broken(shown, error))?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { file: shown.to_owned(), limit });
    }
    Ok(bytes)
}

/// A stream that ends early or cannot be decompressed.
pub(crate) fn broken(shown: &str, error: std::io::Error) -> Error {
    Error::corrupt(shown, "snapshot", error)
}

/// A hexadecimal number with or without `0x`, of at most 16 digits.
pub(crate) fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let plain = (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

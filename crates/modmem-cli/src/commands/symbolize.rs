//! `modmem symbolize`: say behind each address of a log what lies there.
//!
//! Every byte of the log stays as it is. What comes between two bytes is ` [ext4 Text ext4_sync_fs+0x12/0x180]`.

use std::io::{BufRead, BufReader, BufWriter, Read as _, Write};
use std::ops::Range;

use anyhow::{Context as _, Result};
use modmem::RunAddr;

use super::lookup::describe_found;
use crate::args::SymbolizeArgs;
use crate::session::OpenSnapshot;

/// Bytes of a line that are looked at together; longer ones are cut between words.
const LONGEST_PIECE: usize = 1 << 16;
/// Bytes of the longest word that could be an address, with what may stand around it.
const LONGEST_WORD: usize = 32;

pub(crate) fn run(arguments: &SymbolizeArgs) -> Result<()> {
    let opened = OpenSnapshot::open(&arguments.snapshot, &arguments.kernel)?;
    let digits = opened.snapshot.symbols.digits();
    let mut locator = opened.locator();
    let mut input = BufReader::with_capacity(LONGEST_PIECE, std::io::stdin().lock());
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut describe = |address| describe_found(&locator.find(RunAddr(address)));
    let mut piece = Vec::new();
    loop {
        let room = LONGEST_PIECE.saturating_sub(piece.len()) as u64;
        let read = input.by_ref().take(room).read_until(b'\n', &mut piece).context("standard input")?;
        let end = match piece.last() {
            _ if read == 0 => piece.len(),
            Some(b'\n') => piece.len(),
            _ => whole_words(&piece),
        };
        annotate(&piece[..end], digits, &mut describe, &mut out)?;
        piece.drain(..end);
        if read == 0 {
            break;
        }
        // Whoever follows a log wants each line at once; whoever reads a file does not wait for them.
        if input.buffer().is_empty() {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(())
}

/// How much of a line that goes on can be looked at without cutting a word that may be an address.
fn whole_words(piece: &[u8]) -> usize {
    if piece.len() < LONGEST_PIECE {
        return 0;
    }
    let tail = &piece[piece.len() - LONGEST_WORD..];
    let boundary = tail.iter().rposition(|byte| byte.is_ascii_whitespace());
    let boundary = boundary.or_else(|| tail.iter().rposition(|byte| !is_word(byte)));
    boundary.map_or(piece.len(), |at| piece.len() - LONGEST_WORD + at)
}

/// Writes a line with what `describe` says behind its addresses.
fn annotate(
    line: &[u8],
    digits: usize,
    describe: &mut impl FnMut(u64) -> Option<String>,
    out: &mut impl Write,
) -> Result<()> {
    let mut written = 0;
    for (word, end) in addresses(line, digits) {
        let text = std::str::from_utf8(&line[word]).ok();
        let said = text.and_then(|text| u64::from_str_radix(text, 16).ok()).and_then(&mut *describe);
        if let Some(said) = said {
            out.write_all(&line[written..end])?;
            write!(out, " [{said}]")?;
            written = end;
        }
    }
    out.write_all(&line[written..])?;
    Ok(())
}

/// The words of a line that could be addresses: where their digits are, and behind what to say something. That is `0x`
/// with digits behind it, or as many bare digits as an address has; brackets of the old style, `[<...>]`, are passed.
fn addresses(line: &[u8], digits: usize) -> impl Iterator<Item = (Range<usize>, usize)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + line.get(at..)?.iter().position(is_word)?;
            let rest = &line[start..];
            let length = rest.iter().position(|byte| !is_word(byte)).unwrap_or(rest.len());
            at = start + length;
            let word = &line[start..at];
            let number = match word {
                [b'0', b'x' | b'X', number @ ..] if (1..=16).contains(&number.len()) => number,
                number if number.len() == digits => number,
                _ => continue,
            };
            if !number.iter().all(u8::is_ascii_hexdigit) {
                continue;
            }
            let bracketed = line[..start].ends_with(b"[<") && line[at..].starts_with(b">]");
            return Some((at - number.len()..at, if bracketed { at + 2 } else { at }));
        }
    })
}

/// Bytes that make words: what stands beside them is part of a name or number.
fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(line: &[u8]) -> String {
        let mut out = Vec::new();
        let mut describe = |address| (address & 0xfff == 0x2c3).then(|| "hit".to_owned());
        annotate(line, 16, &mut describe, &mut out).unwrap();
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn addresses_of_every_style_are_found() {
        for (line, expected) in [
            ("RIP: 0010:0xffffffffc0a1b2c3\n", "RIP: 0010:0xffffffffc0a1b2c3 [hit]\n"),
            ("RAX: ffffffffc0a1b2c3 RBX: 0", "RAX: ffffffffc0a1b2c3 [hit] RBX: 0"),
            (" [<ffffffffc0a1b2c3>] x+0x1/0x2", " [<ffffffffc0a1b2c3>] [hit] x+0x1/0x2"),
            ("(0xFFFFFFFFC0A1B2C3),", "(0xFFFFFFFFC0A1B2C3 [hit]),"),
            ("a=0x2c3;b=0x2c4", "a=0x2c3 [hit];b=0x2c4"),
        ] {
            assert_eq!(annotated(line.as_bytes()), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_left_alone() {
        for line in [
            "00000000000002c3g",
            "ffffffffc0a1b2c",
            "fffffffffc0a1b2c3",
            "x_ffffffffc0a1b2c3",
            "2c3",
            "0x",
            "0x_2c3",
            "0xfffffffffffff02c3",
            "ext4_2c3+0x12/0x40",
            "é00000000000002c3",
        ] {
            assert_eq!(annotated(line.as_bytes()), line);
        }
    }

    #[test]
    fn lines_without_end_are_cut_between_words() {
        let mut piece = vec![b' '; LONGEST_PIECE];
        assert_eq!(whole_words(&piece[..100]), 0);
        assert_eq!(whole_words(&piece), LONGEST_PIECE - 1);
        piece[LONGEST_PIECE - 10..].fill(b'f');
        assert_eq!(whole_words(&piece), LONGEST_PIECE - 11);
        piece.fill(b'f');
        assert_eq!(whole_words(&piece), LONGEST_PIECE);
    }
}

//! Text from files, made so that a reader sees all of it.

use core::fmt::{self, Write as _};

/// Text in which nothing steers a terminal, is invisible, or reorders what stands around it: such characters are shown as
/// `\u{202e}`, line ends and tabs as `\n` and `\t`.
///
/// ```
/// use modmem::Visible;
/// assert_eq!(Visible("a\u{202e}b\u{1b}[0m").to_string(), "a\\u{202e}b\\u{1b}[0m");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a>(pub &'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = 0;
        for (at, character) in self.0.char_indices() {
            if is_hidden(character) {
                f.write_str(&self.0[shown..at])?;
                character.escape_default().try_for_each(|escaped| f.write_char(escaped))?;
                shown = at + character.len_utf8();
            }
        }
        f.write_str(&self.0[shown..])
    }
}

/// Whether a character is none that a reader sees as itself: controls (C0, DEL, C1), marks of direction, joiners and
/// spaces without width or of another width, fillers, selectors of variants, tags, and what is no character.
pub fn is_hidden(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    matches!(character,
        '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{1680}'
        | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}' | '\u{2800}' | '\u{3000}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fdd0}'..='\u{fdef}' | '\u{fff0}'..='\u{fffb}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        || character as u32 & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn what_nobody_sees_is_shown() {
        let hidden = [
            "\u{0}",
            "\n",
            "\t",
            "\u{1b}",
            "\u{7f}",
            "\u{85}",
            "\u{9b}",
            "\u{a0}",
            "\u{ad}",
            "\u{61c}",
            "\u{200b}",
            "\u{200d}",
            "\u{200e}",
            "\u{2028}",
            "\u{202e}",
            "\u{2060}",
            "\u{2066}",
            "\u{2069}",
            "\u{3164}",
            "\u{fe0f}",
            "\u{feff}",
            "\u{fffe}",
            "\u{ffff}",
            "\u{1ffff}",
            "\u{e0041}",
            "\u{e0100}",
        ];
        for text in hidden {
            let shown = Visible(text).to_string();
            assert!(shown.starts_with('\\') && shown.is_ascii(), "{shown}");
        }
        for text in ["", "ext4", "näme", "模块", "a b", "\u{fffd}", "−"] {
            assert_eq!(Visible(text).to_string(), text);
        }
    }
}

//! SVG elements, and how wide text is in them.

use std::fmt::{self, Write as _};

use modmem::is_hidden;

/// SVG text in the making.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    out: String,
}

impl Canvas {
    pub(super) fn into_text(self) -> String {
        self.out
    }

    /// Writes markup as it is.
    pub(super) fn markup(&mut self, markup: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(markup);
        self.out.push('\n');
    }

    pub(super) fn open(&mut self, class: &str) {
        self.markup(format_args!("<g class=\"{class}\">"));
    }

    pub(super) fn close(&mut self) {
        self.markup(format_args!("</g>"));
    }

    /// What a browser shows when the pointer rests on the group that was opened last.
    pub(super) fn title(&mut self, text: &str) {
        self.markup(format_args!("<title>{}</title>", Escaped(text)));
    }

    pub(super) fn rect(&mut self, class: &str, rect: Rect) {
        let Rect { x, y, width, height } = rect;
        self.markup(format_args!(
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            N(x),
            N(y),
            N(width),
            N(height)
        ));
    }

    /// All `rects` as one shape.
    pub(super) fn shape(&mut self, class: &str, rects: &[Rect]) {
        if rects.is_empty() {
            return;
        }
        let mut path = String::new();
        for &Rect { x, y, width, height } in rects {
            let _ = write!(path, "M{} {}h{}v{}h-{}z", N(x), N(y), N(width), N(height), N(width));
        }
        self.markup(format_args!("<path class=\"{class}\" d=\"{path}\"/>"));
    }

    /// Text whose base line starts at a point.
    pub(super) fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.markup(format_args!(
            "<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>",
            N(x),
            N(y),
            Escaped(text)
        ));
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.markup(format_args!(
            "<path class=\"{class}\" d=\"M{} {}L{} {}\"/>",
            N(from.0),
            N(from.1),
            N(to.0),
            N(to.1)
        ));
    }
}

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A coordinate: as few digits as do.
#[derive(Clone, Copy, Debug)]
pub(super) struct N(pub(super) f64);

impl fmt::Display for N {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = (self.0 * 100.0).round() / 100.0;
        write!(f, "{rounded}")
    }
}

/// Text inside an element or attribute. Names come from files that nobody vouches for: what nobody would see is made
/// visible, which includes all that XML does not allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(character)?,
                hidden if is_hidden(hidden) => write!(f, "{}", hidden.escape_default())?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Pixels that text takes at most in the sans-serif fonts that systems have; the widest of them, DejaVu, decides.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let em: f64 = text
        .chars()
        .map(|character| match character {
            'i' | 'j' | 'l' | 'I' | ' ' | '.' | ',' | ':' | '\'' | '|' => 0.34,
            'f' | 't' | 'r' | '(' | ')' | '-' | '/' => 0.43,
            'm' | 'w' | 'M' | 'W' | '%' | '@' | '…' => 1.0,
            'A'..='Z' => 0.76,
            '!'..='~' => 0.64,
            // Wide scripts take a whole square.
            _ => 1.05,
        })
        .sum();
    em * size
}

/// As much of `text` as fits, with an ellipsis if something is cut; nothing if only a stump would be left.
pub(super) fn fitted(text: &str, size: f64, room: f64) -> Option<String> {
    if width(text, size) <= room {
        return Some(text.to_owned());
    }
    let mut cut = String::new();
    let mut taken = width("…", size);
    for character in text.chars() {
        taken += width(character.encode_utf8(&mut [0; 4]), size);
        if taken > room {
            break;
        }
        cut.push(character);
    }
    (cut.chars().count() >= 4).then(|| cut + "…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_element() {
        let hostile = "</text><script>\u{0}\u{1b}\u{ffff}\"'&";
        let escaped = Escaped(hostile).to_string();
        assert_eq!(escaped, "&lt;/text&gt;&lt;script&gt;\\u{0}\\u{1b}\\u{ffff}&quot;&#39;&amp;");
    }

    #[test]
    fn text_is_cut_to_its_room_and_stumps_are_left_out() {
        assert_eq!(fitted("ext4", 11.0, 100.0).as_deref(), Some("ext4"));
        let cut = fitted("drm_display_helper", 11.0, 60.0).unwrap();
        assert!(cut.ends_with('…') && width(&cut, 11.0) <= 60.0, "{cut}");
        assert_eq!(fitted("drm_display_helper", 11.0, 20.0), None);
    }

    #[test]
    fn coordinates_have_no_more_digits_than_they_need() {
        assert_eq!(N(156.0).to_string(), "156");
        assert_eq!(N(1.0 / 3.0).to_string(), "0.33");
    }
}

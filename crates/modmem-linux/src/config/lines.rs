//! The lines of configuration files.

/// The lines of a file and their numbers, with what a backslash joins (shared/util.c:freadline_wrapped): it takes a newline
/// behind it away, and goes itself before anything else. Comments and empty lines are left out.
pub(super) fn lines(text: &str) -> Vec<(usize, String)> {
    let (mut all, mut line, mut number) = (Vec::new(), String::new(), 1);
    let (mut start, mut characters) = (1, text.chars());
    let mut end = |line: &mut String, start: usize| {
        let line = std::mem::take(line);
        if !line.is_empty() && !line.starts_with('#') {
            all.push((start, line));
        }
    };
    while let Some(character) = characters.next() {
        match character {
            '\n' => {
                end(&mut line, start);
                number += 1;
                start = number;
            }
            '\\' => match characters.next() {
                Some('\n') => number += 1,
                Some(other) => line.push(other),
                None => {}
            },
            other => line.push(other),
        }
    }
    end(&mut line, start);
    all
}

/// The first word of a text, and what stands behind the one blank after it (`strtok_r`).
pub(super) fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(BLANKS);
    match text.find(BLANKS) {
        _ if text.is_empty() => None,
        Some(end) => Some((&text[..end], &text[end + 1..])),
        None => Some((text, "")),
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backslashes_join_lines() {
        let text = "# no\\\nthing\n\nalias a \\\n  b\nalias c\\d e\nlast\\";
        let own = |number: usize, line: &str| (number, line.to_owned());
        // The comment goes on behind its backslash.
        assert_eq!(lines(text), [own(4, "alias a   b"), own(6, "alias cd e"), own(7, "last")]);
    }

    #[test]
    fn words_end_at_blanks() {
        assert_eq!(word("  options\t x  y=1"), Some(("options", " x  y=1")));
        assert_eq!(word("one"), Some(("one", "")));
        assert_eq!(word(" \t "), None);
    }
}

//! The patterns of `modules.alias`: `fnmatch` as modprobe calls it, without flags.

/// Does `pattern` match all of `text`? `*`, `?`, `[a-z]`, `[!a-z]` and `\` as in a shell; `/` is nothing special.
///
/// Time is bounded by `pattern.len() * text.len()`: only the last `*` is ever tried again.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on after a mismatch: behind the last star, one character later than before.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        let next = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(_), Some(&c)) => one(&pattern[p..], c),
            _ => None,
        };
        match (next, &mut retry) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after_star, from))) if *from < text.len() => {
                *from += 1;
                (p, t) = (*after_star, *from);
            }
            _ => return false,
        }
    }
}

/// Does a pattern stand for more than itself?
pub(crate) fn is_pattern(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '\\'])
}

/// The length of the first element of `pattern`, if that element matches `c`.
fn one(pattern: &[u8], c: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == c).then_some(2),
        [b'[', rest @ ..] => match bracket(rest, c) {
            Some((length, inside)) => inside.then_some(length + 1),
            // An unclosed bracket stands for itself.
            None => (c == b'[').then_some(1),
        },
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}

/// The length of a bracket expression behind its `[`, and whether `c` is in it. `None` if it is not closed.
fn bracket(set: &[u8], c: u8) -> Option<(usize, bool)> {
    let negated = matches!(set.first(), Some(b'!' | b'^'));
    let start = usize::from(negated);
    let mut at = start;
    let mut inside = false;
    loop {
        match set.get(at..)? {
            [] => return None,
            // A `]` in first place is a member.
            [b']', ..] if at > start => return Some((at + 1, inside != negated)),
            [low, b'-', high, ..] if *high != b']' => {
                inside |= (*low..=*high).contains(&c);
                at += 3;
            }
            [member, ..] => {
                inside |= *member == c;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_match_any_run_of_characters() {
        assert!(matches("pci:v00008086d*sv*", "pci:v00008086d00001572sv00000000"));
        assert!(!matches("pci:v00008086d*sv*bc03", "pci:v00008086d00001572sv00000000"));
        assert!(matches("*", ""));
        assert!(matches("a**b", "ab"));
        assert!(!matches("", "a"));
    }

    #[test]
    fn brackets_hold_ranges_and_may_be_negated() {
        assert!(matches("usb:d[0-9a-f]?", "usb:dc9"));
        assert!(!matches("usb:d[!0-9]x", "usb:d7x"));
        assert!(matches("a[]]b", "a]b"));
        assert!(matches("a[b", "a[b"));
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = "*a".repeat(500) + "b";
        assert!(!matches(&pattern, &"a".repeat(5000)));
    }
}

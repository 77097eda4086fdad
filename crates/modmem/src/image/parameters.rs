//! Module parameters: those that a module declares, and the grammar of those that a user gives.

use alloc::collections::BTreeMap;

use super::modinfo::ModInfo;
use crate::name::Name;

/// A parameter that a module declares with `parm=` and `parmtype=` in its `.modinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// Its name, without the module's.
    pub name: Name<'a>,
    /// Its type as `module_param()` has it: `int`, `charp`, `array of int` ...
    pub kind: Option<Name<'a>>,
    /// What it is for.
    pub description: Option<Name<'a>>,
}

/// Declared parameters: every `parmtype`, then every `parm` that describes a name without a type.
pub(super) fn declared<'a>(modinfo: &ModInfo<'a>) -> impl Iterator<Item = Parameter<'a>> + use<'a> {
    let first_of = |key| {
        let mut first = BTreeMap::new();
        for (name, text) in modinfo.all(key).filter_map(split_colon) {
            first.entry(name).or_insert(text);
        }
        first
    };
    let (kinds, descriptions) = (first_of("parmtype"), first_of("parm"));
    let modinfo = *modinfo;
    let untyped =
        modinfo.all("parm").filter_map(split_colon).filter(move |(name, _)| !kinds.contains_key(name));
    let typed = modinfo.all("parmtype").filter_map(split_colon).map(move |(name, kind)| Parameter {
        name,
        kind: Some(kind),
        description: descriptions.get(&name).copied(),
    });
    typed.chain(untyped.map(|(name, text)| Parameter { name, kind: None, description: Some(text) }))
}

fn split_colon(value: Name<'_>) -> Option<(Name<'_>, Name<'_>)> {
    let colon = memchr::memchr(b':', value.bytes())?;
    Some((Name(&value.bytes()[..colon]), Name(&value.bytes()[colon + 1..])))
}

/// One `name` or `name=value` that a user gives to a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument<'a> {
    /// Name as written; `-` and `_` are the same to Linux.
    pub name: Name<'a>,
    /// The value without its outer quotes, `None` for a bare name.
    pub value: Option<Name<'a>>,
}

/// Splits a module's argument string as Linux does (lib/cmdline.c:next_arg).
///
/// Arguments are separated by white space; a `"` begins or ends quoted text wherever it stands; the first `=` that
/// is not the first character parts name and value; one pair of outer quotes is removed, and there are no escapes.
/// A bare `--` ends the list. Linux looks at bytes, and takes them for Latin-1: the byte 0xa0 is a space, also where it
/// is one of the bytes of a letter.
#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    rest: &'a [u8],
}

impl<'a> Arguments<'a> {
    /// The arguments of `text`.
    pub fn new(text: impl Into<Name<'a>>) -> Arguments<'a> {
        Arguments { rest: text.into().bytes() }
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = Argument<'a>;

    fn next(&mut self) -> Option<Argument<'a>> {
        let start = self.rest.iter().position(|&byte| !is_space(byte)).unwrap_or(self.rest.len());
        let rest = &self.rest[start..];
        if rest.is_empty() {
            self.rest = rest;
            return None;
        }
        let whole_quoted = rest.starts_with(b"\"");
        let text = rest.strip_prefix(b"\"").unwrap_or(rest);
        let mut quoted = whole_quoted;
        let mut equals = None;
        let mut end = text.len();
        for (at, &byte) in text.iter().enumerate() {
            if is_space(byte) && !quoted {
                end = at;
                break;
            }
            if byte == b'=' && equals.is_none() && at > 0 {
                equals = Some(at);
            }
            quoted ^= byte == b'"';
        }
        self.rest = &text[end..];
        let token = &text[..end];
        fn unclosed(text: &[u8]) -> Name<'_> {
            Name(text.strip_suffix(b"\"").unwrap_or(text))
        }
        let argument = match equals {
            None if whole_quoted => Argument { name: unclosed(token), value: None },
            None => Argument { name: Name(token), value: None },
            Some(at) => {
                let value = &token[at + 1..];
                let value = match value.strip_prefix(b"\"") {
                    Some(inner) => unclosed(inner),
                    None if whole_quoted => unclosed(value),
                    None => Name(value),
                };
                Argument { name: Name(&token[..at]), value: Some(value) }
            }
        };
        if argument == (Argument { name: Name(b"--"), value: None }) {
            self.rest = &[];
            return None;
        }
        Some(argument)
    }
}

/// Linux's isspace() (lib/ctype.c).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\x0b' | b'\x0c' | b'\r' | 0xa0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn split(text: &str) -> Vec<(&str, Option<&str>)> {
        let arguments = Arguments::new(text);
        arguments.map(|a| (a.name.as_str().unwrap(), a.value.map(|value| value.as_str().unwrap()))).collect()
    }

    #[test]
    fn arguments_split_at_white_space_and_the_first_equals_sign() {
        assert_eq!(
            split("  debug=1\tname=a=b quiet "),
            [("debug", Some("1")), ("name", Some("a=b")), ("quiet", None)]
        );
    }

    #[test]
    fn quotes_keep_white_space_wherever_they_stand() {
        assert_eq!(
            split(r#"a="x y" "b=c d" e=f" g"h "i j""#),
            [("a", Some("x y")), ("b", Some("c d")), ("e", Some("f\" g\"h")), ("i j", None)]
        );
    }

    #[test]
    fn a_no_break_space_in_latin_1_is_a_space_also_inside_of_a_letter() {
        // U+00E0 is C3 A0 in UTF-8.
        let found: Vec<_> = Arguments::new("a=1\u{e0} b").map(|a| (a.name, a.value)).collect();
        assert_eq!(found, [(Name(b"a"), Some(Name(b"1\xc3"))), (Name(b"b"), None)]);
        let found: Vec<_> = Arguments::new(Name(b"a=1\xa0b=2")).map(|a| a.value).collect();
        assert_eq!(found, [Some(Name(b"1")), Some(Name(b"2"))]);
    }

    #[test]
    fn two_dashes_end_the_list_and_a_leading_equals_sign_is_part_of_the_name() {
        assert_eq!(split("=x a=1 -- b=2"), [("=x", None), ("a", Some("1"))]);
    }
}

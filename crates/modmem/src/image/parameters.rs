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
    pub name: &'a str,
    /// The value without its outer quotes, `None` for a bare name.
    pub value: Option<&'a str>,
}

/// Splits a module's argument string as Linux does (lib/cmdline.c:next_arg).
///
/// Arguments are separated by white space; a `"` begins or ends quoted text wherever it stands; the first `=` that
/// is not the first character parts name and value; one pair of outer quotes is removed, and there are no escapes.
/// A bare `--` ends the list.
#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    rest: &'a str,
}

impl<'a> Arguments<'a> {
    /// The arguments of `text`.
    pub fn new(text: &'a str) -> Arguments<'a> {
        Arguments { rest: text }
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = Argument<'a>;

    fn next(&mut self) -> Option<Argument<'a>> {
        let rest = self.rest.trim_start_matches(is_space);
        if rest.is_empty() {
            self.rest = rest;
            return None;
        }
        let whole_quoted = rest.starts_with('"');
        let text = rest.strip_prefix('"').unwrap_or(rest);
        let mut quoted = whole_quoted;
        let mut equals = None;
        let mut end = text.len();
        for (at, character) in text.char_indices() {
            if is_space(character) && !quoted {
                end = at;
                break;
            }
            if character == '=' && equals.is_none() && at > 0 {
                equals = Some(at);
            }
            quoted ^= character == '"';
        }
        self.rest = &text[end..];
        let token = &text[..end];
        let unclosed = |text: &'a str| text.strip_suffix('"').unwrap_or(text);
        let argument = match equals {
            None if whole_quoted => Argument { name: unclosed(token), value: None },
            None => Argument { name: token, value: None },
            Some(at) => {
                let value = &token[at + 1..];
                let value = match value.strip_prefix('"') {
                    Some(inner) => unclosed(inner),
                    None if whole_quoted => unclosed(value),
                    None => value,
                };
                Argument { name: &token[..at], value: Some(value) }
            }
        };
        if argument == (Argument { name: "--", value: None }) {
            self.rest = "";
            return None;
        }
        Some(argument)
    }
}

fn is_space(character: char) -> bool {
    // Linux's isspace(): Latin-1 white space, of which U+00A0 never starts a UTF-8 sequence in practice.
    matches!(character, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn split(text: &str) -> Vec<(&str, Option<&str>)> {
        Arguments::new(text).map(|a| (a.name, a.value)).collect()
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
    fn two_dashes_end_the_list_and_a_leading_equals_sign_is_part_of_the_name() {
        assert_eq!(split("=x a=1 -- b=2"), [("=x", None), ("a", Some("1"))]);
    }
}

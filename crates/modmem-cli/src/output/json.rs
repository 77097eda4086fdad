//! JSON: the same facts for programs. Every document says which schema it follows; docs/json.md describes them.
//!
//! Addresses are strings of hexadecimal digits, because not every reader of JSON has 64-bit integers; sizes and
//! counts are numbers.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter, Serializer};

use modmem::layout::MemoryKind;
use modmem::{RunAddr, Visible, is_hidden};

/// Counts up when a document changes in a way that breaks its readers.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a, T> {
    schema: &'a str,
    version: u32,
    #[serde(flatten)]
    body: T,
}

/// Prints a document of the schema `modmem.NAME`.
pub(crate) fn print<T: Serialize>(name: &str, body: T) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    write(&mut out, name, body)?;
    out.flush()?;
    Ok(())
}

/// The same to anywhere.
pub(crate) fn write<T: Serialize>(out: &mut impl Write, name: &str, body: T) -> Result<()> {
    let schema = format!("modmem.{name}");
    let mut serializer = Serializer::with_formatter(&mut *out, Plain::default());
    let document = Document { schema: &schema, version: VERSION, body };
    document.serialize(&mut serializer).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Pretty JSON whose strings have nothing in them that nobody would see: what is decoded from it is as harmless as the
/// text that is printed for people.
#[derive(Debug, Default)]
struct Plain(PrettyFormatter<'static>);

/// Hands all that is no string to the pretty one.
macro_rules! as_pretty {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {
        $(fn $name<W: ?Sized + Write>(&mut self, out: &mut W, $($argument: $kind),*) -> io::Result<()> {
            self.0.$name(out, $($argument),*)
        })*
    };
}

impl Formatter for Plain {
    as_pretty! {
        begin_array(); end_array(); begin_array_value(first: bool); end_array_value();
        begin_object(); end_object(); begin_object_key(first: bool); begin_object_value(); end_object_value();
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        match fragment.contains(is_hidden) {
            // A backslash of a string is two in JSON; those of the fragment itself were passed on before.
            true => out.write_all(Visible(fragment).to_string().replace('\\', "\\\\").as_bytes()),
            false => out.write_all(fragment.as_bytes()),
        }
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        let control = match escape {
            CharEscape::Backspace => 8,
            CharEscape::FormFeed => 12,
            CharEscape::CarriageReturn => 13,
            CharEscape::AsciiControl(byte) => byte,
            // Lines and tabs stay what they are.
            other => return self.0.write_char_escape(out, other),
        };
        write!(out, "\\\\u{{{control:x}}}")
    }
}

/// An address in a document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address(pub(crate) RunAddr);

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A memory type in a document, by the name that modmem prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind(pub(crate) MemoryKind);

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_have_nothing_hidden_in_them_also_when_they_are_decoded() {
        let mut out = Vec::new();
        let text = "a\\\u{202e}\"\u{1b}[0m\u{9b}\r\n\t\u{200b}ä";
        ["x", text].serialize(&mut Serializer::with_formatter(&mut out, Plain::default())).unwrap();
        let json = String::from_utf8(out).unwrap();
        assert!(!json.contains(|character| is_hidden(character) && character != '\n'), "{json}");
        let decoded: Vec<String> = serde_json::from_str(&json).unwrap();
        assert_eq!(decoded[1], "a\\\\u{202e}\"\\u{1b}[0m\\u{9b}\\u{d}\n\t\\u{200b}ä");
    }
}

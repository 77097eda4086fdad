//! JSON: the same facts for programs. Every document says which schema it follows; docs/json.md describes them.
//!
//! Addresses are strings of hexadecimal digits, because not every reader of JSON has 64-bit integers; sizes and
//! counts are numbers.

use std::io::Write as _;

use anyhow::Result;
use serde::Serialize;

use modmem::RunAddr;
use modmem::layout::MemoryKind;

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
    let schema = format!("modmem.{name}");
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, &Document { schema: &schema, version: VERSION, body })
        .map_err(std::io::Error::from)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
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

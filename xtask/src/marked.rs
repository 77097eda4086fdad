//! Tables in documents that a chore writes, between two marks.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Where a table stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marked {
    /// Below the repository's root.
    pub(crate) document: &'static str,
    pub(crate) begin: &'static str,
    pub(crate) end: &'static str,
}

impl Marked {
    /// Writes the table into its document.
    pub(crate) fn write(&self, table: &str) -> Result<()> {
        let document = self.with_table(&self.read()?, table)?;
        std::fs::write(path(self.document), document).context(self.document)
    }

    /// Whether the document has that table.
    #[cfg(test)]
    pub(crate) fn has(&self, table: &str) -> Result<bool> {
        let document = self.read()?;
        Ok(document == self.with_table(&document, table)?)
    }

    fn read(&self) -> Result<String> {
        std::fs::read_to_string(path(self.document)).context(self.document)
    }

    /// The document, with another table between the two marks.
    fn with_table(&self, document: &str, table: &str) -> Result<String> {
        let Marked { document: name, begin, end } = self;
        let between = || Some((document.split_once(begin)?, document.split_once(end)?));
        let ((before, _), (_, after)) =
            between().with_context(|| format!("{name} has no place for {begin}"))?;
        ensure!(before.len() < document.len() - after.len(), "{name}: the marks of the table are swapped");
        Ok(format!("{before}{begin}\n{table}\n{end}{after}"))
    }
}

/// A file of the repository.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_without_a_place_for_the_table_is_told() {
        let place = Marked { document: "x", begin: "<b>\n", end: "<e>\n" };
        assert!(place.with_table("nothing", "table").is_err());
        assert!(place.with_table("<e>\n<b>\n", "table").is_err());
        assert_eq!(place.with_table("a\n<b>\nold<e>\nb", "t").unwrap(), "a\n<b>\n\nt\n<e>\nb");
    }
}

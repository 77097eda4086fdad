//! Whether the kernel's configuration is that of its files.
//!
//! Which rules hold follows from it, and the snapshot's copy is the machine's own word.

use std::collections::BTreeSet;

use crate::snapshot::Snapshot;

impl Snapshot {
    /// Puts the configuration of the kernel's files in place of the machine's own; says where the two differ.
    pub fn check_config(&mut self, files: &str) -> Option<String> {
        let own = self.config.replace(files.to_owned())?;
        let (own, files) = (settings(&own), settings(files));
        let name = |line: &&str| line.split_once('=').map_or((*line).to_owned(), |(name, _)| name.to_owned());
        let differing: Vec<String> = own.symmetric_difference(&files).map(name).collect();
        let first = differing.first()?;
        Some(format!(
            "the machine's configuration is not that of the kernel's files: {first} differs ({} settings in all)",
            differing.len()
        ))
    }
}

/// What a configuration sets, each option once.
fn settings(config: &str) -> BTreeSet<&str> {
    config.lines().map(str::trim).filter(|line| line.starts_with("CONFIG_") && line.contains('=')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_was_changed_is_told_and_replaced() {
        let files = "# a comment\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x\"\n";
        let machine = |config: &str| Snapshot { config: Some(config.to_owned()), ..Snapshot::default() };
        assert_eq!(machine("CONFIG_C=\"x\"\nCONFIG_A=y").check_config(files), None);
        let mut changed = machine("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=\"x\"\n");
        assert!(changed.check_config(files).unwrap().contains("CONFIG_B"));
        assert_eq!(changed.config.as_deref(), Some(files));
        assert_eq!(Snapshot::default().check_config(files), None);
    }
}

//! What modmem depends on, held to `deny.toml`: licences, sources, and versions that anything would fit.
//!
//! It reads the same file as `cargo deny check bans licenses sources` and does the same with what that file says; who has
//! cargo-deny runs that. Building cargo-deny takes longer than the rest of the gate may.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::command;

/// The workspaces of this repository, and whether a user of modmem builds them.
const WORKSPACES: [(&str, bool); 3] = [(".", true), ("examples/freestanding", true), ("fuzz", false)];
/// Licences of what only developers build, beside those that are allowed everywhere: libFuzzer's.
const FOR_DEVELOPERS: [&str; 1] = ["NCSA"];
/// The only registry.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What `deny.toml` says, as far as it is used.
#[derive(Debug, Default, PartialEq)]
struct Rules {
    licences: Vec<String>,
    denies_wildcards: bool,
    denies_unknown_registries: bool,
}

/// Checks all packages of all workspaces.
///
/// # Errors
/// One of them breaks a rule.
pub fn run() -> Result<()> {
    let rules = rules(&fs::read_to_string("deny.toml").context("deny.toml")?)?;
    let mut broken = Vec::new();
    for (folder, ships) in WORKSPACES {
        let mut cargo = command::cargo();
        let manifest = Path::new(folder).join("Cargo.toml");
        cargo.args(["metadata", "--format-version", "1", "--locked", "--manifest-path"]).arg(manifest);
        let output = cargo.output().context("cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
        let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
        let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
        for package in packages {
            broken.extend(check(package, &rules, ships).into_iter().map(|what| format!("{folder}: {what}")));
            *versions.entry(package["name"].as_str().unwrap_or_default()).or_default() += 1;
        }
        let twice: Vec<&str> =
            versions.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name).collect();
        let twice = if twice.is_empty() {
            String::new()
        } else {
            format!("; in several versions: {}", twice.join(", "))
        };
        println!("dependencies: {folder}: {} packages{twice}", packages.len());
    }
    match broken.is_empty() {
        true => Ok(()),
        false => bail!("deny.toml is not kept to:\n  {}", broken.join("\n  ")),
    }
}

/// What one package breaks.
fn check(package: &Value, rules: &Rules, ships: bool) -> Vec<String> {
    let name = format!(
        "{} {}",
        package["name"].as_str().unwrap_or_default(),
        package["version"].as_str().unwrap_or_default()
    );
    let mut broken = Vec::new();
    let source = package["source"].as_str();
    if rules.denies_unknown_registries && source.is_some_and(|source| source != REGISTRY) {
        broken.push(format!("{name} comes from {}", source.unwrap_or_default()));
    }
    let licence = package["license"].as_str().unwrap_or_default();
    let allowed = |one: &str| {
        rules.licences.iter().any(|allowed| allowed == one) || (!ships && FOR_DEVELOPERS.contains(&one))
    };
    if !is_allowed(licence, &allowed) {
        broken.push(format!("{name} has licence \"{licence}\""));
    }
    let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
    // Of somebody else's packages the lock file decides; a path has no version.
    let own = dependencies.iter().filter(|_| source.is_none() && rules.denies_wildcards);
    for dependency in own.filter(|dependency| dependency["path"].is_null() && dependency["req"] == "*") {
        broken.push(format!("{name} depends on any version of {}", dependency["name"]));
    }
    broken
}

/// Whether a licence expression can be met with licences that are allowed. `/` is an old way to write `OR`.
fn is_allowed(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any_of(&words, &mut at, allowed);
    met && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all_of(words, at, allowed);
    }
    met
}

fn all_of(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one_of(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one_of(words, at, allowed);
    }
    met
}

fn one_of(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let Some(word) = words.get(*at) else {
        // Something is missing: no place is the end.
        *at = words.len() + 1;
        return false;
    };
    *at += 1;
    if *word == "(" {
        let met = any_of(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += usize::from(closed);
        return met && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return allowed(&format!("{word} WITH {exception}"));
    }
    allowed(word)
}

/// Reads `deny.toml`, of which only lines of `key = value` are used, lists in one line.
fn rules(text: &str) -> Result<Rules> {
    let (mut rules, mut part) = (Rules::default(), "");
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            part = name;
            continue;
        }
        let (key, value) = line.split_once('=').with_context(|| format!("deny.toml: {line}"))?;
        match (part, key.trim()) {
            ("licenses", "allow") => {
                let list = value.trim().strip_prefix('[').and_then(|list| list.strip_suffix(']'));
                let list = list.context("deny.toml: [licenses] allow is no list in one line")?;
                rules.licences = list.split(',').map(|one| one.trim().trim_matches('"').to_owned()).collect();
            }
            ("bans", "wildcards") => rules.denies_wildcards = value.trim() == "\"deny\"",
            ("sources", "unknown-registry") => rules.denies_unknown_registries = value.trim() == "\"deny\"",
            _ => {}
        }
    }
    ensure!(!rules.licences.is_empty(), "deny.toml allows no licence");
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_or_not() {
        let allowed =
            |one: &str| ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].contains(&one);
        for met in [
            "MIT",
            "MIT OR GPL-2.0-only",
            "GPL-2.0-only/MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
        ] {
            assert!(is_allowed(met, &allowed), "{met}");
        }
        for unmet in
            ["", "GPL-2.0-only", "MIT AND GPL-2.0-only", "(MIT", "MIT OR", "MIT Apache-2.0", "MIT WITH Foo"]
        {
            assert!(!is_allowed(unmet, &allowed), "{unmet}");
        }
    }

    #[test]
    fn what_breaks_a_rule_is_told() {
        let rules = rules(
            "[licenses]\nallow = [\"MIT\"]\n[bans]\nwildcards = \"deny\"\n[sources]\nunknown-registry = \"deny\"\n",
        );
        let rules = rules.unwrap();
        let package = |text: &str| check(&serde_json::from_str(text).unwrap(), &rules, true);
        assert!(package(r#"{"name": "a", "license": "MIT", "source": null, "dependencies": []}"#).is_empty());
        let told = package(
            r#"{"name": "a", "license": "GPL-3.0", "source": null, "dependencies": [{"name": "b", "req": "*", "path": null}]}"#,
        );
        assert!(
            told.len() == 2 && told[0].contains("GPL-3.0") && told[1].contains("any version"),
            "{told:?}"
        );
        let told = package(
            r#"{"name": "a", "license": "MIT", "source": "git+https://example.org", "dependencies": []}"#,
        );
        assert!(told[0].contains("example.org"), "{told:?}");
    }
}

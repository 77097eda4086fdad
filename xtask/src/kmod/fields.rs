//! What modinfo says of a module's file.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use modmem_linux::{Field, Kernel, ModuleFile, module_fields};

use super::root::{output, tool};
use super::{Tally, in_parallel};

/// Files that one modinfo reads.
const AT_ONCE: usize = 100;

/// Where modinfo breaks long values.
const BREAK: &[u8] = b"\n\t\t";

/// What stands for one file: its fields in order, and its parameters in none.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    fields: Vec<Vec<u8>>,
    parameters: BTreeSet<Vec<u8>>,
}

pub(super) fn compare(kernel: &Kernel) -> Result<Tally> {
    let modules: Vec<&ModuleFile> = kernel.modules().collect();
    let tallies = in_parallel(&modules, |part| {
        let mut tally = Tally::default();
        for batch in part.chunks(AT_ONCE) {
            let mut command = tool("modinfo")?;
            command.arg("-0");
            for module in batch {
                command.arg(module.file().context("a module without a file")?);
            }
            let text = output(&mut command, true)?;
            let shown = theirs(&text);
            for (module, theirs) in batch.iter().zip(&shown) {
                let with_build_id = theirs.fields.iter().any(|field| field.starts_with(b"build-id="));
                let ours = ours(module_fields(&module.read()?), with_build_id);
                let difference = || {
                    let differs = |(a, b): &(&Vec<u8>, &Vec<u8>)| a != b;
                    let pair = theirs.fields.iter().zip(&ours.fields).find(differs);
                    let pair = pair.map(|(a, b)| (String::from_utf8_lossy(a), String::from_utf8_lossy(b)));
                    format!("{}: kmod and modmem: {pair:?}", module.path())
                };
                tally.add(difference, *theirs == ours);
            }
            for module in &batch[shown.len().min(batch.len())..] {
                tally.add(|| format!("{}: nothing of kmod", module.path()), false);
            }
        }
        Ok(tally)
    })?;
    Ok(tallies.into_iter().fold(Tally::default(), Tally::join))
}

/// What modinfo printed for each of several files, each value ended by a zero.
fn theirs(text: &[u8]) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for value in text.split(|&byte| byte == 0) {
        let Some(current) = all.last_mut().filter(|_| !value.starts_with(b"filename: ")) else {
            all.extend((!value.is_empty()).then(Shown::default));
            continue;
        };
        match value.strip_prefix(b"parm: ") {
            Some(parameter) => {
                current.parameters.insert(parameter.trim_ascii_start().to_vec());
            }
            None if value.is_empty() => {}
            None => current.fields.push(joined(value)),
        }
    }
    all
}

/// A value in one line.
fn joined(value: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, behind)) = rest.split_first() {
        match rest.strip_prefix(BREAK) {
            Some(behind) => rest = behind,
            None => {
                line.push(first);
                rest = behind;
            }
        }
    }
    line
}

/// The same of what modmem finds in a file. Older versions of kmod do not show build ids.
fn ours(fields: Vec<Field>, with_build_id: bool) -> Shown {
    let mut shown = Shown::default();
    let mut parameters: BTreeMap<Vec<u8>, [Option<Vec<u8>>; 2]> = BTreeMap::new();
    for Field { key, value } in fields {
        let part = match &*key {
            b"parm" => 0,
            b"parmtype" => 1,
            b"build-id" if !with_build_id => continue,
            _ => {
                shown.fields.push(joined(&[&key, &b"="[..], &value].concat()));
                continue;
            }
        };
        if let Some(colon) = value.iter().position(|&byte| byte == b':') {
            let (name, text) = (value[..colon].to_vec(), value[colon + 1..].to_vec());
            parameters.entry(name).or_default()[part] = Some(text);
        }
    }
    for (name, [text, kind]) in parameters {
        let mut line = [&name, &b":"[..]].concat();
        match (text, kind) {
            (Some(text), Some(kind)) => line.extend([&text, &b" ("[..], &kind, b")"].concat()),
            (Some(text), None) => line.extend(text),
            (None, kind) => line.extend(kind.unwrap_or_default()),
        }
        shown.parameters.insert(line);
    }
    shown
}

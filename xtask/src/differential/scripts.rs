//! Scripts by random: a few modules that use and hinder each other, loaded and unloaded in an order.

use super::generate::{Bases, CHANGES, Case, Closeness, Step};
use super::model::{Export, Model};
use crate::random::Random;

/// Names of modules: few, so that two of one name meet.
const NAMES: &[&str] = &["modmem_one", "modmem_two", "modmem_three", "modmem_four"];
/// Symbols that they export and use: the same.
const SYMBOLS: &[&str] = &["modmem_a", "modmem_b", "modmem_c", "modmem_d", "modmem_e"];
const NAMESPACES: &[&str] = &["", "", "", "MODMEM"];
const LICENSES: &[&str] = &["GPL", "GPL", "GPL", "Proprietary"];
/// How many of a hundred modules are changed as single ones are.
const CHANGED: usize = 8;

/// The script of a seed; with `only`, not all of its steps.
pub(super) fn script(seed: u64, bases: &Bases, only: Option<&[usize]>) -> Case {
    let mut random = Random::of(!seed).fork();
    // Their own exports would be in the way.
    let plain: Vec<_> = bases.iter().filter(|(_, model)| model.find("__ksymtab_strings").is_none()).collect();
    let (base, model) = plain.get(random.below(plain.len().max(1))).copied().unwrap_or(&bases[0]);
    let mut modules: Vec<Module> = Vec::new();
    for number in 0..random.one(&[2, 3, 4, 5]) {
        let name = if random.percent(85) { NAMES[number % NAMES.len()] } else { random.one(NAMES) };
        modules.push(Module::any(model, name, &modules, &mut random));
    }
    let (mut steps, mut changes, mut next) = (Vec::new(), Vec::new(), 0);
    for number in 0..random.one(&[4, 6, 8, 12]) {
        let any = &modules[random.below(modules.len())];
        let (name, kind) = (random.one(NAMES), random.below(10));
        let (what, step) = match kind {
            0 => (format!("unload {name}"), Step::Unload(name.to_owned())),
            1 | 2 => (format!("unload {}", any.name), Step::Unload(any.name.to_owned())),
            3 => (any.what.clone(), Step::Load(any.file.clone())),
            _ => {
                // In an order in which each finds what it uses.
                let module = &modules[next % modules.len()];
                next += 1;
                (module.what.clone(), Step::Load(module.file.clone()))
            }
        };
        if only.is_none_or(|only| only.contains(&number)) {
            changes.push((number, what));
            steps.push(step);
        }
    }
    Case { seed, base: base.clone(), changes, steps, closeness: Closeness::of(seed) }
}

/// A module of a script.
#[derive(Debug)]
struct Module {
    name: &'static str,
    exports: Vec<&'static str>,
    what: String,
    file: Vec<u8>,
}

impl Module {
    /// One that mostly uses what those before it export.
    fn any(model: &Model, name: &'static str, before: &[Module], random: &mut Random) -> Module {
        let mut model = model.clone();
        let mut what = format!("load {name}");
        // Where the model lacks what a change needs, the module goes without.
        let _ = model.set_name(name);
        let license = random.one(LICENSES);
        set_info(&mut model, "license", license);
        if license != LICENSES[0] {
            what += &format!(", {license}");
        }
        let count = random.one(&[0, 1, 1, 1, 2]);
        let names: Vec<(&'static str, bool)> =
            random.some(SYMBOLS, count).into_iter().map(|name| (name, random.percent(30))).collect();
        let namespace = random.one(NAMESPACES);
        let section = if random.percent(70) { ".text" } else { ".data" };
        let export = |&(name, gpl): &(&'static str, bool)| Export { name, gpl, namespace, section };
        let exports: Vec<Export<'_>> = names.iter().map(export).collect();
        if !exports.is_empty() && model.find(section).is_some() && model.add_exports(&exports).is_some() {
            let shown = names.iter().map(|(name, gpl)| format!("{name}{}", if *gpl { " (GPL)" } else { "" }));
            what += &format!(", exports {} in {namespace:?}", shown.collect::<Vec<_>>().join(" and "));
        }
        let offered: Vec<&str> = before.iter().flat_map(|module| module.exports.iter().copied()).collect();
        let from = if offered.is_empty() || random.percent(15) { SYMBOLS } else { &offered };
        let count = random.one(&[0, 1, 1, 2]);
        for symbol in random.some(from, count) {
            let weak = random.percent(20);
            what += &format!(", uses {symbol}{}", if weak { " weakly" } else { "" });
            let _ = import(&mut model, symbol, weak);
        }
        if random.percent(60) {
            set_info(&mut model, "import_ns", NAMESPACES[3]);
            what += ", imports the namespace";
        }
        if random.percent(CHANGED) {
            let (kind, change) = random.one(CHANGES);
            if let Some(change) = change(&mut model, &mut random.fork()) {
                what += &format!(", {kind}: {change}");
            }
        }
        let exports = names.into_iter().map(|(name, _)| name).collect();
        Module { name, exports, what, file: model.write() }
    }
}

/// An undefined symbol, and a pointer to it in a section of its own.
fn import(model: &mut Model, name: &str, weak: bool) -> Option<()> {
    let symbol = model.add_symbol(name, if weak { 0x20 } else { 0x10 }, 0, 0)?;
    let place = super::model::Section {
        name: format!(".data.{name}"),
        kind: super::model::SHT_PROGBITS,
        flags: 3,
        align: 8,
        bytes: vec![0; 8],
        ..Default::default()
    };
    let place = model.add(place);
    model.add_relocations(place, &[(0, 1, symbol, 0)]).map(drop)
}

/// One value of a key in .modinfo, instead of those that there are.
fn set_info(model: &mut Model, key: &str, value: &str) {
    let Some(at) = model.find(".modinfo") else { return };
    let bytes = &mut model.sections[at].bytes;
    let start = format!("{key}=");
    let kept =
        bytes.split(|byte| *byte == 0).filter(|one| !one.is_empty() && !one.starts_with(start.as_bytes()));
    let mut info: Vec<u8> = kept.flat_map(|one| one.iter().copied().chain([0])).collect();
    info.extend(format!("{start}{value}\0").bytes());
    *bytes = info;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_script_and_steps_can_be_left_out() {
        let sample = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../samples/root/lib/modules/6.12.0-sample/kernel/fs/sample/sample_fs.ko"
        );
        let model = Model::read(&std::fs::read(sample).unwrap()).unwrap().without_entries();
        let bases = [("sample".to_owned(), model)];
        for seed in 0..50 {
            let (one, again) = (script(seed, &bases, None), script(seed, &bases, None));
            assert_eq!(one.changes, again.changes);
            assert!(one.steps.len() >= 4 && one.steps.len() == one.changes.len());
            let few = script(seed, &bases, Some(&[1, 3]));
            assert_eq!(few.changes, [one.changes[1].clone(), one.changes[3].clone()]);
        }
        let loads = script(1, &bases, None);
        let loaded = loads.steps.iter().filter(|step| match step {
            Step::Load(file) => modmem::Image::parse(file).is_ok(),
            Step::Unload(_) => false,
        });
        assert!(loaded.count() > 0);
    }
}

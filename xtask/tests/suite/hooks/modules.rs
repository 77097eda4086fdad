//! Modules that are not what they seem.

use modmem_linux::snapshot::{Area, SymbolTable};
use modmem_linux::verify::{Outcome, StrayKind};

use crate::hooks::scene::Scene;

/// A module that nobody uses.
fn unused(scene: &Scene) -> usize {
    let modules = &scene.victim.snapshot.modules;
    let used = |name: &str| modules.iter().any(|module| module.users.iter().any(|user| user == name));
    // Its users are listed with itself.
    let free =
        modules.iter().position(|module| module.users.is_empty() && !used("") && module.size > 0x10000);
    free.expect("a module that nobody uses")
}

pub(crate) fn hidden(scene: &mut Scene) {
    let at = unused(scene);
    let module = scene.victim.snapshot.modules.remove(at);
    let verification = scene.victim.verify();
    scene.verified("a module taken from the list", &verification, |verification| {
        let kinds = verification.strays.iter().map(|stray| &stray.kind);
        let mut named =
            kinds.filter(|kind| matches!(kind, StrayKind::Unlisted(name) if *name == module.name));
        named.next().is_some()
    });
    // From kallsyms, too.
    let symbols = scene.victim.snapshot.symbols.iter().filter(|s| s.module != Some(&module.name));
    let symbols = SymbolTable::new(symbols).expect("fewer symbols");
    let all = std::mem::replace(&mut scene.victim.snapshot.symbols, symbols);
    let verification = scene.victim.verify();
    scene.verified("a module taken from the list and from kallsyms", &verification, |verification| {
        verification.strays.iter().any(|stray| {
            stray.range.contains(&module.address)
                && matches!(stray.kind, StrayKind::NoOwner | StrayKind::Between)
        })
    });
    // Its own memory tells what it is.
    let told = verification.hidden.iter().find(|hidden| hidden.name == module.name);
    let told = told.unwrap_or_else(|| panic!("{} is not told: {:?}", module.name, verification.hidden.len()));
    assert!(told.contains(module.address), "{told:?}");
    let own = all.iter().filter(|symbol| symbol.module == Some(&module.name)).count();
    assert!(told.symbols.len() * 10 >= own * 9, "{} of {own} symbols", told.symbols.len());
    assert!(told.imports.iter().any(|import| import.module.is_none()), "{:?}", told.imports);
    scene.victim.snapshot.symbols = all;
    scene.victim.snapshot.modules.insert(at, module);
    assert!(scene.victim.verify().is_clean(), "all is as it was");
}

/// Memory between modules that none of them has, two pages at `start`.
pub(crate) fn foreign_memory(scene: &mut Scene, start: u64) {
    for (what, caller) in [
        ("memory that somebody unknown asked for", "create_hideout"),
        ("memory that nobody asked for", ""),
        ("memory of a module that is in no list", "load_module"),
        ("executable memory that is in no list", "execmem_alloc"),
    ] {
        let area =
            Area { range: start..start + 0x2000, caller: caller.into(), rest: "pages=1 vmalloc".into() };
        let areas = &mut scene.victim.snapshot.areas;
        let at = areas.partition_point(|other| other.range.start < start);
        areas.insert(at, area);
        let verification = scene.victim.verify();
        scene.victim.snapshot.areas.remove(at);
        scene.verified(what, &verification, |verification| {
            verification
                .strays
                .iter()
                .any(|stray| stray.kind == StrayKind::NoOwner && stray.range.start == start)
        });
    }
}

pub(crate) fn of_other_files(scene: &mut Scene) {
    let names = scene.victim.modules();
    let (one, other) = (names[names.len() - 1].clone(), names[names.len() - 2].clone());
    let right = scene.victim.files[&one].clone();
    let not_clean = |what: &str, scene: &mut Scene, name: &str| {
        let verification = scene.victim.verify();
        let name = name.to_owned();
        scene.verified(what, &verification, |verification| {
            let checked = verification.modules.iter().find(|checked| checked.name == name);
            let differs = checked.is_some_and(|checked| match &checked.outcome {
                Outcome::Compared(report) => !report.is_clean(),
                Outcome::NotComparable(why) => why.starts_with("the file is of another build"),
                Outcome::NoFile => true,
            });
            differs && !verification.strays.iter().any(|stray| stray.kind.is_unexplained())
        });
    };
    scene.victim.files.insert(one.clone(), scene.victim.files[&other].clone());
    not_clean("the file of another module", scene, &one);
    scene.victim.files.remove(&one);
    not_clean("a module without a file", scene, &one);
    scene.victim.files.insert(one, right);
    assert!(scene.victim.verify().is_clean(), "all is as it was");
}

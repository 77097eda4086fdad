//! The table of who hooks what, and a hidden module told as one, on a kernel in which a module hooks another by ftrace.

use std::path::PathBuf;

use modmem_linux::snapshot::{Snapshot, SymbolTable};
use modmem_linux::verify::{HookRow, HookWay, Options, Owner, Verification};

/// The recording, which lies beside those that `MODMEM_ORACLE` names.
fn recorded() -> Snapshot {
    let oracle = PathBuf::from(std::env::var_os("MODMEM_ORACLE").expect("MODMEM_ORACLE"));
    let folder = oracle.parent().expect("a folder").join("fresh/ftracehook-6.12-silent");
    Snapshot::open(folder).unwrap_or_else(|error| panic!("{error}"))
}

fn verify(snapshot: &Snapshot) -> Verification {
    let files = snapshot.module_files.as_ref().expect("files").read().unwrap();
    let mut file = |name: &str| Ok(files.get(name).cloned());
    modmem_linux::verify::verify(snapshot, &Options::default(), &mut file).unwrap()
}

/// The one row, whose site must be this function.
fn row(verification: &Verification, snapshot: &Snapshot) -> HookRow {
    let [row] = &verification.hooks[..] else { panic!("{:?}", verification.hooks) };
    let [site] = row.sites[..] else { panic!("{row:?}") };
    let near = snapshot.symbols.nearest(site.address, Some("ext4")).expect("a symbol");
    assert_eq!((near.symbol.name, near.offset), ("ext4_file_open", 4));
    row.clone()
}

#[test]
#[cfg_attr(not(alarms), ignore = "no recordings beside those of MODMEM_ORACLE")]
fn a_function_that_another_module_traces_names_both() {
    let mut snapshot = recorded();
    let verification = verify(&snapshot);
    assert!(verification.is_clean(), "a hook by the book is explained");
    let row = row(&verification, &snapshot);
    assert_eq!((row.way, row.explained), (HookWay::Ftrace, true));
    let names = |address: Option<u64>, snapshot: &Snapshot| -> Vec<String> {
        let here = snapshot.symbols.at_address(address.expect("an address"));
        here.map(|symbol| symbol.name.to_owned()).collect()
    };
    assert_eq!(row.by.owner, Owner::Module("fw_tamper".into()));
    assert_eq!(names(row.by.function, &snapshot), ["cb"]);
    assert_eq!(names(row.by.description, &snapshot), ["ops"]);
    assert_eq!(verification.hidden, []);

    // The same with the module taken from all lists.
    snapshot.modules.retain(|module| module.name != "fw_tamper");
    let others = snapshot.symbols.iter().filter(|symbol| symbol.module != Some("fw_tamper"));
    snapshot.symbols = SymbolTable::new(others).expect("fewer symbols");
    let verification = verify(&snapshot);
    assert!(!verification.is_clean());
    let [hidden] = &verification.hidden[..] else { panic!("{:?}", verification.hidden) };
    assert_eq!((hidden.name.as_str(), hidden.memories.len()), ("fw_tamper", 3));
    assert!(hidden.symbols.iter().any(|symbol| symbol.name == "fw_evil_open"));
    assert!(hidden.imports.iter().any(|import| import.name == "register_kprobe"));
    let row = self::row(&verification, &snapshot);
    assert_eq!(row.by.owner, Owner::Hidden("fw_tamper".into()));
}

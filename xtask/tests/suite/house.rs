//! What ARCHITECTURE.md says of the library's source, held against it.

use std::path::{Path, PathBuf};

/// The library's source.
const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/modmem/src");

/// Files below a folder, by their paths from there.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(sources(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

/// Lines of code that hold any of `words`, outside files that begin with one of `allowed`: tests and comments may speak of
/// anything.
fn lines_with(words: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let files = sources(Path::new(LIBRARY));
    assert!(files.len() > 50, "this is not the library's source: {}", files.len());
    for file in files {
        let name = file.strip_prefix(LIBRARY).unwrap().to_str().unwrap().to_owned();
        if allowed.iter().any(|start| name.starts_with(start)) || name.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        let lines = lines.filter(|(_, line)| words.iter().any(|word| line.contains(word)));
        found.extend(lines.map(|(number, line)| format!("{name}:{}: {}", number + 1, line.trim())));
    }
    found
}

#[test]
fn versions_are_compared_in_profiles_and_in_machines_folders_alone() {
    let found = lines_with(&["KernelVersion::new("], &["profile/", "arch/"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_is_in_no_machine_s_folder_does_not_ask_which_machine_it_is() {
    let machines = ["Machine::X86_64", "Machine::Arm64", "Machine::S390", "Machine::PowerPc"];
    // Names of machines in configurations, and the one that is meant where nothing says it.
    let found = lines_with(&machines, &["arch/", "profile/config.rs", "profile/mod.rs"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_word_of_the_kernel_s_is_captured_and_read_by_a_rule() {
    let folders = sources(Path::new(LIBRARY)).into_iter().filter(|file| {
        file.ends_with("words.rs") && file.parent().is_some_and(|folder| !folder.ends_with("arch"))
    });
    let mut machines = 0;
    for file in folders {
        machines += 1;
        let text = std::fs::read_to_string(&file).unwrap();
        let (declared, captured) = text.split_once("const WORDS").unwrap();
        let names =
            declared.lines().filter_map(|line| line.strip_prefix("pub(super) const ")?.split_once(':'));
        let names: Vec<&str> = names.map(|(name, _)| name).collect();
        assert!(!names.is_empty(), "{}", file.display());
        let rules: String = sources(&file.parent().unwrap().join("finalize"))
            .iter()
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect();
        for name in names {
            assert!(captured.contains(name), "{name} of {} is not captured", file.display());
            // Once where it is brought in, and once where it is read.
            assert!(rules.matches(name).count() > 1, "no rule reads {name} of {}", file.display());
        }
    }
    assert_eq!(machines, 4);
}

#[test]
fn rules_read_the_kernel_s_variables_as_words_that_are_captured() {
    let of_kernel =
        ["guest.read(RunAddr(symbol(", "guest.bytes(RunAddr(symbol(", "RunAddr(guest.kernel_symbol("];
    assert_eq!(lines_with(&of_kernel, &["arch/words.rs"]), [""; 0]);
}

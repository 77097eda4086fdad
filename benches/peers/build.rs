//! Compiles the JITLink contender if LLVM's development files are there; without them the program has one
//! contender less.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(have_jitlink)");
    println!("cargo::rerun-if-changed=src/jitlink.cpp");
    println!("cargo::rerun-if-env-changed=LLVM_CONFIG");
    // Before 20, names of symbols were plain strings in LLVM's interface.
    let candidates = match env::var("LLVM_CONFIG") {
        Ok(config) => vec![config],
        Err(_) => (20..=23).rev().map(|n| format!("llvm-config-{n}")).chain(["llvm-config".into()]).collect(),
    };
    let Some((config, version)) = candidates.iter().find_map(|config| {
        let version = ask(config, &["--version"])?;
        let major: u32 = version.split('.').next()?.parse().ok()?;
        (major >= 20).then_some((config, version))
    }) else {
        println!(
            "cargo::warning=no llvm-config of LLVM 20 or later (set LLVM_CONFIG): built without JITLink"
        );
        return;
    };
    let say = |arguments: &[&str]| ask(config, arguments).unwrap_or_default();

    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3).warnings(false).file("src/jitlink.cpp");
    for flag in say(&["--cxxflags"]).split_whitespace().filter(|flag| !flag.starts_with("-std=")) {
        build.flag(flag);
    }
    if say(&["--has-rtti"]) == "NO" {
        build.flag("-fno-rtti");
    }
    build.compile("jitlink");

    println!("cargo::rustc-link-search=native={}", say(&["--libdir"]));
    for library in say(&["--libs", "orcjit", "jitlink", "support"]).split_whitespace() {
        println!("cargo::rustc-link-lib={}", library.trim_start_matches("-l"));
    }
    println!("cargo::rustc-cfg=have_jitlink");
    println!("cargo::rustc-env=JITLINK_NAME=JITLink {version}");
}

fn ask(config: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(config).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

//! Builds the shared object that `_dl_find_object` finds copies of and, if `MODMEM_LINUX_SOURCE` names a Linux source
//! tree, the kernel's own latch tree from it.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(have_linux_source)");
    println!("cargo::rerun-if-env-changed=MODMEM_LINUX_SOURCE");
    println!("cargo::rerun-if-changed=src/contenders");
    tiny_object();
    match env::var_os("MODMEM_LINUX_SOURCE") {
        Some(tree) => kernel_latch_tree(Path::new(&tree)),
        None => println!(
            "cargo::warning=MODMEM_LINUX_SOURCE names no Linux source tree: its latch tree is left out"
        ),
    }
}

fn tiny_object() {
    let object = out_dir().join("tiny_object.so");
    let mut compile = cc::Build::new().get_compiler().to_command();
    compile.args(["-shared", "-fPIC", "-O2", "src/contenders/tiny_object.c", "-o"]).arg(&object);
    let status = compile.status().expect("a C compiler");
    assert!(status.success(), "{compile:?}: {status}");
    println!("cargo::rustc-env=TINY_OBJECT={}", object.display());
}

fn kernel_latch_tree(tree: &Path) {
    let rbtree = tree.join("lib/rbtree.c");
    // What the tree's headers include beside each other, all of it in one shim.
    let headers = out_dir().join("linux");
    std::fs::create_dir_all(&headers).expect("OUT_DIR can be written");
    for name in ["compiler", "container_of", "export", "rcupdate", "seqlock", "stddef"] {
        let header = headers.join(format!("{name}.h"));
        std::fs::write(header, "#include \"kernel_shim.h\"\n").expect("OUT_DIR can be written");
    }
    println!("cargo::rerun-if-changed={}", rbtree.display());
    cc::Build::new()
        .std("gnu11")
        .opt_level(2)
        .warnings(false)
        .include(out_dir())
        .include("src/contenders")
        .include(tree.join("include"))
        .file(rbtree)
        .file("src/contenders/kernel_latch_tree.c")
        .compile("kernel_latch_tree");
    println!("cargo::rustc-cfg=have_linux_source");
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"))
}

//! Kernel images, files of symbols, and fields of modules, as `--symbols`, a kernel's folder and `info` have them.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use modmem_linux::{Kernel, KernelImage, OpenOptions, module_fields};

fuzz_target!(|file: &[u8]| {
    let _ = module_fields(file);
    if let Ok(image) = KernelImage::read("fuzz", file.to_vec(), None) {
        let _ = (image.machine(), image.symbols().is_ok(), image.listed().is_ok(), image.facts().is_ok());
    }
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let write = |name: &str, contents: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, contents).expect("a file");
        path
    };
    write("boot/config-6.12", b"CONFIG_X86_64=y\n");
    let symbols = write("symbols", file);
    let options = OpenOptions { cache: None, offline: true, ..OpenOptions::default() };
    let root = folder.path().to_str().expect("a name");
    let Ok(kernel) = Kernel::open(&[root], &options) else { return };
    let _ = (kernel.symbols(Some(&symbols)).is_ok(), kernel.internal_symbols(Some(&symbols)).is_ok());
});

//! Packages: what unpacks has no file outside, what does not is an error.
//!
//! The input is the inside of the archive of data; the packing around it is right.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use modmem_linux::{Kernel, OpenOptions};

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let mut deb = b"!<arch>\n".to_vec();
    for (name, contents) in
        [("debian-binary", &b"2.0\n"[..]), ("control.tar", &[0; 1024]), ("data.tar", data)]
    {
        deb.extend(format!("{name:<16}{:<32}{:<10}`\n", 0, contents.len()).bytes());
        deb.extend(contents);
        deb.resize(deb.len().next_multiple_of(2), b'\n');
    }
    let path = folder.path().join("linux.deb");
    fs::write(&path, deb).expect("a file");
    let options =
        OpenOptions { cache: Some(folder.path().join("cache")), offline: true, ..OpenOptions::default() };
    let _ = Kernel::open(&[path.to_str().expect("a name")], &options);
    assert_eq!(fs::read_dir(folder.path()).map_or(0, Iterator::count) & !2, 0, "a file beside the package");
});

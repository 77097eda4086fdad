//! Kernel images of other machines, as their packages have them, beside what the same kernels showed when they ran.

use std::env;
use std::path::Path;

use modmem_linux::{Kernel, OpenOptions, SymbolSource};
use xtask::oracle::folder;

#[test]
#[cfg_attr(
    not(all(recordings, packages)),
    ignore = "MODMEM_ORACLE is not set, or the packages are not in the cache (modmem load --kernel debian:6.12.117:arm64)"
)]
fn real_kernels_have_the_symbols_that_they_show_when_they_run() {
    let mut options = OpenOptions { offline: true, ..OpenOptions::default() };
    if let Some(cache) = env::var_os("MODMEM_CACHE") {
        options.cache = Some(cache.into());
    }
    for (spec, oracle) in [("debian:6.12.117:arm64", "arm64-6.12"), ("debian:6.12.107:s390x", "s390x-6.12")] {
        let kernel = Kernel::open(&[spec], &options).unwrap();
        let packed = std::fs::read(folder(oracle).join("kallsyms.zst")).unwrap();
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kallsyms-{oracle}"));
        std::fs::write(&file, zstd::decode_all(&packed[..]).unwrap()).unwrap();
        let own = kernel.symbols(None).unwrap();
        let shown = kernel.symbols(Some(&file)).unwrap();
        assert!(matches!(own.source, SymbolSource::Image(_)) && own.symbols.len() > 8000);
        assert_eq!(own.symbols, shown.symbols, "{spec}");
        assert_eq!(own.image, shown.image, "{spec}");
    }
}

//! What a kernel's image exports to modules and where the kernel lies, and how another source tells it:
//!
//!     cargo run --release -p modmem-linux --example exports -- debian:6.12:s390x Module.symvers
//!
//! The other source may be `Module.symvers`, a `System.map` or a copy of `/proc/kallsyms`.

use modmem_linux::{Error, Kernel, KernelSymbol, OpenOptions, SymbolSource};
use std::{env, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((kernel, others)) = arguments.split_first() else {
        eprintln!("usage: exports KERNEL [FILE...]");
        return ExitCode::FAILURE;
    };
    match run(kernel, others) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(spec: &str, others: &[String]) -> Result<bool, Error> {
    let mut options = OpenOptions::default();
    if let Some(cache) = env::var_os("MODMEM_CACHE") {
        options.cache = Some(cache.into());
    }
    let kernel = Kernel::open(&[spec], &options)?;
    let symbols = kernel.symbols(None)?;
    println!("{} from {}: {:?}", kernel.release(), kernel.describe(), symbols.source);
    let gpl = symbols.symbols.iter().filter(|symbol| symbol.gpl_only).count();
    let spaces = symbols.symbols.iter().filter(|symbol| symbol.namespace.is_some()).count();
    println!("{} symbols, {gpl} for GPL modules only, {spaces} in namespaces", symbols.symbols.len());
    println!("{:x?}", symbols.image);
    let mut same = true;
    for other in others {
        let theirs = kernel.symbols(Some(Path::new(other)))?;
        let by_address = matches!(theirs.source, SymbolSource::SymbolFile(_));
        let differs = |symbol: &&KernelSymbol| match symbols.get(&symbol.name) {
            Some(own) if by_address => own.address != symbol.address,
            Some(own) => {
                (own.crc, own.gpl_only, &own.namespace) != (symbol.crc, symbol.gpl_only, &symbol.namespace)
            }
            None => true,
        };
        let wrong: Vec<&KernelSymbol> = theirs.symbols.iter().filter(differs).collect();
        println!("{other}: {} symbols, {} differ", theirs.symbols.len(), wrong.len());
        for symbol in wrong.iter().take(5) {
            println!("  {symbol:x?}, here {:x?}", symbols.get(&symbol.name));
        }
        same &= wrong.is_empty() && theirs.symbols.len() == symbols.symbols.len();
    }
    Ok(same)
}

//! What a kernel exports to modules, and where it lies: `exports debian:6.12:s390x [SYMBOL...]`.

use modmem_linux::{Error, Kernel, OpenOptions};
use std::{env, process::ExitCode};

fn run(spec: &str, wanted: &[String]) -> Result<(), Error> {
    let mut options = OpenOptions::default();
    if let Some(cache) = env::var_os("MODMEM_CACHE") {
        options.cache = Some(cache.into());
    }
    let kernel = Kernel::open(&[spec], &options)?;
    let symbols = kernel.symbols(None)?;
    println!("{} from {}: {:?}", kernel.release(), kernel.describe(), symbols.source);
    println!("{} symbols, {:x?}", symbols.symbols.len(), symbols.image);
    for symbol in &symbols.symbols {
        if wanted.iter().any(|name| **name == *symbol.name) {
            println!("{symbol:x?}");
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((spec, wanted)) = arguments.split_first() else {
        eprintln!("usage: exports KERNEL [SYMBOL...]");
        return ExitCode::FAILURE;
    };
    match run(spec, wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

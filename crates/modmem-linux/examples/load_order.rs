//! Prints what has to be loaded for some modules, and what the kernel itself provides:
//!
//!     cargo run --release -p modmem-linux --example load_order -- debian:6.12 ext4 snd-hda-intel

use modmem_linux::{Error, Kernel, OpenOptions};
use std::{env, process::ExitCode, time::Instant};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [source, modules @ ..] = arguments.as_slice() else {
        eprintln!("usage: load_order KERNEL MODULE...");
        return ExitCode::FAILURE;
    };
    match run(source, modules) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(source: &str, modules: &[String]) -> Result<(), Error> {
    let start = Instant::now();
    let lap = |what: &str| eprintln!("{:8.1} ms  {what}", start.elapsed().as_secs_f64() * 1e3);
    let kernel = Kernel::open(&[source], &OpenOptions::default())?;
    lap("opened");
    println!("{}, {} modules, from {}", kernel.release(), kernel.modules().count(), kernel.describe());
    let symbols = kernel.symbols(None)?;
    lap("kernel symbols");
    println!("{} symbols exported by the kernel ({:?})", symbols.symbols.len(), symbols.source);
    let names: Vec<&str> = modules.iter().map(String::as_str).collect();
    let plan = kernel.load_order(&names)?;
    lap("planned");
    for planned in &plan.modules {
        println!("{:24} {:>9} bytes  {}", planned.module.name(), planned.contents()?.len(), planned.why);
    }
    for missing in &plan.missing {
        println!("{} needs {}, which is nowhere", missing.module, missing.needs);
    }
    lap("read");
    Ok(())
}

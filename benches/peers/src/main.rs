//! Loads all modules of a kernel package with modmem's peers, one after the other, and prints how long each takes.

mod arena;
mod contender;
mod elf;
mod files;
mod floor;
mod memcpy;
mod names;
mod own_modmem;
mod peer_elf_loader;
#[cfg(have_jitlink)]
mod peer_jitlink;
mod peer_kmod_loader;
mod peer_object;
mod table;
mod threads;
mod verify;

use arena::Arena;
use contender::{Contender, HOST_NAMES, KERNEL_NAMES};
use files::File;
use names::Names;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use table::Row;

const USAGE: &str = "\
usage: peers --modules DIR [--rounds N] [--only NAME,...] [--arena-mib N] [--md] [--no-verify]

  --modules DIR    the folder with the decompressed .ko files (x86-64)
  --rounds N       how often each contender loads them all (10)
  --only NAME,...  only contenders whose names contain one of these; the floor always takes part
  --arena-mib N    size of the memory that is loaded into (768)
  --md             print a Markdown table
  --no-verify      do not check what the contenders wrote";

struct Options {
    modules: PathBuf,
    rounds: usize,
    only: Option<Vec<String>>,
    arena_mib: usize,
    markdown: bool,
    verify: bool,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut modules = None;
    let mut options = Options {
        modules: PathBuf::new(),
        rounds: 10,
        only: None,
        arena_mib: 768,
        markdown: false,
        verify: true,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n\n{USAGE}"));
        match argument.as_str() {
            "--modules" => modules = Some(PathBuf::from(value()?)),
            "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
            "--only" => options.only = Some(value()?.split(',').map(str::to_owned).collect()),
            "--arena-mib" => options.arena_mib = value()?.parse()?,
            "--md" => options.markdown = true,
            "--no-verify" => options.verify = false,
            "--help" | "-h" => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            _ => return Err(format!("unknown argument {argument}\n\n{USAGE}").into()),
        }
    }
    options.modules = modules.ok_or(USAGE)?;
    Ok(options)
}

/// Everyone who takes part, in the order of the table. A new contender is a file with a type that implements
/// `Contender`, and a line here.
fn contenders(
    files: &[File],
    kernel_names: &'static Names,
    host_names: &'static Names,
) -> Result<Vec<Box<dyn Contender>>, Box<dyn Error>> {
    Ok(vec![
        Box::new(memcpy::Memcpy::new(files)),
        Box::new(peer_object::ObjectTables),
        Box::new(floor::Floor::new(kernel_names)),
        Box::new(own_modmem::Modmem::new(files, kernel_names, 1)?),
        Box::new(own_modmem::Modmem::new(files, kernel_names, 2)?),
        Box::new(peer_kmod_loader::KmodLoader::new(host_names)),
        Box::new(peer_elf_loader::ElfLoader::new(host_names)),
        #[cfg(have_jitlink)]
        Box::new(peer_jitlink::JitLink::new(host_names)),
    ])
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let files = files::read_all(&options.modules)?;
    if files.is_empty() {
        return Err(format!("no .ko files in {}", options.modules.display()).into());
    }
    let undefined = names::undefined(&files)?;
    let kernel_names: &Names = Box::leak(Box::new(Names::new(&undefined, KERNEL_NAMES)));
    let host_names: &Names = Box::leak(Box::new(Names::new(&undefined, HOST_NAMES)));
    let mut arena = Arena::new(options.arena_mib << 20)?;
    arena::keep_freed_memory();

    let mut contenders = contenders(&files, kernel_names, host_names)?;
    contenders.retain(|contender| {
        let name = contender.name();
        let wanted = |only: &Vec<String>| only.iter().any(|part| name.contains(part.as_str()));
        name == "floor" || options.only.as_ref().is_none_or(wanted)
    });
    let mut rows: Vec<Row> =
        contenders.iter().map(|contender| Row::new(contender.name(), contender.note())).collect();

    // Round 0 warms up; then everyone once a round, so that what else the machine does hits all alike.
    for round in 0..=options.rounds {
        eprint!("\rround {round} of {} ", options.rounds);
        for (contender, row) in contenders.iter_mut().zip(&mut rows) {
            let (time, modules, failure) = measure(contender.as_mut(), &files, &mut arena);
            row.modules = modules;
            row.failure = failure;
            if round > 0 {
                row.times.push(time);
            }
        }
    }
    eprintln!();

    if options.verify {
        for (contender, row) in contenders.iter_mut().zip(&mut rows) {
            arena.reset();
            contender.prepare();
            if let Some(placements) = contender.place_all(&files, &mut arena) {
                row.verdict = Some(verify::verify(&files, &arena, &placements)?);
            }
        }
    }

    table::print(&rows, &files, kernel_names.len(), options.rounds, options.markdown);
    Ok(())
}

fn measure(
    contender: &mut dyn Contender,
    files: &[File],
    arena: &mut Arena,
) -> (Duration, usize, Option<String>) {
    arena.reset();
    contender.prepare();
    let start = Instant::now();
    let loaded = contender.load_all(files, arena);
    let time = start.elapsed();
    (time, loaded.modules, loaded.failure)
}

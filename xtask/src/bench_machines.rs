//! What loading costs on each machine: a module, and a relocation.
//!
//! Modules are parsed, laid out, placed and linked, and dropped again. Then the same is done with copies whose
//! relocation sections are marked as ordinary ones: the difference is what relocations cost, from checking them to
//! sizing and filling the tables of stubs that some machines need for them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use modmem::image::elf::{ByteOrder, Class, section_type};
use modmem::image::{Image, RelocationSection, Section};
use modmem::layout::Layout;
use modmem::link::{
    Definition, Export, LinkOptions, Linker, Placement, Provider, ProviderState, Scope, Symbols,
};
use modmem::modules::ModuleId;
use modmem::profile::{KernelConfig, Profile};
use modmem::space::{AddressSpace, PerCpuPlace};
use modmem::{Name, RunAddr};
use modmem_linux::{Kernel, OpenOptions};

use crate::command;

/// Rounds, of which the fastest counts: everything else is what else the machine did.
const ROUNDS: usize = 9;
/// Modules of a kernel that are measured: evenly spread over the package.
const MODULES: usize = 600;

/// Builds this in release and measures each kernel in a process of its own.
///
/// # Errors
/// A kernel cannot be had, or a module cannot be linked.
pub fn run(kernels: &[&str]) -> Result<()> {
    println!("| kernel | machine | modules | relocations | us a module | ns a relocation |");
    println!("|---|---|---:|---:|---:|---:|");
    kernels.iter().try_for_each(|kernel| {
        let mut run = command::cargo();
        run.args([
            "run",
            "--quiet",
            "--release",
            "--locked",
            "-p",
            "xtask",
            "--",
            "bench",
            "machine",
            kernel,
        ]);
        command::succeed(&mut run)
    })
}

/// Measures one kernel in this process, and prints a row.
///
/// # Errors
/// As [`run`].
pub fn one(spec: &str) -> Result<()> {
    let cache = std::env::var_os("MODMEM_CACHE").map(Into::into);
    let mut options = OpenOptions::default();
    options.cache = cache.or(options.cache);
    let kernel = Kernel::open(&[spec], &options)?;
    let config = kernel.config().context("the kernel has no configuration")?;
    let config = String::from_utf8_lossy(&config).into_owned();
    let mut profile = Profile::from_config(&KernelConfig::parse(&config), kernel.release())?;
    // What modules agree on with their kernel is not what is measured.
    profile.vermagic = None;
    profile.switches.modversions = false;
    let modules: Vec<_> = kernel.modules().collect();
    let step = modules.len().div_ceil(MODULES).max(1);
    let mut files = Vec::new();
    for module in modules.iter().step_by(step) {
        files.push((module.name().to_owned(), kernel.read(module)?));
    }
    let mut relocations = 0;
    let mut bare = Vec::new();
    for (name, file) in &files {
        let image = Image::parse(file).with_context(|| name.clone())?;
        relocations +=
            image.relocations().map(|section: RelocationSection<'_, '_>| section.len()).sum::<usize>();
        bare.push((name.clone(), without_relocations(file)));
    }
    let mut best = [Duration::MAX; 2];
    let mut linker = Linker::new();
    for _ in 0..ROUNDS {
        for (files, best) in [&files, &bare].into_iter().zip(&mut best) {
            let start = Instant::now();
            for (name, file) in files {
                link(&mut linker, &profile, file).with_context(|| name.clone())?;
            }
            *best = start.elapsed().min(*best);
        }
    }
    let [full, without] = best;
    ensure!(full > without, "relocations cost nothing: this machine is too busy to measure");
    println!(
        "| {} | {} | {} | {relocations} | {:.1} | {:.2} |",
        kernel.release(),
        profile.machine,
        files.len(),
        full.as_secs_f64() * 1e6 / files.len() as f64,
        (full - without).as_secs_f64() * 1e9 / relocations as f64,
    );
    Ok(())
}

fn link(linker: &mut Linker, profile: &Profile, file: &[u8]) -> Result<()> {
    let image = Image::parse(file)?;
    let layout = Layout::of(&image, profile)?;
    let mut space = AddressSpace::new(profile);
    let percpu = layout.percpu().is_some();
    // Symbols lie where modules do, so that everything reaches them.
    let near = profile.ranges.text.end.0 - 0x1_0000;
    let mut placement = Placement::allocate(layout, &mut space)?;
    if percpu {
        placement = placement.with_percpu(PerCpuPlace::given(near));
    }
    let scope = Everything(near);
    std::hint::black_box(linker.link(&image, profile, placement, &scope, LinkOptions::default())?);
    Ok(())
}

/// The same file with its relocation sections marked as ordinary ones, but for those of export tables, which are read
/// once they are relocated.
fn without_relocations(file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    let Ok(image) = Image::parse(&file) else { return file };
    let format = image.format();
    let (table_at, size) = match format.class {
        Class::Elf64 => (40, 64),
        Class::Elf32 => (32, 40),
    };
    let marked = |section: &&Section<'_>| {
        section.kind() == section_type::RELA && !section.name().to_text().contains("__ksymtab")
    };
    let relocations: Vec<usize> = image.sections().iter().filter(marked).map(Section::index).collect();
    let Some(table) = format.read_word(&file[table_at..]) else { return file };
    let kind = match format.order {
        ByteOrder::Little => section_type::PROGBITS.to_le_bytes(),
        ByteOrder::Big => section_type::PROGBITS.to_be_bytes(),
    };
    for index in relocations {
        let at = table as usize + index * size + 4;
        file[at..at + 4].copy_from_slice(&kind);
    }
    file
}

/// A kernel that exports whatever is asked for.
struct Everything(u64);

impl Symbols for Everything {
    fn find(&self, name: Name<'_>) -> Option<Definition<'_>> {
        let value = RunAddr(self.0).0 + (name.bytes().len() as u64) * 16;
        let (name, namespace) = (Name::default(), Name::default());
        let export = Export { name, value, gpl_only: false, crc: None, namespace };
        Some(Definition { provider: Provider::Kernel, export })
    }
}

impl Scope for Everything {
    fn provider(&self, _: ModuleId) -> Option<ProviderState<'_>> {
        None
    }
}

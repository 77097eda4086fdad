//! User Mode Linux: a real kernel as an ordinary process, from Debian's package of a suite, with that suite's C library
//! in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, ensure};
use modmem::image::{Image, SymbolPlace};
use modmem::link::Export;
use modmem::profile::{KernelConfig, Profile};
use modmem_linux::{KernelImage, KernelSymbol};

use super::guest::Mounted;
use super::memory::Root;
use super::model::Model;
use crate::conformance::packages::{self, Apt};

/// What is loaded into the kernel before its C library, in its root, and from what it is built.
pub(super) const PTRACE_LIBRARY: &str = "ptrace.so";
const PTRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/differential/ptrace.c");
/// The guest's program.
const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/differential/guest.c");
/// What it takes to start a kernel of another suite than this machine's.
const PACKAGES: [&str; 3] = ["user-mode-linux", "libc6", "libgcc-s1"];
/// Modules that are large say nothing more, and take longer.
const LARGEST_BASE: u64 = 60_000;

/// A kernel to ask.
#[derive(Debug)]
pub(super) struct Uml {
    pub(super) root: PathBuf,
    /// Its release.
    pub(super) release: String,
    /// What it exports.
    pub(super) symbols: Vec<KernelSymbol>,
    pub(super) profile: Profile,
    /// Where its page tables begin, once they are found.
    pub(super) root_table: Arc<OnceLock<Root>>,
}

impl Uml {
    /// Fetches the kernel of a suite into a folder below `work`, once.
    pub(super) fn of_suite(suite: &str, work: &Path) -> Result<Uml> {
        packages::need("cc", &["gcc", "libc6-dev"])?;
        let apt = Apt::of_suite(suite, work)?;
        let names: Vec<String> = PACKAGES.iter().map(|name| format!("{name}/{suite}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let root = packages::unpacked(&work.join(format!("uml-{suite}")), &[(&apt, &names)])?;
        for name in ["proc", "dev", "sys", "tmp"] {
            std::fs::create_dir_all(root.join(name))?;
        }
        for (link, to) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            let link = root.join(link);
            if !link.join("ld-linux-x86-64.so.2").exists() && !link.is_symlink() && root.join(to).exists() {
                let _ = std::fs::remove_dir(&link);
                if !link.exists() {
                    std::os::unix::fs::symlink(to, &link)?;
                }
            }
        }
        let mut compile = Command::new("cc");
        compile.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-o"]);
        packages::quiet(compile.arg(root.join("guest")).arg(GUEST))?;
        let mut compile = Command::new("cc");
        compile.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-s", "-o"]);
        packages::quiet(compile.arg(root.join(PTRACE_LIBRARY)).arg(PTRACE))?;
        let image = root.join("usr/bin/linux.uml");
        let bytes = std::fs::read(&image).with_context(|| image.display().to_string())?;
        let modules = root.join("usr/lib/uml/modules");
        let release = std::fs::read_dir(&modules)?.flatten().next().context("a kernel without modules")?;
        let release = release.file_name().to_string_lossy().into_owned();
        // It looks for itself in /proc.
        let mounted = Mounted::of(&root)?;
        let config =
            Command::new("chroot").arg(&root).args(["/usr/bin/linux.uml", "--showconfig"]).output()?;
        drop(mounted);
        let config = String::from_utf8(config.stdout)?;
        ensure!(config.contains("CONFIG_MODULES=y"), "the kernel does not show its configuration");
        let profile = Profile::from_config_at(&KernelConfig::parse(&config), &release, None)?;
        let symbols = KernelImage::read("linux.uml", bytes, Some(config.as_bytes()))?.symbols()?;
        Ok(Uml { root, release, symbols, profile, root_table: Arc::default() })
    }

    /// What it exports, as a linker takes it.
    pub(super) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.symbols.iter().filter_map(|symbol| {
            Some(Export {
                name: (&*symbol.name).into(),
                value: symbol.address?,
                gpl_only: symbol.gpl_only,
                crc: symbol.crc,
                namespace: symbol.namespace.as_deref().unwrap_or_default().into(),
            })
        })
    }

    /// Its small modules, by name, without init and exit.
    pub(super) fn bases(&mut self) -> Result<Vec<(String, Model)>> {
        let folder = self.root.join("usr/lib/uml/modules").join(&self.release).join("kernel");
        let (mut folders, mut files) = (vec![folder], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)?.flatten() {
                let (path, kind) = (entry.path(), entry.file_type()?);
                if kind.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "ko")
                    && entry.metadata()?.len() < LARGEST_BASE
                {
                    files.push(path);
                }
            }
        }
        files.sort();
        let mut bases = Vec::new();
        for path in files {
            let shown = || path.display().to_string();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let file = std::fs::read(&path).with_context(shown)?;
            let image = Image::parse(&file).with_context(shown)?;
            // struct module is as large as the package's modules have it.
            let [init, exit] = image.entry_offsets();
            self.profile.this_module_size = Some(image.this_module().size());
            self.profile.this_module_init = init.or(self.profile.this_module_init);
            self.profile.this_module_exit = exit.or(self.profile.this_module_exit);
            // What other modules export is not there.
            let imports = image.symbols().iter().skip(1);
            let mut imports = imports.filter(|symbol| symbol.place == SymbolPlace::Undefined);
            if imports.all(|symbol| symbol.name.as_str().is_some_and(|name| self.exports_it(name))) {
                bases.push((name, Model::read(&file).with_context(shown)?.without_entries()));
            }
        }
        ensure!(!bases.is_empty(), "no modules to begin with");
        let Profile { this_module_init, this_module_exit, switches, export_flags, .. } = &self.profile;
        for (_, model) in &mut bases {
            model.prel32 = switches.prel32;
            model.export_flags = *export_flags;
            model.entries = [*this_module_init, *this_module_exit];
        }
        Ok(bases)
    }

    fn exports_it(&self, name: &str) -> bool {
        self.symbols.binary_search_by(|symbol| (*symbol.name).cmp(name)).is_ok()
    }
}

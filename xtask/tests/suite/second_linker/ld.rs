//! The second linker: GNU ld of the machine, told where everything lies.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use crate::second_linker::module;
use crate::second_linker::probe::Setting;
use crate::second_linker::target::Target;

/// A machine's binutils, and a folder for their files.
#[derive(Debug)]
pub(crate) struct Binutils<'t> {
    target: &'t Target,
    prefix: &'t str,
    folder: PathBuf,
}

/// What the second linker made of a module.
#[derive(Debug)]
pub(crate) struct Linked {
    /// The test section.
    pub(crate) bytes: Vec<u8>,
    /// Offsets of the relocations that it complained about; it has written these all the same.
    pub(crate) refused: BTreeSet<usize>,
}

/// The same with the tables that it made.
#[derive(Debug)]
pub(crate) struct LinkedWithTables {
    pub(crate) linked: Linked,
    /// What it calls _GLOBAL_OFFSET_TABLE_.
    pub(crate) got: u64,
    /// The table of addresses.
    pub(crate) entries: Vec<u8>,
}

impl Drop for Binutils<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl<'t> Binutils<'t> {
    /// Those of `target`. Without them the test is skipped, loudly; where CI is true, that is a failure.
    pub(crate) fn of(target: &'t Target) -> Option<Binutils<'t>> {
        let plain = cfg!(target_arch = "x86_64") && target.name == "x86-64";
        let prefixes = [target.prefix, ""];
        let mut known = prefixes.into_iter().take(1 + usize::from(plain));
        let found = known.find(|prefix| {
            let version = Command::new(format!("{prefix}ld")).arg("--version").output();
            version.is_ok_and(|output| output.stdout.starts_with(b"GNU ld"))
        });
        let Some(prefix) = found else {
            let (name, package) = (target.name, target.package);
            let skipped = format!(
                "SKIPPED: there is no {}ld, so no relocation of {name} is compared with a second linker; apt-get install {package}\n",
                target.prefix
            );
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{skipped}");
            // Past the test harness, which keeps what passing tests print to itself.
            let _ = std::io::stderr().write_all(skipped.as_bytes());
            return None;
        };
        let folder = format!("second-linker-{}-{}", target.name, std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        Some(Binutils { target, prefix, folder })
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> (String, String, bool) {
        let mut command = Command::new(format!("{}{tool}", self.prefix));
        let output = command.args(arguments).current_dir(&self.folder).env("LC_ALL", "C").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr), output.status.success())
    }

    /// Links a module whose test section lies at `address`, with these values of the probes' symbols.
    pub(crate) fn link(&self, file: &[u8], address: u64, settings: &[Setting]) -> Linked {
        let (refused, complaints) = self.run_ld(file, "", address, settings);
        Linked { bytes: self.section(module::SECTION, &complaints), refused }
    }

    /// The same for relocations that make ld build a table of addresses, which lies at `got`.
    pub(crate) fn link_with_tables(
        &self,
        file: &[u8],
        address: u64,
        got: u64,
        settings: &[Setting],
    ) -> LinkedWithTables {
        let table = format!(".got {got:#x} : {{ *(.got.plt) *(.got) }}");
        let (refused, complaints) = self.run_ld(file, &table, address, settings);
        let linked = Linked { bytes: self.section(module::SECTION, &complaints), refused };
        let (symbols, error, _) = self.run("nm", &["linked"]);
        let got = symbols.lines().find_map(|line| line.strip_suffix("_GLOBAL_OFFSET_TABLE_"));
        let got = got.and_then(|line| u64::from_str_radix(line.split(' ').next()?, 16).ok());
        let got = got.unwrap_or_else(|| panic!("{}: no GOT: {error}", self.target.name));
        LinkedWithTables { linked, got, entries: self.section(".got", &complaints) }
    }

    /// The bytes of a section of what was linked last.
    fn section(&self, name: &str, complaints: &str) -> Vec<u8> {
        let (_, error, copied) = self.run("objcopy", &["-O", "binary", "-j", name, "linked", "bytes"]);
        assert!(copied, "{}: {error}\n{complaints}", self.target.name);
        std::fs::read(self.folder.join("bytes")).unwrap()
    }

    /// The offsets of what is refused in such a module.
    pub(crate) fn refused(&self, file: &[u8], address: u64, settings: &[Setting]) -> BTreeSet<usize> {
        self.run_ld(file, "", address, settings).0
    }

    /// Offsets of the relocations that ld complained about, and all that it said.
    fn run_ld(
        &self,
        file: &[u8],
        tables: &str,
        address: u64,
        settings: &[Setting],
    ) -> (BTreeSet<usize>, String) {
        let mut script = format!(
            "SECTIONS {{ {tables} .text {address:#x} : {{ *(.text) }} /DISCARD/ : {{ module.o(*) }} }}\n"
        );
        for (number, setting) in settings.iter().enumerate() {
            writeln!(script, "{} = {:#x};", module::symbol(number), setting.symbol).unwrap();
        }
        std::fs::write(self.folder.join("module.o"), file).unwrap();
        std::fs::write(self.folder.join("script"), script).unwrap();
        // Without --verbose it is silent from the eleventh complaint on.
        let mut arguments = vec!["--verbose", "--noinhibit-exec", "-static", "--no-relax"];
        arguments.extend(["-T", "script", "-o", "linked", "module.o"]);
        let _ = std::fs::remove_file(self.folder.join("linked"));
        let (_, complaints, _) = self.run("ld", &arguments);
        let mut refused = BTreeSet::new();
        for line in complaints.lines() {
            if !line.contains("relocation truncated to fit") && !line.contains("misaligned symbol") {
                continue;
            }
            let offset = line.split_once("(.text+0x").and_then(|(_, rest)| rest.split_once(')'));
            let offset = offset.and_then(|(digits, _)| usize::from_str_radix(digits, 16).ok());
            refused.insert(offset.unwrap_or_else(|| panic!("{}: {line}", self.target.name)));
        }
        (refused, complaints)
    }

    /// The names of a module's relocations, by offset in the test section.
    pub(crate) fn names(&self, file: &[u8]) -> Vec<(usize, String)> {
        std::fs::write(self.folder.join("module.o"), file).unwrap();
        let (listing, error, ok) = self.run("objdump", &["-r", "-j", module::SECTION, "module.o"]);
        assert!(ok, "{}: {error}", self.target.name);
        let relocations = listing.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((usize::from_str_radix(words.next()?, 16).ok()?, words.next()?.to_owned()))
        });
        relocations.collect()
    }
}

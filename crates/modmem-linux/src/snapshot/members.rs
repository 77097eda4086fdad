//! The members of a snapshot: what each is called, how large it may be, and how they become one value.

use std::{
    collections::HashMap,
    io::{BufRead, Read as _},
    ops::Range,
};

use modmem::{Visible, arch::Machine};

use super::{
    ModuleFiles, Snapshot,
    areas::{self, Areas},
    kprobes,
    lines::{broken, bytes, each_line, text},
    memory::{MemoryRecord, MemoryRecords, read_records},
    modules::{self, SectionAddress, Sizes},
    notes, ranges,
    symbols::SymbolTable,
};
use crate::{Error, memory};

/// Members that hold a text for people or a list of modest size, in the order in which they are written.
pub(crate) const TEXT_MEMBERS: [&str; 15] = [
    "kernel",
    "machine",
    "version",
    "cmdline",
    "cpus",
    "cpuinfo",
    "config",
    "modules",
    "sections",
    "modinfo",
    "vmallocinfo",
    "kprobes",
    "scanned",
    "torn",
    "missing",
];
/// The symbols.
pub(crate) const SYMBOLS: &str = "kallsyms";
/// The recorded memory.
pub(crate) const MEMORY: &str = "mem";
/// Before a module's name: the notes of that module.
pub(crate) const NOTES: &str = "notes/";

/// Bytes of a short text: release, machine, command line.
const SHORT: u64 = 1 << 20;
/// Bytes of a configuration, of `/proc/cpuinfo`, of a module's notes.
pub(crate) const LONG: u64 = 16 << 20;
/// Lines of `missing`.
const MOST_MISSING: usize = 4096;

/// Members read so far.
#[derive(Debug, Default)]
pub(crate) struct Members {
    snapshot: Snapshot,
    sections: HashMap<String, Vec<SectionAddress>>,
    sizes: HashMap<String, Sizes>,
    notes: HashMap<String, Vec<u8>>,
    records: Vec<MemoryRecord>,
    recorded: u64,
    scanned: Vec<Range<u64>>,
    /// Bytes of lists and notes so far.
    listed: u64,
}

impl Members {
    /// Reads one member; `shown` names it in errors. `false` if no member has this name.
    pub(crate) fn read(&mut self, name: &str, shown: &str, mut input: impl BufRead) -> Result<bool, Error> {
        if matches!(name, SYMBOLS | MEMORY) {
            return self.read_member(name, shown, input);
        }
        // Together, since each of them becomes values of many times its size.
        let limit = memory::of_lists();
        let mut counted = input.by_ref().take(limit.saturating_sub(self.listed));
        let known = self.read_member(name, shown, &mut counted);
        self.listed = limit - counted.limit();
        if counted.limit() == 0 && !input.fill_buf().map_err(|error| broken(shown, error))?.is_empty() {
            return Err(Error::TooLarge { file: shown.to_owned(), limit });
        }
        known
    }

    fn read_member(&mut self, name: &str, shown: &str, input: impl BufRead) -> Result<bool, Error> {
        let snapshot = &mut self.snapshot;
        let line = |input| Ok(text(shown, input, SHORT)?.trim_end_matches('\n').to_owned());
        match name {
            "kernel" => snapshot.release = line(input)?,
            "machine" => snapshot.machine = line(input)?,
            "version" => snapshot.version = Some(line(input)?),
            "cmdline" => snapshot.command_line = Some(line(input)?),
            "cpus" => {
                let text: String = line(input)?;
                let wrong = || Error::malformed(shown, format!("{text:?} is no number of CPUs"));
                snapshot.cpus = Some(text.parse().map_err(|_| wrong())?);
            }
            "cpuinfo" => snapshot.cpuinfo = Some(text(shown, input, LONG)?),
            "config" => snapshot.config = Some(text(shown, input, LONG)?),
            "modules" => snapshot.modules = modules::parse(shown, input)?,
            "sections" => self.sections = modules::parse_sections(shown, input)?,
            "modinfo" => self.sizes = modules::parse_sizes(shown, input)?,
            "vmallocinfo" => match areas::parse(shown, input)? {
                Areas::Known(listed) => {
                    (snapshot.areas, snapshot.contradictory_areas) = (listed.areas, listed.contradictory);
                }
                Areas::Hidden => self.note("vmallocinfo: its addresses are hidden or hashed"),
            },
            "kprobes" => snapshot.kprobes = Some(kprobes::parse(shown, input)?),
            "scanned" => self.scanned = ranges::parse(shown, input)?,
            "torn" => snapshot.torn = ranges::parse(shown, input)?,
            "missing" => {
                let missing = &mut snapshot.missing;
                each_line(shown, input, |line| {
                    missing.push(line.to_owned());
                    if missing.len() > MOST_MISSING {
                        Err("more lines than anybody reads".into())
                    } else {
                        Ok(())
                    }
                })?;
            }
            SYMBOLS => {
                let symbols = SymbolTable::read_from(shown, input)?;
                match symbols.is_hidden() {
                    true => self.note("kallsyms: all addresses are zero, which is how the kernel hides them"),
                    false => snapshot.symbols = symbols,
                }
            }
            MEMORY => read_records(shown, input, &mut self.records, &mut self.recorded)?,
            _ => match name.strip_prefix(NOTES) {
                Some(module) => drop(self.notes.insert(module.to_owned(), bytes(shown, input, LONG)?)),
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// Says that something is missing which ought to be there.
    pub(crate) fn note(&mut self, missing: &str) {
        if !self.snapshot.missing.iter().any(|known| known == missing) {
            self.snapshot.missing.push(missing.to_owned());
        }
    }

    pub(crate) fn set_module_files(&mut self, files: ModuleFiles) {
        self.snapshot.module_files = Some(files);
    }

    /// Puts the members together. What names modules that are not listed belongs to another moment or machine.
    pub(crate) fn finish(mut self, shown: &str) -> Result<Snapshot, Error> {
        let mut snapshot = self.snapshot;
        if snapshot.release.is_empty() {
            return Err(Error::malformed(
                shown,
                "no snapshot: it has no member \"kernel\" that names the release",
            ));
        }
        snapshot.memory = MemoryRecords::new(self.records)
            .map_err(|problem| Error::malformed(member(shown, MEMORY), problem))?
            .with_scanned(self.scanned);
        for module in &mut snapshot.modules {
            let name = &module.name;
            module.sections = self.sections.remove(name).unwrap_or_default();
            (module.core_size, module.init_size) = self.sizes.remove(name).unwrap_or_default();
            module.notes = self.notes.remove(name).unwrap_or_default();
            module.build_id = notes::build_id(&module.notes);
        }
        let strays = [
            ("sections", self.sections.keys().min()),
            ("modinfo", self.sizes.keys().min()),
            ("notes", self.notes.keys().min()),
        ];
        for (name, stray) in strays {
            if let Some(stray) = stray {
                let problem =
                    format!("module {stray:?} is not in \"modules\": members of two moments or machines");
                return Err(Error::malformed(member(shown, name), problem));
            }
        }
        if snapshot.machine.is_empty() {
            snapshot.machine = snapshot.config.as_deref().and_then(machine_of).unwrap_or_default().to_owned();
        }
        if snapshot.cpus.is_none() {
            snapshot.cpus = snapshot.cpuinfo.as_deref().map(count_cpus).filter(|count| *count > 0);
        }
        Ok(snapshot)
    }
}

/// A member's name in errors.
pub(crate) fn member(shown: &str, name: &str) -> String {
    format!("{shown}: {}", Visible(name))
}

/// The CPUs in a whole `/proc/cpuinfo`.
pub(crate) fn count_cpus(cpuinfo: &str) -> u32 {
    let is_cpu = |line: &&str| {
        let rest = line.strip_prefix("processor").map(str::trim_start);
        rest.is_some_and(|rest| rest.starts_with(|first: char| first == ':' || first.is_ascii_digit()))
    };
    cpuinfo.lines().filter(is_cpu).count().try_into().unwrap_or(u32::MAX)
}

/// What `uname -m` says on a kernel of this configuration.
pub(crate) fn machine_of(config: &str) -> Option<&'static str> {
    let is_set =
        |name: &str| config.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest == "=y"));
    let machines = [
        ("CONFIG_X86_64", "x86_64"),
        ("CONFIG_X86_32", "i686"),
        ("CONFIG_ARM64", "aarch64"),
        ("CONFIG_ARM", "arm"),
        ("CONFIG_S390", "s390x"),
        ("CONFIG_PPC64", if is_set("CONFIG_CPU_LITTLE_ENDIAN") { "ppc64le" } else { "ppc64" }),
        ("CONFIG_PPC32", "ppc"),
        ("CONFIG_RISCV", if is_set("CONFIG_64BIT") { "riscv64" } else { "riscv32" }),
        ("CONFIG_LOONGARCH", "loongarch64"),
        ("CONFIG_MIPS", if is_set("CONFIG_64BIT") { "mips64" } else { "mips" }),
    ];
    machines.into_iter().find(|(switch, _)| is_set(switch)).map(|(_, machine)| machine)
}

/// The machine of which `uname -m` says this.
pub(crate) fn elf_machine(name: &str) -> Option<Machine> {
    Some(match name {
        "x86_64" => Machine::X86_64,
        "i386" | "i486" | "i586" | "i686" => Machine::I386,
        "aarch64" | "aarch64_be" => Machine::Arm64,
        "s390x" => Machine::S390,
        "ppc" => Machine::PowerPc,
        "ppc64" | "ppc64le" => Machine::PowerPc64,
        "riscv32" | "riscv64" => Machine::RiscV,
        "loongarch64" => Machine::LoongArch,
        "mips" | "mips64" => Machine::Mips,
        "parisc" | "parisc64" => Machine::PaRisc,
        "sparc64" => Machine::Sparc64,
        name if name.starts_with("arm") => Machine::Arm,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(list: &[(&str, &str)]) -> Result<Snapshot, String> {
        let mut members = Members::default();
        for (name, text) in list {
            members.read(name, &member("m", name), text.as_bytes()).map_err(|error| error.to_string())?;
        }
        members.finish("m").map_err(|error| error.to_string())
    }

    #[test]
    fn members_come_together_in_any_order() {
        let snapshot = members(&[
            ("sections", "ext4 .text 0x1000\n"),
            ("cpuinfo", "processor\t: 0\nmodel\t: 1\n\nprocessor\t: 1\n"),
            ("modules", "ext4 4096 0 - Live 0x0000000000001000\n"),
            ("modinfo", "ext4 core=4096 init=0 refcnt=0 taint= state=live\n"),
            ("config", "CONFIG_64BIT=y\nCONFIG_RISCV=y\n"),
            ("kernel", "6.12\n"),
        ])
        .unwrap();
        assert_eq!((snapshot.release.as_str(), snapshot.machine.as_str()), ("6.12", "riscv64"));
        assert_eq!(snapshot.cpus, Some(2));
        assert_eq!(snapshot.module("ext4").unwrap().section(".text"), Some(0x1000));
        assert_eq!(snapshot.modules[0].core_size, Some(4096));
    }

    #[test]
    fn members_of_different_moments_are_refused() {
        let modules = ("modules", "ext4 4096 0 - Live 0x0000000000001000\n");
        for stray in [("sections", "xfs .text 0x1000\n"), ("modinfo", "xfs core=1\n"), ("notes/xfs", "x")] {
            let error = members(&[("kernel", "6.12"), modules, stray]).unwrap_err();
            assert!(error.contains("\"xfs\" is not in \"modules\""), "{error}");
        }
        assert!(members(&[modules]).unwrap_err().contains("\"kernel\""));
    }

    #[test]
    fn hidden_addresses_are_missing_and_not_zero() {
        let symbols = ("kallsyms", "0000000000000000 T _text\n");
        let areas = ("vmallocinfo", "0x0000000000000000-0x0000000000000000   12288 load_module\n");
        let snapshot = members(&[("kernel", "6.12"), symbols, areas]).unwrap();
        assert!(snapshot.symbols.is_empty() && snapshot.areas.is_empty());
        assert_eq!(snapshot.missing.len(), 2);
    }
}

//! The command line.

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use modmem::RunAddr;
use modmem_linux::WriteOptions;

/// Linux's module loader anywhere: load modules of a real kernel into a modelled one and see where every byte lies.
#[derive(Debug, Parser)]
#[command(
    name = "modmem",
    version,
    propagate_version = true,
    after_help = "modmem --version -v tells what is built in that is not Rust."
)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// How much memory files may make this program take, about: 512M, 4G [default: 1G, or half of what there is if that
    /// is less]
    #[arg(long, value_name = "BYTES", global = true, value_parser = parse_bytes)]
    pub(crate) memory: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Load modules and what they need, and show where each memory lies
    Load(LoadArgs),
    /// Show what a module's file is before it is loaded
    Info(InfoArgs),
    /// Draw the address space after a load
    Map(MapArgs),
    /// Say which module, memory, section and symbol an address belongs to
    Lookup(LookupArgs),
    /// Write the module memory of this machine, and what tells about it, to a file
    Snapshot(SnapshotArgs),
    /// Annotate every address of a module or of kernel code in a log or trace, from standard input
    Symbolize(SymbolizeArgs),
    /// Count what module memory costs under several layouts and page sizes
    Footprint(FootprintArgs),
    /// Compare the module memory of a running machine, byte by byte, with what its files and kernel make of it
    Verify(VerifyArgs),
}

/// Which kernel, and where its files come from.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct KernelArgs {
    /// The kernel: `debian[:VERSION[:FLAVOUR]]` (`debian:6.12:s390x`), `debian:sid` or another suite of Debian's,
    /// `apt:PACKAGE` of any archive that this system's apt has, a `.deb` file, an unpacked root folder, a folder of modules, a release under /lib/modules, or `sample`; again for packages
    /// that come in several parts [default: the running kernel]
    #[arg(short, long = "kernel", value_name = "KERNEL", global = true)]
    pub(crate) kernel: Vec<String>,

    /// Addresses of the kernel's own symbols: System.map, a copy of /proc/kallsyms, or a kernel image
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) symbols: Option<PathBuf>,

    /// Folder for downloaded and unpacked packages [default: the user's cache folder]
    #[arg(long, value_name = "DIR", env = "MODMEM_CACHE", global = true)]
    pub(crate) cache: Option<OsString>,

    /// Use no network: of downloaded packages take the newest that fits
    #[arg(long, global = true)]
    pub(crate) offline: bool,

    /// Ask the archive again although the cache has an answer
    #[arg(long, global = true)]
    pub(crate) refresh: bool,

    /// Leave out what a root has in modprobe.d and depmod.d, and as the kernel's command line
    #[arg(long, global = true)]
    pub(crate) no_config: bool,

    /// The kernel's command line, or a file that holds it, for the options of modules on it (`loop.max_loop=8`,
    /// `modprobe.blacklist=pcspkr`) [default: the root's /proc/cmdline, else its /etc/kernel/cmdline]
    #[arg(long, value_name = "FILE|TEXT", global = true)]
    pub(crate) cmdline: Option<String>,
}

/// What to load, and into which address space.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SpaceArgs {
    /// Pages that KASLR moves the module range up by, 0 to 1024
    #[arg(long, value_name = "PAGES", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1024))]
    pub(crate) kaslr_offset: u64,

    /// Addresses that something else takes, such as BPF programs: 0xSTART-0xEND; may be repeated
    #[arg(long, value_name = "RANGE", value_parser = parse_range)]
    pub(crate) reserve: Vec<Range<RunAddr>>,

    /// Stop before the inits of the modules named here run: their init memory is still there, nothing is sealed
    #[arg(long)]
    pub(crate) before_init: bool,

    /// Take modules of another build: compare neither version magic nor CRCs
    #[arg(long)]
    pub(crate) force: bool,

    /// Load all modules of the kernel; what cannot be loaded is named and left out
    #[arg(long)]
    pub(crate) all: bool,
}

/// Whose rights are used.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct RightsArgs {
    /// As root, keep root's rights while what was read is interpreted, instead of giving them up: for files that nobody
    /// but root may read
    #[arg(long)]
    pub(crate) keep_rights: bool,
}

/// Where files may be written.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct WriteArgs {
    /// As root, write also to a folder that others can write to, such as /tmp: they could put another file there
    #[arg(long)]
    pub(crate) allow_shared_folder: bool,
}

impl WriteArgs {
    pub(crate) fn options(self, private: bool) -> WriteOptions {
        WriteOptions { private, in_shared_folders: self.allow_shared_folder }
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    /// Modules by name, alias or path, each with its parameters behind it: ext4 loop max_loop=8 ./my.ko
    #[arg(value_name = "MODULE [NAME=VALUE]", required_unless_present = "all")]
    pub(crate) modules: Vec<String>,
    #[command(flatten)]
    pub(crate) kernel: KernelArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    /// Finalize the modules as the kernel does on this machine (alternatives, returns, function entries, static keys and
    /// calls): a name such as `default` (docs/machines.md), `host` for this one, a snapshot of one, whose addresses are used
    /// then, or a file with a machine's state
    #[arg(long, value_name = "MACHINE")]
    pub(crate) machine: Option<String>,
    /// Write the bytes of each memory as they are before init runs to a new folder, with modules.json, which says what lies
    /// where, and modules.gdb for gdb; finalized for `--machine default` unless that says another one
    #[arg(long, value_name = "DIR")]
    pub(crate) write: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) writing: WriteArgs,
    /// Print JSON (schema: docs/json.md)
    #[arg(long)]
    pub(crate) json: bool,
    /// Show every section too, and all that the machine's kernel goes by
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Show instead what user space of the kernel would see of the modules
    #[arg(long, value_enum, conflicts_with_all = ["json", "verbose"])]
    pub(crate) view: Option<View>,
}

impl LoadArgs {
    /// The machine that modules are finalized for, if they are.
    pub(crate) fn machine(&self) -> Option<&str> {
        self.machine.as_deref().or_else(|| self.write.is_some().then_some("default"))
    }
}

/// What user space of Linux sees of modules. Reference counts are those that loading alone makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum View {
    /// /proc/modules, the newest module first.
    ProcModules,
    /// The lines of /proc/kallsyms that are about modules.
    Kallsyms,
    /// What the loader puts into /sys/module, a line a file.
    Sysfs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct InfoArgs {
    /// Module files, or names of modules of the kernel
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<String>,
    #[command(flatten)]
    pub(crate) kernel: KernelArgs,
    /// Linux version whose layout is shown [default: the kernel's, or the one in the module's version magic]
    #[arg(long, value_name = "VERSION")]
    pub(crate) profile: Option<String>,
    /// Print JSON (schema: docs/json.md)
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct MapArgs {
    /// Modules by name, alias or path, each with its parameters behind it
    #[arg(value_name = "MODULE [NAME=VALUE]", required_unless_present = "all")]
    pub(crate) modules: Vec<String>,
    #[command(flatten)]
    pub(crate) kernel: KernelArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    /// Write the picture to this file instead of the terminal
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct LookupArgs {
    /// Addresses to look up (0x...), and the modules to load, in this order [default: all modules of the kernel];
    /// without an address, addresses are read from standard input, one a line
    #[arg(value_name = "ADDR|MODULE")]
    pub(crate) words: Vec<String>,
    /// Look up in a machine's snapshot instead; the files of --kernel make memory types certain
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["kaslr_offset", "reserve", "before_init", "force", "all", "symbols"])]
    pub(crate) snapshot: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) kernel: KernelArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    /// Print JSON (schema: docs/json.md)
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SnapshotArgs {
    /// The file to write; `-` for standard output
    #[arg(short, long, value_name = "FILE", default_value = "snapshot.mms")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    #[command(flatten)]
    pub(crate) rights: RightsArgs,
    /// Folder that stands for the machine's root, with its own proc and sys
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub(crate) root: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SymbolizeArgs {
    /// The machine's snapshot: a .mms file or a folder of its members
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) snapshot: PathBuf,
    #[command(flatten)]
    pub(crate) kernel: KernelArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct FootprintArgs {
    /// Modules by name, alias or path, each for itself alone
    #[arg(value_name = "MODULE", required_unless_present = "all")]
    pub(crate) modules: Vec<String>,
    #[command(flatten)]
    pub(crate) kernel: KernelArgs,
    /// All modules of the kernel
    #[arg(long)]
    pub(crate) all: bool,
    /// Count what the modules need as well
    #[arg(short = 'd', long)]
    pub(crate) with_dependencies: bool,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// The same as --format json (schema: docs/json.md)
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit status: 0 if nothing is unexplained and somebody vouches for the modules' files, 1 if not, 2 if it \
                  could not be done."
)]
pub(crate) struct VerifyArgs {
    /// The machine's snapshot: a .mms file, a folder of its members, or a description of memory in JSON; without
    /// --kernel it must bring the files of its modules along
    #[arg(value_name = "SNAPSHOT", required_unless_present = "live")]
    pub(crate) snapshot: Option<PathBuf>,
    /// Verify this machine as it is now, with its files under /lib/modules or those of --kernel; as root
    #[arg(long, conflicts_with = "snapshot")]
    pub(crate) live: bool,
    /// Trust the modules' files that the machine itself brings: those in its snapshot, and with --live those on its disk.
    /// Nobody vouches for them: without this, what is compared with them is not verified
    #[arg(long)]
    pub(crate) own_files: bool,
    /// Believe nothing that whoever owns the machine could have written: what is not proven is not verified
    #[arg(long)]
    pub(crate) strict: bool,
    /// Expect the kprobes that the snapshot lists
    #[arg(long)]
    pub(crate) kprobes: bool,
    /// Expect a kprobe at an address or at `[MODULE:]SYMBOL[+OFFSET]`; may be repeated
    #[arg(long, value_name = "PLACE")]
    pub(crate) kprobe: Vec<String>,
    /// A module's file that the kernel's package does not have, plain or compressed, or a folder of such files: those of
    /// DKMS, of vendors; may be repeated
    #[arg(long = "modules", value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
    /// Show this module only; all are compared nevertheless, and count; may be repeated
    #[arg(long = "module", value_name = "NAME")]
    pub(crate) modules: Vec<String>,
    #[command(flatten)]
    pub(crate) kernel: KernelArgs,
    #[command(flatten)]
    pub(crate) rights: RightsArgs,
    /// Print JSON (schema: docs/json.md)
    #[arg(long)]
    pub(crate) json: bool,
    /// Show every module, memory and place
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One line a module, layout and page size.
    Csv,
    /// For programs.
    Json,
}

/// A number of bytes, with K, M or G behind it for multiples of 1024.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let error = || format!("\"{text}\" is no number of bytes; one looks like 512M");
    let digits = text.trim_end_matches(['K', 'M', 'G', 'k', 'm', 'g']);
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(error()),
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).ok_or_else(error)
}

fn parse_range(text: &str) -> Result<Range<RunAddr>, String> {
    let error = || format!("\"{text}\" is no range; one looks like 0xffffffffc0000000-0xffffffffc0201000");
    let (start, end) = text.split_once('-').ok_or_else(error)?;
    let (start, end) = (parse_address(start).ok_or_else(error)?, parse_address(end).ok_or_else(error)?);
    if start >= end { Err(error()) } else { Ok(start..end) }
}

/// An address: hexadecimal, with `0x` or, as in kallsyms, as at least eight bare digits.
pub(crate) fn parse_address(text: &str) -> Option<RunAddr> {
    let digits = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => digits,
        None if text.len() >= 8 => text,
        None => return None,
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| plain).map(RunAddr)
}

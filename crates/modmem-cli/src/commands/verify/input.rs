//! What a verification starts from: a snapshot, the files of its modules, the probes that are expected.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use modmem_linux::Error;
use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::{Options, OwnFiles, OwnSymbols};

use super::files::{Base, FileReport, Files};
use crate::args::{VerifyArgs, parse_address};
use crate::output::Bars;
use crate::rights;
use crate::session::open_files;

/// A snapshot and what it is compared with.
pub(super) struct Input {
    pub(super) snapshot: Snapshot,
    /// The snapshot as the user named it.
    pub(super) shown: String,
    pub(super) files: Files,
    /// Whether it is the machine that runs this program.
    pub(super) live: bool,
    pub(super) options: Options,
}

impl Input {
    pub(super) fn open(arguments: &VerifyArgs) -> Result<Input> {
        let (mut snapshot, shown) = match &arguments.snapshot {
            Some(path) => (Snapshot::open(path)?, path.display().to_string()),
            None => {
                (Snapshot::capture_from(&rights::machine_files(Path::new("/"))?)?, "this machine".to_owned())
            }
        };
        let lacks = snapshot.lacks();
        if !lacks.is_empty() {
            let missing = missing(&snapshot, arguments.live);
            bail!("{shown} has no {}, so nothing can be compared{missing}", lacks.join(" and no "));
        }
        let files = Files::new(open(arguments, &snapshot, &shown)?, &arguments.files, &snapshot)?;
        let config = files.config();
        let contradictions = config.as_ref().and_then(|config| snapshot.check_config(config));
        let own_symbols = match files.list()? {
            Some(list) => {
                snapshot.check_own_symbols(&list).map_err(|problem| anyhow!("{shown}: {problem}"))?
            }
            None => OwnSymbols::Believed,
        };
        let options = Options {
            listed_kprobes: arguments.kprobes,
            kprobes: arguments
                .kprobe
                .iter()
                .map(|place| kprobe_address(&snapshot, place))
                .collect::<Result<_>>()?,
            exports: files.exports(&snapshot),
            own_symbols,
            own_config: config.is_some(),
            contradictions: contradictions.into_iter().collect(),
        };
        if arguments.kprobes && snapshot.kprobes.is_none() {
            bail!("{shown} has no list of kprobes that --kprobes could accept; name them with --kprobe");
        }
        for name in &arguments.modules {
            if snapshot.module(name).is_none() {
                bail!("{shown} has no module \"{name}\" among its {}", snapshot.modules.len());
            }
        }
        Ok(Input { snapshot, shown, files, live: arguments.live, options })
    }

    /// Where the file of a module comes from.
    pub(super) fn file_report(&self, name: &str) -> Result<Option<FileReport>, Error> {
        self.snapshot.module(name).map_or(Ok(None), |record| self.files.report(record))
    }

    /// The file of a module, if there is one.
    pub(super) fn file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.snapshot.module(name).map_or(Ok(None), |record| self.files.get(record))
    }
}

/// What a snapshot says that it could not read, and what helps.
fn missing(snapshot: &Snapshot, live: bool) -> String {
    let mut text = String::new();
    for line in &snapshot.missing {
        text.push_str("\n  ");
        text.push_str(line);
    }
    // Whoever took it as root is not told to be root.
    let is_told =
        |line: &String| ["as root", "to root too", "from everybody"].iter().any(|s| line.contains(s));
    if !snapshot.missing.iter().any(is_told) {
        text.push_str(if live { "\n  run it as root" } else { "\n  take the snapshot as root" });
        text.push_str("; if that was done, look at /sys/kernel/security/lockdown and kernel.kptr_restrict");
    }
    text
}

fn open(arguments: &VerifyArgs, snapshot: &Snapshot, shown: &str) -> Result<Base> {
    let release = &snapshot.release;
    if arguments.kernel.kernel.is_empty() && !arguments.live {
        let own = OwnFiles::of(snapshot)?.zip(snapshot.module_files.as_ref());
        return match own {
            Some((files, archive)) => Ok(Base::Own(files, archive.path().to_owned())),
            None if !arguments.files.is_empty() => Ok(Base::None),
            None => bail!(
                "{shown} does not bring the files of its modules along; give those of {release}: \
                 --kernel linux-image-{release}.deb, an unpacked root folder, or a release under /lib/modules"
            ),
        };
    }
    let kernel = open_files(&arguments.kernel, Bars::new())?;
    // Modules alone may not tell; each is compared by its build id anyway.
    if kernel.release() != release && kernel.release() != "unknown" {
        bail!(
            "{} is kernel {}, but {shown} is of {release}: give --kernel the files of that one",
            kernel.describe(),
            kernel.release()
        );
    }
    Ok(Base::Kernel(Box::new(kernel)))
}

/// An address, or `[MODULE:]SYMBOL[+OFFSET]` as kprobe events are written.
fn kprobe_address(snapshot: &Snapshot, place: &str) -> Result<u64> {
    if let Some(address) = parse_address(place).filter(|_| place.starts_with("0x")) {
        return Ok(address.0);
    }
    let (name, offset) = match place.rsplit_once('+') {
        Some((name, offset)) => {
            let number = match offset.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => offset.parse(),
            };
            (name, number.with_context(|| format!("--kprobe {place}: \"{offset}\" is no offset"))?)
        }
        None => (place, 0),
    };
    let (module, name) = match name.split_once(':') {
        Some((module, name)) => (Some(module), name),
        None => (None, name),
    };
    let fits = |symbol: &modmem_linux::snapshot::Symbol<'_>| module.is_none_or(|m| symbol.module == Some(m));
    let mut addresses: Vec<u64> = snapshot.symbols.named(name).filter(fits).map(|s| s.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    match addresses[..] {
        [address] => Ok(address.wrapping_add(offset)),
        [] => bail!("--kprobe {place}: the snapshot has no such symbol"),
        [..] => {
            let shown: Vec<String> = addresses.iter().take(4).map(|a| format!("{a:#x}")).collect();
            bail!(
                "--kprobe {place}: {} symbols have that name (at {}); give MODULE:{place} or an address",
                addresses.len(),
                shown.join(", ")
            )
        }
    }
}

//! What the machine does not let be read, by which of its rules, and what is left to do.

use std::io::ErrorKind;

use super::Machine;
use crate::Error;

/// Bytes of any of these files.
const LIMIT: u64 = 1 << 20;
/// The kernel's number of the right to read its memory (include/uapi/linux/capability.h).
const CAP_SYS_RAWIO: u32 = 17;
/// The one to read its addresses.
const CAP_SYSLOG: u32 = 34;
/// The level of lockdown that shuts `/proc/kcore` (security/lockdown/lockdown.c).
const CONFIDENTIALITY: &str = "confidentiality";

/// Why memory cannot be read. Opening `/proc/kcore` asks for a right first and for lockdown then, and says the same
/// about both (fs/proc/kcore.c:open_kcore).
pub(super) fn why_no_memory(machine: &Machine<'_>, error: &Error) -> String {
    let Error::Read { source, .. } = error else { return error.to_string() };
    let why = match source.kind() {
        ErrorKind::NotFound => {
            "this kernel was built without /proc/kcore, or /proc is not mounted".to_owned()
        }
        ErrorKind::PermissionDenied if may(machine, CAP_SYS_RAWIO) == Some(false) => {
            "run it as root, in no container (it takes CAP_SYS_RAWIO)".to_owned()
        }
        ErrorKind::PermissionDenied => {
            let by_whom = match lockdown(machine) {
                Some(true) => {
                    "kernel lockdown is on at [confidentiality] (/sys/kernel/security/lockdown), which"
                }
                Some(false) => "a security module, as lockdown is not at [confidentiality],",
                None => {
                    "kernel lockdown at [confidentiality] (see /sys/kernel/security/lockdown), most likely,"
                }
            };
            format!(
                "{by_whom} keeps it shut, to root too; memory has to come from outside (a dump by the hypervisor or \
                 by kdump, docs/snapshot.md), or boot without lockdown=confidentiality"
            )
        }
        _ => return error.to_string(),
    };
    format!("{error}: {why}")
}

/// Why all addresses are zero (kernel/ksyms_common.c:kallsyms_show_value).
pub(super) fn why_hidden(machine: &Machine<'_>) -> String {
    let why = match text(machine, "proc/sys/kernel/kptr_restrict").as_deref() {
        Some("2") => {
            "kernel.kptr_restrict is 2, which hides them from everybody: \
             set it to 1 (sysctl kernel.kptr_restrict=1)"
        }
        _ if may(machine, CAP_SYSLOG) == Some(false) => {
            "run it as root, in no container (it takes CAP_SYSLOG)"
        }
        _ => "run it as root; kernel.kptr_restrict=2 hides them from root too",
    };
    format!("all addresses are zero: {why}")
}

/// Whether lockdown is at the level that shuts memory; `None` if nothing says.
fn lockdown(machine: &Machine<'_>) -> Option<bool> {
    if let Some(levels) = text(machine, "sys/kernel/security/lockdown") {
        return Some(levels.split(' ').any(|level| level == format!("[{CONFIDENTIALITY}]")));
    }
    // Nobody mounted securityfs. Lockdown can be raised later: that nobody asked for it at boot proves nothing.
    let asked = text(machine, "proc/cmdline")?;
    let asked = asked.split(' ').any(|word| word.strip_prefix("lockdown=") == Some(CONFIDENTIALITY));
    asked.then_some(true)
}

/// Whether this process has a right; `None` if nothing says.
fn may(machine: &Machine<'_>, capability: u32) -> Option<bool> {
    let status = text(machine, "proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    Some(effective >> capability & 1 == 1)
}

fn text(machine: &Machine<'_>, path: &str) -> Option<String> {
    let bytes = machine.read(path, LIMIT).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use super::*;
    use crate::snapshot::MachineFiles;

    const ROOT: &str = "Name:\tmodmem\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n";
    const USER: &str = "Name:\tmodmem\nUid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n";

    /// What is said about a machine with these files.
    fn said(files: &[(&str, &str)], say: impl Fn(&Machine<'_>) -> String) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        say(&Machine { files: &MachineFiles::direct(folder.path()), missing: Vec::new() })
    }

    fn no_memory(files: &[(&str, &str)], errno: i32) -> String {
        let error =
            || Error::Read { path: "/proc/kcore".into(), source: io::Error::from_raw_os_error(errno) };
        said(files, |machine| why_no_memory(machine, &error()))
    }

    #[test]
    fn lockdown_is_told_from_missing_rights() {
        const EPERM: i32 = 1;
        let status = |text| ("proc/self/status", text);
        let levels = |text| ("sys/kernel/security/lockdown", text);
        let shut = no_memory(&[status(ROOT), levels("none integrity [confidentiality]\n")], EPERM);
        assert!(shut.contains("lockdown is on") && shut.contains("kdump"), "{shut}");
        assert!(shut.contains("boot without lockdown") && !shut.contains("as root"), "{shut}");
        let asked = no_memory(&[status(ROOT), ("proc/cmdline", "quiet lockdown=confidentiality\n")], EPERM);
        assert!(asked.contains("lockdown is on"), "{asked}");
        let likely = no_memory(&[status(ROOT), ("proc/cmdline", "quiet\n")], EPERM);
        assert!(likely.contains("most likely"), "{likely}");
        let other = no_memory(&[status(ROOT), levels("none [integrity] confidentiality\n")], EPERM);
        assert!(other.contains("a security module"), "{other}");
        for errno in [EPERM, 13] {
            let user = no_memory(&[status(USER), levels("none integrity [confidentiality]\n")], errno);
            assert!(user.contains("run it as root") && !user.contains("lockdown"), "{user}");
        }
        assert!(no_memory(&[], 2).contains("built without"));
        assert_eq!(no_memory(&[], 5), "/proc/kcore: Input/output error (os error 5)");
    }

    #[test]
    fn hidden_addresses_have_their_reason() {
        let hidden = |files: &[(&str, &str)]| said(files, why_hidden);
        let restrict = ("proc/sys/kernel/kptr_restrict", "2\n");
        let two = hidden(&[restrict, ("proc/self/status", ROOT)]);
        assert!(two.contains("kptr_restrict is 2") && !two.contains("as root"), "{two}");
        let user = hidden(&[("proc/sys/kernel/kptr_restrict", "1\n"), ("proc/self/status", USER)]);
        assert!(user.contains("run it as root, in no container"), "{user}");
        assert!(hidden(&[]).contains("kernel.kptr_restrict=2"));
    }
}

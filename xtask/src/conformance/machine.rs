//! A machine under software emulation that boots one kernel, once.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The emulator.
pub(super) const QEMU: &str = "qemu-system-x86_64";
/// Its packages.
pub(super) const PACKAGES: &[&str] = &["qemu-system-x86", "seabios", "ipxe-qemu"];
/// A boot takes about a minute; slower machines get more, but not for ever.
const TIMEOUT: Duration = Duration::from_secs(540);
/// Bytes of the disk on which the guest writes. A file with holes: only what is written takes room.
const DISK: u64 = 1 << 30;
/// Lines of the console that are worth seeing when something went wrong.
const TAIL: usize = 25;

/// What the machine is made of.
#[derive(Debug)]
pub(super) struct Machine<'m> {
    pub(super) cpu: &'m str,
    pub(super) cpus: u32,
    pub(super) kernel: &'m Path,
    pub(super) initramfs: &'m Path,
    pub(super) append: &'m str,
}

impl Machine<'_> {
    /// Boots and waits until the guest has powered off; `disk` is what it wrote, `console` what it said.
    pub(super) fn run(&self, disk: &Path, console: &Path) -> Result<()> {
        let file = File::create(disk).with_context(|| disk.display().to_string())?;
        file.set_len(DISK)?;
        let _ = std::fs::remove_file(console);
        let mut qemu = Command::new(QEMU);
        qemu.args(["-accel", "tcg,thread=multi", "-m", "3G", "-no-reboot", "-net", "none", "-nodefaults"])
            .args(["-display", "none", "-monitor", "none", "-cpu", self.cpu])
            .args(["-smp", &self.cpus.to_string()])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-drive")
            .arg(format!("file={},if=none,id=disk,format=raw,cache=unsafe", disk.display()))
            .args(["-device", "virtio-blk-pci,drive=disk"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", &format!("console=ttyS0 quiet panic=-1 {}", self.append)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Warnings about features that emulation lacks.
            .stderr(Stdio::null());
        let child = qemu.spawn().with_context(|| format!("cannot run {QEMU}"))?;
        match wait(child) {
            Ok(()) => Ok(()),
            Err(error) => bail!("{error:#}; the end of {}:\n{}", console.display(), tail(console)),
        }
    }
}

fn wait(mut child: Child) -> Result<()> {
    let start = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{QEMU}: {status}"),
            None if start.elapsed() < TIMEOUT => std::thread::sleep(Duration::from_millis(100)),
            None => {
                child.kill()?;
                child.wait()?;
                bail!("the guest was not done after {} s", TIMEOUT.as_secs());
            }
        }
    }
}

/// The last lines of the console, without what steers terminals.
pub(super) fn tail(console: &Path) -> String {
    let text = std::fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let harmless = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    let lines: Vec<String> = text.lines().rev().take(TAIL).map(harmless).collect();
    lines.into_iter().rev().map(|line| format!("    {line}\n")).collect()
}

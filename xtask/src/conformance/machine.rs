//! A machine under software emulation that boots one kernel, once.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::arch::Emulator;

/// A boot takes about a minute; slower machines get more, but not for ever.
pub(super) const PATIENCE: Duration = Duration::from_secs(540);
/// Bytes of the disk on which the guest writes. A file with holes: only what is written takes room.
const DISK: u64 = 1 << 30;
/// Lines of the console that are worth seeing when something went wrong.
const TAIL: usize = 25;

/// What the machine is made of.
#[derive(Debug)]
pub(super) struct Machine<'m> {
    pub(super) emulator: &'m Emulator,
    pub(super) cpu: &'m str,
    pub(super) cpus: u32,
    pub(super) kernel: &'m Path,
    pub(super) initramfs: &'m Path,
    pub(super) append: &'m str,
    /// More of what the machine is made of, as the emulator takes it.
    pub(super) devices: &'m [String],
    /// How long the guest may take.
    pub(super) patience: Duration,
}

impl Machine<'_> {
    /// Boots and waits until the guest has powered off; `disk` is what it wrote, `console` what it said.
    pub(super) fn run(&self, disk: &Path, console: &Path) -> Result<()> {
        let file = File::create(disk).with_context(|| disk.display().to_string())?;
        file.set_len(DISK)?;
        let _ = std::fs::remove_file(console);
        let Emulator { program, arguments, disk: device, console: line, .. } = self.emulator;
        let mut qemu = Command::new(program);
        qemu.args(*arguments)
            .args(["-no-reboot", "-net", "none", "-nodefaults", "-display", "none", "-monitor", "none"])
            .args(["-cpu", self.cpu, "-smp", &self.cpus.to_string()])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-drive")
            .arg(format!("file={},if=none,id=disk,format=raw,cache=unsafe", disk.display()))
            .args(["-device", &format!("{device},drive=disk,serial=modmem-out")])
            .args(self.devices)
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", &format!("console={line} quiet panic=-1 {}", self.append)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Warnings about features that emulation lacks.
            .stderr(Stdio::null());
        let child = qemu.spawn().with_context(|| format!("cannot run {program}"))?;
        match wait(child, program, self.patience) {
            Ok(()) => Ok(()),
            Err(error) => bail!("{error:#}; the end of {}:\n{}", console.display(), tail(console)),
        }
    }
}

fn wait(mut child: Child, program: &str, patience: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{program}: {status}"),
            None if start.elapsed() < patience => std::thread::sleep(Duration::from_millis(100)),
            None => {
                child.kill()?;
                child.wait()?;
                bail!("the guest was not done after {} s", patience.as_secs());
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

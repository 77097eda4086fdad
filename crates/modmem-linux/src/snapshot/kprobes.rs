//! The kprobes that are set: `/sys/kernel/debug/kprobes/list`.

use std::io::BufRead;

use super::lines::{each_line, hex};
use crate::Error;

/// More kprobes than anybody sets.
const MOST_KPROBES: usize = 1 << 18;

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kprobe {
    /// The instruction that it sits on.
    pub address: u64,
    /// The kernel's letter: `k` for a kprobe, `r` for a kretprobe.
    pub kind: char,
    /// Where it is, in the kernel's words: symbol with offset, and module.
    pub place: String,
    /// It is in place of a call that ftrace made.
    pub on_ftrace: bool,
    /// It was made a jump.
    pub optimized: bool,
    /// It is set but does not act.
    pub disabled: bool,
    /// Its module is gone.
    pub gone: bool,
}

/// Reads the kernel's list.
pub(crate) fn parse(shown: &str, input: impl BufRead) -> Result<Vec<Kprobe>, Error> {
    let mut probes = Vec::new();
    each_line(shown, input, |line| {
        let probe = parse_line(line).ok_or_else(|| format!("{line:?} is no line of the list of kprobes"))?;
        if probes.len() == MOST_KPROBES {
            return Err(format!("more than {MOST_KPROBES} kprobes"));
        }
        probes.push(probe);
        Ok(())
    })?;
    Ok(probes)
}

fn parse_line(line: &str) -> Option<Kprobe> {
    let (address, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    let mut letters = rest.chars();
    let kind = letters.next()?;
    let rest = letters.as_str().strip_prefix(' ')?;
    let is_flags = |word: &&str| word.starts_with('[') && word.ends_with(']');
    let flags = rest.split(' ').next_back().filter(is_flags).unwrap_or_default();
    // A module may stand in brackets too, but not with these names.
    let has = |flag: &str| flags.contains(flag);
    Some(Kprobe {
        address: hex(address)?,
        kind,
        place: rest.split_whitespace().filter(|word| *word != flags).collect::<Vec<_>>().join(" "),
        on_ftrace: has("[FTRACE]"),
        optimized: has("[OPTIMIZED]"),
        disabled: has("[DISABLED]"),
        gone: has("[GONE]"),
    })
}

/// Writes what [`parse`] reads.
pub(crate) fn write(probes: &[Kprobe]) -> String {
    let flag = |set: bool, name: &'static str| if set { name } else { "" };
    let line = |probe: &Kprobe| {
        format!(
            "{:016x}  {}  {}    {}{}{}{}\n",
            probe.address,
            probe.kind,
            probe.place,
            flag(probe.gone, "[GONE]"),
            flag(probe.disabled, "[DISABLED]"),
            flag(probe.optimized, "[OPTIMIZED]"),
            flag(probe.on_ftrace, "[FTRACE]"),
        )
    };
    probes.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_s_list_are_understood_and_come_back() {
        let text = "ffffffff812a4a90  k  vfs_read+0x0    [DISABLED][FTRACE]\n\
                    ffffffffc0a1b2c3  r  ext4_sync_file+0x0  ext4 \n\
                    ffffffffc0a1b2c8  k  ext4_sync_file+0x5  ext4 [OPTIMIZED]\n";
        let probes = parse("kprobes", text.as_bytes()).unwrap();
        assert_eq!(probes[0].address, 0xffff_ffff_812a_4a90);
        assert!(probes[0].disabled && probes[0].on_ftrace && !probes[0].optimized);
        assert_eq!((probes[1].kind, probes[1].place.as_str()), ('r', "ext4_sync_file+0x0 ext4"));
        assert!(probes[2].optimized && !probes[2].gone);
        assert_eq!(parse("again", write(&probes).as_bytes()).unwrap(), probes);
    }
}

//! What the guest wrote down.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// What a running kernel made of one module.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// 0, or why it was not loaded.
    pub(super) errno: i32,
    /// New lines of the kernel's log, without what /dev/kmsg puts before them.
    pub(super) log: Vec<String>,
    /// Its line in /proc/modules.
    pub(super) line: String,
    /// Files of /sys/module/NAME.
    pub(super) files: BTreeMap<String, String>,
    /// Names and addresses of sections.
    pub(super) sections: Vec<(String, u64)>,
    /// Memory, by address.
    pub(super) areas: BTreeMap<u64, Vec<u8>>,
    /// What unloading it came to.
    pub(super) unload: Option<i32>,
}

/// The answers to a file of modules.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// By number.
    pub(super) of: BTreeMap<usize, Answer>,
    /// The module that the kernel was asked about when it died.
    pub(super) died_of: Option<usize>,
    /// Whether all were asked about.
    pub(super) complete: bool,
}

impl Answers {
    pub(super) fn parse(bytes: &[u8]) -> Result<Answers> {
        let mut answers = Answers::default();
        let mut current = Answer::default();
        let mut at = 0;
        while let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&bytes[at..at + length]).into_owned();
            at += length + 1;
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let number = || rest.parse::<usize>().with_context(|| line.clone());
            let mut take = |length: usize| -> Option<&[u8]> {
                let taken = bytes.get(at..at.checked_add(length)?)?;
                at += length;
                Some(taken)
            };
            match word {
                "begin" => {
                    answers.died_of = Some(number()?);
                    current = Answer::default();
                }
                "module" => {
                    current.errno =
                        rest.split(' ').nth(1).and_then(|errno| errno.parse().ok()).context("errno")?;
                }
                "log" => {
                    let Some(text) = take(number()?) else { break };
                    let text = String::from_utf8_lossy(text);
                    let said =
                        text.lines().filter_map(|line| line.split_once(';')).map(|(_, said)| said.to_owned());
                    current.log.extend(said);
                }
                "line" => rest.clone_into(&mut current.line),
                "file" => {
                    let (name, length) = rest.rsplit_once(' ').context("a file")?;
                    let Some(text) = take(length.parse()?) else { break };
                    current.files.insert(name.to_owned(), String::from_utf8_lossy(text).trim().to_owned());
                }
                "section" => {
                    let (name, address) = rest.rsplit_once(' ').context("a section")?;
                    let address = u64::from_str_radix(address.trim_start_matches("0x"), 16);
                    current.sections.push((name.to_owned(), address.with_context(|| line.clone())?));
                }
                "area" => {
                    let (address, length) = rest.split_once(' ').context("an area")?;
                    let address = u64::from_str_radix(address.trim_start_matches("0x"), 16)?;
                    let Some(bytes) = take(length.parse()?) else { break };
                    current.areas.insert(address, bytes.to_vec());
                }
                "unload" => current.unload = Some(rest.parse()?),
                "done" => {
                    answers.of.insert(number()?, std::mem::take(&mut current));
                    answers.died_of = None;
                }
                "end" => answers.complete = true,
                "stopped" => bail!("the guest stopped: {rest}"),
                _ => bail!("the guest's answers have a line {line:?}"),
            }
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_what_the_kernel_died_of_is_known() {
        let text = b"begin 3\nmodule 3 0\nlog 20\n6,1,2,-;x: it is so\nline x 8192 0 - Live 0x1000\nfile taint 2\nP\n\
                     section .text 0x1000\narea 0x1000 4\nabcdunload 0\ndone 3\nbegin 4\nmodule 4 8\ndone 4\nbegin 5\n";
        let answers = Answers::parse(text).unwrap();
        assert_eq!((answers.died_of, answers.complete, answers.of.len()), (Some(5), false, 2));
        let one = &answers.of[&3];
        assert_eq!((one.errno, &*one.log[0], &*one.files["taint"]), (0, "x: it is so", "P"));
        assert_eq!((one.areas[&0x1000].as_slice(), one.unload), (&b"abcd"[..], Some(0)));
        assert_eq!(one.sections, [(".text".to_owned(), 0x1000)]);
        assert_eq!(answers.of[&4].errno, 8);
        assert!(Answers::parse(b"nonsense\n").is_err());
        assert!(Answers::parse(b"end 2\n").unwrap().complete);
    }
}

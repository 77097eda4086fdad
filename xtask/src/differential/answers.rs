//! What the guest wrote down.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// What a running kernel made of one step of a case.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// 0, or why it was not done.
    pub(super) errno: i32,
    /// New lines of the kernel's log, without what /dev/kmsg puts before them.
    pub(super) log: Vec<String>,
    /// /proc/modules afterwards.
    pub(super) modules: String,
    /// Whether all of /sys/module/NAME is here, and not only sections that were asked for.
    pub(super) whole: bool,
    /// Files of /sys/module/NAME.
    pub(super) files: BTreeMap<String, String>,
    /// Those of its notes.
    pub(super) notes: BTreeMap<String, Vec<u8>>,
    /// Names and addresses of sections.
    pub(super) sections: Vec<(String, u64)>,
    /// How many times the host had been asked for memory then, where the guest does not read it.
    look: Option<usize>,
    /// Memory, by address.
    pub(super) areas: BTreeMap<u64, Vec<u8>>,
    /// Where memory was asked for that cannot be read.
    pub(super) unread: Vec<u64>,
    /// The lines of modules in /proc/kallsyms, where the guest was to look.
    pub(super) kallsyms: Option<String>,
}

/// Where memory is, and what it is if it can be read.
pub(super) type Area = (u64, Option<Vec<u8>>);

/// What it made of a case.
#[derive(Clone, Debug, Default)]
pub(super) struct CaseAnswer {
    pub(super) steps: Vec<Answer>,
    /// What unloading all that was left came to, the newest first.
    pub(super) gone: Vec<i32>,
}

/// The answers to a file of cases.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// By number.
    pub(super) of: BTreeMap<usize, CaseAnswer>,
    /// The case that the kernel was asked about when it died.
    pub(super) died_of: Option<usize>,
    /// Whether all were asked about.
    pub(super) complete: bool,
}

impl Answers {
    pub(super) fn parse(bytes: &[u8]) -> Result<Answers> {
        let mut answers = Answers::default();
        let mut case = CaseAnswer::default();
        // Logs before the first step and behind the last are nobody's.
        let mut nobody = Answer::default();
        let mut at = 0;
        while let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&bytes[at..at + length]).into_owned();
            at += length + 1;
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let number = || rest.parse::<usize>().with_context(|| line.clone());
            let named = || rest.rsplit_once(' ').with_context(|| line.clone());
            let address = |text: &str| {
                u64::from_str_radix(text.trim_start_matches("0x"), 16).with_context(|| line.clone())
            };
            let mut take = |length: usize| -> Option<&[u8]> {
                let taken = bytes.get(at..at.checked_add(length)?)?;
                at += length;
                Some(taken)
            };
            let current = match case.gone.is_empty() {
                true => case.steps.last_mut().unwrap_or(&mut nobody),
                false => &mut nobody,
            };
            match word {
                "begin" => {
                    answers.died_of = Some(number()?);
                    case = CaseAnswer::default();
                }
                "step" => {
                    let errno = rest.parse().with_context(|| line.clone())?;
                    case.steps.push(Answer { errno, ..Answer::default() });
                }
                "log" => {
                    let Some(text) = take(number()?) else { break };
                    let text = String::from_utf8_lossy(text);
                    let said =
                        text.lines().filter_map(|line| line.split_once(';')).map(|(_, said)| said.to_owned());
                    current.log.extend(said);
                }
                "modules" => {
                    let Some(text) = take(number()?) else { break };
                    current.modules = String::from_utf8_lossy(text).into_owned();
                }
                "kallsyms" => {
                    let Some(text) = take(number()?) else { break };
                    current.kallsyms = Some(String::from_utf8_lossy(text).into_owned());
                }
                "file" => {
                    let (name, length) = named()?;
                    let Some(text) = take(length.parse()?) else { break };
                    current.files.insert(name.to_owned(), String::from_utf8_lossy(text).trim().to_owned());
                }
                "note" => {
                    let (name, length) = named()?;
                    let Some(text) = take(length.parse()?) else { break };
                    current.notes.insert(name.to_owned(), text.to_vec());
                }
                "section" => {
                    let (name, start) = named()?;
                    current.sections.push((name.to_owned(), address(start)?));
                }
                "area" => {
                    let (start, length) = named()?;
                    let Some(bytes) = take(length.parse()?) else { break };
                    current.areas.insert(address(start)?, bytes.to_vec());
                }
                "unread" => current.unread.push(address(rest)?),
                "look" => current.look = Some(number()?),
                "whole" => current.whole = true,
                "gone" => case.gone.push(rest.parse().with_context(|| line.clone())?),
                "done" => {
                    answers.of.insert(number()?, std::mem::take(&mut case));
                    answers.died_of = None;
                }
                "end" => (answers.complete, answers.died_of) = (true, None),
                "stopped" => bail!("the guest stopped: {rest}"),
                _ => bail!("the guest's answers have a line {line:?}"),
            }
        }
        Ok(answers)
    }

    /// Gives each step the memory that the host read for it.
    pub(super) fn add_memory(&mut self, looks: Vec<Vec<Area>>) {
        let mut looks: Vec<Option<Vec<Area>>> = looks.into_iter().map(Some).collect();
        for step in self.of.values_mut().flat_map(|case| &mut case.steps) {
            let number = step.look.and_then(|number| number.checked_sub(1));
            for (start, bytes) in
                number.and_then(|number| looks.get_mut(number)?.take()).into_iter().flatten()
            {
                match bytes {
                    Some(bytes) => drop(step.areas.insert(start, bytes)),
                    None => step.unread.push(start),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_what_the_kernel_died_of_is_known() {
        let text = b"begin 3\nstep 0\nwhole\nlog 20\n6,1,2,-;x: it is so\nmodules 28\nx 8192 0 - Live 0x1000 (OE)\n\
                     file taint 2\nP\nsection .text 0x1000\nnote .n 1\nzarea 0x1000 4\nabcdkallsyms 2\nk\nlook 2\n\
                     step 17\nmodules 0\ngone 0\nlog 9\n6,1,2,-;\ngone 11\ndone 3\nbegin 4\nstep 8\nmodules 0\n\
                     done 4\nbegin 5\n";
        let mut answers = Answers::parse(text).unwrap();
        answers.add_memory(vec![Vec::new(), vec![(0x2000, Some(b"efgh".to_vec())), (0x5000, None)]]);
        assert_eq!((answers.died_of, answers.complete, answers.of.len()), (Some(5), false, 2));
        let [one, two] = &answers.of[&3].steps[..] else { panic!("two steps") };
        assert_eq!((one.errno, &*one.log[0], &*one.files["taint"]), (0, "x: it is so", "P"));
        assert_eq!((one.areas[&0x1000].as_slice(), &*one.notes[".n"]), (&b"abcd"[..], &b"z"[..]));
        assert_eq!(one.sections, [(".text".to_owned(), 0x1000)]);
        assert_eq!(one.areas[&0x2000], b"efgh");
        assert_eq!((one.whole, two.whole, &*one.unread), (true, false, &[0x5000][..]));
        assert!(one.modules.starts_with("x 8192 0"));
        assert_eq!((one.kallsyms.as_deref(), two.errno, two.log.len()), (Some("k\n"), 17, 0));
        assert_eq!((&*answers.of[&3].gone, answers.of[&4].steps[0].errno), (&[0, 11][..], 8));
        assert!(Answers::parse(b"nonsense\n").is_err());
        let end = Answers::parse(b"begin 2\nend 2\n").unwrap();
        assert!(end.complete && end.died_of.is_none());
    }
}

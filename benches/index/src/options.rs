//! What the command line says.

use std::path::PathBuf;

const USAGE: &str = "\
usage: index-bench [--quick] [--only PART,...] [--docs DIR]

  --quick          few rounds: shows that all works, for numbers nobody should quote
  --only PART,...  of: thread, speed, memory, updates, writer, protection
  --docs DIR       put tables into index.md there, and pictures into pictures/";

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Thread,
    Speed,
    Memory,
    Updates,
    Writer,
    Protection,
}

impl Part {
    const ALL: [(&'static str, Part); 6] = [
        ("thread", Part::Thread),
        ("speed", Part::Speed),
        ("memory", Part::Memory),
        ("updates", Part::Updates),
        ("writer", Part::Writer),
        ("protection", Part::Protection),
    ];
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) docs: Option<PathBuf>,
    parts: Vec<Part>,
}

impl Options {
    pub(crate) fn parse(arguments: Vec<String>) -> Result<Options, String> {
        let mut options =
            Options { quick: false, docs: None, parts: Part::ALL.map(|(_, part)| part).to_vec() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n\n{USAGE}"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--only" => options.parts = value()?.split(',').map(part).collect::<Result<_, _>>()?,
                "--docs" => options.docs = Some(PathBuf::from(value()?)),
                "--help" | "-h" => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                _ => return Err(format!("unknown argument {argument}\n\n{USAGE}")),
            }
        }
        if options.docs.is_some() && options.parts.len() < Part::ALL.len() {
            return Err("--docs takes all parts: tables of one page are of one run".to_owned());
        }
        Ok(options)
    }

    pub(crate) fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// One of two numbers.
    pub(crate) fn scale<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

fn part(name: &str) -> Result<Part, String> {
    let known = Part::ALL.iter().find(|&&(other, _)| other == name);
    known.map(|&(_, part)| part).ok_or_else(|| format!("unknown part {name}\n\n{USAGE}"))
}

//! What the user wants loaded: `ext4 loop max_loop=8 ./my.ko`.

use anyhow::{Result, bail};
use modmem_linux::{Kernel, ModuleFile, Wanted};

/// Modules as the user named them, each with its arguments.
#[derive(Debug, Default)]
pub(crate) struct Request {
    wanted: Vec<Word>,
}

#[derive(Debug)]
struct Word {
    name: String,
    arguments: Vec<String>,
}

impl Request {
    /// Parts words into modules and, behind each, its `name=value` arguments.
    pub(crate) fn parse(words: &[String]) -> Result<Request> {
        let mut wanted: Vec<Word> = Vec::new();
        for word in words {
            match (is_argument(word), wanted.last_mut()) {
                (true, Some(module)) => module.arguments.push(word.clone()),
                (true, None) => bail!("parameter \"{word}\" comes before any module; write MODULE {word}"),
                (false, _) => wanted.push(Word { name: word.clone(), arguments: Vec::new() }),
            }
        }
        Ok(Request { wanted })
    }

    /// The modules' files, found as modprobe finds them, or by path.
    pub(crate) fn find(&self, kernel: &Kernel) -> Result<Vec<Wanted>> {
        let mut files = Vec::new();
        for Word { name, .. } in &self.wanted {
            files.extend(kernel.find_to_load(name)?);
        }
        Ok(files)
    }

    /// What the user wrote behind this module's name.
    pub(crate) fn arguments_of(&self, module: &ModuleFile) -> &[String] {
        let same = |wanted: &&Word| match module.is_outside() {
            true => wanted.name == module.path(),
            false => wanted.name.replace('-', "_") == module.name(),
        };
        self.wanted.iter().find(same).map_or(&[], |wanted| &wanted.arguments)
    }
}

/// `name=value`; a path may have a `=` in it, behind a slash.
fn is_argument(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Request> {
        Request::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_belong_to_the_module_before_them() {
        let request = parse(&["ext4", "loop", "max_loop=8", "a=b=c", "./x=y/my.ko"]).unwrap();
        let wanted: Vec<_> = request.wanted.iter().map(|w| (w.name.as_str(), w.arguments.len())).collect();
        assert_eq!(wanted, [("ext4", 0), ("loop", 2), ("./x=y/my.ko", 0)]);
    }

    #[test]
    fn an_argument_without_a_module_is_refused() {
        assert!(parse(&["max_loop=8", "loop"]).is_err());
    }
}

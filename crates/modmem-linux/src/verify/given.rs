//! Module files that somebody gives by hand: those of modules that the kernel's package does not have.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use modmem::Image;

use crate::Error;
use crate::deb::Deb;
use crate::module_file::{Origin, module_name, read_module_file};
use crate::root::{Found, Root};
use crate::snapshot::ModuleRecord;

/// Files and folders of modules, by the modules' names.
#[derive(Debug, Default)]
pub struct GivenFiles {
    files: HashMap<String, Vec<Given>>,
    /// Folders that could not be looked into, in words.
    unread: Vec<String>,
}

/// One file.
#[derive(Clone, Debug)]
struct Given {
    path: PathBuf,
    /// Whether somebody named it, and not only a folder that it lies in.
    named: bool,
}

/// What a module is to be compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The file of this path, given by hand.
    Given(PathBuf),
    /// The file that is there anyway, if there is one.
    Other,
}

/// How a file's build id compares with the one that the kernel shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Same,
    Unknown,
    Different,
}

impl GivenFiles {
    /// Looks at module files, plain or compressed, and at folders of them, whatever they hold besides. A file that is
    /// named is called as it calls itself; those in folders are called as their files are.
    ///
    /// # Errors
    /// A path cannot be read, or a file that was named is no module.
    pub fn open(paths: &[PathBuf]) -> Result<GivenFiles, Error> {
        let mut given = GivenFiles::default();
        for path in paths {
            let metadata = fs::metadata(path).map_err(Error::read(path))?;
            if metadata.is_dir() {
                if given.add_folder(path)? == 0 {
                    return Err(wrong(path, "no module is in this folder"));
                }
                continue;
            }
            if !metadata.is_file() {
                return Err(wrong(path, "neither a file nor a folder"));
            }
            if Deb::is_at(path) {
                return Err(wrong(path, "a package and no module; give it by --kernel, beside the kernel's"));
            }
            let file = read_module_file(path)?;
            let image = Image::parse(&file).map_err(|error| wrong(path, error))?;
            given.add(image.name().to_text(), Given { path: path.clone(), named: true });
        }
        Ok(given)
    }

    /// Adds the modules of a folder and says how many these are.
    fn add_folder(&mut self, folder: &Path) -> Result<usize, Error> {
        let Found { mut files, remarks } = Root::Plain { folder: folder.to_path_buf() }.files("")?;
        self.unread.extend(remarks);
        // The order in which a folder lists them is none.
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut count = 0;
        for (name, place) in files {
            let Some((name, path)) = module_name(&name).zip(place.path()) else { continue };
            self.add(name, Given { path: path.to_path_buf(), named: false });
            count += 1;
        }
        Ok(count)
    }

    /// The same file may be named twice, and lie in a folder that is named too.
    fn add(&mut self, name: String, file: Given) {
        let files = self.files.entry(name).or_default();
        match files.iter_mut().find(|known| known.path == file.path) {
            Some(known) => known.named |= file.named,
            None => files.push(file),
        }
    }

    /// Whether there is one for a module of this name, of whatever build.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Those that were named, with the modules that they are of, if `is_loaded` says no of these; and folders that could
    /// not be looked into.
    pub fn not_loaded(&self, is_loaded: impl Fn(&str) -> bool) -> Vec<String> {
        let files = self.files.iter().filter(|(name, _)| !is_loaded(name));
        let named = files.flat_map(|(name, files)| files.iter().map(move |file| (name, file)));
        let named = named.filter(|(_, file)| file.named);
        let mut words: Vec<String> = named
            .map(|(name, file)| format!("{}: not used, as no module {name} is loaded", file.path.display()))
            .collect();
        words.sort_unstable();
        words.extend(self.unread.iter().cloned());
        words
    }

    /// Chooses the file of a module, and says in `words` which ones are passed over. `other` is where a file lies that is
    /// there anyway, and its contents.
    ///
    /// Build ids decide. Of files that they do not tell apart, one of a package is taken before one that was given by
    /// hand, and that one before one that the machine itself brings: a build id is written into a file with ease.
    ///
    /// # Errors
    /// Several files could be the module's and differ, or one cannot be read.
    pub fn choose(
        &self,
        record: &ModuleRecord,
        other: Option<(Origin, &[u8])>,
        words: &mut Vec<String>,
    ) -> Result<Choice, Error> {
        let Some(files) = self.files.get(&record.name) else { return Ok(Choice::Other) };
        let mut judged = Vec::with_capacity(files.len());
        for file in files {
            let fit = match read_module_file(&file.path).map(|bytes| fit(record, &bytes)) {
                Ok(Ok(fit)) => fit,
                Ok(Err(problem)) if !file.named => {
                    words.push(format!("{}: passed over ({problem})", file.path.display()));
                    continue;
                }
                Ok(Err(problem)) => return Err(wrong(&file.path, problem)),
                Err(error) if !file.named => {
                    words.push(format!("passed over: {error}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            judged.push((file, fit));
        }
        let those = |wanted: Fit, named: Option<bool>| -> Vec<&Given> {
            let is = |(file, fit): &&(&Given, Fit)| {
                *fit == wanted && named.is_none_or(|named| file.named == named)
            };
            judged.iter().filter(is).map(|(file, _)| *file).collect()
        };
        let trusted = other.filter(|(origin, _)| origin.is_of_package());
        // What is no module at all is told when it is compared.
        let other_fit = other.map(|(_, bytes)| fit(record, bytes).unwrap_or(Fit::Unknown));
        let of_package = |wanted: Fit| trusted.is_some() && other_fit == Some(wanted);
        let (same, named) = (those(Fit::Same, None), those(Fit::Unknown, Some(true)));
        let in_folders = those(Fit::Unknown, Some(false));
        let chosen = if of_package(Fit::Same) {
            None
        } else if !same.is_empty() {
            Some(same)
        } else if other_fit == Some(Fit::Same) {
            None
        } else if !named.is_empty() {
            Some(named)
        } else if of_package(Fit::Unknown) {
            None
        } else if !in_folders.is_empty() {
            Some(in_folders)
        } else if other.is_some() {
            None
        } else {
            // Of another build: the comparison will say so, and what speaks for it.
            Some(those(Fit::Different, Some(true))).filter(|files| !files.is_empty())
        };
        let chosen = chosen.map(|files| one(record, &files)).transpose()?;
        for (file, fit) in &judged {
            let path = file.path.display();
            let why = match fit {
                Fit::Different => {
                    "passed over, as it is another build than the one that runs (the build ids differ)"
                }
                _ if file.named && chosen.is_none() => {
                    "not used, as the kernel's files have this build of it"
                }
                _ => continue,
            };
            if chosen.is_none_or(|chosen| chosen.path != file.path) {
                words.push(format!("{path}: {why}"));
            }
        }
        Ok(chosen.map_or(Choice::Other, |file| Choice::Given(file.path.clone())))
    }
}

/// The one file that several are, if they are all the same.
fn one<'g>(record: &ModuleRecord, files: &[&'g Given]) -> Result<&'g Given, Error> {
    let Some((first, rest)) = files.split_first() else {
        return Err(Error::malformed(record.name.clone(), "no file"));
    };
    let contents = if rest.is_empty() { Vec::new() } else { read_module_file(&first.path)? };
    for next in rest {
        if read_module_file(&next.path)? != contents {
            let problem = format!(
                "both this file and {} are of module {}, and no build id says which of them runs; give one of them",
                next.path.display(),
                record.name
            );
            return Err(wrong(&first.path, problem));
        }
    }
    Ok(first)
}

/// How a file fits the module that runs; in words, if it is no module or calls itself otherwise.
fn fit(record: &ModuleRecord, file: &[u8]) -> Result<Fit, String> {
    let image = Image::parse(file).map_err(|error| error.to_string())?;
    let name = image.name().to_text();
    if name != record.name {
        return Err(format!("it is module {name}, whatever it is called"));
    }
    Ok(match (&record.build_id, image.build_id()) {
        (Some(running), Some(own)) if running.as_slice() == own => Fit::Same,
        (Some(_), Some(_)) => Fit::Different,
        _ => Fit::Unknown,
    })
}

fn wrong(path: &Path, problem: impl ToString) -> Error {
    Error::malformed(path.display().to_string(), problem.to_string())
}

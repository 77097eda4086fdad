//! `modmem info`: what a module's file is before it is loaded.

mod report;
mod text;

use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use modmem::image::Image;
use modmem::profile::{Profile, ProfileError};
use modmem_linux::{Error, Kernel, read_module_file};

use crate::args::InfoArgs;
use crate::output::{self, Bars, harmless, json};
use crate::session::{open_files, profile_of};
use report::{BuiltInReport, FileReport};

pub(crate) fn run(arguments: &InfoArgs) -> Result<()> {
    let asked = arguments.profile.as_deref();
    // A kernel is only needed for names, or if the user gave one.
    let by_name = arguments.files.iter().any(|word| !is_path(word));
    let kernel = match by_name || !arguments.kernel.kernel.is_empty() {
        true => Some(open_files(&arguments.kernel, Bars::new())?),
        false => None,
    };
    let (mut reports, mut built_in) = (Vec::new(), Vec::new());
    let mut failures = 0;
    for word in &arguments.files {
        let files = match find(word, kernel.as_ref())? {
            Found::Files(files) => files,
            Found::BuiltIn(report) => {
                built_in.push(report);
                continue;
            }
        };
        for (path, file) in files {
            match describe(&path, &file, asked, kernel.as_ref()) {
                Ok(report) => reports.push(report),
                Err(error) if arguments.files.len() == 1 => return Err(error.context(path)),
                Err(error) => {
                    failures += 1;
                    output::tell(&format!("{}: {}", harmless(&path), crate::explain(&error)));
                }
            }
        }
    }
    if arguments.json {
        json::print("info", Files { files: &reports, built_in: &built_in })?;
    } else {
        let mut out = output::Harmless(anstream::stdout().lock());
        for (index, report) in reports.iter().enumerate() {
            let gap = if index > 0 { "\n" } else { "" };
            write!(out, "{gap}{}", text::page(report))?;
        }
        for (index, report) in built_in.iter().enumerate() {
            let gap = if index + reports.len() > 0 { "\n" } else { "" };
            write!(out, "{gap}{}", text::built_in(report))?;
        }
        out.flush()?;
    }
    match failures {
        0 => Ok(()),
        count => bail!("{count} of {} files could not be read as modules", count + reports.len()),
    }
}

#[derive(Serialize)]
struct Files<'r> {
    files: &'r [FileReport],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    built_in: &'r [BuiltInReport],
}

/// Is this a file, or meant as one? Aliases may have slashes too: `devname:net/tun`.
fn is_path(word: &str) -> bool {
    let starts = ["/", "./", "../"];
    starts.iter().any(|start| word.starts_with(start)) || std::path::Path::new(word).is_file()
}

/// What a word stands for.
enum Found {
    Files(Vec<(String, Vec<u8>)>),
    BuiltIn(BuiltInReport),
}

fn find(word: &str, kernel: Option<&Kernel>) -> Result<Found> {
    let Some(kernel) = kernel.filter(|_| !is_path(word)) else {
        return Ok(Found::Files(vec![(word.to_owned(), read_module_file(word)?)]));
    };
    match kernel.find(word) {
        Ok(modules) => {
            let files = modules.iter().map(|module| Ok((module.path().to_owned(), kernel.read(module)?)));
            Ok(Found::Files(files.collect::<Result<_>>()?))
        }
        Err(Error::BuiltIn { name, release }) => match kernel.built_in_info(&name) {
            Some(fields) => Ok(Found::BuiltIn(BuiltInReport::of(&name, release, fields))),
            None => Err(Error::BuiltIn { name, release }.into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn describe(path: &str, file: &[u8], asked: Option<&str>, kernel: Option<&Kernel>) -> Result<FileReport> {
    let image = Image::parse(file)?;
    let profile = match asked {
        Some(version) => named(&image, version).context("--profile")?,
        None => profile(&image, kernel)?,
    };
    FileReport::of(path, file, &image, &profile)
}

/// The kernel's profile, or that of the version that the module was built for.
fn profile(image: &Image<'_>, kernel: Option<&Kernel>) -> Result<Profile> {
    if let Some(kernel) = kernel {
        return Ok(profile_of(kernel, None)?.0);
    }
    let vermagic = image.modinfo().get("vermagic").unwrap_or_default().to_text();
    let hint = || "the module does not say for which kernel it was built; give --profile VERSION".to_owned();
    let release = vermagic.split(' ').next().unwrap_or_default();
    named(image, release).with_context(hint)
}

/// The profile of a version on the module's machine; on x86-64 if this build does not have that machine, for what all
/// share.
fn named(image: &Image<'_>, version: &str) -> Result<Profile, ProfileError> {
    match Profile::named_for(image.machine(), version) {
        Err(ProfileError::Machine(_)) => Profile::named(version),
        profile => profile,
    }
}

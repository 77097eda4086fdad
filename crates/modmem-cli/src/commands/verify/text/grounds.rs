//! What the verdict rests on, in a few lines.

use super::counted;
use super::page::Page;
use crate::commands::verify::report::Report;
use crate::output::harmless;

/// Packages, files by hand, and the machine's own word.
pub(super) fn show(page: &mut Page, report: &Report) {
    let grounds = &report.rests_on;
    page.title("What this rests on");
    for package in &grounds.packages {
        let of = if package.key.starts_with('/') { "a key of " } else { "" };
        page.paragraph(&format!(
            "package {} {} of {}, signed by {of}{}, SHA-256 {}",
            harmless(&package.name),
            harmless(&package.version),
            harmless(&package.origin),
            harmless(&package.key),
            package.sha256
        ));
    }
    for given in &grounds.given {
        let path = harmless(&given.path);
        page.paragraph(&match given.files {
            None => format!("given by hand: {path}, SHA-256 {}", given.sha256),
            Some(files) => {
                format!(
                    "given by hand: {} of {path}, SHA-256 of their list {}",
                    counted(files, "file"),
                    given.sha256
                )
            }
        });
    }
    if grounds.program {
        page.paragraph("files that modmem itself brings");
    }
    page.paragraph(&format!("the machine itself: {}", grounds.machine.join("; ")));
}

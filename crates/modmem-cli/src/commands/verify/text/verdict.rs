//! The last line.

use super::counted;
use super::page::Page;
use crate::commands::verify::report::{Report, Verdict};
use crate::output::{BAD, GOOD, grouped};

/// What it comes to.
pub(super) fn show(page: &mut Page, report: &Report) {
    let Report { verdict, total, .. } = report;
    page.line("");
    let Verdict { modules, compared, .. } = *verdict;
    if verdict.consistent {
        let unproven = match total.unproven_bytes() {
            0 => String::new(),
            bytes => format!(", {} of them in either of two states", grouped(bytes)),
        };
        let own = verdict.modules_with_own_files;
        let whose = match (own == modules, report.live) {
            (true, false) => "the files that it brought".to_owned(),
            (true, true) => "the files on its own disk".to_owned(),
            (false, _) => format!("files of which it brought those of {} itself", counted(own, "module")),
        };
        let (result, style) = match (verdict.clean, own) {
            (true, 0) => ("verified".to_owned(), GOOD),
            (true, _) => (format!("verified, if {whose} are to be trusted (--own-files)"), GOOD),
            (false, _) => (format!("consistent with {whose}, for which nobody vouches"), BAD),
        };
        let text = format!(
            "{result}: nothing unexplained in {}, {} bytes compared{unproven}",
            counted(modules, "module"),
            grouped(compared)
        );
        page.line(&format!("{}{text}{}", style.render(), style.render_reset()));
        if !verdict.clean {
            page.paragraph(
                "That is no verdict about the machine: whoever changed its memory may have changed these files. Give the \
                 kernel's package by --kernel, or trust them by --own-files.",
            );
        }
        return;
    }
    let mut parts = Vec::new();
    if verdict.unexplained > 0 {
        parts.push(format!(
            "{} unexplained in {}",
            counted(verdict.unexplained as usize, "byte"),
            counted(verdict.modules_with_unexplained, "module")
        ));
    }
    if verdict.compared == 0 {
        parts.push("nothing was compared".to_owned());
    }
    let mut part = |count: usize, thing: &str, what: &str| {
        if count > 0 {
            parts.push(format!("{} {what}", counted(count, thing)));
        }
    };
    part(verdict.unexplained_strays, "piece", "of memory that no listed module owns");
    if !verdict.own_files {
        part(
            verdict.modules_with_own_files,
            "module",
            "compared with files of the machine itself, for which nobody vouches",
        );
    }
    part(verdict.modules_without_file, "module", "without a file");
    part(verdict.modules_not_comparable, "module", "not comparable");
    part(verdict.missing as usize, "byte", "of modules not in the snapshot");
    part(report.contradictions.len(), "statement", "of the machine that is not so");
    if verdict.strict && !verdict.proven {
        part(report.beliefs.len(), "thing", "believed without support, which --strict does not accept");
    }
    if verdict.unseen > 0 {
        parts.push(
            "where modules may lie was not looked at, so others may be there (take a new snapshot)".into(),
        );
    }
    let text = format!("NOT VERIFIED, of {}: {}", counted(modules, "module"), parts.join("; "));
    page.line(&format!("{}{text}{}", BAD.render(), BAD.render_reset()));
}

//! The last line.

use super::counted;
use super::page::Page;
use crate::commands::verify::report::{Report, Verdict};
use crate::output::{BAD, GOOD, grouped};

/// What it comes to.
pub(super) fn show(page: &mut Page, report: &Report) {
    let Report { verdict, total, .. } = report;
    page.line("");
    let Verdict { modules, .. } = *verdict;
    if verdict.clean {
        let compared = total.bytes - total.not_compared_bytes();
        let unproven = match total.unproven_bytes() {
            0 => String::new(),
            bytes => format!(", {} of them in either of two states", grouped(bytes)),
        };
        let text = format!(
            "verified: nothing unexplained in {}, {} bytes compared{unproven}",
            counted(modules, "module"),
            grouped(compared)
        );
        page.line(&format!("{}{text}{}", GOOD.render(), GOOD.render_reset()));
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
    let mut part = |count: usize, thing: &str, what: &str| {
        if count > 0 {
            parts.push(format!("{} {what}", counted(count, thing)));
        }
    };
    part(verdict.unexplained_strays, "piece", "of memory that no listed module owns");
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

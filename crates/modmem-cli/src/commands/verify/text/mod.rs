//! The report for people: what stands out first, the verdict last.

mod beliefs;
mod files;
mod grounds;
mod hidden;
mod hooks;
mod modules;
mod page;
mod places;
mod state;
mod verdict;

use super::report::Report;
use crate::output::{grouped, harmless};
use page::Page;

/// The whole report.
pub(super) fn page(report: &Report, verbose: bool) -> String {
    let mut page = Page::default();
    let (modules, release) = (report.verdict.modules, harmless(&report.kernel.release));
    page.line(&format!(
        "{}: {release}, {}, compared with {}",
        harmless(&report.snapshot),
        counted(modules, "module"),
        harmless(&report.files)
    ));
    modules::table(&mut page, &report.modules, verbose);
    modules::not_compared(&mut page, &report.modules);
    files::show(&mut page, report, verbose);
    places::unexplained(&mut page, &report.modules, verbose);
    hidden::show(&mut page, &report.hidden, &report.hooks, verbose);
    places::strays(&mut page, &report.strays);
    beliefs::contradictions(&mut page, report);
    hooks::show(&mut page, &report.hooks, verbose);
    modules::totals(&mut page, &report.total);
    state::show(&mut page, &report.state, verbose);
    beliefs::believed(&mut page, report, verbose);
    remarks(&mut page, report);
    grounds::show(&mut page, report);
    verdict::show(&mut page, report);
    page.text
}

fn remarks(page: &mut Page, report: &Report) {
    if report.remarks.is_empty() {
        return;
    }
    page.title("Remarks");
    report.remarks.iter().for_each(|remark| page.paragraph(&harmless(remark)));
}

/// So many of a thing.
fn counted(count: usize, thing: &str) -> String {
    format!("{} {thing}{}", grouped(count as u64), if count == 1 { "" } else { "s" })
}

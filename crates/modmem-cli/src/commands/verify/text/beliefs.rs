//! What the machine says that is not so, and what was believed.

use super::counted;
use super::page::Page;
use crate::commands::verify::belief::BeliefReport;
use crate::commands::verify::report::Report;
use crate::output::{BAD, harmless};

/// Beliefs of one kind that are shown without `-v`.
const SHOWN: usize = 4;

/// Contradictions: each is reason enough for the verdict.
pub(super) fn contradictions(page: &mut Page, report: &Report) {
    if report.contradictions.is_empty() {
        return;
    }
    page.title("What the machine says of itself, and what is not so");
    for line in &report.contradictions {
        page.line(&format!("{}  {}{}", BAD.render(), harmless(line), BAD.render_reset()));
    }
}

/// What was believed: all of it, or the first of each kind.
pub(super) fn believed(page: &mut Page, report: &Report, verbose: bool) {
    if report.beliefs.is_empty() {
        return;
    }
    page.title(
        "Believed, as nothing but the machine's own word supports it (--strict takes it for unverified)",
    );
    let mut rest = report.beliefs.as_slice();
    while let Some(first) = rest.first() {
        let alike = |belief: &BeliefReport| belief.kind == first.kind && belief.owner == first.owner;
        let count = rest.iter().take_while(|belief| alike(belief)).count();
        let (these, others) = rest.split_at(count);
        let shown = if verbose { count } else { count.min(SHOWN) };
        these.iter().take(shown).for_each(|belief| page.paragraph(&line(belief)));
        if shown < count {
            page.line(&format!("  {} more such: -v shows them", counted(count - shown, "thing")));
        }
        rest = others;
    }
}

fn line(belief: &BeliefReport) -> String {
    match &belief.start {
        Some(start) => format!("{}: {}", start.0, harmless(&belief.text)),
        None => harmless(&belief.text),
    }
}

//! A case about which Linux and modmem differ, made small: changes are left out while they still do.

use anyhow::Result;

use super::compare::Outcome;
use super::generate::Case;
use super::work::Asker;

/// The smallest case found. `make` makes the same one with some of its changes only.
pub(super) fn shrink(asker: &mut Asker<'_>, case: Case, make: impl Fn(&[usize]) -> Case) -> Result<Case> {
    let mut smallest = case;
    while smallest.changes.len() > 1 {
        let numbers: Vec<usize> = smallest.changes.iter().map(|(number, _)| *number).collect();
        let without = |gone: &usize| -> Vec<usize> {
            numbers.iter().copied().filter(|number| number != gone).collect()
        };
        let variants = numbers.iter().map(|gone| make(&without(gone))).collect();
        let results = asker.ask(variants, true)?;
        let smaller = results.into_iter().find(|(variant, judged)| {
            variant.changes.len() < smallest.changes.len()
                && judged
                    .outcomes
                    .iter()
                    .any(|outcome| matches!(outcome, Outcome::Differs(_) | Outcome::Deadly))
        });
        match smaller {
            Some((case, _)) => smallest = case,
            None => break,
        }
    }
    Ok(smallest)
}

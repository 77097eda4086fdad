//! Code whose form depends on a few variables of the machine's state.

use super::Standing;
use super::Variable;
use super::subject::Subject;
use crate::address::RunAddr;

/// Most variables that one place can depend on without a value of their own.
pub(crate) const MOST: usize = 6;

/// The code at `address` as it must be, where its form depends on `variables`, of which the evidence has been told
/// what the guest's memory says. `build` makes the form for a choice of values, a bit each; `is_like` compares what is
/// expected with what is found. What is found speaks for the variables that nothing else tells.
pub(crate) fn decide<K, C: AsRef<[u8]>>(
    subject: &mut Subject<'_, '_, K>,
    address: RunAddr,
    variables: &[Variable],
    mut build: impl FnMut(u32) -> C,
    is_like: impl Fn(&[u8], &[u8]) -> bool,
) -> (C, Standing) {
    let variables = &variables[..variables.len().min(MOST)];
    let evidence = &mut *subject.state;
    let (mut certain, mut lean) = (0, 0);
    for (at, &variable) in variables.iter().enumerate() {
        certain |= u32::from(evidence.certain(variable).is_some()) << at;
        lean |= u32::from(evidence.leaning(variable) == Some(1)) << at;
    }
    let all = (1 << variables.len()) - 1;
    let mut fits = |bits: u32| {
        let code = build(bits);
        let found = subject.module.found(address, code.as_ref().len());
        let fit = found.is_some_and(|found| is_like(code.as_ref(), found));
        (code, fit)
    };
    let (leaning, fit) = fits(lean);
    if certain == all {
        if fit {
            return (leaning, Standing::Certain);
        }
        // One variable that were otherwise would make it right?
        let other = (0..variables.len()).find(|at| fits(lean ^ 1 << at).1);
        let standing = other.map_or(Standing::Certain, |at| Standing::OutOfStep(variables[at]));
        return (leaning, standing);
    }
    let mut matched = None;
    let (mut always, mut ever) = (all, 0);
    for bits in 0..=all {
        if (bits ^ lean) & certain != 0 {
            continue;
        }
        let (code, fit) = fits(bits);
        if fit {
            (always, ever) = (always & bits, ever | bits);
            // Of several, the one that agrees most with what is thought so far.
            let distance = (bits ^ lean).count_ones();
            if matched.as_ref().is_none_or(|&(_, best, _)| distance < best) {
                matched = Some((code, distance, bits));
            }
        }
    }
    for (at, &variable) in variables.iter().enumerate() {
        let taken = matched.as_ref().map_or(lean, |&(_, _, bits)| bits);
        match (always >> at & 1, ever >> at & 1) {
            (1, 1) if matched.is_some() => evidence.vote(variable, 1),
            (_, 0) if matched.is_some() => evidence.vote(variable, 0),
            // Either value can make this code, but perhaps not with the values that others turn out to have.
            _ => evidence.rely(variable, u64::from(taken >> at & 1)),
        }
    }
    (matched.map_or(leaning, |(code, ..)| code), Standing::Certain)
}

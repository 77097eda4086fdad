//! What the machine says of itself that is not so, in words.

use modmem_linux::verify::{Difference, OwnSymbols, Verification};

/// Symbols that are named, of many.
const NAMED: usize = 8;

/// All of it.
pub(super) fn all(verification: &Verification) -> Vec<String> {
    let symbols = symbols(&verification.own_symbols);
    symbols.into_iter().chain(verification.contradictions.iter().cloned()).collect()
}

fn symbols(own: &OwnSymbols) -> Vec<String> {
    match own {
        OwnSymbols::Believed | OwnSymbols::AsImage { .. } => Vec::new(),
        OwnSymbols::OtherKernel { alike, asked } => vec![format!(
            "its list of the kernel's own symbols is not that of the kernel's image: of {asked} that were asked for, \
             {alike} lie as far apart as there; the image is of another build, or the list was made up"
        )],
        OwnSymbols::Differ(differences) => {
            let mut lines: Vec<String> = differences.kept.iter().take(NAMED).map(difference).collect();
            let more = differences.kept.len().saturating_sub(NAMED) + differences.more;
            if more > 0 {
                lines.push(format!("{more} more of the kernel's own symbols are not those of its image"));
            }
            lines
        }
    }
}

fn difference(difference: &Difference) -> String {
    match difference {
        Difference::Moved { name, listed, image } => {
            format!("the kernel's {name} is listed at {listed:#x} and lies at {image:#x} by its image")
        }
        Difference::Added { name, listed } => {
            format!(
                "{name} is listed at {listed:#x} as the kernel's own, and its image has no such symbol there"
            )
        }
        Difference::Missing { name, image } => {
            format!("the kernel's {name} at {image:#x} by its image is not listed")
        }
        Difference::Order { name } => {
            format!("the kernel's own symbols are listed in another order than in its image, from {name} on")
        }
    }
}

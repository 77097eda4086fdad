//! Whether the kernel's own symbols are those of its image.
//!
//! Whoever owns a machine writes what its `/proc/kallsyms` says. The calls of all modules go by these addresses: one
//! that was moved would make a hooked call site look right. The image of a package cannot be moved.

use std::collections::HashMap;

use crate::KernelList;
use crate::snapshot::{Snapshot, Symbol, SymbolTable};

/// Symbols that are asked for how far the kernel was moved.
const SAMPLE: usize = 4096;
/// Most differences that are kept; more are counted.
const KEPT: usize = 64;

/// What speaks for the kernel's own symbols.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OwnSymbols {
    /// Nothing: the machine's own list is believed.
    #[default]
    Believed,
    /// The list is that of the image, moved as a whole.
    AsImage {
        /// Symbols that were compared.
        count: usize,
    },
    /// It is not.
    Differ(Differences),
    /// It is the list of another build of the kernel, or of none.
    OtherKernel {
        /// Of the symbols that were asked for, those that lie as far apart as in the image.
        alike: usize,
        /// How many were asked for.
        asked: usize,
    },
}

/// Where a machine's list of its kernel's symbols is not that of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The first of them.
    pub kept: Vec<Difference>,
    /// How many there are besides.
    pub more: usize,
}

/// One symbol that is not as in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Listed at another address than where the image has it.
    Moved {
        /// Its name.
        name: String,
        /// Where it is listed.
        listed: u64,
        /// Where it is.
        image: u64,
    },
    /// Listed, and not in the image.
    Added {
        /// Its name.
        name: String,
        /// Where it is listed.
        listed: u64,
    },
    /// In the image, and not listed.
    Missing {
        /// Its name.
        name: String,
        /// Where it is.
        image: u64,
    },
    /// The symbols are the same and come in another order from this one on.
    Order {
        /// Its name.
        name: String,
    },
}

impl Snapshot {
    /// Compares the list of the kernel's own symbols with that of its image, and puts the image's in its place if it
    /// differs.
    ///
    /// # Errors
    /// There are more symbols than a table holds.
    pub fn check_own_symbols(&mut self, image: &KernelList) -> Result<OwnSymbols, String> {
        let Some((moved, alike, asked)) = moved_by(&self.symbols, image) else {
            return Ok(OwnSymbols::OtherKernel { alike: 0, asked: 0 });
        };
        if alike * 10 < asked * 9 {
            return Ok(OwnSymbols::OtherKernel { alike, asked });
        }
        let of_image = || {
            image.iter().map(move |own| {
                let address = if own.moves { own.address.wrapping_add(moved) } else { own.address };
                Symbol { name: own.name, address, letter: own.letter, module: None }
            })
        };
        let listed = || self.symbols.iter().filter(|symbol| symbol.module.is_none());
        if listed().eq(of_image()) {
            return Ok(OwnSymbols::AsImage { count: image.len() });
        }
        let differences = differences(&listed().collect::<Vec<_>>(), &of_image().collect::<Vec<_>>());
        let modules = self.symbols.iter().filter(|symbol| symbol.module.is_some());
        self.symbols = SymbolTable::new(of_image().chain(modules))?;
        Ok(OwnSymbols::Differ(differences))
    }
}

/// How far the kernel was moved, by as many symbols as say so, of how many that were asked for.
fn moved_by(listed: &SymbolTable, image: &KernelList) -> Option<(u64, usize, usize)> {
    let mut moves: HashMap<u64, usize> = HashMap::new();
    let step = (image.len() / SAMPLE).max(1);
    let (mut asked, mut before) = (0, "");
    for own in image.iter().step_by(step).filter(|own| own.moves) {
        let mut named = listed.named(own.name).filter(|symbol| symbol.module.is_none());
        // Names that repeat tell nothing.
        if let (Some(symbol), None) = (named.next(), named.next())
            && own.name != before
        {
            *moves.entry(symbol.address.wrapping_sub(own.address)).or_default() += 1;
        }
        before = own.name;
        asked += 1;
    }
    let asked_alone: usize = moves.values().sum();
    let (moved, alike) = moves.into_iter().max_by_key(|(_, count)| *count)?;
    // Of a list that lacks most, few can be asked.
    let asked = if asked_alone * 2 < asked { asked } else { asked_alone };
    Some((moved, alike, asked))
}

/// What two lists do not have in common.
fn differences(listed: &[Symbol<'_>], image: &[Symbol<'_>]) -> Differences {
    let mut balance: HashMap<(&str, u64, char), i64> = HashMap::new();
    for (symbols, one) in [(listed, 1), (image, -1)] {
        for symbol in symbols {
            *balance.entry((symbol.name, symbol.address, symbol.letter)).or_default() += one;
        }
    }
    let mut missing: HashMap<&str, Vec<u64>> = HashMap::new();
    let mut added: Vec<(&str, u64)> = Vec::new();
    for ((name, address, _), balance) in balance {
        match balance {
            0 => {}
            1.. => added.extend((0..balance).map(|_| (name, address))),
            _ => missing.entry(name).or_default().extend((balance..0).map(|_| address)),
        }
    }
    added.sort_unstable();
    let mut all: Vec<Difference> = Vec::new();
    for (name, listed) in added {
        let of_image = missing.get_mut(name).and_then(Vec::pop);
        let name = name.to_owned();
        all.push(match of_image {
            Some(image) => Difference::Moved { name, listed, image },
            None => Difference::Added { name, listed },
        });
    }
    let mut rest: Vec<(&str, u64)> =
        missing.into_iter().flat_map(|(name, at)| at.into_iter().map(move |at| (name, at))).collect();
    rest.sort_unstable();
    all.extend(rest.into_iter().map(|(name, image)| Difference::Missing { name: name.to_owned(), image }));
    if all.is_empty() {
        let first = listed.iter().zip(image).find(|(ours, theirs)| ours != theirs);
        all.extend(first.map(|(symbol, _)| Difference::Order { name: symbol.name.to_owned() }));
    }
    let more = all.len().saturating_sub(KEPT);
    all.truncate(KEPT);
    Differences { kept: all, more }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ListedSymbol;

    const MOVED: u64 = 0x1c0_0000;

    fn image() -> KernelList {
        let own = (0..500_u64).map(|number| ListedSymbol {
            name: format!("function{number}").into(),
            letter: 't',
            address: 0xffff_ffff_8100_0000 + 16 * number,
            moves: true,
        });
        let percpu = ListedSymbol { name: "percpu".into(), letter: 'A', address: 0x40, moves: false };
        KernelList::new(&std::iter::once(percpu).chain(own).collect::<Vec<_>>())
    }

    /// A machine with that kernel, whose list somebody has changed.
    fn machine(change: impl FnOnce(&mut Vec<(String, u64)>)) -> Snapshot {
        let image = image();
        let mut symbols: Vec<(String, u64)> = image
            .iter()
            .map(|own| (own.name.to_owned(), if own.moves { own.address + MOVED } else { own.address }))
            .collect();
        change(&mut symbols);
        let letter = |name: &str| if name == "percpu" { 'A' } else { 't' };
        let own = symbols.iter().map(|(name, address)| Symbol {
            name,
            address: *address,
            letter: letter(name),
            module: None,
        });
        let of_module =
            Symbol { name: "function7", address: 0xffff_ffff_c000_0000, letter: 't', module: Some("m") };
        let symbols = SymbolTable::new(own.chain([of_module])).unwrap();
        Snapshot { symbols, ..Snapshot::default() }
    }

    fn found(snapshot: &mut Snapshot) -> Vec<Difference> {
        match snapshot.check_own_symbols(&image()).unwrap() {
            OwnSymbols::Differ(differences) => differences.kept,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_list_as_the_image_has_it_moved_as_a_whole_is_right() {
        let all = OwnSymbols::AsImage { count: 501 };
        assert_eq!(machine(|_| ()).check_own_symbols(&image()).unwrap(), all);
    }

    #[test]
    fn a_symbol_that_was_moved_is_told_and_put_back() {
        let hook = 0xffff_ffff_c000_1000;
        let mut snapshot = machine(|symbols| symbols[9].1 = hook);
        let image = 0xffff_ffff_8100_0080 + MOVED;
        let moved = Difference::Moved { name: "function8".into(), listed: hook, image };
        assert_eq!(found(&mut snapshot), [moved]);
        assert_eq!(snapshot.symbols.kernel("function8"), Some(image));
        assert_eq!(snapshot.symbols.nearest(0xffff_ffff_c000_0001, Some("m")).unwrap().offset, 1);
    }

    #[test]
    fn what_was_added_taken_out_or_put_elsewhere_is_told() {
        let planted = |symbols: &mut Vec<(String, u64)>| symbols.push(("planted".into(), 0x1234));
        let added = Difference::Added { name: "planted".into(), listed: 0x1234 };
        assert_eq!(found(&mut machine(planted)), [added]);
        let taken = |symbols: &mut Vec<(String, u64)>| drop(symbols.remove(1));
        let missing = Difference::Missing { name: "function0".into(), image: 0xffff_ffff_8100_0000 + MOVED };
        assert_eq!(found(&mut machine(taken)), [missing]);
        let swapped = |symbols: &mut Vec<(String, u64)>| symbols.swap(1, 2);
        let order = Difference::Order { name: "function1".into() };
        assert_eq!(found(&mut machine(swapped)), [order]);
    }

    #[test]
    fn another_build_of_the_kernel_is_not_taken_for_this_one() {
        let other = |symbols: &mut Vec<(String, u64)>| {
            symbols.iter_mut().enumerate().for_each(|(number, symbol)| symbol.1 += 32 * number as u64);
        };
        let found = machine(other).check_own_symbols(&image()).unwrap();
        assert!(matches!(found, OwnSymbols::OtherKernel { .. }), "{found:?}");
    }
}

//! The order in which modprobe loads what one module needs, where depmod left no `modules.dep`: what depmod would have
//! written, from the symbols of all modules.
//!
//! kmod's depmod (tools/depmod.c) puts the modules into an [array], gives each symbol an [owner](owners), and
//! [numbers](numbering) the modules. A line of `modules.dep` lists all that a module needs, needs of needs included, by
//! ascending number; modprobe loads the line backwards. `depends=` plays no part in it.

pub(crate) mod array;
mod numbering;
mod owners;

use crate::index::Index;
use numbering::UNNUMBERED;

/// Who needs whom, and everybody's number. Modules are meant by their places in the array.
#[derive(Debug)]
pub(crate) struct Order {
    /// By the symbol's number in the index.
    owners: Vec<Option<u32>>,
    needs: Vec<Vec<u32>>,
    numbers: Vec<u32>,
}

impl Order {
    /// The order of modules that the index holds; `array` has their places in the index.
    pub(crate) fn of(index: &Index, array: &[usize]) -> Order {
        let owners = owners::owners(index, array);
        let needs = owners::needs(index, array, &owners);
        let numbers = numbering::numbers(&needs);
        Order { owners, needs, numbers }
    }

    /// The module that a symbol belongs to.
    pub(crate) fn owner(&self, symbol: u32) -> Option<usize> {
        self.owners.get(symbol as usize).copied().flatten().map(|at| at as usize)
    }

    /// What a module needs itself.
    pub(crate) fn needs(&self, module: usize) -> impl Iterator<Item = usize> + '_ {
        self.needs[module].iter().map(|&at| at as usize)
    }

    /// All that must be there before a module, in loading order; or the circle in which modules need each other.
    pub(crate) fn before(&self, module: usize) -> Result<Vec<usize>, Vec<usize>> {
        let mut seen = vec![false; self.needs.len()];
        seen[module] = true;
        let (mut all, mut rest) = (Vec::new(), vec![module]);
        while let Some(at) = rest.pop() {
            for needed in self.needs(at) {
                if !std::mem::replace(&mut seen[needed], true) {
                    all.push(needed);
                    rest.push(needed);
                }
            }
        }
        if let Some(circle) = self.circle(module, &seen) {
            return Err(circle);
        }
        all.sort_by_key(|&at| std::cmp::Reverse(self.numbers[at]));
        Ok(all)
    }

    /// A circle among `seen`, begun from `start`: the first module in it is also the last.
    fn circle(&self, start: usize, seen: &[bool]) -> Option<Vec<usize>> {
        // depmod numbers what no circle holds back; users of others may hold back what is in none.
        if seen.iter().zip(&self.numbers).all(|(&seen, &number)| !seen || number != UNNUMBERED) {
            return None;
        }
        let mut done = vec![false; self.needs.len()];
        let mut on_path = vec![false; self.needs.len()];
        let mut path = vec![(start, 0)];
        on_path[start] = true;
        while let Some((at, next)) = path.last_mut() {
            let at = *at;
            let Some(&needed) = self.needs[at].get(*next) else {
                path.pop();
                on_path[at] = false;
                done[at] = true;
                continue;
            };
            *next += 1;
            let needed = needed as usize;
            if on_path[needed] {
                let circle = path.iter().map(|(at, _)| *at).skip_while(|at| *at != needed);
                return Some(circle.chain([needed]).collect());
            }
            if !done[needed] {
                on_path[needed] = true;
                path.push((needed, 0));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Facts;

    /// Modules by what they export and what they leave undefined.
    fn order(modules: &[(&[&str], &[&str])]) -> Order {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let facts = modules.iter().map(|(exports, imports)| Facts {
            exports: own(exports),
            imports: own(imports),
            ..Facts::default()
        });
        let index = Index::of(facts);
        Order::of(&index, &(0..modules.len()).collect::<Vec<_>>())
    }

    #[test]
    fn a_line_is_loaded_backwards() {
        // As ext4, which needs mbcache, jbd2 and crc16, of which jbd2 needs crc16 not.
        let order = order(&[
            (&[], &["cache", "journal", "crc", "printk"]),
            (&["crc"], &[]),
            (&["journal"], &["low"]),
            (&["cache"], &[]),
            (&["low"], &[]),
        ]);
        // The last one pushed is numbered first: crc16, then jbd2 and what it needs, then mbcache.
        assert_eq!(order.before(0).unwrap(), [3, 4, 2, 1]);
        assert_eq!(order.before(2).unwrap(), [4]);
        assert!(order.before(4).unwrap().is_empty());
    }

    #[test]
    fn a_symbol_is_of_the_last_module_that_exports_it() {
        let order = order(&[(&[], &["twice"]), (&["twice"], &[]), (&["twice"], &[])]);
        assert_eq!(order.before(0).unwrap(), [2]);
    }

    #[test]
    fn circles_are_told_and_others_are_not_held_back() {
        let order = order(&[
            (&[], &["y"]),
            (&["y"], &["z"]),
            (&["z"], &["y"]),
            (&["free"], &[]),
            (&[], &["free"]),
            (&["w"], &["z", "free"]),
        ]);
        assert_eq!(order.before(0), Err(vec![1, 2, 1]));
        assert_eq!(order.before(4), Ok(vec![3]));
        assert_eq!(order.before(5), Err(vec![2, 1, 2]));
    }

    #[test]
    fn who_is_needed_by_a_circle_is_in_none() {
        let order = order(&[(&["a"], &["b", "base"]), (&["b"], &["a"]), (&["base"], &[]), (&[], &["base"])]);
        assert_eq!(order.before(3), Ok(vec![2]));
    }
}

//! Red-black trees: insertion and removal.
//!
//! A root is black, no red node has a red child, and every way from a node down to a missing child passes the same
//! number of black nodes. Insertion and removal mend this from the bottom up, with the cases of the textbooks in the
//! order in which Linux tries them (lib/rbtree.c), so that the same changes lead to the same tree, node for node.
//!
//! The two trees are equal whenever no change is under way. So the work is done once, in the even tree; the odd one
//! then has the same links set in the same way, a dozen at most.

use super::node::{Link, Node, Side, Tree};
use crate::AtomicAddress;

/// More links than any change sets: a removal sets 4 and turns at most three times, and each turn sets 3.
const MOST_LINKS: usize = 16;

/// A change of the even tree, noted for the odd one.
pub(super) struct Change<'t, A: AtomicAddress> {
    roots: &'t [Link<A>; 2],
    odd: [Option<NewLink<'t, A>>; MOST_LINKS],
    len: usize,
}

/// A link of the odd tree, and the node that it has to lead to.
type NewLink<'t, A> = (&'t Link<A>, Option<&'t Node<A>>);

impl<'t, A: AtomicAddress> Change<'t, A> {
    pub(super) fn new(roots: &'t [Link<A>; 2]) -> Change<'t, A> {
        Change { roots, odd: [None; MOST_LINKS], len: 0 }
    }

    /// Does the same to the odd tree.
    pub(super) fn repeat(&self) {
        for (link, node) in self.odd[..self.len].iter().flatten() {
            link.set(*node);
        }
    }

    /// Links `node`, which overlaps no other, into the even tree.
    pub(super) fn insert(&mut self, node: &'t Node<A>) {
        let start = node.start();
        let (mut above, mut side, mut next) = (None, Side::Low, self.roots[0].get());
        while let Some(other) = next {
            side = if start < other.start() { Side::Low } else { Side::High };
            (above, next) = (next, other.child(Tree::Even, side));
        }
        self.set(node, Side::Low, None);
        self.set(node, Side::High, None);
        node.set_red(true);
        match above {
            Some(above) => self.set(above, side, Some(node)),
            None => self.set_root(Some(node)),
        }
        node.set_parent(above);
        self.mend_red(node);
    }

    /// Unlinks `node` from the even tree.
    pub(super) fn remove(&mut self, node: &'t Node<A>) {
        let (low, high) = (node.child(Tree::Even, Side::Low), node.child(Tree::Even, Side::High));
        let (Some(low), Some(high)) = (low, high) else {
            let (child, above) = (low.or(high), node.parent());
            let side = self.replace(node, child);
            // An only child is red: painted black it makes up for the node.
            match (child, above) {
                (Some(child), _) => child.set_red(false),
                (None, Some(above)) if !node.is_red() => self.mend_black(above, side),
                (None, _) => {}
            }
            return;
        };
        // The next node in address order takes the place and the colour.
        let mut next = high;
        while let Some(lower) = next.child(Tree::Even, Side::Low) {
            next = lower;
        }
        let (orphan, next_was_red) = (next.child(Tree::Even, Side::High), next.is_red());
        // Where the next node is missing from: above the orphan.
        let (above, side) = match next.parent() {
            Some(above) if !core::ptr::eq(next, high) => {
                self.set(above, Side::Low, orphan);
                if let Some(orphan) = orphan {
                    orphan.set_parent(Some(above));
                }
                self.adopt(next, Side::High, high);
                (above, Side::Low)
            }
            _ => (next, Side::High),
        };
        self.adopt(next, Side::Low, low);
        self.replace(node, Some(next));
        next.set_red(node.is_red());
        match orphan {
            Some(orphan) => orphan.set_red(false),
            None if !next_was_red => self.mend_black(above, side),
            None => {}
        }
    }

    /// `node` is red; its parent may be too.
    fn mend_red(&mut self, mut node: &'t Node<A>) {
        loop {
            let Some(parent) = node.parent() else {
                node.set_red(false);
                return;
            };
            // A root is never red, so that a red parent has one itself.
            let Some(above) = parent.parent().filter(|_| parent.is_red()) else { return };
            let side = side_of(above, parent);
            if let Some(uncle) = above.child(Tree::Even, side.other()).filter(|uncle| uncle.is_red()) {
                // What is above takes the red of both, and may now have a red parent itself.
                parent.set_red(false);
                uncle.set_red(false);
                above.set_red(true);
                node = above;
                continue;
            }
            let mut top = parent;
            if side_of(parent, node) != side {
                self.turn(parent, side);
                top = node;
            }
            self.turn(above, side.other());
            top.set_red(false);
            above.set_red(true);
            return;
        }
    }

    /// The ways through `side` of `parent` pass one black node less than those through its other side.
    fn mend_black(&mut self, mut parent: &'t Node<A>, mut side: Side) {
        loop {
            // There is a sibling: its side has a black node that this one lacks.
            let Some(mut sibling) = parent.child(Tree::Even, side.other()) else { return };
            if sibling.is_red() {
                // Its children are black, and one of them becomes the sibling.
                self.turn(parent, side);
                sibling.set_red(false);
                parent.set_red(true);
                let Some(nephew) = parent.child(Tree::Even, side.other()) else { return };
                sibling = nephew;
            }
            let red = |side| sibling.child(Tree::Even, side).filter(|nephew| nephew.is_red());
            let (near, far) = (red(side), red(side.other()));
            let (top, far) = match (near, far) {
                (_, Some(far)) => (sibling, far),
                (Some(near), None) => {
                    self.turn(sibling, side.other());
                    (near, sibling)
                }
                (None, None) => {
                    sibling.set_red(true);
                    // Both sides lack one now. A red parent makes up for it.
                    if parent.is_red() {
                        parent.set_red(false);
                        return;
                    }
                    let Some(above) = parent.parent() else { return };
                    (parent, side) = (above, side_of(above, parent));
                    continue;
                }
            };
            self.turn(parent, side);
            top.set_red(parent.is_red());
            parent.set_red(false);
            far.set_red(false);
            return;
        }
    }

    /// Turns the subtree below `top`: it goes down to `side`, and its child on the other side takes its place.
    fn turn(&mut self, top: &'t Node<A>, side: Side) {
        let Some(up) = top.child(Tree::Even, side.other()) else { return };
        let between = up.child(Tree::Even, side);
        self.replace(top, Some(up));
        self.set(top, side.other(), between);
        if let Some(between) = between {
            between.set_parent(Some(top));
        }
        self.adopt(up, side, top);
    }

    /// Puts `other` where `node` hangs, and says on which side of what is above that is.
    fn replace(&mut self, node: &'t Node<A>, other: Option<&'t Node<A>>) -> Side {
        let above = node.parent();
        if let Some(other) = other {
            other.set_parent(above);
        }
        let Some(above) = above else {
            self.set_root(other);
            return Side::Low;
        };
        let side = side_of(above, node);
        self.set(above, side, other);
        side
    }

    fn adopt(&mut self, parent: &'t Node<A>, side: Side, child: &'t Node<A>) {
        self.set(parent, side, Some(child));
        child.set_parent(Some(parent));
    }

    fn set(&mut self, parent: &'t Node<A>, side: Side, child: Option<&'t Node<A>>) {
        parent.link(Tree::Even, side).set(child);
        self.note(parent.link(Tree::Odd, side), child);
    }

    fn set_root(&mut self, node: Option<&'t Node<A>>) {
        let [even, odd] = self.roots;
        even.set(node);
        self.note(odd, node);
    }

    fn note(&mut self, link: &'t Link<A>, node: Option<&'t Node<A>>) {
        self.odd[self.len] = Some((link, node));
        self.len += 1;
    }
}

/// On which side of its parent a node is.
fn side_of<A: AtomicAddress>(parent: &Node<A>, node: &Node<A>) -> Side {
    let low = parent.child(Tree::Even, Side::Low);
    if low.is_some_and(|low| core::ptr::eq(low, node)) { Side::Low } else { Side::High }
}

//! What Linux does: two red-black trees behind a sequence latch.
//!
//! Every range is a node of two trees. A writer adds one to a sequence number, changes the even tree while readers
//! use the odd one, adds one again, and changes the odd tree. A reader searches the tree that the number chooses, and
//! starts again if the number has changed meanwhile. Whatever a reader interrupts, the tree that it uses is whole, so
//! that an NMI in the middle of a change needs no second attempt; a reader on another CPU may need several, as many as
//! changes overtake it: unlike the other structures this one is not wait-free.
//!
//! It is here to be compared with (kernel/module/tree_lookup.c, include/linux/rbtree_latch.h, lib/rbtree.c), so it
//! searches as Linux does, node by node until one has the address, and the same changes give the same trees, node for
//! node. Two things differ, and both are the writer's. The odd tree is not worked out again but has the even tree's
//! changes repeated, so that colours and parents exist once and a node fits into a cache line. And a node that was
//! removed is used again at once, without waiting for readers: one who strays from it to anywhere knows by the number
//! that its answer counts for nothing, and is stopped after as many steps as a tree can be deep.
//!
//! Links are pointers: with 32-bit indices into segments a node would be smaller, and every step a fifth slower.

mod node;
mod red_black;
#[cfg(all(test, not(loom)))]
mod tests;

use node::{Link, Node, Nodes, Side, Tree};
use red_black::Change;

use crate::sync::{AtomicUsize, Ordering, WriterLock, fence};
use crate::{AddressIndex, AtomicAddress, Extent, IndexError, Owner};

/// Two red-black trees behind a sequence latch: Linux's answer.
#[derive(Debug)]
pub struct LatchTree<A: AtomicAddress> {
    /// Even: readers use the even tree, and the writer may be changing the odd one. Odd: the other way round.
    sequence: AtomicUsize,
    /// By tree.
    roots: [Link<A>; 2],
    nodes: Nodes<A>,
    /// How many nodes there are, free ones too.
    writer: WriterLock<u32>,
}

impl<A: AtomicAddress> Default for LatchTree<A> {
    fn default() -> LatchTree<A> {
        LatchTree::new()
    }
}

impl<A: AtomicAddress> LatchTree<A> {
    /// An empty one.
    pub fn new() -> LatchTree<A> {
        LatchTree {
            sequence: AtomicUsize::new(0),
            roots: Default::default(),
            nodes: Nodes::new(),
            writer: WriterLock::new(0),
        }
    }

    /// Bytes that are allocated for nodes. It grows by doubling and does not shrink.
    pub fn memory_bytes(&self) -> usize {
        self.nodes.bytes()
    }

    /// The sequence number: 2 for each insertion and removal so far.
    pub fn sequence(&self) -> usize {
        self.sequence.load(Ordering::Relaxed)
    }

    /// The range at the root of the tree, which is the one that Linux would have there.
    pub fn root(&self) -> Option<(Extent<A>, Owner)> {
        let _writer = self.writer.lock();
        self.roots[0].get()?.entry()
    }

    /// Changes the even tree, and then the odd one in the same way. The caller is the writer.
    fn change<'t>(&'t self, change: impl FnOnce(&mut Change<'t, A>)) {
        let mut both = Change::new(&self.roots);
        self.send_readers_to_the_other_tree();
        change(&mut both);
        self.send_readers_to_the_other_tree();
        both.repeat();
    }

    fn send_readers_to_the_other_tree(&self) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        // Release: pairs with the load that a reader begins with. Who is sent to the other tree finds it whole.
        self.sequence.store(sequence.wrapping_add(1), Ordering::Release);
        // Pairs with the fence that a reader ends with: who has seen any of the changes that follow sees that the
        // number is another one.
        fence(Ordering::Release);
    }

    /// The node that `address` lies in, or else the first one behind it. The caller is the writer.
    fn at_or_behind(&self, address: A) -> Option<&Node<A>> {
        let mut found = None;
        let mut next = self.roots[0].get();
        while let Some(node) = next {
            next = if node.last() < address {
                node.child(Tree::Even, Side::High)
            } else if node.start() <= address {
                return Some(node);
            } else {
                found = Some(node);
                node.child(Tree::Even, Side::Low)
            };
        }
        found
    }
}

/// As many steps as the longest way down can have: twice the logarithm of the number of nodes, which is a `u32`.
const MAX_DEPTH: usize = 64;

/// One search in one tree.
#[inline]
fn search<A: AtomicAddress>(tree: Tree, root: &Link<A>, address: A) -> Option<Owner> {
    let mut next = root.get();
    // A tree that stands still is never deeper. In one that is being changed a reader could go round and round.
    for _ in 0..MAX_DEPTH {
        let node = next?;
        next = if address < node.start() {
            node.child(tree, Side::Low)
        } else if address <= node.last() {
            return node.owner();
        } else {
            node.child(tree, Side::High)
        };
    }
    None
}

impl<A: AtomicAddress> AddressIndex<A> for LatchTree<A> {
    fn insert(&self, extent: Extent<A>, owner: Owner) -> Result<(), IndexError> {
        let last = extent.last().ok_or(IndexError::BadRange)?;
        let mut made = self.writer.lock();
        if self.at_or_behind(extent.start).is_some_and(|node| node.start() <= last) {
            return Err(IndexError::Overlap);
        }
        let node = self.nodes.take(&mut made)?;
        node.fill(extent.start, last, owner);
        self.change(|both| both.insert(node));
        Ok(())
    }

    fn remove(&self, start: A) -> Option<(Extent<A>, Owner)> {
        let _writer = self.writer.lock();
        let node = self.at_or_behind(start).filter(|node| node.start() == start)?;
        let entry = node.entry()?;
        self.change(|both| both.remove(node));
        self.nodes.give_back(node);
        Some(entry)
    }

    #[inline]
    fn find(&self, address: A) -> Option<Owner> {
        loop {
            // Acquire: pairs with the store of the number: the tree that the number chooses is visible, whole.
            let sequence = self.sequence.load(Ordering::Acquire);
            let found = match sequence % 2 {
                0 => search(Tree::Even, &self.roots[0], address),
                _ => search(Tree::Odd, &self.roots[1], address),
            };
            // Pairs with the fence behind that store: if the search met a change, the next load sees the number that was
            // stored before it.
            fence(Ordering::Acquire);
            if self.sequence.load(Ordering::Relaxed) == sequence {
                return found;
            }
        }
    }

    fn next(&self, address: A) -> Option<(Extent<A>, Owner)> {
        let _writer = self.writer.lock();
        self.at_or_behind(address)?.entry()
    }
}

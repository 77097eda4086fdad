//! Nodes of the two trees, and the links between them.
#![expect(unsafe_code, reason = "links are pointers, so that a step down is one load and no arithmetic")]

use core::ptr;

use crate::memory::{OutOfMemory, Segments, Zeroable};
use crate::owner::Cell;
use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use crate::{AtomicAddress, AtomicCell, Extent, Owner};

/// Which of the two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    Even,
    Odd,
}

/// Which child: the one with the lower addresses, or the one with the higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Low,
    High,
}

impl Side {
    pub(super) fn other(self) -> Side {
        match self {
            Side::Low => Side::High,
            Side::High => Side::Low,
        }
    }
}

/// Null, or a node of the same `LatchTree`.
#[derive(Debug)]
pub(super) struct Link<A: AtomicAddress>(AtomicPtr<Node<A>>);

impl<A: AtomicAddress> Default for Link<A> {
    fn default() -> Link<A> {
        Link(AtomicPtr::new(ptr::null_mut()))
    }
}

impl<A: AtomicAddress> Link<A> {
    /// The node that it leads to. The link is part of a `LatchTree`, and so is the node: it lives as long.
    #[inline]
    pub(super) fn get(&self) -> Option<&Node<A>> {
        // Acquire: pairs with `set`. A reader whose tree is being changed under it may come to a node of a segment
        // that is newer than the sequence number it has read; what the segment was zeroed with must be visible. (In C
        // the processor's address dependency does for this.)
        let node = self.0.load(Ordering::Acquire);
        // SAFETY: `set` is the only function that stores into a link, and is given nodes of this `LatchTree`, which
        // hands out none but those of its segments; these are freed when the tree is dropped, and this link with them.
        unsafe { node.as_ref() }
    }

    /// `node` is one of the same `LatchTree`.
    pub(super) fn set(&self, node: Option<&Node<A>>) {
        let node = node.map_or(ptr::null_mut(), |node| ptr::from_ref(node).cast_mut());
        // Release: pairs with `get`.
        self.0.store(node, Ordering::Release);
    }
}

/// A range, and its place in both trees. One cache line: what a step looks at comes with one miss.
#[derive(Debug)]
#[repr(C)]
#[cfg_attr(target_pointer_width = "64", repr(align(64)))]
#[cfg_attr(not(target_pointer_width = "64"), repr(align(32)))]
pub(super) struct Node<A: AtomicAddress> {
    start: A::Atomic,
    last: A::Atomic,
    /// By tree, then by side.
    children: [[Link<A>; 2]; 2],
    owner: AtomicU32,
    /// Only the writer looks at what follows. It is of the even tree, which the odd one equals but during a change.
    red: AtomicBool,
    parent: Link<A>,
}

impl<A: AtomicAddress> Default for Node<A> {
    fn default() -> Node<A> {
        Node {
            start: A::Atomic::new(A::ZERO),
            last: A::Atomic::new(A::ZERO),
            children: Default::default(),
            owner: AtomicU32::new(0),
            red: AtomicBool::new(false),
            parent: Link::default(),
        }
    }
}

// SAFETY: nothing but atomics: integers (`AtomicAddress` is sealed: its atomics are those of `u32` and `u64`), bools
// that are false and pointers that are null; nothing to drop.
unsafe impl<A: AtomicAddress> Zeroable for Node<A> {}

// The values are written before the node is linked, and checked by the sequence: Relaxed.
impl<A: AtomicAddress> Node<A> {
    #[inline]
    pub(super) fn start(&self) -> A {
        self.start.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn last(&self) -> A {
        self.last.load(Ordering::Relaxed)
    }

    /// The owner; `None` only for a node that a lost reader came to before it was first used.
    #[inline]
    pub(super) fn owner(&self) -> Option<Owner> {
        Cell(self.owner.load(Ordering::Relaxed)).owner()
    }

    pub(super) fn entry(&self) -> Option<(Extent<A>, Owner)> {
        Some((Extent::between(self.start().to_u64(), self.last().to_u64()), self.owner()?))
    }

    /// Makes it a node of that range. It is in no tree.
    pub(super) fn fill(&self, start: A, last: A, owner: Owner) {
        self.start.store(start, Ordering::Relaxed);
        self.last.store(last, Ordering::Relaxed);
        self.owner.store(Cell::new(owner, false).0, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn link(&self, tree: Tree, side: Side) -> &Link<A> {
        &self.children[tree as usize][side as usize]
    }

    #[inline]
    pub(super) fn child(&self, tree: Tree, side: Side) -> Option<&Node<A>> {
        self.link(tree, side).get()
    }

    pub(super) fn is_red(&self) -> bool {
        self.red.load(Ordering::Relaxed)
    }

    pub(super) fn set_red(&self, red: bool) {
        self.red.store(red, Ordering::Relaxed);
    }

    pub(super) fn parent(&self) -> Option<&Node<A>> {
        self.parent.get()
    }

    pub(super) fn set_parent(&self, parent: Option<&Node<A>>) {
        self.parent.set(parent);
    }
}

/// Where nodes come from, and where those wait that were taken out of the trees.
#[derive(Debug)]
pub(super) struct Nodes<A: AtomicAddress> {
    segments: Segments<Node<A>>,
    /// The first free node; each leads to the next by its lower link of the even tree.
    free: Link<A>,
}

impl<A: AtomicAddress> Nodes<A> {
    pub(super) fn new() -> Nodes<A> {
        Nodes { segments: Segments::new(), free: Link::default() }
    }

    /// A node that is in no tree. `made` counts those that there are; the caller holds the lock that it comes from.
    pub(super) fn take(&self, made: &mut u32) -> Result<&Node<A>, OutOfMemory> {
        if let Some(node) = self.free.get() {
            self.free.set(node.child(Tree::Even, Side::Low));
            return Ok(node);
        }
        let next = made.checked_add(1).ok_or(OutOfMemory)?;
        self.segments.grow(*made)?;
        let node = self.segments.get(*made).ok_or(OutOfMemory)?;
        *made = next;
        Ok(node)
    }

    /// Gives back a node that is in no tree. A reader may still stand on it: whatever that finds, it will start again,
    /// since the sequence has changed.
    pub(super) fn give_back(&self, node: &Node<A>) {
        node.link(Tree::Even, Side::Low).set(self.free.get());
        self.free.set(Some(node));
    }

    pub(super) fn bytes(&self) -> usize {
        self.segments.bytes()
    }
}

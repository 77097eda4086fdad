//! Keeping what was found alive while it is used.

/// A way for readers to say "I am using something" and for a writer to wait until nobody uses what it has hidden.
///
/// A writer unloads in three steps: it hides the object, so that no reader that comes later finds it; it waits, by
/// [`synchronize`](Protection::synchronize); it frees. A reader enters before it looks, and holds the guard for as
/// long as it uses what it found.
///
/// # Safety
/// A call of `synchronize` returns only after every guard that [`enter`](Protection::enter) had returned before the
/// call was dropped. What happened before such a guard was dropped is visible to the caller of `synchronize` once that
/// has returned; and a reader whose guard is not waited for sees all that the caller did before it called
/// `synchronize`.
#[expect(unsafe_code, reason = "what readers use is freed on the word of an implementation")]
pub unsafe trait Protection {
    /// While it lives, its reader uses something.
    type Guard<'p>
    where
        Self: 'p;

    /// Begins to use something. Any context may call it, again while it holds a guard too; it never waits.
    fn enter(&self) -> Self::Guard<'_>;

    /// Waits until all guards that exist now are gone. Not for contexts that can interrupt a reader.
    fn synchronize(&self);
}

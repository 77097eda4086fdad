//! The seed of all tables that are asked by names and addresses from files: who knows it can make names that meet in one
//! place of a table, and a small file slow. It is the one thing here that is global, since whatever hashes must agree.

use core::hash::BuildHasher;

use foldhash::{
    SharedSeed,
    fast::{FoldHasher, SeedableRandomState},
};
use spin::Once;

static SEED: Once<(u64, SharedSeed)> = Once::new();

/// Gives the tables of names a seed: random numbers, if files may be an enemy's. Must come before anything is hashed, and
/// only the first one counts; says whether this was it. Without, the seed is the same in each run.
///
/// The crate `modmem-linux` does it by itself.
pub fn seed_hashes(seed: [u64; 2]) -> bool {
    let mut is_first = false;
    SEED.call_once(|| {
        is_first = true;
        (seed[0], SharedSeed::from_u64(seed[1]))
    });
    is_first
}

/// Makes hashers that have the seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seeded;

impl BuildHasher for Seeded {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> FoldHasher<'static> {
        let (own, shared) = SEED.call_once(|| (0, SharedSeed::from_u64(0)));
        SeedableRandomState::with_seed(*own, shared).build_hasher()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_seed_counts_and_hashes_agree() {
        // Other tests may have hashed before.
        let first = crate::name::hash(b"printk");
        assert!(!seed_hashes([1, 2]));
        assert_eq!(crate::name::hash(b"printk"), first);
        assert_ne!(crate::name::hash(b"printj"), first);
    }
}

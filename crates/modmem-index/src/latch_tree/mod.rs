//! What Linux does: two red-black trees behind a sequence latch.

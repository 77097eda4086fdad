//! What may be trusted of what lies on this machine's own disk: by who can write there, by content, by a key.

pub(crate) mod digest;
pub(crate) mod key;
pub(crate) mod places;

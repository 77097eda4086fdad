//! Bounds in front of a structure: which addresses need not be looked for.

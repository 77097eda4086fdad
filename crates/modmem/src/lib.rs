//! modmem

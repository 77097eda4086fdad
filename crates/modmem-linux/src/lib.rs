//! modmem-linux

//! The seven types of module memory.

use core::fmt;
use core::ops::{Index, IndexMut};

/// A type of module memory (include/linux/module.h: `enum mod_mem_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MemoryKind {
    /// MOD_TEXT: code.
    Text = 0,
    /// MOD_DATA: what stays writable; `struct module` and the core symbol table are here.
    Data = 1,
    /// MOD_RODATA: constants and tables.
    RoData = 2,
    /// MOD_RO_AFTER_INIT: written by init, read-only afterwards.
    RoAfterInit = 3,
    /// MOD_INIT_TEXT: code that goes when init has returned.
    InitText = 4,
    /// MOD_INIT_DATA: data that goes with it; the whole symbol table is here while the module loads.
    InitData = 5,
    /// MOD_INIT_RODATA: constants that go with it.
    InitRoData = 6,
}

impl MemoryKind {
    /// All seven, in Linux's order, which is also the order of allocation.
    pub const ALL: [MemoryKind; 7] = [
        MemoryKind::Text,
        MemoryKind::Data,
        MemoryKind::RoData,
        MemoryKind::RoAfterInit,
        MemoryKind::InitText,
        MemoryKind::InitData,
        MemoryKind::InitRoData,
    ];

    /// Whether it holds code.
    pub const fn is_text(self) -> bool {
        matches!(self, MemoryKind::Text | MemoryKind::InitText)
    }

    /// Whether it goes when init has returned.
    pub const fn is_init(self) -> bool {
        matches!(self, MemoryKind::InitText | MemoryKind::InitData | MemoryKind::InitRoData)
    }

    /// The name in Linux's source.
    pub const fn linux_name(self) -> &'static str {
        match self {
            MemoryKind::Text => "MOD_TEXT",
            MemoryKind::Data => "MOD_DATA",
            MemoryKind::RoData => "MOD_RODATA",
            MemoryKind::RoAfterInit => "MOD_RO_AFTER_INIT",
            MemoryKind::InitText => "MOD_INIT_TEXT",
            MemoryKind::InitData => "MOD_INIT_DATA",
            MemoryKind::InitRoData => "MOD_INIT_RODATA",
        }
    }

    /// The name that modmem prints.
    pub const fn name(self) -> &'static str {
        match self {
            MemoryKind::Text => "Text",
            MemoryKind::Data => "Data",
            MemoryKind::RoData => "RoData",
            MemoryKind::RoAfterInit => "RoAfterInit",
            MemoryKind::InitText => "InitText",
            MemoryKind::InitData => "InitData",
            MemoryKind::InitRoData => "InitRoData",
        }
    }
}

impl fmt::Display for MemoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One value for each type of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerKind<T>(pub [T; 7]);

impl<T> PerKind<T> {
    /// Builds the seven values in Linux's order.
    pub fn from_fn(make: impl FnMut(MemoryKind) -> T) -> PerKind<T> {
        PerKind(MemoryKind::ALL.map(make))
    }

    /// Each type with its value, in Linux's order.
    pub fn iter(&self) -> impl Iterator<Item = (MemoryKind, &T)> {
        MemoryKind::ALL.into_iter().zip(&self.0)
    }
}

impl<T> Index<MemoryKind> for PerKind<T> {
    type Output = T;
    fn index(&self, kind: MemoryKind) -> &T {
        &self.0[kind as usize]
    }
}

impl<T> IndexMut<MemoryKind> for PerKind<T> {
    fn index_mut(&mut self, kind: MemoryKind) -> &mut T {
        &mut self.0[kind as usize]
    }
}

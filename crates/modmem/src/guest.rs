//! A machine with its kernel: memory by address, and the symbols that the kernel knows.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::ops::Range;

use crate::address::RunAddr;
use crate::name::Name;

/// Memory of another machine, or of this one, by virtual address.
///
/// A hypervisor walks its guest's page tables, a crash tool reads its dump, a snapshot has it at hand.
pub trait GuestMemory {
    /// Copies the bytes at `address` into `buffer`; `false` if not all of them can be read.
    fn read(&self, address: RunAddr, buffer: &mut [u8]) -> bool;

    /// The `length` bytes at `address`, without a copy where they are at hand; `None` if not all of them can be read.
    fn bytes(&self, address: RunAddr, length: usize) -> Option<Cow<'_, [u8]>> {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(length).ok()?;
        buffer.resize(length, 0);
        self.read(address, &mut buffer).then_some(Cow::Owned(buffer))
    }
}

/// A symbol of the guest that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestSymbol<'g> {
    /// Name.
    pub name: &'g str,
    /// How far behind the symbol the address lies.
    pub offset: u64,
    /// The module that has it, `None` for the kernel's own. Linux lists code that it made at run time under names such
    /// as `__builtin__ftrace` and `bpf`.
    pub module: Option<&'g str>,
    /// Whether it is code.
    pub text: bool,
}

/// A machine that runs Linux: its memory, and the symbols that its kernel knows.
pub trait Guest: GuestMemory {
    /// The value of one of the kernel's own symbols, of those with the same name the global one.
    fn kernel_symbol(&self, name: Name<'_>) -> Option<u64>;

    /// The value of a symbol that `module` has in kallsyms; `None` if it has none or several of that name.
    fn module_symbol(&self, module: &str, name: Name<'_>) -> Option<u64>;

    /// The value of a symbol that some module has, whichever: used where the file of a module that others need is
    /// missing.
    fn any_module_symbol(&self, name: Name<'_>) -> Option<u64>;

    /// Where the kernel's own data lies, from the end of its code to its last byte, if that is known. Asked where the
    /// kernel lists the symbols of functions alone (CONFIG_KALLSYMS_ALL is off).
    fn kernel_data(&self) -> Option<Range<RunAddr>> {
        None
    }

    /// The symbol at or before `address`, if one is near.
    fn symbol_at(&self, address: RunAddr) -> Option<GuestSymbol<'_>>;
}

impl<G: GuestMemory + ?Sized> GuestMemory for &G {
    fn read(&self, address: RunAddr, buffer: &mut [u8]) -> bool {
        (**self).read(address, buffer)
    }

    fn bytes(&self, address: RunAddr, length: usize) -> Option<Cow<'_, [u8]>> {
        (**self).bytes(address, length)
    }
}

impl<G: Guest + ?Sized> Guest for &G {
    fn kernel_symbol(&self, name: Name<'_>) -> Option<u64> {
        (**self).kernel_symbol(name)
    }

    fn module_symbol(&self, module: &str, name: Name<'_>) -> Option<u64> {
        (**self).module_symbol(module, name)
    }

    fn any_module_symbol(&self, name: Name<'_>) -> Option<u64> {
        (**self).any_module_symbol(name)
    }

    fn kernel_data(&self) -> Option<Range<RunAddr>> {
        (**self).kernel_data()
    }

    fn symbol_at(&self, address: RunAddr) -> Option<GuestSymbol<'_>> {
        (**self).symbol_at(address)
    }
}

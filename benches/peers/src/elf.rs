//! The few ELF structures that the floor reads, as they stand in a little-endian 64-bit file.

/// Section type: symbol table.
pub(crate) const SHT_SYMTAB: u32 = 2;
/// Section type: relocations with addends.
pub(crate) const SHT_RELA: u32 = 4;
/// Section type: occupies no space in the file.
pub(crate) const SHT_NOBITS: u32 = 8;
/// Section flag: writable.
pub(crate) const SHF_WRITE: u64 = 1;
/// Section flag: part of the loaded module.
pub(crate) const SHF_ALLOC: u64 = 2;
/// Section flag: code.
pub(crate) const SHF_EXECINSTR: u64 = 4;
/// Symbol section index: undefined.
pub(crate) const SHN_UNDEF: u16 = 0;
/// Symbol section index: the first with a special meaning.
pub(crate) const SHN_LORESERVE: u16 = 0xff00;
/// Symbol section index: the value is absolute.
pub(crate) const SHN_ABS: u16 = 0xfff1;

/// x86-64: nothing to do.
pub(crate) const R_NONE: u32 = 0;
/// x86-64: S + A, 8 bytes.
pub(crate) const R_64: u32 = 1;
/// x86-64: S + A - P, 4 bytes.
pub(crate) const R_PC32: u32 = 2;
/// x86-64: as `R_PC32`, for a call.
pub(crate) const R_PLT32: u32 = 4;
/// x86-64: S + A, 4 bytes, zero-extended.
pub(crate) const R_32: u32 = 10;
/// x86-64: S + A, 4 bytes, sign-extended.
pub(crate) const R_32S: u32 = 11;
/// x86-64: S + A - P, 8 bytes.
pub(crate) const R_PC64: u32 = 24;

/// File header.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct FileHeader {
    pub(crate) ident: [u8; 16],
    pub(crate) kind: u16,
    pub(crate) machine: u16,
    pub(crate) version: u32,
    pub(crate) entry: u64,
    pub(crate) program_headers: u64,
    pub(crate) section_headers: u64,
    pub(crate) flags: u32,
    pub(crate) size: u16,
    pub(crate) program_header_size: u16,
    pub(crate) program_header_count: u16,
    pub(crate) section_header_size: u16,
    pub(crate) section_header_count: u16,
    pub(crate) section_names: u16,
}

/// Section header.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Section {
    pub(crate) name: u32,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) address: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) link: u32,
    pub(crate) info: u32,
    pub(crate) align: u64,
    pub(crate) entry_size: u64,
}

/// Symbol.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Symbol {
    pub(crate) name: u32,
    pub(crate) info: u8,
    pub(crate) other: u8,
    pub(crate) section: u16,
    pub(crate) value: u64,
    pub(crate) size: u64,
}

impl Symbol {
    /// Weak binding: may stay unresolved.
    pub(crate) fn is_weak(&self) -> bool {
        self.info >> 4 == 2
    }
}

/// Relocation with addend.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Rela {
    pub(crate) offset: u64,
    pub(crate) kind: u32,
    pub(crate) symbol: u32,
    pub(crate) addend: i64,
}

/// A structure that any bytes are a valid value of.
///
/// # Safety
/// `repr(C)`, integers only, no padding.
pub(crate) unsafe trait Raw: Copy {}

// SAFETY: integers in declaration order, 64 bytes, no padding.
unsafe impl Raw for FileHeader {}
// SAFETY: integers in declaration order, 64 bytes, no padding.
unsafe impl Raw for Section {}
// SAFETY: integers in declaration order, 24 bytes, no padding.
unsafe impl Raw for Symbol {}
// SAFETY: integers in declaration order, 24 bytes, no padding.
unsafe impl Raw for Rela {}

/// The bytes at `offset`, if the file has them.
pub(crate) fn range(file: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    file.get(start..end)
}

/// The `size` bytes at `offset` as structures; `None` if they are outside of the file, unaligned or no whole
/// number of them.
pub(crate) fn table<T: Raw>(file: &[u8], offset: u64, size: u64) -> Option<&[T]> {
    const { assert!(cfg!(target_endian = "little"), "the structures are read in the byte order of the file") };
    let bytes = range(file, offset, size)?;
    let count = bytes.len() / size_of::<T>();
    let pointer = bytes.as_ptr().cast::<T>();
    if !pointer.is_aligned() || count * size_of::<T>() != bytes.len() {
        return None;
    }
    // SAFETY: aligned, inside `bytes`, and `T` is valid for any bytes.
    Some(unsafe { std::slice::from_raw_parts(pointer, count) })
}

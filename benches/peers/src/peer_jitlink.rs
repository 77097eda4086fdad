//! LLVM's JITLink, in this process: the linker of LLVM's just-in-time compilers.

use crate::arena::{Arena, Bump};
use crate::contender::{Contender, Loaded, Placements};
use crate::files::File;
use crate::names::Names;
use object::LittleEndian;
use object::elf::{FileHeader64, SHF_ALLOC, SHT_NOBITS};
use object::read::elf::{FileHeader, SectionHeader};
use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

/// Loads for the addresses it writes to.
#[derive(Debug)]
pub(crate) struct JitLink {
    names: &'static Names,
}

impl JitLink {
    /// `names` has addresses from `HOST_NAMES` on.
    pub(crate) fn new(names: &'static Names) -> Self {
        Self { names }
    }
}

#[repr(C)]
struct Callbacks {
    this: *mut c_void,
    take: unsafe extern "C" fn(*mut c_void, usize) -> usize,
    resolve: unsafe extern "C" fn(*mut c_void, *const c_char, usize, *mut u64) -> bool,
    place: Option<unsafe extern "C" fn(*mut c_void, *const c_char, usize, u64, u64, u64)>,
}

#[repr(C)]
struct RawSession {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn jitlink_new(callbacks: *const Callbacks) -> *mut RawSession;
    fn jitlink_delete(session: *mut RawSession);
    fn jitlink_load(session: *mut RawSession, file: *const c_char, len: usize) -> bool;
    fn jitlink_failure(session: *const RawSession) -> *const c_char;
}

/// What the C++ side calls back into.
struct Host {
    memory: Bump,
    names: &'static Names,
    placed: Vec<Placed>,
}

/// A block of JITLink's: a section of the file.
struct Placed {
    name: Vec<u8>,
    offset: u64,
    size: u64,
    address: u64,
}

struct Session {
    raw: NonNull<RawSession>,
    /// Made by `Box::into_raw`; the C++ side holds the same pointer.
    host: *mut Host,
}

impl Session {
    fn new(names: &'static Names, arena: &Arena, placing: bool) -> Self {
        let memory = Bump::empty();
        memory.follow(arena.bump());
        let host = Box::into_raw(Box::new(Host { memory, names, placed: Vec::new() }));
        let callbacks = Callbacks { this: host.cast(), take, resolve, place: placing.then_some(place as _) };
        // SAFETY: the callbacks are copied, and fit the declarations on the other side.
        let raw = unsafe { jitlink_new(&raw const callbacks) };
        Self { raw: NonNull::new(raw).expect("operator new does not return null"), host }
    }

    fn host(&mut self) -> &mut Host {
        // SAFETY: the pointer is from `Box::into_raw`; the callbacks use it only inside of `load`.
        unsafe { &mut *self.host }
    }

    fn load(&mut self, file: &File) -> Result<(), String> {
        let bytes = file.bytes();
        // SAFETY: the session lives, and the file is only read.
        if unsafe { jitlink_load(self.raw.as_ptr(), bytes.as_ptr().cast(), bytes.len()) } {
            return Ok(());
        }
        // SAFETY: the session lives.
        let failure = unsafe { jitlink_failure(self.raw.as_ptr()) };
        // SAFETY: a C string that lasts until the next load.
        Err(unsafe { CStr::from_ptr(failure) }.to_string_lossy().into_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: made by `jitlink_new`, and not used any more.
        unsafe { jitlink_delete(self.raw.as_ptr()) };
        // SAFETY: made by `Box::into_raw`; the only other holder was just deleted.
        drop(unsafe { Box::from_raw(self.host) });
    }
}

unsafe extern "C" fn take(this: *mut c_void, size: usize) -> usize {
    // SAFETY: `this` is the session's host.
    let host = unsafe { &*this.cast::<Host>() };
    host.memory.take(size).unwrap_or(0)
}

unsafe extern "C" fn resolve(this: *mut c_void, name: *const c_char, len: usize, address: *mut u64) -> bool {
    // SAFETY: `this` is the session's host.
    let host = unsafe { &*this.cast::<Host>() };
    // SAFETY: `len` bytes, valid during the call.
    let name = unsafe { std::slice::from_raw_parts(name.cast::<u8>(), len) };
    let Some(found) = host.names.get(name) else {
        return false;
    };
    // SAFETY: a place for the result, valid during the call.
    unsafe { address.write(found) };
    true
}

unsafe extern "C" fn place(
    this: *mut c_void,
    name: *const c_char,
    len: usize,
    offset: u64,
    size: u64,
    address: u64,
) {
    // SAFETY: `this` is the session's host, and nothing else uses it during the call.
    let host = unsafe { &mut *this.cast::<Host>() };
    // SAFETY: `len` bytes, valid during the call.
    let name = unsafe { std::slice::from_raw_parts(name.cast::<u8>(), len) }.to_vec();
    host.placed.push(Placed { name, offset, size, address });
}

impl Contender for JitLink {
    fn name(&self) -> &str {
        env!("JITLINK_NAME")
    }

    fn note(&self) -> &str {
        "all blocks kept, its default passes; builds a graph; no module semantics"
    }

    fn load_all(&mut self, files: &[File], arena: &mut Arena) -> Loaded {
        let mut session = Session::new(self.names, arena, false);
        let mut loaded = Loaded::default();
        for file in files {
            loaded.count(file, session.load(file));
        }
        arena.bump().follow(&session.host().memory);
        loaded.keep = Some(Box::new(session));
        loaded
    }

    fn place_all(&mut self, files: &[File], arena: &mut Arena) -> Option<Placements> {
        let mut session = Session::new(self.names, arena, true);
        let modules = files
            .iter()
            .map(|file| {
                session.host().placed.clear();
                session.load(file).ok()?;
                places(file.bytes(), &session.host().placed).ok()
            })
            .collect();
        arena.bump().follow(&session.host().memory);
        Some(Placements::linear(arena.host_address() as u64, self.names, modules))
    }
}

/// Tells which section each block was: by where its bytes are in the file, or by name if it has none.
fn places(data: &[u8], placed: &[Placed]) -> object::read::Result<Vec<Option<u64>>> {
    let header = FileHeader64::<LittleEndian>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let mut places = Vec::with_capacity(sections.len());
    for section in sections.iter() {
        let name = sections.section_name(endian, section)?;
        let nobits = section.sh_type(endian) == SHT_NOBITS;
        let offset = if nobits { u64::MAX } else { section.sh_offset(endian) };
        let size = section.sh_size(endian);
        let block = placed.iter().find(|p| p.offset == offset && p.size == size && p.name == name);
        let kept = section.sh_flags(endian).contains(SHF_ALLOC);
        places.push(block.filter(|_| kept).map(|block| block.address));
    }
    Ok(places)
}

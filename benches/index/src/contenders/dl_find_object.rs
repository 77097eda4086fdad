//! `_dl_find_object` of the C library (2.35 and later), which unwinders ask for the shared object of an address.
//!
//! Its ranges are shared objects that the dynamic linker has mapped, so it has addresses of its own to find: as many
//! copies of one tiny object are loaded as the workload has ranges.
#![expect(unsafe_code, reason = "the dynamic linker's interface is C")]

use std::collections::HashSet;
use std::ffi::{CString, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::NonNull;

use modmem_index::Extent;

use crate::random::Random;
use crate::timing::{Lookup, Questions};
use crate::workload::{Family, QUERIES, Queries, Workload};

/// Loading one object takes time in proportion to those that are there.
pub(crate) const MOST_OBJECTS: usize = 1_500;

/// What `_dl_find_object` writes (dlfcn.h), without the parts that differ between versions.
#[repr(C)]
struct Found {
    flags: u64,
    map_start: u64,
    map_end: u64,
    link_map: *const c_void,
    rest: MaybeUninit<[u64; 12]>,
}

unsafe extern "C" {
    fn _dl_find_object(address: *const c_void, found: *mut Found) -> c_int;
}

pub(super) struct DlFindObject {
    /// From `dlopen`, each with the addresses of its object.
    objects: Vec<(NonNull<c_void>, Extent<u64>)>,
}

// SAFETY: handles are used by `drop` alone.
unsafe impl Sync for DlFindObject {}

impl DlFindObject {
    /// `None` if loading so many objects would take too long.
    pub(super) fn new(workload: &Workload) -> Option<DlFindObject> {
        let count = workload.ranges.len();
        if count > MOST_OBJECTS {
            return None;
        }
        let folder = std::env::temp_dir().join(format!("modmem-index-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for shared objects");
        let objects = (0..count).map(|index| load(folder.join(format!("{index}.so")))).collect();
        std::fs::remove_dir_all(&folder).expect("the folder was just made");
        Some(DlFindObject { objects })
    }
}

/// Loads a copy of the tiny object, and finds out where it is.
fn load(path: PathBuf) -> (NonNull<c_void>, Extent<u64>) {
    std::fs::copy(env!("TINY_OBJECT"), &path).expect("room for a copy of a shared object");
    let name = CString::new(path.as_os_str().as_bytes()).expect("a path has no zero bytes");
    // SAFETY: the name is a C string; the object has no constructors.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    let handle = NonNull::new(handle).expect("the object can be loaded");
    // SAFETY: the handle is open, the name is a C string.
    let function = unsafe { libc::dlsym(handle.as_ptr(), c"tiny_function".as_ptr()) };
    let found = find(function as u64).expect("the object that was just loaded is found");
    assert_eq!(found.link_map, handle.as_ptr().cast_const(), "a handle is the address of the link map");
    (handle, Extent { start: found.map_start, size: found.map_end - found.map_start })
}

#[inline]
fn find(address: u64) -> Option<Found> {
    let mut found = MaybeUninit::uninit();
    // SAFETY: any address may be asked for; what it writes is smaller than `Found`.
    let status = unsafe { _dl_find_object(address as *const c_void, found.as_mut_ptr()) };
    // SAFETY: zero says that it was written; `rest` need not be.
    (status == 0).then(|| unsafe { found.assume_init() })
}

/// Handles are aligned to 16 bytes, and lie less than 64 GiB apart.
fn number(handle: *const c_void) -> u32 {
    (handle as u64 >> 4) as u32
}

impl Drop for DlFindObject {
    fn drop(&mut self) {
        for (handle, _) in self.objects.drain(..).rev() {
            // SAFETY: the handle is open, and nothing of the object is used.
            unsafe { libc::dlclose(handle.as_ptr()) };
        }
    }
}

impl Lookup for DlFindObject {
    #[inline]
    fn find(&self, address: u64) -> u32 {
        find(address).map_or(0, |found| number(found.link_map))
    }

    fn questions(&self, family: Family) -> Questions {
        let mut random = Random::new(self.objects.len() as u64);
        let numbers: HashSet<u32> = self.objects.iter().map(|(handle, _)| number(handle.as_ptr())).collect();
        assert_eq!(numbers.len(), self.objects.len(), "each object has a number of its own");
        let mut one = || match family {
            Family::Hit => {
                let (handle, extent) = random.pick(&self.objects);
                Some((extent.start + random.below(extent.size), number(handle.as_ptr())))
            }
            // The linker leaves no gaps between objects that are loaded one after the other.
            Family::Gap => None,
            // A kernel's addresses.
            Family::Outside => Some((0xffff_ffff_8000_0000 + random.below(1 << 30), 0)),
        };
        let pairs: Option<Vec<(u64, u32)>> = (0..QUERIES).map(|_| one()).collect();
        match pairs {
            Some(pairs) => {
                let (addresses, expected) = pairs.into_iter().unzip();
                Questions::Own(Queries { addresses, expected })
            }
            None => Questions::None,
        }
    }
}

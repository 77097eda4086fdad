//! Where the modules of this kernel live: two windows of a fixed number of pages, one for text and one for data.
//!
//! This is what modmem asks of an embedder: [`Memory`] hands out blocks, and a [`Block`] has an address to run at,
//! bytes to write, and a protection. The two addresses of a page have nothing to do with each other: modmem computes
//! with the one that a module will run at, and writes through the slice that it is given. A real kernel maps its pages
//! at the first; here nothing runs, and the pages are a static of this program.

use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::ops::Range;
use core::slice;
use core::sync::atomic::{AtomicBool, Ordering};

use modmem::RunAddr;
use modmem::space::{Block, Memory, Protection, Request, SpaceError};

const PAGE_SIZE: u64 = 4096;

type Page = [u8; PAGE_SIZE as usize];

/// Memory for a window, as a static.
pub(crate) struct Pages<const COUNT: usize> {
    taken: AtomicBool,
    frames: UnsafeCell<Frames<COUNT>>,
}

struct Frames<const COUNT: usize> {
    bytes: [Page; COUNT],
    /// What a page table would say; `None` for a page that nobody has.
    protections: [Option<Protection>; COUNT],
}

// SAFETY: `frames` is reached in `take` only, and there by whoever is first to set `taken`.
unsafe impl<const COUNT: usize> Sync for Pages<COUNT> {}

impl<const COUNT: usize> Pages<COUNT> {
    pub(crate) const fn new() -> Pages<COUNT> {
        let frames = Frames { bytes: [[0; PAGE_SIZE as usize]; COUNT], protections: [None; COUNT] };
        Pages { taken: AtomicBool::new(false), frames: UnsafeCell::new(frames) }
    }

    #[expect(clippy::mut_from_ref, reason = "gives it out once")]
    fn take(&'static self) -> Option<&'static mut Frames<COUNT>> {
        if self.taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: `taken` was false and is never false again, so that this is the only reference there will ever be.
        Some(unsafe { &mut *self.frames.get() })
    }
}

/// A range of run addresses with the pages behind it.
///
/// It is a handle: copies stand for the same pages. The cells keep them all on one thread; a kernel with more than one
/// has a lock here.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    address: RunAddr,
    bytes: &'static [Cell<Page>],
    protections: &'static [Cell<Option<Protection>>],
    executable: bool,
}

impl Window {
    /// A window for code. `None` if the pages have been given to a window before.
    pub(crate) fn text<const COUNT: usize>(address: RunAddr, pages: &'static Pages<COUNT>) -> Option<Window> {
        Window::new(address, pages, true)
    }

    /// A window for data, no page of which can be made executable.
    pub(crate) fn data<const COUNT: usize>(address: RunAddr, pages: &'static Pages<COUNT>) -> Option<Window> {
        Window::new(address, pages, false)
    }

    fn new<const COUNT: usize>(
        address: RunAddr,
        pages: &'static Pages<COUNT>,
        executable: bool,
    ) -> Option<Window> {
        let Frames { bytes, protections } = pages.take()?;
        Some(Window {
            address,
            bytes: Cell::from_mut(&mut bytes[..]).as_slice_of_cells(),
            protections: Cell::from_mut(&mut protections[..]).as_slice_of_cells(),
            executable,
        })
    }

    fn range(&self) -> Range<RunAddr> {
        self.address.extent(self.bytes.len() as u64 * PAGE_SIZE)
    }

    /// The first pages in a row that are free. A page is the largest alignment that a block is ever asked for.
    fn allocate(self, size: u64) -> Option<ArenaBlock> {
        let count = usize::try_from(size.div_ceil(PAGE_SIZE)).ok().filter(|&count| count > 0)?;
        let free = |run: &[Cell<Option<Protection>>]| run.iter().all(|page| page.get().is_none());
        let first = self.protections.windows(count).position(free)?;
        let block = ArenaBlock { window: self, pages: first..first + count };
        block.set(block.pages.clone(), Some(Protection::ReadWrite));
        Some(block)
    }
}

/// All memory that modules can have.
pub(crate) struct Arena {
    pub(crate) text: Window,
    pub(crate) data: Window,
}

impl Arena {
    /// How many pages are taken.
    pub(crate) fn taken(&self) -> usize {
        let pages = self.text.protections.iter().chain(self.data.protections);
        pages.filter(|page| page.get().is_some()).count()
    }

    /// What may be done at an address; `None` where nothing is mapped.
    pub(crate) fn protection(&self, address: RunAddr) -> Option<Protection> {
        [&self.text, &self.data].into_iter().find_map(|window| {
            let page = address.offset_from(window.address)? / PAGE_SIZE;
            window.protections.get(usize::try_from(page).ok()?)?.get()
        })
    }
}

impl Memory for Arena {
    type Block = ArenaBlock;

    fn allocate(&mut self, request: Request) -> Result<ArenaBlock, SpaceError> {
        let Request { kind, size, .. } = request;
        let window = if kind.is_text() { self.text } else { self.data };
        window.allocate(size).ok_or(SpaceError::NoRoom { kind, size, range: window.range() })
    }
}

/// Pages of a window that belong to one module, which gives them back by dropping this.
pub(crate) struct ArenaBlock {
    window: Window,
    pages: Range<usize>,
}

impl ArenaBlock {
    fn frames(&self) -> &[Cell<Page>] {
        &self.window.bytes[self.pages.clone()]
    }

    fn set(&self, pages: Range<usize>, protection: Option<Protection>) {
        for page in &self.window.protections[pages] {
            page.set(protection);
        }
    }
}

impl Block for ArenaBlock {
    fn address(&self) -> RunAddr {
        self.window.address + self.pages.start as u64 * PAGE_SIZE
    }

    fn bytes(&self) -> &[u8] {
        let frames = self.frames();
        // SAFETY: the pages are initialised and in a row, and as long as this block is there no other one has them.
        // This block writes them through `&mut self` only, which the result's borrow of `self` rules out.
        unsafe { slice::from_raw_parts(frames.as_ptr().cast::<u8>(), size_of_val(frames)) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let frames = self.frames();
        // SAFETY: as in `bytes`, and nobody reads them either while the result borrows `self` mutably. They are in
        // cells, so that they may be written although the window is shared.
        unsafe { slice::from_raw_parts_mut(frames.as_ptr().cast::<u8>().cast_mut(), size_of_val(frames)) }
    }

    fn protect(&self, part: Range<u64>, protection: Protection) -> Result<(), SpaceError> {
        let range = self.address() + part.start..self.address() + part.end;
        let refuse = |reason: &str| SpaceError::Protect { range: range.clone(), reason: reason.into() };
        if protection.is_executable() && !self.window.executable {
            return Err(refuse("data is never executable"));
        }
        let page = |offset: u64| Some(self.pages.start + usize::try_from(offset / PAGE_SIZE).ok()?);
        match (page(part.start), page(part.end)) {
            (Some(start), Some(end)) if start <= end && end <= self.pages.end => {
                // A real kernel changes its page tables here, flushes TLBs and synchronises instruction fetches.
                self.set(start..end, Some(protection));
                Ok(())
            }
            _ => Err(refuse("it is outside of the block")),
        }
    }
}

impl Drop for ArenaBlock {
    fn drop(&mut self) {
        self.set(self.pages.clone(), None);
    }
}

impl fmt::Debug for ArenaBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArenaBlock({}, {} pages)", self.address(), self.pages.len())
    }
}

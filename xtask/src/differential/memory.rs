//! The memory of a kernel that is a process: its addresses are those that the kernel has, but what it has not touched since
//! it last dropped mappings of vmalloc is found by its page tables only (arch/um/kernel/tlb.c:flush_tlb_kernel_range
//! unmaps whole ranges, and a fault maps pages again).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

const PAGE: u64 = 4096;
/// How often the guest is told something, and how long after each other.
const TURNS: usize = 50_000;
const TURN: Duration = Duration::from_micros(100);
/// _PAGE_PRESENT and _PAGE_PROTNONE (arch/um/include/asm/pgtable.h).
const PRESENT: u64 = 0x011;
/// Kernels' own data lies below, in and behind the file that they are (arch/um/kernel/uml.lds.S).
const OWN: std::ops::Range<u64> = 0x6000_0000..0x7000_0000;

/// The kernel's page tables: where they begin, and how many levels they have, three or since 6.14 four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    address: u64,
    levels: u32,
}

/// A running kernel's memory.
#[derive(Debug)]
pub(super) struct Memory<'r> {
    file: File,
    /// That of the guest's program, which is another process.
    guest: File,
    /// Where its physical memory begins in the process (uml_physmem).
    physical: u64,
    /// Where tables can begin.
    data: Vec<std::ops::Range<u64>>,
    /// Where they do: the same in each start of one kernel.
    root: &'r OnceLock<Root>,
}

impl<'r> Memory<'r> {
    pub(super) fn of(pid: u32, root: &'r OnceLock<Root>) -> Result<Memory<'r>> {
        let file = File::open(format!("/proc/{pid}/mem"))?;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let newest = children.split_ascii_whitespace().last().context("the kernel has no program")?;
        let guest = File::options().write(true).open(format!("/proc/{newest}/mem"))?;
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        // Physical memory is a file that is mapped in one piece, and pages of it again at other places.
        let (mut starts, mut data) = (BTreeMap::<u64, u64>::new(), Vec::new());
        for line in maps.lines() {
            let mut words = line.split_ascii_whitespace();
            let mut word = || words.next().unwrap_or_default();
            let (range, rights, offset) = (word(), word(), word());
            let hex = |text| u64::from_str_radix(text, 16);
            let (Some((start, end)), Ok(offset)) = (range.split_once('-'), hex(offset)) else { continue };
            let (Ok(start), Ok(end)) = (hex(start), hex(end)) else { continue };
            if rights.ends_with('s') {
                *starts.entry(start.wrapping_sub(offset)).or_default() += end - start;
            } else if rights.starts_with("rw") && OWN.contains(&start) {
                data.push(start..end);
            }
        }
        let largest = starts.into_iter().max_by_key(|(_, size)| *size);
        let (physical, _) = largest.context("the kernel has no physical memory")?;
        Ok(Memory { file, guest, physical, data, root })
    }

    /// The bytes from an address on, if all of them are there.
    pub(super) fn read(&self, address: u64, size: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; size];
        if self.file.read_exact_at(&mut bytes, address).is_ok() {
            return Some(bytes);
        }
        self.walk(*self.root.get()?, address, &mut bytes).map(|()| bytes)
    }

    /// Writes a number where the guest's program waits for it. Until that touches the page, its process may not have it.
    pub(super) fn tell_guest(&self, place: u64, number: u32) -> Result<()> {
        for _ in 0..TURNS {
            if self.guest.write_all_at(&number.to_le_bytes(), place).is_ok() {
                return Ok(());
            }
            std::thread::sleep(TURN);
        }
        bail!("the guest's program cannot be told that its memory was read")
    }

    /// Finds the tables by memory that can be read without them.
    pub(super) fn find_root(&self, wanted: &[(u64, u32)]) {
        if self.root.get().is_some() {
            return;
        }
        let mut known = Vec::new();
        for &(address, size) in wanted {
            let mut bytes = vec![0; size as usize];
            if self.file.read_exact_at(&mut bytes, address).is_ok() && bytes.iter().any(|byte| *byte != 0) {
                known.push((address, bytes));
            }
        }
        let pages = self.data.iter().flat_map(|range| range.clone().step_by(PAGE as usize));
        let mut roots = pages.flat_map(|address| [3, 4].map(|levels| Root { address, levels }));
        let leads_there = |root: &Root| {
            known.iter().all(|(address, bytes)| {
                let mut found = vec![0; bytes.len()];
                self.walk(*root, *address, &mut found).is_some() && found == *bytes
            })
        };
        if let Some(root) = roots.find(|root| !known.is_empty() && leads_there(root)) {
            let _ = self.root.set(root);
        }
    }

    fn walk(&self, root: Root, address: u64, bytes: &mut [u8]) -> Option<()> {
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = usize::try_from(PAGE - at % PAGE).ok()?.min(rest.len());
            let (part, others) = rest.split_at_mut(length);
            let mut table = root.address;
            for level in (0..root.levels).rev() {
                let entry = self.word(table + (at >> (12 + 9 * level) & 511) * 8)?;
                table = self.physical.checked_add(entry & !(PAGE - 1)).filter(|_| entry & PRESENT != 0)?;
            }
            self.file.read_exact_at(part, table + at % PAGE).ok()?;
            at += length as u64;
            rest = others;
        }
        Some(())
    }

    fn word(&self, address: u64) -> Option<u64> {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, address).ok()?;
        Some(u64::from_le_bytes(word))
    }
}

//! GOT and PLT of a module (arch/s390/kernel/module.c:apply_rela, module_finalize).
//!
//! Entries depend on their symbols alone, so they are written once, at the end. An entry is filled when the first
//! relocation that needs it is applied, whether or not that one then reaches its symbol directly; those that only
//! relocations of sections that are not loaded need stay empty.

use alloc::vec::Vec;

use crate::address::RunAddr;
use crate::image::Image;
use crate::image::elf::{Big64, Encoding};
use crate::layout::{MemoryKind, Slot};
use crate::link::Placement;
use crate::link::error::{LinkError, RelocationProblem};
use crate::link::relocation::Expression;
use crate::link::stubs::{Applied, Site, Stubs};
use crate::profile::Profile;
use crate::space::Block;

/// Bytes of an entry of the GOT: an address.
pub(super) const GOT_ENTRY: u64 = 8;
/// Bytes of an entry of the PLT (PLT_ENTRY_SIZE).
pub(super) const PLT_ENTRY: u64 = 22;

/// `basr %r1,0`, `lg %r1,12(%r1)`: loads what stands 14 bytes behind the entry's start.
const LOAD_TARGET: [u8; 8] = [0x0d, 0x10, 0xe3, 0x10, 0x10, 0x0c, 0x00, 0x04];
/// `br %r1`, and two bytes that nobody writes: they are zero where the kernel clears its variables
/// (CONFIG_INIT_STACK_ALL_ZERO).
const BRANCH: [u8; 6] = [0x07, 0xf1, 0, 0, 0, 0];
/// `brcl 15`, a branch by a distance of 32 bits in halfwords.
const BRCL: [u8; 2] = [0xc0, 0xf4];
/// Where the target stands in an entry.
const TARGET: usize = 14;
/// `exrl %r0,.+10`, `j .`, `br %r1`: an indirect branch that is not speculated about.
const EXPOLINE: [u8; 12] = [0xc6, 0, 0, 0, 0, 0x05, 0xa7, 0xf4, 0, 0, 0x07, 0xf1];

/// The tables of one module.
#[derive(Debug)]
pub(crate) struct Tables {
    /// Where the GOT is: at the start of Text.
    got: RunAddr,
    /// Where the PLT is, counted from there.
    plt_offset: u64,
    got_slots: Vec<Slot>,
    plt_slots: Vec<Slot>,
    /// The address of each symbol's entry, by index; 0 for those that have none.
    got_entries: Vec<u64>,
    /// The same for the PLT, once somebody asks.
    plt_entries: Vec<u64>,
    /// How many symbols the module has.
    count: usize,
    expolines: bool,
}

/// The address of each symbol's entry in a table at `start`.
fn addresses(count: usize, start: RunAddr, slots: &[Slot], entry: u64) -> Option<Vec<u64>> {
    let mut addresses = Vec::new();
    if slots.is_empty() {
        return Some(addresses);
    }
    addresses.try_reserve_exact(count).ok()?;
    addresses.resize(count, 0);
    for (index, slot) in (0..).zip(slots) {
        if let Some(address) = addresses.get_mut(slot.symbol as usize) {
            *address = start.0.wrapping_add(index * entry);
        }
    }
    Some(addresses)
}

fn copy(slots: &[Slot]) -> Option<Vec<Slot>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(slots.len()).ok()?;
    copy.extend_from_slice(slots);
    Some(copy)
}

impl Tables {
    /// The entry of a site's symbol in the GOT. There always is one: it was counted.
    fn got_entry(&self, site: &Site<'_>) -> u64 {
        self.got_entries.get(site.index as usize).copied().unwrap_or(0)
    }

    /// The same in the PLT.
    fn plt_entry(&mut self, site: &Site<'_>) -> Result<u64, RelocationProblem> {
        if self.plt_entries.is_empty() {
            let entries = addresses(self.count, self.got + self.plt_offset, &self.plt_slots, PLT_ENTRY);
            self.plt_entries = entries.ok_or(RelocationProblem::OutOfMemory)?;
        }
        Ok(self.plt_entries.get(site.index as usize).copied().unwrap_or(0))
    }
}

impl Stubs for Tables {
    const ENTRIES: bool = true;
    const REACH: bool = true;

    fn new<B: Block>(
        image: &Image<'_>,
        profile: &Profile,
        placement: &Placement<B>,
    ) -> Result<Tables, LinkError> {
        let shapes = placement.layout().shapes();
        let count = image.symbols().len();
        // Without a Text, tables have no entries.
        let got = placement.address(MemoryKind::Text).unwrap_or_default();
        let slots = copy(&shapes.got).zip(copy(&shapes.plt));
        let entries = addresses(count, got, &shapes.got, GOT_ENTRY);
        let ((got_slots, plt_slots), got_entries) = slots.zip(entries).ok_or(LinkError::OutOfMemory)?;
        let (plt_offset, expolines) = (shapes.got_size, profile.machine_state.expolines);
        let plt_entries = Vec::new();
        Ok(Tables { got, plt_offset, got_slots, plt_slots, got_entries, plt_entries, count, expolines })
    }

    fn entries(&self) -> &[u64] {
        &self.got_entries
    }

    fn apply(&mut self, site: &Site<'_>, _: &mut [u8]) -> Result<Applied, RelocationProblem> {
        let (got, addend, place) = (self.got.0, site.addend as u64, site.place.0);
        let value = match site.kind.expression {
            Expression::BranchMinusPlace => {
                // What counts is the distance without the addend.
                let direct = site.kind.reach().contains(site.symbol.wrapping_sub(place));
                let to = if direct { site.symbol } else { self.plt_entry(site)? };
                to.wrapping_add(addend).wrapping_sub(place)
            }
            Expression::SymbolPlusAddendMinusGot => site.sum().wrapping_sub(got),
            Expression::GotPlusAddendMinusPlace => got.wrapping_add(addend).wrapping_sub(place),
            Expression::GotEntryPlusAddend => self.got_entry(site).wrapping_sub(got).wrapping_add(addend),
            Expression::GotEntryPlusAddendMinusPlace => {
                self.got_entry(site).wrapping_add(addend).wrapping_sub(place)
            }
            Expression::StubPlusAddendMinusPlace => {
                self.plt_entry(site)?.wrapping_add(addend).wrapping_sub(place)
            }
            Expression::StubPlusAddendMinusGot => {
                self.plt_entry(site)?.wrapping_sub(got).wrapping_add(addend)
            }
            _ => return Ok(Applied::AsTheTableSays),
        };
        Ok(Applied::Value(value))
    }

    fn finish<B: Block>(self, placement: &mut Placement<B>, values: &[u64]) -> Result<(), LinkError> {
        let value = |slot: &Slot| values.get(slot.symbol as usize).copied().unwrap_or(0);
        // What is in front of the first section is zero so far.
        let head = placement.layout().text_head() as usize;
        let text = placement.bytes_mut(MemoryKind::Text).get_mut(..head).unwrap_or_default();
        let Some((got, plt)) = text.split_at_mut_checked(self.plt_offset as usize) else { return Ok(()) };
        for (entry, slot) in got.chunks_exact_mut(GOT_ENTRY as usize).zip(&self.got_slots) {
            if slot.used {
                Big64::put_u64(entry, 0, value(slot));
            }
        }
        let shared = (plt.len() as u64).saturating_sub(PLT_ENTRY);
        for ((entry, slot), at) in plt.chunks_exact_mut(PLT_ENTRY as usize).zip(&self.plt_slots).zip(0..) {
            if !slot.used {
                continue;
            }
            entry[..8].copy_from_slice(&LOAD_TARGET);
            if self.expolines {
                let distance = shared.wrapping_sub(at * PLT_ENTRY + 8);
                entry[8..10].copy_from_slice(&BRCL);
                Big64::put_u32(entry, 10, (distance / 2) as u32);
            } else {
                entry[8..TARGET].copy_from_slice(&BRANCH);
            }
            Big64::put_u64(entry, TARGET, value(slot));
        }
        if self.expolines
            && let Some(entry) = plt.get_mut(shared as usize..).and_then(|rest| rest.first_chunk_mut())
        {
            *entry = EXPOLINE;
        }
        Ok(())
    }
}

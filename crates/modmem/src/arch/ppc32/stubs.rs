//! Stubs for branches that do not reach, which is 32 MiB either way: `.plt` and `.init.plt`
//! (arch/powerpc/kernel/module_32.c:do_plt_call).

use alloc::vec::Vec;
use core::cmp::Reverse;

use super::shapes::{contains, find};
use crate::address::RunAddr;
use crate::image::elf::Big32;
use crate::image::{Image, Relocation, RelocationSection};
use crate::layout::SectionPlace;
use crate::link::relocation::{Check, Expression};
use crate::link::stubs::{Applied, Site, Stubs};
use crate::link::{LinkError, Placement, RelocationProblem};
use crate::name::Name;
use crate::profile::Profile;
use crate::space::Block;

/// The sections of the tables: for branches of core memories, and of init's.
pub(super) const CORE_TABLE: &str = ".plt";
pub(super) const INIT_TABLE: &str = ".init.plt";

/// Bytes of a stub (`struct ppc_plt_entry`).
pub(super) const ENTRY: u64 = 16;

/// Whether Linux counts and sorts the relocations of a section of that name (module_32.c:get_plt_size).
pub(super) fn is_counted(name: Name<'_>) -> bool {
    !contains(name.bytes(), b".debug")
}

/// `lis r12, upper; addi r12, r12, lower; mtctr r12; bctr`: the lower half is added with its sign.
pub(super) fn stub(target: u32) -> [u8; ENTRY as usize] {
    let upper = target.wrapping_add(0x8000) >> 16;
    let words = [0x3d80_0000 | upper, 0x398c_0000 | target & 0xffff, 0x7d89_03a6, 0x4e80_0420];
    let mut bytes = [0; ENTRY as usize];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// Both tables of a module.
#[derive(Debug)]
pub(crate) struct Plt {
    core: Table,
    init: Table,
}

impl Stubs for Plt {
    const ORDERED: bool = true;

    fn new<B: Block>(image: &Image<'_>, _: &Profile, placement: &Placement<B>) -> Result<Plt, LinkError> {
        let table = |name| {
            let section = find(image, name);
            let place = section.and_then(|section| placement.layout().place(section.index()));
            let size = section.map_or(0, |section| placement.layout().shape(section).size);
            Table {
                name,
                place,
                address: place.map(|place| placement.section_address(place)).unwrap_or_default(),
                capacity: size / ENTRY,
                targets: Vec::new(),
                by_target: Vec::new(),
                last: None,
            }
        };
        Ok(Plt { core: table(CORE_TABLE), init: table(INIT_TABLE) })
    }

    /// Linux has sorted them, the largest symbols and addends first, to count their targets (module_32.c:relacmp).
    /// Equal ones have equal targets.
    fn order(
        _: &Image<'_>,
        section: &RelocationSection<'_, '_>,
        entries: &mut [u32],
    ) -> Result<(), LinkError> {
        if !is_counted(section.section().name()) {
            return Ok(());
        }
        let records = section.section().data();
        let size = Relocation::size::<Big32>(true);
        let relocation = |entry: u32| {
            let record = records.get(entry as usize * size..)?.get(..size)?;
            Some(Relocation::decode::<Big32, true>(record))
        };
        // Nearly always a symbol says all: then numbers are sorted, not relocations.
        let mut keys: Vec<u64> = Vec::new();
        keys.try_reserve_exact(entries.len()).map_err(|_| LinkError::OutOfMemory)?;
        let plain = entries.iter().map_while(|&entry| {
            let relocation = relocation(entry).filter(|relocation| relocation.addend == 0)?;
            Some(u64::from(relocation.symbol) << 32 | u64::from(entry))
        });
        keys.extend(plain);
        if keys.len() == entries.len() {
            keys.sort_unstable();
            for (entry, key) in entries.iter_mut().zip(keys.iter().rev()) {
                *entry = *key as u32;
            }
            return Ok(());
        }
        entries.sort_unstable_by_key(|&entry| {
            Reverse(relocation(entry).map(|relocation| (relocation.symbol, relocation.addend)))
        });
        Ok(())
    }

    fn apply(&mut self, site: &Site<'_>, _: &mut [u8]) -> Result<Applied, RelocationProblem> {
        if site.kind.expression != Expression::BranchMinusPlace {
            return Ok(Applied::AsTheTableSays);
        }
        let target = site.sum() as u32;
        let distance = target.wrapping_sub(site.place.0 as u32) as i32;
        if Check::Signed(26).accepts(i64::from(distance) as u64) {
            return Ok(Applied::AsTheTableSays);
        }
        // Linux does not ask whether the stub itself can be reached; the check of the table does.
        let table = if site.memory.is_init() { &mut self.init } else { &mut self.core };
        let stub = table.stub(target)?;
        Ok(Applied::Value(stub.0.wrapping_sub(site.place.0)))
    }

    fn finish<B: Block>(self, placement: &mut Placement<B>, _: &[u64]) -> Result<(), LinkError> {
        for table in [self.core, self.init] {
            let Some(place) = table.place else { continue };
            let bytes = placement.section_bytes_mut(place, table.capacity * ENTRY);
            for (place, target) in bytes.chunks_exact_mut(ENTRY as usize).zip(table.targets) {
                place.copy_from_slice(&stub(target));
            }
        }
        Ok(())
    }
}

/// One table while it fills.
#[derive(Debug)]
struct Table {
    name: &'static str,
    place: Option<SectionPlace>,
    address: RunAddr,
    /// Stubs that there is room for.
    capacity: u64,
    /// Where each stub leads.
    targets: Vec<u32>,
    /// Stubs, counted from 1, by a hash of their targets: Linux looks at one after the other, which takes long where
    /// nearly each branch needs its own. Twice as many slots as stubs, a power of two.
    by_target: Vec<u32>,
    /// The target that was asked for last, and its stub.
    last: Option<(u32, u32)>,
}

impl Table {
    /// The address of the stub that leads to `target`, a new one if there is none yet.
    fn stub(&mut self, target: u32) -> Result<RunAddr, RelocationProblem> {
        // Branches come sorted by their targets.
        if let Some((last, index)) = self.last.filter(|(last, _)| *last == target) {
            debug_assert_eq!(self.targets.get(index as usize), Some(&last));
            return Ok(self.address + u64::from(index) * ENTRY);
        }
        let full = RelocationProblem::TableFull { table: self.name };
        if self.by_target.is_empty() {
            // The table's size came from relocations, one of which each stub has.
            let slots = (self.capacity as usize).next_power_of_two() * 2;
            if self.targets.try_reserve_exact(self.capacity as usize).is_err()
                || self.by_target.try_reserve_exact(slots).is_err()
            {
                return Err(RelocationProblem::OutOfMemory);
            }
            self.by_target.resize(slots, 0);
        }
        let mask = self.by_target.len() - 1;
        // Knuth's multiplicative hash; targets are words.
        let mut slot = ((target >> 2).wrapping_mul(0x9e37_79b1) >> 8) as usize & mask;
        let index = loop {
            match self.by_target[slot] {
                0 if self.targets.len() as u64 >= self.capacity => return Err(full),
                0 => {
                    self.targets.push(target);
                    self.by_target[slot] = self.targets.len() as u32;
                    break self.targets.len() - 1;
                }
                known if self.targets[known as usize - 1] == target => break known as usize - 1,
                _ => slot = (slot + 1) & mask,
            }
        };
        self.last = Some((target, index as u32));
        Ok(self.address + index as u64 * ENTRY)
    }
}

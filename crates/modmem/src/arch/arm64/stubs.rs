//! The PLTs while a module is relocated: branches that do not reach, and ADRP at the end of a page on a CPU with
//! erratum 843419 (arch/arm64/kernel/module-plts.c, module.c:reloc_insn_adrp).

use alloc::vec::Vec;

use super::insn::{B, Entry, add, adrp, branch, entry, entry_bytes};
use super::relocations::{ADR, ADRP, ADRP_UNCHECKED, CALL26, JUMP26, SIGNED_MOVES};
use super::shapes::{ENTRY, Tables, needs_entry};
use crate::image::elf::section_flag::EXECINSTR;
use crate::image::elf::{Encoding as _, Little64};
use crate::image::{Image, RelocationSection};
use crate::layout::SectionPlace;
use crate::link::stubs::{Applied, Site, Stubs};
use crate::link::{Check, LinkError, Placement, RelocationProblem};
use crate::profile::Profile;
use crate::space::Block;

/// Whether an ADRP may not stand at an address: it is one of the last two words of 4 KiB.
fn is_forbidden(address: u64) -> bool {
    address & 0xfff >= 0xff8
}

/// Whether two entries lead to the same place (module-plts.c:plt_entries_equal).
fn lead_to_the_same(a: (u64, Entry), b: (u64, Entry)) -> bool {
    let page = |(place, entry): (u64, Entry)| {
        let [low, high] = [entry[0] >> 29 & 3, entry[0] >> 5 & 0x7_ffff];
        let pages = i64::from(((high << 2 | low) << 11) as i32 >> 11);
        (place & !0xfff).wrapping_add((pages << 12) as u64)
    };
    let ([a_adrp, a_add, a_br], [b_adrp, b_add, b_br]) = (a.1, b.1);
    let same_here = a_adrp == b_adrp && a.0 & !0xfff == b.0 & !0xfff;
    a_add == b_add && a_br == b_br && (same_here || page(a) == page(b))
}

/// One PLT.
#[derive(Debug, Default)]
struct Table {
    section: &'static str,
    place: Option<SectionPlace>,
    address: u64,
    /// How many entries there is room for, the one at the end that is never used left out.
    limit: usize,
    used: usize,
    /// All of the section, once there is something in it.
    entries: Vec<Entry>,
}

impl Table {
    fn new<B: Block>(
        section: &'static str,
        index: Option<usize>,
        image: &Image<'_>,
        placement: &Placement<B>,
    ) -> Table {
        let layout = placement.layout();
        let found = index.and_then(|index| Some((image.sections().get(index)?, layout.place(index)?)));
        let Some((header, place)) = found else { return Table { section, ..Table::default() } };
        let limit = (layout.shape(header).size / ENTRY).saturating_sub(1) as usize;
        let address = placement.section_address(place).0;
        Table { section, place: Some(place), address, limit, used: 0, entries: Vec::new() }
    }

    fn address_of(&self, slot: usize) -> u64 {
        self.address.wrapping_add(slot as u64 * ENTRY)
    }

    fn put(&mut self, slot: usize, entry: Entry) -> Result<(), RelocationProblem> {
        let full = RelocationProblem::TableFull { table: self.section };
        if self.entries.is_empty() {
            self.entries.try_reserve_exact(self.limit + 1).map_err(|_| full)?;
            self.entries.resize(self.limit + 1, [0; 3]);
        }
        *self.entries.get_mut(slot).ok_or(full)? = entry;
        Ok(())
    }

    /// The address of an entry that leads to `target`: the one that was made last, or a new one. What would be a new
    /// one is written before that is known, so that a copy may stay behind the last.
    fn lead_to(&mut self, target: u64, erratum: bool) -> Result<u64, RelocationProblem> {
        let mut slot = self.used;
        if erratum && is_forbidden(self.address_of(slot)) {
            slot += 1;
        }
        let address = self.address_of(slot);
        let new = entry(address, target);
        self.put(slot, new)?;
        if let Some(last) = self.used.checked_sub(1)
            && let Some(&known) = self.entries.get(last)
            && lead_to_the_same((address, new), (self.address_of(last), known))
        {
            return Ok(self.address_of(last));
        }
        self.used = slot + 1;
        if self.used > self.limit {
            return Err(RelocationProblem::TableFull { table: self.section });
        }
        Ok(address)
    }

    /// The address of code that does what `adrp rd, page` at `place` should, and goes back behind it.
    fn veneer(&mut self, place: u64, page: u64, rd: u32) -> Result<u64, RelocationProblem> {
        let mut slot = self.used;
        self.used += 1;
        if self.used > self.limit {
            return Err(RelocationProblem::TableFull { table: self.section });
        }
        if is_forbidden(self.address_of(slot)) {
            slot = self.used;
            self.used += 1;
        }
        let address = self.address_of(slot);
        let back = branch(B, address.wrapping_add(8), place.wrapping_add(4));
        self.put(slot, [adrp(address, page, rd), add(rd, page), back])?;
        Ok(address)
    }

    fn write<B: Block>(&self, placement: &mut Placement<B>) {
        let Some(place) = self.place.filter(|_| !self.entries.is_empty()) else { return };
        let bytes = placement.section_bytes_mut(place, self.entries.len() as u64 * ENTRY);
        for (field, &entry) in bytes.chunks_exact_mut(ENTRY as usize).zip(&self.entries) {
            field.copy_from_slice(&entry_bytes(entry));
        }
    }
}

/// The PLTs of a module.
#[derive(Debug)]
pub(crate) struct Plts {
    erratum: bool,
    core: Table,
    init: Table,
}

impl Plts {
    fn table(&mut self, site: &Site<'_>) -> &mut Table {
        if site.memory.is_init() { &mut self.init } else { &mut self.core }
    }

    /// ADRP where the erratum forbids it: ADR if that reaches, or a branch to a veneer.
    fn replace_adrp(&mut self, site: &Site<'_>, field: &mut [u8]) -> Result<(), RelocationProblem> {
        let (place, page) = (site.place.0, site.sum() & !0xfff);
        let word = Little64::u32(field, 0);
        let distance = page.wrapping_sub(place);
        let word = if Check::Signed(21).accepts(distance) {
            ADR.set(u64::from(word), distance) as u32 & !(1 << 31)
        } else {
            let veneer = self.table(site).veneer(place, page, word & 31)?;
            branch(B, place, veneer)
        };
        Little64::put_u32(field, 0, word);
        Ok(())
    }
}

/// Where a relocation comes when Linux applies it: branches by type, symbol and addend, then the others by place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    group: u64,
    addend: i64,
    entry: u32,
}

/// Behind all branches.
const OTHERS: u64 = 1 << 48;

impl Stubs for Plts {
    const ORDERED: bool = true;

    fn new<B: Block>(
        image: &Image<'_>,
        profile: &Profile,
        placement: &Placement<B>,
    ) -> Result<Plts, LinkError> {
        let tables = Tables::of(image);
        Ok(Plts {
            erratum: profile.machine_state.erratum_843419,
            core: Table::new(".plt", tables.plt, image, placement),
            init: Table::new(".init.plt", tables.init_plt, image, placement),
        })
    }

    /// Linux brings the branches that may need an entry to the front, by exchanging the first relocation that is none
    /// with the last that is one, and so on, and sorts them (module-plts.c:partition_branch_plt_relas). If all are,
    /// the last stays where it is.
    fn order(
        image: &Image<'_>,
        section: &RelocationSection<'_, '_>,
        entries: &mut [u32],
    ) -> Result<(), LinkError> {
        if section.target().flags() & EXECINSTR == 0 {
            return Ok(());
        }
        let symbols = image.symbols().records();
        let target = section.target().index();
        let is_branch = |index: usize| {
            section.get(index).is_some_and(|relocation| needs_entry(symbols, &relocation, target))
        };
        let count = section.len();
        let leftover = (0..count).all(is_branch).then(|| count - 1);
        let mut turns: Vec<Turn> = Vec::new();
        turns.try_reserve_exact(entries.len()).map_err(|_| LinkError::OutOfMemory)?;
        let mut others = 0;
        for &entry in entries.iter() {
            let Some(relocation) = section.get(entry as usize) else { continue };
            let needs = needs_entry(symbols, &relocation, target) && leftover != Some(entry as usize);
            others += usize::from(!needs);
            turns.push(match needs {
                true => {
                    let group = u64::from(relocation.kind) << 32 | u64::from(relocation.symbol);
                    Turn { group, addend: relocation.addend, entry }
                }
                false => Turn { group: OTHERS + u64::from(entry), addend: 0, entry },
            });
        }
        if others > 1 {
            let branches = (0..count).filter(|&index| is_branch(index)).count();
            let mut back = (branches..count).rev().filter(|&index| is_branch(index));
            let mut waiting = turns.iter_mut().peekable();
            for front in (0..branches).filter(|&index| !is_branch(index)) {
                let Some(back) = back.next() else { break };
                while waiting.next_if(|turn| (turn.entry as usize) < front).is_some() {}
                if let Some(turn) = waiting.next_if(|turn| turn.entry as usize == front) {
                    turn.group = OTHERS + back as u64;
                }
            }
        }
        turns.sort_unstable();
        for (entry, turn) in entries.iter_mut().zip(turns) {
            *entry = turn.entry;
        }
        Ok(())
    }

    fn apply(&mut self, site: &Site<'_>, field: &mut [u8]) -> Result<Applied, RelocationProblem> {
        let number = site.kind.number;
        match number {
            JUMP26 | CALL26 => {
                let distance = site.sum().wrapping_sub(site.place.0);
                if site.kind.check.accepts(distance) {
                    return Ok(Applied::Value(distance));
                }
                let (target, erratum) = (site.sum(), self.erratum);
                let entry = self.table(site).lead_to(target, erratum)?;
                Ok(Applied::Value(entry.wrapping_sub(site.place.0)))
            }
            ADRP | ADRP_UNCHECKED if self.erratum && is_forbidden(site.place.0) => {
                self.replace_adrp(site, field)?;
                Ok(Applied::Done)
            }
            _ if SIGNED_MOVES.contains(&number) => move_signed(site, field),
            _ => Ok(Applied::AsTheTableSays),
        }
    }

    fn finish<B: Block>(self, placement: &mut Placement<B>, _: &[u64]) -> Result<(), LinkError> {
        self.core.write(placement);
        self.init.write(placement);
        Ok(())
    }
}

/// MOVZ for a value, MOVN for one below 0 (arch/arm64/kernel/module.c:reloc_insn_movw).
fn move_signed(site: &Site<'_>, field: &mut [u8]) -> Result<Applied, RelocationProblem> {
    const OPCODE: u32 = 3 << 29;
    const MOVZ: u32 = 2 << 29;
    let Some(value) = site.value() else { return Ok(Applied::AsTheTableSays) };
    if !site.kind.check.accepts(value) {
        return Err(RelocationProblem::Overflow { value, check: site.kind.check });
    }
    let negative = (value as i64) < 0;
    let word = Little64::u32(field, 0) & !OPCODE | if negative { 0 } else { MOVZ };
    let word = site.kind.field.set(u64::from(word), if negative { !value } else { value });
    Little64::put_u32(field, 0, word as u32);
    Ok(Applied::Done)
}

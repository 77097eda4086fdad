//! Symbols of the kernel's data that no list has: kernels without CONFIG_KALLSYMS_ALL list functions alone.
//!
//! What a module's own memory shows at the places that refer to such a symbol is taken for its address if it is one of
//! the kernel's data. All places of all modules must then agree. A symbol with a single place could be any: what only
//! one place shows proves nothing, and how many there are of those is told.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use hashbrown::HashMap;

use super::given::{GivenBlock, is_gone};
use super::{Guest, GuestModule, Rule, VerifyError};
use crate::address::RunAddr;
use crate::finalize::Standing;
use crate::finalize::subject::Subject;
use crate::image::{Image, Relocation, RelocationSection, SymbolPlace};
use crate::link::{Expression, Placement, RelocationType, Symbols};
use crate::name::Name;
use crate::profile::Profile;
use crate::seed::Seeded;

/// Tables whose entries the kernel sorts or changes: what stands at a place is no longer what was relocated there. Of the
/// first the entries can be told apart.
const LABELS: &str = "__jump_table";
const CHANGED: [&str; 5] =
    ["__ex_table", "__mcount_loc", "__patchable_function_entries", ".altinstructions", ".static_call_sites"];

/// Bytes of an entry of `__jump_table`: two distances, and one as wide as an address.
const LABEL: u64 = 16;
/// Its flags, in the key's lowest bits.
const FLAGS: u64 = 3;

/// Addresses that were shown, by name.
#[derive(Debug, Default)]
pub(super) struct Unlisted {
    shown: HashMap<Box<[u8]>, Shown, Seeded>,
}

/// An address, and how many places showed it.
#[derive(Clone, Copy, Debug)]
struct Shown {
    address: u64,
    places: usize,
}

/// What one place shows of a symbol.
#[derive(Clone, Copy, Debug)]
enum Sight {
    /// Its address.
    Whole(u64),
    /// The page of the address with that addend.
    Page(i64, u64),
    /// The lowest bits of the same.
    Low(i64, u64),
}

impl Unlisted {
    pub(super) fn find(&self, name: Name<'_>) -> Option<u64> {
        self.shown.get(name.bytes()).map(|shown| shown.address)
    }

    /// How many symbols were found so, and how many of these in one place alone.
    pub(super) fn count(&self) -> (usize, usize) {
        let single = self.shown.values().filter(|shown| shown.places == 1).count();
        (self.shown.values().filter(|shown| shown.places > 0).count(), single)
    }

    /// Looks for what `scope` lacks of a module's symbols in the guest's memory of that module.
    pub(super) fn look(
        &mut self,
        image: &Image<'_>,
        profile: &Profile,
        placement: &Placement<GivenBlock>,
        guest: &dyn Guest,
        module: &GuestModule<'_>,
        scope: &impl Symbols,
    ) -> Result<(), VerifyError> {
        let is_needed = !profile.switches.kallsyms_all;
        let Some(data) = is_needed.then(|| guest.kernel_data()).flatten() else { return Ok(()) };
        let mut place = Places { image, placement, guest, module, labels: HashMap::default() };
        let mut sights: HashMap<u32, Vec<Sight>, Seeded> = HashMap::default();
        let undefined = (1..).zip(image.symbols().iter().skip(1));
        for (index, symbol) in undefined.filter(|(_, symbol)| symbol.place == SymbolPlace::Undefined) {
            // A weak one may be nobody's: only what is shown counts.
            if !symbol.name.is_empty()
                && scope.find(symbol.name).is_none()
                && self.find(symbol.name).is_none()
            {
                sights.try_reserve(1).map_err(|_| VerifyError::OutOfMemory)?;
                sights.insert(index, Vec::new());
            }
        }
        if sights.is_empty() {
            return Ok(());
        }
        place.read_labels()?;
        let relocations = image.machine().relocations()?;
        for table in image.relocations() {
            for (index, relocation) in (0..).zip(table.iter()) {
                let Some(sights) = sights.get_mut(&relocation.symbol) else { continue };
                let kind = relocations.get(relocation.kind);
                if let Some(sight) = kind.and_then(|kind| place.sight(&table, index, &relocation, 0, kind)) {
                    sights.try_reserve(1).map_err(|_| VerifyError::OutOfMemory)?;
                    sights.push(sight);
                }
            }
        }
        for (index, sights) in sights {
            let Some(symbol) = image.symbols().get(index as usize) else { continue };
            let shown = agreed(&sights, &data)?;
            // What only memory that is gone refers to may lie anywhere.
            let nowhere = Shown { address: data.start.0, places: 0 };
            let Some(shown) = shown.or_else(|| (sights.is_empty() && !symbol.weak).then_some(nowhere)) else {
                continue;
            };
            self.shown.try_reserve(1).map_err(|_| VerifyError::OutOfMemory)?;
            self.shown.insert(symbol.name.bytes().into(), shown);
        }
        Ok(())
    }

    /// Where a module's percpu data begins, by what refers to it in the guest's memory of the module: its symbols are in no
    /// list either. It lies behind the kernel's own, in the part of it that is kept for modules.
    pub(super) fn percpu_base(
        image: &Image<'_>,
        profile: &Profile,
        placement: &Placement<GivenBlock>,
        guest: &dyn Guest,
        module: &GuestModule<'_>,
        section: usize,
    ) -> Result<Option<u64>, VerifyError> {
        let is_needed = !profile.switches.kallsyms_all;
        let Some(data) = is_needed.then(|| guest.kernel_data()).flatten() else { return Ok(None) };
        let place = Places { image, placement, guest, module, labels: HashMap::default() };
        let relocations = image.machine().relocations()?;
        let mut sights = Vec::new();
        for table in image.relocations() {
            for (index, relocation) in (0..).zip(table.iter()) {
                let symbol = image.symbols().get(relocation.symbol as usize);
                let symbol = symbol.filter(|symbol| symbol.place == SymbolPlace::Section(section));
                let Some((symbol, kind)) = symbol.zip(relocations.get(relocation.kind)) else { continue };
                // All symbols of the section are as far from its start as they say.
                if let Some(sight) = place.sight(&table, index, &relocation, symbol.value as i64, kind) {
                    sights.try_reserve(1).map_err(|_| VerifyError::OutOfMemory)?;
                    sights.push(sight);
                }
            }
        }
        let shown = agreed(&sights, &(data.start..data.end + profile.percpu_reserve))?;
        // What only memory that is gone refers to may lie anywhere.
        Ok(shown.map(|shown| shown.address).or_else(|| sights.is_empty().then_some(data.start.0)))
    }

    /// Marks the places of such symbols: as they must be if the address is right.
    pub(super) fn mark(&self, subject: &mut Subject<'_, '_>) -> Result<(), VerifyError> {
        if self.shown.is_empty() {
            return Ok(());
        }
        let image = subject.image;
        let relocations = image.machine().relocations()?;
        for table in image.relocations() {
            let Some(start) = subject.section_address(table.target().index()) else { continue };
            for relocation in table.iter() {
                let symbol = image.symbols().get(relocation.symbol as usize);
                let Some(symbol) = symbol.filter(|symbol| symbol.place == SymbolPlace::Undefined) else {
                    continue;
                };
                let Some(kind) = relocations.get(relocation.kind) else { continue };
                if self.find(symbol.name).is_some() {
                    let at = start + kind.field.start(relocation.offset);
                    let bytes: Option<Box<[u8]>> = subject.module.ours(at, kind.field.size()).map(Box::from);
                    let Some(bytes) = bytes else { continue };
                    subject.module.write(at, &bytes, Rule::UnlistedSymbol, Standing::Unproven);
                }
            }
        }
        Ok(())
    }
}

/// A count of things.
type Counts<T> = HashMap<T, usize, Seeded>;

fn count<T: Eq + core::hash::Hash>(counts: &mut Counts<T>, thing: T) -> Result<(), VerifyError> {
    counts.try_reserve(1).map_err(|_| VerifyError::OutOfMemory)?;
    *counts.entry(thing).or_default() += 1;
    Ok(())
}

/// The address that most sights agree on, among those of the kernel's data; the lowest of equals.
fn agreed(sights: &[Sight], data: &Range<RunAddr>) -> Result<Option<Shown>, VerifyError> {
    let mut pages = Counts::default();
    for sight in sights {
        if let Sight::Page(addend, page) = *sight {
            count(&mut pages, (addend, page))?;
        }
    }
    // The page that most show for an addend.
    let mut usual: HashMap<i64, (usize, u64), Seeded> = HashMap::default();
    for ((addend, page), count) in pages {
        usual.try_reserve(1).map_err(|_| VerifyError::OutOfMemory)?;
        let best = usual.entry(addend).or_insert((count, page));
        *best = (*best).max((count, page));
    }
    let mut votes = Counts::default();
    for sight in sights {
        let address = match *sight {
            Sight::Whole(address) => Some(address),
            Sight::Low(addend, low) => {
                usual.get(&addend).map(|(_, page)| (page | low).wrapping_sub(addend as u64))
            }
            Sight::Page(..) => None,
        };
        if let Some(address) = address.filter(|address| data.contains(&RunAddr(*address))) {
            count(&mut votes, address)?;
        }
    }
    let best = votes.into_iter().max_by_key(|&(address, places)| (places, core::cmp::Reverse(address)));
    Ok(best.map(|(address, places)| Shown { address, places }))
}

/// A distance of 33 bits.
fn signed33(bits: u64) -> i64 {
    (bits << 31) as i64 >> 31
}

/// Where a module's relocations went in the guest.
struct Places<'p> {
    image: &'p Image<'p>,
    placement: &'p Placement<GivenBlock>,
    guest: &'p dyn Guest,
    module: &'p GuestModule<'p>,
    /// The keys of the guest's `__jump_table`, by where their branches are: the kernel has sorted the table.
    labels: HashMap<u64, u64, Seeded>,
}

impl Places<'_> {
    /// Reads the labels.
    fn read_labels(&mut self) -> Result<(), VerifyError> {
        let Some(section) = self.image.section(LABELS) else { return Ok(()) };
        let Some(start) = self.section(section.index()) else { return Ok(()) };
        for entry in 0..section.size() / LABEL {
            let at = start + entry * LABEL;
            let Some((code, key)) = self.number(at, 4).zip(self.number(at + 8, 8)) else { return Ok(()) };
            self.labels.try_reserve(1).map_err(|_| VerifyError::OutOfMemory)?;
            let code = at.0.wrapping_add_signed(i64::from(code as u32 as i32));
            self.labels.insert(code, key.wrapping_add(at.0 + 8) & !FLAGS);
        }
        Ok(())
    }

    /// The address of a section that the guest still has.
    fn section(&self, index: usize) -> Option<RunAddr> {
        let place = self.placement.layout().place(index).filter(|place| !is_gone(place.kind, self.module))?;
        Some(self.placement.section_address(place))
    }

    fn number(&self, address: RunAddr, size: usize) -> Option<u64> {
        let bytes = self.guest.bytes(address, size)?;
        let order = self.image.format().order;
        match size {
            4 => bytes.first_chunk().map(|bytes| u64::from(order.u32(*bytes))),
            8 => bytes.first_chunk().map(|bytes| order.u64(*bytes)),
            _ => None,
        }
    }

    /// What a place shows of what lies `before` its symbol.
    fn sight(
        &self,
        table: &RelocationSection<'_, '_>,
        index: usize,
        relocation: &Relocation,
        before: i64,
        kind: &RelocationType,
    ) -> Option<Sight> {
        let target = table.target();
        let start = self.section(target.index())?;
        let (offset, addend) = (relocation.offset, relocation.addend.wrapping_add(before));
        if target.name() == LABELS {
            return self.label(table, index, relocation);
        }
        if CHANGED.iter().any(|name| target.name() == *name) {
            return None;
        }
        let at = start + kind.field.start(offset);
        let size = kind.field.size();
        let bits = kind.field.get(self.number(at, size)?);
        let whole = kind.field.parts().all(|part| u32::from(part.count) == 8 * size as u32);
        match kind.expression {
            Expression::SymbolPlusAddend if whole && size == self.image.format().word() => {
                Some(Sight::Whole(bits.wrapping_sub(addend as u64)))
            }
            Expression::SymbolPlusAddendMinusPlace if whole => {
                let distance = if size == 4 { i64::from(bits as u32 as i32) as u64 } else { bits };
                Some(Sight::Whole(at.0.wrapping_add(distance).wrapping_sub(addend as u64)))
            }
            // The symbol's slot of the GOT holds its address.
            Expression::GotEntryPlusAddendMinusPlace => {
                let slot = at.0.wrapping_add_signed(signed33(bits)).wrapping_sub(relocation.addend as u64);
                let address = self.number(RunAddr(slot), self.image.format().word())?;
                Some(Sight::Whole(address.wrapping_sub(before as u64)))
            }
            Expression::PageOfSymbolMinusPageOfPlace => {
                let distance = signed33(bits);
                Some(Sight::Page(addend, (at.0 & !0xfff).wrapping_add(distance as u64)))
            }
            Expression::SymbolPlusAddend if kind.field.parts().all(|part| part.from + part.count <= 12) => {
                Some(Sight::Low(addend, bits))
            }
            _ => None,
        }
    }

    /// The key of an entry of `__jump_table`, found by where its branch is.
    fn label(
        &self,
        table: &RelocationSection<'_, '_>,
        index: usize,
        relocation: &Relocation,
    ) -> Option<Sight> {
        if relocation.offset % LABEL != 8 {
            return None;
        }
        // The branch's relocation stands nearby.
        let near = index.saturating_sub(4)..index + 4;
        let branch =
            near.filter_map(|at| table.get(at)).find(|other| other.offset + 8 == relocation.offset)?;
        let symbol = self.image.symbols().get(branch.symbol as usize)?;
        let SymbolPlace::Section(section) = symbol.place else { return None };
        let code = self.section(section)? + symbol.value.wrapping_add(branch.addend as u64);
        let key = self.labels.get(&code.0)?;
        Some(Sight::Whole(key.wrapping_sub(relocation.addend as u64 & !FLAGS)))
    }
}

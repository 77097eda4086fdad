//! Exported symbols: who offers which name, at which address and on which terms.

use alloc::vec::Vec;
use core::fmt;

use hashbrown::HashTable;

use crate::modules::ModuleId;
use crate::name::{HashedName, Name, hash};

/// Who defines a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// The kernel itself.
    Kernel,
    /// A loaded module.
    Module(ModuleId),
}

/// An exported symbol, as its provider offers it.
#[derive(Clone, Copy, Debug)]
pub struct Export<'a> {
    /// Name.
    pub name: Name<'a>,
    /// Final value: an address, or an offset for percpu symbols.
    pub value: u64,
    /// Whether only GPL-compatible modules may use it.
    pub gpl_only: bool,
    /// CRC of its type, where the provider has one.
    pub crc: Option<u32>,
    /// Namespace that a user must import; empty for none.
    pub namespace: Name<'a>,
}

/// A symbol as a user finds it.
#[derive(Clone, Copy, Debug)]
pub struct Definition<'a> {
    /// Who defines it.
    pub provider: Provider,
    /// What is offered.
    pub export: Export<'a>,
}

/// Where undefined symbols are looked up: [`Exports`], or an embedder's own table.
pub trait Symbols {
    /// The definition of `name`.
    fn find(&self, name: Name<'_>) -> Option<Definition<'_>>;

    /// The definitions of many names, each into the place of its name.
    ///
    /// A table that is larger than the caches can give its misses a chance to wait for each other's company.
    fn find_each<'s>(&'s self, names: &[HashedName<'_>], found: &mut [Option<Definition<'s>>]) {
        for (name, found) in names.iter().zip(found) {
            *found = self.find(name.name());
        }
    }
}

/// A table of exported symbols with one entry a name.
///
/// In Linux the kernel's own symbols are found first, then those of modules; a name is never exported twice
/// (main.c:verify_exported_symbols), so one table gives the same answers.
#[derive(Debug, Default)]
pub struct Exports {
    table: HashTable<Slot>,
    providers: Vec<Option<Offer>>,
    /// Indices of `providers` that are free; it always has room for all of them.
    vacant: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Of the name: tells names apart without a look at them.
    hash: u64,
    provider: u32,
    symbol: u32,
}

/// All that one provider offers. Names lie together, so that a provider leaves nothing behind when it goes.
#[derive(Debug)]
struct Offer {
    provider: Provider,
    names: Vec<u8>,
    symbols: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: (u32, u32),
    namespace: (u32, u32),
    value: u64,
    crc: Option<u32>,
    gpl_only: bool,
}

impl Offer {
    fn text(&self, (start, length): (u32, u32)) -> Name<'_> {
        Name(&self.names[start as usize..][..length as usize])
    }

    fn export(&self, entry: &Entry) -> Export<'_> {
        Export {
            name: self.text(entry.name),
            namespace: self.text(entry.namespace),
            value: entry.value,
            gpl_only: entry.gpl_only,
            crc: entry.crc,
        }
    }

    fn store(&mut self, text: Name<'_>) -> Option<(u32, u32)> {
        let start = u32::try_from(self.names.len()).ok()?;
        let length = u32::try_from(text.len()).ok()?;
        self.names.try_reserve(text.len()).ok()?;
        self.names.extend_from_slice(text.bytes());
        Some((start, length))
    }
}

/// Why symbols could not be added; nothing has been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportsError<'a> {
    /// Somebody already exports the name.
    Duplicate {
        /// The name.
        name: Name<'a>,
        /// Who exports it.
        owner: Provider,
    },
    /// No memory for the table.
    OutOfMemory,
}

impl fmt::Display for ExportsError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportsError::Duplicate { name, .. } => write!(f, "{name} is exported twice"),
            ExportsError::OutOfMemory => f.write_str("out of memory for the table of exports"),
        }
    }
}

impl core::error::Error for ExportsError<'_> {}

/// Names what a provider has been given, to take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferId(u32);

impl Exports {
    /// An empty table.
    pub fn new() -> Exports {
        Exports::default()
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether nobody exports anything.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    fn slot(&self, slot: Slot) -> Option<(&Offer, &Entry)> {
        let offer = self.providers.get(slot.provider as usize)?.as_ref()?;
        Some((offer, offer.symbols.get(slot.symbol as usize)?))
    }

    fn find_slot(&self, name: Name<'_>) -> Option<(&Offer, &Entry)> {
        let hash = hash(&name);
        let found = self.table.find(hash, |&slot| {
            slot.hash == hash && self.slot(slot).is_some_and(|(offer, entry)| offer.text(entry.name) == name)
        });
        found.and_then(|&slot| self.slot(slot))
    }

    /// Adds all that `provider` offers, or nothing.
    ///
    /// # Errors
    /// A name is already exported, or there is no memory.
    pub fn add<'a>(
        &mut self,
        provider: Provider,
        exports: impl IntoIterator<Item = Export<'a>>,
    ) -> Result<OfferId, ExportsError<'a>> {
        let id = self.vacancy()?;
        let offer = Offer { provider, names: Vec::new(), symbols: Vec::new() };
        self.providers[id.0 as usize] = Some(offer);
        for export in exports {
            if let Err(error) = self.add_one(id, &export) {
                self.remove(id);
                return Err(error);
            }
        }
        Ok(id)
    }

    fn vacancy<'a>(&mut self) -> Result<OfferId, ExportsError<'a>> {
        if let Some(index) = self.vacant.pop() {
            return Ok(OfferId(index));
        }
        self.providers.try_reserve(1).map_err(|_| ExportsError::OutOfMemory)?;
        self.vacant.try_reserve(self.providers.len() + 1).map_err(|_| ExportsError::OutOfMemory)?;
        self.providers.push(None);
        Ok(OfferId(self.providers.len() as u32 - 1))
    }

    fn add_one<'a>(&mut self, id: OfferId, export: &Export<'a>) -> Result<(), ExportsError<'a>> {
        if let Some((owner, _)) = self.find_slot(export.name) {
            return Err(ExportsError::Duplicate { name: export.name, owner: owner.provider });
        }
        let offer = self.providers.get_mut(id.0 as usize).and_then(Option::as_mut);
        let offer = offer.ok_or(ExportsError::OutOfMemory)?;
        offer.symbols.try_reserve(1).map_err(|_| ExportsError::OutOfMemory)?;
        let name = offer.store(export.name).ok_or(ExportsError::OutOfMemory)?;
        let namespace = offer.store(export.namespace).ok_or(ExportsError::OutOfMemory)?;
        let Export { value, gpl_only, crc, .. } = *export;
        let symbol = offer.symbols.len() as u32;
        self.table.try_reserve(1, |slot| slot.hash).map_err(|_| ExportsError::OutOfMemory)?;
        let hash = hash(&export.name);
        self.table.insert_unique(hash, Slot { hash, provider: id.0, symbol }, |slot| slot.hash);
        if let Some(offer) = self.providers.get_mut(id.0 as usize).and_then(Option::as_mut) {
            offer.symbols.push(Entry { name, namespace, value, crc, gpl_only });
        }
        Ok(())
    }

    /// Takes back what was added under `id`.
    pub fn remove(&mut self, id: OfferId) {
        let Some(offer) = self.providers.get_mut(id.0 as usize).and_then(Option::take) else { return };
        for (symbol, entry) in offer.symbols.iter().enumerate() {
            let slot = self.table.find_entry(hash(&offer.text(entry.name)), |slot| {
                slot.provider == id.0 && slot.symbol as usize == symbol
            });
            if let Ok(slot) = slot {
                slot.remove();
            }
        }
        self.vacant.push(id.0);
    }

    /// What was added under `id`.
    pub fn offered(&self, id: OfferId) -> impl Iterator<Item = Export<'_>> {
        let offer = self.providers.get(id.0 as usize).and_then(Option::as_ref);
        offer.into_iter().flat_map(|offer| offer.symbols.iter().map(|entry| offer.export(entry)))
    }
}

impl Symbols for Exports {
    fn find(&self, name: Name<'_>) -> Option<Definition<'_>> {
        let (offer, entry) = self.find_slot(name)?;
        Some(Definition { provider: offer.provider, export: offer.export(entry) })
    }

    /// In steps, each of which reads what the one before found out: misses of one step go on side by side.
    fn find_each<'s>(&'s self, names: &[HashedName<'_>], found: &mut [Option<Definition<'s>>]) {
        const STEP: usize = 64;
        for (names, found) in names.chunks(STEP).zip(found.chunks_mut(STEP)) {
            let mut slots = [None; STEP];
            for (name, slot) in names.iter().zip(&mut slots) {
                *slot = self.table.find(name.hash(), |slot| slot.hash == name.hash()).copied();
            }
            for (slot, found) in slots.iter().zip(&mut *found) {
                let offered = slot.and_then(|slot| self.slot(slot));
                *found = offered.map(|(offer, entry)| Definition {
                    provider: offer.provider,
                    export: offer.export(entry),
                });
            }
            for (name, found) in names.iter().zip(found) {
                // Two names with one hash are next to impossible, but must not be mixed up.
                if found.as_ref().is_some_and(|found| found.export.name != name.name()) {
                    *found = self.find(name.name());
                }
            }
        }
    }
}

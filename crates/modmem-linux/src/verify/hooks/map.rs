//! Whose an address is, and what memory there is to look for descriptions in.

use std::ops::Range;

use modmem::RunAddr;
use modmem::arch::KernelPlace;
use modmem::image::elf::{ByteOrder, Class, Format};
use modmem::layout::MemoryKind;
use modmem::profile::Profile;
use modmem::verify::{Guest as _, GuestSymbol, NotCompared};

use super::{HookSite, Owner};
use crate::snapshot::Snapshot;
use crate::verify::{Checked, HiddenModule, Outcome, SnapshotGuest, Stray, StrayKind};

/// Bytes that are looked through at most: no machine's modules have so much data.
const MOST: u64 = 1 << 29;

/// A snapshot's addresses by owner.
pub(super) struct Map<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) guest: SnapshotGuest<'s>,
    pub(super) format: Format,
    modules: &'s [Checked],
    /// Memories that modules have, by address.
    memories: Vec<(Range<u64>, usize, MemoryKind)>,
    strays: Vec<&'s Stray>,
    hidden: &'s [HiddenModule],
    kernel: Range<u64>,
    kernel_text: Range<u64>,
}

impl<'s> Map<'s> {
    pub(super) fn new(
        snapshot: &'s Snapshot,
        profile: &Profile,
        modules: &'s [Checked],
        strays: &'s [Stray],
        hidden: &'s [HiddenModule],
    ) -> Map<'s> {
        let mut memories = Vec::new();
        for (index, checked) in modules.iter().enumerate() {
            let Outcome::Compared(report) = &checked.outcome else { continue };
            for kind in MemoryKind::ALL {
                let there = report.memories[kind].as_ref();
                let there = there.filter(|m| m.tally.not_compared_for(NotCompared::FreedInit) == 0);
                let Some(memory) = there.filter(|memory| memory.tally.total > 0) else { continue };
                let start = memory.address.0;
                memories.push((start..start.saturating_add(memory.tally.total), index, kind));
            }
        }
        memories.sort_by_key(|(range, ..)| range.start);
        let mut strays: Vec<&Stray> = strays.iter().collect();
        strays.sort_by_key(|stray| stray.range.start);
        let place = snapshot.kernel_place();
        let range =
            |end: fn(&KernelPlace) -> u64| place.as_ref().map_or(0..0, |place| place.start.0..end(place));
        Map {
            snapshot,
            guest: SnapshotGuest::new(snapshot),
            // A machine that this build has nothing for was not verified.
            format: profile
                .machine
                .format()
                .unwrap_or(Format { class: Class::Elf64, order: ByteOrder::Little }),
            modules,
            memories,
            strays,
            hidden,
            kernel: range(|place| place.end.0),
            kernel_text: range(|place| place.text_end.0),
        }
    }

    pub(super) fn word_size(&self) -> u64 {
        self.format.word() as u64
    }

    /// The address-sized word at an address, if the snapshot has it.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        let size = self.format.word();
        if let Some(bytes) = self.snapshot.memory.bytes(address, size) {
            return self.format.read_word(bytes);
        }
        let mut bytes = [0; 8];
        self.snapshot.memory.copy(address, bytes.get_mut(..size)?)?;
        self.format.read_word(&bytes[..size])
    }

    /// The text at an address, up to its end, if that is near and nothing else is in it.
    pub(super) fn text(&self, address: u64) -> Option<&'s str> {
        const LONGEST: usize = 512;
        let bytes = self.snapshot.memory.bytes_from(address);
        let bytes = &bytes[..bytes.len().min(LONGEST)];
        let end = bytes.iter().position(|byte| *byte == 0).filter(|end| *end > 0)?;
        let text = std::str::from_utf8(&bytes[..end]).ok()?;
        text.chars().all(|c| c.is_ascii_graphic()).then_some(text)
    }

    /// The listed module that has memory at an address, and of what kind.
    pub(super) fn module_at(&self, address: u64) -> Option<(usize, MemoryKind)> {
        let after = self.memories.partition_point(|(range, ..)| range.start <= address);
        let (range, index, kind) = self.memories.get(after.checked_sub(1)?)?;
        range.contains(&address).then_some((*index, *kind))
    }

    /// The name of a module, by index.
    pub(super) fn name(&self, module: usize) -> &'s str {
        self.modules.get(module).map_or("", |checked| &checked.name)
    }

    /// Whose an address is.
    pub(super) fn owner(&self, address: u64) -> Owner {
        if let Some((module, _)) = self.module_at(address) {
            return Owner::Module(self.name(module).to_owned());
        }
        if self.kernel.contains(&address) {
            return Owner::Kernel;
        }
        if let Some(hidden) = self.hidden.iter().find(|hidden| hidden.contains(address)) {
            return Owner::Hidden(hidden.name.clone());
        }
        let after = self.strays.partition_point(|stray| stray.range.start <= address);
        // What nobody looked at spans all the rest.
        let before = self.strays[..after].iter().rev().take(4);
        let stray = before.into_iter().find(|stray| stray.range.contains(&address));
        match stray.map(|stray| &stray.kind) {
            Some(StrayKind::NotCompared(module) | StrayKind::LateInit(module)) => {
                return Owner::Module(module.clone());
            }
            Some(StrayKind::NoOwner | StrayKind::Between) => return Owner::Nobody,
            Some(StrayKind::Known(owner, _)) if owner.starts_with("BPF") => return Owner::Bpf,
            _ => {}
        }
        let listed = self.snapshot.symbols.at_address(address).find_map(|symbol| symbol.module);
        match listed {
            Some("bpf") => Owner::Bpf,
            Some(module) if self.snapshot.module(module).is_some() => Owner::Module(module.to_owned()),
            _ => Owner::Unknown,
        }
    }

    /// The symbol that begins at an address.
    pub(super) fn symbol(&self, address: u64) -> Option<GuestSymbol<'_>> {
        self.guest.symbol_at(RunAddr(address)).filter(|symbol| symbol.offset == 0)
    }

    /// An address in words.
    pub(super) fn words_for(&self, address: u64) -> String {
        let name =
            self.symbol(address).map_or_else(|| format!("{address:#x}"), |symbol| symbol.name.to_owned());
        match self.owner(address) {
            Owner::Module(module) | Owner::Hidden(module) => format!("{name} [{module}]"),
            _ => name,
        }
    }

    /// Whether a function may begin at an address: in code of the kernel's or of a module's, or in memory of nobody.
    pub(super) fn is_code(&self, address: u64) -> bool {
        match self.module_at(address) {
            Some((_, kind)) => kind.is_text(),
            None if self.kernel.contains(&address) => self.kernel_text.contains(&address),
            None => match self.owner(address) {
                Owner::Bpf | Owner::Nobody | Owner::Hidden(_) => true,
                Owner::Module(_) => self.symbol(address).is_some_and(|symbol| symbol.text),
                Owner::Kernel | Owner::Unknown => false,
            },
        }
    }

    pub(super) fn is_of_kernel(&self, address: u64) -> bool {
        self.kernel.contains(&address)
    }

    /// A place that is hooked.
    pub(super) fn site(&self, address: u64) -> HookSite {
        HookSite { address, module: self.module_at(address).map(|(module, _)| module) }
    }

    /// The memory in which descriptions are that somebody writes to: the modules' own, and what no listed module owns.
    pub(super) fn data(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let of_modules = self
            .memories
            .iter()
            .filter(|(_, _, kind)| matches!(kind, MemoryKind::Data | MemoryKind::RoAfterInit));
        let of_modules = of_modules.map(|(range, ..)| range.clone());
        let others = self.strays.iter().filter(|stray| {
            matches!(stray.kind, StrayKind::NoOwner | StrayKind::Between | StrayKind::NotCompared(_))
        });
        let mut room = MOST;
        of_modules.chain(others.map(|stray| stray.range.clone())).take_while(move |range| {
            let length = range.end - range.start;
            let fits = length <= room;
            room = room.saturating_sub(length);
            fits
        })
    }

    /// All words of a range that the snapshot has, with where they are.
    pub(super) fn words(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, u64)> + use<'s> {
        let (format, size) = (self.format, self.format.word());
        self.snapshot.memory.parts(range.clone()).flat_map(move |(start, bytes)| {
            let first = start.next_multiple_of(size as u64);
            let skipped = ((first - start) as usize).min(bytes.len());
            let words = bytes[skipped..].chunks_exact(size);
            let places = (first..).step_by(size);
            places.zip(words).filter_map(move |(at, word)| Some((at, format.read_word(word)?)))
        })
    }
}

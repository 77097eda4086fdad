//! What the rules of a machine work on: one module of one guest.

use alloc::vec::Vec;
use core::ops::Range;

use super::VerifyError;
use super::evidence::Evidence;
use super::guest::Guest;
use super::hook::{Hook, HookKind};
use super::report::{Unexplained, Why};
use super::twin::Twin;
use crate::address::RunAddr;
use crate::image::Image;
use crate::layout::MemoryKind;
use crate::profile::Profile;

/// One module while its rules are applied. `K` is what the rules of its machine know of the guest's kernel.
pub(crate) struct Subject<'s, 'g, K = ()> {
    pub(crate) image: &'s Image<'s>,
    pub(crate) profile: &'s Profile,
    pub(crate) guest: &'g dyn Guest,
    pub(crate) twin: Twin<'g>,
    pub(crate) evidence: &'s mut Evidence,
    pub(crate) kernel: &'s K,
    pub(crate) kprobes: &'s [RunAddr],
    /// What is wrong in memory that belongs to the module and is none of its seven.
    pub(crate) outside: Vec<Unexplained>,
    /// That memory: the kernel made it for the module.
    pub(crate) areas: Vec<Range<RunAddr>>,
    /// What is traced and probed.
    pub(crate) hooks: Vec<Hook>,
}

impl<'s, 'g, K> Subject<'s, 'g, K> {
    /// The same for rules that know something else of the kernel.
    pub(crate) fn knowing<L>(self, kernel: &'s L) -> Subject<'s, 'g, L> {
        let Subject { image, profile, guest, twin, evidence, kernel: _, kprobes, outside, areas, hooks } =
            self;
        Subject { image, profile, guest, twin, evidence, kernel, kprobes, outside, areas, hooks }
    }

    /// The address-sized word at `address` in the guest's memory.
    pub(crate) fn guest_word(&self, address: RunAddr) -> Option<u64> {
        let format = self.twin.format();
        format.read_word(&self.guest.bytes(address, format.word())?)
    }

    /// Address and size of the first loaded section of that name.
    pub(crate) fn section(&self, name: &str) -> Option<(RunAddr, u64)> {
        let section =
            self.image.sections().iter().find(|section| section.name() == name && section.is_alloc())?;
        let size = self.twin.placement().layout().shape(section).size;
        Some((self.section_address(section.index())?, size))
    }

    /// Address of a loaded section, by index.
    pub(crate) fn section_address(&self, index: usize) -> Option<RunAddr> {
        let place = self.twin.placement().layout().place(index)?;
        Some(self.twin.placement().section_address(place))
    }

    /// The places that a table of distances names, each 32 bits and counted from where it stands.
    pub(crate) fn sites(&self, name: &str) -> Result<Vec<RunAddr>, VerifyError> {
        let Some((table, size)) = self.section(name) else { return Ok(Vec::new()) };
        let mut sites = Vec::new();
        sites.try_reserve_exact((size / 4) as usize).map_err(|_| VerifyError::OutOfMemory)?;
        for index in 0..size / 4 {
            let at = table + index * 4;
            if let Some(offset) = self.twin.offset32(at).filter(|&offset| offset != 0) {
                sites.push(at + offset as u64);
            }
        }
        Ok(sites)
    }

    /// Whether a function of the kernel or of a module begins at `address`, as far as symbols tell.
    pub(crate) fn is_function(&self, address: RunAddr) -> bool {
        self.guest.symbol_at(address).is_some_and(|symbol| symbol.text && symbol.offset == 0)
    }

    /// Notes that the entry of a function leads to a tracer, or to what passes for one.
    pub(crate) fn traced(&mut self, site: RunAddr, target: RunAddr, mark: Option<RunAddr>, explained: bool) {
        self.hooked(Hook { kind: HookKind::Ftrace, site, target: Some(target), mark, explained });
    }

    /// Notes that a declared probe is where it was declared.
    pub(crate) fn probed(&mut self, site: RunAddr, target: Option<RunAddr>) {
        self.hooked(Hook { kind: HookKind::Kprobe, site, target, mark: None, explained: true });
    }

    fn hooked(&mut self, hook: Hook) {
        match self.hooks.try_reserve(1) {
            Ok(()) => self.hooks.push(hook),
            // A report that leaves out hooks would not be whole.
            Err(_) => self.twin.out_of_memory(),
        }
    }

    /// Notes what is wrong in a page that belongs to the module and is none of its memories.
    pub(crate) fn outside(&mut self, address: RunAddr, expected: &[u8], found: &[u8], why: Why) {
        let kind = MemoryKind::Text;
        let (expected, found) = (expected.into(), found.into());
        match self.outside.try_reserve(1) {
            Ok(()) => self.outside.push(Unexplained { kind, address, expected, found, why }),
            // A finding that is lost would be a verdict that is wrong.
            Err(_) => self.evidence.lack_memory(),
        }
    }
}

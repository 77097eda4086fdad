//! What the rules of a machine work on: one module, and the kernel that loads it.

use alloc::vec::Vec;
use core::ops::Range;

use super::hook::{Hook, HookKind};
use super::target::Target;
use super::{OutOfMemory, Rule, Standing, State};
use crate::address::RunAddr;
use crate::guest::Guest;
use crate::image::Image;
use crate::layout::MemoryKind;
use crate::profile::Profile;

/// What is wrong in a page that belongs to a module and is none of its memories.
pub(crate) struct Outside {
    pub(crate) address: RunAddr,
    pub(crate) expected: Vec<u8>,
    pub(crate) found: Vec<u8>,
    pub(crate) rule: Rule,
    pub(crate) standing: Standing,
}

/// One module while its rules are applied. `K` is what the rules of its machine know of the kernel.
pub(crate) struct Subject<'s, 'g, K = ()> {
    pub(crate) image: &'s Image<'s>,
    pub(crate) profile: &'s Profile,
    pub(crate) guest: &'g dyn Guest,
    pub(crate) module: Target<'g>,
    pub(crate) state: &'s mut dyn State,
    pub(crate) kernel: &'s K,
    pub(crate) kprobes: &'s [RunAddr],
    /// What is wrong in memory that belongs to the module and is none of its seven.
    pub(crate) outside: Vec<Outside>,
    /// Memory of that kind that was compared whole.
    pub(crate) areas: Vec<Range<RunAddr>>,
    /// Where memory of that kind begins, in the order in which the kernel made it.
    pub(crate) made: Vec<RunAddr>,
    /// What is traced and probed.
    pub(crate) hooks: Vec<Hook>,
}

impl<'s, 'g> Subject<'s, 'g> {
    /// A module that is compared with nothing.
    pub(crate) fn alone(
        image: &'s Image<'s>,
        profile: &'s Profile,
        kernel: &'g dyn Guest,
        module: Target<'g>,
        state: &'s mut dyn State,
    ) -> Subject<'s, 'g> {
        Subject {
            image,
            profile,
            guest: kernel,
            module,
            state,
            kernel: &(),
            kprobes: &[],
            outside: Vec::new(),
            areas: Vec::new(),
            made: Vec::new(),
            hooks: Vec::new(),
        }
    }
}

impl<'s, 'g, K> Subject<'s, 'g, K> {
    /// The same for rules that know something else of the kernel.
    pub(crate) fn knowing<L>(self, kernel: &'s L) -> Subject<'s, 'g, L> {
        let Subject { image, profile, guest, module, state, kernel: _, kprobes, outside, areas, made, hooks } =
            self;
        Subject { image, profile, guest, module, state, kernel, kprobes, outside, areas, made, hooks }
    }

    /// The address-sized word at `address` in the kernel's memory, as it is now. What that does not have and the module
    /// does is as the module begins with it, unless it is compared with a guest's.
    pub(crate) fn guest_word(&self, address: RunAddr) -> Option<u64> {
        let mut word = [0; 8];
        let word = &mut word[..self.module.format().word()];
        self.read(address, word).then(|| self.module.format().read_word(word))?
    }

    /// The same of any bytes.
    pub(crate) fn read(&self, address: RunAddr, buffer: &mut [u8]) -> bool {
        if self.module.is_compared() {
            return self.guest.read(address, buffer);
        }
        // What never changes is not asked for: it is what is made here.
        let is_fixed =
            self.module.kind_at(address).is_some_and(|kind| kind.is_text() || kind == MemoryKind::RoData);
        if !is_fixed && self.guest.read(address, buffer) {
            return true;
        }
        let own = self.module.ours(address, buffer.len());
        own.map(|own| buffer.copy_from_slice(own)).is_some()
    }

    /// Address and size of the first loaded section of that name.
    pub(crate) fn section(&self, name: &str) -> Option<(RunAddr, u64)> {
        let section =
            self.image.sections().iter().find(|section| section.name() == name && section.is_alloc())?;
        let size = self.module.layout().shape(section).size;
        Some((self.section_address(section.index())?, size))
    }

    /// Address of a loaded section, by index.
    pub(crate) fn section_address(&self, index: usize) -> Option<RunAddr> {
        let place = self.module.layout().place(index)?;
        Some(self.module.section_address(place))
    }

    /// The places that a table of distances names, each 32 bits and counted from where it stands.
    pub(crate) fn sites(&self, name: &str) -> Result<Vec<RunAddr>, OutOfMemory> {
        let Some((table, size)) = self.section(name) else { return Ok(Vec::new()) };
        let mut sites = Vec::new();
        sites.try_reserve_exact((size / 4) as usize).map_err(|_| OutOfMemory)?;
        for index in 0..size / 4 {
            let at = table + index * 4;
            if let Some(offset) = self.module.offset32(at).filter(|&offset| offset != 0) {
                sites.push(at + offset as u64);
            }
        }
        Ok(sites)
    }

    /// Whether a function of the kernel or of a module begins at `address`, as far as symbols tell.
    pub(crate) fn is_function(&self, address: RunAddr) -> bool {
        let is_own = !self.module.is_compared() && self.module.has_text(address);
        is_own || self.guest.symbol_at(address).is_some_and(|symbol| symbol.text && symbol.offset == 0)
    }

    /// Notes that the entry of a function leads to a tracer, or to what passes for one.
    pub(crate) fn traced(&mut self, site: RunAddr, target: RunAddr, mark: Option<RunAddr>, explained: bool) {
        self.hooked(Hook {
            kind: HookKind::Ftrace,
            site,
            target: Some(target),
            mark,
            jumps: false,
            explained,
        });
    }

    /// The same for a function whose entry jumps there.
    pub(crate) fn traced_by_jump(&mut self, site: RunAddr, target: RunAddr) {
        let target = Some(target);
        self.hooked(Hook { kind: HookKind::Ftrace, site, target, mark: None, jumps: true, explained: true });
    }

    /// Notes that a declared probe is where it was declared.
    pub(crate) fn probed(&mut self, site: RunAddr, target: Option<RunAddr>) {
        self.hooked(Hook { kind: HookKind::Kprobe, site, target, mark: None, jumps: false, explained: true });
    }

    fn hooked(&mut self, hook: Hook) {
        match self.hooks.try_reserve(1) {
            Ok(()) => self.hooks.push(hook),
            // A report that leaves out hooks would not be whole.
            Err(_) => self.module.lack_memory(),
        }
    }

    /// Notes where the kernel put code that it made for the module.
    pub(crate) fn made(&mut self, address: RunAddr) {
        match self.made.try_reserve(1) {
            Ok(()) => self.made.push(address),
            Err(_) => self.module.lack_memory(),
        }
    }

    /// Notes what is wrong in a page that belongs to the module and is none of its memories.
    pub(crate) fn outside(
        &mut self,
        address: RunAddr,
        expected: &[u8],
        found: &[u8],
        rule: Rule,
        standing: Standing,
    ) {
        let (expected, found) = (expected.into(), found.into());
        match self.outside.try_reserve(1) {
            Ok(()) => self.outside.push(Outside { address, expected, found, rule, standing }),
            // A finding that is lost would be a verdict that is wrong.
            Err(_) => self.state.lack_memory(),
        }
    }
}

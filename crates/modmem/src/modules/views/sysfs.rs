//! A module's folder in `/sys/module` (kernel/module/sysfs.c; main.c:show_coresize and its neighbours).

use alloc::string::String;
use alloc::vec::Vec;

use modmem_index::protection::Protection;

use crate::address::RunAddr;
use crate::layout::MemoryKind;
use crate::modules::{LoadedSection, Module, Modules, State};
use crate::name::Name;
use crate::space::Block;

/// What Linux shows in `/sys/module/NAME`: the files that the loader makes for every module. Parameters, `version` and
/// `srcversion` are the file's own words: see [`Image::modinfo`](crate::Image::modinfo).
#[derive(Debug)]
pub struct SysfsModule<'m, B, P: Protection> {
    modules: &'m Modules<B, P>,
    module: &'m Module<B>,
}

impl<'m, B: Block, P: Protection> SysfsModule<'m, B, P> {
    pub(super) fn of(modules: &'m Modules<B, P>, module: &'m Module<B>) -> SysfsModule<'m, B, P> {
        SysfsModule { modules, module }
    }

    /// `coresize`: bytes of the memories that stay; where data lies in vmalloc, of text alone.
    pub fn coresize(&self) -> u64 {
        let data_too = !self.modules.switches.data_in_vmalloc;
        self.bytes(|kind| !kind.is_init() && (data_too || kind.is_text()))
    }

    /// `datasize`: bytes of core data, where that lies in vmalloc.
    pub fn datasize(&self) -> Option<u64> {
        let apart = self.modules.switches.data_in_vmalloc;
        apart.then(|| self.bytes(|kind| !kind.is_init() && !kind.is_text()))
    }

    /// `initsize`: bytes of the memories that go when init has returned; 0 once they are gone.
    pub fn initsize(&self) -> u64 {
        self.bytes(MemoryKind::is_init)
    }

    /// `refcnt`: the references that loading makes (see [the module's documentation](super)); none where modules are
    /// never unloaded.
    pub fn refcnt(&self) -> Option<i64> {
        self.modules.reference_count(self.module)
    }

    /// `taint`: letters, mostly none.
    pub fn taint(&self) -> String {
        self.module.taints().letters()
    }

    /// `initstate`.
    pub fn initstate(&self) -> &'static str {
        match self.module.state() {
            State::Coming => "coming",
            State::Live => "live",
            State::Going => "going",
        }
    }

    /// `sections/`: names and addresses of the sections that are in memory, the symbol tables among them, in file
    /// order. Addresses of init sections stay when their memory has gone. None without KALLSYMS.
    ///
    /// None either where two of these have one name: Linux before 6.12 has no such folder then, later ones no such module.
    pub fn sections(&self) -> impl Iterator<Item = (Name<'m>, RunAddr)> + use<'m, B, P> {
        let module = self.module;
        self.loaded_sections().filter_map(move |section| {
            Some((section.name, module.original_range(section.kind)?.start + section.offset))
        })
    }

    /// `notes/`: names and bytes of the sections of type SHT_NOTE, in file order. None without KALLSYMS.
    pub fn notes(&self) -> impl Iterator<Item = (Name<'m>, &'m [u8])> + use<'m, B, P> {
        let module = self.module;
        self.loaded_sections().filter(|section| section.is_note).filter_map(move |section| {
            let range = section.offset as usize..(section.offset + section.size) as usize;
            Some((section.name, module.bytes(section.kind).get(range)?))
        })
    }

    /// `holders/`: the modules that use it, the newest first.
    pub fn holders(&self) -> impl Iterator<Item = &'m str> + use<'m, B, P> {
        self.modules.users_newest_first(self.module.id()).map(Module::name)
    }

    fn bytes(&self, counts: impl Fn(MemoryKind) -> bool) -> u64 {
        let held = |&kind: &MemoryKind| counts(kind) && self.module.address(kind).is_some();
        let memories = self.module.layout().memories();
        MemoryKind::ALL.into_iter().filter(held).map(|kind| memories[kind].allocated).sum()
    }

    fn loaded_sections(&self) -> impl Iterator<Item = LoadedSection<'m>> + use<'m, B, P> {
        let module = self.module;
        let files = move || module.sections().filter(|section| section.size > 0);
        let mut names: Vec<Name<'_>> = files().map(|section| section.name).collect();
        names.sort_unstable();
        let apart = names.windows(2).all(|pair| pair[0] != pair[1]);
        let shown = apart && self.module.layout().kallsyms().is_some();
        files().filter(move |_| shown)
    }
}

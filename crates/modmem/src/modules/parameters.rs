//! What a module's parameters are called: sysfs makes a file of each (kernel/params.c:module_param_sysfs_setup).

use alloc::vec::Vec;

use super::{LoadError, Module};
use crate::address::RunAddr;
use crate::layout::MemoryKind;
use crate::name::Name;
use crate::space::Block;

const SECTION: &str = "__param";

impl<B: Block> Module<B> {
    /// Refuses two parameters of one name that sysfs shows. A name that is not in the module's memory is passed over: Linux
    /// reads whatever is there.
    pub(super) fn check_parameters(&self) -> Result<(), LoadError> {
        let Some(section) = self.sections().find(|section| section.name == SECTION) else { return Ok(()) };
        let table = self.bytes(section.kind).get(section.offset as usize..).unwrap_or_default();
        let table = &table[..table.len().min(section.size as usize)];
        // struct kernel_param: name, module, functions, permissions (u16), level, flags, what it sets.
        let format = self.format();
        let word = format.word();
        let entries = table.chunks_exact(5 * word);
        let mut names: Vec<Name<'_>> = Vec::new();
        names.try_reserve_exact(entries.len()).map_err(|_| LoadError::OutOfMemory)?;
        for entry in entries {
            let permissions = &entry[3 * word..3 * word + 2];
            let name = format.read_word(&entry[..word]).and_then(|name| self.text_at(RunAddr(name)));
            // Without permissions there is no file.
            names.extend(name.filter(|_| permissions != [0, 0]));
        }
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(LoadError::DuplicateParameter { name: pair[0].to_text().into() }),
            None => Ok(()),
        }
    }

    /// The string that begins at an address in one of the module's memories.
    fn text_at(&self, address: RunAddr) -> Option<Name<'_>> {
        let kind = MemoryKind::ALL
            .into_iter()
            .find(|kind| self.range(*kind).is_some_and(|range| range.contains(&address)))?;
        let offset = usize::try_from(address.offset_from(self.address(kind)?)?).ok()?;
        let bytes = self.bytes(kind).get(offset..)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(Name(&bytes[..end]))
    }
}

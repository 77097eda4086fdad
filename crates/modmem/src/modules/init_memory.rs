//! Giving init memory back while readers look at the rest of the module.
#![expect(unsafe_code, reason = "blocks are freed that shared references led to")]

use modmem_index::protection::Protection;

use super::{ModuleId, Modules};
use crate::layout::MemoryKind;
use crate::space::Block;

impl<B: Block, P: Protection> Modules<B, P> {
    /// Hides a module's init memories from whoever looks from now on, waits for those who look already, frees them.
    pub(super) fn discard_init(&mut self, id: ModuleId) {
        let Some(module) = self.modules.get(id) else { return };
        for kind in MemoryKind::ALL.into_iter().filter(|kind| kind.is_init()) {
            if let Some(address) = module.address(kind) {
                self.addresses.remove(address);
            }
        }
        for block in module.init_blocks() {
            block.hide();
        }
        if module.init_blocks().next().is_none() {
            return;
        }
        self.modules.synchronize();
        for block in module.init_blocks() {
            // SAFETY: nobody has a reference to what is in the block. A reader reaches a module through a guard only;
            // those whose guards are older than `hide` were waited for, later ones find the block hidden. Others
            // reach it through `&Modules`, which `&mut self` rules out; here nobody looked into a block.
            unsafe { block.free() };
        }
    }
}

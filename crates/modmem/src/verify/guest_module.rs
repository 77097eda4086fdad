//! One module as the guest has it.

use crate::address::RunAddr;
use crate::name::Name;

/// What a guest says of one of its modules.
#[derive(Clone, Copy, Debug)]
pub struct GuestModule<'g> {
    /// Name, as /proc/modules has it.
    pub name: &'g str,
    /// Section names and addresses, as /sys/module/NAME/sections has them; those of freed init memory stay listed.
    pub sections: &'g [(Name<'g>, RunAddr)],
    /// Whether init has returned, so that init memory is gone.
    pub live: bool,
    /// Whether it was loaded by force (taint F).
    pub forced: bool,
    /// The build id that the running module has, if known.
    pub build_id: Option<&'g [u8]>,
    /// Bytes of its memories, as the kernel shows them, if it does: a file that needs far more is refused.
    pub size: Option<u64>,
}

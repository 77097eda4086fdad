//! Where 32-bit PowerPC puts modules (arch/powerpc/mm/mem.c:execmem_arch_setup).

use crate::address::RunAddr;
use crate::arch::{KernelPlace, Setup};
use crate::profile::{KernelConfig, Ranges};

/// Page size and ranges of a kernel.
pub(super) fn setup(_config: Option<&KernelConfig<'_>>, _place: Option<KernelPlace>) -> Setup {
    let region = RunAddr(0xbc00_0000)..RunAddr(0xc000_0000);
    Setup {
        page_size: 4096,
        ranges: Ranges { text: region.clone(), data: region, fallback: None },
        text_pack: None,
    }
}

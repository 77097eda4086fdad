//! Where s390x puts modules (arch/s390/boot/startup.c).

use crate::address::RunAddr;
use crate::arch::{KernelPlace, Setup};
use crate::profile::{KernelConfig, Ranges};

/// Page size and ranges of a kernel.
pub(super) fn setup(_config: Option<&KernelConfig<'_>>, _place: Option<KernelPlace>) -> Setup {
    let region = RunAddr(0x3ff_6000_0000)..RunAddr(0x3ff_e000_0000);
    Setup {
        page_size: 4096,
        ranges: Ranges { text: region.clone(), data: region, fallback: None },
        text_pack: None,
    }
}

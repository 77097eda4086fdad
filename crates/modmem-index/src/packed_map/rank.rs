//! How many values of a block begin at or before a page: the set bits of its change bits up to there.
//!
//! On x86-64 the instruction that counts bits came after the baseline that programs are compiled for, and doing without
//! it takes longer than all the rest of a look-up in a small map. So the processor is asked once for each map.

pub(super) use count::Rank;

impl Rank {
    /// How many of the bits 0 to `page` (modulo 32) are set.
    #[inline]
    pub(super) fn up_to(self, changes: u32, page: usize) -> u32 {
        self.up_to_quickly(changes, page).unwrap_or_else(|| counted(changes, page).count_ones())
    }

    /// The same, if there is an instruction for it.
    #[inline]
    pub(super) fn up_to_quickly(self, changes: u32, page: usize) -> Option<u32> {
        self.count(counted(changes, page))
    }
}

/// The bits that count.
#[inline]
fn counted(changes: u32, page: usize) -> u32 {
    changes.wrapping_shl(!page as u32)
}

#[cfg(all(target_arch = "x86_64", not(target_feature = "popcnt"), not(target_env = "sgx"), not(miri)))]
mod count {
    #![expect(unsafe_code, reason = "an instruction that the processor was asked for")]

    /// Counts bits the way that suits the processor.
    #[derive(Clone, Copy, Debug)]
    pub(in super::super) struct Rank {
        /// Whether the processor has `popcnt`, although the program was not compiled for it.
        pub(super) popcnt: bool,
    }

    impl Rank {
        pub(in super::super) fn new() -> Rank {
            #[allow(
                unused_unsafe,
                reason = "it became a safe function after the oldest compiler that is supported"
            )]
            // SAFETY: every x86-64 processor has the instruction, which reads and writes registers only.
            let features = unsafe { core::arch::x86_64::__cpuid(1) };
            Rank { popcnt: features.ecx & 1 << 23 != 0 }
        }

        #[inline]
        pub(super) fn count(self, bits: u32) -> Option<u32> {
            if !self.popcnt {
                return None;
            }
            let count: u32;
            // SAFETY: the processor has the instruction, which writes that register and the flags.
            unsafe {
                core::arch::asm!("popcnt {0:e}, {0:e}", inout(reg) bits => count, options(pure, nomem, nostack));
            }
            Some(count)
        }
    }

    #[cfg(all(test, not(loom)))]
    #[test]
    fn a_processor_without_the_instruction_counts_too() {
        for changes in [0, 1, 0x8000_0000, 0xffff_ffff, 0x1234_5678] {
            for page in 0..32 {
                assert_eq!(Rank { popcnt: false }.up_to_quickly(changes, page), None);
                assert_eq!(Rank { popcnt: false }.up_to(changes, page), Rank::new().up_to(changes, page));
            }
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(target_feature = "popcnt"), not(target_env = "sgx"), not(miri))))]
mod count {
    /// Counts bits the way that the program was compiled for.
    #[derive(Clone, Copy, Debug)]
    pub(in super::super) struct Rank;

    impl Rank {
        pub(in super::super) fn new() -> Rank {
            Rank
        }

        #[inline]
        pub(super) fn count(self, bits: u32) -> Option<u32> {
            Some(bits.count_ones())
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_up_to_and_including_the_page() {
        for changes in [0, 1, 0x8000_0000, 0xffff_ffff, 0x1234_5678] {
            let naive = |page: usize| (0..=page).filter(|bit| changes >> bit & 1 != 0).count() as u32;
            for page in 0..32_usize {
                assert_eq!(Rank::new().up_to(changes, page), naive(page));
                assert_eq!(Rank::new().up_to(changes, page + 96), naive(page));
            }
        }
    }
}

//! s390's trampolines of traced functions, which the loader keeps beside a module (struct ftrace_hotpatch_trampoline).

use std::ops::Range;

use super::places::Places;
use crate::snapshot::Snapshot;

/// Functions of the loader that ask for pages of trampolines, one for each function of a module that can be traced.
/// Compilers put the second into the first.
pub(super) const CALLERS: &[&str] = &["module_finalize", "module_alloc_ftrace_hotpatch_trampolines"];

/// What the page holds that trampolines share before 6.4: `lmg %r0,%r1,2(%r1)` and a branch by register 1, or one that is executed (arch/s390/kernel/mcount.S).
const SHARED: [&[u8]; 2] = [
    &[0xeb, 0x01, 0x10, 0x02, 0x00, 0x04, 0x07, 0xf1],
    &[0xeb, 0x01, 0x10, 0x02, 0x00, 0x04, 0xc6, 0x00, 0, 0, 0, 5, 0xa7, 0xf4, 0, 0, 0x07, 0xf1],
];

/// Whether a page holds what trampolines share and nothing else.
pub(super) fn is_shared_part(bytes: &[u8]) -> bool {
    let rest = SHARED.iter().find_map(|code| bytes.strip_prefix(*code));
    rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}

/// Whether pages hold trampolines and nothing else: a branch to the kernel's shared part, where the function goes on, and
/// who intercepts it.
pub(super) fn are_trampolines(
    snapshot: &Snapshot,
    range: &Range<u64>,
    bytes: &[u8],
    places: &Places,
) -> bool {
    const BRASL: [u8; 2] = [0xc0, 0x15];
    let kernel = |name: &str| snapshot.symbols.kernel(name);
    let shared = ["ftrace_shared_hotpatch_trampoline_br", "ftrace_shared_hotpatch_trampoline_exrl"];
    let copied = kernel("ftrace_plt_init").is_some();
    let shared: Vec<u64> = shared.iter().filter_map(|name| kernel(name)).filter(|_| !copied).collect();
    let interceptors: Vec<u64> =
        ["ftrace_caller", "ftrace_regs_caller"].iter().filter_map(|name| kernel(name)).collect();
    let mut is_over = false;
    (range.start..).step_by(24).zip(bytes.chunks(24)).all(|(address, record)| {
        is_over |= record.iter().all(|byte| *byte == 0);
        if is_over {
            return record.iter().all(|byte| *byte == 0);
        }
        let number = |at: usize| record.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let distance = record.get(2..).and_then(<[u8]>::first_chunk).map(|bytes| i32::from_be_bytes(*bytes));
        let (Some(distance), Some(rest), Some(interceptor)) = (distance, number(8), number(16)) else {
            return false;
        };
        let target = address.wrapping_add_signed(2 * i64::from(distance));
        record.starts_with(&BRASL)
            && (shared.is_empty() || shared.contains(&target))
            && (interceptors.is_empty() || interceptors.contains(&interceptor))
            && places.is_of_module(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Symbol, SymbolTable};

    #[test]
    fn the_page_that_trampolines_share_holds_that_code_and_nothing_else() {
        for code in SHARED {
            let mut page = vec![0; 4096];
            page[..code.len()].copy_from_slice(code);
            assert!(is_shared_part(&page));
            for at in [0, code.len() - 1, code.len(), 4095] {
                page[at] ^= 1;
                assert!(!is_shared_part(&page), "{at}");
                page[at] ^= 1;
            }
        }
        assert!(!is_shared_part(&[0; 4096]));
    }

    #[test]
    fn pages_of_trampolines_lead_into_modules_and_hold_nothing_else() {
        let places = Places {
            owned: std::iter::once(0x5000..0x6000).collect(),
            given: std::iter::once(0x7000..0x8000).collect(),
            ..Places::default()
        };
        let symbol = |name, address| Symbol { name, address, letter: 'T', module: None };
        let shared = symbol("ftrace_shared_hotpatch_trampoline_br", 0x9_1000);
        let symbols = SymbolTable::new([shared, symbol("ftrace_caller", 0x100)]).unwrap();
        let snapshot = Snapshot { symbols, ..Snapshot::default() };
        for (rest, interceptor, behind, good) in [
            (0x5106_u64, 0x100_u64, 0, true),
            (0x7106, 0x100, 0, true),
            (0x6106, 0x100, 0, false),
            (0x5106, 0x200, 0, false),
            (0x5106, 0x100, 7, false),
        ] {
            // A page of one trampoline for a function at `rest`, which `interceptor` intercepts.
            let mut bytes = [0xc0, 0x15].to_vec();
            bytes.extend(0x800_i32.to_be_bytes());
            bytes.extend([0; 2]);
            bytes.extend(rest.to_be_bytes());
            bytes.extend(interceptor.to_be_bytes());
            bytes.resize(4096, behind);
            let found = are_trampolines(&snapshot, &(0x9_0000..0x9_1000), &bytes, &places);
            assert_eq!(found, good, "{rest:#x} {interceptor:#x}");
        }
    }
}

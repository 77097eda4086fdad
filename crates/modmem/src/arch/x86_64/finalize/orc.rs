//! `.orc_unwind_ip` and `.orc_unwind`: two tables sorted as one (arch/x86/kernel/unwind_orc.c:unwind_module_init).

use alloc::vec::Vec;

use super::Subject;
use crate::finalize::Standing;
use crate::finalize::kernel_sort::kernel_sort;
use crate::finalize::{OutOfMemory, Rule};
use crate::profile::OrcStyle;

const ENTRY: usize = 6;

pub(super) fn sort(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    let tables = (subject.section(".orc_unwind_ip"), subject.section(".orc_unwind"));
    let (Some((addresses, size)), Some((entries, _))) = tables else { return Ok(()) };
    let count = size / 4;
    let mut list: Vec<(u64, [u8; ENTRY])> = Vec::new();
    list.try_reserve_exact(count as usize).map_err(|_| OutOfMemory)?;
    for index in 0..count {
        let at = addresses + index * 4;
        let entry = subject.module.ours(entries + index * ENTRY as u64, ENTRY).and_then(<[u8]>::first_chunk);
        let (Some(offset), Some(entry)) = (subject.module.offset32(at), entry) else { return Ok(()) };
        list.push((at.0.wrapping_add(offset as u64), *entry));
    }
    let style = subject.profile.patching.orc;
    // Entries that end what is known come first among equals.
    let ends = |entry: &[u8; ENTRY]| match style {
        OrcStyle::EndBit => entry[4] & 0xf == 0 && entry[5] >> 2 & 1 == 0,
        OrcStyle::Undefined => entry[5] & 7 == 0,
    };
    kernel_sort(&mut list, subject.profile.patching.sort, |a, b| match a.0.cmp(&b.0) as i32 {
        0 if ends(&a.1) => -1,
        0 => 1,
        order => order,
    });
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(list.len() * ENTRY).map_err(|_| OutOfMemory)?;
    for (index, (address, _)) in (0..).zip(&list) {
        let at = addresses + index * 4;
        bytes.extend_from_slice(&(address.wrapping_sub(at.0) as u32).to_le_bytes());
    }
    subject.module.write(addresses, &bytes, Rule::SortedTable, Standing::Certain);
    bytes.clear();
    for (_, entry) in &list {
        bytes.extend_from_slice(entry);
    }
    subject.module.write(entries, &bytes, Rule::SortedTable, Standing::Certain);
    Ok(())
}

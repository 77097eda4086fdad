//! Verifying: any snapshot against any file has a verdict or an error.
//!
//! The first four bytes say where the inside of a .mms file ends; behind it is the file of each module.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modmem_linux::snapshot::Snapshot;
use modmem_linux::verify::{Options, verify};

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk::<4>() else { return };
    let Some((tar, file)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else { return };
    let Ok(snapshot) = Snapshot::from_tar("fuzz", tar) else { return };
    if let Ok(verification) = verify(&snapshot, &Options::default(), &mut |_| Ok(Some(file.to_vec()))) {
        let _ = (verification.is_clean(), verification.total());
    }
});

//! `.s390_indirect*`, `.s390_return*`: branches through an expoline, made indirect again where those are switched off
//! (arch/s390/kernel/nospec-branch.c:__nospec_revert).

use alloc::borrow::Cow;

use super::Subject;
use super::insn::{self, BRANCH};
use crate::address::RunAddr;
use crate::finalize::Rule;
use crate::finalize::Standing;
use crate::image::has_prefix;

/// `bc 0,0` and `bcr 0,%r0`: NOPs that fill up to the length of the branch.
const FILL: [u8; 4] = [0x47, 0x00, 0x07, 0x00];

pub(super) fn apply(subject: &mut Subject<'_, '_>) {
    if !subject.kernel.reverts_expolines {
        return;
    }
    let image = subject.image;
    let names_sites = |name| has_prefix(name, ".s390_indirect") || has_prefix(name, ".s390_return");
    for section in image.sections().iter().filter(|section| section.is_alloc() && names_sites(section.name()))
    {
        let Some(table) = subject.section_address(section.index()) else { continue };
        for index in 0..section.size() / 4 {
            let at = table + index * 4;
            if let Some(distance) = subject.module.offset32(at) {
                revert(subject, RunAddr(at.0.wrapping_add(distance as u64)));
            }
        }
    }
}

fn revert(subject: &mut Subject<'_, '_>, site: RunAddr) {
    if let Some(code) = indirect(subject, site) {
        subject.module.write(site, &code, Rule::Retpoline, Standing::Certain);
    }
}

/// The indirect branch that goes through the thunk which the branch at `site` leads to.
fn indirect(subject: &Subject<'_, '_>, site: RunAddr) -> Option<[u8; BRANCH]> {
    let (kind, thunk) = insn::decode(subject.module.ours(site, BRANCH)?, site)?;
    // A jump becomes `bcr`, a call `basr`, with the condition or the return register as it was.
    let opcode = match kind & 0xf {
        0x4 => 0x07,
        0x5 => 0x0d,
        _ => return None,
    };
    // `exrl %r0` of a `br` behind it.
    let (0x00, branch) = executed(&read(subject, thunk, BRANCH)?, thunk)? else { return None };
    let &[0x07, registers] = read(subject, branch, 2)?.first_chunk()? else { return None };
    let [a, b, c, d] = FILL;
    (registers & 0xf0 == 0xf0).then_some([opcode, kind & 0xf0 | registers & 0x0f, a, b, c, d])
}

/// The register byte of an `exrl`, and what it executes.
fn executed(bytes: &[u8], thunk: RunAddr) -> Option<(u8, RunAddr)> {
    let &[0xc6, registers, a, b, c, d] = bytes.first_chunk::<BRANCH>()? else { return None };
    let distance = i64::from(i32::from_be_bytes([a, b, c, d])) * 2;
    Some((registers, RunAddr(thunk.0.wrapping_add(distance as u64))))
}

/// Bytes of the module as they must be, or of the kernel, which has thunks that modules use.
fn read<'a>(subject: &'a Subject<'_, '_>, address: RunAddr, length: usize) -> Option<Cow<'a, [u8]>> {
    match subject.module.ours(address, length) {
        Some(bytes) => Some(Cow::Borrowed(bytes)),
        None => subject.guest.bytes(address, length),
    }
}

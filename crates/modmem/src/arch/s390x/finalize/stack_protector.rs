//! `__stack_protector_loc*`: places that load the address of the stack protector's canary, which each CPU has in its
//! lowcore (arch/s390/kernel/stackprotector.c:__stack_protector_apply).
//!
//! Compilers know a global variable only, and write down where they load its address: `larl`, or `lgrl` from the GOT.
//! The kernel makes a load of the lowcore's field of each, with the register as it was.

use alloc::vec::Vec;

use super::Subject;
use crate::address::RunAddr;
use crate::finalize::Variable;
use crate::finalize::{OutOfMemory, Rule, choice};
use crate::image::has_prefix;

/// Bytes of these instructions: two of opcode and register, then a number of 32 bits.
const LENGTH: usize = 6;
/// `llilf`: loads a number of 32 bits, as it is.
const LLILF: (u8, u8) = (0xc0, 0xf);
/// `stack_canary` in a lowcore (arch/s390/include/asm/lowcore.h).
const CANARY: u32 = 0x240;
/// Where the lowcore lies if it does not lie at address 0 (LOWCORE_ALT_ADDRESS).
const ELSEWHERE: u32 = 0x7_0000;
/// MFEATURE_LOWCORE: the lowcore lies elsewhere.
const RELOCATED: Variable = Variable::MachineFeature(0);

pub(super) fn apply(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    if !subject.profile.patching.s390_stack_protector {
        return Ok(());
    }
    for place in places(subject)? {
        replace(subject, place);
    }
    Ok(())
}

/// The places that the module's tables name.
fn places(subject: &Subject<'_, '_>) -> Result<Vec<RunAddr>, OutOfMemory> {
    const ADDRESS: u64 = 8;
    let image = subject.image;
    let names_places = |name| has_prefix(name, "__stack_protector_loc");
    let tables = image.sections().iter().filter(|section| section.is_alloc() && names_places(section.name()));
    let mut places = Vec::new();
    for section in tables {
        let Some(table) = subject.section_address(section.index()) else { continue };
        let count = section.size() / ADDRESS;
        places.try_reserve(count as usize).map_err(|_| OutOfMemory)?;
        places
            .extend((0..count).filter_map(|index| subject.module.word(table + index * ADDRESS)).map(RunAddr));
    }
    Ok(places)
}

fn replace(subject: &mut Subject<'_, '_>, place: RunAddr) {
    let Some(&[opcode, second, ..]) = subject.module.ours(place, LENGTH) else { return };
    // The kernel refuses a module where anything else stands.
    if !subject.module.has_text(place) || !matches!((opcode, second & 0xf), (0xc0, 0x0) | (0xc4, 0x8)) {
        return;
    }
    if !subject.state.knows(RELOCATED) {
        let features = subject.kernel.machine_features;
        subject.state.pin(RELOCATED, features.map(|features| features & 1));
    }
    let build = |bits: u32| {
        let [a, b, c, d] = (CANARY + if bits == 0 { 0 } else { ELSEWHERE }).to_be_bytes();
        [LLILF.0, second & 0xf0 | LLILF.1, a, b, c, d]
    };
    let (code, standing) = choice::decide(subject, place, &[RELOCATED], build, |ours, found| ours == found);
    subject.module.write(place, &code, Rule::StackProtector, standing);
}

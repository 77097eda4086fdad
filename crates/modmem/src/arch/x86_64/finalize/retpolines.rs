//! `.retpoline_sites`: calls and jumps through registers (arch/x86/kernel/alternative.c:apply_retpolines).

use super::Subject;
use super::features::{CALL_DEPTH, Choice, RETPOLINE, RETPOLINE_LFENCE, decide};
use super::insn::{CALL, Code, INT3, Insn, JMP32, NOP, signed};
use super::its::Thunks;
use super::nops;
use crate::address::RunAddr;
use crate::finalize::Standing;
use crate::finalize::{OutOfMemory, Rule};
use crate::profile::IndirectPadding;

/// Bytes of one thunk in the kernel's arrays of them, one a register.
const THUNK: u64 = 32;

/// A call, jump or conditional jump to the thunk of a register.
#[derive(Clone, Copy, Debug)]
struct Site {
    address: RunAddr,
    insn: Insn,
    register: u8,
}

pub(super) fn apply(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    let sites = subject.sites(".retpoline_sites")?;
    if sites.is_empty() {
        return Ok(());
    }
    let Some(array) = subject.kernel.retpolines else { return Ok(()) };
    let mut thunks = Thunks::new();
    for address in sites {
        if !subject.module.has_text(address) {
            // Thunks for freed code were made all the same, where nobody can see which.
            thunks.lose_track();
            continue;
        }
        let Some(insn) = Insn::decode(subject.module.ours_up_to(address, 16)) else { continue };
        let Some((offset, 4)) = insn.displacement() else { continue };
        let Some(bytes) = subject.module.ours(address, insn.length).map(Code::of) else { continue };
        let displacement = signed(&bytes.bytes()[offset..offset + 4]);
        let target = address.0.wrapping_add(insn.length as u64).wrapping_add(displacement as u64);
        let register = target.wrapping_sub(array) / THUNK;
        if register > 15 || target.wrapping_sub(array) % THUNK != 0 {
            continue;
        }
        let site = Site { address, insn, register: register as u8 };
        patch(subject, &site, &bytes, &mut thunks);
    }
    thunks.check(subject);
    Ok(())
}

fn patch(subject: &mut Subject<'_, '_>, site: &Site, bytes: &Code, thunks: &mut Thunks) {
    let patching = &subject.profile.patching;
    let (padding, nop_style, its) = (patching.indirect_padding, patching.nops, patching.its_feature);
    let counting = (subject.kernel.counting_calls, subject.kernel.counting_jumps);
    let table = subject.kernel.nops;
    let offered = thunks.offer(subject, site.address, site.insn.length, site.register);
    let build = |choice: Choice<'_>| {
        let lfence = choice.has(RETPOLINE_LFENCE);
        if choice.has(RETPOLINE) && !lfence {
            if !choice.has(CALL_DEPTH) {
                return *bytes;
            }
            let thunk = |array: Option<u64>| Some(array? + u64::from(site.register) * THUNK);
            return match (thunk(counting.0), thunk(counting.1)) {
                (Some(call), Some(jump)) => trampoline(site, call, jump),
                _ => *bytes,
            };
        }
        let head = head(site, lfence);
        // The last byte of the indirect branch decides: in the lower half of a cache line it is unsafe.
        let last = site.address.0 + head.bytes().len() as u64 + 1 + u64::from(site.register / 8);
        if choice.has(its) && last & 0x20 == 0 {
            return trampoline(site, offered, offered);
        }
        let mut code = indirect(site, head, padding);
        if code.bytes().len() != site.insn.length {
            return *bytes;
        }
        nops::optimize(code.bytes_mut(), nop_style, table);
        code
    };
    let features = [RETPOLINE, RETPOLINE_LFENCE, CALL_DEPTH, its];
    let (code, mut standing) = decide(subject, site.address, &features, build);
    if offered != 0 && code.bytes() == trampoline(site, offered, offered).bytes() {
        thunks.take(subject, offered, site.register);
        if standing == Standing::Certain && !subject.guest.read(RunAddr(offered), &mut [0]) {
            standing = Standing::Unproven;
        }
    }
    subject.module.write(site.address, code.bytes(), Rule::Retpoline, standing);
}

/// The same branch to another thunk.
fn trampoline(site: &Site, call: u64, jump: u64) -> Code {
    let mut code = Code::empty();
    let (opcode, target) = if site.insn.is_jcc32() {
        code.push(&[0x0f]);
        (site.insn.opcode2, jump)
    } else {
        if site.insn.length == 6 {
            code.push(&[0x2e]);
        }
        (site.insn.opcode, if site.insn.opcode == CALL { call } else { jump })
    };
    let from = site.address.0 + code.bytes().len() as u64;
    code.push(&super::insn::branch(opcode, from, target));
    code
}

/// What stands before the indirect branch.
fn head(site: &Site, lfence: bool) -> Code {
    let mut code = Code::empty();
    if site.insn.is_jcc32() {
        // The opposite condition, over what follows.
        code.push(&[0x70 + ((site.insn.opcode2 & 0xf) ^ 1), site.insn.length as u8 - 2]);
    }
    if lfence {
        code.push(&[0x0f, 0xae, 0xe8]);
    }
    code
}

/// The branch itself, filled up to the length of the site.
fn indirect(site: &Site, head: Code, padding: IndirectPadding) -> Code {
    let mut code = head;
    let length = site.insn.length;
    let is_call = site.insn.opcode == CALL;
    let own = 2 + usize::from(site.register >= 8);
    let excess = length.saturating_sub(code.bytes().len() + own);
    if padding == IndirectPadding::Prefixes && is_call && excess <= 3 {
        code.fill_to(code.bytes().len() + excess, 0x2e);
    }
    if site.register >= 8 {
        code.push(&[0x41]);
    }
    let modrm = if is_call { 0xd0 } else { 0xe0 } + (site.register & 7);
    code.push(&[0xff, modrm]);
    match padding {
        IndirectPadding::Prefixes if !is_call => code.fill_to(length, INT3),
        IndirectPadding::Nops
            if (site.insn.opcode == JMP32 || site.insn.is_jcc32()) && code.bytes().len() < length =>
        {
            code.push(&[INT3]);
        }
        _ => {}
    }
    code.fill_to(length, NOP);
    code
}

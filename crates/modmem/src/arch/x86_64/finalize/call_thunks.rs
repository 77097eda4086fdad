//! `.call_sites`: calls whose depth is counted, by code put into the padding before functions
//! (arch/x86/kernel/callthunks.c).

use alloc::vec::Vec;

use super::Subject;
use super::features::{CALL_DEPTH, leaning};
use super::insn::{CALL, Code, Insn, NOP, branch, branch_target};
use crate::address::RunAddr;
use crate::finalize::Standing;
use crate::finalize::Variable;
use crate::finalize::{OutOfMemory, Rule};
use crate::image::SymbolPlace;
use crate::image::elf::symbol_type;
use crate::layout::MemoryKind;

/// The function that counts: `sarq $5, %gs:depth(%rip)`, whose displacement is filled in where it stands.
const COUNT: [u8; 5] = [0x65, 0x48, 0xc1, 0x3d, 0];
/// Its bytes.
pub(super) const COUNT_LENGTH: u64 = 9;

/// Whether the kernel's template of that code is what it must be, whatever it counts in.
pub(super) fn counts(template: &[u8]) -> bool {
    template.len() == COUNT_LENGTH as usize && template.starts_with(&COUNT[..4]) && template.ends_with(&[5])
}

/// Patches the calls, and the padding before this module's functions.
pub(super) fn apply(subject: &mut Subject<'_, '_>, alternative_sites: &[RunAddr]) -> Result<(), OutOfMemory> {
    let sites = subject.sites(".call_sites")?;
    let variable = Variable::Feature(CALL_DEPTH);
    let mut on = leaning(subject, CALL_DEPTH);
    if subject.state.certain(variable).is_none() {
        let (mut plain, mut counted) = (0, 0);
        for &site in &sites {
            match is_counted(subject, site) {
                Some(true) => counted += 1,
                Some(false) => plain += 1,
                None => {}
            }
        }
        for (value, sites) in [(0, plain), (1, counted)] {
            if sites > 0 {
                subject.state.votes(variable, value, sites);
            }
        }
        on = leaning(subject, CALL_DEPTH);
        subject.state.rely(variable, u64::from(on));
    }
    if !on {
        return Ok(());
    }
    let length = COUNT_LENGTH;
    for &site in sites.iter().chain(alternative_sites) {
        if let Some(pad) = patch_call(subject, site, length)
            && !subject.module.is_compared()
        {
            fill_pad(subject, RunAddr(pad));
        }
    }
    match subject.module.is_compared() {
        true => pad_functions(subject, length),
        false => pad_called(subject, length),
    }
}

/// Whether a call leads to code before the function that the file says; `None` where neither can be told.
fn is_counted(subject: &Subject<'_, '_>, site: RunAddr) -> Option<bool> {
    let target = |bytes: Option<&[u8]>| branch_target(bytes?, CALL, site.0);
    let file = target(subject.module.ours(site, 5))?;
    let found = target(subject.module.found(site, 5))?;
    let pad = file.wrapping_sub(COUNT_LENGTH);
    if found == pad {
        return Some(true);
    }
    // Calls of the module's own functions are counted wherever the padding before them allows it.
    let padding = subject.module.relocated_at(RunAddr(pad), COUNT_LENGTH as usize)?;
    let can = padding.iter().all(|&byte| byte == NOP)
        && subject.module.kind_at(RunAddr(file)) == Some(MemoryKind::Text);
    (can && found == file).then_some(false)
}

/// Leads a call to the code before the function that it calls; where that is, if it is counted.
fn patch_call(subject: &mut Subject<'_, '_>, site: RunAddr, length: u64) -> Option<u64> {
    if subject.module.kind_at(site) != Some(MemoryKind::Text) {
        return None;
    }
    let target = subject.module.ours(site, 5).and_then(|bytes| branch_target(bytes, CALL, site.0))?;
    let (to, standing) = counted_target(subject, site, target, length)?;
    subject.module.write(site, &branch(CALL, site.0, to), Rule::CallThunk, standing);
    Some(to)
}

/// Puts the code that counts before a function of the module, as the first of its calls that is patched does.
pub(super) fn fill_pad(subject: &mut Subject<'_, '_>, pad: RunAddr) {
    let padding = subject.module.ours(pad, COUNT_LENGTH as usize);
    if padding.is_some_and(|padding| padding.iter().all(|&byte| byte == NOP))
        && let Some((code, standing)) = counting_code(subject, pad, &Code::empty())
    {
        subject.module.write(pad, code.bytes(), Rule::CallThunk, standing);
    }
}

/// Where a call of `target` from `site` goes when calls are counted; `None` where it stays.
pub(super) fn counted_target(
    subject: &mut Subject<'_, '_>,
    site: RunAddr,
    target: u64,
    length: u64,
) -> Option<(u64, Standing)> {
    let uncounted = subject.kernel.is_uncounted(target);
    let is_init = subject.module.kind_at(RunAddr(target)).is_some_and(MemoryKind::is_init);
    if uncounted || is_init || !in_core_text(subject, target) {
        return None;
    }
    let pad = target.wrapping_sub(length);
    // A function counts if the padding before it could take the code: the module's own can be seen.
    let own = subject.module.relocated_at(RunAddr(pad), length as usize);
    if let Some(padding) = own {
        let can = padding.iter().all(|&byte| byte == NOP);
        return can.then_some((pad, Standing::Certain));
    }
    let variable = Variable::CountedCall(RunAddr(target));
    let found = subject.module.found(site, 5).and_then(|bytes| branch_target(bytes, CALL, site.0));
    let certain = subject.state.certain(variable);
    let counted = match (certain, found) {
        (Some(value), _) => value == 1,
        (None, Some(found)) if found == target || found == pad => {
            subject.state.vote(variable, u64::from(found == pad));
            found == pad
        }
        (None, _) => true,
    };
    counted.then_some((pad, Standing::Certain))
}

/// Whether an address is code of the kernel or of a module, and not something made at run time.
fn in_core_text(subject: &Subject<'_, '_>, target: u64) -> bool {
    if subject.module.kind_at(RunAddr(target)) == Some(MemoryKind::Text) {
        return true;
    }
    subject.guest.symbol_at(RunAddr(target)).is_some_and(|symbol| {
        symbol.text && symbol.module.is_none_or(|module| !module.starts_with("__builtin") && module != "bpf")
    })
}

/// Where the module's functions begin, in order.
fn functions(subject: &Subject<'_, '_>) -> Result<Vec<RunAddr>, OutOfMemory> {
    let mut functions: Vec<RunAddr> = Vec::new();
    for symbol in subject.image.symbols().iter() {
        let SymbolPlace::Section(section) = symbol.place else { continue };
        if symbol.kind != symbol_type::FUNC {
            continue;
        }
        let Some(start) = subject.section_address(section) else { continue };
        functions.try_reserve(1).map_err(|_| OutOfMemory)?;
        functions.push(start + symbol.value);
    }
    functions.sort_unstable();
    functions.dedup();
    Ok(functions)
}

/// Code that counts before functions that others are known to call, as their calls' variables say.
fn pad_called(subject: &mut Subject<'_, '_>, length: u64) -> Result<(), OutOfMemory> {
    for function in functions(subject)? {
        if subject.state.certain(Variable::CountedCall(function)) == Some(1) {
            fill_pad(subject, RunAddr(function.0.wrapping_sub(length)));
        }
    }
    Ok(())
}

/// Code that counts in the padding before functions: it is there before each that somebody calls with counting, and
/// who does cannot be seen from here, so both states are right; nothing else is.
fn pad_functions(subject: &mut Subject<'_, '_>, length: u64) -> Result<(), OutOfMemory> {
    for function in functions(subject)? {
        let pad = RunAddr(function.0.wrapping_sub(length));
        let size = length as usize;
        let (Some(ours), Some(found)) = (subject.module.ours(pad, size), subject.module.found(pad, size))
        else {
            continue;
        };
        if !ours.iter().all(|&byte| byte == NOP) || found.iter().all(|&byte| byte == NOP) {
            continue;
        }
        let found = Code::of(found);
        if let Some((code, standing)) = counting_code(subject, pad, &found) {
            subject.module.write(pad, code.bytes(), Rule::CallThunk, standing);
        }
    }
    Ok(())
}

/// The code that counts, as it must stand at `pad`.
fn counting_code(subject: &mut Subject<'_, '_>, pad: RunAddr, found: &Code) -> Option<(Code, Standing)> {
    if let Some((address, mut code)) = subject.kernel.counting_code() {
        let insn = Insn::decode(code.bytes())?;
        if let Some((offset, 4)) = insn.memory_displacement() {
            let distance = address.0.wrapping_sub(pad.0) as u32;
            let field = code.bytes_mut().get_mut(offset..offset + 4)?;
            let moved = u32::from_le_bytes(*field.first_chunk()?).wrapping_add(distance);
            field.copy_from_slice(&moved.to_le_bytes());
        }
        return Some((code, Standing::Certain));
    }
    // The kernel's template is not at hand: the same percpu variable everywhere.
    if !subject.module.is_compared() {
        let depth = subject.state.certain(Variable::CallDepth)?;
        return Some((counting(pad, depth), Standing::Certain));
    }
    let bytes = found.bytes();
    if bytes.get(..4) != Some(&COUNT[..4]) || bytes.get(8) != Some(&5) {
        return None;
    }
    let displacement = u32::from_le_bytes(*bytes.get(4..8)?.first_chunk()?);
    let depth = u64::from(displacement.wrapping_add((pad.0 as u32).wrapping_add(COUNT_LENGTH as u32)));
    let value = match subject.state.certain(Variable::CallDepth) {
        Some(value) => value,
        None => {
            subject.state.vote(Variable::CallDepth, depth);
            depth
        }
    };
    let standing = if value == depth { Standing::Certain } else { Standing::OutOfStep(Variable::CallDepth) };
    Some((counting(pad, value), standing))
}

/// The code at `pad` that counts in the variable at `depth`.
fn counting(pad: RunAddr, depth: u64) -> Code {
    let displacement = (depth as u32).wrapping_sub((pad.0 as u32).wrapping_add(COUNT_LENGTH as u32));
    let mut code = Code::of(&COUNT[..4]);
    code.push(&displacement.to_le_bytes());
    code.push(&[5]);
    code
}

//! Calls through `pv_ops`, made direct (6.1: arch/x86/kernel/alternative.c:apply_paravirt; later: alt_replace_call).

use super::Subject;
use super::call_thunks::COUNT_LENGTH;
use super::insn::{CALL, Code, branch, branch_target, signed};
use crate::address::RunAddr;
use crate::arch::x86_64::words::PV_OPS;
use crate::finalize::Rule;
use crate::finalize::Standing;
use crate::finalize::Variable;
use crate::guest::Guest;
use crate::name::Name;

/// Bytes of an entry of `.parainstructions`: address, type, length, padding.
const ENTRY: u64 = 16;

/// What `native_patch` puts in place of calls of the machine's own functions, by their names (before 5.13,
/// arch/x86/kernel/paravirt_patch.c; since, these sites are alternatives).
const NATIVE: [(&[u8], &[u8]); 10] = [
    (b"native_irq_disable", &[0xfa]),
    (b"native_irq_enable", &[0xfb]),
    (b"native_save_fl", &[0x9c, 0x58]),
    (b"native_restore_fl", &[0x57, 0x9d]),
    (b"native_read_cr2", &[0x0f, 0x20, 0xd0]),
    (b"__native_read_cr3", &[0x0f, 0x20, 0xd8]),
    (b"native_write_cr3", &[0x0f, 0x22, 0xdf]),
    (b"native_wbinvd", &[0x0f, 0x09]),
    (b"__raw_callee_save___native_queued_spin_unlock", &[0xc6, 0x07, 0x00]),
    (b"__raw_callee_save___native_vcpu_is_preempted", &[0x31, 0xc0]),
];
/// The function that gives back what it is given, whoever patches.
const IDENTITY: (&[u8], &[u8]) = (b"_paravirt_ident_64", &[0x48, 0x89, 0xf8]);
/// `ud2`: nothing is to be called.
const STOP: &[u8] = &[0x0f, 0x0b];

/// Functions whose calls become their code.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ParavirtCode {
    /// Whether this kernel has such a way of patching.
    inlines: bool,
    /// Whether `native_patch` is what patches.
    is_native: bool,
}

impl ParavirtCode {
    pub(crate) fn read(guest: &dyn Guest) -> ParavirtCode {
        let symbol = |name: &[u8]| guest.kernel_symbol(Name(name));
        if symbol(b"paravirt_patch_default").is_none() {
            return ParavirtCode::default();
        }
        // Its first word is the function that patches: on a Xen guest another one, which makes calls of all.
        let patches = PV_OPS.bytes(guest, 8);
        let patches = patches.and_then(|bytes| Some(u64::from_le_bytes(*bytes.first_chunk()?)));
        let is_native = patches.is_some() && patches == symbol(b"native_patch");
        ParavirtCode { inlines: true, is_native }
    }

    /// The code of a function. Its name decides, not the name's address: several files have functions of these names.
    fn of(self, guest: &dyn Guest, function: u64) -> Option<&'static [u8]> {
        if !self.inlines {
            return None;
        }
        if function == 0 {
            return Some(STOP);
        }
        let symbol = guest.symbol_at(RunAddr(function));
        let symbol = symbol.filter(|symbol| symbol.offset == 0 && symbol.text && symbol.module.is_none())?;
        let name = symbol.name.as_bytes();
        let native = NATIVE.iter().filter(|_| self.is_native).chain([&IDENTITY]);
        native.copied().find(|(known, _)| *known == name).map(|(_, code)| code)
    }
}

/// What an indirect call through `pv_ops` at `site` calls: `None` inside where the call goes away.
pub(super) fn direct_call(
    subject: &mut Subject<'_, '_>,
    site: RunAddr,
    original: &[u8],
) -> Option<(Option<u64>, Standing)> {
    let [0xff, 0x15, displacement @ ..] = original else { return None };
    let displacement = displacement.get(..4).map(signed)?;
    Some(slot(subject, site, site + 6 + displacement as u64))
}

/// What the slot of `pv_ops` at `slot` calls, as seen from `site`.
fn slot(subject: &mut Subject<'_, '_>, site: RunAddr, slot: RunAddr) -> (Option<u64>, Standing) {
    let variable = Variable::ParavirtCall(slot);
    if !subject.state.knows(variable) {
        // What is no function of the kernel itself is nothing that the kernel put there.
        let word = subject.guest_word(slot);
        let word = word.filter(|&word| word == 0 || is_own_function(subject, word));
        subject.state.pin(variable, word);
    }
    let nop = subject.kernel.nop_function;
    let found = subject.module.found(site, 5);
    let called = found.and_then(|found| branch_target(found, CALL, site.0));
    // Perhaps a call that is counted on its way.
    let counted = called.map(|called| called.wrapping_add(COUNT_LENGTH));
    let empty = found.is_some_and(|found| found[0] == 0x66 || found[0] == 0x0f);
    let certain = subject.state.certain(variable);
    let shown = [called, counted].into_iter().flatten().find(|&target| is_own_function(subject, target));
    let shown = shown.or(if empty { nop } else { None });
    let target = certain.or(shown).or(subject.state.leaning(variable));
    if let (None, Some(shown)) = (certain, shown) {
        subject.state.vote(variable, shown);
    }
    let standing = match called {
        Some(called) if shown.is_none() => Standing::WrongTarget(RunAddr(called)),
        Some(_) if shown != target => Standing::OutOfStep(variable),
        _ if subject.state.pinned(variable).is_some() => Standing::Certain,
        _ => Standing::Unproven,
    };
    let Some(target) = target else { return (None, standing) };
    // An empty slot calls the function that stops the machine, or, before 5.13, stops it there.
    let target = if target == 0 { subject.kernel.bug_function.unwrap_or(0) } else { target };
    (Some(target).filter(|&target| Some(target) != nop), standing)
}

fn is_own_function(subject: &Subject<'_, '_>, address: u64) -> bool {
    let symbol = subject.guest.symbol_at(RunAddr(address));
    symbol.is_some_and(|symbol| symbol.text && symbol.offset == 0 && symbol.module.is_none())
}

/// `.parainstructions` of 6.1.
pub(super) fn apply(subject: &mut Subject<'_, '_>) {
    let Some((table, size)) = subject.section(".parainstructions") else { return };
    let Some(pv_ops) = subject.kernel.pv_ops else { return };
    // Not all kernels pad the last entry.
    for index in 0..size.div_ceil(ENTRY) {
        let at = table + index * ENTRY;
        let Some(site) = subject.module.word(at).map(RunAddr) else { return };
        let Some(&[kind, length]) = subject.module.ours(at + 8, 2).and_then(|bytes| bytes.first_chunk::<2>())
        else {
            return;
        };
        if !subject.module.has_text(site) {
            continue;
        }
        let (target, standing) = slot(subject, site, pv_ops + u64::from(kind) * 8);
        let mut code = Code::empty();
        let inline = target.and_then(|target| subject.kernel.paravirt_code.of(subject.guest, target));
        match target.map(|target| (target, inline)) {
            Some((_, Some(inline))) => code.push(inline),
            Some((target, None)) => code.push(&branch(CALL, site.0, target)),
            None => {}
        }
        let used = code.bytes().len();
        code.fill_to(usize::from(length), 0);
        subject.kernel.nops.fill(&mut code.bytes_mut()[used..]);
        subject.module.write(site, code.bytes(), Rule::Paravirt, standing);
    }
}

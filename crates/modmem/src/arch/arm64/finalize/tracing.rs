//! Entries of functions that can be traced (arch/arm64/kernel/ftrace.c), and the trampolines that lead far
//! (arch/arm64/kernel/module.c:module_init_ftrace_plt).
//!
//! The compiler leaves two NOPs where a function begins: the first is made to save the return address, the second to
//! call the tracer. Where functions are marked with who traces them, it leaves eight bytes more before the function.

use super::marks::Mark;
use super::{NOP, Subject};
use crate::address::RunAddr;
use crate::arch::arm64::insn::{branch, entry, entry_bytes};
use crate::arch::arm64::shapes::ENTRY;
use crate::finalize::Rule;
use crate::finalize::Standing;
use crate::finalize::live::{Branch, Leads, Site, Steps};
use crate::layout::MemoryKind;

/// Opcode of a call.
const BL: u32 = 0x9400_0000;
/// `mov x9, x30`
const SAVE_RETURN_ADDRESS: u32 = 0xaa1e_03e9;

/// Trampolines of the memories that have code.
const TRAMPOLINES: [(MemoryKind, &str); 2] =
    [(MemoryKind::Text, ".text.ftrace_trampoline"), (MemoryKind::InitText, ".init.text.ftrace_trampoline")];

/// The section with the addresses of functions' entries (FTRACE_CALLSITE_SECTION), by what the compiler did.
pub(super) fn entries_section(subject: &Subject<'_, '_>) -> &'static str {
    const PATCHABLE: &str = "__patchable_function_entries";
    if subject.section(PATCHABLE).is_some() { PATCHABLE } else { "__mcount_loc" }
}

/// One trampoline for each of the kernel's entries of tracing.
pub(super) fn fill_trampolines(subject: &mut Subject<'_, '_>) {
    for (_, name) in TRAMPOLINES {
        let Some((address, size)) = subject.section(name) else { continue };
        for (slot, tracer) in (0..size / ENTRY).zip(subject.kernel.tracers) {
            let Some(tracer) = tracer else { continue };
            let place = address + slot * ENTRY;
            let bytes = entry_bytes(entry(place.0, tracer));
            subject.module.write(place, &bytes, Rule::Ftrace, Standing::Certain);
            subject.module.may_trace(place);
        }
    }
    for tracer in subject.kernel.tracers.into_iter().chain(subject.kernel.ops).flatten() {
        subject.module.may_trace(RunAddr(tracer));
    }
    if let Some(nop_ops) = subject.kernel.nop_ops {
        subject.module.may_trace(RunAddr(nop_ops));
    }
}

/// Entries of functions.
pub(super) fn trace(subject: &mut Subject<'_, '_>, entries: &[RunAddr]) {
    let marked = subject.kernel.nop_ops;
    for &address in entries {
        if !subject.module.has_text(address) {
            continue;
        }
        let function = match marked {
            None => address,
            // Linux warns, and leaves it alone.
            Some(_) if !address.0.is_multiple_of(8) => continue,
            Some(_) => {
                let function = address + 8;
                let lands = subject.module.word32(function).is_some_and(is_landing_pad);
                if lands { function + 4 } else { function }
            }
        };
        subject.module.write(function, &SAVE_RETURN_ADDRESS.to_le_bytes(), Rule::Ftrace, Standing::Certain);
        let site = Site::new(function + 4, 4, Rule::Ftrace, Steps::Whole).text(&NOP.to_le_bytes(), None);
        subject.module.may_change(site.branch(Branch::Arm64(BL), Leads::Tracers));
        if marked.is_some() {
            let literal = Site::new(address, 8, Rule::Ftrace, Steps::Whole);
            subject.module.may_change(literal.branch(Branch::Address, Leads::Ops));
        }
        let mark = marked.map(|nop_ops| Mark::at(subject, address, function + 4, nop_ops));
        let traced = call(subject, function + 4, mark.as_ref());
        if let Some(mark) = mark {
            mark.write(subject, address, traced);
        }
    }
}

/// `bti` of any kind.
fn is_landing_pad(word: u32) -> bool {
    word & 0xffff_ff3f == 0xd503_241f
}

/// The call of the tracer, or a NOP; whether it is one. What is neither is taken for what the function's mark says.
fn call(subject: &mut Subject<'_, '_>, site: RunAddr, mark: Option<&Mark>) -> bool {
    let found = subject.module.found(site, 4).and_then(|found| found.first_chunk());
    let found = found.map(|found| u32::from_le_bytes(*found)).or_else(|| stated_call(subject, site));
    let found = found.unwrap_or(NOP);
    // Jumps are looked at too: what is not right should be said where it leads.
    let target =
        (found & 0x7c00_0000 == 0x1400_0000).then(|| site + (i64::from((found << 6) as i32 >> 4) as u64));
    let traced = match target {
        Some(target) if found & BL == BL && is_tracer(subject, site, target) => Some(found),
        _ if found == NOP => None,
        _ => mark.filter(|mark| mark.may_be_of_tracer()).and_then(|_| usual_call(subject, site)),
    };
    let word = traced.unwrap_or(NOP);
    let standing = target.filter(|_| word != found).map_or(Standing::Certain, Standing::WrongTarget);
    if let Some(target) = target {
        let explained = standing == Standing::Certain;
        subject.traced(site, target, mark.map(Mark::names), explained);
    }
    subject.module.write(site, &word.to_le_bytes(), Rule::Ftrace, standing);
    traced.is_some()
}

/// The call of whom a caller says to trace the function.
fn stated_call(subject: &Subject<'_, '_>, site: RunAddr) -> Option<u32> {
    let tracer = subject.state.tracer(site)?;
    let direct = branch(BL, site.0, tracer.target.0);
    if direct & 0xfc00_0000 == BL { Some(direct) } else { usual_call(subject, site) }
}

/// The trampolines of the memory that `site` is in.
fn trampolines(subject: &Subject<'_, '_>, site: RunAddr) -> Option<(RunAddr, u64)> {
    let kind = subject.module.kind_at(site);
    let (_, name) = TRAMPOLINES.iter().find(|(of, _)| Some(*of) == kind)?;
    subject.section(name)
}

/// The call of the first of the kernel's entries, or of its trampoline.
fn usual_call(subject: &Subject<'_, '_>, site: RunAddr) -> Option<u32> {
    let direct = branch(BL, site.0, subject.kernel.tracers[0]?);
    if direct & 0xfc00_0000 == BL {
        return Some(direct);
    }
    Some(branch(BL, site.0, trampolines(subject, site)?.0.0))
}

/// Whether the call at `site` may go to `target`: one of the kernel's entries, the trampoline to it where that is out
/// of reach, or a trampoline that BPF made.
fn is_tracer(subject: &Subject<'_, '_>, site: RunAddr, target: RunAddr) -> bool {
    let reaches = |tracer: u64| branch(BL, site.0, tracer) & 0xfc00_0000 == BL;
    let trampolines = trampolines(subject, site);
    let of_kernel = (0..).zip(subject.kernel.tracers).any(|(slot, tracer)| match tracer {
        Some(tracer) if reaches(tracer) => target.0 == tracer,
        Some(_) => {
            trampolines.is_some_and(|(start, size)| slot < size / ENTRY && target == start + slot * ENTRY)
        }
        None => false,
    });
    of_kernel || is_of_bpf(subject, target)
}

/// Whether a trampoline that BPF made begins at `target`.
pub(super) fn is_of_bpf(subject: &Subject<'_, '_>, target: RunAddr) -> bool {
    let symbol = subject.guest.symbol_at(target).filter(|symbol| symbol.offset == 0);
    symbol.is_some_and(|symbol| symbol.module == Some("bpf") && symbol.name.starts_with("bpf_trampoline_"))
}

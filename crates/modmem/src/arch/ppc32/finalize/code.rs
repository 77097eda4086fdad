//! Code that is patched while the machine runs: function entries, jump labels, probes; and the stubs that tracing goes
//! through.

use super::Subject;
use super::insn::{MFLR, NOP, STORE_LR, TRAP, branch, call_target, jump_target};
use crate::address::RunAddr;
use crate::arch::ppc32::stubs::{CORE_TABLE, ENTRY, stub};
use crate::finalize::Rule;
use crate::finalize::Standing;
use crate::finalize::live::{Branch, Leads, Site, Steps};
use crate::finalize::tables::{JumpEntry, is_taken};
use crate::layout::MemoryKind;

/// How the compiler marks the entry of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Two NOPs; the first becomes `mflr r0` (-fpatchable-function-entry).
    Nops,
    /// `mflr r0; stw r0, 4(r1); bl _mcount`, of which the call is listed (-pg).
    Call,
}

/// Tables of function entries. A module has one of them, by its compiler's options.
pub(super) const ENTRY_TABLES: [(&str, Form); 2] =
    [("__patchable_function_entries", Form::Nops), ("__mcount_loc", Form::Call)];

/// The section of the kernel's code in which copies of instructions of optimised probes stand
/// (arch/powerpc/kernel/optprobes_head.S).
const PROBE_SLOTS: &str = "optinsn_slot";

/// Opcode and flags of a call (`bl`).
const CALL_OPCODE: u32 = 0x4800_0001;

/// Where functions of a module call the kernel's tracers: these themselves, and the module's stubs to them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tracers {
    stubs: [Option<u32>; 2],
}

/// `.plt`: a stub to each of the kernel's tracers, whether branches would reach them or not, in the first place that is
/// free (arch/powerpc/kernel/module_32.c:module_finalize_ftrace). Linux does not look whether that is still in the table.
pub(super) fn tracer_stubs(subject: &mut Subject<'_, '_>) -> Tracers {
    let mut tracers = Tracers::default();
    let Some((table, _)) = subject.section(CORE_TABLE).filter(|_| subject.profile.switches.dynamic_ftrace)
    else {
        return tracers;
    };
    for (known, tracer) in tracers.stubs.iter_mut().zip(subject.kernel.tracers) {
        let Some(tracer) = tracer else { continue };
        let wanted = stub(tracer);
        let mut place = table;
        while let Some(found) = subject.module.ours(place, wanted.len()) {
            let is_free = found.starts_with(&[0; 4]);
            if is_free || found[..8] == wanted[..8] {
                *known = Some(place.0 as u32);
                if is_free {
                    subject.module.write(place, &wanted, Rule::Ftrace, Standing::Certain);
                }
                break;
            }
            place = place + ENTRY;
        }
    }
    tracers
}

/// The word at an address, as it must be so far, and as the guest has it.
fn words(subject: &Subject<'_, '_>, at: RunAddr) -> (Option<u32>, Option<u32>) {
    let found = subject.module.found(at, 4).and_then(<[u8]>::first_chunk);
    (subject.module.word32(at), found.map(|&found| u32::from_be_bytes(found)))
}

fn write(subject: &mut Subject<'_, '_>, at: RunAddr, word: u32, rule: Rule, standing: Standing) {
    subject.module.write(at, &word.to_be_bytes(), rule, standing);
}

/// Entries of functions: a NOP, or a call of a tracer (arch/powerpc/kernel/trace/ftrace.c:ftrace_init_nop).
pub(super) fn trace(subject: &mut Subject<'_, '_>, entries: &[RunAddr], form: Form, tracers: Tracers) {
    for tracer in subject.kernel.tracers.into_iter().chain(tracers.stubs).flatten() {
        subject.module.may_trace(RunAddr(tracer.into()));
    }
    for &entry in entries {
        if !subject.module.has_text(entry) {
            continue;
        }
        let before = |distance: u64| subject.module.word32(RunAddr(entry.0.wrapping_sub(distance)));
        let site = match form {
            Form::Nops => {
                let site = entry + 4;
                // Anything else makes the kernel complain and leave it.
                if (subject.module.word32(entry), subject.module.word32(site)) != (Some(NOP), Some(NOP)) {
                    continue;
                }
                write(subject, entry, MFLR, Rule::Ftrace, Standing::Certain);
                site
            }
            Form::Call => {
                let call = subject.module.word32(entry).and_then(|word| call_target(word, entry.0 as u32));
                if (before(8), before(4)) != (Some(MFLR), Some(STORE_LR)) || call.is_none() {
                    continue;
                }
                entry
            }
        };
        let noted = Site::new(site, 4, Rule::Ftrace, Steps::Whole).text(&NOP.to_be_bytes(), None);
        subject.module.may_change(noted.branch(Branch::PowerPc(CALL_OPCODE), Leads::Tracers));
        let (_, found) = words(subject, site);
        match found.and_then(|word| Some((word, call_target(word, site.0 as u32)?))) {
            Some((word, target))
                if subject.kernel.is_tracer(target) || tracers.stubs.contains(&Some(target)) =>
            {
                subject.traced(site, RunAddr(target.into()), None, true);
                write(subject, site, word, Rule::Ftrace, Standing::Certain);
            }
            Some((_, target)) => {
                subject.traced(site, RunAddr(target.into()), None, false);
                let standing = Standing::WrongTarget(RunAddr(target.into()));
                write(subject, site, NOP, Rule::Ftrace, standing);
            }
            None => write(subject, site, NOP, Rule::Ftrace, Standing::Certain),
        }
    }
}

/// `__jump_table`: a NOP or a branch (arch/powerpc/kernel/jump_label.c).
pub(super) fn jump_labels(subject: &mut Subject<'_, '_>, entries: &[JumpEntry]) {
    for entry in entries {
        if !subject.module.has_text(entry.code) {
            continue;
        }
        let Some(jump) = branch(entry.code.0 as u32, entry.target.0 as u32, false) else { continue };
        let (_, found) = words(subject, entry.code);
        let shown = match found {
            Some(found) if found == jump => Some(true),
            Some(NOP) => Some(false),
            _ => None,
        };
        let (jumps, stays) = (jump.to_be_bytes(), NOP.to_be_bytes());
        let (off, on) = if entry.inverted { (jumps, stays) } else { (stays, jumps) };
        subject.module.may_change(Site::switch(entry.code, Steps::Whole, entry.key, &off, &on));
        let (taken, standing) = is_taken(subject, entry, shown);
        write(subject, entry.code, if taken { jump } else { NOP }, Rule::JumpLabel, standing);
    }
}

/// Probes that the caller declared: a trap, or a branch to the copy of what it replaced.
pub(super) fn kprobes(subject: &mut Subject<'_, '_>) {
    for &address in subject.kprobes {
        let (_, Some(found)) = words(subject, address) else { continue };
        let jump = jump_target(found, address.0 as u32).map(|target| RunAddr(target.into()));
        let slot = jump.is_some_and(|target| {
            let symbol = subject.guest.symbol_at(target);
            symbol.is_some_and(|symbol| symbol.module.is_none() && symbol.name == PROBE_SLOTS)
        });
        let in_text = subject.module.kind_at(address).is_some_and(MemoryKind::is_text);
        if in_text && (found == TRAP || slot) {
            subject.probed(address, jump);
            write(subject, address, found, Rule::Kprobe, Standing::Certain);
        }
    }
}

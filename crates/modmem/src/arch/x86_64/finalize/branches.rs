//! Code that is patched while the machine runs: function entries, jump labels, static calls.

use super::Subject;
use super::call_thunks::{counted_target, fill_pad};
use super::features::{CALL_DEPTH, RETHUNK, leaning};
use super::insn::{CALL, Code, INT3, JMP8, JMP32, RET, branch, branch_target};
use super::returns;
use crate::address::RunAddr;
use crate::finalize::Standing;
use crate::finalize::Variable;
use crate::finalize::live::{Branch, Leads, Site, Steps};
use crate::finalize::tables::{self, JumpEntry, StaticCallSite, is_taken};
use crate::finalize::{OutOfMemory, Rule, Tracer};
use crate::name::Name;

/// `cs cs cs xor %eax, %eax`: a static call of the function that returns 0.
const RETURN_ZERO: [u8; 5] = [0x2e, 0x2e, 0x2e, 0x31, 0xc0];
/// `ud1 (%edx), %rdi`: a static call of the function that warns (7.x).
const WARN: [u8; 5] = [0x67, 0x48, 0x0f, 0xb9, 0x3a];

/// `ds ds movb $0, (%rdi)`: a static call of the function that unlocks a spinlock (7.3).
const UNLOCK: [u8; 5] = [0x3e, 0x3e, 0xc6, 0x07, 0x00];

/// How text is changed while it may be executed.
const POKED: Steps = Steps::Breakpoint(INT3);
const CALLS: Branch = Branch::X86 { opcode: [CALL, 0], length: 1 };
const JUMPS: Branch = Branch::X86 { opcode: [JMP32, 0], length: 1 };

/// Entries of functions: a NOP, or a call of a tracer (arch/x86/kernel/ftrace.c).
pub(super) fn trace(subject: &mut Subject<'_, '_>, entries: &[RunAddr]) {
    let nop = subject.kernel.nops.atomic;
    for tracer in subject.kernel.tracers() {
        subject.module.may_trace(RunAddr(tracer));
    }
    for &address in entries {
        if !subject.module.has_text(address) {
            continue;
        }
        let site = Site::new(address, nop.len(), Rule::Ftrace, POKED).text(&nop, None);
        let site = site.branch(CALLS, Leads::Tracers).branch(JUMPS, Leads::Programs);
        subject.module.may_change(site);
        let found = subject.module.found(address, 5).unwrap_or_default();
        let called = branch_target(found, CALL, address.0);
        match called.or_else(|| branch_target(found, JMP32, address.0)) {
            Some(target) if is_tracer(subject, RunAddr(target), called.is_some()) => {
                let code = Code::of(found);
                match called {
                    Some(_) => subject.traced(address, RunAddr(target), None, true),
                    None => subject.traced_by_jump(address, RunAddr(target)),
                }
                subject.module.write(address, code.bytes(), Rule::Ftrace, Standing::Certain);
            }
            Some(target) => {
                subject.traced(address, RunAddr(target), None, false);
                subject.module.write(address, &nop, Rule::Ftrace, Standing::WrongTarget(RunAddr(target)));
            }
            None => {
                let tracer = subject.state.tracer(address);
                let opcode = |tracer: &Tracer| if tracer.jumps { JMP32 } else { CALL };
                let code = tracer.map_or(nop, |tracer| branch(opcode(&tracer), address.0, tracer.target.0));
                subject.module.write(address, &code, Rule::Ftrace, Standing::Certain);
            }
        }
    }
}

/// Whether tracing may go to `target`: one of the kernel's entries, or a trampoline that ftrace or BPF made. It calls
/// all of them; jumps lead to BPF's only (6.19 and later).
fn is_tracer(subject: &Subject<'_, '_>, target: RunAddr, call: bool) -> bool {
    let made = || {
        let symbol = subject.guest.symbol_at(target).filter(|symbol| symbol.offset == 0);
        symbol.is_some_and(|symbol| match symbol.module {
            Some("__builtin__ftrace") => call,
            Some("bpf") => symbol.name.starts_with("bpf_trampoline_"),
            _ => false,
        })
    };
    (call && subject.kernel.is_tracer(target.0)) || made()
}

/// `__jump_table`: a NOP or a jump, of two or five bytes (arch/x86/kernel/jump_label.c).
pub(super) fn jump_labels(subject: &mut Subject<'_, '_>, entries: &[JumpEntry]) {
    for entry in entries {
        if !subject.module.has_text(entry.code) {
            continue;
        }
        let first = subject.module.ours(entry.code, 1).and_then(<[u8]>::first).copied();
        let length = if matches!(first, Some(JMP8 | 0x66)) { 2 } else { 5 };
        let jump = if length == 2 {
            let displacement = entry.target.0.wrapping_sub(entry.code.0.wrapping_add(2));
            Code::of(&[JMP8, displacement as u8])
        } else {
            Code::of(&branch(JMP32, entry.code.0, entry.target.0))
        };
        let nop = subject.kernel.nops.label(length);
        let found = subject.module.found(entry.code, length);
        let shown = match found {
            Some(found) if found == jump.bytes() => Some(true),
            Some(found) if found == nop => Some(false),
            _ => None,
        };
        let (off, on) = if entry.inverted { (jump.bytes(), nop) } else { (nop, jump.bytes()) };
        subject.module.may_change(Site::switch(entry.code, POKED, entry.key, off, on));
        let (taken, standing) = is_taken(subject, entry, shown);
        let code = if taken { jump.bytes() } else { nop };
        subject.module.write(entry.code, code, Rule::JumpLabel, standing);
    }
}

/// What a static call may be made into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Call,
    Jump,
    ConditionalJump(u8),
}

/// `.static_call_sites` (arch/x86/kernel/static_call.c:__static_call_transform).
pub(super) fn static_calls(
    subject: &mut Subject<'_, '_>,
    sites: &[StaticCallSite],
) -> Result<(), OutOfMemory> {
    for site in sites {
        if subject.module.has_text(site.code) {
            note_call(subject, site.code, site.key, site.tail);
            transform(subject, site.code, site.key, site.tail);
        }
    }
    trampolines(subject)
}

/// Trampolines of the static calls that the module defines.
fn trampolines(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    for (address, key) in tables::trampolines(subject)? {
        note_call(subject, address, key, true);
        // One that was never updated is as it was built.
        let updated = match subject.module.is_compared() {
            true => subject.module.found(address, 5) != subject.module.ours(address, 5),
            false => is_updated(subject, key),
        };
        if updated {
            transform(subject, address, key, true);
        }
    }
    Ok(())
}

/// Whether a static call that the module defines calls something else than it was built to call.
fn is_updated(subject: &mut Subject<'_, '_>, key: RunAddr) -> bool {
    ask(subject, key);
    let stated = subject.state.certain(Variable::StaticCall(key));
    stated.is_some() && stated != subject.module.word(key)
}

/// Learns what the key of a static call says, once.
fn ask(subject: &mut Subject<'_, '_>, key: RunAddr) {
    let variable = Variable::StaticCall(key);
    if !subject.state.knows(variable) {
        // What is no function is nothing that the kernel calls.
        let word = subject.guest_word(key);
        let word = word.filter(|&word| word == 0 || subject.is_function(RunAddr(word)));
        subject.state.pin(variable, word);
    }
}

/// What a static call is coded as, and in how many bytes.
fn form_of(original: &[u8], tail: bool) -> (Form, usize) {
    match original {
        [0x0f, condition @ 0x80..=0x8f, ..] if tail => (Form::ConditionalJump(*condition), 6),
        _ if tail => (Form::Jump, 5),
        _ => (Form::Call, 5),
    }
}

/// Notes what a static call may become while the kernel runs.
fn note_call(subject: &mut Subject<'_, '_>, site: RunAddr, key: RunAddr, tail: bool) {
    if subject.module.is_compared() {
        return;
    }
    let original = Code::of(subject.module.ours_up_to(site, 6));
    let (form, length) = form_of(original.bytes(), tail);
    let calls = |function| Some((Variable::StaticCall(key), function));
    let mut noted = Site::new(site, length, Rule::StaticCall, POKED);
    // One that was never updated stays as it was built.
    noted = noted.text(original.bytes().get(..length).unwrap_or_default(), None);
    let leads = Leads::Functions(key, 0);
    noted = match form {
        Form::Call => {
            for (function, code) in inlined(subject) {
                noted =
                    if let Some(function) = function { noted.text(&code, calls(function)) } else { noted };
            }
            let counts = leaning(subject, CALL_DEPTH);
            let before = if counts { super::call_thunks::COUNT_LENGTH as u8 } else { 0 };
            let nop = subject.kernel.nops.atomic;
            noted.text(&nop, calls(0)).branch(CALLS, Leads::Functions(key, before))
        }
        Form::Jump => {
            let code = returns::return_at(subject, site).0;
            noted.text(code.bytes(), calls(0)).branch(JUMPS, leads)
        }
        Form::ConditionalJump(condition) => {
            let code = encode(subject, site, form, 0);
            let jumps = Branch::X86 { opcode: [0x0f, condition], length: 2 };
            noted.text(code.bytes(), calls(0)).branch(jumps, leads)
        }
    };
    subject.module.may_change(noted);
}

fn transform(subject: &mut Subject<'_, '_>, site: RunAddr, key: RunAddr, tail: bool) {
    let variable = Variable::StaticCall(key);
    ask(subject, key);
    let original = Code::of(subject.module.ours_up_to(site, 6));
    let (form, length) = form_of(original.bytes(), tail);
    let found = subject.module.found(site, length).map_or(Code::empty(), Code::of);
    let shown = shown_function(subject, site, form, &found);
    let proven = subject.state.pinned(variable).is_some();
    let mut standing = if proven { Standing::Certain } else { Standing::Unproven };
    let idle = if proven { None } else { idle_tracepoint(subject, key) };
    let certain = subject.state.certain(variable);
    let (certain, decides) = match idle {
        Some((function, listened)) => (Some(function), listened),
        None => (certain, variable),
    };
    let function = match (certain, shown) {
        (Some(function), _) => {
            if shown.is_some_and(|shown| shown != function) {
                let known = shown.is_some_and(|shown| shown == 0 || subject.is_function(RunAddr(shown)));
                standing = match shown {
                    Some(target) if !known => Standing::WrongTarget(RunAddr(target)),
                    _ => Standing::OutOfStep(decides),
                };
            }
            function
        }
        (None, Some(shown)) if shown == 0 || subject.is_function(RunAddr(shown)) => {
            subject.state.vote(variable, shown);
            shown
        }
        (None, shown) => {
            if let Some(target) = shown {
                standing = Standing::WrongTarget(RunAddr(target));
            }
            let Some(function) = subject.state.leaning(variable) else {
                subject.state.assume(variable, 0);
                let original = original.bytes().get(..length).unwrap_or_default();
                subject.module.write(site, original, Rule::StaticCall, standing);
                return;
            };
            subject.state.rely(variable, function);
            function
        }
    };
    let code = encode(subject, site, form, function);
    subject.module.write(site, code.bytes(), Rule::StaticCall, standing);
}

/// What the static call of one of the kernel's tracepoints calls while nobody listens, which its static key tells: the
/// function that asks all listeners (kernel/tracepoint.c:tracepoint_update_call).
fn idle_tracepoint(subject: &mut Subject<'_, '_>, key: RunAddr) -> Option<(u64, Variable)> {
    const KEY: u64 = 8;
    let symbol = subject.guest.symbol_at(key).filter(|symbol| symbol.offset == 0)?;
    let name = symbol.name.strip_prefix("__SCK__tp_func_")?;
    let named = |prefix: &str| {
        let mut text = alloc::vec::Vec::new();
        text.try_reserve_exact(prefix.len() + name.len()).ok()?;
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(name.as_bytes());
        subject.guest.kernel_symbol(Name(&text))
    };
    let (tracepoint, function) = (named("__tracepoint_")?, named("__traceiter_")?);
    let listened = Variable::Key(RunAddr(tracepoint) + KEY);
    // The branch around the call has asked for it.
    let value = subject.state.leaning(listened)?;
    subject.state.rely(listened, value);
    (value == 0).then_some((function, listened))
}

/// The function that a site shows to be called; 0 for none.
fn shown_function(subject: &mut Subject<'_, '_>, site: RunAddr, form: Form, found: &Code) -> Option<u64> {
    let bytes = found.bytes();
    match form {
        Form::Call if bytes == subject.kernel.nops.atomic => Some(0),
        Form::Call => {
            if let Some((function, _)) = inlined(subject).into_iter().find(|(_, code)| bytes == code) {
                return function;
            }
            let target = branch_target(bytes, CALL, site.0)?;
            // Perhaps a call that is counted on its way.
            let behind = target.wrapping_add(super::call_thunks::COUNT_LENGTH);
            let function = |address: &u64| subject.is_function(RunAddr(*address));
            [target, behind].into_iter().find(function).or(Some(target))
        }
        Form::Jump if bytes == [RET, INT3, INT3, INT3, INT3] => Some(0),
        Form::Jump => {
            let target = branch_target(bytes, JMP32, site.0)?;
            let (returned, _) = returns::return_at(subject, site);
            if returned.bytes() == bytes { Some(0) } else { Some(target) }
        }
        Form::ConditionalJump(condition) => {
            let target = branch_target(bytes.get(1..)?, condition, site.0 + 1)?;
            Some(if target == conditional_return(subject) { 0 } else { target })
        }
    }
}

/// Functions that have an instruction instead of a call.
fn inlined(subject: &Subject<'_, '_>) -> [(Option<u64>, [u8; 5]); 3] {
    let kernel = subject.kernel;
    let unlock = kernel.unlock.filter(|_| subject.profile.patching.unlock_inlined);
    [(kernel.return_zero, RETURN_ZERO), (kernel.warn, WARN), (unlock, UNLOCK)]
}

fn encode(subject: &mut Subject<'_, '_>, site: RunAddr, form: Form, function: u64) -> Code {
    match form {
        Form::Call if function == 0 => Code::of(&subject.kernel.nops.atomic),
        Form::Call => {
            let counts = leaning(subject, CALL_DEPTH);
            let length = super::call_thunks::COUNT_LENGTH;
            // A call that is counted stays one: the function is looked at only after its address has become that of
            // the code before it.
            let counted = if counts { counted_target(subject, site, function, length) } else { None };
            if let Some((target, _)) = counted {
                if !subject.module.is_compared() {
                    fill_pad(subject, RunAddr(target));
                }
                return Code::of(&branch(CALL, site.0, target));
            }
            let instruction = inlined(subject).into_iter().find(|(known, _)| *known == Some(function));
            instruction.map_or(Code::of(&branch(CALL, site.0, function)), |(_, code)| Code::of(&code))
        }
        Form::Jump if function == 0 => returns::return_at(subject, site).0,
        Form::Jump => Code::of(&branch(JMP32, site.0, function)),
        Form::ConditionalJump(condition) => {
            let target = if function == 0 { conditional_return(subject) } else { function };
            let mut code = Code::of(&[0x0f]);
            code.push(&branch(condition, site.0 + 1, target));
            code
        }
    }
}

/// Where a conditional jump leads that calls no function: to what returns do, in a place of its own.
fn conditional_return(subject: &mut Subject<'_, '_>) -> u64 {
    let thunk = if leaning(subject, RETHUNK) { returns::thunk(subject) } else { None };
    thunk.or(subject.kernel.static_return).unwrap_or(0)
}

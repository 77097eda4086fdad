//! What leads elsewhere than the module's file says, by the book: functions that are traced, instructions that are
//! probed. Each is a form that a rule allows, or a branch where a rule allows one, but not to there.

use crate::address::RunAddr;

/// How code is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookKind {
    /// The entry of a function calls a tracer (`__mcount_loc`).
    Ftrace,
    /// A declared probe: a breakpoint, or a jump to a copy of what it replaced.
    Kprobe,
}

/// One place of a module that is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// How.
    pub kind: HookKind,
    /// The instruction.
    pub site: RunAddr,
    /// Where it leads; `None` for a breakpoint.
    pub target: Option<RunAddr>,
    /// The description of who traces the function, where words before functions name one (arm64).
    pub mark: Option<RunAddr>,
    /// Whether it goes there by a jump, which leads to BPF's trampolines only (x86-64 since 6.19), and not by a call.
    pub jumps: bool,
    /// Whether a rule allows it.
    pub explained: bool,
}

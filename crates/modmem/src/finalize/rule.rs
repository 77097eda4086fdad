//! What changes a module after relocation.

use core::fmt;

/// What made bytes differ from those of the relocated file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Rule {
    /// An instruction replaced for a feature of the CPU, or its padding optimised (`.altinstructions`).
    Alternative,
    /// A call through a paravirtualisation table made direct (`.parainstructions`, 6.1).
    Paravirt,
    /// A call or jump through a retpoline (`.retpoline_sites`).
    Retpoline,
    /// A return (`.return_sites`).
    Return,
    /// A call that counts its depth, or the code before a function that counts it (`.call_sites`).
    CallThunk,
    /// An ENDBR that nothing may jump to (`.ibt_endbr_seal`).
    EndbrSeal,
    /// A lock prefix that one CPU does not need (`.smp_locks`).
    LockPrefix,
    /// The entry of a function that can be traced (`__mcount_loc`).
    Ftrace,
    /// A branch on a static key (`__jump_table`).
    JumpLabel,
    /// A static call or its trampoline (`.static_call_sites`, `.static_call.text`).
    StaticCall,
    /// An instruction that signs or checks a return address, made to use a shadow stack (`.init.eh_frame`).
    ShadowStack,
    /// A load of the address of the stack protector's canary (`__stack_protector_loc`).
    StackProtector,
    /// A probe that the caller declared.
    Kprobe,
    /// A table sorted by the loader (`__ex_table`, ORC, `__mcount_loc`).
    SortedTable,
    /// A table that the kernel rewrites (`__jump_table`, `.static_call_sites`, `.altinstructions`).
    RewrittenTable,
    /// A flag that the kernel sets when a warning was printed once (`__bug_table`).
    BugFlag,
    /// A reference to data of the kernel's whose address no list has: as it is if the address is the one that such
    /// references show.
    UnlistedSymbol,
    /// A symbol in a section that is not loaded, in the symbol table of a module whose init has not returned, or that
    /// is a livepatch.
    UnloadedSymbol,
    /// A relocation that livepatch applies, and the symbol that it looked up for it (`.klp.rela.*`, `.klp.sym.*`).
    Livepatch,
}

impl Rule {
    /// All rules.
    pub const ALL: [Rule; 19] = [
        Rule::Alternative,
        Rule::Paravirt,
        Rule::Retpoline,
        Rule::Return,
        Rule::CallThunk,
        Rule::EndbrSeal,
        Rule::LockPrefix,
        Rule::Ftrace,
        Rule::JumpLabel,
        Rule::StaticCall,
        Rule::ShadowStack,
        Rule::StackProtector,
        Rule::Kprobe,
        Rule::SortedTable,
        Rule::RewrittenTable,
        Rule::BugFlag,
        Rule::UnlistedSymbol,
        Rule::UnloadedSymbol,
        Rule::Livepatch,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Rule::Alternative => "alternatives",
            Rule::Paravirt => "paravirt calls",
            Rule::Retpoline => "retpolines",
            Rule::Return => "returns",
            Rule::CallThunk => "call thunks",
            Rule::EndbrSeal => "ENDBR seals",
            Rule::LockPrefix => "lock prefixes",
            Rule::Ftrace => "ftrace",
            Rule::JumpLabel => "jump labels",
            Rule::StaticCall => "static calls",
            Rule::ShadowStack => "shadow stacks",
            Rule::StackProtector => "stack protector",
            Rule::Kprobe => "kprobes",
            Rule::SortedTable => "sorted tables",
            Rule::RewrittenTable => "rewritten tables",
            Rule::BugFlag => "warning flags",
            Rule::UnlistedSymbol => "symbols in no list",
            Rule::UnloadedSymbol => "symbols of sections not loaded",
            Rule::Livepatch => "livepatch",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

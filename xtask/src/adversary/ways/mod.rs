//! The ways.

mod code;
mod hidden;
mod lists;
mod words;

use modmem_linux::verify::{Belief, Sign};

use super::intruder::Intruder;
use super::never;

/// One way to hide.
#[derive(Clone, Copy)]
pub struct Way {
    /// A short name.
    pub name: &'static str,
    /// What is done.
    pub about: &'static str,
    pub(super) act: fn(&mut Intruder<'_>) -> Option<()>,
    /// What a verdict has to say that it believed, if it is "verified" all the same.
    pub(super) named_by: fn(&Belief) -> bool,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn way(name: &'static str, about: &'static str, act: fn(&mut Intruder<'_>) -> Option<()>) -> Way {
    Way { name, about, act, named_by: never }
}

impl Way {
    const fn or(self, named_by: fn(&Belief) -> bool) -> Way {
        Way { named_by, ..self }
    }
}

fn by_symbols(belief: &Belief) -> bool {
    *belief == Belief::KernelSymbols
}

fn by_places(belief: &Belief) -> bool {
    matches!(belief, Belief::Places { .. } | Belief::OnePlace { .. } | Belief::EitherState { .. })
}

fn by_memory(belief: &Belief) -> bool {
    matches!(belief, Belief::Memory { sign: Sign::Listed | Sign::Form | Sign::Caller, .. })
}

fn by_areas(belief: &Belief) -> bool {
    *belief == Belief::Areas
}

fn by_configuration(belief: &Belief) -> bool {
    *belief == Belief::Configuration
}

fn by_probes(belief: &Belief) -> bool {
    matches!(belief, Belief::Kprobes { .. })
}

/// All of them.
pub const WAYS: &[Way] = &[
    way("call", "a call in a module leads to own code", code::call),
    way("entry-jump", "a function's entry jumps to own code", code::entry_jump),
    way("entry-return", "a function returns at once", code::entry_return),
    way(
        "entry-call-planted",
        "an entry calls own code that is listed as a trampoline of ftrace",
        code::planted_ftrace,
    )
    .or(by_memory),
    way("entry-call-bpf", "an entry calls own code that is listed as a trampoline of BPF", code::planted_bpf)
        .or(by_memory),
    way(
        "entry-call-middle",
        "an entry calls the middle of what is listed as a trampoline",
        code::middle_of_trampoline,
    ),
    way("branch-out", "a conditional branch is made NOPs", code::branch_out),
    way("pointer", "a pointer in read-only data leads to own code", code::pointer),
    way(
        "own-pointer",
        "a pointer in read-only data leads to another function of the module",
        code::own_pointer,
    ),
    way("padding", "own code lies behind a module's text, in its last page", code::padding),
    way("symbol-table", "a symbol in a module's memory has another value", code::symbol_table),
    way("fixup", "an entry of __ex_table leads elsewhere", code::fixup),
    way("torn", "a hook lies in pages that are said to have changed while they were read", code::torn),
    way(
        "locks-out",
        "all lock prefixes are taken out or put in, and the kernel's word says otherwise",
        words::locks_out,
    )
    .or(by_places),
    way("locks-out-unread", "the same, and the kernel's word was not read", words::locks_unread)
        .or(by_places),
    way("locks-out-word", "the same, and the word agrees, with several CPUs online", words::locks_word),
    way("lock-out", "one lock prefix is out", words::lock_out),
    way(
        "return-thunk",
        "the kernel's word says that returns jump to own code, and all do",
        words::return_thunk,
    ),
    way("static-call", "a site of a static call leads to own code", words::static_call),
    way("static-call-key", "the same, and the key says so", words::static_call_key),
    way(
        "static-call-symbol",
        "the same, and own code is listed as a function of the kernel",
        words::static_call_symbol,
    ),
    way(
        "static-call-module",
        "the same, and own code is listed as a function of a module",
        words::static_call_module,
    ),
    way(
        "static-call-middle",
        "a key and its sites lead into the middle of a module's function, which is listed as one",
        words::static_call_middle,
    ),
    way(
        "static-call-unread",
        "a site calls another function of the kernel, and the key was not read",
        words::static_call_unread,
    )
    .or(by_places),
    way("label", "one branch on a static key is turned", words::label).or(by_places),
    way("label-unread", "all branches on a key are turned, and the key was not read", words::label_unread)
        .or(by_places),
    way("paravirt", "a slot of pv_ops holds own code, and all its calls lead there", words::paravirt),
    way("counting", "the code that counts calls is own code, everywhere", words::counting),
    way(
        "symbol-moved",
        "a function of the kernel is listed at own code, and all calls lead there",
        lists::symbol_moved,
    ),
    way(
        "symbol-shifted",
        "a function of the kernel is listed a little behind, and all calls lead there",
        lists::symbol_shifted,
    )
    .or(by_symbols),
    way(
        "symbol-swapped",
        "two functions of the kernel have changed names, and all calls of one lead to the other",
        lists::symbol_swapped,
    )
    .or(by_symbols),
    way("size", "/proc/modules gives a module a smaller size", lists::size),
    way("state", "a live module is said to be loading", lists::state),
    way("decoy", "a module's sections are said to lie in a copy that nobody has touched", lists::decoy),
    way("no-text", "a module's sections are not listed", lists::no_sections),
    way(
        "configuration",
        "the configuration says that the kernel does not patch returns",
        lists::configuration,
    )
    .or(by_configuration),
    way("probe", "a probe that the machine lists, where nobody expects any", lists::probe),
    way("probe-expected", "the same, and whoever verifies expects what is listed", lists::probe_expected)
        .or(by_probes),
    way(
        "probe-optimized",
        "a listed probe jumps to own code in a page that is listed as kprobes'",
        lists::probe_optimized,
    )
    .or(|belief| by_probes(belief) || by_memory(belief)),
    way("planted-symbol", "own code is listed as a function of a module", lists::planted),
    way("unlisted", "a module is not in /proc/modules", hidden::unlisted),
    way("unlisted-symbols", "nor in /proc/kallsyms", hidden::no_symbols),
    way("unlisted-areas", "nor in /proc/vmallocinfo", hidden::no_areas).or(by_areas),
    way("unlisted-unread", "nor is its memory in the snapshot", hidden::unread).or(by_areas),
    way("renamed-area", "its areas are said to be BPF's", hidden::renamed_areas).or(by_memory),
    way("named-bpf", "its symbols are listed as BPF's", hidden::named_bpf).or(by_memory),
    way("named-builtin", "its symbols are listed as of __builtin__hidden", hidden::named_builtin),
    way("named-kprobes", "its symbols are listed as pages of kprobes", hidden::named_kprobes).or(by_memory),
    way("pages", "own code lies in pages that nobody lists", hidden::pages).or(by_areas),
    way("pages-bpf", "own code lies in an area that BPF asked for", hidden::pages_of_bpf).or(by_memory),
    way("pages-header", "own code lies behind the header of a BPF program", hidden::pages_with_header)
        .or(by_memory),
    way(
        "pages-ftrace",
        "own code lies in a page that is listed as a trampoline of ftrace",
        hidden::pages_as_trampoline,
    )
    .or(by_memory),
    way("pages-loader", "own code lies in an area of the loader", hidden::pages_of_loader),
    way("init", "own code lies where a module's init memory was", hidden::init),
];

//! What the code of a machine depends on, and who says what it is.

use core::fmt;

use crate::address::RunAddr;

/// Something that is the same for all code of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variable {
    /// A CPU feature or bug, by number (`X86_FEATURE_*`: word * 32 + bit); 0 or 1.
    Feature(u16),
    /// A capability of the machine's CPUs, by the number that the kernel was built with (arm64: ARM64_HAS_* and
    /// ARM64_WORKAROUND_*); 0 or 1.
    Capability(u16),
    /// The function that returns jump to, where they do.
    ReturnThunk,
    /// Whether one CPU needs no lock prefixes; 0 or 1.
    OneCpu,
    /// Whether the static key at that address is enabled; 0 or 1.
    Key(RunAddr),
    /// The function that the static call key at that address calls; 0 for none.
    StaticCall(RunAddr),
    /// The function in that slot of the paravirtualisation table.
    ParavirtCall(RunAddr),
    /// Whether calls of the function at that address go through code before it that counts them; 0 or 1.
    CountedCall(RunAddr),
    /// s390x: whether the CPU has the facility of that number; 0 or 1.
    Facility(u32),
    /// s390x: whether the machine has the feature of that number (`MFEATURE_*`); 0 or 1.
    MachineFeature(u32),
    /// s390x: whether branch prediction is limited (`nobp=1`); 0 or 1.
    LimitedPrediction,
    /// s390x: whether the lowcore lies elsewhere than at address 0; 0 or 1.
    RelocatedLowcore,
    /// s390x: whether the CPU fetches instructions one after the other, so that functions are traced without
    /// trampolines; 0 or 1.
    SequentialFetch,
    /// Offset of the call depth in percpu data, as it stands in the code that counts calls.
    CallDepth,
}

impl Variable {
    /// Whether its value is 0 or 1, off or on.
    pub(crate) const fn is_switch(self) -> bool {
        match self {
            Variable::ReturnThunk
            | Variable::StaticCall(_)
            | Variable::ParavirtCall(_)
            | Variable::CallDepth => false,
            Variable::Feature(_)
            | Variable::OneCpu
            | Variable::Key(_)
            | Variable::CountedCall(_)
            | Variable::Capability(_)
            | Variable::Facility(_)
            | Variable::MachineFeature(_)
            | Variable::LimitedPrediction
            | Variable::RelocatedLowcore
            | Variable::SequentialFetch => true,
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Variable::Feature(number) => write!(f, "CPU feature {}*32+{}", number / 32, number % 32),
            Variable::Capability(number) => write!(f, "CPU capability {number}"),
            Variable::ReturnThunk => f.write_str("the return thunk"),
            Variable::OneCpu => f.write_str("running on one CPU"),
            Variable::Key(address) => write!(f, "the static key at {address}"),
            Variable::StaticCall(address) => write!(f, "the static call key at {address}"),
            Variable::ParavirtCall(address) => write!(f, "the paravirt call at {address}"),
            Variable::CountedCall(address) => write!(f, "counting calls of {address}"),
            Variable::Facility(number) => write!(f, "facility {number}"),
            Variable::MachineFeature(number) => write!(f, "machine feature {number}"),
            Variable::LimitedPrediction => f.write_str("limiting branch prediction"),
            Variable::RelocatedLowcore => f.write_str("relocating the lowcore"),
            Variable::SequentialFetch => f.write_str("fetching instructions one after the other"),
            Variable::CallDepth => f.write_str("the place of the call depth"),
        }
    }
}

/// What a variable was when a module was finalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decided {
    /// What it is.
    pub variable: Variable,
    /// Its value.
    pub value: u64,
    /// Whether the caller or the kernel's memory says so; otherwise it was assumed.
    pub told: bool,
}

/// Who traces a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracer {
    /// What the function's entry calls: one of the kernel's entries of tracing, or a trampoline.
    pub target: RunAddr,
    /// The `struct ftrace_ops` that the function is marked with, on machines that mark functions (arm64).
    pub ops: Option<RunAddr>,
    /// Whether the entry jumps there, and does not call it: BPF's trampolines on x86-64 since 6.19, some of them.
    pub jumps: bool,
}

/// Says the value of each variable.
///
/// A rule asks for what is certain first. Where nothing is, it goes by what a site shows, if there is a guest to look
/// at, and tells the state so; else by what is likely.
pub(crate) trait State: fmt::Debug {
    /// Whether it has been asked for before what the kernel's memory says of the variable, or need not be.
    fn knows(&self, variable: Variable) -> bool;

    /// States what the kernel's memory says, if it says anything.
    fn pin(&mut self, variable: Variable, value: Option<u64>);

    /// What the kernel's memory says.
    fn pinned(&self, variable: Variable) -> Option<u64>;

    /// What is beyond doubt.
    fn certain(&self, variable: Variable) -> Option<u64>;

    /// The best guess so far.
    fn leaning(&self, variable: Variable) -> Option<u64>;

    /// So many sites that are as only this value makes them.
    fn votes(&mut self, variable: Variable, value: u64, sites: u64);

    /// A site that is as only this value makes it.
    fn vote(&mut self, variable: Variable, value: u64) {
        self.votes(variable, value, 1);
    }

    /// A site was taken for this value without speaking for it.
    fn rely(&mut self, variable: Variable, value: u64) {
        self.votes(variable, value, 0);
    }

    /// Takes a value for a variable that nobody tells. Where there is a guest, its sites speak later.
    fn assume(&mut self, _variable: Variable, _value: u64) {}

    /// Who traces the function whose entry is patched at `site`, if a caller says so. Where there is a guest, it shows that.
    fn tracer(&self, _site: RunAddr) -> Option<Tracer> {
        None
    }

    /// Where the kernel puts code that it makes for the module that is finalized, if a caller says so: the pages with its
    /// thunks (x86-64), or the area of its trampolines (s390x), counted from 0.
    fn made_code(&self, _index: usize) -> Option<RunAddr> {
        None
    }

    /// Says that something could not be kept.
    fn lack_memory(&mut self);
}

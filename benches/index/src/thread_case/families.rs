//! Families of addresses on that machine.

use modmem_index::{Extent, Owner};

use super::Memories;
use crate::random::Random;
use crate::workload::QUERIES;

/// Where addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// The kernel's own code.
    KernelText,
    /// All memory that the kernel maps, its own code and data included: Leroy's "any address between".
    Lowmem,
    /// A program, its libraries, its stack.
    User,
    /// Other users of vmalloc: stacks of tasks, devices' registers.
    Vmalloc,
    /// Text of modules that are loaded.
    ModuleText,
    /// Their data.
    ModuleData,
    /// Memories that were given back.
    Gone,
    /// What a profiler may ask for that does not look for kernel text first: of ten addresses five in kernel text, three
    /// of a program, one in lowmem and one in module text.
    Profiler,
}

impl Family {
    pub(crate) const ALL: [Family; 8] = [
        Family::KernelText,
        Family::Lowmem,
        Family::User,
        Family::Vmalloc,
        Family::Gone,
        Family::ModuleText,
        Family::ModuleData,
        Family::Profiler,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::KernelText => "kernel text",
            Family::Lowmem => "lowmem",
            Family::User => "user",
            Family::Vmalloc => "other vmalloc",
            Family::ModuleText => "module text",
            Family::ModuleData => "module data",
            Family::Gone => "given back",
            Family::Profiler => "profiler's mix",
        }
    }

    /// Whether the addresses are modules' alone, so that no lookup can be in vain.
    pub(crate) fn always_hits(self) -> bool {
        matches!(self, Family::ModuleText | Family::ModuleData)
    }

    pub(super) fn addresses(self, memories: &Memories) -> Vec<u64> {
        let mut random = Random::new(self as u64);
        let modules = Modules::new(memories);
        (0..QUERIES).map(|_| self.one(&modules, &mut random)).collect()
    }

    fn one(self, modules: &Modules, random: &mut Random) -> u64 {
        let extent = match self {
            Family::KernelText => between(0xc000_0000, 0xc061_c000),
            Family::Lowmem => between(0xc000_0000, 0xf000_0000),
            Family::User => *random.pick(&[
                between(0x1000_0000, 0x1010_0000),
                between(0xa700_0000, 0xa780_0000),
                between(0xafe0_0000, 0xaff0_0000),
            ]),
            Family::Vmalloc => between(0xf200_0000, 0xff33_2000),
            Family::ModuleText => *random.pick(&modules.text),
            Family::ModuleData => *random.pick(&modules.data),
            Family::Gone => *random.pick(&modules.gone),
            Family::Profiler => {
                let family = match random.below(10) {
                    0..5 => Family::KernelText,
                    5..8 => Family::User,
                    8 => Family::Lowmem,
                    _ => Family::ModuleText,
                };
                return family.one(modules, random);
            }
        };
        u64::from(extent.start) + random.below(extent.size.into())
    }
}

fn between(start: u32, end: u32) -> Extent<u32> {
    Extent { start, size: end - start }
}

/// Memories, each of a kind equally likely.
struct Modules {
    text: Vec<Extent<u32>>,
    data: Vec<Extent<u32>>,
    gone: Vec<Extent<u32>>,
}

impl Modules {
    fn new(memories: &Memories) -> Modules {
        let (text, data): (Vec<_>, Vec<_>) =
            memories.live.values().partition(|(_, owner)| owner.kind().is_text());
        let extents =
            |memories: Vec<&(Extent<u32>, Owner)>| memories.into_iter().map(|&(extent, _)| extent).collect();
        Modules { text: extents(text), data: extents(data), gone: memories.gone.clone() }
    }
}

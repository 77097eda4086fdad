//! Placing a module where a snapshot's machine has it.

use anyhow::{Result, anyhow};
use modmem::image::{Symbol, SymbolPlace};
use modmem::layout::PerKind;
use modmem::link::Placement;
use modmem::profile::Profile;
use modmem::space::{Memory, PerCpuPlace, Request, SpaceBlock, SpaceError};
use modmem::{AddressSpace, Image, Layout, MemoryKind, RunAddr};
use modmem_linux::snapshot::{Memories, ModuleRecord, Snapshot};

use super::backing::{Bytes, Limited};

/// Blocks where another machine has them. What it does not tell lies elsewhere, and so does init memory whose place others have
/// taken since.
struct Given<'g> {
    starts: PerKind<Option<RunAddr>>,
    /// The whole space, for what is at a given place.
    at: &'g mut AddressSpace<Limited>,
    /// The space without what the machine's modules have.
    other: &'g mut AddressSpace<Limited>,
}

impl Memory for Given<'_> {
    type Block = SpaceBlock<Bytes>;

    fn allocate(&mut self, request: Request) -> Result<SpaceBlock<Bytes>, SpaceError> {
        let Some(start) = self.starts[request.kind].take() else { return self.other.allocate(request) };
        match self.at.allocate_at(start, request) {
            Err(SpaceError::NotFree { .. }) if request.kind.is_init() => self.other.allocate(request),
            block => block,
        }
    }
}

/// The places that `record` has for a module.
pub(super) fn place(
    image: &Image<'_>,
    (snapshot, record): (&Snapshot, &ModuleRecord),
    profile: &Profile,
    (at, other): (&mut AddressSpace<Limited>, &mut AddressSpace<Limited>),
) -> Result<Placement<SpaceBlock<Bytes>>> {
    if let (Some(running), Some(ours)) = (&record.build_id, image.build_id())
        && running.as_slice() != ours
    {
        return Err(anyhow!("the machine has another build of it (the build ids differ)"));
    }
    let layout = Layout::of(image, profile)?;
    let memories =
        Memories::of(record, image, &layout).map_err(|problem| anyhow!("on the machine, {problem}"))?;
    let mut starts = PerKind::default();
    for kind in MemoryKind::ALL {
        // Of memories that share a block, the first is asked for.
        let offset = layout.memories()[kind].offset;
        starts[kind] = memories.start(kind).filter(|_| offset == 0);
    }
    let percpu = match layout.percpu() {
        Some(percpu) => Some(PerCpuPlace::given(
            percpu_base(image, percpu.section, record, snapshot)
                .ok_or_else(|| anyhow!("on the machine, nothing tells where its percpu data lies"))?,
        )),
        None => None,
    };
    let mut given = Given { starts, at, other };
    let mut placement = Placement::allocate(layout, &mut given)?.with_beside(given.other)?;
    if let Some(percpu) = percpu {
        placement = placement.with_percpu(percpu);
    }
    Ok(placement)
}

/// Where the module's percpu data begins, by a symbol in it.
fn percpu_base(image: &Image<'_>, section: usize, record: &ModuleRecord, snapshot: &Snapshot) -> Option<u64> {
    let inside =
        |symbol: &Symbol<'_>| symbol.place == SymbolPlace::Section(section) && !symbol.name.is_empty();
    image.symbols().iter().filter(inside).find_map(|symbol| {
        let mut listed = snapshot.symbols.named_of(symbol.name.as_str()?, &record.name);
        let first = listed.next().filter(|_| listed.next().is_none())?;
        Some(first.address.wrapping_sub(symbol.value))
    })
}

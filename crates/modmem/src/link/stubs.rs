//! What a module's code reaches others through, where its own branches do not reach: PLT, GOT, veneers.

use super::error::{LinkError, RelocationProblem};
use super::placement::Placement;
use super::relocation::{Expression, RelocationType};
use crate::address::RunAddr;
use crate::image::{Image, RelocationSection};
use crate::layout::MemoryKind;
use crate::profile::Profile;
use crate::space::Block;

/// One relocation, and all that it can depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'t> {
    pub(crate) kind: &'t RelocationType,
    /// The memory that the field is in.
    pub(crate) memory: MemoryKind,
    /// P
    pub(crate) place: RunAddr,
    /// The symbol's index, and its value: S.
    pub(crate) index: u32,
    pub(crate) symbol: u64,
    /// A
    pub(crate) addend: i64,
}

impl Site<'_> {
    /// S + A
    pub(crate) fn sum(&self) -> u64 {
        self.symbol.wrapping_add(self.addend as u64)
    }

    /// What the table's expression comes to, where it needs nothing of the module's tables.
    pub(crate) fn value(&self) -> Option<u64> {
        const PAGE: u64 = !0xfff;
        let (sum, place) = (self.sum(), self.place.0);
        match self.kind.expression {
            Expression::SymbolPlusAddend => Some(sum),
            Expression::SymbolPlusAddendRounded => Some(sum.wrapping_add(0x8000)),
            Expression::SymbolPlusAddendMinusPlace | Expression::BranchMinusPlace => {
                Some(sum.wrapping_sub(place))
            }
            Expression::PageOfSymbolMinusPageOfPlace => Some((sum & PAGE).wrapping_sub(place & PAGE)),
            _ => None,
        }
    }
}

/// What became of a relocation that was looked at closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It is applied.
    Done,
    /// This is the value; checks and field are as the table says.
    Value(u64),
    /// There is nothing special about it.
    AsTheTableSays,
}

/// A machine's tables of one module while it is relocated.
///
/// They are filled on the side, as the section that is relocated may lie in the same memory, and written in the end.
pub(crate) trait Stubs: Sized {
    /// Whether relocations that need a closer look wait until those of their section that need none are done, to be
    /// applied in an order of the machine's own.
    const ORDERED: bool = false;
    /// Whether relocations name entries of a table of addresses, see [`Stubs::entries`].
    const ENTRIES: bool = false;
    /// Whether the distance without the addend decides how a branch reaches its symbol, see [`Reach`](super::relocation::Reach).
    const REACH: bool = false;

    /// Tables with nothing in them, for a module that lies where `placement` says.
    fn new<B: Block>(
        image: &Image<'_>,
        profile: &Profile,
        placement: &Placement<B>,
    ) -> Result<Self, LinkError>;

    /// The address of each symbol's entry in the table of addresses, by index.
    fn entries(&self) -> &[u64] {
        &[]
    }

    /// Puts entries of a relocation section in the order in which the kernel applies them.
    fn order(
        _image: &Image<'_>,
        _section: &RelocationSection<'_, '_>,
        _entries: &mut [u32],
    ) -> Result<(), LinkError> {
        Ok(())
    }

    /// Applies a relocation that is not simply what the table says, or that the table says does not fit. `field` has
    /// the bytes of its field.
    fn apply(&mut self, site: &Site<'_>, field: &mut [u8]) -> Result<Applied, RelocationProblem>;

    /// Writes the tables. `values` has the value of each symbol.
    fn finish<B: Block>(self, placement: &mut Placement<B>, values: &[u64]) -> Result<(), LinkError>;
}

/// For machines whose modules have no such tables.
#[derive(Debug)]
pub(crate) struct NoStubs;

impl Stubs for NoStubs {
    fn new<B: Block>(_: &Image<'_>, _: &Profile, _: &Placement<B>) -> Result<NoStubs, LinkError> {
        Ok(NoStubs)
    }

    fn apply(&mut self, _: &Site<'_>, _: &mut [u8]) -> Result<Applied, RelocationProblem> {
        Ok(Applied::AsTheTableSays)
    }

    fn finish<B: Block>(self, _: &mut Placement<B>, _: &[u64]) -> Result<(), LinkError> {
        Ok(())
    }
}

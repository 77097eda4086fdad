//! The address space: ranges that stay, ranges that come and go, gaps, and who may be found at an address.

use std::sync::atomic::{AtomicU32, Ordering, fence};

use modmem_index::{Extent, MemoryKind, Owner, OwnerId};

/// An address, as wide as the host's.
#[cfg(target_pointer_width = "64")]
pub(crate) type Word = u64;
#[cfg(not(target_pointer_width = "64"))]
pub(crate) type Word = u32;

pub(crate) const PAGE_SHIFT: u32 = 12;

/// How many places there are in either window. Each has a module that stays and one that comes and goes.
const PLACES: Word = 16;

/// Part of a place. The module that stays has some, the one that comes and goes has the others.
struct Piece {
    start: Word,
    size: Word,
    kind: MemoryKind,
    stays: bool,
}

const fn piece(start: Word, size: Word, kind: MemoryKind, stays: bool) -> Piece {
    Piece { start, size, kind, stays }
}

/// Places of one kind, one behind the other.
struct Layout {
    base: Word,
    /// From one place to the next.
    stride: Word,
    pieces: [Piece; 6],
}

/// The upper half of the space, as kernels have it.
const BASE: Word = Word::MAX / 4 * 3 + 1;

const LAYOUTS: [Layout; 2] = [
    // Whole pages, some of them with a neighbour.
    Layout {
        base: BASE,
        stride: 0x10000,
        pieces: [
            piece(0x0000, 0x2000, MemoryKind::Text, true),
            piece(0x2000, 0x3000, MemoryKind::Text, false),
            piece(0x5000, 0x1000, MemoryKind::Data, false),
            piece(0x7000, 0x1000, MemoryKind::RoData, false),
            piece(0x8000, 0x1000, MemoryKind::Data, true),
            piece(0xa000, 0x1000, MemoryKind::InitText, true),
        ],
    },
    // Pages that ranges share, with those of the next place too: neighbours, a single byte, a page's end between.
    Layout {
        base: BASE + 0x100_0000,
        stride: 0x1800,
        pieces: [
            piece(0x0010, 0x0033, MemoryKind::Text, true),
            piece(0x0043, 0x01a9, MemoryKind::Text, false),
            piece(0x01ec, 0x0001, MemoryKind::Data, false),
            piece(0x01ed, 0x0313, MemoryKind::RoData, true),
            piece(0x0900, 0x0b00, MemoryKind::RoData, false),
            piece(0x1400, 0x03ff, MemoryKind::Data, true),
        ],
    },
];

/// The windows that all of it lies in.
pub(crate) fn windows() -> [Extent<Word>; 2] {
    LAYOUTS.map(|layout| Extent { start: layout.base, size: layout.stride * PLACES })
}

/// The ranges of a place.
pub(crate) struct Place {
    pub(crate) staying: Vec<(Extent<Word>, MemoryKind)>,
    pub(crate) changing: Vec<Range>,
}

/// All places.
pub(crate) fn places() -> Vec<Place> {
    let place = |layout: &Layout, base: Word| {
        let extent = |piece: &Piece| Extent { start: base + piece.start, size: piece.size };
        let of = |stays| layout.pieces.iter().filter(move |piece| piece.stays == stays);
        Place {
            staying: of(true).map(|piece| (extent(piece), piece.kind)).collect(),
            changing: of(false).map(|piece| Range::new(extent(piece), piece.kind)).collect(),
        }
    };
    let all =
        LAYOUTS.iter().flat_map(|layout| (0..PLACES).map(move |n| (layout, layout.base + n * layout.stride)));
    all.map(|(layout, base)| place(layout, base)).collect()
}

/// How often a range can come and go while a reader looks, before the reader cannot tell any more who was there.
const REMEMBERED: u32 = 64;

/// A range that comes and goes, and who had it lately.
pub(crate) struct Range {
    pub(crate) extent: Extent<Word>,
    pub(crate) kind: MemoryKind,
    /// It is absent, comes, is present, goes, is absent, and so on: the remainder of a division by four.
    step: AtomicU32,
    /// Numbers of the ids, by the quotient.
    ids: [AtomicU32; REMEMBERED as usize],
}

const PRESENT: u32 = 2;

/// The step that a reader begins at.
pub(crate) struct Begun(u32);

/// What a reader was told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Right,
    Wrong,
    /// The reader was away for so long that nobody remembers.
    Overtaken,
}

impl Answer {
    pub(crate) fn right_if(right: bool) -> Answer {
        if right { Answer::Right } else { Answer::Wrong }
    }
}

impl Range {
    fn new(extent: Extent<Word>, kind: MemoryKind) -> Range {
        let ids = std::array::from_fn(|_| AtomicU32::new(0));
        Range { extent, kind, step: AtomicU32::new(0), ids }
    }

    /// What the writer does so that the range comes.
    pub(crate) fn come(&self, id: OwnerId, insert: impl FnOnce()) {
        let step = self.step.load(Ordering::Relaxed);
        // Release: who reads it here sees by the step that the range came again.
        self.ids[(step / 4 % REMEMBERED) as usize].store(id.number(), Ordering::Release);
        self.change(insert);
    }

    /// What the writer does so that the range goes.
    pub(crate) fn go(&self, remove: impl FnOnce()) {
        self.change(remove);
    }

    fn change(&self, change: impl FnOnce()) {
        let step = self.step.load(Ordering::Relaxed);
        // Release and the fences: whoever is told of the change sees this step, and whoever sees the next one is told
        // of it. They pair with those of `begin` and `end`, whatever orderings the structure has.
        self.step.store(step + 1, Ordering::Release);
        fence(Ordering::SeqCst);
        change();
        fence(Ordering::SeqCst);
        self.step.store(step + 2, Ordering::Release);
    }

    /// Before a reader looks.
    pub(crate) fn begin(&self) -> Begun {
        // Acquire and the fence: see `change`.
        let begun = Begun(self.step.load(Ordering::Acquire));
        fence(Ordering::SeqCst);
        begun
    }

    /// After a reader has looked for anything in the range: whether somebody was there who was found, or nobody when
    /// nobody was found. With `sure` false a reader may have found nobody at any time.
    pub(crate) fn end(&self, begun: Begun, found: Option<Owner>, sure: bool) -> Answer {
        fence(Ordering::SeqCst);
        // Acquire and the fence: see `change`.
        let (begun, ended) = (begun.0, self.step.load(Ordering::Acquire));
        let Some(owner) = found else {
            return Answer::right_if(!sure || begun != ended || begun % 4 != PRESENT);
        };
        if ended / 4 - begun / 4 >= REMEMBERED {
            return Answer::Overtaken;
        }
        // The range was there, or coming, or going, at three steps of each four.
        let mut times = (begun / 4..=ended / 4).filter(|time| time * 4 + 3 >= begun && time * 4 < ended);
        // Acquire: pairs with the store in `come`.
        let id_at = |time: u32| self.ids[(time % REMEMBERED) as usize].load(Ordering::Acquire);
        if owner.kind() == self.kind && times.any(|time| id_at(time) == owner.id().number()) {
            return Answer::Right;
        }
        let now = self.step.load(Ordering::Relaxed);
        if now / 4 - begun / 4 >= REMEMBERED { Answer::Overtaken } else { Answer::Wrong }
    }
}

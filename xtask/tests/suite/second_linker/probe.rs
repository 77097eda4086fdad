//! Probes: one field each, with one relocation that shall have one value.

use crate::second_linker::range::Range;
use crate::second_linker::row::{Beyond, Counted, Row};
use crate::second_linker::target::{Tables, Target};

/// Bytes of the test section that a probe has for itself; what lies around its field must stay as it is.
pub(crate) const SLOT: usize = 16;

/// What bytes around fields hold.
pub(crate) const FILLER: u8 = 0xa5;

/// A relocation at a place, against a symbol of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe<'t> {
    pub(crate) row: &'t Row,
    /// Which one it is, and the number of its symbol.
    pub(crate) index: usize,
    /// What the relocation shall compute.
    pub(crate) value: i64,
    /// The addend, unless that follows from the value.
    addend: i64,
    /// Where its slot starts in the test section.
    pub(crate) slot: usize,
    /// Where its field starts in the test section.
    pub(crate) offset: usize,
}

/// What Linux makes of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The field gets the value.
    Direct,
    /// The field gets the distance to a stub.
    ThroughStub,
    /// The module is refused.
    Refused,
}

/// What makes a relocation compute a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) symbol: u64,
    pub(crate) addend: i64,
}

/// Where things lie that values are counted from.
#[derive(Debug)]
pub(crate) struct Scene<'t> {
    pub(crate) target: &'t Target,
    /// The test section.
    pub(crate) section: u64,
    pub(crate) tables: Tables,
}

impl<'t> Probe<'t> {
    /// Probes of all numbers of a machine, at the limits of what fits.
    pub(crate) fn at_limits(target: &'t Target) -> Vec<Probe<'t>> {
        Probe::all(target, |row| row.values())
    }

    /// Probes of all numbers of a machine, with values of all sizes; each time the same.
    pub(crate) fn at_random(target: &'t Target) -> Vec<Probe<'t>> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as i64
        };
        Probe::all(target, |row| {
            if row.counted == Counted::Nothing {
                return Vec::new();
            }
            let values = (0..24).map(|_| (random() >> (random() & 63)) / row.step * row.step);
            values.collect()
        })
    }

    pub(crate) fn all(target: &'t Target, mut values: impl FnMut(&Row) -> Vec<i64>) -> Vec<Probe<'t>> {
        const ADDENDS: [i64; 7] = [0, -4, 4, 0x7fff_f000, -0x7fff_f000, 0x1238, -0x1238];
        // A number that the table lacks is reported by itself.
        let rows = target.rows.iter().filter(|row| target.table.get(row.number).is_some());
        let values = rows.flat_map(|row| values(row).into_iter().map(move |value| (row, value)));
        let is_value = |row: &Row, value| {
            row.tried.takes(value) && (target.word_bits() == 64 || i32::try_from(value).is_ok())
        };
        let mut probes = Vec::new();
        for (row, value) in values.filter(|&(row, value)| is_value(row, value)) {
            match row.beyond {
                // The addend has a part in whether there is a stub.
                Beyond::StubUnlessNear(_) => {
                    for addend in [-2, 0, 2, 4] {
                        probes.push(Probe::new(row, probes.len(), value, addend));
                    }
                }
                _ => probes.push(Probe::new(row, probes.len(), value, ADDENDS[probes.len() % ADDENDS.len()])),
            }
        }
        probes
    }

    pub(crate) fn new(row: &'t Row, index: usize, value: i64, addend: i64) -> Probe<'t> {
        let slot = index * SLOT;
        // Never first: what lies before the field must be seen too.
        let within = row.within.map_or(index % 5, |within| 4 + within);
        Probe { row, index, value, addend, slot, offset: slot + within }
    }

    pub(crate) fn fate(&self) -> Fate {
        let fits = self.row.linux.takes(self.value);
        match self.row.beyond {
            Beyond::StubUnlessNear(near) if !near.takes(self.value.wrapping_sub(self.addend)) => {
                Fate::ThroughStub
            }
            _ if fits => Fate::Direct,
            Beyond::Stub => Fate::ThroughStub,
            Beyond::Refused | Beyond::StubUnlessNear(_) => Fate::Refused,
        }
    }

    /// Whether the second linker gives up at once, because what must be even is not.
    pub(crate) fn stops_ld(&self) -> bool {
        let must_be_even = matches!(self.row.ld, Range::EvenBetween(..));
        must_be_even && self.value % 2 != 0 && self.fate() != Fate::ThroughStub
    }

    /// The value to compute, or one that Linux takes for sure.
    pub(crate) fn harmless(&self) -> i64 {
        if self.fate() == Fate::Refused { 0 } else { self.value }
    }

    /// The address of the field.
    fn place(&self, scene: &Scene<'_>) -> i64 {
        scene.section.wrapping_add(self.offset as u64) as i64
    }

    /// What makes the relocation compute `value`.
    pub(crate) fn setting(&self, value: i64, scene: &Scene<'_>) -> Setting {
        let place = self.place(scene);
        let (got, slot) = (scene.tables.got as i64, scene.tables.slots[self.index]);
        let against = |sum: i64| {
            let symbol = scene.target.cut(sum.wrapping_sub(self.addend));
            Setting { symbol, addend: self.addend }
        };
        // The symbol's value does not count: that of each is another.
        let adding = |start: i64| {
            let symbol = scene.target.cut(scene.target.base as i64 + (1 << 32) + self.index as i64 * 0x12346);
            Setting { symbol, addend: value.wrapping_sub(start) }
        };
        match self.row.counted {
            Counted::Nothing | Counted::FromZero => against(value),
            Counted::FromPlace => against(value.wrapping_add(place)),
            // Anywhere in the page.
            Counted::FromPage => against(value.wrapping_add(place & !0xfff) | self.slot as i64 & 0xfff),
            Counted::FromGot => against(value.wrapping_add(got)),
            Counted::GotFromPlace => adding(got - place),
            Counted::Entry => adding(slot.entry as i64 - got),
            Counted::EntryFromPlace => adding(slot.entry as i64 - place),
            Counted::StubFromPlace => adding(slot.stub as i64 - place),
            Counted::StubFromGot => adding(slot.stub as i64 - got),
        }
    }

    /// The value of the symbol with which a relocation of the number that this one is like computes what this one does
    /// with `setting`, where `stub` leads on if it goes through one.
    pub(crate) fn like_symbol(&self, setting: Setting, scene: &Scene<'_>, stub: Option<u64>) -> u64 {
        let (got, slot) = (scene.tables.got, scene.tables.slots[self.index]);
        let place = self.place(scene) as u64;
        match self.row.counted {
            Counted::FromPlace => match (stub, self.row.beyond) {
                (Some(stub), Beyond::StubUnlessNear(_)) => stub,
                (Some(stub), _) => scene.target.cut(stub as i64 - setting.addend),
                (None, _) => setting.symbol,
            },
            Counted::Nothing | Counted::FromZero | Counted::FromPage => setting.symbol,
            Counted::FromGot => setting.symbol.wrapping_sub(got),
            Counted::GotFromPlace => got,
            Counted::Entry => slot.entry - got,
            Counted::EntryFromPlace => slot.entry,
            Counted::StubFromPlace => slot.stub.wrapping_sub(place),
            Counted::StubFromGot => slot.stub - got,
        }
    }

    /// How failures name it.
    pub(crate) fn label(&self) -> String {
        format!("{} of {:#x} (addend {:#x})", self.row.name, self.value, self.addend)
    }
}

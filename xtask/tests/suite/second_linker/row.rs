//! What is known of a relocation number, independently of the table under test.

use crate::second_linker::range::Range;

/// What a relocation's value is counted from. S is the symbol's value, A the addend, P the address of the field, GOT the
/// start of the module's table of addresses, G the address of the symbol's entry in it, L that of the symbol's stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// From nothing: the relocation has no value.
    Nothing,
    /// S + A
    FromZero,
    /// S + A - P
    FromPlace,
    /// Page(S + A) - Page(P), of pages of 4 KiB
    FromPage,
    /// S + A - GOT
    FromGot,
    /// GOT + A - P
    GotFromPlace,
    /// G + A - GOT
    Entry,
    /// G + A - P
    EntryFromPlace,
    /// L + A - P
    StubFromPlace,
    /// L + A - GOT
    StubFromGot,
}

/// What becomes of a value that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// The module is refused.
    Refused,
    /// The branch goes to a stub of the module, which goes on to S + A.
    Stub,
    /// Where S - P is not among these, whether or not A makes up for it, the branch goes to L + A: behind the start of
    /// a stub that goes on to S. Where it is, and A makes the value too large, the module is refused.
    StubUnlessNear(Range),
}

/// A relocation number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) number: u32,
    /// Its name in the psABI.
    pub(crate) name: &'static str,
    pub(crate) counted: Counted,
    /// The values that Linux takes.
    pub(crate) linux: Range,
    pub(crate) beyond: Beyond,
    /// The values that are tried: all, unless a stub does not lead everywhere.
    pub(crate) tried: Range,
    /// The values that the second linker takes.
    pub(crate) ld: Range,
    /// Why these differ.
    pub(crate) because: &'static str,
    /// The difference between one value and the next that can be told from it.
    pub(crate) step: i64,
    /// Bytes of the field, and what they hold before: an instruction or data.
    pub(crate) field: (usize, u64),
    /// How far behind a multiple of four the field lies; `None` if it may lie anywhere.
    pub(crate) within: Option<usize>,
    /// The number that computes the same without a table, of the values that the table's entries have.
    pub(crate) like: u32,
    /// Why the second linker makes something else of the number than Linux does; it is then compared by the number that
    /// it is like alone.
    pub(crate) unlike_ld: &'static str,
}

/// A number of which both linkers take the same values.
pub(crate) const fn row(
    number: u32,
    name: &'static str,
    counted: Counted,
    field: (usize, u64),
    fits: Range,
) -> Row {
    let (linux, ld, beyond, because) = (fits, fits, Beyond::Refused, "");
    Row {
        number,
        name,
        counted,
        linux,
        beyond,
        tried: Range::Any,
        ld,
        because,
        step: 1,
        field,
        within: None,
        like: number,
        unlike_ld: "",
    }
}

/// A field of data with something in it, which does not count: addends come with the relocations.
pub(crate) const fn data(bytes: usize) -> (usize, u64) {
    (bytes, 0x5ad2_c3b4_a596_8778)
}

/// A field of data that is zero.
pub(crate) const fn zeros(bytes: usize) -> (usize, u64) {
    (bytes, 0)
}

/// An instruction of four bytes.
pub(crate) const fn code(word: u32) -> (usize, u64) {
    (4, word as u64)
}

impl Row {
    /// The second linker takes other values than Linux.
    pub(crate) const fn ld_takes(mut self, ld: Range, because: &'static str) -> Row {
        (self.ld, self.because) = (ld, because);
        self
    }

    /// Its values are told apart in steps of so many bytes.
    pub(crate) const fn steps(mut self, step: i64) -> Row {
        self.step = step;
        self
    }

    /// The field lies so far behind a multiple of four.
    pub(crate) const fn at(mut self, within: usize) -> Row {
        self.within = Some(within);
        self
    }

    /// What does not reach goes through a stub.
    pub(crate) const fn or_stub(mut self) -> Row {
        self.beyond = Beyond::Stub;
        self
    }

    /// What does not reach goes through a stub, which leads so far.
    pub(crate) const fn or_stub_leading(mut self, tried: Range) -> Row {
        (self.beyond, self.tried) = (Beyond::Stub, tried);
        self
    }

    /// A symbol that is not near is reached through a stub.
    pub(crate) const fn or_stub_unless_near(mut self, near: Range) -> Row {
        self.beyond = Beyond::StubUnlessNear(near);
        self
    }

    /// The number that computes the same without a table.
    pub(crate) const fn like(mut self, number: u32) -> Row {
        self.like = number;
        self
    }

    /// The second linker makes something else of it.
    pub(crate) const fn unlike_ld(mut self, because: &'static str) -> Row {
        self.unlike_ld = because;
        self
    }

    /// Whether its symbols have an entry in the table of addresses.
    pub(crate) fn has_entry(&self) -> bool {
        matches!(self.counted, Counted::Entry | Counted::EntryFromPlace)
    }

    /// Whether its symbols have a stub, reached or not.
    pub(crate) fn has_stub(&self) -> bool {
        let stub = matches!(self.counted, Counted::StubFromPlace | Counted::StubFromGot);
        stub || matches!(self.beyond, Beyond::StubUnlessNear(_))
    }

    /// Values to try: the ends of both ranges and one step beyond, and some that are typical.
    pub(crate) fn values(&self) -> Vec<i64> {
        const PATTERN: i64 = 0x5a3c_96f0_1234_8765;
        if self.counted == Counted::Nothing {
            return vec![0];
        }
        let step = self.step;
        let mut values = vec![0, step, -step, 7 * step, -7 * step];
        for range in [self.linux, self.ld] {
            let ends = range.ends(step);
            values.extend(ends.iter().flatten().flat_map(|&end| [end - step, end, end + step]));
            if let Range::EvenBetween(..) = range {
                values.extend(ends.iter().flatten().flat_map(|&end| [end - 1, end + 1]));
                values.extend([1, -1]);
            }
        }
        if let Beyond::StubUnlessNear(near) = self.beyond {
            let ends = near.ends(step);
            values.extend(ends.iter().flatten().flat_map(|&end| [-4, -2, 0, 2, 4].map(|more| end + more)));
        }
        // Where each bit is told from its neighbours: of every size that fits, and of some that do not.
        values.extend((0..4).map(|bytes| (PATTERN >> (bytes * 16)) / step * step));
        values.extend((0..4).map(|bytes| (!PATTERN >> (bytes * 16)) / step * step));
        let ends = [i64::from(i32::MIN), i64::from(i32::MAX), i64::from(u32::MAX), i64::MIN, i64::MAX];
        values.extend(ends.map(|end| end / step * step));
        values.sort_unstable();
        values.dedup();
        values
    }
}

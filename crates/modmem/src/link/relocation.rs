//! Relocations as data: what each number means, one table a machine, evaluated by one engine.

use core::fmt;

/// What a relocation computes. S is the symbol's value, A the addend, P the run address of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Nothing: the relocation only marks something.
    Nothing,
    /// S + A
    SymbolPlusAddend,
    /// S + A - P
    SymbolPlusAddendMinusPlace,
}

/// Which bytes a relocation writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// None.
    None,
    /// Four bytes.
    Word32,
    /// Eight bytes.
    Word64,
}

impl Field {
    /// Bytes that the field takes.
    pub const fn size(self) -> usize {
        match self {
            Field::None => 0,
            Field::Word32 => 4,
            Field::Word64 => 8,
        }
    }
}

/// What the computed value must satisfy before it is cut to its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    Unchecked,
    /// The field, zero-extended to 64 bits, is the value.
    ZeroExtended,
    /// The field, sign-extended to 64 bits, is the value.
    SignExtended,
}

impl Check {
    pub(crate) const fn accepts(self, value: u64) -> bool {
        match self {
            Check::Unchecked => true,
            Check::ZeroExtended => value == value as u32 as u64,
            Check::SignExtended => value as i64 == value as i32 as i64,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Check::Unchecked => "any value",
            Check::ZeroExtended => "32 unsigned bits",
            Check::SignExtended => "32 signed bits",
        })
    }
}

/// One relocation type of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelocationType {
    /// Its number, `r_type`.
    pub number: u32,
    /// Its name in the psABI.
    pub name: &'static str,
    /// What it computes.
    pub expression: Expression,
    /// Where that goes.
    pub field: Field,
    /// What it must satisfy.
    pub check: Check,
}

/// A row of a machine's table.
pub(crate) const fn relocation(
    number: u32,
    name: &'static str,
    expression: Expression,
    field: Field,
    check: Check,
) -> RelocationType {
    RelocationType { number, name, expression, field, check }
}

/// Numbers that the table reaches; no machine with a table here goes higher.
pub(crate) const NUMBERS: usize = 64;

/// A machine's relocation types, found by number in one step.
#[derive(Clone, Copy, Debug)]
pub struct Relocations {
    by_number: [Option<RelocationType>; NUMBERS],
    steps: Steps,
}

/// What the engine does for a relocation without looking closer, by number. Types follow each other without a pattern
/// that a branch could be predicted by, so as much as possible of what differs between them is in masks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    /// All ones where P is subtracted.
    pub(crate) place: [u64; NUMBERS],
    /// All ones where the value must be that of its field, sign-extended.
    pub(crate) signed: [u64; NUMBERS],
    /// Bytes of the field; 0 for types that are rare, and numbers that are no type: these need a closer look.
    pub(crate) bytes: [u64; NUMBERS],
}

impl Steps {
    const NONE: Steps = Steps { place: [0; NUMBERS], signed: [0; NUMBERS], bytes: [0; NUMBERS] };

    const fn add(&mut self, kind: &RelocationType) {
        let place = match kind.expression {
            Expression::SymbolPlusAddend => 0,
            Expression::SymbolPlusAddendMinusPlace => u64::MAX,
            Expression::Nothing => return,
        };
        let (signed, bytes) = match (kind.check, kind.field) {
            (Check::Unchecked, field) => (0, field.size() as u64),
            (Check::SignExtended, Field::Word32) => (u64::MAX, 4),
            _ => return,
        };
        let number = kind.number as usize;
        self.place[number] = place;
        self.signed[number] = signed;
        self.bytes[number] = bytes;
    }
}

impl Relocations {
    /// Builds the table from its rows.
    ///
    /// # Panics
    /// While compiling, if a number does not fit or stands twice.
    pub(crate) const fn new(rows: &[RelocationType]) -> Relocations {
        let mut by_number = [None; NUMBERS];
        let mut steps = Steps::NONE;
        let mut row = 0;
        while row < rows.len() {
            let number = rows[row].number as usize;
            assert!(by_number[number].is_none(), "a relocation number stands twice");
            by_number[number] = Some(rows[row]);
            steps.add(&rows[row]);
            row += 1;
        }
        Relocations { by_number, steps }
    }

    /// The type of that number, if modules of this machine may carry it.
    pub fn get(&self, number: u32) -> Option<&RelocationType> {
        self.by_number.get(number as usize)?.as_ref()
    }

    pub(crate) fn steps(&self) -> &Steps {
        &self.steps
    }

    /// All types, by number.
    pub fn iter(&self) -> impl Iterator<Item = &RelocationType> {
        self.by_number.iter().flatten()
    }
}

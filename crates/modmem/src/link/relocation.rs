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
const NUMBERS: usize = 64;

/// A machine's relocation types, found by number in one step.
#[derive(Clone, Copy, Debug)]
pub struct Relocations {
    by_number: [Option<RelocationType>; NUMBERS],
}

impl Relocations {
    /// Builds the table from its rows.
    ///
    /// # Panics
    /// While compiling, if a number does not fit or stands twice.
    pub(crate) const fn new(rows: &[RelocationType]) -> Relocations {
        let mut by_number = [None; NUMBERS];
        let mut row = 0;
        while row < rows.len() {
            let number = rows[row].number as usize;
            assert!(by_number[number].is_none(), "a relocation number stands twice");
            by_number[number] = Some(rows[row]);
            row += 1;
        }
        Relocations { by_number }
    }

    /// The type of that number, if modules of this machine may carry it.
    #[inline(always)]
    pub fn get(&self, number: u32) -> Option<&RelocationType> {
        self.by_number.get(number as usize)?.as_ref()
    }

    /// All types, by number.
    pub fn iter(&self) -> impl Iterator<Item = &RelocationType> {
        self.by_number.iter().flatten()
    }
}

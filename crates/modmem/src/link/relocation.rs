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
    steps: [Step; NUMBERS],
}

/// A relocation type in the form that the engine evaluates. Types follow each other without a pattern that a branch
/// could be predicted by, so what differs between them is in masks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// All ones where P is subtracted.
    pub(crate) place: u64,
    /// All ones where the value must be the field's, sign-extended.
    pub(crate) signed: u64,
    /// All ones where the value must be the field's, zero-extended.
    pub(crate) unsigned: u64,
    /// Bytes of the field; 0 also for numbers that are no type.
    pub(crate) size: u8,
}

impl Step {
    const NONE: Step = Step { place: 0, signed: 0, unsigned: 0, size: 0 };

    const fn of(kind: &RelocationType) -> Step {
        const fn mask(set: bool) -> u64 {
            if set { u64::MAX } else { 0 }
        }
        Step {
            place: mask(matches!(kind.expression, Expression::SymbolPlusAddendMinusPlace)),
            signed: mask(matches!(kind.check, Check::SignExtended)),
            unsigned: mask(matches!(kind.check, Check::ZeroExtended)),
            size: match kind.expression {
                Expression::Nothing => 0,
                _ => kind.field.size() as u8,
            },
        }
    }
}

impl Relocations {
    /// Builds the table from its rows.
    ///
    /// # Panics
    /// While compiling, if a number does not fit or stands twice.
    pub(crate) const fn new(rows: &[RelocationType]) -> Relocations {
        let mut by_number = [None; NUMBERS];
        let mut steps = [Step::NONE; NUMBERS];
        let mut row = 0;
        while row < rows.len() {
            let number = rows[row].number as usize;
            assert!(by_number[number].is_none(), "a relocation number stands twice");
            by_number[number] = Some(rows[row]);
            steps[number] = Step::of(&rows[row]);
            row += 1;
        }
        Relocations { by_number, steps }
    }

    /// The type of that number, if modules of this machine may carry it.
    pub fn get(&self, number: u32) -> Option<&RelocationType> {
        self.by_number.get(number as usize)?.as_ref()
    }

    /// What the engine does for that number; nothing if it is no type.
    #[inline(always)]
    pub(crate) fn step(&self, number: u32) -> Step {
        self.steps.get(number as usize).copied().unwrap_or(Step::NONE)
    }

    /// All types, by number.
    pub fn iter(&self) -> impl Iterator<Item = &RelocationType> {
        self.by_number.iter().flatten()
    }
}

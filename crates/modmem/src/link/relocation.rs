//! Relocations as data: what each number means, one table a machine, evaluated by one engine.

use core::fmt;

/// What a relocation computes. S is the symbol's value, A the addend, P the run address of the field, GOT the start of
/// the module's table of addresses, G the symbol's place in it, L that of its stub, all as the psABIs have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Nothing: the relocation only marks something.
    Nothing,
    /// S + A
    SymbolPlusAddend,
    /// S + A - P
    SymbolPlusAddendMinusPlace,
    /// S + A + 0x8000: whose upper half, with the sign-extended lower half added, is S + A.
    SymbolPlusAddendRounded,
    /// Page(S + A) - Page(P), of pages of 4 KiB whatever the kernel's are.
    PageOfSymbolMinusPageOfPlace,
    /// S + A - P, and where that does not fit L + A - P.
    BranchMinusPlace,
    /// S + A - GOT
    SymbolPlusAddendMinusGot,
    /// GOT + A - P
    GotPlusAddendMinusPlace,
    /// G + A, counted from the start of the GOT.
    GotEntryPlusAddend,
    /// GOT + G + A - P
    GotEntryPlusAddendMinusPlace,
    /// L + A - P
    StubPlusAddendMinusPlace,
    /// L + A - GOT
    StubPlusAddendMinusGot,
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Expression::Nothing => "nothing",
            Expression::SymbolPlusAddend => "S + A",
            Expression::SymbolPlusAddendMinusPlace => "S + A - P",
            Expression::SymbolPlusAddendRounded => "S + A + 0x8000",
            Expression::PageOfSymbolMinusPageOfPlace => "Page(S + A) - Page(P)",
            Expression::BranchMinusPlace => "S + A - P, or L + A - P",
            Expression::SymbolPlusAddendMinusGot => "S + A - GOT",
            Expression::GotPlusAddendMinusPlace => "GOT + A - P",
            Expression::GotEntryPlusAddend => "G + A",
            Expression::GotEntryPlusAddendMinusPlace => "GOT + G + A - P",
            Expression::StubPlusAddendMinusPlace => "L + A - P",
            Expression::StubPlusAddendMinusGot => "L + A - GOT",
        })
    }
}

/// Some bits of a value, and where they go in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// The lowest bit of the value that is taken.
    pub from: u8,
    /// How many.
    pub count: u8,
    /// Where the lowest of them goes.
    pub to: u8,
}

impl Bits {
    const fn mask(self) -> u64 {
        if self.count >= 64 { u64::MAX } else { (1 << self.count) - 1 }
    }
}

#[cfg(feature = "finalize")]
impl Bits {
    /// The bits of the value that `word` has in their place.
    const fn gather(self, word: u64) -> u64 {
        (word >> self.to & self.mask()) << self.from
    }
}

const NO_BITS: Bits = Bits { from: 0, count: 0, to: 0 };

/// Which bits a relocation writes: up to two groups of bits in a word in the file's byte order. Others stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes of the word: 0, 1, 2, 4 or 8.
    bytes: u8,
    /// Whether the word is the one of four bytes that the place lies in, and does not begin at the place.
    aligned: bool,
    /// The bits that are written.
    mask: u64,
    parts: [Bits; 2],
    /// The bits of the word that each group becomes.
    masks: [u64; 2],
}

impl Field {
    /// No bytes.
    pub const NONE: Field = Field::whole(0);
    /// One byte.
    pub const BYTE: Field = Field::whole(1);
    /// Two bytes.
    pub const HALF: Field = Field::whole(2);
    /// Four bytes.
    pub const WORD: Field = Field::whole(4);
    /// Eight bytes.
    pub const DOUBLE: Field = Field::whole(8);

    const fn whole(bytes: u8) -> Field {
        Field::bits(bytes, bytes * 8, 0, 0)
    }

    /// A group of bits in a word of so many bytes.
    pub const fn bits(bytes: u8, count: u8, from: u8, to: u8) -> Field {
        let bits = Bits { from, count, to };
        let mask = bits.mask() << to;
        Field { bytes, aligned: false, mask, parts: [bits, NO_BITS], masks: [mask, 0] }
    }

    /// The same with a second group.
    #[must_use]
    pub const fn and(mut self, count: u8, from: u8, to: u8) -> Field {
        let bits = Bits { from, count, to };
        self.masks[1] = bits.mask() << to;
        self.mask |= self.masks[1];
        self.parts[1] = bits;
        self
    }

    /// The same with `count` more bits that become 0.
    #[must_use]
    pub const fn clearing(mut self, count: u8, to: u8) -> Field {
        self.mask |= Bits { from: 0, count, to }.mask() << to;
        self
    }

    /// The same in the aligned word of four bytes around the place.
    #[must_use]
    pub const fn in_aligned_word(mut self) -> Field {
        self.aligned = true;
        self
    }

    /// Bytes of the word.
    pub const fn size(self) -> usize {
        self.bytes as usize
    }

    /// The groups of bits.
    pub fn parts(&self) -> impl Iterator<Item = Bits> {
        self.parts.into_iter().filter(|part| part.count > 0)
    }

    /// Where the word begins for a relocation at `offset`.
    #[inline(always)]
    pub(crate) const fn start(self, offset: u64) -> u64 {
        if self.aligned { offset & !3 } else { offset }
    }

    /// The value whose bits `word` has in the field, as far as it has them.
    #[cfg(feature = "finalize")]
    pub(crate) const fn get(self, word: u64) -> u64 {
        let [first, second] = self.parts;
        first.gather(word) | second.gather(word)
    }

    /// `word` with the field set to `value`.
    #[inline(always)]
    pub(crate) const fn set(self, word: u64, value: u64) -> u64 {
        let ([first, second], masks) = (self.parts, self.masks);
        let first = value >> first.from << first.to & masks[0];
        word & !self.mask | first | value >> second.from << second.to & masks[1]
    }
}

/// The distances, from a field to its symbol without the addend, at which a branch goes there directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    bias: u64,
    limit: u64,
}

impl Reach {
    /// Any; but for one, which a closer look allows too.
    pub(crate) const ANY: Reach = Reach { bias: 0, limit: u64::MAX };

    /// From `-bias` to `limit - bias`, without the last.
    pub(crate) const fn new(bias: u64, limit: u64) -> Reach {
        Reach { bias, limit }
    }

    #[inline(always)]
    pub(crate) const fn contains(self, distance: u64) -> bool {
        distance.wrapping_add(self.bias) < self.limit
    }
}

/// What the computed value must satisfy before it is cut to its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    Unchecked,
    /// It is that many bits, zero-extended.
    Unsigned(u8),
    /// It is that many bits, sign-extended.
    Signed(u8),
    /// The same, and even.
    SignedEven(u8),
}

impl Check {
    /// What is added to a value so that all that are allowed have none of the bits of [`Check::reject`].
    const fn bias(self) -> u64 {
        match self {
            Check::Signed(bits) | Check::SignedEven(bits) if bits < 64 => 1 << (bits - 1),
            _ => 0,
        }
    }

    const fn reject(self) -> u64 {
        match self {
            Check::Unsigned(bits) | Check::Signed(bits) if bits < 64 => u64::MAX << bits,
            Check::SignedEven(bits) if bits < 64 => u64::MAX << bits | 1,
            Check::SignedEven(_) => 1,
            _ => 0,
        }
    }

    /// Whether the value is allowed.
    pub const fn accepts(self, value: u64) -> bool {
        value.wrapping_add(self.bias()) & self.reject() == 0
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Unchecked => f.write_str("any value"),
            Check::Unsigned(bits) => write!(f, "{bits} unsigned bits"),
            Check::Signed(bits) => write!(f, "{bits} signed bits"),
            Check::SignedEven(bits) => write!(f, "{bits} signed bits, and even"),
        }
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
    /// How far a branch goes without a stub.
    reach: Reach,
}

impl RelocationType {
    /// The same for a branch that goes through a stub where the symbol is further away than that.
    #[must_use]
    pub(crate) const fn within(mut self, reach: Reach) -> RelocationType {
        self.reach = reach;
        self
    }

    /// How far a branch goes without a stub.
    pub(crate) const fn reach(&self) -> Reach {
        self.reach
    }
}

/// A row of a machine's table.
pub(crate) const fn relocation(
    number: u32,
    name: &'static str,
    expression: Expression,
    field: Field,
    check: Check,
) -> RelocationType {
    RelocationType { number, name, expression, field, check, reach: Reach::ANY }
}

/// Numbers that a table reaches, from its first on; no machine with a table here has more.
pub(crate) const NUMBERS: usize = 64;

/// A machine's relocation types, found by number in one step.
#[derive(Clone, Copy, Debug)]
pub struct Relocations {
    first: u32,
    /// The type 0, where the others begin further up.
    zero: Option<RelocationType>,
    by_number: [Option<RelocationType>; NUMBERS],
    steps: [Step; NUMBERS],
}

/// What the engine does for a relocation without looking closer. Types follow each other without a pattern that a
/// branch could be predicted by, so as much as possible of what differs between them is in masks.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Step {
    /// Bytes of the field; 0 for types that are rare, and numbers that are no type: these need a closer look.
    pub(crate) bytes: u32,
    /// Bits of the place that do not count where its word is an aligned one.
    pub(crate) unaligned: u64,
    /// Added to S + A.
    pub(crate) added: u64,
    /// The bits of S + A that count.
    pub(crate) sum: u64,
    /// The bits of P that are subtracted.
    pub(crate) place: u64,
    /// An allowed value has none of `reject` after `bias` was added.
    pub(crate) bias: u64,
    pub(crate) reject: u64,
    /// The bits of the word that stay, and what goes between them.
    pub(crate) kept: u64,
    pub(crate) parts: [Part; 2],
    /// Whether S is the address of the symbol's entry in the table of addresses.
    pub(crate) entry: bool,
    /// Where S must be.
    pub(crate) reach: Reach,
}

/// [`Bits`] made ready: shifted right, masked, shifted left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    from: u32,
    to: u32,
    mask: u64,
}

impl Part {
    const NONE: Part = Part { from: 0, to: 0, mask: 0 };

    const fn of(bits: Bits) -> Part {
        Part { from: bits.from as u32, to: bits.to as u32, mask: bits.mask() }
    }

    #[inline(always)]
    const fn spread(self, value: u64) -> u64 {
        (value.wrapping_shr(self.from) & self.mask).wrapping_shl(self.to)
    }
}

impl Step {
    /// `word` with the field set to `value`.
    #[inline(always)]
    pub(crate) const fn set(&self, word: u64, value: u64) -> u64 {
        let [first, second] = self.parts;
        word & self.kept | first.spread(value) | second.spread(value)
    }

    const NONE: Step = Step {
        bytes: 0,
        unaligned: 0,
        added: 0,
        sum: 0,
        place: 0,
        bias: 0,
        reject: 0,
        kept: 0,
        parts: [Part::NONE; 2],
        entry: false,
        reach: Reach::ANY,
    };

    const fn of(kind: &RelocationType) -> Step {
        const PAGE: u64 = !0xfff;
        let (added, sum, place) = match kind.expression {
            Expression::SymbolPlusAddend => (0, u64::MAX, 0),
            Expression::SymbolPlusAddendRounded => (0x8000, u64::MAX, 0),
            Expression::SymbolPlusAddendMinusPlace
            | Expression::BranchMinusPlace
            | Expression::GotEntryPlusAddendMinusPlace => (0, u64::MAX, u64::MAX),
            Expression::PageOfSymbolMinusPageOfPlace => (0, PAGE, PAGE),
            _ => return Step::NONE,
        };
        let unaligned = if kind.field.aligned { 3 } else { 0 };
        let (bias, reject) = (kind.check.bias(), kind.check.reject());
        let entry = matches!(kind.expression, Expression::GotEntryPlusAddendMinusPlace);
        let (bytes, kept, reach) = (kind.field.bytes as u32, !kind.field.mask, kind.reach);
        let [first, second] = kind.field.parts;
        let parts = [Part::of(first), Part::of(second)];
        Step { bytes, unaligned, added, sum, place, bias, reject, kept, parts, entry, reach }
    }
}

impl Relocations {
    /// Builds the table from its rows, whose numbers are `first` or up to 63 more.
    ///
    /// # Panics
    /// While compiling, if a number does not fit or stands twice.
    pub(crate) const fn new(first: u32, rows: &[RelocationType]) -> Relocations {
        let mut by_number = [None; NUMBERS];
        let mut steps = [Step::NONE; NUMBERS];
        let mut row = 0;
        while row < rows.len() {
            let at = (rows[row].number - first) as usize;
            assert!(by_number[at].is_none(), "a relocation number stands twice");
            by_number[at] = Some(rows[row]);
            steps[at] = Step::of(&rows[row]);
            row += 1;
        }
        Relocations { first, zero: None, by_number, steps }
    }

    /// The same table, with a type 0 that lies below the others.
    #[must_use]
    pub(crate) const fn with_zero(mut self, name: &'static str) -> Relocations {
        self.zero = Some(relocation(0, name, Expression::Nothing, Field::NONE, Check::Unchecked));
        self
    }

    /// The same table, with types that need a closer look each time.
    #[must_use]
    pub(crate) const fn closer(mut self, numbers: &[u32]) -> Relocations {
        let mut index = 0;
        while index < numbers.len() {
            self.steps[(numbers[index] - self.first) as usize].bytes = 0;
            index += 1;
        }
        self
    }

    /// The type of that number, if modules of this machine may carry it.
    pub fn get(&self, number: u32) -> Option<&RelocationType> {
        match self.by_number.get(number.wrapping_sub(self.first) as usize) {
            Some(kind) => kind.as_ref(),
            None => self.zero.as_ref().filter(|zero| zero.number == number),
        }
    }

    /// The type that many after the first, for tables made from this one.
    pub(crate) const fn at(&self, index: usize) -> Option<&RelocationType> {
        self.by_number[index].as_ref()
    }

    #[inline(always)]
    pub(crate) fn step(&self, number: u32) -> Option<&Step> {
        self.steps.get(number.wrapping_sub(self.first) as usize)
    }

    /// All types, by number.
    pub fn iter(&self) -> impl Iterator<Item = &RelocationType> {
        self.zero.iter().chain(self.by_number.iter().flatten())
    }
}

//! What Linux does step by step, without any of the library's shortcuts: the order of relocations, and the PLTs.

use crate::arm64::module::{ADRP, CALL26, JUMP26, Relocation};

/// A section with code, and what is to be known to relocate it.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) index: u32,
    pub(crate) address: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) relocations: Vec<Relocation>,
}

/// A symbol: the section that it is defined in, and its value.
pub(crate) type Symbol = (u32, u64);

fn leads_out(symbols: &[Symbol], target: u32, relocation: &Relocation) -> bool {
    matches!(relocation.2, JUMP26 | CALL26) && symbols[relocation.1 as usize].0 != target
}

/// Brings branches to the front and sorts them (partition_branch_plt_relas, sort).
pub(crate) fn sorted(symbols: &[Symbol], target: u32, relocations: &[Relocation]) -> Vec<Relocation> {
    let mut all = relocations.to_vec();
    let (mut front, mut back) = (0, all.len().saturating_sub(1));
    while front < back {
        if leads_out(symbols, target, &all[front]) {
            front += 1;
        } else if leads_out(symbols, target, &all[back]) {
            all.swap(front, back);
        } else {
            back -= 1;
        }
    }
    all[..front].sort_by_key(|&(_, symbol, kind, addend)| (kind, symbol, addend));
    all
}

/// Entries and alignment that a section asks for (count_plts).
pub(crate) fn count(symbols: &[Symbol], target: u32, sorted: &[Relocation], erratum: bool) -> (u64, u64) {
    let (mut entries, mut alignment) = (0_u64, 1);
    for (index, relocation) in sorted.iter().enumerate() {
        let &(offset, symbol, kind, addend) = relocation;
        if leads_out(symbols, target, relocation) {
            let same = index > 0 && {
                let (_, other, other_kind, other_addend) = sorted[index - 1];
                (other_kind, other, other_addend) == (kind, symbol, addend)
            };
            entries += u64::from(addend != 0 || !same);
        } else if kind == ADRP && erratum {
            let safe = 2_u64 << (offset | 7).trailing_ones();
            if safe > 4096 { entries += 1 } else { alignment = alignment.max(safe) }
        }
    }
    if erratum {
        entries += entries.div_ceil(341);
    }
    (entries, alignment)
}

/// One PLT.
#[derive(Debug)]
pub(crate) struct Plt {
    pub(crate) address: u64,
    pub(crate) words: Vec<u32>,
    used: usize,
}

fn adrp(place: u64, target: u64, register: u32) -> u32 {
    let pages = ((target >> 12).wrapping_sub(place >> 12) & 0x1f_ffff) as u32;
    0x9000_0000 | (pages & 3) << 29 | (pages >> 2) << 5 | register
}

fn branch(opcode: u32, place: u64, target: u64) -> u32 {
    opcode | (target.wrapping_sub(place) >> 2) as u32 & 0x03ff_ffff
}

fn fits(value: u64, bits: u32) -> bool {
    let value = value as i64;
    (-(1 << (bits - 1))..1 << (bits - 1)).contains(&value)
}

fn is_forbidden(address: u64, erratum: bool) -> bool {
    erratum && address & 0xfff >= 0xff8
}

impl Plt {
    pub(crate) fn new(address: u64, size: usize) -> Plt {
        Plt { address, words: vec![0; size / 4], used: 0 }
    }

    fn at(&self, slot: usize) -> u64 {
        self.address + slot as u64 * 12
    }

    fn target(&self, slot: usize) -> u64 {
        let [adrp, add] = [self.words[slot * 3], self.words[slot * 3 + 1]];
        let pages = i64::from((((adrp >> 5 & 0x7_ffff) << 2 | adrp >> 29 & 3) << 11) as i32 >> 11);
        (self.at(slot) & !0xfff).wrapping_add((pages << 12) as u64) + u64::from(add >> 10 & 0xfff)
    }

    /// module_emit_plt_entry
    fn entry(&mut self, target: u64, erratum: bool) -> u64 {
        let mut slot = self.used;
        if is_forbidden(self.at(slot), erratum) {
            slot += 1;
        }
        let at = self.at(slot);
        let low = (target & 0xfff) as u32;
        let entry = [adrp(at, target, 16), 0x9100_0210 | low << 10, 0xd61f_0200];
        self.words[slot * 3..slot * 3 + 3].copy_from_slice(&entry);
        if let Some(last) = self.used.checked_sub(1)
            && self.words[last * 3 + 2] == 0xd61f_0200
            && self.target(last) == target
        {
            return self.at(last);
        }
        self.used = slot + 1;
        at
    }

    /// module_emit_veneer_for_adrp
    fn veneer(&mut self, place: u64, page: u64, register: u32) -> u64 {
        let mut slot = self.used;
        self.used += 1;
        if is_forbidden(self.at(slot), true) {
            slot = self.used;
            self.used += 1;
        }
        let at = self.at(slot);
        let back = branch(0x1400_0000, at + 8, place + 4);
        let add = 0x9100_0000 | register << 5 | register;
        self.words[slot * 3..slot * 3 + 3].copy_from_slice(&[adrp(at, page, register), add, back]);
        at
    }
}

/// The bits of ADR and ADRP that say how far.
const IMMEDIATE: u32 = 3 << 29 | 0x7_ffff << 5;

/// Relocates a section (apply_relocate_add): branches, ADRP, and words that are added.
pub(crate) fn relocate(code: &mut Code, symbols: &[Symbol], plt: &mut Plt, erratum: bool) {
    for (offset, symbol, kind, addend) in sorted(symbols, code.index, &code.relocations) {
        let place = code.address + offset;
        let value = symbols[symbol as usize].1.wrapping_add(addend as u64);
        let field = &mut code.bytes[offset as usize..offset as usize + 4];
        let word = u32::from_le_bytes(field.try_into().expect("4 bytes"));
        let word = match kind {
            JUMP26 | CALL26 => {
                let reaches = fits(value.wrapping_sub(place), 28);
                let target = if reaches { value } else { plt.entry(value, erratum) };
                branch(word & 0xfc00_0000, place, target)
            }
            ADRP if !is_forbidden(place, erratum) => word & !IMMEDIATE | adrp(place, value, 0) & IMMEDIATE,
            ADRP => {
                let distance = (value & !0xfff).wrapping_sub(place);
                if fits(distance, 21) {
                    let bits = distance as u32;
                    (word & !IMMEDIATE | (bits & 3) << 29 | (bits >> 2 & 0x7_ffff) << 5) & !(1 << 31)
                } else {
                    let veneer = plt.veneer(place, value & !0xfff, word & 31);
                    branch(0x1400_0000, place, veneer)
                }
            }
            // ADD_ABS_LO12_NC
            _ => word & !(0xfff << 10) | ((value & 0xfff) as u32) << 10,
        };
        field.copy_from_slice(&word.to_le_bytes());
    }
}

//! Code that depends on features of the CPU: sections of it, and barriers (arch/powerpc/lib/feature-fixups.c).

use super::Subject;
use super::insn::{LWSYNC, NOP, SYNC, redirect, target};
use crate::address::RunAddr;
use crate::finalize::Standing;
use crate::finalize::Variable;
use crate::finalize::{OutOfMemory, Rule};

/// CPU_FTR_LWSYNC (arch/powerpc/include/asm/cputable.h)
const LWSYNC_FEATURE: u16 = 7;
/// Bytes of `struct fixup_entry`.
const ENTRY: u64 = 24;

/// Which word of features something depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// `cpu_features`: features 0 to 31 here.
    Cpu,
    /// `mmu_features`: 32 to 63.
    Mmu,
}

impl Word {
    const fn first(self) -> u16 {
        match self {
            Word::Cpu => 0,
            Word::Mmu => 32,
        }
    }
}

/// Learns what the kernel's words say of a feature, once.
fn ask(subject: &mut Subject<'_, '_>, feature: u16) -> Variable {
    let variable = Variable::Feature(feature);
    if !subject.state.knows(variable) {
        let words = subject.kernel.words;
        let word = words.map(|words| if feature < 32 { words.cpu } else { words.mmu });
        subject.state.pin(variable, word.map(|word| u64::from(word >> (feature % 32) & 1)));
    }
    variable
}

/// One entry of a table of sections.
struct Section {
    mask: u32,
    value: u32,
    /// The code, and what stands for it.
    code: core::ops::Range<u32>,
    other: core::ops::Range<u32>,
}

/// `__ftr_fixup` and `__mmu_ftr_fixup`: code stays where masked features have a value, and is replaced otherwise.
pub(super) fn sections(subject: &mut Subject<'_, '_>, table: &str, word: Word) {
    let Some((table, size)) = subject.section(table) else { return };
    for index in 0..size / ENTRY {
        let at = table + index * ENTRY;
        let Some(section) = read(subject, at) else { continue };
        if subject.module.has_text(RunAddr(section.code.start.into())) {
            apply(subject, &section, word);
        }
    }
}

fn read(subject: &Subject<'_, '_>, at: RunAddr) -> Option<Section> {
    let field = |index: u64| subject.module.word32(at + index * 4);
    // Counted from the entry.
    let address = |index: u64| Some((at.0 as u32).wrapping_add(field(index)?));
    let section = Section {
        mask: field(0)?,
        value: field(1)?,
        code: address(2)?..address(3)?,
        other: address(4)?..address(5)?,
    };
    let ordered = section.code.start <= section.code.end && section.other.start <= section.other.end;
    (ordered && section.other.len() <= section.code.len()).then_some(section)
}

fn apply(subject: &mut Subject<'_, '_>, section: &Section, word: Word) {
    let original = part(subject, section, section.code.clone());
    let replaced = replacement(subject, section);
    let (Some(original), Some(replaced)) = (original, replaced) else { return };
    let start = RunAddr(section.code.start.into());
    let found = subject.module.found(start, original.len());
    let (is_original, is_replaced) = (found == Some(&original[..]), found == Some(&replaced[..]));
    let shown = if is_original == is_replaced { None } else { Some(is_original) };

    let (mut certain, mut known, mut leaning) = (true, 0, 0);
    let bits = (0..32u16).filter(|bit| section.mask >> bit & 1 != 0);
    for bit in bits.clone() {
        let variable = ask(subject, word.first() + bit);
        let value = subject.state.certain(variable);
        certain &= value.is_some();
        known |= u32::from(value.is_some()) << bit;
        leaning |= u32::from(subject.state.leaning(variable) == Some(1)) << bit;
    }
    // A feature that is known to be otherwise settles it, whatever the others are.
    let differs = (leaning ^ section.value) & section.mask;
    let decided = certain || differs & known != 0 || (section.value & !section.mask) != 0;
    let stays = leaning & section.mask == section.value;
    let stays = if decided { stays } else { shown.unwrap_or(stays) };
    let mut standing = Standing::Certain;
    if decided {
        if let (Some(first), true) = (bits.clone().next(), shown.is_some_and(|shown| shown != stays)) {
            standing = Standing::OutOfStep(Variable::Feature(word.first() + first));
        }
    } else {
        let unknown = section.mask & !known;
        for bit in bits {
            let variable = Variable::Feature(word.first() + bit);
            let wanted = u64::from(section.value >> bit & 1);
            match shown {
                // What stays shows all of them, what goes only the last one that can be to blame.
                Some(true) => subject.state.vote(variable, wanted),
                Some(false) if unknown == 1 << bit => subject.state.vote(variable, wanted ^ 1),
                _ => {
                    let lean = subject.state.leaning(variable).unwrap_or(0);
                    subject.state.rely(variable, lean);
                }
            }
        }
    }
    let code = if stays { original } else { replaced };
    subject.module.write(start, &code, Rule::Alternative, standing);
}

/// Bytes that the module has, copied.
fn part(subject: &Subject<'_, '_>, _: &Section, range: core::ops::Range<u32>) -> Option<alloc::vec::Vec<u8>> {
    let bytes = subject.module.ours(RunAddr(range.start.into()), range.len())?;
    let mut copy = alloc::vec::Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(copy)
}

/// The other code, its branches led to where they went, and NOPs for the rest.
fn replacement(subject: &Subject<'_, '_>, section: &Section) -> Option<alloc::vec::Vec<u8>> {
    let other = match section.other.is_empty() {
        true => alloc::vec::Vec::new(),
        false => part(subject, section, section.other.clone())?,
    };
    let mut code = alloc::vec::Vec::new();
    code.try_reserve_exact(section.code.len()).ok()?;
    for (offset, word) in (0..).step_by(4).zip(other.chunks_exact(4)) {
        let mut word = u32::from_be_bytes(*word.first_chunk()?);
        let (from, to) = (section.other.start + offset, section.code.start + offset);
        // Linux takes a branch to the very end for one inside too.
        let inside = section.other.start..=section.other.end;
        if let Some(target) = target(word, from).filter(|target| !inside.contains(target)) {
            word = redirect(word, to, target)?;
        }
        code.extend_from_slice(&word.to_be_bytes());
    }
    while code.len() + 4 <= section.code.len() {
        code.extend_from_slice(&NOP.to_be_bytes());
    }
    (code.len() == section.code.len()).then_some(code)
}

/// `__lwsync_fixup`: barriers that a CPU may have a lighter form of.
pub(super) fn barriers(subject: &mut Subject<'_, '_>) -> Result<(), OutOfMemory> {
    let sites = subject.sites("__lwsync_fixup")?;
    if sites.is_empty() {
        return Ok(());
    }
    let variable = ask(subject, LWSYNC_FEATURE);
    for site in sites {
        let site = RunAddr(u64::from(site.0 as u32));
        if !subject.module.has_text(site) {
            continue;
        }
        let (heavy, light) = (subject.module.word32(site).unwrap_or(SYNC), LWSYNC);
        let found = subject.module.found(site, 4).and_then(<[u8]>::first_chunk);
        let found = found.map(|&found| u32::from_be_bytes(found));
        let shown = [(heavy, 0), (light, 1)].into_iter().find(|&(word, _)| found == Some(word));
        let shown = shown.map(|(_, value)| value);
        let known = subject.state.certain(variable);
        if let (None, Some(value)) = (known, shown) {
            subject.state.vote(variable, value);
        }
        let value = known.or(shown).or(subject.state.leaning(variable)).unwrap_or(0);
        let standing = match shown {
            Some(shown) if shown != value => Standing::OutOfStep(variable),
            _ => Standing::Certain,
        };
        let word = if value == 1 { light } else { heavy };
        subject.module.write(site, &word.to_be_bytes(), Rule::Alternative, standing);
    }
    Ok(())
}

//! The file: its header, where tables end, what stands behind it.

use super::super::model::{Model, SHT_RELA, SHT_SYMTAB};
use crate::random::Random;

pub(super) fn end(model: &mut Model, random: &mut Random) -> Option<String> {
    const MARK: &[u8] = b"~Module signature appended~\n";
    Some(match random.below(6) {
        5 => {
            // Algorithm, hash, identifier's type, lengths of two, padding, length.
            let mut info = [0, 0, random.one(&[0, 1, 2, 3]), random.one(&[0, 5]), 0, 0, 0, 0];
            info[4] = random.one(&[0, 9]);
            let length: u32 = random.one(&[0, 16, 1 << 20, u32::MAX]);
            model.trailer.extend([7; 16]);
            model.trailer.extend(info);
            model.trailer.extend(length.to_be_bytes());
            model.trailer.extend(MARK);
            format!("a signature of {length:#x} bytes: {info:?}")
        }
        0 => {
            model.trailer.extend(b"\n");
            "a newline".to_owned()
        }
        1 => {
            model.trailer.extend(vec![0; 1 + random.below(100)]);
            "zeros".to_owned()
        }
        2 => {
            model.trailer.extend(MARK);
            "a mark without a signature".to_owned()
        }
        3 => {
            model.trailer.extend([1; 100]);
            model.trailer.extend([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 100]);
            model.trailer.extend(MARK);
            "a signature of nobody".to_owned()
        }
        _ => {
            model.cut = 1 + random.below(2000);
            format!("{} bytes cut off", model.cut)
        }
    })
}

pub(super) fn header(model: &mut Model, random: &mut Random) -> Option<String> {
    if random.percent(30) {
        let count = model.sections.len() as u16;
        let value = random.one(&[0, 1, count - 1, count, count + 1, 0xff00, 0xffff]);
        return Some(match random.below(2) {
            0 => {
                model.count = Some(value);
                format!("e_shnum {value}")
            }
            _ => {
                model.names_index = Some(value);
                format!("e_shstrndx {value}")
            }
        });
    }
    // e_ident's class, order, version, ABI; e_type, e_machine, e_version, e_entry, e_phoff, e_flags, e_ehsize, e_phnum,
    // e_shentsize. What says where sections are is written anew.
    let at = random.one(&[0, 4, 5, 6, 7, 8, 16, 18, 20, 24, 32, 48, 52, 54, 56, 58]);
    let value = random.one(&[0, 1, 2, 3, 62, 64, 0xff]);
    let before = model.header[at];
    model.header[at] = value;
    Some(format!("byte {at} from {before} to {value}"))
}

/// Tables that end within an entry, or early, and strings without an end.
pub(super) fn table_end(model: &mut Model, random: &mut Random) -> Option<String> {
    const SHT_STRTAB: u32 = 3;
    let is_table = |at: &usize| matches!(model.sections[*at].kind, SHT_SYMTAB | SHT_RELA | SHT_STRTAB);
    let tables: Vec<usize> = (1..model.sections.len()).filter(is_table).collect();
    let at = *tables.get(random.below(tables.len().max(1)))?;
    let is_names = at == model.names;
    let section = &mut model.sections[at];
    let bytes = section.bytes.len();
    let left = match random.below(5) {
        0 => 0,
        1 => bytes.saturating_sub(1),
        2 => bytes.saturating_sub(24),
        3 => bytes / 2,
        _ => bytes.min(1),
    };
    // The names' bytes are made when the file is written.
    match is_names {
        true => section.size = Some(left as u64),
        false => section.bytes.truncate(left),
    }
    Some(format!("{} ({at}) of {bytes:#x} to {left:#x}", section.name))
}

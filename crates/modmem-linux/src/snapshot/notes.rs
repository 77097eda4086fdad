//! ELF notes as `/sys/module/NAME/notes` has them: the build id is one.

/// Type of the note that holds the build id.
const BUILD_ID: u32 = 3;

/// The build id among the notes, in either byte order.
pub(crate) fn build_id(notes: &[u8]) -> Option<Vec<u8>> {
    build_id_in(notes, u32::from_le_bytes).or_else(|| build_id_in(notes, u32::from_be_bytes))
}

/// The note that holds a build id.
pub(crate) fn of_build_id(id: &[u8]) -> Vec<u8> {
    let mut note = [4, id.len() as u32, BUILD_ID].map(u32::to_le_bytes).concat();
    note.extend(b"GNU\0");
    note.extend(id);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

fn build_id_in(mut notes: &[u8], number: fn([u8; 4]) -> u32) -> Option<Vec<u8>> {
    loop {
        let (head, rest) = notes.split_first_chunk::<12>()?;
        let word = |at: usize| number([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (name_size, size, kind) = (word(0) as usize, word(4) as usize, word(8));
        let name = rest.get(..name_size)?;
        let rest = rest.get(name_size.next_multiple_of(4)..)?;
        let contents = rest.get(..size)?;
        if kind == BUILD_ID && name == b"GNU\0" && !contents.is_empty() {
            return Some(contents.to_vec());
        }
        // The last note need not be padded.
        notes = rest.get(size.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, contents: &[u8], bytes: fn(u32) -> [u8; 4]) -> Vec<u8> {
        let mut note = [bytes(name.len() as u32), bytes(contents.len() as u32), bytes(kind)].concat();
        for part in [name, contents] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn the_build_id_is_found_behind_other_notes_in_both_byte_orders() {
        for bytes in [u32::to_le_bytes, u32::to_be_bytes] {
            let notes =
                [note(b"Linux\0", 0x101, b"x", bytes), note(b"GNU\0", 3, b"twelve bytes", bytes)].concat();
            assert_eq!(build_id(&notes).as_deref(), Some(&b"twelve bytes"[..]));
            for length in 0..notes.len() {
                assert_eq!(build_id(&notes[..length]), None, "{length}");
            }
        }
    }

    #[test]
    fn a_build_id_alone_becomes_a_note() {
        assert_eq!(build_id(&of_build_id(b"seven by")).as_deref(), Some(&b"seven by"[..]));
        assert_eq!(build_id(&of_build_id(b"five!")).as_deref(), Some(&b"five!"[..]));
    }

    #[test]
    fn sizes_beyond_the_notes_are_no_build_id() {
        for size in [u32::MAX, u32::MAX - 3, 1 << 31] {
            assert_eq!(build_id(&[size.to_le_bytes(), size.to_le_bytes(), [3, 0, 0, 0]].concat()), None);
        }
    }
}

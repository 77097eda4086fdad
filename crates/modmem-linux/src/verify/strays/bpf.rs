//! BPF programs and trampolines of x86-64, by what their memory holds.
//!
//! The JIT keeps programs in packs, each behind a header that tells its size (kernel/bpf/core.c:bpf_jit_binary_pack_alloc;
//! before 5.18 in pages of its own, with their number: bpf_jit_binary_alloc). What a program does not use is filled with
//! breakpoints. Classic filters, seccomp's and sockets', are in no list of symbols; trampolines have no header and are in
//! that list.

/// What everything is rounded up to in a pack (BPF_PROG_CHUNK_SIZE).
pub(super) const CHUNK: usize = 64;
const PAGE: usize = 4096;
/// Where the image begins behind the header (BPF_IMAGE_ALIGNMENT).
const IMAGE: usize = 8;
const INT3: u8 = 0xcc;
/// Farther into a program no frame is set up (arch/x86/net/bpf_jit_comp.c:emit_prologue).
const PROLOGUE: usize = 32;
/// `push %rbp; mov %rsp, %rbp`
const FRAME: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];
const ENDBR: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
/// What kernels before 5.13 take for it on CPUs that run it faster, Nehalem and most of AMD's among them
/// (arch/x86/kernel/alternative.c:arch_init_ideal_nops).
const NOP5_OF_K8: [u8; 5] = [0x66, 0x66, 0x66, 0x66, 0x90];

/// The bytes of the program whose header `bytes` begin with; `None` if they do not look like one.
pub(super) fn program(bytes: &[u8]) -> Option<usize> {
    let header = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    let sizes = [header, header.checked_mul(PAGE)?];
    let fits = |size: &usize| *size >= CHUNK && size.is_multiple_of(CHUNK) && *size <= bytes.len();
    sizes.into_iter().filter(fits).find(|size| is_program(&bytes[..*size]))
}

/// Whether there is one program behind a header, and breakpoints before and behind it.
fn is_program(bytes: &[u8]) -> bool {
    // Before the image is filled, so is the rest of the header.
    let Some(start) = bytes.iter().skip(4).position(|byte| *byte != INT3).map(|at| at + 4) else {
        return false;
    };
    let code = &bytes[start..];
    let code = code.strip_prefix(&ENDBR).unwrap_or(code);
    // A NOP, or a call or jump to a trampoline that somebody attached.
    let attached = match code {
        [0xe8 | 0xe9, _, _, _, _, rest @ ..] => Some(rest),
        _ => None,
    };
    let Some(code) = code.strip_prefix(&NOP5).or_else(|| code.strip_prefix(&NOP5_OF_K8)).or(attached) else {
        return false;
    };
    let prologue = &code[..code.len().min(PROLOGUE)];
    start >= IMAGE && prologue.windows(FRAME.len()).any(|window| window == FRAME)
}

/// The bytes of what the kernel lists at the start of `bytes` and gave whole chunks to: up to the first chunk that is
/// free, or that something else begins in, of which `is_other` knows by the chunk's offset.
pub(super) fn image(bytes: &[u8], is_other: impl Fn(usize) -> bool) -> usize {
    let chunks = bytes.chunks(CHUNK).enumerate().skip(1);
    let mut ends = chunks.filter(|(number, chunk)| {
        let offset = number * CHUNK;
        is_free(chunk) || is_other(offset) || program(&bytes[offset..]).is_some()
    });
    ends.next().map_or(bytes.len(), |(number, _)| number * CHUNK)
}

/// Whether a chunk holds nothing: packs are filled with breakpoints, dispatchers with zeros.
fn is_free(chunk: &[u8]) -> bool {
    chunk.iter().all(|byte| *byte == INT3) || chunk.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program as Linux 7.3 had it: size, breakpoints, `endbr64; nopl; push %rbp; mov %rsp,%rbp`, code.
    fn made() -> Vec<u8> {
        let mut bytes = vec![INT3; 4 * CHUNK];
        bytes[..4].copy_from_slice(&(2 * CHUNK as u32).to_le_bytes());
        let code = [&ENDBR[..], &NOP5, &FRAME, &[0x31, 0xc0, 0xc9, 0xc3]].concat();
        bytes[20..20 + code.len()].copy_from_slice(&code);
        bytes
    }

    #[test]
    fn programs_are_known_by_header_and_prologue() {
        let good = made();
        assert_eq!(program(&good), Some(2 * CHUNK));
        // One that is attached to, and one of a kernel without ENDBR.
        let mut attached = good.clone();
        attached[24..29].copy_from_slice(&[0xe8, 1, 2, 3, 4]);
        assert_eq!(program(&attached), Some(2 * CHUNK));
        let mut plain = made();
        plain[20..24].fill(INT3);
        assert_eq!(program(&plain), Some(2 * CHUNK));
        let breaks: [fn(&mut Vec<u8>); 5] = [
            |bytes| bytes[0] += 1,
            |bytes| bytes[1] = 0x10,
            |bytes| bytes[6] = 0x90,
            |bytes| bytes[24] = 0x90,
            |bytes| bytes[29] = 0x90,
        ];
        for (number, change) in breaks.into_iter().enumerate() {
            let mut bad = made();
            change(&mut bad);
            assert_eq!(program(&bad), None, "{number}");
        }
        assert_eq!(program(&good[..CHUNK]), None);
        assert_eq!(program(&[]), None);
    }

    #[test]
    fn before_packs_headers_count_pages() {
        for nop in [NOP5, NOP5_OF_K8] {
            let mut bytes = vec![INT3; PAGE];
            bytes[..4].copy_from_slice(&1u32.to_le_bytes());
            let code = [&nop[..], &[0x66, 0x90], &FRAME].concat();
            bytes[100..100 + code.len()].copy_from_slice(&code);
            assert_eq!(program(&bytes), Some(PAGE));
        }
    }

    #[test]
    fn images_end_at_a_free_chunk_or_where_something_else_begins() {
        let mut bytes = vec![0x90; 2 * CHUNK];
        bytes.extend(made());
        assert_eq!(image(&bytes, |_| false), 2 * CHUNK);
        assert_eq!(image(&bytes, |offset| offset == CHUNK), CHUNK);
        let mut bytes = vec![0x90; CHUNK + 1];
        bytes.resize(5 * CHUNK, INT3);
        assert_eq!(image(&bytes, |_| false), 2 * CHUNK);
        assert_eq!(image(&[0x90; 2 * CHUNK], |_| false), 2 * CHUNK);
    }
}

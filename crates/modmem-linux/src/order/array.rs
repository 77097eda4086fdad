//! The array in which depmod has its modules: those of `modules.order` first, in that order, then the others as its
//! table of names has them. Their places decide who owns a symbol, who is numbered first, and the order of aliases.

use std::collections::HashMap;

/// Buckets of the table (depmod.c:depmod_init).
const BUCKETS: u32 = 512;

/// Sorts modules, given by name and by path without what compression adds, as depmod's array has them.
///
/// `order` is the text of `modules.order`; a path's first line in it counts (depmod.c:depmod_modules_sort).
pub(crate) fn array(modules: &[(&str, &str)], order: &str) -> Vec<usize> {
    let listed = listed(order);
    let mut array: Vec<usize> = (0..modules.len()).collect();
    array.sort_by_cached_key(|&at| {
        let (name, path) = modules[at];
        match listed.get(path) {
            Some(&line) => (line, 0, ""),
            None => (usize::MAX, hash(name.as_bytes()) % BUCKETS, name),
        }
    });
    array
}

/// The lines of `modules.order`; what stands behind the last newline is none.
pub(crate) fn listed(order: &str) -> HashMap<&str, usize> {
    let whole = order.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut lines = HashMap::new();
    for (at, line) in whole.split('\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        lines.entry(line).or_insert(at);
    }
    lines
}

/// Paul Hsieh's hash, which kmod's tables use (shared/hash.c:hash_superfast), as it is on little-endian machines.
fn hash(key: &[u8]) -> u32 {
    let pair = |at: usize| u32::from(u16::from_le_bytes([key[at], key[at + 1]]));
    let mut hash = key.len() as u32;
    let whole = key.len() & !3;
    for at in (0..whole).step_by(4) {
        hash = hash.wrapping_add(pair(at));
        hash = (hash << 16) ^ ((pair(at + 2) << 11) ^ hash);
        hash = hash.wrapping_add(hash >> 11);
    }
    // A single byte is a signed one.
    let signed = |at: usize| key[at].cast_signed() as i32 as u32;
    match key.len() - whole {
        3 => {
            hash = hash.wrapping_add(pair(whole));
            hash ^= hash << 16;
            hash ^= u32::from(key[whole + 2]) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        2 => {
            hash = hash.wrapping_add(pair(whole));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        1 => {
            hash = hash.wrapping_add(signed(whole));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    hash.wrapping_add(hash >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_modules_come_first_and_the_first_line_counts() {
        let modules = [("a", "kernel/a.ko"), ("b", "kernel/b.ko"), ("c", "kernel/c.ko")];
        let order = "kernel/c.ko\nkernel/a.ko\nkernel/c.ko\nkernel/b.ko";
        // The last line has no end, which depmod takes for damage.
        assert_eq!(array(&modules, order), [2, 0, 1]);
    }

    #[test]
    fn the_others_are_in_the_order_of_depmod_s_table() {
        // Found by depmod 30 itself, in a folder without modules.order.
        let names = NAMES_AS_DEPMOD_HAS_THEM;
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        let modules: Vec<(&str, &str)> = sorted.iter().map(|name| (*name, "")).collect();
        let found: Vec<&str> = array(&modules, "").into_iter().map(|at| sorted[at]).collect();
        assert_eq!(found, names);
    }

    const NAMES_AS_DEPMOD_HAS_THEM: &[&str] = &[
        "bc",
        "nvidia_modeset",
        "vboxnetflt",
        "sample_core",
        "hello",
        "snd_hda_intel",
        "spl",
        "crc16",
        "def",
        "mbcache",
        "ext4",
        "jbd2",
        "xyz_1",
        "v4l2loopback",
        "a",
        "x",
        "nvidia",
        "zfs",
        "ghij",
        "vboxdrv",
    ];
}

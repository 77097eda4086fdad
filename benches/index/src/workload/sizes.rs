//! How large module memories are: quantiles over all 4,230 modules of Debian's linux-image-6.12.117 for amd64.

use modmem_index::MemoryKind;

use crate::random::Random;

/// Bytes used at the 1/32, 3/32, ... 31/32 quantile of the modules that have this memory at all, and how many of a
/// thousand have it.
struct Sizes {
    per_mille: u64,
    quantiles: [u64; 16],
}

fn sizes(kind: MemoryKind) -> Sizes {
    let (per_mille, quantiles) = match kind {
        MemoryKind::Text => (
            999,
            [32, 272, 640, 944, 1344, 1797, 2359, 3072, 3952, 5093, 6691, 8907, 12544, 18336, 33908, 98265],
        ),
        MemoryKind::Data => (
            1000,
            [
                2255, 2491, 2680, 2912, 3174, 3445, 3734, 4112, 4668, 5316, 6282, 7508, 9472, 12707, 21925,
                65528,
            ],
        ),
        MemoryKind::RoData => (
            1000,
            [236, 604, 896, 1204, 1572, 1988, 2420, 2964, 3652, 4492, 5644, 7268, 9756, 13980, 24628, 74772],
        ),
        MemoryKind::RoAfterInit => {
            (400, [16, 16, 16, 32, 32, 48, 64, 80, 112, 144, 192, 256, 336, 464, 800, 2208])
        }
        MemoryKind::InitText => (870, [37, 37, 37, 44, 44, 44, 44, 51, 51, 51, 51, 77, 120, 193, 332, 859]),
        MemoryKind::InitData => (
            1000,
            [
                1451, 2001, 2362, 2685, 3068, 3397, 3816, 4220, 4785, 5522, 6529, 7681, 9314, 12459, 19468,
                49677,
            ],
        ),
        MemoryKind::InitRoData => {
            (17, [38, 48, 80, 104, 144, 688, 688, 1032, 1032, 1376, 1720, 2752, 3440, 4816, 8256, 15712])
        }
    };
    Sizes { per_mille, quantiles }
}

/// Bytes of that memory in a module taken at random; `None` if it has no such memory.
pub(crate) fn draw(kind: MemoryKind, random: &mut Random) -> Option<u64> {
    let sizes = sizes(kind);
    if random.below(1000) >= sizes.per_mille {
        return None;
    }
    // Between two quantiles, all sizes are taken as equally likely; the largest 1/32 are cut off.
    let step = random.below(15) as usize;
    let (low, high) = (sizes.quantiles[step], sizes.quantiles[step + 1]);
    Some(low + random.below(high - low + 1))
}

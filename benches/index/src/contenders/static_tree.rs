//! A tree of 16 keys a node in one array, without pointers, compared with AVX2: about the fastest search among sorted
//! keys. It is built once; nothing can be inserted or removed.
#![expect(unsafe_code, reason = "functions compiled for AVX2 are called after asking the processor")]

use std::arch::x86_64::{
    __m256i, _mm256_castsi256_pd, _mm256_cmpgt_epi64, _mm256_movemask_pd, _mm256_set_epi64x,
    _mm256_set1_epi64x,
};

use crate::timing::Lookup;
use crate::workload::Workload;

const FAN_OUT: usize = 16;

/// Sixteen keys, sorted: addresses with the highest bit flipped, because AVX2 compares signed numbers only.
#[repr(align(64))]
struct Node([__m256i; FAN_OUT / 4]);

impl Node {
    /// The place of the last key that is not above `wanted`; there is one.
    #[target_feature(enable = "avx2,popcnt")]
    #[inline]
    fn last_not_above(&self, wanted: i64) -> usize {
        let wanted = _mm256_set1_epi64x(wanted);
        let mut above = 0;
        for (quarter, &keys) in self.0.iter().enumerate() {
            let greater = _mm256_castsi256_pd(_mm256_cmpgt_epi64(keys, wanted));
            above |= _mm256_movemask_pd(greater) << (4 * quarter);
        }
        FAN_OUT - 1 - above.count_ones() as usize
    }
}

struct Piece {
    start: i64,
    size: u64,
    number: u32,
}

pub(super) struct StaticTree {
    /// From the root, one node, down to the starts of all ranges. The keys of a level are the first keys of the nodes
    /// of the level below.
    nodes: Box<[Node]>,
    /// Where in `nodes` each level but the root's begins.
    levels: Vec<usize>,
    /// By the place of its start in the lowest level.
    pieces: Box<[Piece]>,
}

impl StaticTree {
    /// `None` if the processor has no AVX2 or no POPCNT.
    pub(super) fn new(workload: &Workload) -> Option<StaticTree> {
        let able = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt");
        // SAFETY: the processor was asked.
        able.then(|| unsafe { StaticTree::build(workload) })
    }

    #[target_feature(enable = "avx2")]
    fn build(workload: &Workload) -> StaticTree {
        let mut keys: Vec<i64> = workload.ranges.iter().map(|range| key(range.extent.start)).collect();
        // Addresses below the first range are taken for ones behind it on the way down, and refused at the end.
        keys[0] = i64::MIN;
        let mut levels: Vec<Vec<Node>> = Vec::new();
        while levels.is_empty() || keys.len() > 1 {
            levels.insert(0, keys.chunks(FAN_OUT).map(|keys| node(keys)).collect());
            keys = keys.chunks(FAN_OUT).map(|keys| keys[0]).collect();
        }
        let starts = levels.iter().scan(0, |start, level| {
            *start += level.len();
            Some(*start)
        });
        let starts = starts.take(levels.len() - 1).collect();
        let pieces = workload.ranges.iter().map(|range| Piece {
            start: key(range.extent.start),
            size: range.extent.size,
            number: range.number(),
        });
        let pieces = pieces.collect();
        StaticTree { levels: starts, nodes: levels.into_iter().flatten().collect(), pieces }
    }

    #[target_feature(enable = "avx2,popcnt")]
    fn search(&self, address: u64) -> u32 {
        let wanted = key(address);
        let mut place = self.nodes[0].last_not_above(wanted);
        for &level in &self.levels {
            place = place * FAN_OUT + self.nodes[level + place].last_not_above(wanted);
        }
        let piece = &self.pieces[place];
        if wanted.wrapping_sub(piece.start) as u64 >= piece.size { 0 } else { piece.number }
    }
}

impl Lookup for StaticTree {
    #[inline]
    fn find(&self, address: u64) -> u32 {
        // SAFETY: the processor has both, or `new` would have built no tree.
        unsafe { self.search(address) }
    }
}

fn key(address: u64) -> i64 {
    (address ^ (1 << 63)) as i64
}

/// Missing keys are above all addresses that are asked for.
#[target_feature(enable = "avx2")]
fn node(keys: &[i64]) -> Node {
    let key = |place: usize| keys.get(place).copied().unwrap_or(i64::MAX);
    let quarter = |at: usize| _mm256_set_epi64x(key(at + 3), key(at + 2), key(at + 1), key(at));
    Node([quarter(0), quarter(4), quarter(8), quarter(12)])
}

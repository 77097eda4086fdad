//! What the picture shows, as data: windows of addresses, each covered by spans without gap or overlap.

use std::ops::Range;

use modmem::layout::{MemoryKind, PerKind};
use modmem::space::Protection;

/// What the picture is made from, as the loaded kernel tells it.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The kernel's release.
    pub(crate) release: String,
    /// Whose layout rules were used.
    pub(crate) profile: String,
    /// Whether init has not run and init memory is still there.
    pub(crate) before_init: bool,
    /// What limits how far the picture can be trusted.
    pub(crate) remarks: Vec<String>,
    pub(crate) page_size: u64,
    /// Bytes of the guard behind each block.
    pub(crate) guard: u64,
    /// Where memory comes from, with what each range is for; they may overlap or be the same.
    pub(crate) ranges: Vec<(&'static str, Range<u64>)>,
    /// Where the kernel itself lies, if that is known, and where its code ends.
    pub(crate) kernel: Option<KernelSpan>,
    /// What nobody has taken.
    pub(crate) holes: Vec<Range<u64>>,
    /// Names, in load order.
    pub(crate) modules: Vec<String>,
    pub(crate) memories: Vec<Memory>,
    /// Bytes of blocks that init discard gave back.
    pub(crate) given_back: u64,
    /// Modules that could not be loaded.
    pub(crate) failed: usize,
}

/// The kernel's own addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelSpan {
    pub(crate) range: Range<u64>,
    pub(crate) text_end: Option<u64>,
}

/// One type of memory of one module.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    /// Which module, counted in load order.
    pub(crate) module: usize,
    pub(crate) kind: MemoryKind,
    pub(crate) range: Range<u64>,
    /// Bytes from the start that sections take; the rest is padding.
    pub(crate) used: u64,
    pub(crate) protection: Protection,
    /// Its largest sections, in words.
    pub(crate) sections: String,
}

impl Memory {
    pub(crate) fn allocated(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Where padding starts.
    pub(crate) fn used_end(&self) -> u64 {
        self.range.start + self.used.min(self.allocated())
    }
}

/// The picture.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) facts: Facts,
    /// Ascending.
    pub(crate) windows: Vec<Window>,
    pub(crate) totals: PerKind<Total>,
    /// Characters of an address: two and a digit for each four bits that the machine's addresses have.
    address: usize,
}

/// Addresses that memory for modules comes from.
#[derive(Debug)]
pub(crate) struct Window {
    /// What comes from here: `text and data`.
    pub(crate) title: String,
    pub(crate) range: Range<u64>,
    /// Ascending; they cover the whole window and do not overlap.
    pub(crate) spans: Vec<Span>,
}

/// Addresses that are all the same thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) range: Range<u64>,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A memory, by its place among the facts.
    Memory(usize),
    /// The guard behind that memory.
    Guard(usize),
    Free,
    /// Taken, by no module.
    Reserved,
}

impl Span {
    pub(crate) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Memories of one type together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) memories: u64,
    pub(crate) used: u64,
    pub(crate) allocated: u64,
}

impl Total {
    fn add(self, other: Total) -> Total {
        Total {
            memories: self.memories + other.memories,
            used: self.used + other.used,
            allocated: self.allocated + other.allocated,
        }
    }

    pub(crate) fn padding(self) -> u64 {
        self.allocated - self.used
    }
}

/// Memories of one module that follow each other with nothing but guards between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) module: usize,
    /// From the first memory to the end of the last; the guard behind that one is not part of it.
    pub(crate) range: Range<u64>,
}

impl Map {
    pub(crate) fn new(mut facts: Facts) -> Map {
        facts.memories.sort_by_key(|memory| memory.range.start);
        let mut totals = PerKind::from_fn(|_| Total::default());
        for memory in &facts.memories {
            let one = Total {
                memories: 1,
                used: memory.used_end() - memory.range.start,
                allocated: memory.allocated(),
            };
            totals[memory.kind] = totals[memory.kind].add(one);
        }
        let windows = windows(&facts.ranges).into_iter().map(|(title, range)| {
            let spans = cover(&range, &facts);
            Window { title, range, spans }
        });
        let windows: Vec<Window> = windows.collect();
        let short = windows.iter().all(|window| window.range.end <= 1 << 32);
        Map { windows, totals, facts, address: if short { 10 } else { 18 } }
    }

    /// An address as it is written on the machine.
    pub(crate) fn address(&self, address: u64) -> String {
        format!("{address:#0width$x}", width = self.address)
    }

    /// How many characters that are.
    pub(crate) fn address_width(&self) -> usize {
        self.address
    }

    /// The kernel, where it lies between the window of that index and the one before it.
    pub(crate) fn kernel_before(&self, window: usize) -> Option<&KernelSpan> {
        let before = self.windows.get(window.checked_sub(1)?)?;
        let gap = before.range.end..=self.windows.get(window)?.range.start;
        self.facts.kernel.as_ref().filter(|kernel| {
            !kernel.range.is_empty() && gap.contains(&kernel.range.start) && gap.contains(&kernel.range.end)
        })
    }

    pub(crate) fn total(&self) -> Total {
        self.totals.0.into_iter().fold(Total::default(), Total::add)
    }

    /// What may be done with memories of a type; more than one answer while init of only some modules has run.
    pub(crate) fn access(&self, kind: MemoryKind) -> String {
        let mut found: Vec<String> = Vec::new();
        for memory in self.facts.memories.iter().filter(|memory| memory.kind == kind) {
            let protection = memory.protection.to_string();
            if !found.contains(&protection) {
                found.push(protection);
            }
        }
        found.join(" ")
    }

    /// Bytes that the end of init gives back.
    pub(crate) fn init_bytes(&self) -> u64 {
        let init = MemoryKind::ALL.into_iter().filter(|kind| kind.is_init());
        init.map(|kind| self.totals[kind].allocated).sum()
    }

    /// How many guards there are, and their bytes.
    pub(crate) fn guards(&self) -> (u64, u64) {
        let guards = self.windows.iter().flat_map(|window| &window.spans);
        let guards = guards.filter(|span| matches!(span.what, What::Guard(_)));
        guards.fold((0, 0), |(count, bytes), span| (count + 1, bytes + span.bytes()))
    }

    pub(crate) fn has_reserved(&self) -> bool {
        self.windows.iter().flat_map(|window| &window.spans).any(|span| span.what == What::Reserved)
    }

    /// A memory's module by name.
    pub(crate) fn name_of(&self, module: usize) -> &str {
        self.facts.modules.get(module).map_or("", String::as_str)
    }

    pub(crate) fn memory(&self, index: usize) -> &Memory {
        &self.facts.memories[index]
    }

    /// Which modules' memories lie together in a window, ascending.
    pub(crate) fn runs(&self, window: &Window) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut joined = false;
        for span in &window.spans {
            match span.what {
                What::Guard(_) => {}
                What::Free | What::Reserved => joined = false,
                What::Memory(index) => {
                    let module = self.memory(index).module;
                    match runs.last_mut() {
                        Some(last) if joined && last.module == module => last.range.end = span.range.end,
                        _ => runs.push(Run { module, range: span.range.clone() }),
                    }
                    joined = true;
                }
            }
        }
        runs
    }
}

impl Window {
    /// From the first to the last byte that is taken.
    pub(crate) fn taken_extent(&self) -> Option<Range<u64>> {
        let mut taken = self.spans.iter().filter(|span| span.what != What::Free);
        let first = taken.next()?;
        let last = taken.next_back().unwrap_or(first);
        Some(first.range.start..last.range.end)
    }

    /// Bytes that are taken.
    pub(crate) fn taken(&self) -> u64 {
        self.spans.iter().filter(|span| span.what != What::Free).map(Span::bytes).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Joins ranges that overlap, and says what each of the results is for.
fn windows(ranges: &[(&'static str, Range<u64>)]) -> Vec<(String, Range<u64>)> {
    let all: Vec<&str> = ranges.iter().map(|(title, _)| *title).collect();
    let mut ranges: Vec<_> = ranges.iter().filter(|(_, range)| !range.is_empty()).cloned().collect();
    ranges.sort_by_key(|(_, range)| range.start);
    let mut windows: Vec<(Vec<&str>, Range<u64>)> = Vec::new();
    for (title, range) in ranges {
        match windows.last_mut() {
            Some((titles, last)) if range.start < last.end => {
                titles.push(title);
                last.end = last.end.max(range.end);
            }
            _ => windows.push((vec![title], range)),
        }
    }
    // What a range is tried for first comes first.
    let order = |title: &&str| all.iter().position(|known| known == title);
    windows
        .into_iter()
        .map(|(mut titles, range)| {
            titles.sort_by_key(order);
            (titles.join(" and "), range)
        })
        .collect()
}

/// What lies where in a window.
fn cover(window: &Range<u64>, facts: &Facts) -> Vec<Span> {
    let memories = facts.memories.iter().enumerate();
    let memories =
        memories.map(|(index, memory)| Span { range: memory.range.clone(), what: What::Memory(index) });
    let holes = facts.holes.iter().map(|hole| Span { range: hole.clone(), what: What::Free });
    let mut known: Vec<Span> = memories.chain(holes).collect();
    known.sort_by_key(|span| span.range.start);
    let mut spans: Vec<Span> = Vec::with_capacity(known.len() * 2 + 1);
    let mut cursor = window.start;
    for mut span in known {
        span.range = span.range.start.max(cursor)..span.range.end.min(window.end);
        if span.range.is_empty() {
            continue;
        }
        fill(&mut spans, cursor..span.range.start, facts.guard);
        cursor = span.range.end;
        spans.push(span);
    }
    fill(&mut spans, cursor..window.end, facts.guard);
    spans
}

/// Says what addresses are that are neither a memory nor free: the guard behind a memory, then a reservation.
fn fill(spans: &mut Vec<Span>, range: Range<u64>, guard: u64) {
    let mut start = range.start;
    if let Some(&Span { what: What::Memory(index), .. }) = spans.last() {
        let end = range.end.min(start.saturating_add(guard));
        if start < end {
            spans.push(Span { range: start..end, what: What::Guard(index) });
            start = end;
        }
    }
    if start < range.end {
        spans.push(Span { range: start..range.end, what: What::Reserved });
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one hole is a list of ranges")]
pub(crate) mod tests {
    use super::*;

    const BASE: u64 = 0xffff_ffff_c000_0000;
    const END: u64 = 0xffff_ffff_ff00_0000;
    const PAGE: u64 = 0x1000;

    /// Modules of `memories` each, one behind the other, each memory with its guard; sizes vary.
    pub(crate) fn facts(names: &[String], kinds: &[MemoryKind]) -> Facts {
        let mut memories = Vec::new();
        let mut cursor = BASE;
        for module in 0..names.len() {
            for (place, &kind) in kinds.iter().enumerate() {
                let pages = 1 + ((module * 7 + place * 3) % 11) as u64;
                let used = pages * PAGE - ((module * 613 + place * 97) % 4096) as u64;
                memories.push(Memory {
                    module,
                    kind,
                    range: cursor..cursor + pages * PAGE,
                    used,
                    protection: Protection::settled(kind),
                    sections: String::new(),
                });
                cursor += (pages + 1) * PAGE;
            }
        }
        Facts {
            release: "6.12.0-test".into(),
            page_size: PAGE,
            guard: PAGE,
            ranges: vec![("text", BASE..END), ("data", BASE..END)],
            holes: vec![cursor..END],
            modules: names.to_vec(),
            memories,
            ..Facts::default()
        }
    }

    pub(crate) fn map(modules: usize) -> Map {
        let names: Vec<String> = (0..modules).map(|number| format!("module_{number}")).collect();
        Map::new(facts(&names, &MemoryKind::ALL[..4]))
    }

    /// Text at 0xb0000000, data at 0xf1000000: 32-bit PowerPC's book3s/32.
    pub(crate) fn two_windows() -> Map {
        let text = 0xb000_0000..0xc000_0000;
        let data = 0xf100_0000..0xfe00_0000;
        let memory = |module, kind: MemoryKind, start: u64, pages: u64, used| Memory {
            module,
            kind,
            range: start..start + pages * PAGE,
            used,
            protection: Protection::settled(kind),
            sections: String::new(),
        };
        Map::new(Facts {
            release: "6.12.0-powerpc".into(),
            page_size: PAGE,
            guard: PAGE,
            ranges: vec![("text", text.clone()), ("data", data.clone())],
            kernel: Some(KernelSpan { range: 0xc000_0000..0xc0b1_9000, text_end: Some(0xc061_c000) }),
            holes: vec![0xb000_8000..text.end, 0xf101_3000..data.end],
            modules: vec!["loop".into(), "isofs".into()],
            memories: vec![
                memory(0, MemoryKind::Text, text.start, 3, 0x2800),
                memory(1, MemoryKind::Text, text.start + 4 * PAGE, 3, 0x2fff),
                memory(0, MemoryKind::Data, data.start, 8, 0x7123),
                memory(0, MemoryKind::RoData, data.start + 9 * PAGE, 2, 0x1fff),
                memory(1, MemoryKind::Data, data.start + 12 * PAGE, 6, 0x5003),
            ],
            ..Facts::default()
        })
    }

    fn assert_covered(map: &Map) {
        for window in &map.windows {
            let mut cursor = window.range.start;
            for span in &window.spans {
                assert_eq!(span.range.start, cursor, "gap or overlap before {span:?}");
                assert!(span.range.start < span.range.end, "{span:?}");
                cursor = span.range.end;
            }
            assert_eq!(cursor, window.range.end);
        }
    }

    #[test]
    fn spans_cover_every_window_without_gap_or_overlap() {
        assert_covered(&map(0));
        assert_covered(&map(1));
        assert_covered(&map(300));
        assert_covered(&two_windows());
    }

    #[test]
    fn a_guard_lies_behind_each_block() {
        let map = map(30);
        let spans = &map.windows[0].spans;
        for (index, span) in spans.iter().enumerate() {
            if let What::Memory(memory) = span.what {
                assert_eq!(spans[index + 1].what, What::Guard(memory));
                assert_eq!(spans[index + 1].bytes(), PAGE);
            }
        }
        assert_eq!(map.guards(), (120, 120 * PAGE));
    }

    #[test]
    fn memories_that_share_a_block_share_its_guard() {
        let mut facts = facts(&["old".into()], &[MemoryKind::Text, MemoryKind::RoData]);
        let end = facts.memories[0].range.end;
        let length = facts.memories[1].allocated();
        facts.memories[1].range = end..end + length;
        facts.holes = vec![end + length + PAGE..END];
        let map = Map::new(facts);
        let whats: Vec<What> = map.windows[0].spans.iter().map(|span| span.what).collect();
        assert_eq!(whats, [What::Memory(0), What::Memory(1), What::Guard(1), What::Free]);
    }

    #[test]
    fn padding_is_what_is_allocated_and_not_used() {
        let map = map(30);
        let total = map.total();
        let padding: u64 = map.facts.memories.iter().map(|memory| memory.range.end - memory.used_end()).sum();
        assert_eq!(total.padding(), padding);
        assert_eq!(total.allocated - total.used, padding);
        assert_eq!(total.memories, 120);
        assert_eq!(map.totals[MemoryKind::Text].memories, 30);
        assert_eq!(map.totals[MemoryKind::InitText], Total::default());
    }

    #[test]
    fn a_type_whose_memories_differ_in_protection_has_both_named() {
        let mut facts =
            facts(&["live".into(), "coming".into()], &[MemoryKind::RoAfterInit, MemoryKind::InitText]);
        facts.memories[2].protection = Protection::formed(MemoryKind::RoAfterInit);
        let map = Map::new(facts);
        assert_eq!(map.access(MemoryKind::RoAfterInit), "r-- rw-");
        assert_eq!(map.access(MemoryKind::InitText), "r-x");
        assert_eq!(map.init_bytes(), map.totals[MemoryKind::InitText].allocated);
    }

    #[test]
    fn what_neither_a_module_nor_a_hole_takes_is_reserved() {
        let mut facts = facts(&["one".into()], &[MemoryKind::Text]);
        let end = facts.memories[0].range.end;
        facts.holes = vec![end + 4 * PAGE..END - PAGE];
        let map = Map::new(facts);
        let spans = &map.windows[0].spans;
        let whats: Vec<(What, u64)> = spans.iter().map(|span| (span.what, span.bytes() / PAGE)).collect();
        assert_eq!(whats[1..3], [(What::Guard(0), 1), (What::Reserved, 3)]);
        assert_eq!(whats[4], (What::Reserved, 1));
        assert!(map.has_reserved());
        assert_eq!(map.windows[0].taken_extent(), Some(BASE..END));
    }

    #[test]
    fn ranges_that_are_one_make_one_window_and_those_apart_two() {
        assert_eq!(map(1).windows[0].title, "text and data");
        let two = two_windows();
        let titles: Vec<&str> = two.windows.iter().map(|window| window.title.as_str()).collect();
        assert_eq!(titles, ["text", "data"]);
        assert_eq!(two.windows[0].taken_extent(), Some(0xb000_0000..0xb000_8000));
    }

    #[test]
    fn a_kernel_between_two_windows_is_found_there_and_nowhere_else() {
        let mut facts = two_windows().facts;
        let between = |facts: Facts| Map::new(facts).kernel_before(1).is_some();
        assert!(between(two_windows().facts));
        assert!(Map::new(two_windows().facts).kernel_before(0).is_none());
        facts.kernel = Some(KernelSpan { range: 0xbfff_0000..0xc100_0000, text_end: None });
        assert!(!between(facts));
        let mut facts = two_windows().facts;
        facts.kernel = None;
        assert!(!between(facts));
        assert_eq!(two_windows().address(0xb000_0000), "0xb0000000");
        assert_eq!(map(1).address(BASE), "0xffffffffc0000000");
    }

    #[test]
    fn a_range_that_is_tried_first_is_named_before_the_one_behind_it() {
        let mut facts = two_windows().facts;
        facts.ranges = vec![("text", 0xbe00_0000..0xc000_0000), ("fallback", 0xbc00_0000..0xc000_0000)];
        let map = Map::new(facts);
        assert_eq!((&*map.windows[0].title, map.windows.len()), ("text and fallback", 1));
    }

    #[test]
    fn a_module_whose_memories_are_torn_apart_makes_several_runs() {
        let map = two_windows();
        let data: Vec<usize> = map.runs(&map.windows[1]).iter().map(|run| run.module).collect();
        assert_eq!(data, [0, 1]);
        let joined = &map.runs(&map.windows[1])[0].range;
        assert_eq!(joined.clone(), 0xf100_0000..0xf100_b000);
    }
}

//! What a map asks for at once costs address space, not memory: only pages of entries that are used become resident.
#![cfg(all(target_os = "linux", target_pointer_width = "64", not(loom)))]

use modmem_index::{AddressIndex, Extent, Form, MemoryKind, Owner, OwnerId, PageMap, Window};

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn entries_become_resident_where_ranges_are_inserted() {
    // 64 GiB of addresses, which are 64 MiB of entries; and a whole 47-bit space.
    let flat = Window { extent: Extent { start: 1 << 40, size: 64 << 30 }, form: Form::Flat };
    let sparse = Window { extent: Extent { start: 0, size: 1 << 47 }, form: Form::TwoLevel };
    for (window, requested) in [(flat, 64 << 20), (sparse, 1 << 20)] {
        let before = resident_kib();
        let map = PageMap::<u64>::new(&[window], 12).unwrap();
        assert!(map.memory_bytes() >= requested);
        let owner = Owner::new(OwnerId::new(7).unwrap(), MemoryKind::Text);
        for n in 0..10 {
            let start = window.extent.start + n * (window.extent.size / 10);
            map.insert(Extent { start, size: 0x5000 }, owner).unwrap();
            assert_eq!(map.find(start + 0x4fff), Some(owner));
        }
        let grown = resident_kib() - before;
        assert!(grown < 1024, "{grown} KiB became resident for ten ranges ({:?})", window.form);
    }
}

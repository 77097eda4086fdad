//! Time to read grows as files do: four times as much must not take much more than four times as long. Of what is quadratic
//! four times as much takes sixteen times as long.

use std::{
    fmt::Write as _,
    sync::OnceLock,
    time::{Duration, Instant},
};

use modmem::{RunAddr, verify::Guest as _};
use modmem_linux::{
    snapshot::{Locator, MemoryRecords, Snapshot, SymbolTable},
    verify::SnapshotGuest,
};

/// What is measured by clocks of busy machines: this much more, or this short, is no sign of anything.
const MORE: u32 = 10;
const SHORT: Duration = Duration::from_millis(60);

/// The time that this thread ran: what else a busy machine does is not in it.
fn spent() -> Duration {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ran = ran.and_then(|text| text.split(' ').next()?.parse().ok());
    ran.map_or_else(|| BEGUN.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// Holds the time of `work` on a text of so many lines and of four times as many against each other.
pub(crate) fn grows(what: &str, count: usize, line: impl Fn(usize, &mut String), work: impl Fn(&str)) {
    let time = |count: usize| {
        let mut text = String::new();
        (0..count).for_each(|number| line(number, &mut text));
        let measure = || {
            let start = spent();
            work(&text);
            spent().saturating_sub(start)
        };
        (0..5).map(|_| measure()).min().unwrap_or_default()
    };
    let (once, four) = (time(count), time(4 * count));
    assert!(
        four < SHORT || four < once * MORE,
        "{what}: {once:?} for {count}, {four:?} for four times as many"
    );
}

/// A snapshot of these members.
fn snapshot(members: &[(&str, &str)]) -> Snapshot {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, text: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    };
    add("modmem-snapshot", "format 1\n");
    add("kernel", "6.12\n");
    members.iter().for_each(|(name, text)| add(name, text));
    add("end", "");
    Snapshot::from_tar("grown", &tar.into_inner().unwrap()[..]).unwrap()
}

#[test]
fn symbols_of_one_name_and_at_one_address() {
    let ask = |text: &str| {
        let snapshot = snapshot(&[("modules", "m 4096 0 - Live 0x1000\n"), ("kallsyms", text)]);
        let guest = SnapshotGuest::new(&snapshot);
        for _ in 0..text.len() / 24 {
            let _ = snapshot.symbols.kernel("same");
            let _ = guest.module_symbol("m", modmem::Name(b"same"));
            let _ = guest.symbol_at(RunAddr(0xffff_ffff_8100_0000));
            let _ = snapshot.symbols.nearest(u64::MAX - 1, Some("__builtin__kprobes"));
        }
    };
    let name = |_: usize, text: &mut String| text.push_str("ffffffff81000000 d same\n");
    grows("one name, one address", 20_000, name, ask);
    let of_module = |_: usize, text: &mut String| text.push_str("ffffffff81000000 d same\t[m]\n");
    grows("one name of a module", 20_000, of_module, ask);
    let far = |number: usize, text: &mut String| match number {
        0 => text.push_str("0000000000000001 t p\t[__builtin__kprobes]\n"),
        _ => writeln!(text, "{number:016x} t s{number}").unwrap(),
    };
    grows("another owner's symbols between", 20_000, far, ask);
    let owners = |number: usize, text: &mut String| writeln!(text, "{number:016x} t s\t[m{number}]").unwrap();
    grows("modules of symbols", 10_000, owners, |text| {
        drop(SymbolTable::read_from("k", text.as_bytes()).unwrap())
    });
}

#[test]
fn lists_of_a_snapshot() {
    let modules =
        |number: usize, text: &mut String| writeln!(text, "m{number} 4096 1 m0, Live 0x1000").unwrap();
    grows("modules", 3_000, modules, |text| drop(snapshot(&[("modules", text)])));
    let sections = |number: usize, text: &mut String| writeln!(text, "m .s{number} {number:#018x}").unwrap();
    grows("sections", 20_000, sections, |text| {
        drop(snapshot(&[("modules", "m 4096 0 - Live 0x1000\n"), ("sections", text)]));
    });
    // Each lies in the one before.
    let areas = |number: usize, text: &mut String| {
        let (start, end) = (number * 0x10, 0x7fff_0000_0000_usize - number * 0x10);
        writeln!(text, "{start:#018x}-{end:#018x} {:7} f+0x1/0x2", end - start).unwrap();
    };
    grows("areas", 20_000, areas, |text| drop(snapshot(&[("vmallocinfo", text)])));
    let ranges = |number: usize, text: &mut String| {
        writeln!(text, "{:#x}-{:#x}", number * 2, number * 2 + 1).unwrap();
    };
    grows("ranges", 20_000, ranges, |text| drop(snapshot(&[("scanned", text)])));
    let probes =
        |number: usize, text: &mut String| writeln!(text, "{number:016x}  k  f{number}+0x0").unwrap();
    grows("probes", 20_000, probes, |text| drop(snapshot(&[("kprobes", text)])));
    let config = |number: usize, text: &mut String| writeln!(text, "CONFIG_X{number}=y").unwrap();
    grows("configuration", 20_000, config, |text| {
        let _ = snapshot(&[("config", text)]).profile();
    });
}

#[test]
fn memory_and_what_is_asked_of_it() {
    let records = |number: usize, text: &mut String| write!(text, "{:x} 1\nx", number * 16).unwrap();
    grows("records", 20_000, records, |text| {
        let memory = MemoryRecords::read_from("mem", text.as_bytes()).unwrap();
        let count = memory.records().len() as u64;
        assert!((0..count).all(|number| memory.bytes(number * 16, 1).is_some()));
    });
    let sections =
        |number: usize, text: &mut String| writeln!(text, "m .s{number} {:#018x}", 0x1000 + number).unwrap();
    grows("look-ups", 5_000, sections, |text| {
        let snapshot = snapshot(&[("modules", "m 4096 0 - Live 0x1000\n"), ("sections", text)]);
        let mut locator = Locator::new(&snapshot, |_| None);
        let count = snapshot.modules[0].sections.len() as u64;
        for number in 0..count {
            let _ = locator.find(RunAddr(0x1000 + number));
        }
    });
}

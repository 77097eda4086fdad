//! Time to load grows as files do: for each table of the format, a file with four times as much in it must not take much
//! more than four times as long. Of what is quadratic four times as much takes sixteen times as long.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::{ALLOC, EXEC, Elf, PROGBITS, Section, Symbol, WRITE};
use modmem::image::Image;
use modmem::link::{Export, LinkOptions};
use modmem::{AddressSpace, Linker, Modules, Name, Profile};

/// What is measured by clocks of busy machines: this much more, or this short, is no sign of anything.
const MORE: u32 = 10;
const SHORT: Duration = Duration::from_millis(60);

/// Global, of no type: what an undefined symbol is.
const GLOBAL: u8 = 0x10;

/// The time that this thread ran: what else a busy machine does is not in it.
fn spent() -> Duration {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ran = ran.and_then(|text| text.split(' ').next()?.parse().ok());
    ran.map_or_else(|| BEGUN.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// Holds the time of `work` for `count` and for four times as many against each other.
fn grows<T>(what: &str, count: usize, make: impl Fn(usize) -> T, work: impl Fn(&T)) {
    let time = |count: usize| {
        let input = make(count);
        let measure = || {
            let start = spent();
            work(&input);
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

/// A table of strings, and where each begins.
fn strings(names: impl Iterator<Item = String>) -> (Vec<u8>, Vec<u32>) {
    let (mut table, mut starts) = (vec![0], Vec::new());
    for name in names {
        starts.push(table.len() as u32);
        table.extend(name.as_bytes());
        table.push(0);
    }
    (table, starts)
}

fn undefined(starts: &[u32]) -> Vec<Symbol> {
    starts.iter().map(|&name| Symbol { name, info: GLOBAL, ..Symbol::default() }).collect()
}

/// Loads into a kernel that exports what the file asks for, all in one namespace.
fn load(file: &[u8], namespace: &str, force: bool) {
    let image = Image::parse(file).unwrap();
    let profile = Profile::named("6.12").unwrap();
    let mut modules = Modules::new(&profile, 0);
    for symbol in image.symbols().iter().skip(1).filter(|symbol| !symbol.name.is_empty()) {
        let export = Export {
            name: symbol.name,
            value: 0xffff_ffff_8100_0000,
            gpl_only: false,
            crc: Some(1),
            namespace: Name::from(namespace),
        };
        let _ = modules.add_kernel_symbols([export]);
    }
    let mut space = AddressSpace::new(&profile);
    let _ = modules.load(&image, &profile, &mut space, &mut Linker::new(), LinkOptions { force });
    let _ = (image.parameters().count(), image.exports().count(), image.entry_offsets());
}

fn module(extra: Vec<Section>, symbols: &[Symbol], strings: &[u8]) -> Vec<u8> {
    let mut elf = Elf::x86_64();
    elf.add(Section::new(".text", PROGBITS, ALLOC | EXEC, 16, vec![0x90; 64]));
    for section in extra {
        elf.add(section);
    }
    elf.add_module_parts("grown", symbols, strings);
    elf.build()
}

#[test]
fn symbols_and_their_versions() {
    // `__versions` with as many names as symbols ask for, in the other order.
    let make = |count: usize| {
        let (table, starts) = strings((0..count).map(|number| format!("symbol_{number:07}")));
        let mut versions = Vec::new();
        for number in (0..count).rev() {
            let mut entry = 1u64.to_le_bytes().to_vec();
            entry.extend(format!("symbol_{number:07}").bytes());
            entry.resize(64, 0);
            versions.extend(entry);
        }
        module(vec![Section::new("__versions", PROGBITS, ALLOC, 8, versions)], &undefined(&starts), &table)
    };
    grows("versions", 10_000, make, |file| load(file, "", false));
    let same = |count: usize| {
        let (table, starts) = strings(["printk".to_owned()].into_iter());
        module(Vec::new(), &undefined(&vec![starts[0]; count]), &table)
    };
    grows("symbols of one name", 50_000, same, |file| load(file, "", true));
}

#[test]
fn namespaces() {
    let make = |count: usize| {
        let (table, starts) = strings((0..count).map(|number| format!("symbol_{number:07}")));
        let imports: String = (0..count).map(|number| format!("import_ns=NAMESPACE_{number:07}\0")).collect();
        let mut elf = Elf::x86_64();
        elf.add_module_parts("grown", &undefined(&starts), &table);
        elf.sections[0].data.extend(imports.bytes());
        elf.build()
    };
    // The last one is the one.
    grows("import_ns", 2_000, make, |file| load(file, "NAMESPACE_0001999", true));
}

#[test]
fn fields_and_parameters() {
    let make = |count: usize| {
        let fields: String = (0..count)
            .map(|n| format!("parm=p{n}:text\0parmtype=p{n}:int\0alias=a{n}\0license=GPL\0"))
            .collect();
        let mut elf = Elf::x86_64();
        elf.add_module_parts("grown", &[], &[0]);
        elf.sections[0].data.extend(fields.bytes());
        elf.build()
    };
    grows("fields", 10_000, make, |file| load(file, "", true));
}

#[test]
fn sections() {
    let make = |count: usize| {
        let section =
            |number| Section::new(&format!(".data.{number}"), PROGBITS, ALLOC | WRITE, 1, vec![0; 4]);
        module((0..count).map(section).collect(), &[], &[0])
    };
    grows("sections", 4_000, make, |file| load(file, "", true));
}

#[test]
fn relocations() {
    let make = |count: usize| {
        let mut elf = Elf::x86_64();
        let data = elf.add(Section::new(".data", PROGBITS, ALLOC | WRITE, 8, vec![0; 8 * count]));
        let symbol = Symbol { name: 0, info: 3, section: data as u16, value: 0 };
        elf.add_module_parts("grown", &[symbol], &[0]);
        let symtab = elf.sections.len() as u32;
        let entries: Vec<(u64, u32, u32, i64)> = (0..count as u64).map(|at| (8 * at, 1, 1, 0)).collect();
        elf.add_relocations(data, symtab, &entries);
        elf.build()
    };
    grows("relocations", 50_000, make, |file| load(file, "", true));
}

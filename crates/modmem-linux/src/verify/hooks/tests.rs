//! A made-up machine: two modules, of which one hooks the other in every way.

use modmem::layout::PerKind;
use modmem::verify::{Hook, HookKind, MemoryReport, ModuleReport, Tally};
use modmem::{MemoryKind, RunAddr};

use super::*;
use crate::snapshot::{Kprobe, MemoryRecord, MemoryRecords, ModuleRecord, Symbol, SymbolTable};
use crate::verify::{Outcome, StrayKind};
use modmem::verify::Variable;

const KERNEL: u64 = 0xffff_ffff_8100_0000;
const KERNEL_END: u64 = KERNEL + 0x10_0000;
const HEAP: u64 = 0xffff_8880_0100_0000;
/// The hooked module's text, and its data.
const VICTIM: u64 = 0xffff_ffff_c000_0000;
const VICTIM_DATA: u64 = 0xffff_ffff_c000_2000;
/// The other's.
const HOOKER: u64 = 0xffff_ffff_c001_0000;
const HOOKER_DATA: u64 = 0xffff_ffff_c001_2000;
const TRAMPOLINE: u64 = 0xffff_ffff_c002_0000;
const STRAY: u64 = 0xffff_ffff_c003_0000;

struct Machine {
    snapshot: Snapshot,
    modules: Vec<Checked>,
    strays: Vec<Stray>,
    state: Vec<StateFact>,
    memory: Vec<(u64, Vec<u8>)>,
    symbols: Vec<(&'static str, u64, char, Option<&'static str>)>,
}

fn module(name: &str, text: u64, data: u64) -> Checked {
    let memory = |address: u64| {
        let tally = Tally { total: 0x1000, identical: 0x1000, ..Tally::default() };
        Some(MemoryReport { address: RunAddr(address), tally })
    };
    let mut memories = PerKind::default();
    (memories[MemoryKind::Text], memories[MemoryKind::Data]) = (memory(text), memory(data));
    let report = ModuleReport {
        name: name.into(),
        memories,
        unexplained: Vec::new(),
        more_unexplained: 0,
        areas: Vec::new(),
        made: Vec::new(),
        hooks: Vec::new(),
    };
    Checked { name: name.into(), outcome: Outcome::Compared(Box::new(report)) }
}

impl Machine {
    fn new() -> Machine {
        let record = |name: &str| ModuleRecord { name: name.into(), ..ModuleRecord::default() };
        Machine {
            snapshot: Snapshot {
                release: "6.12.0".into(),
                modules: vec![record("hooker"), record("victim")],
                ..Snapshot::default()
            },
            modules: vec![module("victim", VICTIM, VICTIM_DATA), module("hooker", HOOKER, HOOKER_DATA)],
            strays: Vec::new(),
            state: Vec::new(),
            memory: vec![
                (VICTIM_DATA, vec![0; 0x1000]),
                (HOOKER_DATA, vec![0; 0x1000]),
                (TRAMPOLINE, vec![0; 0x1000]),
                (HEAP, vec![0; 0x1000]),
            ],
            symbols: vec![
                ("_text", KERNEL, 'T', None),
                ("ftrace_caller", KERNEL + 0x100, 'T', None),
                ("ftrace_caller_op_ptr", KERNEL + 0x140, 'T', None),
                ("kprobe_ftrace_handler", KERNEL + 0x400, 'T', None),
                ("proc_show", KERNEL + 0x800, 't', None),
                ("_etext", KERNEL + 0x8_0000, 'T', None),
                ("ftrace_ops_list", KERNEL + 0x9_0000, 'd', None),
                ("_end", KERNEL_END, 'B', None),
                ("callback", HOOKER + 0x40, 't', Some("hooker")),
                ("ftrace_trampoline", TRAMPOLINE, 't', Some("__builtin__ftrace")),
                ("__tracepoint_event", VICTIM_DATA + 0x100, 'd', Some("victim")),
                ("__SCK__tp_func_event", VICTIM_DATA + 0x200, 'd', Some("victim")),
                ("__traceiter_event", VICTIM + 0x600, 't', Some("victim")),
                ("__SCK__operation", VICTIM_DATA + 0x300, 'd', Some("victim")),
            ],
        }
    }

    fn put(&mut self, address: u64, words: &[u64]) {
        let place =
            |(start, bytes): &&mut (u64, Vec<u8>)| (*start..*start + bytes.len() as u64).contains(&address);
        let (start, bytes) = self.memory.iter_mut().find(place).expect("memory");
        let at = (address - *start) as usize;
        let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes[at..at + words.len()].copy_from_slice(&words);
    }

    /// A description of a tracer: hashes of four words, and the trampoline.
    fn ops(&mut self, at: u64, function: u64, flags: u64, trampoline: u64) {
        self.put(at, &[function, 0, flags, 0, function]);
        self.put(at + 0x48, &[at + 0x28]);
        self.put(at + 0x48 + 8 + 0x20, &[trampoline, 0xe5]);
    }

    fn hook(&mut self, kind: HookKind, site: u64, target: Option<u64>, explained: bool) {
        let Outcome::Compared(report) = &mut self.modules[0].outcome else { panic!() };
        let target = target.map(RunAddr);
        report.hooks.push(Hook { kind, site: RunAddr(site), target, mark: None, jumps: false, explained });
    }

    fn rows(&mut self) -> Vec<HookRow> {
        let records = self.memory.iter();
        let records =
            records.map(|(address, bytes)| MemoryRecord { address: *address, bytes: bytes.clone() });
        self.snapshot.memory = MemoryRecords::new(records.collect()).unwrap();
        let symbols = self.symbols.iter();
        let symbols =
            symbols.map(|&(name, address, letter, module)| Symbol { name, address, letter, module });
        self.snapshot.symbols = SymbolTable::new(symbols).unwrap();
        let profile = Profile::named("6.12").unwrap();
        find(&self.snapshot, &profile, &self.modules, (&self.strays, &[]), &self.state)
    }
}

const READY: u64 = 0x1041;

fn owner(name: &str) -> Owner {
    Owner::Module(name.into())
}

#[test]
fn a_trampoline_is_followed_to_whose_function_it_calls() {
    // Without a trampoline's bytes, the description that names it tells; with them, they do.
    for with_bytes in [false, true] {
        let mut machine = Machine::new();
        machine.hook(HookKind::Ftrace, VICTIM + 4, Some(TRAMPOLINE), true);
        let named = if with_bytes { 0 } else { TRAMPOLINE };
        machine.ops(HOOKER_DATA + 0x80, HOOKER + 0x40, READY, named);
        if with_bytes {
            let (_, bytes) = machine.memory.iter_mut().find(|(start, _)| *start == TRAMPOLINE).unwrap();
            bytes[0x40..0x43].copy_from_slice(&[0x48, 0x8b, 0x15]);
            bytes[0x43..0x47].copy_from_slice(&(0x100_u32 - 0x47).to_le_bytes());
            bytes[0x100..0x108].copy_from_slice(&(HOOKER_DATA + 0x80).to_le_bytes());
        }
        let rows = machine.rows();
        assert_eq!(rows.len(), 1, "{rows:?}");
        let HookRow { way, by, flags, explained, sites, note } = &rows[0];
        assert_eq!((*way, *explained, note), (HookWay::Ftrace, true, &None));
        assert_eq!((&by.owner, by.function), (&owner("hooker"), Some(HOOKER + 0x40)));
        assert_eq!((by.description, by.trampoline), (Some(HOOKER_DATA + 0x80), Some(TRAMPOLINE)));
        assert_eq!(by.described_by, Some(owner("hooker")));
        assert_eq!(flags, &["IPMODIFY"]);
        assert_eq!(sites, &[HookSite { address: VICTIM + 4, module: Some(0) }]);
    }
    // Where neither is there, that is said.
    let mut machine = Machine::new();
    machine.hook(HookKind::Ftrace, VICTIM + 4, Some(TRAMPOLINE), true);
    let rows = machine.rows();
    assert_eq!((&rows[0].by.owner, rows[0].by.trampoline), (&Owner::Unknown, Some(TRAMPOLINE)));
    assert!(rows[0].note.as_deref().unwrap().contains("snapshot"), "{rows:?}");
}

#[test]
fn a_tracer_of_many_functions_is_one_row_and_names_those_of_the_kernel_too() {
    let mut machine = Machine::new();
    for at in 0..200 {
        machine.hook(HookKind::Ftrace, VICTIM + 4 + 0x10 * at, Some(TRAMPOLINE), true);
    }
    let ops = HOOKER_DATA + 0x80;
    machine.ops(ops, HOOKER + 0x40, READY, TRAMPOLINE);
    // Its functions: a hash of two buckets with an entry of the kernel's.
    machine.put(ops + 0x30, &[HEAP]);
    machine.put(HEAP, &[1, HEAP + 0x100, 1]);
    machine.put(HEAP + 0x100, &[0, HEAP + 0x200]);
    machine.put(HEAP + 0x200, &[0, HEAP + 0x108, KERNEL + 0x804]);
    let rows = machine.rows();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0].sites.len(), 201);
    assert_eq!(rows[0].sites.iter().filter(|site| site.module.is_none()).count(), 1);
    // A list that leads in circles ends.
    machine.put(HEAP + 0x200, &[HEAP + 0x200]);
    assert_eq!(machine.rows()[0].sites.len(), 200);
}

#[test]
fn what_the_kernel_lists_in_the_heap_is_found_by_its_list() {
    let mut machine = Machine::new();
    machine.memory.push((KERNEL + 0x9_0000, (HEAP + 0x400).to_le_bytes().to_vec()));
    machine.ops(HEAP + 0x400, HOOKER + 0x40, READY, 0);
    machine.put(HEAP + 0x400 + 8, &[HEAP + 0x400]);
    let rows = machine.rows();
    assert_eq!((rows.len(), &rows[0].by.owner), (1, &owner("hooker")));
    assert!(rows[0].sites.is_empty() && rows[0].note.is_some(), "{rows:?}");
}

#[test]
fn a_branch_that_no_rule_allows_is_told_as_such() {
    let mut machine = Machine::new();
    let nobodys = Stray { range: STRAY..STRAY + 0x1000, caller: String::new(), kind: StrayKind::NoOwner };
    machine.strays.push(nobodys);
    machine.hook(HookKind::Ftrace, VICTIM + 4, Some(STRAY + 0x10), false);
    let rows = machine.rows();
    assert_eq!((rows[0].explained, &rows[0].by.owner), (false, &Owner::Nobody));
}

#[test]
fn probes_are_of_whoever_describes_them() {
    let mut machine = Machine::new();
    let probe = HOOKER_DATA + 0x400;
    let list = probe + 0x10;
    machine.put(probe, &[0, HEAP, list, list, 0, VICTIM + 0x25, 0, 0, HOOKER + 0x40]);
    let listed = |address, on_ftrace| Kprobe {
        address,
        kind: 'k',
        place: String::new(),
        on_ftrace,
        optimized: false,
        disabled: false,
        gone: false,
    };
    machine.snapshot.kprobes = Some(vec![listed(VICTIM + 0x25, false), listed(KERNEL + 0x800, false)]);
    let rows = machine.rows();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let known = rows.iter().find(|row| row.by.owner == owner("hooker")).unwrap();
    assert_eq!((known.way, known.by.function), (HookWay::Kprobe, Some(HOOKER + 0x40)));
    assert_eq!(known.sites, [HookSite { address: VICTIM + 0x25, module: Some(0) }]);
    let unknown = rows.iter().find(|row| row.by.owner == Owner::Unknown).unwrap();
    assert_eq!(unknown.sites, [HookSite { address: KERNEL + 0x800, module: None }]);
    assert!(unknown.note.is_some());
    // An optimised one is in a list with one of the kernel's: it counts where a probe is listed, and nowhere else.
    machine.put(list, &[HEAP, HEAP]);
    assert!(machine.rows().iter().any(|row| row.by.owner == owner("hooker")));
    machine.snapshot.kprobes = None;
    assert_eq!(machine.rows(), []);
}

#[test]
fn a_tracepoint_s_listeners_come_from_its_array_or_from_its_static_call() {
    let key = |address, value| StateFact {
        variable: Variable::Key(RunAddr(address)),
        value,
        proven: true,
        sites: 1,
    };
    let mut machine = Machine::new();
    machine.state = vec![key(VICTIM_DATA + 0x108, 0)];
    assert_eq!(machine.rows(), []);
    machine.state = vec![key(VICTIM_DATA + 0x108, 1)];
    // Several: only the array tells who.
    machine.put(VICTIM_DATA + 0x200, &[VICTIM + 0x600]);
    let rows = machine.rows();
    assert_eq!((rows[0].way, &rows[0].by.owner), (HookWay::Tracepoint, &Owner::Unknown));
    machine.put(VICTIM_DATA + 0x200, &[HOOKER + 0x40]);
    let rows = machine.rows();
    assert_eq!((rows.len(), &rows[0].by.owner), (1, &owner("hooker")));
    machine.put(VICTIM_DATA + 0x200, &[VICTIM + 0x600]);
    machine.put(VICTIM_DATA + 0x148, &[HEAP]);
    machine.put(HEAP, &[HOOKER + 0x40, 0, 10, KERNEL + 0x800, 0, 10, 0]);
    let rows = machine.rows();
    let owners: Vec<&Owner> = rows.iter().map(|row| &row.by.owner).collect();
    assert_eq!(owners, [&Owner::Kernel, &owner("hooker")]);
}

#[test]
fn static_calls_into_other_modules_are_told_and_those_at_home_are_not() {
    let call = |value| StateFact {
        variable: Variable::StaticCall(RunAddr(VICTIM_DATA + 0x300)),
        value,
        proven: true,
        sites: 1,
    };
    let mut machine = Machine::new();
    for value in [0, VICTIM + 0x10, KERNEL + 0x800] {
        machine.state = vec![call(value)];
        assert_eq!(machine.rows(), []);
    }
    machine.state = vec![call(HOOKER + 0x40)];
    let rows = machine.rows();
    assert_eq!((rows[0].way, &rows[0].by.owner), (HookWay::StaticCall, &owner("hooker")));
}

#[test]
fn a_livepatch_s_functions_are_known_by_the_names_of_the_old_ones() {
    let mut machine = Machine::new();
    machine.snapshot.modules[0].taints = "OEK".into();
    let (function, name) = (HOOKER_DATA + 0x600, HOOKER_DATA + 0x700);
    machine.put(name, &[u64::from_le_bytes(*b"proc_sho"), u64::from(b'w')]);
    machine.put(function, &[name, HOOKER + 0x40, 0, KERNEL + 0x800]);
    let rows = machine.rows();
    assert_eq!((rows.len(), rows[0].way), (1, HookWay::Livepatch));
    assert_eq!(rows[0].sites, [HookSite { address: KERNEL + 0x800, module: None }]);
    // Another name, and no livepatch's module.
    machine.put(name, &[u64::from_le_bytes(*b"proc_sho"), u64::from(b'x')]);
    assert_eq!(machine.rows(), []);
    machine.put(name, &[u64::from_le_bytes(*b"proc_sho"), u64::from(b'w')]);
    machine.snapshot.modules[0].taints = "OE".into();
    assert_eq!(machine.rows(), []);
}

//! Byte for byte: modules linked at the addresses where a running kernel had them, compared with its memory.
//!
//! What the kernel patches or sorts after relocation (kernel text, exception and unwind tables, ftrace's list) and
//! what modules write themselves is not compared here; read-only data that nobody touches and the symbol tables that
//! the loader builds must be equal to the last byte.

use std::collections::BTreeMap;
use std::ops::Range;

use modmem::image::Image;
use modmem::layout::{Layout, MemoryKind};
use modmem::link::{Export, LinkOptions};
use modmem::profile::{KernelConfig, Profile};
use modmem::space::{Block, Memory, Protection, Request, SpaceError};
use modmem::{Linker, Modules, Name, RunAddr};
use xtask::oracle::Oracle;

/// Sections of read-only data that the kernel changes after relocation.
const REWRITTEN: &[&str] = &["__ex_table", "__mcount_loc", ".orc_unwind", ".orc_unwind_ip"];

/// Memory whose addresses are given from outside.
struct GivenMemory {
    addresses: BTreeMap<MemoryKind, u64>,
}

#[derive(Debug)]
struct GivenBlock {
    address: u64,
    bytes: Vec<u8>,
}

impl Memory for GivenMemory {
    type Block = GivenBlock;

    fn allocate(&mut self, request: Request) -> Result<GivenBlock, SpaceError> {
        let address = self.addresses[&request.kind];
        // Not zero: whatever the loader does not write must not look right by chance.
        Ok(GivenBlock { address, bytes: vec![0xa5; request.size as usize] })
    }
}

impl Block for GivenBlock {
    fn address(&self) -> RunAddr {
        RunAddr(self.address)
    }
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
    fn protect(&self, _: Range<u64>, _: Protection) -> Result<(), SpaceError> {
        Ok(())
    }
}

/// Where the kernel had each block of a module, from the addresses of the sections in it.
fn block_addresses(
    oracle: &Oracle,
    name: &str,
    image: &Image<'_>,
    layout: &Layout,
) -> BTreeMap<MemoryKind, u64> {
    let mut addresses = BTreeMap::new();
    for section in image.sections().iter().filter(|section| section.size() > 0) {
        let Some(place) = layout.place(section.index()) else { continue };
        let memory = layout.memories()[place.kind];
        let kind = layout.blocks()[memory.block.expect("a block")].kind;
        let address = oracle.sections[name][&section.name().to_text()];
        addresses.insert(kind, address - place.offset - memory.offset);
    }
    addresses
}

fn untouched_bytes_equal_the_kernels(name: &str) {
    let Some(oracle) = Oracle::from_environment(name) else { return };
    let profile = Profile::from_config(&KernelConfig::parse(&oracle.config), &oracle.release).unwrap();
    let mut modules = Modules::new(&profile, oracle.symbols["__per_cpu_end"]);
    let mut symbols: Vec<(&String, &u64)> = oracle.symbols.iter().collect();
    symbols.sort();
    let exports = symbols.into_iter().filter_map(|(name, &value)| {
        // What is exported has an entry in the export table, and that has a symbol.
        let exported = oracle.symbols.contains_key(&format!("__ksymtab_{name}"));
        let name = Name::from(&**name);
        exported.then_some(Export { name, value, gpl_only: false, crc: None, namespace: Name::default() })
    });
    modules.add_kernel_symbols(exports).unwrap();
    let mut linker = Linker::new();
    let (mut compared, mut text, mut text_equal) = (0, 0, 0);
    for module in &oracle.order {
        let image = Image::parse(&oracle.files[module]).unwrap();
        let layout = Layout::of(&image, &profile).unwrap();
        let mut memory = GivenMemory { addresses: block_addresses(&oracle, module, &image, &layout) };
        let id = modules.load(&image, &profile, &mut memory, &mut linker, LinkOptions::default());
        let id = id.unwrap_or_else(|error| panic!("{module}: {error}"));
        modules.start(id, |_| 0).unwrap();
        assert_eq!(modules.protection_violation(), None);
        let loaded = modules.get(id).unwrap();
        for section in loaded.sections().filter(|section| !section.kind.is_init()) {
            let range = section.offset as usize..(section.offset + section.size) as usize;
            let ours = &loaded.bytes(section.kind)[range];
            let address = loaded.address(section.kind).unwrap() + section.offset;
            let theirs =
                oracle.bytes(address.0, ours.len()).unwrap_or_else(|| panic!("{module}: {}", section.name));
            let name = section.name.to_text();
            if section.kind == MemoryKind::Text {
                text += ours.len();
                text_equal += ours.iter().zip(theirs).filter(|(a, b)| a == b).count();
            }
            if section.kind == MemoryKind::RoData && !REWRITTEN.contains(&&*name) {
                assert!(ours == theirs, "{module}: {name} differs from the kernel's at {address}");
                compared += ours.len();
            }
        }
        let kallsyms = loaded.layout().kallsyms().unwrap();
        let tables = kallsyms.core_symbols as usize..(kallsyms.core_types + kallsyms.core_count) as usize;
        let ours = &loaded.bytes(MemoryKind::Data)[tables.clone()];
        let address = loaded.address(MemoryKind::Data).unwrap() + tables.start as u64;
        assert!(oracle.bytes(address.0, ours.len()) == Some(ours), "{module}: its symbol tables differ");
        compared += ours.len();
        let padding = loaded.layout().memories()[MemoryKind::RoData].used as usize;
        let tail = &loaded.bytes(MemoryKind::RoData)[padding..];
        assert!(tail.iter().all(|&byte| byte == 0), "{module}: padding");
    }
    let share = text_equal as f64 / text as f64;
    println!("{name}: {compared} bytes equal; text equal before patching: {:.2} %", share * 100.0);
    assert!(compared > 1 << 20 && share > 0.95, "{name}: {compared} bytes, {share}");
}

#[test]
fn untouched_bytes_equal_those_of_linux_6_12() {
    untouched_bytes_equal_the_kernels("amd64-6.12");
}

#[test]
fn untouched_bytes_equal_those_of_linux_6_1() {
    untouched_bytes_equal_the_kernels("amd64-6.1");
}

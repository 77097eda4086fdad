//! modmem without std and libc, embedded as a kernel would embed it.
//!
//! [`memory`] is where the modules live, [`kernel`] is what they are loaded into, and [`rt`] is the bit of machine that
//! any freestanding program needs. The first two are what an embedder writes.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod kernel;
#[expect(unsafe_code, reason = "turns pages into the bytes of a block")]
mod memory;
#[expect(unsafe_code, reason = "there is nothing below it but the processor")]
mod rt;

use modmem::modules::{LoadError, Lookup, UnloadError};
use modmem::space::{Protection, SpaceError};
use modmem::{MemoryKind, Name, RunAddr};

use kernel::{InsertError, Kernel};
use memory::{Arena, Pages, Window};
use rt::{HEAP, print};

/// The modules; a boot loader would have put them into memory.
const LIB: &[u8] = include_bytes!("../../../samples/root/lib/modules/6.12.0-sample/kernel/lib/sample_lib.ko");
const CORE: &[u8] =
    include_bytes!("../../../samples/root/lib/modules/6.12.0-sample/kernel/drivers/sample/sample_core.ko");

/// Both windows lie within 2 GiB of the kernel: all code reaches all else by 32-bit displacements.
const TEXT: RunAddr = RunAddr(0xffff_ffff_a000_0000);
const DATA: RunAddr = RunAddr(0xffff_ffff_c000_0000);

static TEXT_PAGES: Pages<8> = Pages::new();
static DATA_PAGES: Pages<24> = Pages::new();
static FEW_TEXT_PAGES: Pages<2> = Pages::new();
static FEW_DATA_PAGES: Pages<2> = Pages::new();

/// Panics, and so exits with status 1, if anything is not as it should be.
fn main() {
    let mut arena = Arena {
        text: Window::text(TEXT, &TEXT_PAGES).expect("taken once"),
        data: Window::data(DATA, &DATA_PAGES).expect("taken once"),
    };
    let mut small = Arena {
        text: Window::text(TEXT, &FEW_TEXT_PAGES).expect("taken once"),
        data: Window::data(DATA, &FEW_DATA_PAGES).expect("taken once"),
    };
    let mut kernel = Kernel::new().expect("no name is exported twice");

    refuses_what_does_not_fit(&mut kernel, &mut small);
    survives_a_full_heap(&mut kernel, &mut arena);
    loads_finds_and_unloads(&mut kernel, &mut arena);

    drop(kernel);
    assert_eq!(HEAP.taken(), 0, "blocks of the heap are left behind");
}

/// Module memory runs out between a module's first block and its last.
fn refuses_what_does_not_fit(kernel: &mut Kernel, small: &mut Arena) {
    let exports = kernel.modules.exports().len();
    let error = kernel.insert(LIB, small).expect_err("does not fit");
    assert!(matches!(error, InsertError::Load(LoadError::Space(SpaceError::NoRoom { .. }))), "{error}");
    assert_eq!(small.taken(), 0);
    assert!(kernel.modules.is_empty() && kernel.modules.exports().len() == exports);
    print(format_args!("too small an arena: {error}"));
}

/// The heap runs out, at a load's first allocation, at its second and so on, until there is enough for all of them.
fn survives_a_full_heap(kernel: &mut Kernel, arena: &mut Arena) {
    let mut refused = 0;
    let [lib, core] = [LIB, CORE].map(|file| {
        let before = (kernel.modules.len(), kernel.modules.exports().len(), arena.taken());
        for allocations in 0.. {
            HEAP.allow(allocations);
            let result = kernel.insert(file, arena);
            HEAP.allow(usize::MAX);
            match result {
                Ok(id) => return id,
                Err(error) => assert!(error.is_out_of_memory(), "{error}"),
            }
            assert_eq!(before, (kernel.modules.len(), kernel.modules.exports().len(), arena.taken()));
            refused += 1;
        }
        unreachable!("some number of allocations is enough")
    });
    kernel.modules.unload(core, |_exit| ()).expect("nobody uses it");
    kernel.modules.unload(lib, |_exit| ()).expect("nobody uses it any more");
    print(format_args!("too small a heap: {refused} loads refused, each without a trace"));
}

/// All is well: two modules, one of which uses the other.
fn loads_finds_and_unloads(kernel: &mut Kernel, arena: &mut Arena) {
    let lib = kernel.insert(LIB, arena).expect("fits");
    let core = kernel.insert(CORE, arena).expect("fits");
    assert_eq!(kernel.modules.protection_violation(), None);

    // An address that one module exports and the other one calls.
    let export = kernel.modules.exported(Name::from("sample_lib_crc32")).expect("is exported").export;
    let address = RunAddr(export.value);
    let Lookup::Module(place) = kernel.modules.lookup(address + 5) else { panic!("{address} has no owner") };
    let symbol = place.symbol.expect("has a symbol");
    assert_eq!((place.module, place.kind), ("sample_lib", MemoryKind::Text));
    assert_eq!((symbol.name, symbol.offset), (export.name, 5));
    print(format_args!("{}: {}+{:#x} [{}]", address + 5, symbol.name, symbol.offset, place.module));

    // What modmem asked to be protected is protected, page by page; init memory has come back.
    let module = kernel.modules.get(core).expect("is loaded");
    let protection = |kind| arena.protection(module.address(kind)?);
    assert_eq!(protection(MemoryKind::Text), Some(Protection::ReadExecute));
    assert_eq!(protection(MemoryKind::RoData), Some(Protection::Read));
    assert_eq!(protection(MemoryKind::RoAfterInit), Some(Protection::Read));
    assert_eq!(protection(MemoryKind::Data), Some(Protection::ReadWrite));
    assert_eq!(protection(MemoryKind::InitText), None);

    // Who is used stays; then they go in order, and nothing is left.
    let refused = kernel.modules.unload(lib, |_exit| panic!("exit of a module in use"));
    assert!(matches!(refused, Err(UnloadError::InUse { .. })));
    kernel.modules.unload(core, |_exit| ()).expect("nobody uses it");
    kernel.modules.unload(lib, |_exit| ()).expect("nobody uses it any more");
    assert!(kernel.modules.is_empty() && matches!(kernel.modules.lookup(address), Lookup::Nothing));
    assert_eq!(arena.taken(), 0);
    print(format_args!("both unloaded, nothing left behind"));
}

//! What the kernel exports, from images, symbol files and `Module.symvers`.

use crate::support::*;
use modmem_linux::{Error, Kernel, KernelSymbol, SymbolSource, image_facts, kernel_symbols};
use std::{fs, path::Path};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const TABLE: u64 = 0xffff_ffff_8240_0000;
const GPL_TABLE: u64 = 0xffff_ffff_8241_0000;
const STRINGS: u64 = 0xffff_ffff_8242_0000;

const NAMES: [(&str, &str, u64); 3] =
    [("alpha", "", TEXT + 0x10), ("beta", "DMA_BUF", TEXT + 0x20), ("cpu_number", "", 0x1_f000)];

/// `__ksymtab_strings`, and a table of entries `value, name, namespace` relative to themselves.
fn tables(table: u64, fields: usize) -> (Vec<u8>, Vec<u8>) {
    let mut strings = vec![0];
    let mut entries = Vec::new();
    for (name, namespace, address) in NAMES {
        let name_at = STRINGS + strings.len() as u64;
        strings.extend(name.bytes().chain([0]));
        let namespace_at = STRINGS + strings.len() as u64;
        strings.extend(namespace.bytes().chain([0]));
        for target in [address, name_at, namespace_at].into_iter().take(fields) {
            let place = table + entries.len() as u64;
            entries.extend((target.wrapping_sub(place) as u32).to_le_bytes());
        }
    }
    (strings, entries)
}

fn vmlinux(more: Vec<Section>) -> Vec<u8> {
    let (strings, entries) = tables(TABLE, 3);
    let mut sections = vec![
        section("__ksymtab", TABLE, entries[..24].to_vec()),
        section("__ksymtab_strings", STRINGS, strings),
        section(".data..percpu", 0, vec![0; 0x40]),
    ];
    sections.extend(more);
    elf(2, &sections, &[(TEXT, 0x100_0000), (0, 0x40), (TEXT + 0x200_0000, 0x1000)])
}

/// A table with only `cpu_number`, the last of the names.
fn gpl_table() -> Section {
    let (_, entries) = tables(GPL_TABLE - 24, 3);
    section("__ksymtab_gpl", GPL_TABLE, entries[24..].to_vec())
}

fn with_crcs() -> Vec<u8> {
    let crcs: Vec<u8> = [0x1111_1111u32, 0x2222_2222].into_iter().flat_map(u32::to_le_bytes).collect();
    let gpl_crcs = 0x3333_3333u32.to_le_bytes().to_vec();
    vmlinux(vec![gpl_table(), section("__kcrctab", 0, crcs), section("__kcrctab_gpl", 0, gpl_crcs)])
}

fn symbol(
    name: &str,
    address: u64,
    gpl_only: bool,
    crc: Option<u32>,
    namespace: Option<&str>,
) -> KernelSymbol {
    KernelSymbol {
        name: name.into(),
        address: Some(address),
        gpl_only,
        crc,
        namespace: namespace.map(Into::into),
    }
}

#[test]
fn the_tables_of_a_kernel_until_6_x_are_read() {
    let elf = with_crcs();
    assert_eq!(
        kernel_symbols("vmlinux", &elf).unwrap(),
        [
            symbol("alpha", TEXT + 0x10, false, Some(0x1111_1111), None),
            symbol("beta", TEXT + 0x20, false, Some(0x2222_2222), Some("DMA_BUF")),
            symbol("cpu_number", 0x1_f000, true, Some(0x3333_3333), None),
        ]
    );
    let facts = image_facts("vmlinux", &elf).unwrap();
    assert_eq!((facts.percpu, facts.text, facts.end), (Some(0..0x40), TEXT, TEXT + 0x200_1000));
}

#[test]
fn flags_tell_the_licence_since_7_x() {
    let elf = vmlinux(vec![section("__kflagstab", 0, vec![0, 1])]);
    let symbols = kernel_symbols("vmlinux", &elf).unwrap();
    assert_eq!(
        symbols.iter().map(|symbol| (symbol.gpl_only, symbol.crc)).collect::<Vec<_>>(),
        [(false, None), (true, None)]
    );
}

#[test]
fn entries_without_namespaces_are_those_of_older_kernels() {
    let (strings, entries) = tables(TABLE, 2);
    let elf =
        elf(2, &[section("__ksymtab", TABLE, entries), section("__ksymtab_strings", STRINGS, strings)], &[]);
    let symbols = kernel_symbols("vmlinux", &elf).unwrap();
    assert_eq!(symbols.len(), 3);
    assert_eq!(symbols[1], symbol("beta", TEXT + 0x20, false, None, None));
}

#[test]
fn tables_that_do_not_fit_together_are_named() {
    let elf = vmlinux(vec![section("__kcrctab", 0, vec![0; 4])]);
    let error = kernel_symbols("vmlinux", &elf).unwrap_err().to_string();
    assert_eq!(error, "vmlinux: section __kcrctab: 1 entries, but __ksymtab has 2");
    let lost = section("__ksymtab_gpl", GPL_TABLE, vec![1; 12]);
    let error = kernel_symbols("vmlinux", &vmlinux(vec![lost])).unwrap_err().to_string();
    assert!(error.contains("section __ksymtab_gpl: its entries do not refer to names"), "{error}");
}

#[test]
fn no_damage_makes_the_readers_panic() {
    let elf = with_crcs();
    for length in 0..elf.len() {
        let _ = kernel_symbols("v", &elf[..length]);
        let _ = image_facts("v", &elf[..length]);
    }
    for at in 0..elf.len() {
        for value in [0, 0x7f, 0x80, 0xff] {
            let mut elf = elf.clone();
            elf[at] = value;
            let _ = kernel_symbols("v", &elf);
            let _ = image_facts("v", &elf);
        }
    }
}

fn kernel_folder(folder: &Path, image: Option<&[u8]>) -> Kernel {
    let root = folder.join("root");
    fs::create_dir_all(root.join("boot")).unwrap();
    fs::create_dir_all(root.join("lib/modules/6.12.1-test/kernel")).unwrap();
    fs::write(root.join("lib/modules/6.12.1-test/kernel/a.ko"), needing("")).unwrap();
    if let Some(image) = image {
        fs::write(root.join("boot/vmlinuz-6.12.1-test"), image).unwrap();
    }
    Kernel::open(&[root.to_str().unwrap()], &options(folder).0).unwrap()
}

#[test]
fn a_kernel_s_own_image_is_asked_and_the_answer_kept() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = kernel_folder(folder.path(), Some(&with_crcs()));
    let first = kernel.symbols(None).unwrap();
    assert!(matches!(&first.source, SymbolSource::Image(path) if path.ends_with("boot/vmlinuz-6.12.1-test")));
    assert_eq!((first.symbols.len(), first.licences_known), (3, true));
    assert_eq!(first.get("beta").unwrap().namespace.as_deref(), Some("DMA_BUF"));
    assert_eq!(kernel.symbols(None).unwrap(), first);
    // A table that was damaged in the cache is made again.
    for entry in fs::read_dir(folder.path().join("cache/symbols")).unwrap() {
        fs::write(entry.unwrap().path(), "modmem symbols 1\ngarbage").unwrap();
    }
    assert_eq!(kernel.symbols(None).unwrap(), first);
}

#[test]
fn a_symbol_file_gives_the_addresses_and_the_image_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = kernel_folder(folder.path(), Some(&with_crcs()));
    let file = folder.path().join("kallsyms");
    fs::write(&file, "ffffffff9a000010 T alpha\nffffffff9a000020 t beta\nffffffff9a000020 t beta\n").unwrap();
    let symbols = kernel.symbols(Some(&file)).unwrap();
    assert_eq!(symbols.source, SymbolSource::SymbolFile(file.clone()));
    assert_eq!(
        symbols.symbols,
        [
            symbol("alpha", 0xffff_ffff_9a00_0010, false, Some(0x1111_1111), None),
            symbol("beta", 0xffff_ffff_9a00_0020, false, Some(0x2222_2222), Some("DMA_BUF")),
        ]
    );
    fs::write(&file, "0000000000000000 T alpha\n0000000000000000 t beta\n").unwrap();
    assert!(matches!(kernel.symbols(Some(&file)), Err(Error::AddressesHidden { .. })));
}

#[test]
fn any_kind_of_symbol_file_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = kernel_folder(folder.path(), None);
    let nothing = kernel.symbols(None).unwrap();
    assert_eq!((nothing.symbols.len(), nothing.source), (0, SymbolSource::None));
    let file = folder.path().join("file");
    fs::write(&file, with_crcs()).unwrap();
    assert_eq!(kernel.symbols(Some(&file)).unwrap().symbols.len(), 3);
    fs::write(&file, "0x00000007\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n").unwrap();
    let symbols = kernel.symbols(Some(&file)).unwrap();
    assert_eq!((symbols.get("printk").unwrap().crc, symbols.get("printk").unwrap().address), (Some(7), None));
    fs::write(&file, "ffffffff81000000 T one\nffffffff81000010 t two\n").unwrap();
    let symbols = kernel.symbols(Some(&file)).unwrap();
    assert_eq!(
        (symbols.symbols.len(), symbols.licences_known),
        (1, false),
        "all that is global, for want of better"
    );
    fs::write(&file, "hello\n").unwrap();
    assert!(kernel.symbols(Some(&file)).is_err());
}

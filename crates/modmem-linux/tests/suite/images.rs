//! Kernel images of other machines, made up.

use crate::support::*;
use modmem::arch::Machine;
use modmem_linux::{Error, KernelImage};

/// Bytes in the order and words of a machine.
#[derive(Clone, Copy)]
struct Form {
    little: bool,
    word: usize,
    /// What tables are aligned to.
    align: usize,
}

impl Form {
    fn number(self, value: u64, size: usize) -> Vec<u8> {
        match self.little {
            true => value.to_le_bytes()[..size].to_vec(),
            false => value.to_be_bytes()[8 - size..].to_vec(),
        }
    }
}

/// Where the numbers of the symbols count from, and in which order the tables are.
#[derive(Clone, Copy, PartialEq)]
enum Era {
    /// Before 6.4, with numbers by name.
    Old,
    /// 6.4 and later.
    Middle,
    /// 7.0 and later.
    New,
}

/// How the kernel refers to its exports.
#[derive(Clone, Copy, PartialEq)]
enum Entries {
    Relative,
    Absolute,
    /// Pointers of 0, and a table of what they will be.
    Moved,
}

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
const GPL: [&str; 1] = ["delta"];
/// Where the tables of exports begin, their checksums and their names; then the symbols.
const TABLE: usize = 0x1000;
const STRINGS: usize = 0x1100;
const KALLSYMS: usize = 0x2000;
/// Where a table of relocations begins.
const RELOCATIONS: usize = 0x1_4000;
const SIZE: usize = 0x1_8000;

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The bytes of a kernel that is linked at `base`.
fn kernel(base: u64, form: Form, era: Era, entries: Entries) -> Vec<u8> {
    let mut image = vec![0; SIZE];
    let mut moved = Vec::new();
    // Names, and behind them an empty one: no namespace.
    let mut strings = Vec::new();
    let mut places = Vec::new();
    for name in NAMES.iter().chain(&GPL) {
        places.push(STRINGS + strings.len());
        strings.extend(name.bytes().chain([0]));
    }
    let namespace = STRINGS + strings.len();
    strings.extend(b"SPACE\0");
    put(&mut image, STRINGS, &strings);
    let size = if entries == Entries::Relative { 12 } else { 3 * form.word };
    let (gpl, end) = (TABLE + NAMES.len() * size, TABLE + 4 * size);
    for (at, name) in places.iter().enumerate() {
        let empty = namespace + 5;
        let fields = [0x100 + 0x10 * at, *name, if at == 1 { namespace } else { empty }];
        for (field, target) in fields.into_iter().enumerate() {
            let place = TABLE + at * size + field * size / 3;
            match entries {
                Entries::Relative => {
                    put(&mut image, place, &form.number(target.wrapping_sub(place) as u64, 4));
                }
                Entries::Absolute => {
                    put(&mut image, place, &form.number(base + target as u64, form.word));
                }
                Entries::Moved => moved.push((place, base + target as u64)),
            }
        }
        put(&mut image, end + 4 * at, &form.number(0x11 * (at as u64 + 1), 4));
    }
    let mut symbols: Vec<(String, usize)> = vec![
        ("T_text".into(), 0),
        ("T_etext".into(), 0x800),
        ("R__start___ksymtab".into(), TABLE),
        ("R__stop___ksymtab".into(), gpl),
        ("R__start___ksymtab_gpl".into(), gpl),
        ("R__stop___ksymtab_gpl".into(), end),
        ("R__start___kcrctab".into(), end),
        ("R__stop___kcrctab".into(), end + 12),
        ("R__start___kcrctab_gpl".into(), end + 12),
        ("R__stop___kcrctab_gpl".into(), end + 16),
        ("D__per_cpu_start".into(), 0x1_7000),
        ("D__per_cpu_end".into(), 0x1_7123),
        ("B_end".into(), 0x2_0000),
    ];
    // As many as it takes for two groups.
    symbols.extend((0..300).map(|number| (format!("tfiller_{number}"), 0x200 + number)));
    let base_at = kallsyms(&mut image, &mut symbols, form, era);
    match (base_at, entries) {
        (Some(at), Entries::Moved) => moved.push((at, base)),
        (Some(at), _) => put(&mut image, at, &form.number(base, form.word)),
        (None, _) => {}
    }
    moved.extend((0..200).map(|number| (0x1_6000 + number * form.word, base + 0x100)));
    moved.sort_unstable();
    if entries == Entries::Moved {
        for (number, (place, value)) in moved.into_iter().enumerate() {
            let record =
                [base + place as u64, 1027, value].map(|value| form.number(value, form.word)).concat();
            put(&mut image, RELOCATIONS + number * record.len(), &record);
        }
    }
    image
}

/// Writes the tables of symbols; gives the place of their base.
fn kallsyms(image: &mut [u8], symbols: &mut Vec<(String, usize)>, form: Form, era: Era) -> Option<usize> {
    let up = |at: usize| at.next_multiple_of(form.align);
    // A token stands for more than a character.
    let code = |text: &str| text.replace("filler_", "\u{1}").into_bytes();
    let tokens: Vec<String> = (0..=255_u8)
        .map(|code| match code {
            1 => "filler_".to_owned(),
            32..=126 => char::from(code).to_string(),
            _ => String::new(),
        })
        .collect();
    let own = "Dkallsyms_token_table";
    let count = symbols.len() + 1;
    // Where the table of tokens comes to lie depends on no order: it has a symbol itself.
    let before = if era == Era::Old { up(4 * count) + form.word } else { 0 };
    let names_size: usize = symbols.iter().map(|(name, _)| 1 + code(name).len()).sum();
    let names_size = names_size + 1 + own.len();
    let numbers = if era == Era::Old { up(3 * count) } else { 0 };
    let table = KALLSYMS + before + up(4) + up(names_size) + up(4 * count.div_ceil(256)) + numbers;
    symbols.push((own.into(), table));
    symbols.sort_by_key(|(_, offset)| *offset);
    let (mut names, mut markers) = (Vec::new(), Vec::new());
    for (number, (name, _)) in symbols.iter().enumerate() {
        if number % 256 == 0 {
            markers.extend(form.number(names.len() as u64, 4));
        }
        let codes = code(name);
        names.push(codes.len() as u8);
        names.extend(codes);
    }
    let mut at = KALLSYMS;
    let offsets_before = at;
    if era == Era::Old {
        at = up(at + 4 * count);
        at += form.word;
    }
    let before = at;
    put(image, at, &form.number(count as u64, 4));
    at = up(at + 4);
    put(image, at, &names);
    at = up(at + names.len());
    put(image, at, &markers);
    at = up(at + markers.len());
    if era == Era::Old {
        put(image, at, &vec![7; 3 * count]);
        at = up(at + 3 * count);
    }
    assert_eq!(at, table);
    let mut index = Vec::new();
    for token in &tokens {
        index.extend(form.number((at - table) as u64, 2));
        put(image, at, token.as_bytes());
        at += token.len() + 1;
    }
    at = up(at);
    put(image, at, &index);
    at = up(at + index.len());
    let offsets = if era == Era::Old { offsets_before } else { at };
    for (number, (_, offset)) in symbols.iter().enumerate() {
        let place = offsets + 4 * number;
        let value = if era == Era::New { offset.wrapping_sub(place) } else { *offset };
        put(image, place, &form.number(value as u64, 4));
    }
    match era {
        Era::Old => Some(before - form.word),
        Era::Middle => Some(up(at + 4 * count)),
        Era::New => None,
    }
}

const LITTLE: Form = Form { little: true, word: 8, align: 8 };
const NEW: Form = Form { align: 4, ..LITTLE };
const BIG: Form = Form { little: false, word: 8, align: 8 };
const ARM64: u64 = 0xffff_8000_8000_0000;
const S390: u64 = 0x10_0000;

/// arm64's `Image` around a kernel.
fn arm64(mut kernel: Vec<u8>) -> Vec<u8> {
    put(&mut kernel, 0, b"MZ");
    put(&mut kernel, 16, &0x2_0000_u64.to_le_bytes());
    put(&mut kernel, 24, &0xa_u64.to_le_bytes());
    put(&mut kernel, 0x38, b"ARM\x64");
    kernel
}

/// s390's image around a kernel, with something before it that looks like compressed data.
fn s390(kernel: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 0x1_1000];
    put(&mut image, 0x1_0008, b"S390EP");
    put(&mut image, 0x1_0100, &[0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff]);
    image.extend(zstd(kernel));
    image.extend([0; 64]);
    image
}

fn check(image: &KernelImage, moved: u64, base: u64) {
    let symbols = image.symbols().unwrap();
    let names: Vec<&str> = symbols.iter().map(|symbol| &*symbol.name).collect();
    assert_eq!(names, ["alpha", "beta", "delta", "gamma"]);
    for (name, place, crc, gpl_only, namespace) in [
        ("alpha", 0x100, 0x11, false, None),
        ("beta", 0x110, 0x22, false, Some("SPACE")),
        ("gamma", 0x120, 0x33, false, None),
        ("delta", 0x130, 0x44, true, None),
    ] {
        let symbol = symbols.iter().find(|symbol| *symbol.name == *name).unwrap();
        assert_eq!(symbol.address, Some(moved + base + place), "{name}");
        assert_eq!((symbol.crc, symbol.gpl_only), (Some(crc), gpl_only), "{name}");
        assert_eq!(symbol.namespace.as_deref(), namespace, "{name}");
    }
    let facts = image.facts().unwrap();
    let at = |offset: u64| moved + base + offset;
    assert_eq!((facts.text, facts.text_end, facts.end), (at(0), Some(at(0x800)), at(0x2_0000)));
    assert_eq!(facts.percpu, Some(at(0x1_7000)..at(0x1_7123)));
}

#[test]
fn the_exports_of_an_image_are_found_whatever_its_kernel_s_age() {
    for (form, era, entries) in [
        (LITTLE, Era::Old, Entries::Relative),
        (LITTLE, Era::Middle, Entries::Relative),
        (NEW, Era::New, Entries::Relative),
        (LITTLE, Era::Middle, Entries::Absolute),
        (LITTLE, Era::Old, Entries::Moved),
        (LITTLE, Era::Middle, Entries::Moved),
    ] {
        let image = arm64(kernel(ARM64, form, era, entries));
        let image = KernelImage::read("vmlinuz", image, None).unwrap();
        assert_eq!(image.machine(), Machine::Arm64);
        check(&image, 0, ARM64);
    }
}

#[test]
fn an_image_may_be_compressed_or_an_efi_program_that_unpacks_itself() {
    let plain = arm64(kernel(ARM64, LITTLE, Era::Middle, Entries::Relative));
    let packed = zstd(&plain);
    let mut efi = vec![0; 0x200];
    put(&mut efi, 0, b"MZ\0\0zimg");
    put(&mut efi, 8, &0x200_u32.to_le_bytes());
    put(&mut efi, 12, &(packed.len() as u32).to_le_bytes());
    efi.extend(&packed);
    for image in [gzip(&plain), packed.clone(), efi.clone()] {
        check(&KernelImage::read("vmlinuz", image, None).unwrap(), 0, ARM64);
    }
    for length in (0..efi.len()).step_by(37) {
        assert!(KernelImage::read("vmlinuz", efi[..length].to_vec(), None).is_err(), "{length}");
    }
}

#[test]
fn a_kernel_of_s390_is_big_endian_and_lies_where_its_configuration_says() {
    let image = s390(&kernel(S390, BIG, Era::Middle, Entries::Absolute));
    let place = |config: Option<&[u8]>| {
        let image = KernelImage::read("vmlinuz", image.clone(), config).unwrap();
        assert_eq!(image.machine(), Machine::S390);
        image
    };
    check(&place(None), 0, S390);
    let mapped = place(Some(b"CONFIG_S390=y\nCONFIG_KERNEL_IMAGE_BASE=0x3FFE0000000\n"));
    check(&mapped, 0x3ff_e000_0000, S390);
    let facts = mapped.facts().unwrap();
    assert_eq!((facts.start, facts.text), (0x3ff_e000_0000, 0x3ff_e010_0000));
}

#[test]
fn the_base_of_a_kernel_whose_symbols_do_not_say_it_follows_from_its_configuration() {
    for (config, base) in [
        ("CONFIG_ARM64_VA_BITS=48\n", ARM64),
        ("CONFIG_ARM64_VA_BITS=52\nCONFIG_ARM64_PAGE_SHIFT=12\n", ARM64),
        ("CONFIG_ARM64_VA_BITS=52\nCONFIG_PAGE_SHIFT=14\n", 0xffff_c000_8000_0000),
        ("CONFIG_ARM64_VA_BITS=47\nCONFIG_PAGE_SHIFT=14\n", 0xffff_c000_8000_0000),
        ("CONFIG_ARM64_VA_BITS=39\n", 0xffff_ffc0_8000_0000),
    ] {
        let image = arm64(kernel(base, NEW, Era::New, Entries::Relative));
        check(&KernelImage::read("vmlinuz", image, Some(config.as_bytes())).unwrap(), 0, base);
    }
}

#[test]
fn what_an_image_does_not_tell_is_an_error_that_says_what_to_give() {
    let error = |image: Vec<u8>| {
        let read = |image| KernelImage::read("vmlinuz", image, None)?.symbols();
        read(image).unwrap_err().to_string()
    };
    for (image, problem) in [
        (arm64(vec![0; 0x1_0000]), "own symbols are not found in it; give Module.symvers"),
        (s390(&[]), "no compressed kernel is in it"),
        (vec![7; 0x1000], "not a kernel image that is known"),
        (Vec::new(), "not a kernel image that is known"),
    ] {
        let error = error(image);
        assert!(error.starts_with("vmlinuz: ") && error.contains(problem), "{error}");
    }
    let mut huge = arm64(kernel(ARM64, LITTLE, Era::Middle, Entries::Relative));
    put(&mut huge, 16, &u64::MAX.to_le_bytes());
    assert!(matches!(KernelImage::read("vmlinuz", huge, None), Err(Error::Malformed { .. })));
}

#[test]
fn no_damage_makes_the_readers_panic_or_wait() {
    let image = arm64(kernel(ARM64, LITTLE, Era::Middle, Entries::Moved));
    let read = |image: Vec<u8>| {
        if let Ok(image) = KernelImage::read("v", image, None) {
            let _ = (image.symbols(), image.facts());
        }
    };
    for length in (0..image.len()).step_by(509) {
        read(image[..length].to_vec());
    }
    // The tables themselves.
    for at in (TABLE..TABLE + 0x100).chain(KALLSYMS..KALLSYMS + 0x3000).step_by(31) {
        for value in [0, 1, 0x7f, 0xff] {
            let mut image = image.clone();
            image[at] = value;
            read(image);
        }
    }
    // Digits, and nothing else that fits.
    let digits = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";
    read(arm64(digits.repeat(10_000)));
    let mut index = digits.repeat(10);
    index.resize(1 << 20, 0);
    read(arm64(index));
}

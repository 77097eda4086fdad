//! `.modinfo` and `struct module`.

use super::super::model::{Model, NAME, NAME_LENGTH, SHT_PROGBITS, Section, THIS_MODULE};
use crate::random::Random;

const INFO: &[(&str, &str)] = &[
    ("license", "GPL"),
    ("license", "Proprietary"),
    ("license", "GPL v2"),
    ("license", "Dual MIT/GPL"),
    ("license", ""),
    ("vermagic", "6.12.0 mod_unload "),
    ("vermagic", ""),
    ("name", "other"),
    ("name", ""),
    ("import_ns", "NOBODYS"),
    ("retpoline", "Y"),
    ("intree", "Y"),
    ("staging", "Y"),
    ("livepatch", "Y"),
    ("test", "Y"),
    ("depends", "nobody"),
    ("srcversion", "0123"),
    ("unknown", "x"),
    ("license", "GPL\n"),
    ("license", "gpl"),
    ("license", "GPL and additional rights"),
    ("license", "Dual BSD/GPL"),
    ("license", "Dual MPL/GPL"),
    ("import_ns", "module:x"),
    ("import_ns", ""),
    ("name", "ndiswrapper"),
    ("name", "driverloader"),
    ("retpoline", ""),
    ("intree", ""),
    ("parm", "x:y"),
    ("parmtype", "x:int"),
    ("alias", "*"),
    ("softdep", "pre: nobody"),
    ("", "x"),
    ("license ", "GPL"),
    ("sig_id", "PKCS#7"),
];

pub(super) fn modinfo(model: &mut Model, random: &mut Random) -> Option<String> {
    let at = model.find(".modinfo")?;
    let bytes = &mut model.sections[at].bytes;
    let mut strings: Vec<Vec<u8>> = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    strings.retain(|string| !string.is_empty());
    let what = match random.below(5) {
        0 if !strings.is_empty() => {
            let gone = strings.remove(random.below(strings.len()));
            format!("without {}", String::from_utf8_lossy(&gone))
        }
        1 => {
            let (key, value) = random.one(INFO);
            let start = format!("{key}=");
            strings.retain(|string| !string.starts_with(start.as_bytes()));
            strings.push(format!("{key}={value}").into_bytes());
            format!("{key}={value} instead")
        }
        3 => {
            let (key, value) = random.one(INFO);
            strings.insert(0, format!("{key}={value}").into_bytes());
            format!("{key}={value} before all")
        }
        2 => {
            let (key, value) = random.one(INFO);
            strings.insert(0, key.as_bytes().to_vec());
            strings.push(value.as_bytes().to_vec());
            format!("{key} and {value}, each without the other")
        }
        _ => {
            let (key, value) = random.one(INFO);
            strings.push(format!("{key}={value}").into_bytes());
            format!("{key}={value} behind all")
        }
    };
    *bytes = strings.iter().flat_map(|string| string.iter().copied().chain([0])).collect();
    if random.percent(10) {
        bytes.pop();
        return Some(format!("{what}, no NUL at the end"));
    }
    Some(what)
}

/// Words of the version magic.
pub(super) fn vermagic(model: &mut Model, random: &mut Random) -> Option<String> {
    const KEY: &[u8] = b"vermagic=";
    const WORDS: &[&str] = &[
        "SMP",
        "preempt",
        "preempt_rt",
        "modversions",
        "mod_unload",
        "aarch64",
        "6.12.0",
        "RANDSTRUCT_0",
        "",
    ];
    let at = model.find(".modinfo")?;
    let bytes = &mut model.sections[at].bytes;
    let mut strings: Vec<Vec<u8>> = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let magic = strings.iter_mut().find(|string| string.starts_with(KEY))?;
    let text = String::from_utf8_lossy(&magic[KEY.len()..]).into_owned();
    let mut words: Vec<&str> = text.split(' ').collect();
    let (place, word) = (random.below(words.len()), random.one(WORDS));
    match random.below(4) {
        0 => drop(words.remove(place)),
        1 => words[place] = word,
        2 => words.insert(place, word),
        _ => words.push(word),
    }
    let said = words.join(" ");
    magic.truncate(KEY.len());
    magic.extend(said.bytes());
    *bytes = strings.join(&0);
    Some(format!("{said:?}"))
}

pub(super) fn this_module(model: &mut Model, random: &mut Random) -> Option<String> {
    let at = model.find(THIS_MODULE)?;
    let bytes = &mut model.sections[at].bytes;
    Some(match random.below(5) {
        0 => {
            bytes.truncate(bytes.len().saturating_sub(64));
            "64 bytes less".to_owned()
        }
        1 => {
            bytes.extend([0; 64]);
            "64 bytes more".to_owned()
        }
        2 => {
            let name = random.one(&["other_name", "a-b", "a/b", "x", ".", "vmlinux", "a b"]);
            model.set_name(name)?;
            format!("name {name:?}")
        }
        3 => {
            let length = random.one(&[0, 54, 55, 56]);
            bytes.get_mut(NAME..NAME + NAME_LENGTH)?.fill(0);
            bytes.get_mut(NAME..NAME + length)?.fill(b'n');
            format!("a name of {length} bytes")
        }
        _ => {
            let copy = model.sections[at].clone();
            model.add(copy);
            "twice".to_owned()
        }
    })
}

/// An init and an exit that do nothing: a module without exit stays for good.
pub(super) fn entries(model: &mut Model, random: &mut Random) -> Option<String> {
    const R_X86_64_64: u32 = 1;
    // xor %eax, %eax; ret
    const CODE: [u8; 3] = [0x31, 0xc0, 0xc3];
    let target = model.find(THIS_MODULE)?;
    let wanted = random.one(&[[true, true], [true, true], [true, true], [false, true], [true, false]]);
    let names: [&[&str]; 2] =
        [&[".init.text.modmem", ".text.modmem", ".init.modmem"], &[".exit.text.modmem", ".text.modmem_exit"]];
    let (mut relocations, mut said) = (Vec::new(), Vec::new());
    for ((wanted, offset), (names, symbol)) in
        wanted.into_iter().zip(model.entries).zip(names.into_iter().zip(["init_module", "cleanup_module"]))
    {
        let (true, Some(offset)) = (wanted, offset) else { continue };
        let name = random.one(names);
        let section = model.add(Section {
            name: name.to_owned(),
            kind: SHT_PROGBITS,
            flags: 6,
            align: 16,
            bytes: CODE.to_vec(),
            ..Section::default()
        });
        let symbol = model.add_symbol(symbol, 0x12, section as u16, 0)?;
        relocations.push((offset, R_X86_64_64, symbol, 0));
        said.push(name);
    }
    model.add_relocations(target, &relocations)?;
    Some(said.join(" and "))
}

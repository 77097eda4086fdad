//! Small ELF files and packages, made on the spot.
#![allow(dead_code, reason = "each test program uses a part of this")]

use modmem_linux::{OpenOptions, Progress, Sample};
use std::{
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
};

pub(crate) const RELEASE: &str = "6.12.1-test";

/// A section of an ELF file to be made.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) kind: u32,
    pub(crate) address: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) link: u32,
}

pub(crate) fn section(name: &'static str, address: u64, data: Vec<u8>) -> Section {
    Section { name, kind: 1, address, data, link: 0 }
}

/// A little-endian 64-bit ELF file; `segments` are addresses and sizes to be loaded.
pub(crate) fn elf(kind: u16, sections: &[Section], segments: &[(u64, u64)]) -> Vec<u8> {
    let mut names = vec![0];
    let mut headers = vec![0; 64];
    let mut body = vec![0; 64 + segments.len() * 56];
    let mut add = |name: &str, section: &Section, body: &mut Vec<u8>| {
        body.resize(body.len().next_multiple_of(8), 0);
        let entry_size: u64 = if section.kind == 2 { 24 } else { 0 };
        for word in [names.len() as u32, section.kind] {
            headers.extend(word.to_le_bytes());
        }
        for long in [2, section.address, body.len() as u64, section.data.len() as u64] {
            headers.extend(long.to_le_bytes());
        }
        headers.extend(section.link.to_le_bytes());
        headers.extend(1u32.to_le_bytes());
        headers.extend(8u64.to_le_bytes());
        headers.extend(entry_size.to_le_bytes());
        names.extend(name.bytes());
        names.push(0);
        body.extend(&section.data);
    };
    for one in sections {
        add(one.name, one, &mut body);
    }
    // The table of names holds its own name too, so that is written by hand.
    let mut all_names = Section { name: ".shstrtab", kind: 3, address: 0, data: Vec::new(), link: 0 };
    all_names.data = {
        let mut text = vec![0];
        for name in sections.iter().map(|section| section.name).chain([".shstrtab"]) {
            text.extend(name.bytes());
            text.push(0);
        }
        text
    };
    add(".shstrtab", &all_names, &mut body);
    body.resize(body.len().next_multiple_of(8), 0);
    let section_headers = body.len() as u64;
    body.extend(&headers);

    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend(kind.to_le_bytes());
    header.extend(62u16.to_le_bytes());
    header.extend(1u32.to_le_bytes());
    for long in [0, if segments.is_empty() { 0 } else { 64 }, section_headers] {
        header.extend(u64::to_le_bytes(long));
    }
    header.extend(0u32.to_le_bytes());
    let sections = sections.len() as u16;
    for short in [64, 56, segments.len() as u16, 64, sections + 2, sections + 1] {
        header.extend(short.to_le_bytes());
    }
    body[..64].copy_from_slice(&header);
    for (at, (address, size)) in segments.iter().enumerate() {
        let mut segment = Vec::new();
        segment.extend(1u32.to_le_bytes());
        segment.extend(5u32.to_le_bytes());
        for long in [0, *address, 0, 0, *size, 4096] {
            segment.extend(u64::to_le_bytes(long));
        }
        body[64 + at * 56..][..56].copy_from_slice(&segment);
    }
    body
}

/// A module: its `.modinfo`, what it exports, and what it needs.
pub(crate) fn module(modinfo: &[&str], exports: &[&str], imports: &[&str]) -> Vec<u8> {
    let info: Vec<u8> = modinfo.iter().flat_map(|field| field.bytes().chain([0])).collect();
    let (mut strings, mut symbols) = (vec![0], vec![0; 24]);
    let exports = exports.iter().map(|name| (format!("__ksymtab_{name}"), 0x00, 1u16));
    let imports = imports.iter().map(|name| ((*name).to_owned(), 0x10, 0));
    for (name, info, section) in exports.chain(imports) {
        symbols.extend((strings.len() as u32).to_le_bytes());
        symbols.extend([info, 0]);
        symbols.extend(section.to_le_bytes());
        symbols.extend([0; 16]);
        strings.extend(name.bytes());
        strings.push(0);
    }
    let sections = [
        section(".modinfo", 0, info),
        Section { name: ".symtab", kind: 2, address: 0, data: symbols, link: 3 },
        Section { name: ".strtab", kind: 3, address: 0, data: strings, link: 0 },
    ];
    elf(1, &sections, &[])
}

/// A module that says what it needs.
pub(crate) fn needing(depends: &str) -> Vec<u8> {
    module(&[&format!("depends={depends}"), "vermagic=6.12.1-test SMP "], &[], &[])
}

pub(crate) enum Entry {
    File(Vec<u8>),
    Symlink(&'static str),
    HardLink(&'static str),
}

pub(crate) fn tar(entries: &[(&str, Entry)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, entry) in entries {
        let mut header = tar::Header::new_gnu();
        // As bytes: the builder itself would refuse the paths that tests are about.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mode(0o644);
        let data: &[u8] = match entry {
            Entry::File(data) => {
                header.set_entry_type(tar::EntryType::Regular);
                data
            }
            Entry::Symlink(target) | Entry::HardLink(target) => {
                let hard = matches!(entry, Entry::HardLink(_));
                header.set_entry_type(if hard { tar::EntryType::Link } else { tar::EntryType::Symlink });
                header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
                &[]
            }
        };
        header.set_size(data.len() as u64);
        header.set_cksum();
        archive.append(&header, data).unwrap();
    }
    archive.into_inner().unwrap()
}

pub(crate) fn ar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, data) in members {
        writeln!(bytes, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, data.len()).unwrap();
        bytes.extend(data);
        if data.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// Many small blocks, as dpkg makes many large ones.
pub(crate) fn xz(data: &[u8]) -> Vec<u8> {
    let stream =
        liblzma::stream::MtStreamBuilder::new().threads(1).block_size(4096).preset(0).encoder().unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).unwrap()
}

pub(crate) fn deb_of(data_name: &str, data: Vec<u8>) -> Vec<u8> {
    let control = xz(&tar(&[("./control", Entry::File(b"Package: linux-image-test\n".to_vec()))]));
    ar(&[("debian-binary", b"2.0\n".to_vec()), ("control.tar.xz", control), (data_name, data)])
}

pub(crate) fn deb(entries: &[(&str, Entry)]) -> Vec<u8> {
    deb_of("data.tar.xz", xz(&tar(entries)))
}

/// A package like Debian's: a kernel, its configuration and two modules.
pub(crate) fn kernel_entries() -> Vec<(&'static str, Entry)> {
    vec![
        ("./boot/config-6.12.1-test", Entry::File(b"CONFIG_X=y\n".to_vec())),
        ("./boot/vmlinuz-6.12.1-test", Entry::File(b"no kernel".to_vec())),
        ("./lib/modules/6.12.1-test/kernel/fs/b.ko.xz", Entry::File(xz(&needing("a")))),
        ("./lib/modules/6.12.1-test/kernel/lib/a.ko.xz", Entry::File(xz(&needing("")))),
        (
            "./lib/modules/6.12.1-test/modules.order",
            Entry::File(b"kernel/lib/a.ko\nkernel/fs/b.ko\n".to_vec()),
        ),
        ("./lib/modules/6.12.1-test/build", Entry::Symlink("/usr/src/linux-headers-6.12.1-test")),
        ("./usr/share/doc/linux/copyright", Entry::File(b"GPL".to_vec())),
    ]
}

/// Remembers the phases it was told of.
#[derive(Debug, Default)]
pub(crate) struct Phases(pub(crate) Mutex<Vec<String>>);

impl Progress for Phases {
    fn phase(&self, what: &str, _total: Option<u64>) {
        self.0.lock().unwrap().push(what.to_owned());
    }
    fn advance(&self, _amount: u64) {}
    fn done(&self) {}
}

/// Options that touch nothing outside `folder`.
pub(crate) fn options(folder: &Path) -> (OpenOptions, Arc<Phases>) {
    let phases = Arc::new(Phases::default());
    let options = OpenOptions {
        cache: Some(folder.join("cache")),
        state: Some(folder.join("state")),
        system_root: folder.join("system"),
        offline: true,
        progress: phases.clone(),
        ..OpenOptions::default()
    };
    (options, phases)
}

/// Files built into the program, made up by a test; those with a full path lie there, the others in the kernel's folder.
pub(crate) fn sample(files: &[(&str, Vec<u8>)]) -> Sample {
    let files: Vec<(&'static str, &'static [u8])> = files
        .iter()
        .map(|(name, data)| {
            let name: &'static str = match name.strip_prefix('/') {
                Some(path) => path.to_owned().leak(),
                None => format!("lib/modules/{RELEASE}/{name}").leak(),
            };
            let data: &'static [u8] = data.clone().leak();
            (name, data)
        })
        .collect();
    files.leak()
}

//! Reads a recorded kernel.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What one kernel reported, and the module files that it had loaded.
pub(crate) struct Oracle {
    pub(crate) release: String,
    pub(crate) config: String,
    /// Module name to file.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Module name to section name to address.
    pub(crate) sections: HashMap<String, HashMap<String, u64>>,
    /// Module name to bytes of core memory.
    pub(crate) core_sizes: HashMap<String, u64>,
    /// vmalloc areas: address to size, guard page included.
    pub(crate) areas: BTreeMap<u64, u64>,
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_zst(path: &Path) -> Vec<u8> {
    zstd::decode_all(&read(path)[..]).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("recorded text is UTF-8")
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_else(|_| panic!("{text}"))
}

impl Oracle {
    /// The recorded kernel of that name, or `None` where there are no recordings.
    pub(crate) fn open(name: &str) -> Option<Oracle> {
        let Some(root) = std::env::var_os("MODMEM_ORACLE") else {
            eprintln!("SKIPPED: MODMEM_ORACLE is not set, so nothing is compared with {name}");
            return None;
        };
        let folder = PathBuf::from(root).join(name);
        let mut sections: HashMap<String, HashMap<String, u64>> = HashMap::new();
        for line in text(read(&folder.join("sections"))).lines() {
            let [module, section, address] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            sections.entry(module.into()).or_default().insert(section.into(), hex(address));
        }
        let mut core_sizes = HashMap::new();
        for line in text(read(&folder.join("modinfo"))).lines() {
            let (module, rest) = line.split_once(" core=").expect("core size");
            core_sizes.insert(module.into(), rest.split(' ').next().unwrap().parse().expect("core size"));
        }
        let mut areas = BTreeMap::new();
        for line in text(read_zst(&folder.join("vmallocinfo.zst"))).lines() {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').expect("a range");
            areas.insert(hex(start), hex(end) - hex(start));
        }
        let mut files = BTreeMap::new();
        let archive = read_zst(&folder.join("ko.tar.zst"));
        for entry in tar::Archive::new(&archive[..]).entries().expect("an archive") {
            let mut entry = entry.expect("an archive member");
            let path = entry.path().expect("a path").into_owned();
            if path.extension().is_some_and(|extension| extension == "ko") {
                let mut file = Vec::new();
                entry.read_to_end(&mut file).expect("a file");
                files.insert(path.file_stem().unwrap().to_str().unwrap().replace('-', "_"), file);
            }
        }
        Some(Oracle {
            release: text(read(&folder.join("kernel"))).trim().into(),
            config: text(read_zst(&folder.join("config.zst"))),
            files,
            sections,
            core_sizes,
            areas,
        })
    }
}

//! Kernels recorded while they ran: what each reported about its modules, and the module files that it had loaded.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};

/// One recorded kernel.
#[derive(Debug)]
pub struct Oracle {
    /// Its release, such as `6.12.117+deb12-amd64`.
    pub release: String,
    /// Its configuration.
    pub config: String,
    /// Module name to file.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Module name to section name to address.
    pub sections: HashMap<String, HashMap<String, u64>>,
    /// The text of /proc/modules.
    pub proc_modules: String,
    /// Module name to what /sys/module had: `core=` bytes, `init=` bytes, `refcnt=`, `taint=`, `state=`.
    pub modinfo: BTreeMap<String, String>,
    /// Module name to bytes of core memory.
    pub core_sizes: HashMap<String, u64>,
    /// vmalloc areas: address to size, guard page included.
    pub areas: BTreeMap<u64, u64>,
    /// Memory as it was after all loads: address to bytes.
    pub memory: BTreeMap<u64, Vec<u8>>,
    /// Addresses of the kernel's own symbols; of names that stand twice, the exported one.
    pub symbols: HashMap<String, u64>,
    /// The lines of /proc/kallsyms about modules, and about what it shows like modules: BPF programs, trampolines.
    pub module_symbols: Vec<String>,
    /// Module names in load order.
    pub order: Vec<String>,
    /// What `mod_tree` held, from before the first load to after the last unload, where that was recorded.
    pub mod_tree: Vec<ModTree>,
}

/// The words of a kernel's `mod_tree` at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModTree {
    /// What had just happened: the name of a module that was loaded, `rmmod-` and the name of one that was to be
    /// unloaded, or a word about the moment.
    pub moment: String,
    /// The latch's sequence number.
    pub sequence: u32,
    /// The roots of both trees: addresses of `struct rb_node`.
    pub roots: [u32; 2],
    /// `addr_min`, `addr_max`, `data_addr_min` and `data_addr_max`.
    pub bounds: [u32; 4],
}

/// The folder of the recorded kernel of that name below `MODMEM_ORACLE`, or `None` where there are no recordings.
pub fn folder(name: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("MODMEM_ORACLE") else {
        // Past the test harness, which keeps what passing tests print to itself.
        let skipped = format!("SKIPPED: MODMEM_ORACLE is not set, so nothing is compared with {name}\n");
        let _ = std::io::stderr().write_all(skipped.as_bytes());
        return None;
    };
    Some(PathBuf::from(root).join(name))
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
    /// The recorded kernel of that name below `MODMEM_ORACLE`, or `None` where there are no recordings.
    pub fn from_environment(name: &str) -> Option<Oracle> {
        folder(name).map(|folder| Oracle::read(&folder))
    }

    /// Reads a recording.
    ///
    /// # Panics
    /// It is not complete: recordings are made by us, and a broken one must not pass for a small one.
    pub fn read(folder: &Path) -> Oracle {
        let mut sections: HashMap<String, HashMap<String, u64>> = HashMap::new();
        for line in text(read(&folder.join("sections"))).lines() {
            let [module, section, address] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            sections.entry(module.into()).or_default().insert(section.into(), hex(address));
        }
        let (mut modinfo, mut core_sizes) = (BTreeMap::new(), HashMap::new());
        for line in text(read(&folder.join("modinfo"))).lines() {
            let (module, rest) = line.split_once(' ').expect("a module's values");
            let core = rest.strip_prefix("core=").and_then(|rest| rest.split(' ').next());
            core_sizes.insert(module.into(), core.and_then(|core| core.parse().ok()).expect("core size"));
            modinfo.insert(module.into(), rest.into());
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
        let proc_modules = text(read(&folder.join("modules")));
        let kallsyms = text(read_zst(&folder.join("kallsyms.zst")));
        let mut order: Vec<String> =
            proc_modules.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect();
        // The kernel lists the newest first.
        order.reverse();
        Oracle {
            release: text(read(&folder.join("kernel"))).trim().into(),
            config: text(read_zst(&folder.join("config.zst"))),
            files,
            sections,
            proc_modules,
            modinfo,
            core_sizes,
            areas,
            memory: memory(&folder.join("mem.zst")),
            symbols: symbols(&kallsyms),
            module_symbols: kallsyms.lines().filter(|line| line.contains('[')).map(str::to_owned).collect(),
            order,
            mod_tree: ["mod_tree", "mod_tree.after_rmmod"].map(|name| mod_tree(&folder.join(name))).concat(),
        }
    }

    /// The `length` bytes at `address`, if they were recorded.
    pub fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let (start, bytes) = self.memory.range(..=address).next_back()?;
        let offset = usize::try_from(address - start).ok()?;
        bytes.get(offset..offset.checked_add(length)?)
    }
}

/// Lines of the moment, the address of `mod_tree`, and its words: sequence and roots, bounds, what lies behind them.
fn mod_tree(path: &Path) -> Vec<ModTree> {
    let text = if path.exists() { text(read(path)) } else { String::new() };
    let words = |words: &str| words.split_whitespace().map(|word| hex(word) as u32).collect::<Vec<_>>();
    let line = |line: &str| {
        let (moment, rest) = line.split_once(" mod_tree@")?;
        let [tree, bounds, _] = rest.split(" | ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        let tree = words(tree.split_once(" words ").expect("words").1);
        let bounds = words(bounds).try_into().expect("four words");
        Some(ModTree { moment: moment.into(), sequence: tree[0], roots: [tree[1], tree[2]], bounds })
    };
    text.lines().filter_map(line).collect()
}

/// Records of a text line "address length", in hexadecimal, and that many bytes.
fn memory(path: &Path) -> BTreeMap<u64, Vec<u8>> {
    let mut memory = BTreeMap::new();
    if !path.exists() {
        return memory;
    }
    let all = read_zst(path);
    let mut rest = &all[..];
    while !rest.is_empty() {
        let line = rest.iter().position(|&byte| byte == b'\n').expect("a record's line");
        let header = std::str::from_utf8(&rest[..line]).expect("a record's line");
        let (address, length) = header.split_once(' ').expect("address and length");
        let (bytes, tail) = rest[line + 1..].split_at(hex(length) as usize);
        memory.insert(hex(address), bytes.to_vec());
        rest = tail;
    }
    memory
}

fn symbols(kallsyms: &str) -> HashMap<String, u64> {
    let mut symbols = HashMap::new();
    let mut exported = HashMap::new();
    for line in kallsyms.lines().filter(|line| !line.contains('[')) {
        let [address, letter, name] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
        if letter.chars().all(char::is_uppercase) {
            exported.insert(name.to_owned(), hex(address));
        } else {
            symbols.entry(name.to_owned()).or_insert(hex(address));
        }
    }
    symbols.extend(exported);
    symbols
}

//! A machine that runs sample modules, as a folder of a snapshot's members.
//!
//! The modules are loaded into a modelled kernel, and what a snapshot would have of them is written down: none of them
//! has code that a kernel patches, so their memory is that of a machine.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use modmem::link::{Export, LinkOptions};
use modmem::profile::KernelConfig;
use modmem::space::SpaceBlock;
use modmem::{AddressSpace, Image, Linker, MemoryKind, Modules, Name, Profile};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/root");
const MODULES: [&str; 5] = [
    "kernel/lib/sample_lib.ko",
    "kernel/lib/sample_nodata.ko",
    "kernel/lib/sample_data.ko",
    "kernel/drivers/crypto/sample_crypto.ko",
    "updates/sample_vendor.ko",
];
const RELEASE: &str = "6.12.0-sample";

/// What can be written down of the machine, before it is.
pub(crate) struct Machine {
    pub(crate) modules: String,
    pub(crate) sections: String,
    pub(crate) kallsyms: String,
    pub(crate) vmallocinfo: String,
    /// Address and bytes of each memory.
    pub(crate) memory: Vec<(u64, Vec<u8>)>,
    /// The init memories of the newest module, which were given back.
    pub(crate) given_back: Vec<(u64, Vec<u8>)>,
}

impl Machine {
    /// The machine as nobody has touched it.
    pub(crate) fn new() -> Machine {
        let read = |path: &str| std::fs::read(Path::new(ROOT).join(path)).unwrap();
        let text = |path: &str| String::from_utf8(read(path)).unwrap();
        let mut profile =
            Profile::from_config(&KernelConfig::parse(&text("boot/config-6.12.0-sample")), RELEASE).unwrap();
        // System.map tells neither CRCs nor the magic.
        (profile.vermagic, profile.switches.modversions) = (None, false);
        let kallsyms = text("boot/System.map-6.12.0-sample");
        let addresses = kallsyms.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((words.nth(1)?, address))
        });
        let mut kernel: Modules<SpaceBlock<Vec<u8>>> = Modules::new(&profile, 0x39000);
        kernel
            .add_kernel_symbols(addresses.map(|(name, value)| Export {
                name: Name::from(name),
                value,
                gpl_only: false,
                crc: None,
                namespace: Name::default(),
            }))
            .unwrap();
        let mut space = AddressSpace::new(&profile);
        let mut given_back = Vec::new();
        for path in MODULES {
            let file = read(&format!("lib/modules/{RELEASE}/{path}"));
            let image = Image::parse(&file).unwrap();
            let options = LinkOptions::default();
            let id = kernel.load(&image, &profile, &mut space, &mut Linker::new(), options).unwrap();
            let module = kernel.get(id).unwrap();
            let init = MemoryKind::ALL.into_iter().filter(|kind| kind.is_init());
            let init =
                init.filter_map(|kind| Some((module.range(kind)?.start.0, module.bytes(kind).to_vec())));
            given_back = init.collect();
            kernel.start(id, |_| 0).unwrap();
        }
        let mut machine = Machine {
            modules: kernel.proc_modules().to_string(),
            sections: String::new(),
            kallsyms: kallsyms + &kernel.kallsyms().to_string(),
            vmallocinfo: String::new(),
            memory: Vec::new(),
            given_back,
        };
        for module in kernel.iter() {
            for (section, address) in kernel.sysfs(module.id()).unwrap().sections() {
                writeln!(machine.sections, "{} {section} {address}", module.name()).unwrap();
            }
            for kind in MemoryKind::ALL {
                let Some(range) = module.range(kind) else { continue };
                let (start, bytes) = (range.start.0, module.bytes(kind).to_vec());
                machine.add_area(start, bytes.len() as u64, "move_module+0x1f5/0xa00");
                machine.memory.push((start, bytes));
            }
        }
        machine
    }

    /// Adds an area of vmalloc, with its guard page.
    pub(crate) fn add_area(&mut self, start: u64, size: u64, caller: &str) {
        let (end, pages) = (start + size + 4096, size / 4096);
        writeln!(
            self.vmallocinfo,
            "0x{start:016x}-0x{end:016x} {:>7} {caller} pages={pages} vmalloc",
            size + 4096
        )
        .unwrap();
    }

    /// The address of a symbol.
    pub(crate) fn symbol(&self, name: &str) -> u64 {
        let line = self.kallsyms.lines().find(|line| line.split([' ', '\t']).nth(2) == Some(name));
        u64::from_str_radix(&line.unwrap_or_else(|| panic!("no symbol {name}"))[..16], 16).unwrap()
    }

    /// Changes bytes.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        let (start, memory) = self
            .memory
            .iter_mut()
            .find(|(start, memory)| (*start..*start + memory.len() as u64).contains(&address))
            .expect("an address of a module");
        let at = (address - *start) as usize;
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The bytes at an address.
    pub(crate) fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let inside =
            |(start, memory): &&(u64, Vec<u8>)| (*start..*start + memory.len() as u64).contains(&address);
        let (start, memory) = self.memory.iter().find(inside).expect("an address of a module");
        let at = (address - start) as usize;
        memory[at..at + length].to_vec()
    }

    /// Leaves out all lines about a module, so that it hides; `kallsyms` too, or not.
    pub(crate) fn hide(&mut self, module: &str, kallsyms: bool) {
        let without = |text: &str, is: &dyn Fn(&str) -> bool| -> String {
            text.split_inclusive('\n').filter(|line| !is(line)).collect()
        };
        let begins = format!("{module} ");
        self.modules = without(&self.modules, &|line| line.starts_with(&begins));
        self.sections = without(&self.sections, &|line| line.starts_with(&begins));
        if kallsyms {
            let ends = format!("\t[{module}]\n");
            self.kallsyms = without(&self.kallsyms, &|line| line.ends_with(&ends));
        }
    }

    /// Writes the machine's snapshot into a folder of that name.
    pub(crate) fn save(&self, name: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("verify").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut memory = Vec::new();
        for (address, bytes) in &self.memory {
            memory.extend(format!("{address:x} {:x}\n", bytes.len()).into_bytes());
            memory.extend(bytes);
        }
        let config = std::fs::read(Path::new(ROOT).join("boot/config-6.12.0-sample")).unwrap();
        let members: [(&str, &[u8]); 7] = [
            ("kernel", RELEASE.as_bytes()),
            ("config", &config),
            ("modules", self.modules.as_bytes()),
            ("sections", self.sections.as_bytes()),
            ("kallsyms", self.kallsyms.as_bytes()),
            ("vmallocinfo", self.vmallocinfo.as_bytes()),
            ("mem", &memory),
        ];
        for (name, contents) in members {
            std::fs::write(folder.join(name), contents).unwrap();
        }
        folder
    }
}

/// A jump or call from one address to another.
pub(crate) fn branch(opcode: u8, from: u64, to: u64) -> Vec<u8> {
    [&[opcode][..], &(to.wrapping_sub(from + 5) as u32).to_le_bytes()].concat()
}

//! The thread's own case: what a 32-bit PowerPC kernel did to its `mod_tree`, step by step.
//!
//! The kernel's words after each step were recorded, and so were the addresses of the sections of each module, of
//! those in init memory too, which was free again by then. What the kernel inserted is derived:
//!
//! * *Which memory a section is in, where in it, and how large the memory is:* [`Layout::of`] on the module's file,
//!   under a profile of Linux 6.12 with this kernel's switches. That includes the whole symbol table in InitData and
//!   the core symbols in Data.
//! * *The sizes of `.plt` and `.init.plt`,* which are empty in the file: counted here, as
//!   arch/powerpc/kernel/module_32.c:get_plt_size does. This count and the profile are all of 32-bit PowerPC that
//!   modmem lacks for a layout, and wait here for it.
//! * *Where a memory starts:* the recorded address of each of its sections less the section's offset; all must agree.
//!   Every memory of these modules has a section with bytes. What stays after init must have a vmalloc area of just
//!   that size at that address, a guard page longer.
//! * *When:* a load inserts all memories in the order of their types; when init has returned, still before the line is
//!   recorded, those of init are removed; an unload removes the rest in the same order. An `rmmod` that left the
//!   sequence number as it was has failed, and is no step.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use modmem::arch::Machine;
use modmem::image::elf::section_type::RELA;
use modmem::image::{Image, Section};
use modmem::layout::Layout;
use modmem::profile::{KernelConfig, Profile, Switches};
use modmem_index::bounds::{Augmented, Bounded, Linux, Never, PerType, Scheme, Single, TextData};
use modmem_index::{AddressIndex, Extent, LatchTree, MemoryKind, Owner, OwnerId};

use crate::oracle::{ModTree, Oracle};

/// A load or an unload, and what the kernel's `mod_tree` was after it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Whether a module was loaded.
    pub load: bool,
    /// Its name.
    pub module: String,
    /// The memories that were inserted, or those that were removed.
    pub blocks: Vec<(MemoryKind, Extent<u32>)>,
    /// The kernel's words.
    pub after: ModTree,
    /// The first address of the range at the root.
    pub root: u32,
}

/// All loads and unloads that the kernel did.
///
/// # Errors
/// A file cannot be laid out, or its layout is not what the kernel reports.
pub fn steps(oracle: &Oracle) -> Result<Vec<Step>> {
    let profile = profile(oracle)?;
    let mut modules = BTreeMap::new();
    for name in oracle.files.keys() {
        modules.insert(&**name, Module::of(oracle, name, &profile).with_context(|| name.clone())?);
    }
    let mut steps: Vec<Step> = Vec::new();
    let mut sequence = 0;
    for after in &oracle.mod_tree {
        let (load, name) = match after.moment.strip_prefix("rmmod-") {
            Some(name) => (false, name),
            None => (true, &*after.moment),
        };
        if after.sequence == sequence {
            let same = steps.last().is_none_or(|last| last.after.bounds == after.bounds);
            ensure!(same, "{}: the bounds moved without a change of the tree", after.moment);
            continue;
        }
        sequence = after.sequence;
        let module = modules.get(name).with_context(|| format!("{name}: no such module"))?;
        let mut blocks = module.blocks.clone();
        blocks.retain(|(kind, _)| load || !kind.is_init());
        ensure!(after.roots[1] == after.roots[0] + 12, "{name}: the trees have different roots");
        let root = modules.values().find_map(|module| module.block_of_node(after.roots[0]));
        let root = root.with_context(|| format!("{name}: the root is no module's"))?;
        steps.push(Step { load, module: name.into(), blocks, after: after.clone(), root });
    }
    Ok(steps)
}

/// Does the same to an empty tree behind bounds, and calls `check` after each step.
///
/// # Errors
/// A memory overlaps another, or is not there when it is removed.
pub fn replay<B: Scheme<u32>>(
    steps: &[Step],
    scheme: B,
    mut check: impl FnMut(&Step, &Bounded<u32, LatchTree<u32>, B>),
) -> Result<Bounded<u32, LatchTree<u32>, B>> {
    let index = Bounded::new(LatchTree::new(), scheme)?;
    let mut ids = HashMap::new();
    for step in steps {
        let number = ids.len() as u32;
        let id = OwnerId::new(*ids.entry(&step.module).or_insert(number)).context("too many modules")?;
        if step.load {
            for &(kind, extent) in &step.blocks {
                index.insert(extent, Owner::new(id, kind)).with_context(|| step.module.clone())?;
            }
        }
        for &(kind, extent) in step.blocks.iter().filter(|(kind, _)| !step.load || kind.is_init()) {
            let removed = index.remove(extent.start);
            ensure!(removed == Some((extent, Owner::new(id, kind))), "{}: {kind}: {removed:?}", step.module);
        }
        check(step, &index);
    }
    Ok(index)
}

/// How many of Leroy's addresses are admitted, counted by pages.
fn admitted_in_gap<B: Scheme<u32>>(index: &Bounded<u32, LatchTree<u32>, B>) -> usize {
    GAP.step_by(0x1000).filter(|&address| index.admits(address)).count() * 0x1000
}

/// Leroy's addresses: the kernel itself and lowmem, between module text and module data.
const GAP: std::ops::RangeInclusive<u32> = 0xc000_0000..=0xefff_ffff;

/// Where this kernel's vmalloc begins, which module data comes from.
const DATA_WINDOW: u32 = 0xf100_0000;

/// The steps as the table that the tests of modmem-index read.
///
/// # Errors
/// As [`replay`].
pub fn table(oracle: &Oracle) -> Result<String> {
    let steps = steps(oracle)?;
    let mut text = format!(
        "# What Linux {}, built for 32-bit PowerPC, did to its mod_tree. Written by `cargo xtask goldens`.\n\
         # load NAME WORDS KIND:START+SIZE...: these were inserted, and those of init removed again\n\
         # unload NAME WORDS: the rest was removed\n\
         # WORDS: the latch's sequence, start of the range at the root, addr_min addr_max data_addr_min data_addr_max\n\
         # gap POLICY LOADED UNLOADED: addresses of c0000000-efffffff that are admitted after the last load and at the end\n",
        oracle.release
    );
    for Step { load, module, blocks, after, root } in &steps {
        let [addr_min, addr_max, data_addr_min, data_addr_max] = after.bounds;
        let verb = if *load { "load" } else { "unload" };
        write!(text, "{verb} {module} {:x} {root:x} ", after.sequence)?;
        write!(text, "{addr_min:x} {addr_max:x} {data_addr_min:x} {data_addr_max:x}")?;
        for (kind, extent) in blocks.iter().filter(|_| *load) {
            write!(text, " {kind}:{:x}+{:x}", extent.start, extent.size)?;
        }
        text.push('\n');
    }
    gap_line(&mut text, "Linux", &steps, Linux::<true>)?;
    gap_line(&mut text, "Single", &steps, Single::<Augmented<u32>>::new())?;
    gap_line(&mut text, "TextData", &steps, TextData::<u32>::new(DATA_WINDOW))?;
    gap_line(&mut text, "PerType", &steps, PerType::<Never>::new())?;
    Ok(text)
}

fn gap_line<B: Scheme<u32>>(text: &mut String, name: &str, steps: &[Step], scheme: B) -> Result<()> {
    let mut loaded = 0;
    let index = replay(steps, scheme, |step, index| {
        if step.load {
            loaded = admitted_in_gap(index);
        }
    })?;
    writeln!(text, "gap {name} {loaded:x} {:x}", admitted_in_gap(&index))?;
    Ok(())
}

/// What the kernel knew of a module.
struct Module {
    /// In the order of types.
    blocks: Vec<(MemoryKind, Extent<u32>)>,
    /// The address of its `struct module`.
    this_module: u32,
}

impl Module {
    fn of(oracle: &Oracle, name: &str, profile: &Profile) -> Result<Module> {
        let file = with_plt_sizes(&oracle.files[name])?;
        let image = Image::parse(&file)?;
        let layout = Layout::of(&image, profile)?;
        let reported = &oracle.sections[name];
        let mut starts = BTreeMap::new();
        for section in image.sections().iter().filter(|section| section.size() > 0) {
            let (Some(place), section) = (layout.place(section.index()), section.name().to_text()) else {
                continue;
            };
            let address = reported.get(&section).with_context(|| format!("the kernel has no {section}"))?;
            let start = u32::try_from(address - place.offset)?;
            let first = *starts.entry(place.kind as usize).or_insert(start);
            ensure!(first == start, "{section} lies elsewhere in {}", place.kind);
        }
        let mut blocks = Vec::new();
        for kind in MemoryKind::ALL {
            let size = u32::try_from(layout.memories().0[kind as usize].allocated)?;
            match starts.get(&(kind as usize)) {
                Some(&start) => blocks.push((kind, Extent { start, size })),
                None => ensure!(size == 0, "{kind} has no section with bytes"),
            }
            // Init memory was free again when the kernel listed its areas; each ends with a guard page.
            let area = starts.get(&(kind as usize)).and_then(|&start| oracle.areas.get(&start.into()));
            let expected = u64::from(size) + profile.page_size;
            if size > 0 && !kind.is_init() && area != Some(&expected) {
                bail!("{kind}: the area has {area:x?} bytes, not {expected:x}");
            }
        }
        Ok(Module { blocks, this_module: reported[".gnu.linkonce.this_module"] as u32 })
    }

    /// Where the memory starts whose node of the even tree is at `node`.
    fn block_of_node(&self, node: u32) -> Option<u32> {
        // This kernel's `struct module` has its array of seven `struct module_memory`, of 36 bytes, at 0xe0. In each
        // the node lies behind base, size and owner.
        let offset = node.checked_sub(self.this_module + 0xe0 + 12)?;
        let kind = MemoryKind::ALL.get(offset as usize / 36).filter(|_| offset % 36 == 0)?;
        self.blocks.iter().find(|(other, _)| other == kind).map(|(_, extent)| extent.start)
    }
}

/// Linux 6.12 on 32-bit PowerPC, for layouts.
fn profile(oracle: &Oracle) -> Result<Profile> {
    let config = KernelConfig::parse(&oracle.config);
    let machine = Machine::PowerPc;
    ensure!(config.machine() == Some(machine) && config.is_set("ARCH_WANTS_MODULES_DATA_IN_VMALLOC"));
    let switches = Switches {
        smp: config.is_set("SMP"),
        module_unload: config.is_set("MODULE_UNLOAD"),
        kallsyms: config.is_set("KALLSYMS"),
        kallsyms_all: config.is_set("KALLSYMS_ALL"),
        strict_module_rwx: config.is_set("STRICT_MODULE_RWX"),
        constructors: config.is_set("CONSTRUCTORS"),
        data_in_vmalloc: true,
        ..Switches::debian()
    };
    Ok(Profile { machine, switches, ..Profile::named(&oracle.release)? })
}

/// The file with the sizes that the kernel gives `.plt` and `.init.plt` before it lays anything out: 16 bytes for each
/// function that is called with a 24-bit branch, counted for each relocation section by itself and with one more for
/// ftrace; calls within the module count too.
fn with_plt_sizes(file: &[u8]) -> Result<Vec<u8>> {
    const R_PPC_REL24: u32 = 10;
    let image = Image::parse(file)?;
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_be_bytes).expect("four bytes");
    let mut sizes = BTreeMap::from([(".plt", 0), (".init.plt", 0)]);
    for section in image.sections().iter().filter(|section| section.kind() == RELA) {
        let name = section.name().to_text();
        if name.contains(".debug") {
            continue;
        }
        let records = section.data().chunks_exact(12).map(|record| (word(&record[4..8]), word(&record[8..])));
        let mut calls: Vec<_> = records.filter(|(info, _)| info & 0xff == R_PPC_REL24).collect();
        calls.sort_unstable();
        calls.dedup();
        let plt = if name.contains(".init") { ".init.plt" } else { ".plt" };
        *sizes.entry(plt).or_default() += (calls.len() as u32 + 1) * 16;
    }
    let mut file = file.to_vec();
    let headers = word(&file[32..36]) as usize;
    for (plt, size) in sizes {
        let named = |section: &&Section<'_>| section.name().to_text() == plt;
        let section = image.sections().iter().find(named).with_context(|| format!("there is no {plt}"))?;
        let header = headers + section.index() * 40;
        file[header + 20..header + 24].copy_from_slice(&size.to_be_bytes());
    }
    Ok(file)
}

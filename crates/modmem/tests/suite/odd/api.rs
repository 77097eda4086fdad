//! Calls that nobody should make: images, layouts, placements and linked modules of one another. There is an error or a
//! module, never a panic.

use std::path::Path;

use modmem::arch::Machine;
use modmem::image::Image;
use modmem::link::{LinkError, LinkOptions, Linked};
use modmem::modules::LoadError;
use modmem::space::{Guard, HeapBacking, Memory as _, PerCpuPlace, PerCpuSpace, Request};
use modmem::{
    AddressSpace, Layout, Linker, MemoryKind, ModuleId, Modules, Name, Placement, Profile, RunAddr,
};

use crate::odd::kernel::{Kernel, SpaceBytes, user_of};
use crate::support::{ALLOC, EXEC, Elf, PROGBITS, Section, Symbol, WRITE};

/// A generator of numbers (xorshift64*), the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn one_of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }

    /// A number that is small, large, or next to a power of two.
    fn odd(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(70) as u64,
            1 => (1_u64 << self.below(64)).wrapping_sub(self.below(3) as u64),
            2 => u64::MAX - self.below(5000) as u64,
            _ => self.next(),
        }
    }
}

/// Two modules whose sections are alike and whose symbols are not: the second keeps more of them, with longer names.
fn alike(is_64: bool, big: bool, machine: u16, second: bool) -> Vec<u8> {
    let mut elf = Elf { is_64, big, machine, sections: Vec::new() };
    for name in [".plt", ".init.plt", ".text.ftrace_trampoline"] {
        elf.add(Section::new(name, PROGBITS, ALLOC | EXEC, 8, vec![0; 8]));
    }
    let text = elf.add(Section::new(".text", PROGBITS, ALLOC | EXEC, 16, vec![0; 64]));
    let data = elf.add(Section::new(".data", PROGBITS, ALLOC | WRITE, 16, vec![0; 64]));
    let strings = format!("\0a\0{}\0", "long".repeat(40));
    let (name, section) = if second { (3, data as u16) } else { (1, 0xfff1) };
    let symbols = vec![Symbol { name, info: 0x12, section, value: 8 }; 40];
    elf.add_module_parts(if second { "second" } else { "first" }, &symbols, strings.as_bytes());
    let symtab = elf.sections.len() as u32;
    let kinds: &[u32] = match machine {
        183 => &[283, 282, 257, 275],
        22 => &[20, 26, 22, 4],
        20 => &[10, 1, 6, 4],
        _ => &[1, 2, 4, 10],
    };
    let entry = |index: u32| {
        let symbol = 1 + if second { index } else { 0 };
        (u64::from(index % 8) * 8, symbol, kinds[index as usize % kinds.len()], i64::from(index))
    };
    let entries: Vec<_> = (0..16).map(entry).collect();
    elf.add_relocations(text, symtab, &entries);
    elf.build()
}

fn files() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/root/lib/modules/6.12.0-sample");
    let sample = |path: &str| std::fs::read(folder.join(path)).unwrap();
    let mut files = vec![
        sample("kernel/lib/sample_lib.ko"),
        sample("kernel/lib/sample_data.ko"),
        sample("kernel/drivers/sample/sample_core.ko"),
        sample("updates/sample_vendor.ko"),
        user_of(&["one", "two"]).build(),
        user_of(&["one"]).build(),
    ];
    for (is_64, big, machine) in [(true, false, 62), (true, false, 183), (true, true, 22), (false, true, 20)]
    {
        files.extend([false, true].map(|second| alike(is_64, big, machine, second)));
    }
    files
}

fn profiles() -> Vec<Profile> {
    let mut profiles = Vec::new();
    for version in ["5.10", "6.1", "6.12", "7.2"] {
        for machine in [Machine::X86_64, Machine::Arm64, Machine::S390, Machine::PowerPc] {
            profiles.push(Profile::named_for(machine, version).unwrap());
        }
    }
    let switched: [fn(&mut Profile); 7] = [
        |profile| profile.switches.kallsyms = false,
        |profile| profile.switches.kallsyms_all = false,
        |profile| profile.switches.smp = false,
        |profile| profile.switches.prel32 = !profile.switches.prel32,
        |profile| profile.switches.module_unload = false,
        |profile| profile.switches.strict_module_rwx = false,
        |profile| profile.switches.data_in_vmalloc = true,
    ];
    for switch in switched {
        let mut profile = Profile::named("6.12").unwrap();
        switch(&mut profile);
        profiles.push(profile);
    }
    profiles
}

#[test]
fn a_placement_of_an_image_that_looks_the_same_is_refused() {
    let (first, second) = (alike(true, false, 62, false), alike(true, false, 62, true));
    let (first, second) = (Image::parse(&first).unwrap(), Image::parse(&second).unwrap());
    let mut kernel = Kernel::named("6.12");
    let layout = Layout::of(&first, &kernel.profile).unwrap();
    let placement = Placement::allocate(layout, &mut kernel.space).unwrap();
    let options = LinkOptions { force: true };
    let linked = Linker::new().link(&second, &kernel.profile, placement, &kernel.modules, options);
    assert_eq!(linked.map(|_| ()).unwrap_err(), LinkError::OtherImage);
}

#[test]
fn a_module_is_committed_as_the_image_that_it_was_linked_from() {
    let (one, two) = (user_of(&[]).build(), user_of(&["one"]).build());
    let (one, two) = (Image::parse(&one).unwrap(), Image::parse(&two).unwrap());
    let mut kernel = Kernel::named("6.12");
    let layout = Layout::of(&one, &kernel.profile).unwrap();
    let placement = Placement::allocate(layout, &mut kernel.space).unwrap();
    let options = LinkOptions { force: true };
    let linked = Linker::new().link(&one, &kernel.profile, placement, &kernel.modules, options).unwrap();
    assert_eq!(kernel.modules.commit(&two, linked), Err(LoadError::Link(LinkError::OtherImage)));
}

#[test]
fn no_mixture_of_stages_panics() {
    let files = files();
    let images: Vec<Image<'_>> = files.iter().map(|file| Image::parse(file).unwrap()).collect();
    let profiles = profiles();
    let mut numbers = Numbers(0x5eed_0bad_cafe_0001);
    let mut linker = Linker::new();
    let mut spaces: Vec<AddressSpace> = profiles.iter().map(AddressSpace::new).collect();
    let mut tables: Vec<Modules<SpaceBytes>> =
        profiles.iter().map(|profile| Modules::new(profile, numbers.next() >> 40)).collect();
    let mut ids: Vec<ModuleId> = Vec::new();
    let (mut linked_count, mut loaded, mut refused) = (0, 0, 0);
    for _ in 0..2500 {
        let laid_out = numbers.one_of(&images);
        // Mostly such as fit each other, or nothing gets far.
        let fitting: Vec<usize> =
            (0..profiles.len()).filter(|&at| profiles[at].machine == laid_out.machine()).collect();
        let at = *numbers.one_of(&fitting);
        let Ok(layout) = Layout::of(laid_out, &profiles[at]) else { continue };
        let space = numbers.below(spaces.len());
        let Ok(mut placement) = Placement::allocate(layout, &mut spaces[space]) else { continue };
        if numbers.below(4) > 0 {
            placement = placement.with_percpu(PerCpuPlace::given(numbers.odd()));
        }
        if numbers.below(2) == 0 {
            let Ok(with) = placement.with_beside(&mut spaces[space]) else { continue };
            placement = with;
        }
        let image = if numbers.below(3) > 0 { laid_out } else { numbers.one_of(&images) };
        let profile = if numbers.below(3) > 0 { &profiles[at] } else { numbers.one_of(&profiles) };
        let table = numbers.below(tables.len());
        let options = LinkOptions { force: numbers.below(4) > 0 };
        let linked: Result<Linked<SpaceBytes>, _> =
            linker.link(image, profile, placement, &tables[table], options);
        let Ok(linked) = linked else {
            refused += 1;
            continue;
        };
        linked_count += 1;
        let image = if numbers.below(3) > 0 { image } else { numbers.one_of(&images) };
        let table = if numbers.below(3) > 0 { table } else { numbers.below(tables.len()) };
        let modules = &mut tables[table];
        match modules.commit(image, linked) {
            Ok(id) => {
                loaded += 1;
                ids.push(id);
            }
            Err(_) => refused += 1,
        }
        // Ids of this table and of others.
        if let Some(&id) = ids.get(numbers.below(ids.len() + 1)) {
            look_at(modules, id, &mut numbers);
            match numbers.below(3) {
                0 => {
                    let code = if numbers.below(5) == 0 { -1 } else { 0 };
                    let _ = modules.start(id, |_| code);
                }
                1 => {
                    let _ = modules.unload(id, |_| ());
                }
                _ => {}
            }
        }
    }
    assert!(linked_count > 200 && loaded > 50 && refused > 200, "{linked_count} {loaded} {refused}");
}

/// Asks everything that can be asked of a module, which may not be there.
fn look_at(modules: &Modules<SpaceBytes>, id: ModuleId, numbers: &mut Numbers) {
    let _ = (modules.users(id), modules.protection_violation(), modules.by_name("first"));
    if let Some(sysfs) = modules.sysfs(id) {
        let _ = (sysfs.sections().count(), sysfs.notes().count(), sysfs.coresize());
    }
    let _ = (modules.proc_modules().to_string().len(), modules.kallsyms().to_string().len());
    let Some(module) = modules.get(id) else { return };
    for kind in MemoryKind::ALL {
        let _ = (module.bytes(kind), module.protection(kind), module.original_range(kind));
        let address = module.address(kind).unwrap_or_default() + numbers.odd() % 0x3000;
        let _ = (modules.find(address), modules.lookup(address));
    }
    let _ = (module.exports().count(), module.sections().count(), module.remarks().len());
    let _ = modules.lookup(RunAddr(numbers.odd()));
}

#[test]
fn no_request_for_memory_panics() {
    let mut numbers = Numbers(0x5eed_0bad_cafe_0002);
    for profile in profiles() {
        for guard in [Guard::None, Guard::Page] {
            let mut space = AddressSpace::with_backing(&profile, HeapBacking, guard);
            let mut held = Vec::new();
            for _ in 0..200 {
                let kind = *numbers.one_of(&MemoryKind::ALL);
                // What is granted is kept in this process: not too much of it.
                let size = match numbers.below(3) {
                    0 => numbers.below(0x1_0000) as u64,
                    1 => u64::MAX - numbers.below(0x3000) as u64,
                    _ => (1 << 40) + numbers.odd() % (1 << 40),
                };
                let request = Request { kind, size, alignment: numbers.odd() };
                held.extend(space.allocate(request));
                let start = numbers.odd();
                let _ = space.reserve(RunAddr(start)..RunAddr(numbers.odd()));
                if numbers.below(4) == 0 && !held.is_empty() {
                    held.swap_remove(numbers.below(held.len()));
                }
            }
            let _ = (space.holes().len(), space.pack_holes().len());
        }
        let percpu = PerCpuSpace::new(numbers.odd(), numbers.odd());
        let places: Vec<_> = (0..50).map(|_| percpu.allocate(numbers.odd(), numbers.odd())).collect();
        drop(places);
        let _ = profile.clone().with_kaslr_offset(numbers.odd());
    }
}

#[test]
fn no_profile_that_is_no_kernels_panics() {
    let files = files();
    let mut numbers = Numbers(0x5eed_0bad_cafe_0003);
    for _ in 0..200 {
        let file = numbers.one_of(&files);
        let image = Image::parse(file).unwrap();
        let mut profile =
            Profile::named_for(image.machine(), ["6.1", "6.12", "7.2"][numbers.below(3)]).unwrap();
        match numbers.below(6) {
            0 => profile.page_size = numbers.odd(),
            1 => profile.text_pack = Some(numbers.odd()),
            2 => profile.percpu_reserve = numbers.odd(),
            3 => profile.ranges.text = RunAddr(numbers.odd())..RunAddr(numbers.odd()),
            4 => profile.ranges.fallback = Some(RunAddr(numbers.odd())..RunAddr(numbers.odd())),
            _ => profile.vermagic = Some(["", " ", "RANDSTRUCT_"][numbers.below(3)].into()),
        }
        let Ok(layout) = Layout::of(&image, &profile) else { continue };
        // Nobody has this much memory to lend.
        if layout.blocks().iter().map(|block| block.size).sum::<u64>() > 64 << 20 {
            continue;
        }
        let mut space = AddressSpace::new(&profile);
        let mut modules: Modules<SpaceBytes> = Modules::new(&profile, numbers.odd());
        let options = LinkOptions { force: true };
        if let Ok(id) = modules.load(&image, &profile, &mut space, &mut Linker::new(), options) {
            look_at(&modules, id, &mut numbers);
            let _ = modules.start(id, |_| 0);
            let _ = modules.unload(id, |_| ());
        }
    }
    assert!(Name::default().is_empty());
}

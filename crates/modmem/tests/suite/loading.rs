//! Loading, starting and unloading the sample modules: Linux's rules about who may use what, and nothing left behind.

use crate::support::sample::{Kernel, core, lib, read};
use modmem::image::{Arguments, Image};
use modmem::link::{LinkError, LinkOptions, Reason};
use modmem::modules::{LoadError, Lookup, State, UnloadError};
use modmem::{Linker, MemoryKind, ModuleId, Name, Profile, RunAddr};

/// Replaces the first occurrence of `from` by `to`, which is as long.
fn patch(mut file: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = file.windows(from.len()).position(|window| window == from).expect("the bytes to patch");
    file[at..at + to.len()].copy_from_slice(to);
    file
}

#[test]
fn init_memory_leaves_the_index_before_it_is_freed_and_comes_back_as_freed() {
    let mut kernel = Kernel::new();
    let id = kernel.load(&lib()).unwrap();
    let init = kernel.modules.get(id).unwrap().range(MemoryKind::InitText).unwrap();
    assert!(
        matches!(kernel.modules.lookup(init.start), Lookup::Module(place) if place.kind == MemoryKind::InitText)
    );
    kernel.modules.start(id, |address| i32::from(address.is_none())).unwrap();
    assert_eq!(kernel.modules.find(init.start), None);
    assert!(
        matches!(kernel.modules.lookup(init.start), Lookup::Freed(place) if place.module == "sample_lib")
    );
    assert!(kernel.space.holes().iter().any(|hole| hole.contains(&init.start)));
}

#[test]
fn read_only_after_init_is_writable_until_init_has_returned() {
    let mut kernel = Kernel::new();
    kernel.start(&lib());
    let id = kernel.load(&core()).unwrap();
    let protection = |kernel: &Kernel| kernel.modules.get(id).unwrap().protection(MemoryKind::RoAfterInit);
    assert!(protection(&kernel).is_writable());
    kernel.modules.start(id, |_| 0).unwrap();
    assert!(!protection(&kernel).is_writable());
}

#[test]
fn a_failed_init_unloads_the_module_and_frees_all_it_had() {
    let mut kernel = Kernel::new();
    kernel.start(&lib());
    let before = kernel.state();
    let id = kernel.load(&core()).unwrap();
    assert_eq!(kernel.modules.start(id, |_| -12), Err(LoadError::Init { code: -12 }));
    assert_eq!(kernel.state(), before);
    assert!(kernel.modules.get(id).is_none());
    kernel.start(&core());
}

#[test]
fn all_missing_symbols_are_named_at_once() {
    let mut kernel = Kernel::new();
    let missing = kernel.refused(&core());
    assert!(missing.len() >= 3);
    assert!(
        missing.iter().all(|(symbol, reason)| symbol.starts_with("sample_lib_") && *reason == Reason::Absent)
    );
}

#[test]
fn symbols_of_a_module_that_is_still_loading_are_busy() {
    let mut kernel = Kernel::new();
    kernel.load(&lib()).unwrap();
    let busy = kernel.refused(&core());
    assert!(busy.iter().all(|(_, reason)| *reason == Reason::Busy("sample_lib".into())));
}

#[test]
fn a_proprietary_module_does_not_get_gpl_only_symbols() {
    let mut kernel = Kernel::new();
    kernel.start(&lib());
    let proprietary = patch(core(), b"license=Dual MIT/GPL", b"license=Dual MIT/XYZ");
    let refused = kernel.refused(&proprietary);
    assert!(!refused.is_empty() && refused.iter().all(|(_, reason)| *reason == Reason::GplOnly));
}

#[test]
fn who_uses_a_proprietary_modules_symbols_is_tainted_and_gets_none_that_are_gpl_only() {
    let mut kernel = Kernel::new();
    let id = kernel.start(&patch(lib(), b"license=", b"license-"));
    assert!(kernel.modules.get(id).unwrap().taints().proprietary);
    let refused = kernel.refused(&core());
    // The first symbol that is not GPL-only taints, and from then on GPL-only ones are out of sight.
    let closed = |reason: &Reason| matches!(reason, Reason::ProprietaryOwner | Reason::GplOnly);
    assert!(!refused.is_empty() && refused.iter().all(|(_, reason)| closed(reason)));
}

#[test]
fn a_crc_that_differs_is_refused_with_both_values() {
    let mut kernel = Kernel::new();
    let file = lib();
    let image = Image::parse(&file).unwrap();
    let version = image.versions().iter().find(|version| version.name == "_printk").unwrap();
    let entry = [&version.crc.to_le_bytes()[..], b"_printk\0"].concat();
    let other = [&(version.crc ^ 1).to_le_bytes()[..], b"_printk\0"].concat();
    let refused = kernel.refused(&patch(file.clone(), &entry, &other));
    let reason = Reason::Version { module: version.crc ^ 1, provider: version.crc as u32 };
    assert_eq!(refused, [("_printk".to_owned(), reason)]);
}

#[test]
fn a_namespace_must_be_imported() {
    let mut kernel = Kernel::new();
    kernel.start(&lib());
    let refused = kernel.refused(&patch(core(), b"import_ns=SAMPLE", b"import_ns=XXMPLE"));
    assert!(!refused.is_empty());
    assert!(refused.iter().all(|(_, reason)| *reason == Reason::Namespace("SAMPLE_INTERNAL".into())));
}

#[test]
fn a_module_namespace_is_open_to_whom_it_names_and_cannot_be_imported() {
    let lib = |namespace: &[u8]| patch(lib(), b"SAMPLE_INTERNAL", namespace);
    let core = patch(core(), b"import_ns=SAMPLE", b"import_ns=XXMPLE");
    for (version, namespace, open) in [
        ("7.0", b"module:sample-*", true),
        ("7.0", b"module:other,c*", false),
        ("6.12", b"module:sample-*", false),
    ] {
        let mut kernel = Kernel::with(Profile::named(version).unwrap());
        kernel.start(&lib(namespace));
        if open {
            kernel.start(&core);
        } else {
            let closed = Reason::Namespace(str::from_utf8(namespace).unwrap().into());
            assert!(kernel.refused(&core).iter().all(|(_, reason)| *reason == closed));
        }
        let import = patch(core.clone(), b"import_ns=XXMPLE_INTERNAL", b"import_ns=module:sample_*");
        let namespace = "module:sample_*".into();
        let refused = Err(LoadError::Link(LinkError::ImportsModuleNamespace { namespace }));
        if version == "7.0" && !open {
            assert_eq!(kernel.load(&import), refused);
        }
    }
}

#[test]
fn version_magic_of_another_kernel_is_refused_unless_forced() {
    let mut profile = Profile::named("6.12").unwrap();
    profile.vermagic = Some("6.12.0-sample SMP mod_unload modversions ".into());
    let mut kernel = Kernel::with(profile);
    assert!(matches!(kernel.load(&lib()), Err(LoadError::Link(LinkError::VersionMagic { .. }))));
    let file = lib();
    let image = Image::parse(&file).unwrap();
    let forced = LinkOptions { force: true };
    let id =
        kernel.modules.load(&image, &kernel.profile, &mut kernel.space, &mut Linker::new(), forced).unwrap();
    assert_eq!(kernel.modules.get(id).unwrap().taints().letters(), "FE");
}

#[test]
fn with_versions_the_release_in_the_version_magic_does_not_matter() {
    let mut profile = Profile::named("6.12").unwrap();
    profile.vermagic = Some("6.12.99-other SMP preempt mod_unload modversions ".into());
    Kernel::with(profile).start(&lib());
}

#[test]
fn a_name_is_loaded_once_and_a_symbol_exported_once() {
    let mut kernel = Kernel::new();
    kernel.start(&lib());
    let before = kernel.state();
    assert_eq!(kernel.load(&lib()), Err(LoadError::AlreadyLoaded { name: "sample_lib".into(), live: true }));
    // What .modinfo says of the name does not count.
    let twin = patch(lib(), b"name=sample_lib", b"name=sample_two");
    assert_eq!(kernel.load(&twin), Err(LoadError::AlreadyLoaded { name: "sample_lib".into(), live: true }));
    let twin = patch(lib(), b"\0\0\0\0sample_lib\0\0\0\0\0\0\0\0", b"\0\0\0\0sample_two\0\0\0\0\0\0\0\0");
    assert!(
        matches!(kernel.load(&twin), Err(LoadError::DuplicateExport { owner, .. }) if &*owner == "sample_lib")
    );
    assert_eq!(kernel.state(), before);
}

#[test]
fn a_module_in_use_stays_and_its_users_are_named() {
    let mut kernel = Kernel::new();
    let lib = kernel.start(&lib());
    let core = kernel.start(&core());
    assert_eq!(kernel.unload(lib), Err(UnloadError::InUse { users: vec!["sample_core".into()] }));
    kernel.unload(core).unwrap();
    kernel.unload(lib).unwrap();
    assert_eq!(kernel.unload(lib), Err(UnloadError::NotLoaded));
}

#[test]
fn an_init_without_an_exit_stays_for_good() {
    let mut kernel = Kernel::new();
    kernel.start(&read("kernel/lib/sample_data.ko"));
    let id = kernel.start(&read("kernel/drivers/sample/sample_big_align.ko"));
    assert_eq!(kernel.unload(id), Err(UnloadError::Permanent));
}

#[test]
fn an_id_of_an_unloaded_module_never_names_another() {
    let mut kernel = Kernel::new();
    let first = kernel.start(&lib());
    kernel.unload(first).unwrap();
    let second = kernel.start(&lib());
    assert_ne!(first, second);
    assert!(kernel.modules.get(first).is_none());
    assert_eq!(kernel.modules.get(second).unwrap().state(), State::Live);
}

#[test]
fn modules_unload_in_every_legal_order_and_leave_nothing() {
    let files = [
        lib(),
        core(),
        read("kernel/drivers/crypto/sample_crypto.ko"),
        read("kernel/fs/sample/sample_fs.ko"),
        read("kernel/lib/sample_nodata.ko"),
        read("updates/sample_vendor.ko"),
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..50 {
        let mut kernel = Kernel::new();
        let before = kernel.state();
        let mut ids: Vec<ModuleId> = files.iter().map(|file| kernel.start(file)).collect();
        while !ids.is_empty() {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let at = (state >> 33) as usize % ids.len();
            match kernel.unload(ids[at]) {
                Ok(()) => {
                    ids.remove(at);
                }
                Err(error) => assert!(matches!(error, UnloadError::InUse { .. }), "{error}"),
            }
        }
        assert_eq!(kernel.state(), before);
    }
}

#[test]
fn a_space_that_is_too_small_says_so_and_keeps_nothing() {
    let all = Profile::named("6.12").unwrap();
    let pages = |count: u64| {
        let mut profile = all.clone();
        profile.ranges.text.end = profile.ranges.text.start + count * 4096;
        profile.ranges.data = profile.ranges.text.clone();
        profile
    };
    // sample_lib has five memories of a page, each with a guard page: whatever is missing, nothing stays.
    for count in 0..10 {
        let mut kernel = Kernel::with(pages(count));
        let before = kernel.state();
        assert!(matches!(kernel.load(&lib()), Err(LoadError::Space(_))), "{count} pages");
        assert_eq!(kernel.state(), before);
    }
    Kernel::with(pages(10)).start(&lib());
}

#[test]
fn data_can_lie_in_a_range_of_its_own_far_from_text() {
    // The layout of 32-bit PowerPC, moved to where x86-64's relocations reach: text low, data high.
    let mut profile = Profile::named("6.12").unwrap();
    profile.ranges.text = RunAddr(0xffff_ffff_a000_0000)..RunAddr(0xffff_ffff_a010_0000);
    profile.ranges.data = RunAddr(0xffff_ffff_f000_0000)..RunAddr(0xffff_ffff_f010_0000);
    let (text, data) = (profile.ranges.text.clone(), profile.ranges.data.clone());
    let mut kernel = Kernel::with(profile);
    let id = kernel.load(&lib()).unwrap();
    let module = kernel.modules.get(id).unwrap();
    for kind in MemoryKind::ALL {
        let Some(address) = module.address(kind) else { continue };
        assert_eq!(text.contains(&address), kind.is_text(), "{kind}");
        assert_eq!(data.contains(&address), !kind.is_text(), "{kind}");
    }
}

#[test]
fn text_falls_back_to_the_second_range_when_the_first_is_full() {
    let mut profile = Profile::named("6.12").unwrap();
    let first = RunAddr(0xffff_ffff_a000_0000)..RunAddr(0xffff_ffff_a000_4000);
    let fallback = RunAddr(0xffff_ffff_b000_0000)..RunAddr(0xffff_ffff_b010_0000);
    profile.ranges.text = first.clone();
    profile.ranges.data = first.clone();
    profile.ranges.fallback = Some(fallback.clone());
    let mut kernel = Kernel::with(profile);
    let id = kernel.load(&lib()).unwrap();
    let module = kernel.modules.get(id).unwrap();
    assert!(first.contains(&module.address(MemoryKind::Text).unwrap()));
    assert!(fallback.contains(&module.address(MemoryKind::InitData).unwrap()));
}

#[test]
fn kaslr_moves_the_range_up_by_pages() {
    let profile = Profile::named("6.12").unwrap().with_kaslr_offset(3);
    let mut kernel = Kernel::with(profile);
    let id = kernel.load(&lib()).unwrap();
    let text = kernel.modules.get(id).unwrap().address(MemoryKind::Text);
    assert_eq!(text, Some(RunAddr(0xffff_ffff_c000_3000)));
}

#[test]
fn percpu_data_that_does_not_fit_the_reserved_chunk_is_refused_as_linux_refuses_it() {
    let mut profile = Profile::named("6.12").unwrap();
    profile.percpu_reserve = 4;
    let mut kernel = Kernel::with(profile);
    kernel.start(&lib());
    let before = kernel.state();
    let error = kernel.load(&core()).unwrap_err();
    assert!(error.to_string().starts_with("could not allocate"), "{error}");
    assert_eq!(kernel.state(), before);
}

#[test]
fn percpu_data_without_a_place_is_not_linked() {
    let file = core();
    let image = Image::parse(&file).unwrap();
    let mut kernel = Kernel::new();
    kernel.start(&lib());
    let layout = modmem::Layout::of(&image, &kernel.profile).unwrap();
    let placement = modmem::Placement::allocate(layout, &mut kernel.space).unwrap();
    let options = LinkOptions::default();
    let linked = Linker::new().link(&image, &kernel.profile, placement, &kernel.modules, options);
    assert_eq!(linked.map(|_| ()).unwrap_err(), LinkError::NoPerCpuPlace);
}

#[test]
fn arguments_are_split_as_linux_splits_them() {
    let arguments: Vec<_> = Arguments::new("level=3 label=\"two words\" quiet").collect();
    assert_eq!(arguments[1].value, Some(Name(b"two words")));
    assert_eq!((arguments[2].name, arguments[2].value), (Name(b"quiet"), None));
}

#[test]
fn a_plain_symbol_of_a_proprietary_module_only_taints() {
    let mut kernel = Kernel::new();
    kernel.start(&patch(lib(), b"license=", b"license-"));
    let file = read("updates/sample_vendor.ko");
    let gpl = patch(file, b"license=Proprietary", b"license=GPL\0\0\0\0\0\0\0\0");
    let id = kernel.load(&gpl).unwrap_or_else(|error| panic!("{error}"));
    assert!(kernel.modules.get(id).unwrap().taints().proprietary);
}

#[test]
fn without_versions_a_module_is_loaded_by_force_or_not_at_all() {
    let unversioned = patch(lib(), b"__versions\0", b"__versionz\0");
    let mut kernel = Kernel::new();
    let id = kernel.load(&unversioned).unwrap();
    assert!(kernel.modules.get(id).unwrap().taints().forced);
    let mut strict = Profile::named("6.12").unwrap();
    strict.switches.module_force_load = false;
    let refused = Kernel::with(strict).refused(&unversioned);
    assert!(refused.iter().all(|(_, reason)| *reason == Reason::NoVersion) && !refused.is_empty());
}

#[test]
fn the_layout_of_the_loaders_structures_has_a_version_too() {
    let file = lib();
    let image = Image::parse(&file).unwrap();
    let version = image.versions().iter().find(|version| version.name == "module_layout").unwrap();
    let entry = [&version.crc.to_le_bytes()[..], b"module_layout\0"].concat();
    let other = [&(version.crc ^ 1).to_le_bytes()[..], b"module_layout\0"].concat();
    let refused = Kernel::new().refused(&patch(file.clone(), &entry, &other));
    let reason = Reason::Version { module: version.crc ^ 1, provider: version.crc as u32 };
    assert_eq!(refused, [("module_layout".to_owned(), reason)]);
}

#[test]
fn a_kernel_without_module_unload_keeps_its_modules() {
    let mut profile = Profile::named("6.12").unwrap();
    profile.switches.module_unload = false;
    let mut kernel = Kernel::with(profile);
    let id = kernel.start(&lib());
    assert_eq!(kernel.unload(id), Err(UnloadError::NoUnloading));
}

#[test]
fn without_smp_percpu_data_is_data_and_relocated() {
    let mut profile = Profile::named("6.12").unwrap();
    profile.switches.smp = false;
    let mut kernel = Kernel::with(profile);
    kernel.start(&lib());
    let file = core();
    let with = Kernel::new();
    let image = Image::parse(&file).unwrap();
    let percpu = image.relocations().find(|section| section.target().name() == ".data..percpu").unwrap();
    let id = kernel.load(&file).unwrap();
    let alone = kernel.modules.get(id).unwrap();
    assert!(
        alone.sections().any(|section| section.name == ".data..percpu" && section.kind == MemoryKind::Data)
    );
    let mut smp = with;
    smp.start(&lib());
    let id = smp.load(&file).unwrap();
    let relocations = smp.modules.get(id).unwrap().relocations();
    assert_eq!(alone.relocations(), relocations + percpu.len());
}

#[test]
fn linux_6_1_without_strict_rwx_is_laid_out_and_not_loaded() {
    let mut profile = Profile::named("6.1").unwrap();
    profile.switches.strict_module_rwx = false;
    let mut kernel = Kernel::with(profile);
    let before = kernel.state();
    assert!(matches!(kernel.load(&lib()), Err(LoadError::SharedPages { .. })));
    assert_eq!(kernel.state(), before);
}

#[test]
fn a_placement_of_another_image_is_refused() {
    let (lib, core) = (lib(), core());
    let (lib, core) = (Image::parse(&lib).unwrap(), Image::parse(&core).unwrap());
    let mut kernel = Kernel::new();
    let layout = modmem::Layout::of(&lib, &kernel.profile).unwrap();
    let placement = modmem::Placement::allocate(layout, &mut kernel.space).unwrap();
    let options = LinkOptions::default();
    let linked = Linker::new().link(&core, &kernel.profile, placement, &kernel.modules, options);
    assert_eq!(linked.map(|_| ()).unwrap_err(), LinkError::OtherImage);
}

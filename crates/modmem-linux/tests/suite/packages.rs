//! Packages and folders become kernels, and bad ones become errors.

use crate::support::*;
use modmem_linux::{Error, Kernel};
use std::{fs, path::Path};

fn open(folder: &Path, sources: &[&Path]) -> Result<Kernel, Error> {
    let sources: Vec<&str> = sources.iter().map(|path| path.to_str().unwrap()).collect();
    Kernel::open(&sources, &options(folder).0)
}

fn names(kernel: &Kernel) -> Vec<&str> {
    kernel.modules().map(|module| module.name()).collect()
}

/// All files below a folder, except the packages that the test put there.
fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&entry.path()));
        } else if entry.path().extension().is_none_or(|end| end != "deb")
            && !entry.path().ends_with("state/key")
        {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[test]
fn a_package_opens_as_a_kernel_whatever_compressed_it() {
    let data = tar(&kernel_entries());
    for (name, data) in [
        ("data.tar.xz", xz(&data)),
        ("data.tar.zst", zstd(&data)),
        ("data.tar.gz", gzip(&data)),
        ("data.tar", data.clone()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("linux.deb");
        fs::write(&path, deb_of(name, data)).unwrap();
        let kernel = open(folder.path(), &[&path]).unwrap();
        assert_eq!(kernel.release(), RELEASE);
        assert_eq!(names(&kernel), ["a", "b"], "in the order of modules.order");
        assert_eq!(kernel.config().unwrap(), b"CONFIG_X=y\n");
        assert_eq!(kernel.image().unwrap().unwrap(), b"no kernel");
        assert_eq!(kernel.read(kernel.module("b").unwrap()).unwrap(), needing("a"));
        assert!(
            !files_below(folder.path()).iter().any(|path| path.contains("copyright")),
            "only what a kernel needs"
        );
    }
}

#[test]
fn a_package_is_unpacked_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linux.deb");
    fs::write(&path, deb(&kernel_entries())).unwrap();
    let (options, phases) = options(folder.path());
    for _ in 0..2 {
        Kernel::open(&[path.to_str().unwrap()], &options).unwrap();
    }
    assert_eq!(*phases.0.lock().unwrap(), ["unpacking linux.deb"]);
    // Another package at the same place is another kernel.
    let mut entries = kernel_entries();
    entries.push(("./lib/modules/6.12.1-test/kernel/c.ko", Entry::File(needing(""))));
    fs::write(&path, deb(&entries)).unwrap();
    assert_eq!(names(&Kernel::open(&[path.to_str().unwrap()], &options).unwrap()), ["a", "b", "c"]);
}

#[test]
fn a_package_is_known_by_its_content_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linux.deb");
    // Stored as they are, so that both have one size; the bytes at both ends are the same.
    let of = |config: &[u8]| {
        let mut entries = kernel_entries();
        entries.retain(|(name, _)| !name.contains("config-"));
        entries.insert(0, ("./boot/config-6.12.1-test", Entry::File(config.to_vec())));
        deb_of("data.tar", tar(&entries))
    };
    let [first, second] = [of(b"CONFIG_X=y\n"), of(b"CONFIG_Y=y\n")];
    assert_eq!(first.len(), second.len());
    let (options, _) = options(folder.path());
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    for (package, config) in [(&first, "CONFIG_X=y\n"), (&second, "CONFIG_Y=y\n"), (&first, "CONFIG_X=y\n")] {
        fs::write(&path, package).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let kernel = Kernel::open(&[path.to_str().unwrap()], &options).unwrap();
        assert_eq!(kernel.config().unwrap(), config.as_bytes());
    }
}

#[test]
fn what_was_changed_in_the_cache_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linux.deb");
    fs::write(&path, deb(&kernel_entries())).unwrap();
    let (options, phases) = options(folder.path());
    let kernel = Kernel::open(&[path.to_str().unwrap()], &options).unwrap();
    let module = kernel.module("b").unwrap();
    let file = module.file().unwrap();
    let mut bytes = fs::read(file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(file, bytes).unwrap();
    let error = module.read().unwrap_err().to_string();
    assert!(error.contains("not what was unpacked") && error.contains("remove its folder"), "{error}");
    // A list that says so too is not ours: it is unpacked again.
    let unpacked = file.ancestors().find(|folder| folder.join(".modmem-files").is_file()).unwrap();
    let list = fs::read_to_string(unpacked.join(".modmem-files")).unwrap();
    fs::write(unpacked.join(".modmem-files"), list.replace("lib/modules", "lib/modulez")).unwrap();
    let kernel = Kernel::open(&[path.to_str().unwrap()], &options).unwrap();
    assert_eq!(kernel.module("b").unwrap().read().unwrap(), needing("a"));
    assert_eq!(*phases.0.lock().unwrap(), ["unpacking linux.deb"; 2]);
}

#[test]
fn a_kernel_in_several_packages_is_merged() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("linux-image.deb");
    let modules = folder.path().join("linux-modules.deb");
    let headers = folder.path().join("linux-headers.deb");
    let symvers = b"0x00000001\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n".to_vec();
    fs::write(&image, deb(&[("./boot/vmlinuz-6.12.1-test", Entry::File(b"image".to_vec()))])).unwrap();
    let module = ("./usr/lib/modules/6.12.1-test/kernel/x.ko", Entry::File(needing("")));
    fs::write(&modules, deb(&[module])).unwrap();
    let file = ("./usr/src/linux-headers-6.12.1-test/Module.symvers", Entry::File(symvers.clone()));
    fs::write(&headers, deb(&[file])).unwrap();
    let kernel = open(folder.path(), &[&image, &modules, &headers]).unwrap();
    assert_eq!((kernel.release(), names(&kernel)), (RELEASE, vec!["x"]));
    assert_eq!(kernel.image().unwrap().unwrap(), b"image");
    assert_eq!(kernel.module_symvers().unwrap(), symvers);
    assert!(open(folder.path(), &[&headers]).is_err(), "headers alone are no kernel");
}

#[test]
fn packages_of_different_kernels_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("one.deb");
    let two = folder.path().join("two.deb");
    fs::write(&one, deb(&[("./lib/modules/6.1-a/kernel/x.ko", Entry::File(needing("")))])).unwrap();
    fs::write(&two, deb(&[("./lib/modules/6.12-b/kernel/x.ko", Entry::File(needing("")))])).unwrap();
    let error = open(folder.path(), &[&one, &two]).unwrap_err();
    assert_eq!(error.to_string(), "2 different kernels found (6.1-a, 6.12-b); give one of them");
}

#[test]
fn a_package_cut_anywhere_is_an_error_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linux.deb");
    let whole = deb(&kernel_entries());
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        fs::write(&path, &whole[..length]).unwrap();
        let error = open(folder.path(), &[&path]).unwrap_err().to_string();
        assert!(error.contains("linux.deb"), "{length}: {error}");
        assert_eq!(files_below(folder.path()), [""; 0], "{length}");
    }
}

#[test]
fn a_damaged_stream_is_an_error_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linux.deb");
    let packed = xz(&tar(&kernel_entries()));
    for at in (8..packed.len()).step_by(packed.len() / 20) {
        let mut packed = packed.clone();
        packed[at] ^= 0x55;
        fs::write(&path, deb_of("data.tar.xz", packed)).unwrap();
        let error = open(folder.path(), &[&path]).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{at}: {error}");
        assert_eq!(files_below(folder.path()), [""; 0], "{at}");
    }
    // Consistent around, but the stream within stops early.
    let mut short = packed.clone();
    short.truncate(packed.len() - 100);
    fs::write(&path, deb_of("data.tar.xz", short)).unwrap();
    assert!(matches!(open(folder.path(), &[&path]), Err(Error::Corrupt { .. })));
}

#[test]
fn a_header_larger_than_any_honest_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linux.deb");
    for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(64 << 20);
        header.set_cksum();
        let mut data = header.as_bytes().to_vec();
        data.resize(512 + (64 << 20), b'x');
        data.extend(tar(&kernel_entries()));
        fs::write(&path, deb_of("data.tar.zst", zstd(&data))).unwrap();
        let error = open(folder.path(), &[&path]).unwrap_err().to_string();
        assert!(error.contains("linux.deb") && error.contains("more than 4 MiB"), "{error}");
        assert_eq!(files_below(folder.path()), [""; 0]);
    }
    // As much that is no header does no harm.
    let mut entries = kernel_entries();
    entries.insert(0, ("./usr/share/doc/changelog", Entry::File(vec![0; 64 << 20])));
    entries.insert(0, ("./boot/System.map-6.12.1-test", Entry::File(vec![0; 16 << 20])));
    fs::write(&path, deb_of("data.tar.zst", zstd(&tar(&entries)))).unwrap();
    assert_eq!(names(&open(folder.path(), &[&path]).unwrap()), ["a", "b"]);
}

#[test]
fn an_error_that_quotes_a_package_cannot_write_to_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linux.deb");
    let mut data = tar(&kernel_entries());
    // The first header's checksum field.
    data[148..156].copy_from_slice(b"\x1b[31mxyz");
    fs::write(&path, deb_of("data.tar", data)).unwrap();
    let error = open(folder.path(), &[&path]).unwrap_err().to_string();
    assert!(error.contains("\\u{1b}") && !error.contains(char::is_control), "{error:?}");
}

#[test]
fn paths_and_links_that_leave_the_package_are_refused() {
    let evil = "./lib/modules/6.12.1-test/kernel/evil.ko";
    let cases = [
        ("../evil.ko", Entry::File(needing(""))),
        ("./lib/modules/../../../../evil.ko", Entry::File(needing(""))),
        ("/tmp/evil.ko", Entry::File(needing(""))),
        ("./usr/share/../../../x", Entry::File(Vec::new())),
        (evil, Entry::Symlink("/etc/passwd")),
        (evil, Entry::Symlink("../../../../../etc/passwd")),
        (evil, Entry::HardLink("/etc/passwd")),
        (evil, Entry::HardLink("../passwd")),
    ];
    for (path, entry) in cases {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("evil.deb");
        let mut entries = kernel_entries();
        entries.push((path, entry));
        fs::write(&package, deb(&entries)).unwrap();
        let error = open(folder.path(), &[&package]).unwrap_err();
        assert!(matches!(error, Error::Escapes { .. }), "{path}: {error}");
        assert_eq!(files_below(folder.path()), [""; 0], "{path}");
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let target: &'static str = outside.to_str().unwrap().to_owned().leak();
    let package = folder.path().join("evil.deb");
    let mut entries = kernel_entries();
    entries.push(("./lib/modules/6.12.1-test/updates", Entry::Symlink(target)));
    entries.push(("./lib/modules/6.12.1-test/updates/x.ko", Entry::File(needing(""))));
    fs::write(&package, deb(&entries)).unwrap();
    let kernel = open(folder.path(), &[&package]).unwrap();
    assert!(kernel.module("x").is_some());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_in_a_package_twice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("twice.deb");
    let mut entries = kernel_entries();
    entries.push(("./usr/lib/modules/6.12.1-test/kernel/fs/b.ko.xz", Entry::File(needing(""))));
    fs::write(&package, deb(&entries)).unwrap();
    assert!(open(folder.path(), &[&package]).unwrap_err().to_string().contains("in it twice"));
}

#[test]
fn a_folder_in_the_cache_that_is_not_whole_is_unpacked_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linux.deb");
    fs::write(&path, deb(&kernel_entries())).unwrap();
    open(folder.path(), &[&path]).unwrap();
    let list = files_below(folder.path()).into_iter().find(|path| path.ends_with(".modmem-files")).unwrap();
    fs::remove_file(list).unwrap();
    assert_eq!(names(&open(folder.path(), &[&path]).unwrap()), ["a", "b"]);
}

#[test]
fn several_openings_at_once_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linux.deb");
    fs::write(&path, deb(&kernel_entries())).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let kernel = open(folder.path(), &[&path]).unwrap();
                assert_eq!(kernel.read(kernel.module("b").unwrap()).unwrap(), needing("a"));
            });
        }
    });
    assert_eq!(fs::read_dir(folder.path().join("cache/packages")).unwrap().count(), 1);
}

#[test]
fn without_a_writable_cache_the_unpacked_files_go_with_the_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linux.deb");
    fs::write(&path, deb(&kernel_entries())).unwrap();
    let mut options = options(folder.path()).0;
    options.cache = Some("/proc/no-cache-here".into());
    let kernel = Kernel::open(&[path.to_str().unwrap()], &options).unwrap();
    let file = kernel.module("b").unwrap().file().unwrap().to_path_buf();
    assert!(file.is_file());
    drop(kernel);
    assert!(!file.exists());
}

#[test]
fn folders_are_understood_by_what_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let modules = root.join("usr/lib/modules/6.12.1-test");
    fs::create_dir_all(modules.join("kernel")).unwrap();
    fs::create_dir_all(root.join("boot")).unwrap();
    fs::write(modules.join("kernel/a.ko"), needing("")).unwrap();
    fs::write(root.join("boot/config-6.12.1-test"), "C").unwrap();
    std::os::unix::fs::symlink("/", modules.join("build")).unwrap();
    for source in [&root, &modules] {
        let kernel = open(folder.path(), &[source]).unwrap();
        assert_eq!((kernel.release(), names(&kernel)), (RELEASE, vec!["a"]));
        assert_eq!(kernel.config().unwrap(), b"C");
    }
    let plain = folder.path().join("plain");
    fs::create_dir(&plain).unwrap();
    fs::write(plain.join("a.ko.zst"), zstd(&needing(""))).unwrap();
    let kernel = open(folder.path(), &[&plain]).unwrap();
    assert_eq!((kernel.release(), names(&kernel)), (RELEASE, vec!["a"]), "the release is the modules'");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(matches!(open(folder.path(), &[&empty]), Err(Error::NoKernel { .. })));
}

#[test]
fn the_running_kernel_is_found_or_the_error_says_what_to_type() {
    let folder = tempfile::tempdir().unwrap();
    let (options, _) = options(folder.path());
    let system = &options.system_root;
    fs::create_dir_all(system.join("proc/sys/kernel")).unwrap();
    fs::write(system.join("proc/sys/kernel/osrelease"), "6.18.44\n").unwrap();
    let error = Kernel::open(&[], &options).unwrap_err().to_string();
    let modules = system.join("lib/modules");
    assert_eq!(
        error,
        format!(
            "no modules for the running kernel 6.18.44 under {}; try --kernel debian:6.12, --kernel FILE.deb or \
             --kernel sample",
            modules.display()
        )
    );
    fs::create_dir_all(modules.join("6.18.44/kernel")).unwrap();
    fs::write(modules.join("6.18.44/kernel/a.ko"), needing("")).unwrap();
    assert_eq!(Kernel::open(&[], &options).unwrap().release(), "6.18.44");
    assert_eq!(names(&Kernel::open(&["6.18.44"], &options).unwrap()), ["a"]);
    let error = Kernel::open(&["6.18.45"], &options).unwrap_err().to_string();
    assert!(error.contains("(there: 6.18.44)"), "{error}");
}

#[test]
fn what_is_no_kernel_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("x.ko");
    fs::write(&module, needing("")).unwrap();
    let error = open(folder.path(), &[&module]).unwrap_err().to_string();
    assert!(error.contains("a module, not a kernel"), "{error}");
    let text = folder.path().join("notes.txt");
    fs::write(&text, "hello").unwrap();
    let error = open(folder.path(), &[&text]).unwrap_err().to_string();
    assert!(error.contains("neither a Debian package nor a folder"), "{error}");
    assert!(matches!(open(folder.path(), &[&folder.path().join("gone.deb")]), Err(Error::Read { .. })));
    let error = Kernel::open(&["sample"], &options(folder.path()).0).unwrap_err().to_string();
    assert!(error.contains("without sample modules"), "{error}");
}

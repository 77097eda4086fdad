//! Modules that the kernel's package does not have: files and folders by `--modules`, and what is said about each file.

use std::fs;
use std::path::{Path, PathBuf};

use crate::verify::machine::Machine;
use crate::verify::{assert_lines, run, verify};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/root/lib/modules/6.12.0-sample");
const VENDOR: &str = "updates/sample_vendor.ko";

/// An empty folder of that name.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("given").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn sample(path: &str) -> Vec<u8> {
    fs::read(Path::new(ROOT).join(path)).unwrap()
}

/// A kernel's folder without the vendor's module, as its package is.
fn kernel(name: &str) -> PathBuf {
    let root = folder(name);
    let copy = |path: &str| {
        let to = root.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(Path::new(ROOT).join("../../..").join(path), to).unwrap();
    };
    copy("boot/config-6.12.0-sample");
    for module in ["lib/sample_lib", "lib/sample_nodata", "lib/sample_data", "drivers/crypto/sample_crypto"] {
        copy(&format!("lib/modules/6.12.0-sample/kernel/{module}.ko"));
    }
    root
}

/// The same module with other notes: the bytes of its build id are others, or none.
fn with_build_id(module: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut module = module.to_vec();
    let own = modmem::Image::parse(&module).unwrap().build_id().expect("a build id").to_vec();
    let at = module.windows(own.len()).position(|bytes| bytes == own).unwrap();
    change(&mut module[at..at + own.len()]);
    module
}

/// A machine that shows its modules' build ids, and its snapshot.
fn machine(name: &str) -> PathBuf {
    let folder = Machine::new().save(name);
    let notes = folder.join("notes");
    fs::create_dir_all(&notes).unwrap();
    let file = sample(VENDOR);
    let id = modmem::Image::parse(&file).unwrap().build_id().unwrap().to_vec();
    let mut note = [4, id.len() as u32, 3].map(u32::to_le_bytes).concat();
    note.extend(b"GNU\0");
    note.extend(id);
    fs::write(notes.join("sample_vendor"), note).unwrap();
    folder
}

/// A report whose paragraphs are lines.
fn unwrapped(text: &str) -> String {
    text.replace("\n    ", " ")
}

fn words<'w>(snapshot: &'w Path, kernel: &'w Path, more: &[&'w str]) -> Vec<&'w str> {
    [&[snapshot.to_str().unwrap(), "--kernel", kernel.to_str().unwrap()], more].concat()
}

#[test]
fn a_module_that_the_kernel_has_not_is_taken_from_a_file_or_a_folder() {
    let (snapshot, kernel) = (machine("given"), kernel("given_kernel"));
    let text = run(&words(&snapshot, &kernel, &[]), 1);
    assert!(unwrapped(&text).contains("has no such module: sample_vendor"), "{text}");
    assert_lines(&text, &["1 module without a file", "by --modules."]);
    let given = folder("given_file");
    // Under another name, and compressed: the file says itself which module it is.
    let file = given.join("vendor-1.2.ko.zst");
    fs::write(&file, zstd::encode_all(&sample(VENDOR)[..], 1).unwrap()).unwrap();
    let text = run(&words(&snapshot, &kernel, &["--modules", file.to_str().unwrap()]), 0);
    assert_lines(
        &text,
        &[
            "Files that are not of the kernel's package",
            "given by hand: they prove as much as the place that they were taken from:",
            &format!("    sample_vendor  {}", file.display()),
            "verified: nothing unexplained in 5 modules",
        ],
    );
    let dkms = folder("given_folder");
    let deep = dkms.join("vendor/1.2/6.12.0-sample/x86_64/module");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("sample_vendor.ko"), sample(VENDOR)).unwrap();
    let text = run(&words(&snapshot, &kernel, &["--modules", dkms.to_str().unwrap()]), 0);
    assert!(text.contains(deep.to_str().unwrap()), "{text}");
    // As before: a folder of modules as a part of the kernel.
    let text = run(&words(&snapshot, &kernel, &["--kernel", dkms.to_str().unwrap()]), 0);
    assert!(text.contains("given by hand"), "{text}");
    // And without any kernel, these alone.
    let text = run(&[snapshot.to_str().unwrap(), "--modules", dkms.to_str().unwrap()], 1);
    assert!(text.contains("4 modules without a file"), "{text}");
}

#[test]
fn every_module_s_file_is_told_to_programs_and_by_verbose() {
    let (snapshot, kernel) = (machine("told"), kernel("told_kernel"));
    let given = folder("told_file").join("sample_vendor.ko");
    fs::write(&given, sample(VENDOR)).unwrap();
    let given = given.to_str().unwrap();
    let json = run(&words(&snapshot, &kernel, &["--modules", given, "--json"]), 0);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let modules = json["modules"].as_array().unwrap();
    let file = |name: &str| &modules.iter().find(|module| module["name"] == name).unwrap()["file"];
    assert_eq!(*file("sample_vendor"), serde_json::json!({"path": given, "origin": "given"}));
    assert_eq!(file("sample_lib")["origin"], "given", "{json}");
    let sample = verify(&Machine::new(), "told_sample", &["--json"], 0);
    assert_eq!(
        sample.matches("\"origin\":\"program\"").count() + sample.matches("\"origin\": \"program\"").count(),
        5
    );
    let text = verify(&Machine::new(), "told_sample", &["-v"], 0);
    assert_lines(&text, &["brought by modmem itself", "    sample_lib     kernel/lib/sample_lib.ko"]);
    assert!(!verify(&Machine::new(), "told_sample", &[], 0).contains("not of the kernel's package"));
}

#[test]
fn of_files_of_one_name_the_build_id_decides() {
    let (snapshot, kernel) = (machine("builds"), kernel("builds_kernel"));
    let dkms = folder("builds_folder");
    let [other, right] = ["6.11", "6.12"].map(|version| dkms.join(version).join("sample_vendor.ko"));
    for (path, file) in [(&other, with_build_id(&sample(VENDOR), |id| id[0] ^= 1)), (&right, sample(VENDOR))]
    {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    let text = run(&words(&snapshot, &kernel, &["--modules", dkms.to_str().unwrap()]), 0);
    let unwrapped = text.replace("\n    ", " ");
    assert!(
        unwrapped.contains(&format!("{}: passed over, as it is another build", other.display())),
        "{text}"
    );
    assert!(text.contains(&format!("sample_vendor  {}", right.display())), "{text}");
    // None fits: the module has no file, and it is said which one was passed over.
    fs::remove_file(&right).unwrap();
    let text = run(&words(&snapshot, &kernel, &["--modules", dkms.to_str().unwrap()]), 1);
    assert!(text.contains("1 module without a file") && text.contains("passed over"), "{text}");
    // One that was named is compared, and its build ids told.
    let text = run(&words(&snapshot, &kernel, &["--modules", other.to_str().unwrap()]), 1);
    assert!(text.contains("1 module not comparable") && text.contains("build"), "{text}");
}

#[test]
fn files_of_one_name_that_nothing_tells_apart_are_an_error_that_names_both() {
    // This machine shows no build ids.
    let (snapshot, kernel) = (Machine::new().save("ambiguous"), kernel("ambiguous_kernel"));
    let given = folder("ambiguous_files");
    let [first, second] = ["a", "b"].map(|name| given.join(name).join("sample_vendor.ko"));
    for path in [&first, &second] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, sample(VENDOR)).unwrap();
    }
    // Twice the same is no question.
    let both = ["--modules", first.to_str().unwrap(), "--modules", second.to_str().unwrap()];
    run(&words(&snapshot, &kernel, &both), 0);
    fs::write(&second, with_build_id(&sample(VENDOR), |id| id[0] ^= 1)).unwrap();
    for more in [&both[..], &["--modules", given.to_str().unwrap()]] {
        let error = run(&words(&snapshot, &kernel, more), 2);
        assert!(error.contains(first.to_str().unwrap()), "{error}");
        assert!(error.contains(second.to_str().unwrap()) && error.contains("sample_vendor"), "{error}");
    }
}

#[test]
fn a_file_by_hand_takes_no_module_from_the_kernel_s_package() {
    // The program's own files count as a package's. The file by hand has the same build id and other code.
    let mut file = sample(VENDOR);
    let entry = [0xbe, 0x06, 0, 0, 0];
    let at = file.windows(entry.len()).position(|bytes| bytes == entry).unwrap();
    file[at] = 0xcc;
    let given = folder("forged").join("sample_vendor.ko");
    fs::write(&given, file).unwrap();
    let snapshot = machine("forged");
    let text =
        run(&[snapshot.to_str().unwrap(), "--kernel", "sample", "--modules", given.to_str().unwrap()], 0);
    assert!(unwrapped(&text).contains("not used, as the kernel's files have this build of it"), "{text}");
}

#[test]
fn what_is_no_module_is_an_error_that_says_what_to_do() {
    let (snapshot, kernel) = (machine("wrong"), kernel("wrong_kernel"));
    let given = folder("wrong_files");
    let fails = |path: &Path| run(&words(&snapshot, &kernel, &["--modules", path.to_str().unwrap()]), 2);
    assert!(fails(&given).contains("no module is in this folder"));
    assert!(fails(&given.join("nowhere.ko")).contains("nowhere.ko"));
    fs::write(given.join("text.ko"), "text").unwrap();
    assert!(fails(&given.join("text.ko")).contains("text.ko"));
    fs::write(given.join("x.deb"), b"!<arch>\nrest").unwrap();
    assert!(fails(&given.join("x.deb")).contains("give it by --kernel"));
    // In a folder it is passed over.
    fs::write(given.join("sample_vendor.ko"), "text").unwrap();
    let text = run(&words(&snapshot, &kernel, &["--modules", given.to_str().unwrap()]), 1);
    assert!(text.contains("passed over"), "{text}");
    let module = Path::new(ROOT).join(VENDOR);
    let error = run(&[snapshot.to_str().unwrap(), "--kernel", module.to_str().unwrap()], 2);
    assert!(error.contains("modmem verify --modules"), "{error}");
    let unused = Path::new(ROOT).join("kernel/fs/sample/sample_fs.ko");
    let text = run(&words(&snapshot, &kernel, &["--modules", unused.to_str().unwrap()]), 1);
    assert!(unwrapped(&text).contains("not used, as no module sample_fs is loaded"), "{text}");
}

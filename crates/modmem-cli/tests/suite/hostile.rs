//! What an enemy may put where this program reads and writes: nothing hangs, nothing outside is shown or changed, and no
//! small file takes much memory.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What must not be shown.
const SECRET: &str = "correct horse battery staple";
/// Where this repository lies others may write; what is refused has a test of its own.
const SHARED: &str = "--allow-shared-folder";
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn temporary(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn modmem() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modmem"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    command.env("MODMEM_CACHE", cache).stdin(Stdio::null());
    command
}

/// Runs a command that must end; gives status, output and errors.
fn ends(command: &mut Command) -> (Option<i32>, String, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > LONG {
            child.kill().unwrap();
            panic!("it does not end: {command:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8_lossy(&stdout).into(), String::from_utf8_lossy(&stderr).into())
}

fn fails(words: &[&str], why: &str) {
    let (status, out, error) = ends(modmem().args(words));
    assert!(matches!(status, Some(1 | 2)) && error.contains(why), "{words:?}: {status:?} {error}{out}");
    assert!(!out.contains(SECRET) && !error.contains(SECRET), "{words:?}: {out}{error}");
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A snapshot's folder of one module.
fn snapshot(name: &str) -> PathBuf {
    let folder = temporary(name);
    fs::write(folder.join("kernel"), "6.12.117+deb12-amd64\n").unwrap();
    fs::write(folder.join("machine"), "x86_64\n").unwrap();
    fs::write(folder.join("modules"), "m 12288 0 - Live 0xffffffffc0533000\n").unwrap();
    fs::write(folder.join("sections"), "m .text 0xffffffffc0533000\n").unwrap();
    fs::write(folder.join("kallsyms"), "ffffffff81000000 T _text\nffffffff82000000 T _end\n").unwrap();
    let mut memory = b"ffffffffc0533000 1000\n".to_vec();
    memory.resize(memory.len() + 0x1000, 0x90);
    fs::write(folder.join("mem"), memory).unwrap();
    folder
}

#[test]
fn pipes_where_files_should_be_are_told() {
    for member in ["modules", "kallsyms", "mem", "notes/m", "ko.tar"] {
        let folder = snapshot("pipes");
        let _ = fs::remove_file(folder.join(member));
        fs::create_dir_all(folder.join("notes")).unwrap();
        pipe(&folder.join(member));
        fails(&["verify", text(&folder)], "a pipe, and only files are read");
    }
    let folder = temporary("named");
    pipe(&folder.join("x.ko"));
    let path = folder.join("x.ko");
    fails(&["verify", text(&path)], "a pipe");
    fails(&["load", text(&path), "--kernel", "sample"], "not a file");
    fails(&["info", text(&path)], "a pipe");
    fails(&["load", "sample_fs", "--kernel", "sample", "--symbols", text(&path)], "a pipe");
    fails(&["load", "--all", "--kernel", text(&folder)], "");
    fails(&["load", "sample_fs", "--kernel", text(&path)], "");
    fails(&["info", "/dev/zero"], "a device");
    let document = folder.join("m.json");
    for field in ["memory", "config", "symbols", "areas", "module_files"] {
        let json = format!(
            r#"{{"schema": "modmem.machine", "version": 1, "release": "6.12", "modules": [], "{field}": "x.ko"}}"#
        );
        fs::write(&document, json).unwrap();
        fails(&["verify", text(&document)], "a pipe");
    }
}

#[test]
fn nothing_outside_of_a_snapshot_is_read() {
    let outside = temporary("outside");
    fs::write(outside.join("secret"), format!("{SECRET}\n")).unwrap();
    for member in ["kernel", "modules", "missing", "ko.tar"] {
        let folder = snapshot("links");
        let _ = fs::remove_file(folder.join(member));
        symlink(outside.join("secret"), folder.join(member)).unwrap();
        fails(&["verify", text(&folder)], "a link");
    }
    let folder = snapshot("links");
    symlink(&outside, folder.join("notes")).unwrap();
    fails(&["verify", text(&folder)], "a link");
    let document = folder.join("m.json");
    symlink(outside.join("secret"), folder.join("linked")).unwrap();
    for name in ["linked", "notes/secret", "../outside/secret", "/etc/passwd"] {
        for field in ["memory", "config", "symbols", "module_files"] {
            let json = format!(
                r#"{{"schema": "modmem.machine", "version": 1, "release": "6.12", "modules": [], "{field}": "{name}"}}"#
            );
            fs::write(&document, json).unwrap();
            fails(&["verify", text(&document)], "");
        }
    }
}

/// The same command with so many KiB of memory, and not more.
fn within(kib: u64, words: &[&str]) -> (Option<i32>, String, String) {
    let mut shell = Command::new("sh");
    let script = format!("ulimit -v {kib}; exec \"$0\" \"$@\"");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_modmem")]).args(words).stdin(Stdio::null());
    shell.env("MODMEM_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    ends(&mut shell)
}

/// The sample module with more zeros than any machine has room for.
fn swollen() -> Vec<u8> {
    let sample = "../../samples/root/lib/modules/6.12.0-sample/kernel/drivers/sample/sample_core.ko";
    let mut file = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(sample)).unwrap();
    let word = |file: &[u8], at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
    let (table, count) = (word(&file, 40), usize::from(u16::from_le_bytes([file[60], file[61]])));
    let is_bss = |at: &usize| file[at + 4..at + 8] == [8, 0, 0, 0];
    let bss = (0..count).map(|index| table + 64 * index).find(is_bss).unwrap();
    file[bss + 32..bss + 40].copy_from_slice(&(3u64 << 30).to_le_bytes());
    file
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, contents) in files {
        all.extend(tar_header(name, contents.len() as u64));
        all.extend(*contents);
        all.resize(all.len().next_multiple_of(512), 0);
    }
    all.resize(all.len() + 1024, 0);
    all
}

fn tar_header(name: &str, size: u64) -> Vec<u8> {
    let mut header = vec![0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..136].copy_from_slice(format!("{size:011o} ").as_bytes());
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// Zeros as zstd has them, after something else.
fn packed(start: &[u8], zeros: u64) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(start).unwrap();
    let block = vec![0; 1 << 20];
    (0..zeros >> 20).for_each(|_| encoder.write_all(&block).unwrap());
    encoder.finish().unwrap()
}

#[test]
fn small_files_that_want_much_memory_are_refused_with_the_reason() {
    const HALF_A_GIB: u64 = 512 << 10;
    let folder = snapshot("memory");
    fs::write(folder.join("ko.tar"), archive(&[("m.ko", &swollen())])).unwrap();
    let (status, out, error) = within(HALF_A_GIB, &["verify", text(&folder)]);
    assert!(status == Some(1) && out.contains("bytes of memory"), "{status:?} {error}{out}");
    // A module of two GiB of zeros.
    fs::remove_file(folder.join("ko.tar")).unwrap();
    fs::write(folder.join("ko.tar.zst"), packed(&tar_header("m.ko", 2 << 30), 2 << 30)).unwrap();
    let (status, _, error) = within(HALF_A_GIB, &["verify", text(&folder)]);
    assert!(status == Some(2) && error.contains("m.ko: larger than"), "{status:?} {error}");
    let module = folder.join("zeros.ko.zst");
    fs::write(&module, packed(b"\x7fELF", 2 << 30)).unwrap();
    for words in [["info", text(&module)], ["load", text(&module)]] {
        let (status, _, error) = within(HALF_A_GIB, &[words[0], words[1], "--kernel", "sample"]);
        assert!(status == Some(1) && error.contains("larger than"), "{words:?}: {status:?} {error}");
    }
    let module = folder.join("swollen.ko");
    fs::write(&module, swollen()).unwrap();
    let (status, _, error) = within(HALF_A_GIB, &["load", text(&module), "--kernel", "sample"]);
    assert!(status == Some(1), "{status:?} {error}");
    // Members, each as large as it may be and larger.
    for (name, zeros) in [("mem.zst", 1 << 30), ("kallsyms.zst", 1 << 30), ("config.zst", 1 << 30)] {
        let folder = snapshot("members");
        let _ = fs::remove_file(folder.join(name.trim_end_matches(".zst")));
        let start = if name == "mem.zst" { "ffffffffc0533000 40000000\n" } else { "" };
        fs::write(folder.join(name), packed(start.as_bytes(), zeros)).unwrap();
        let (status, _, error) = within(HALF_A_GIB, &["verify", text(&folder)]);
        assert!(status == Some(2) && !error.contains("panicked"), "{name}: {status:?} {error}");
    }
    let (status, _, error) = ends(modmem().args(["--memory", "none", "info", "x"]));
    assert!(status == Some(2) && error.contains("no number of bytes"), "{error}");
}

#[test]
fn a_package_that_unpacks_to_more_than_a_kernel_s_is_refused() {
    let folder = temporary("package");
    let data = packed(&tar_header("./boot/System.map-6.12-x", 4 << 30), 4 << 30);
    let mut deb = b"!<arch>\n".to_vec();
    for (name, contents) in
        [("debian-binary", &b"2.0\n"[..]), ("control.tar", &archive(&[])), ("data.tar.zst", &data)]
    {
        deb.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 644, contents.len()).bytes());
        deb.extend(contents);
        deb.resize(deb.len().next_multiple_of(2), b'\n');
    }
    let path = folder.join("linux.deb");
    fs::write(&path, deb).unwrap();
    fails(&["load", "ext4", "--kernel", text(&path)], "no kernel's package of its size does");
}

#[test]
fn names_are_shown_as_what_they_are_in_every_output() {
    let folder = temporary("names");
    let evil = "m\u{202e}\u{200b}\u{9b}=cmd";
    let module = folder.join(format!("{evil}.ko"));
    let sample = "../../samples/root/lib/modules/6.12.0-sample/kernel/lib/sample_lib.ko";
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(sample), &module).unwrap();
    let picture = folder.join("map.svg");
    let path = text(&module);
    for words in [
        vec!["info", path],
        vec!["info", path, "--json"],
        vec!["load", path, "--kernel", "sample"],
        vec!["load", path, "--kernel", "sample", "--json"],
        vec!["load", path, "--kernel", "sample", "--view", "kallsyms"],
        vec!["map", path, "--kernel", "sample", "--svg", text(&picture), SHARED],
        vec!["footprint", path, "--kernel", "sample", "--format", "csv"],
        vec!["footprint", path, "--kernel", "sample", "--json"],
    ] {
        let (status, out, error) = ends(modmem().args(&words));
        assert_eq!(status, Some(0), "{words:?}: {error}");
        let all = out + &error + &fs::read_to_string(&picture).unwrap_or_default();
        assert!(!all.contains(['\u{202e}', '\u{200b}', '\u{9b}']), "{words:?}: {all:?}");
    }
}

#[test]
fn a_picture_replaces_a_link_and_is_not_written_through_it() {
    let folder = temporary("picture");
    fs::write(folder.join("precious"), "precious").unwrap();
    symlink("precious", folder.join("map.svg")).unwrap();
    let path = folder.join("map.svg");
    let (status, _, error) =
        ends(modmem().args(["map", "sample_fs", "--kernel", "sample", "--svg", text(&path), SHARED]));
    assert_eq!(status, Some(0), "{error}");
    assert_eq!(fs::read_to_string(folder.join("precious")).unwrap(), "precious");
    assert!(fs::read_to_string(&path).unwrap().contains("<svg"));
}

/// A machine's root folder.
fn machine(name: &str) -> PathBuf {
    let root = temporary(name);
    for (path, text) in [
        ("proc/sys/kernel/osrelease", "6.12.117+deb12-amd64\n"),
        ("proc/modules", ""),
        ("proc/kallsyms", "ffffffff81000000 T _text\n"),
    ] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), text).unwrap();
    }
    root
}

#[test]
fn a_snapshot_is_readable_by_its_owner_alone_whatever_the_umask() {
    let root = machine("umask");
    for umask in ["000", "777"] {
        let file = root.join(format!("{umask}.mms"));
        let mut shell = Command::new("sh");
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        shell.args([
            "-c",
            &script,
            env!("CARGO_BIN_EXE_modmem"),
            "snapshot",
            "--root",
            text(&root),
            "-o",
            text(&file),
        ]);
        let (status, _, error) = ends(&mut shell);
        assert_eq!(status, Some(0), "{error}");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    }
}

#[test]
fn who_takes_over_the_interpreter_of_a_snapshot_can_write_nothing() {
    let root = machine("taken-over");
    let open = root.join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root || cfg!(not(debug_assertions)) {
        eprintln!("not tested: it takes root, and a build with debug assertions");
        return;
    }
    let targets = [root.join("mine"), open.join("anybody's")];
    let list = targets.iter().map(|path| text(path)).collect::<Vec<_>>().join(":");
    for user in ["", "1000"] {
        let file = root.join("host.mms");
        let _ = fs::remove_file(&file);
        let mut command = modmem();
        command
            .args(["snapshot", "--root", text(&root), "-o", text(&file), SHARED])
            .env("MODMEM_TEST_TAKEN_OVER", &list);
        command.env("SUDO_UID", user).env("SUDO_GID", user);
        let (status, _, error) = ends(&mut command);
        assert_eq!(status, Some(0), "{error}");
        assert_eq!(error.matches("taken over").count(), 2, "{error}");
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            let denied = "running a program: Err(PermissionDenied); a socket: Err(PermissionDenied)";
            assert!(error.contains(denied), "{error}");
        }
        // Without Landlock nobody's rights remain: what anybody may write.
        let has_landlock = !error.contains("anybody's: Ok");
        assert!(error.contains("mine: Err(PermissionDenied)"), "{error}");
        assert!(!targets[0].exists() && targets[1].exists() != has_landlock);
        assert_eq!(
            (fs::metadata(&file).unwrap().uid(), fs::metadata(&file).unwrap().mode() & 0o777),
            (0, 0o600)
        );
        let _ = fs::remove_file(&targets[1]);
    }
    // What fails leaves nothing.
    fs::remove_file(root.join("proc/modules")).unwrap();
    let file = root.join("failed.mms");
    fails(&["snapshot", "--root", text(&root), "-o", text(&file), SHARED], "/proc/modules");
    let names: Vec<String> =
        fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.starts_with(".modmem") && name != "failed.mms"), "{names:?}");
}

#[test]
fn root_asks_before_it_writes_where_others_can_write() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("not tested: it takes root");
        return;
    }
    let root = machine("shared");
    let folder = std::env::temp_dir().join(format!("modmem-shared-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).unwrap();
    let (snapshot, picture) = (folder.join("host.mms"), folder.join("map.svg"));
    let commands = [
        vec!["snapshot", "--root", text(&root), "-o", text(&snapshot)],
        vec!["map", "sample_fs", "--kernel", "sample", "--svg", text(&picture)],
    ];
    for mut words in commands {
        fails(&words, "everybody can write to it");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        words.push(SHARED);
        let (status, _, error) = ends(modmem().args(&words));
        assert_eq!((status, fs::read_dir(&folder).unwrap().count()), (Some(0), 1), "{error}");
        fs::read_dir(&folder).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
    }
    fs::remove_dir(folder).unwrap();
}

#[test]
fn installed_setuid_it_refuses_to_run() {
    let folder = std::env::temp_dir().join(format!("modmem-setuid-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("modmem");
    fs::copy(env!("CARGO_BIN_EXE_modmem"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        let (status, out, error) =
            ends(Command::new(&program).args(["load", "sample_fs"]).uid(65534).gid(65534));
        // Some file systems know no setuid.
        let knows = !error.contains("no modules for the running kernel");
        assert!(
            !knows || status == Some(1) && error.contains("must not be installed setuid"),
            "{error}{out}"
        );
    } else {
        eprintln!("not tested: it takes root");
    }
    fs::remove_dir_all(folder).unwrap();
}

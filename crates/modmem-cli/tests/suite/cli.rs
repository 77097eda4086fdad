//! The command as a user types it, on the sample kernel that is part of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn modmem(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modmem"));
    command
        .args(words)
        .args(["--kernel", "sample"])
        .env("MODMEM_CACHE", cache())
        .env("XDG_STATE_HOME", cache())
        .stdin(Stdio::null());
    command
}

/// A cache of the tests' own: nothing outside the build folder is touched.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

fn run(words: &[&str]) -> Output {
    modmem(words).output().expect("the command runs")
}

fn stdout(words: &[&str]) -> String {
    let output = run(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a command that must fail with status 1, say why and print nothing that looks like a result.
fn failure(words: &[&str]) -> String {
    let output = run(words);
    assert_eq!(output.status.code(), Some(1), "{words:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{words:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn json(words: &[&str]) -> serde_json::Value {
    serde_json::from_str(&stdout(words)).expect("a JSON document")
}

fn sample(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/root/lib/modules/6.12.0-sample").join(path)
}

#[test]
fn load_brings_dependencies_first_and_soft_ones_too() {
    let document = json(&["load", "sample_fs", "--json"]);
    assert_eq!((&document["schema"], &document["version"]), (&"modmem.load".into(), &1.into()));
    let names: Vec<&str> = document["modules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|module| module["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["sample_lib", "sample_core", "sample_crypto", "sample_fs", "sample_data", "sample_big_align"]
    );
    let fs = &document["modules"][3];
    assert_eq!(fs["why"], "requested");
    assert_eq!(fs["memories"][0]["type"], "Text");
    assert!(fs["memories"][0]["address"].as_str().unwrap().starts_with("0xffffffffc"));
    assert!(fs["given_back"].as_u64().unwrap() > 0);
}

#[test]
fn an_alias_a_dashed_name_and_a_path_name_the_same_module() {
    let path = sample("kernel/fs/sample/sample_fs.ko");
    for name in ["fs-sample", "sample-fs", path.to_str().unwrap()] {
        assert!(stdout(&["load", name]).contains("\nsample_fs Text "), "{name}");
    }
}

#[test]
fn parameters_belong_to_the_module_before_them() {
    let document = json(&["load", "sample_core", "level=3", "label=x", "sample_data", "--json"]);
    let arguments = |name: &str| {
        let modules = document["modules"].as_array().unwrap();
        modules.iter().find(|module| module["name"] == name).unwrap()["arguments"].clone()
    };
    assert_eq!(arguments("sample_core"), serde_json::json!(["level=3", "label=x"]));
    assert_eq!(arguments("sample_data"), serde_json::json!([]));
}

#[test]
fn before_init_keeps_init_memory_and_seals_nothing() {
    let document = json(&["load", "sample_core", "--before-init", "--json"]);
    let (lib, core) = (&document["modules"][0], &document["modules"][1]);
    // Whoever is needed has run its init, as in Linux.
    assert_eq!((&lib["state"], &core["state"]), (&"live".into(), &"coming".into()));
    let memories = core["memories"].as_array().unwrap();
    assert!(memories.iter().all(|memory| memory["discarded"] == false));
    assert!(memories.iter().any(|memory| memory["type"] == "RoAfterInit" && memory["protection"] == "rw-"));
}

#[test]
fn all_modules_load_into_one_space() {
    let document = json(&["load", "--all", "--json"]);
    assert_eq!(document["total"]["modules"], 8);
    assert_eq!(document["failed"], serde_json::json!([]));
}

#[test]
fn verbose_shows_every_section() {
    assert!(stdout(&["load", "sample_core", "-v"]).contains(" .data..ro_after_init\n"));
}

#[test]
fn lookup_names_module_memory_section_and_symbol() {
    let address = json(&["load", "sample_lib", "--json"])["modules"][0]["memories"][0]["address"].clone();
    let text = stdout(&["lookup", address.as_str().unwrap(), "sample_lib"]);
    assert!(text.starts_with(&format!("{} sample_lib Text .text+0x0 ", address.as_str().unwrap())), "{text}");
    assert_eq!(stdout(&["lookup", "0x1234", "sample_lib"]), "0x0000000000001234 no module\n");
}

#[test]
fn lookup_knows_what_was_freed_with_init() {
    let document = json(&["load", "sample_big_align", "--json"]);
    let memories = document["modules"][1]["memories"].as_array().unwrap();
    let init =
        memories.iter().find(|memory| memory["type"] == "InitText").unwrap()["address"].as_str().unwrap();
    let text = stdout(&["lookup", init, "sample_big_align"]);
    assert_eq!(text, format!("{init} freed with init of sample_big_align: InitText .init.text+0x0\n"));
}

#[test]
fn lookup_reads_addresses_from_standard_input() {
    use std::io::Write as _;
    let mut child =
        modmem(&["lookup", "sample_lib"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"ffffffffc0000000\n\n0x10\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
}

#[test]
fn info_gives_each_section_its_rule() {
    let text = stdout(&["info", "sample_core"]);
    for expected in
        ["RoAfterInit", "read-only after init by name", "percpu area", "R_X86_64_PC32", "Parameters: "]
    {
        assert!(text.contains(expected), "{expected}");
    }
    let document =
        json(&["info", sample("kernel/drivers/crypto/sample_crypto.ko").to_str().unwrap(), "--json"]);
    assert_eq!(document["files"][0]["signature"]["kind"], "PKCS#7");
}

#[test]
fn info_shows_what_the_kernel_has_built_in() {
    let text = stdout(&["info", "sample_builtin"]);
    assert!(text.starts_with("sample_builtin: built into 6.12.0-sample"), "{text}");
    let document = json(&["info", "sample_builtin", "sample_lib", "--json"]);
    assert_eq!(document["built_in"][0]["modinfo"][0]["key"], "license");
    assert_eq!(document["files"][0]["name"], "sample_lib");
    assert!(json(&["info", "sample_lib", "--json"]).get("built_in").is_none());
}

/// The value of a field of a file, as `info` has it.
fn field(path: &Path, key: &str) -> String {
    let document = json(&["info", path.to_str().unwrap(), "--json"]);
    let fields = document["files"][0]["modinfo"].as_array().unwrap();
    let field = fields.iter().find(|field| field["key"] == key).unwrap_or_else(|| panic!("{key}"));
    field["value"].as_str().unwrap().to_owned()
}

#[test]
fn info_has_the_fields_of_modinfo_and_escapes_them_once() {
    let mut file = std::fs::read(sample("kernel/lib/sample_lib.ko")).unwrap();
    let at = file.windows(12).position(|bytes| bytes == b"description=").unwrap() + 12;
    file[at] = b'\t';
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tab.ko");
    std::fs::write(&path, &file).unwrap();
    assert!(field(&path, "description").starts_with('\t'));
    assert!(stdout(&["info", path.to_str().unwrap()]).contains("  description: \\t"));
    let id = field(&path, "build-id");
    assert!(
        id.split(':').count() == 20 && id.split(':').all(|byte| u8::from_str_radix(byte, 16).is_ok()),
        "{id}"
    );
}

#[test]
fn a_signature_of_an_old_kind_is_read_and_the_module_loads_as_unsigned() {
    let mut file = std::fs::read(sample("kernel/lib/sample_lib.ko")).unwrap();
    file.extend(b"some signerKEYIDsignature");
    file.extend([1, 4, 1, 11, 5, 0, 0, 0, 0, 0, 0, 9]);
    file.extend(b"~Module signature appended~\n");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("x509.ko");
    std::fs::write(&path, &file).unwrap();
    for (key, value) in [
        ("sig_id", "X509"),
        ("signer", "some signer"),
        ("sig_key", "4B:45:59:49:44"),
        ("sig_hashalgo", "sha256"),
        ("signature", "73:69:67:6E:61:74:75:72:65"),
    ] {
        assert_eq!(field(&path, key), value);
    }
    assert!(stdout(&["load", path.to_str().unwrap()]).contains("\nsample_lib (E"));
}

#[test]
fn options_on_the_kernel_s_command_line_are_arguments_and_are_told() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cmdline");
    std::fs::write(&file, "ro quiet sample_core.level=3\n").unwrap();
    for given in ["ro quiet sample_core.level=3", file.to_str().unwrap()] {
        let document = json(&["load", "sample_core", "label=x", "--json", "--cmdline", given]);
        let core = &document["modules"].as_array().unwrap()[1];
        assert_eq!(core["arguments"], serde_json::json!(["level=3", "label=x"]));
        let remarks = document["kernel"]["remarks"].to_string();
        assert!(remarks.contains("the kernel's command line: options of sample_core: level=3"), "{remarks}");
    }
}

#[test]
fn errors_say_what_to_do_and_print_no_result() {
    assert!(failure(&["load", "sample_f"]).contains("did you mean sample_fs?"));
    assert!(failure(&["load", "level=3"]).contains("comes before any module"));
    assert!(failure(&["load", "./no-such.ko"]).contains("no-such.ko"));
    assert!(failure(&["info", "Cargo.toml"]).contains("not an ELF file"));
    let out_of_space = ["load", "sample_fs", "--reserve", "0xffffffffc0000000-0xffffffffff000000"];
    assert!(failure(&out_of_space).contains("no room for"));
}

#[test]
fn a_module_cut_off_is_an_error() {
    let file = std::fs::read(sample("kernel/lib/sample_lib.ko")).unwrap();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cut.ko");
    std::fs::write(&path, &file[..file.len() / 2]).unwrap();
    assert!(failure(&["load", path.to_str().unwrap()]).contains("truncated"));
}

#[test]
fn a_kernel_older_than_5_10_is_refused_in_one_line() {
    let file = sample("kernel/lib/sample_lib.ko");
    let error = failure(&["info", file.to_str().unwrap(), "--profile", "5.9"]);
    assert!(error.contains("older than 5.10") && error.trim_end().lines().count() == 1, "{error}");
}

/// A sample module whose name is another of the same length.
fn renamed(to: &str) -> PathBuf {
    let mut file = std::fs::read(sample("kernel/lib/sample_lib.ko")).unwrap();
    // Of what stands before and behind it, struct module's name is told from others.
    let (from, to) = (b"\0\0\0\0\0\0\0\0sample_lib\0\0\0\0", format!("\0\0\0\0\0\0\0\0{to}\0\0\0\0"));
    assert_eq!(from.len(), to.len());
    let at = file.windows(from.len()).position(|bytes| bytes == from).expect("the field is there");
    file[at..at + to.len()].copy_from_slice(to.as_bytes());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("renamed.ko");
    std::fs::write(&path, file).unwrap();
    path
}

#[test]
fn no_module_s_name_writes_to_a_terminal() {
    let path = renamed("a\x1b[31m\nb\x07c");
    let path = path.to_str().unwrap();
    let commands: [&[&str]; 8] = [
        &["load", path],
        &["load", "-v", path],
        &["load", "--view", "proc-modules", path],
        &["load", "--view", "kallsyms", path],
        &["load", "--view", "sysfs", path],
        &["info", path],
        &["map", path],
        &["lookup", path, "0xffffffffc0000000"],
    ];
    for words in commands {
        // Otherwise a pipe gets no escape sequences, ours or theirs.
        let output = modmem(words).env("CLICOLOR_FORCE", "1").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("a\\u{1b}[31m\\nb\\u{7}c"), "{words:?}: {text}");
        assert!(!text.contains("\x1b[31m\n") && !text.contains('\x07'), "{words:?}: {text:?}");
    }
    let output = modmem(&["load", path, "x\x1b]0;y\x07"]).env("CLICOLOR_FORCE", "1").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("x\\u{1b}]0;y\\u{7}") && !error.contains('\x07'), "{error:?}");
}

#[test]
fn a_line_that_never_ends_is_no_address() {
    let mut child = modmem(&["lookup", "sample_lib"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // It goes on until the other side hangs up, long before this is all.
    let line = [b'a'; 1 << 16];
    let hung_up = (0..1 << 14).any(|_| std::io::Write::write_all(&mut input, &line).is_err());
    drop(input);
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(hung_up && output.status.code() == Some(1) && error.contains("line 1"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn outputs_that_cannot_be_written_end_in_status_1() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = modmem(&["load", "sample_lib"]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("standard output: "));
    let status = modmem(&["load", "no-such-module"]).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn views_show_what_user_space_would_see() {
    let modules = stdout(&["load", "sample_fs", "--view", "proc-modules"]);
    let first = modules.lines().next().unwrap();
    assert!(first.starts_with("sample_big_align ") && first.contains(" [permanent], Live 0x"), "{first}");
    let last = modules.lines().last().unwrap();
    assert!(last.starts_with("sample_lib 12288 2 sample_fs,sample_core, Live 0xffffffffc"), "{last}");

    let symbols = stdout(&["load", "sample_fs", "--view", "kallsyms"]);
    assert!(symbols.lines().all(|line| line.as_bytes()[16] == b' ' && line.ends_with(']')));
    assert!(symbols.contains(" R sample_data_levels\t[sample_data]\n"));

    let files = stdout(&["load", "sample_lib", "--before-init", "--view", "sysfs"]);
    for line in ["initstate:coming", "refcnt:1", "taint:E", "sections/.text:0xffffffffc0000000"] {
        assert!(files.lines().any(|found| found == format!("/sys/module/sample_lib/{line}")), "{line}");
    }
}

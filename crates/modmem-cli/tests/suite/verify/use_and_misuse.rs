//! What users may write, what they may get wrong, and what a hostile snapshot must not do to their terminal.

use std::process::Stdio;

use modmem_linux::snapshot::Snapshot;

use crate::verify::machine::Machine;
use crate::verify::{assert_lines, command, run, verify};

#[test]
fn verbose_shows_every_module_and_memory_and_a_name_shows_one() {
    let machine = Machine::new();
    let text = verify(&machine, "verbose", &["-v"], 0);
    assert_lines(&text, &["  sample_lib     20,480", "    RoData        4,096", "  sample_crypto  20,480"]);
    let text = verify(&machine, "verbose", &["-v", "--module", "sample_lib"], 0);
    assert!(text.contains("sample_lib ") && !text.contains("sample_crypto"), "{text}");
}

#[test]
fn a_snapshot_in_one_file_is_verified_as_its_folder_is() {
    let mut machine = Machine::new();
    machine.write(machine.symbol("sample_crypto_block"), &[0xc3]);
    let folder = machine.save("as_folder");
    let file = folder.with_file_name("as_file.mms");
    Snapshot::open(&folder).unwrap().write(&file).unwrap();
    let [of_folder, of_file] = [&folder, &file].map(|path| {
        let text = run(&[path.to_str().unwrap(), "--kernel", "sample"], 1);
        text.split_once(": ").expect("the snapshot's name comes first").1.to_owned()
    });
    assert_eq!(of_folder, of_file);
}

#[test]
fn what_is_shown_does_not_decide_the_verdict() {
    let mut machine = Machine::new();
    machine.write(machine.symbol("sample_crypto_block"), &[0xc3]);
    let text = verify(&machine, "other_module", &["--module", "sample_lib"], 1);
    assert!(!text.contains("Unexplained in"), "{text}");
    assert_lines(&text, &["NOT VERIFIED, of 5 modules: 1 byte unexplained in 1 module"]);
}

#[test]
fn a_reader_who_hangs_up_still_gets_the_verdict() {
    let mut machine = Machine::new();
    machine.write(machine.symbol("sample_crypto_block"), &[0xc3]);
    let folder = machine.save("hung_up");
    let mut child =
        command(&[folder.to_str().unwrap(), "--kernel", "sample"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_module_without_a_file_is_not_verified() {
    let mut machine = Machine::new();
    machine.modules.insert_str(0, "nowhere 4096 0 - Live 0xffffffffc0100000\n");
    let text = verify(&machine, "no_file", &[], 1);
    assert_lines(&text, &["the built-in sample has no such module: nowhere", "1 module without a file"]);
}

#[test]
fn memory_that_nobody_recorded_is_not_verified() {
    let mut machine = Machine::new();
    let text = machine.symbol("sample_crypto_block") & !0xfff;
    machine.memory.retain(|(start, _)| *start != text);
    let text = verify(&machine, "no_memory", &[], 1);
    assert_lines(&text, &["not compared: not in the snapshot", "4,096 bytes of modules not in the snapshot"]);
}

#[test]
fn a_file_of_another_build_is_said_to_be_one() {
    let mut machine = Machine::new();
    machine.sections = machine
        .sections
        .replace("sample_lib .rodata 0xffffffffc00040", "sample_lib .rodata 0xffffffffc00080");
    let text = verify(&machine, "other_build", &[], 1);
    assert_lines(&text, &["Not compared", "section .rodata at 0xffffffffc0", "1 module not comparable"]);
}

#[test]
fn errors_say_what_to_do_and_end_in_status_2() {
    let machine = Machine::new();
    let folder = machine.save("errors");
    let folder = folder.to_str().unwrap();
    let own = run(&[folder], 2);
    assert!(
        own.contains("does not bring the files of its modules along") && own.contains("--kernel"),
        "{own}"
    );
    let unknown = verify(&machine, "errors", &["--module", "nothing"], 2);
    assert!(unknown.contains("no module \"nothing\" among its 5"), "{unknown}");
    let symbol = verify(&machine, "errors", &["--kprobe", "no_such_function"], 2);
    assert!(symbol.contains("the snapshot has no such symbol"), "{symbol}");
    let several = verify(&machine, "errors", &["--kprobe", "cleanup_module"], 2);
    assert!(several.contains("give MODULE:cleanup_module or an address"), "{several}");
    let list = verify(&machine, "errors", &["--kprobes"], 2);
    assert!(list.contains("no list of kprobes"), "{list}");
    assert!(run(&["no-such-snapshot"], 2).contains("no-such-snapshot"));
    assert!(run(&[concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")], 2).contains("no snapshot"));
    assert!(run(&[], 2).contains("SNAPSHOT"));
    assert!(run(&[folder, "--live"], 2).contains("--live"));
}

#[test]
fn a_kernel_of_another_release_is_refused() {
    let mut folder = Machine::new().save("release");
    std::fs::write(folder.join("kernel"), "6.12.117+deb12-amd64").unwrap();
    let error = run(&[folder.to_str().unwrap(), "--kernel", "sample"], 2);
    assert!(
        error.contains("is kernel 6.12.0-sample, but") && error.contains("of 6.12.117+deb12-amd64"),
        "{error}"
    );
    folder = Machine::new().save("no_bytes");
    std::fs::write(folder.join("mem"), "").unwrap();
    let error = run(&[folder.to_str().unwrap(), "--kernel", "sample"], 2);
    assert!(error.contains("has no memory of modules") && error.contains("as root"), "{error}");
    let shut = "mem: /proc/kcore: Operation not permitted (os error 1): kernel lockdown is on at [confidentiality], \
                which keeps it shut, to root too; boot without; nothing to compare\n";
    std::fs::write(folder.join("missing"), shut).unwrap();
    let error = run(&[folder.to_str().unwrap(), "--kernel", "sample"], 2);
    assert!(error.contains("lockdown is on") && !error.contains("as root"), "{error}");
    std::fs::write(folder.join("missing"), "mem: Operation not permitted\n").unwrap();
    let error = run(&[folder.to_str().unwrap(), "--kernel", "sample"], 2);
    assert!(error.contains("as root; if that was done, look at /sys/kernel/security/lockdown"), "{error}");
    std::fs::write(folder.join("sections"), "").unwrap();
    let error = run(&[folder.to_str().unwrap(), "--kernel", "sample"], 2);
    assert!(error.contains("no memory of modules and no addresses of sections"), "{error}");
}

#[test]
fn no_name_in_a_snapshot_writes_to_a_terminal() {
    const EVIL: &str = "e\x1b[2J\x07";
    let mut machine = Machine::new();
    machine.hide("sample_vendor", true);
    machine.add_area(0xffff_ffff_c010_0000, 8192, "load_module\x1b[2J+0x1/0x2");
    machine.modules.insert_str(0, &format!("{EVIL} 4096 0 - Live 0xffffffffc0200000\n"));
    machine.kallsyms.push_str(&format!("ffffffffc0300000 t {EVIL}\t[{EVIL}m]\n"));
    machine.kallsyms.push_str(&format!("ffffffffc0016000 t {EVIL}\t[sample_lib]\n"));
    let at = machine.symbol("sample_crypto_block");
    machine.write(at, &crate::verify::machine::branch(0xe8, at, 0xffff_ffff_c030_0000));
    for words in [&[][..], &["-v"]] {
        let text = verify(&machine, "evil", words, 1);
        assert!(text.contains("e\\u{1b}[2J\\u{7}"), "{text}");
        let allowed = |c: char| !c.is_control() || c == '\n';
        assert!(text.chars().all(allowed), "{text:?}");
    }
}

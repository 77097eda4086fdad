//! Recorded kernels, tampered with where only a kernel that patches code can be.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use modmem_linux::snapshot::Snapshot;

use crate::verify::machine::branch;
use crate::verify::{assert_lines, run};

/// The recorded kernel of that name, with changes to its memory.
fn tampered(name: &str, folder: &str, changes: &[(u64, &[u8])]) -> PathBuf {
    let root = std::env::var_os("MODMEM_ORACLE").expect("MODMEM_ORACLE");
    let from = Path::new(&root).join(name);
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("verify").join(folder);
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "mem.zst" {
            // Nothing in a snapshot's folder is read through a link.
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    let snapshot = Snapshot::open(&from).unwrap();
    let mut memory = std::io::BufWriter::new(std::fs::File::create(to.join("mem")).unwrap());
    let mut done = 0;
    for record in snapshot.memory.records() {
        let mut bytes = record.bytes.clone();
        for (address, change) in changes {
            if (record.address..record.end()).contains(address) {
                let at = (address - record.address) as usize;
                bytes[at..at + change.len()].copy_from_slice(change);
                done += 1;
            }
        }
        writeln!(memory, "{:x} {:x}", record.address, bytes.len()).unwrap();
        memory.write_all(&bytes).unwrap();
    }
    assert_eq!(done, changes.len());
    memory.into_inner().unwrap();
    to
}

/// Where ext4's text lies in the recording of 6.12.
const TEXT: u64 = 0xffff_ffff_c02a_9000;

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn one_place_out_of_step_with_all_others_is_shown_with_what_they_show() {
    let elsewhere = branch(0xe8, TEXT + 0x86d, 0xffff_ffff_c180_0000);
    let changes: [(u64, &[u8]); 5] = [
        // A lock prefix.
        (TEXT + 0x51a, &[0xf0]),
        // A static call.
        (TEXT + 0x86d, &elsewhere),
        // A tracepoint's branch.
        (TEXT + 0x1261, &[0xe9, 0xa8, 0, 0, 0]),
        // A call by a retpoline, of another register.
        (TEXT + 0x285e, &branch(0xe8, TEXT + 0x285e, 0xffff_ffff_81cf_5520)),
        // What ftrace may call.
        (TEXT + 0x11a84, &branch(0xe8, TEXT + 0x11a84, 0xffff_ffff_c180_0000)),
    ];
    let folder = tampered("amd64-6.12", "out_of_step", &changes);
    let text = run(&[folder.to_str().unwrap(), "--own-files"], 1);
    assert_lines(
        &text,
        &[
            "out of step (lock prefixes): running on one CPU is on, as 1631 sites show",
            "looks like: a lock prefix put in",
            "lock cmpxchg %ecx,0x484(%rdx)",
            "looks like: a call of 0xffffffffc1800000, which is in no module",
            "# __cond_resched",
            "out of step (jump labels): the static key at",
            "(__tracepoint_ext4_read_block_bitmap_load+0x8 [ext4]) is off, as the kernel's memory says",
            "looks like: a jump to ext4_read_block_bitmap_nowait+0x44e",
            "the kernel changes bytes here (retpolines), but not to these",
            "looks like: a call of the kernel's __x86_indirect_thunk_r15",
            "Text ext4_file_open+0x4/0x37b",
        ],
    );
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn a_function_of_a_const_table_is_named_before_and_after() {
    let folder = tampered(
        "amd64-6.12",
        "const_table",
        &[(
            // ext4_file_operations.read_iter, which becomes commit_creds.
            0xffff_ffff_c038_0a28,
            &0xffff_ffff_8110_7f00_u64.to_le_bytes(),
        )],
    );
    let text = run(&[folder.to_str().unwrap(), "--own-files", "--module", "ext4"], 1);
    assert_lines(
        &text,
        &[
            "the pointer ext4_file_operations+0x28 leads to the kernel's commit_creds, instead of ext4_file_read_iter",
        ],
    );
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn recorded_kernels_are_verified() {
    for name in ["amd64-6.1", "amd64-6.12", "amd64-7.2"] {
        let folder = tampered(name, &format!("as_recorded_{name}"), &[]);
        assert_lines(
            &run(&[folder.to_str().unwrap(), "--own-files"], 0),
            &["(--own-files): nothing unexplained in "],
        );
    }
}

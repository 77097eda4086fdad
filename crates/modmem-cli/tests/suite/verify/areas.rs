//! Lists of vmalloc areas that changed while they were read.

use crate::verify::machine::Machine;
use crate::verify::{assert_lines, verify};

/// The first line of a machine's list, which is that of a module's text.
fn first_area(machine: &Machine) -> (String, String) {
    let (line, _) = machine.vmallocinfo.split_once('\n').unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    (format!("{} {:>7}", words[0], words[1]), line.to_owned())
}

#[test]
fn an_area_that_is_there_twice_is_told_and_the_machine_is_verified() {
    let untouched = Machine::new();
    let (start, line) = first_area(&untouched);
    for (name, second) in [("torn_freed", format!("{start} unpurged vm_area")), ("torn_same", line)] {
        for behind in [true, false] {
            let mut machine = Machine::new();
            match behind {
                true => machine.vmallocinfo.push_str(&format!("{second}\n")),
                false => machine.vmallocinfo.insert_str(0, &format!("{second}\n")),
            }
            let text = verify(&machine, name, &[], 0);
            assert_lines(
                &text,
                &["the list of vmalloc areas contradicts itself", "1 of its areas", "verified: nothing"],
            );
        }
    }
}

#[test]
fn a_hidden_module_is_found_whatever_its_area_is_called_a_second_time() {
    let mut machine = Machine::new();
    let text = format!("0x{:016x}", machine.symbol("sample_vendor_serial"));
    machine.hide("sample_vendor", true);
    let line = machine.vmallocinfo.lines().find(|line| line.starts_with(&text)).unwrap();
    let range = line.split(" move_module").next().unwrap().to_owned();
    machine.vmallocinfo.insert_str(0, &format!("{range} unpurged vm_area\n"));
    let text = verify(&machine, "torn_hidden", &[], 1);
    assert_lines(&text, &["in no list: a HIDDEN MODULE?", "the list of vmalloc areas contradicts itself"]);
}

#[test]
fn an_area_that_overlaps_another_has_to_be_explained_too() {
    let mut machine = Machine::new();
    // What the list shows first hides nothing behind it.
    machine.add_area(0xffff_ffff_c080_0000, 0x4000, "bpf_prog_pack_alloc+0x10/0x20");
    machine.add_area(0xffff_ffff_c080_1000, 0x1000, "move_module+0x1f5/0xa00");
    let text = verify(&machine, "torn_overlap", &[], 1);
    assert_lines(
        &text,
        &["0xffffffffc0801000-0xffffffffc0802000  memory for a module that is in no list: a HIDDEN MODULE?"],
    );
    assert_lines(&text, &["the list of vmalloc areas contradicts itself"]);
}

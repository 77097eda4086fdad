//! The usual ways to divert, disable or hide code: each is found, and shown as what it is.

use crate::verify::machine::{Machine, branch};
use crate::verify::{assert_lines, json, verify};

const CALL: u8 = 0xe8;
const JMP: u8 = 0xe9;
/// An address that nobody owns.
const NOWHERE: u64 = 0xffff_ffff_c0ff_0000;

/// Changes an untouched machine at a symbol's address, verifies it, and returns what is printed.
fn tampered(name: &str, symbol: &str, offset: u64, change: impl FnOnce(&Machine, u64) -> Vec<u8>) -> String {
    let mut machine = Machine::new();
    let address = machine.symbol(symbol) + offset;
    let bytes = change(&machine, address);
    machine.write(address, &bytes);
    let text = verify(&machine, name, &[], 1);
    assert!(text.trim_end().lines().last().unwrap().starts_with("NOT VERIFIED, of 5 modules: "), "{text}");
    text
}

#[test]
fn an_untouched_machine_is_verified() {
    let text = verify(&Machine::new(), "untouched", &[], 0);
    assert_lines(&text, &["verified: nothing unexplained in 5 modules, 50,828 bytes compared"]);
    assert!(!text.contains("Unexplained in"), "{text}");
}

#[test]
fn a_jump_at_a_function_s_entry_says_where_it_leads() {
    let text = tampered("entry", "sample_vendor_serial", 0, |_, at| branch(JMP, at, NOWHERE));
    assert_lines(
        &text,
        &[
            "Text sample_vendor_serial+0x0/0x18 (.text+0x0): 4 bytes",
            "nothing in the kernel changes these bytes",
            "looks like: a jump at the function's entry to 0xffffffffc0ff0000, which is in no module",
            "- 0xffffffffc0016000  be 06 00 00 00        mov     $0x6,%esi",
            "+ 0xffffffffc0016000  e9 fb 9f fd 00        jmp     0xffffffffc0ff0000  # no module",
            "  0xffffffffc0016005  48 c7 c7 70 a0 01 c0  mov     $0xffffffffc001a070,%rdi  # maker.0",
        ],
    );
    let text = tampered("entry_module", "sample_vendor_serial", 0, |machine, at| {
        branch(JMP, at, machine.symbol("sample_crypto_block"))
    });
    assert_lines(&text, &["a jump at the function's entry to sample_crypto_block in module sample_crypto"]);
    let text = tampered("entry_kernel", "sample_vendor_serial", 0, |machine, at| {
        branch(JMP, at, machine.symbol("_printk"))
    });
    assert_lines(&text, &["a jump at the function's entry to the kernel's _printk"]);
}

#[test]
fn a_jump_in_the_middle_of_an_instruction_leaves_a_rest() {
    let text = tampered("middle", "sample_vendor_serial", 5, |_, at| branch(JMP, at, NOWHERE));
    assert_lines(&text, &["looks like: a jump to 0xffffffffc0ff0000", "(rest of what was there)"]);
    assert!(!text.contains("(bad)"), "{text}");
}

#[test]
fn a_jump_by_a_register_or_by_the_stack_is_followed() {
    // mov $NOWHERE,%rax; jmp *%rax
    let by_register = [&[0x48, 0xb8][..], &NOWHERE.to_le_bytes(), &[0xff, 0xe0]].concat();
    let text = tampered("register", "sample_lib_crc32", 0, |_, _| by_register);
    let entry = "a jump at the function's entry to 0xffffffffc0ff0000, which is in no module";
    assert_lines(&text, &[&format!("{entry}, by a register")]);
    // push $NOWHERE; ret
    let by_stack = [&[0x68][..], &NOWHERE.to_le_bytes()[..4], &[0xc3]].concat();
    let text = tampered("stack", "sample_lib_crc32", 0, |_, _| by_stack);
    assert_lines(&text, &[&format!("{entry}, by push and return")]);
}

#[test]
fn a_call_that_is_redirected_names_both_ends() {
    let text = tampered("call", "sample_vendor_serial", 12, |_, at| branch(CALL, at, NOWHERE));
    assert_lines(
        &text,
        &[
            "sample_vendor_serial+0xd/0x18 (.text+0xd): 4 bytes",
            "looks like: a call of 0xffffffffc0ff0000, which is in no module",
            "call    0xffffffffc0000050  # sample_lib_checksum [sample_lib]",
        ],
    );
}

#[test]
fn code_that_is_switched_off_is_told() {
    let nops = tampered("nops", "sample_vendor_serial", 12, |_, _| vec![0x0f, 0x1f, 0x44, 0, 0]);
    assert_lines(&nops, &["looks like: NOPs over 5 bytes: a call is gone"]);
    let ret = tampered("ret", "sample_crypto_block", 0, |_, _| vec![0xc3]);
    assert_lines(&ret, &["looks like: a return at the function's entry: the function does nothing"]);
    let zero = tampered("zero", "sample_crypto_block", 0, |_, _| vec![0x31, 0xc0, 0xc3]);
    assert_lines(&zero, &["looks like: a return of 0 at the function's entry"]);
    let operand = tampered("operand", "sample_vendor_serial", 1, |_, _| vec![7]);
    assert_lines(&operand, &["looks like: the same instruction with another operand"]);
}

#[test]
fn a_pointer_in_read_only_data_says_where_it_led_and_leads() {
    let text = tampered("pointer", "sample_data_levels", 8, |_, _| NOWHERE.to_le_bytes().to_vec());
    assert_lines(
        &text,
        &[
            "RoData sample_data_levels+0x8/0x20 (.rodata+0x8)",
            "the pointer sample_data_levels+0x8 leads to 0xffffffffc0ff0000, which is in no module, instead of .rodata.str1.1",
        ],
    );
}

#[test]
fn entries_of_a_table_that_changed_places_are_told() {
    let mut machine = Machine::new();
    let [first, second] =
        ["crc_table", "crc32"].map(|name| machine.symbol(&format!("__ksymtab_sample_lib_{name}")));
    let (a, b) = (machine.read(first, 12), machine.read(second, 12));
    machine.write(first, &b);
    machine.write(second, &a);
    let text = verify(&machine, "swapped", &[], 1);
    assert_lines(&text, &["entry 2 of __ksymtab leads to", "instead of sample_lib_crc32"]);
}

#[test]
fn a_breakpoint_is_a_kprobe_only_if_it_is_declared() {
    let mut machine = Machine::new();
    let address = machine.symbol("sample_lib_crc32") + 5;
    machine.write(address, &[0xcc]);
    let text = verify(&machine, "kprobe", &[], 1);
    assert_lines(
        &text,
        &[&format!("int3, a breakpoint: a kprobe, if it is yours (--kprobe {address:#x} accepts it)")],
    );
    for place in [&format!("{address:#x}"), "sample_lib_crc32+5", "sample_lib:sample_lib_crc32+0x5"] {
        let text = verify(&machine, "kprobe", &["--kprobe", place], 0);
        // By the book, and a hook all the same.
        assert_lines(
            &text,
            &["Who hooks what", "kprobe, by somebody unknown", "sample_lib_crc32+0x5 [sample_lib]"],
        );
    }
    verify(&machine, "kprobe", &["--kprobe", "sample_lib_crc32+6"], 1);
}

#[test]
fn a_module_that_hides_is_found_by_its_memory_or_by_its_symbols() {
    let mut machine = Machine::new();
    machine.hide("sample_vendor", false);
    let text = verify(&machine, "hidden", &[], 1);
    assert_lines(
        &text,
        &[
            "module sample_vendor has symbols but is not in the list of modules: HIDDEN?",
            "memory for a module that is in no list: a HIDDEN MODULE?, from move_module",
        ],
    );
    machine.hide("sample_vendor", true);
    let text = verify(&machine, "hidden_well", &[], 1);
    assert_lines(&text, &["0xffffffffc0016000-0xffffffffc0017000  memory for a module that is in no list"]);
    assert!(!text.contains("has symbols but"), "{text}");
}

#[test]
fn init_memory_that_is_late_is_known_by_its_contents() {
    let mut machine = Machine::new();
    for (start, bytes) in std::mem::take(&mut machine.given_back) {
        machine.add_area(start, bytes.len() as u64, "move_module+0x1f5/0xa00");
        machine.memory.push((start, bytes));
    }
    let text = verify(&machine, "late_init", &[], 0);
    assert_lines(&text, &["init memory of sample_vendor, not yet given back, from move_module"]);
    let (start, _) = machine.memory[machine.memory.len() - 2];
    machine.write(start, &[0xc3]);
    let text = verify(&machine, "in_place_of_init", &[], 1);
    assert_lines(&text, &[&format!("{start:#x}-"), "a HIDDEN MODULE?"]);
}

#[test]
fn programs_get_the_same_as_people() {
    let mut machine = Machine::new();
    let address = machine.symbol("sample_vendor_serial");
    machine.write(address, &branch(JMP, address, NOWHERE));
    let document = json(&machine, "json", 1);
    assert_eq!((&document["schema"], &document["version"]), (&"modmem.verify".into(), &1.into()));
    let verdict = &document["verdict"];
    assert_eq!((&verdict["clean"], &verdict["unexplained"]), (&false.into(), &4.into()));
    let vendor =
        document["modules"].as_array().unwrap().iter().find(|m| m["name"] == "sample_vendor").unwrap();
    let place = &vendor["unexplained"][0];
    assert_eq!((&place["type"], &place["symbol"]["name"]), (&"Text".into(), &"sample_vendor_serial".into()));
    assert_eq!((&place["why"][0]["kind"], &place["bytes"]), (&"no-rule".into(), &4.into()));
    let marks: Vec<_> =
        place["lines"].as_array().unwrap().iter().map(|l| l["mark"].as_str().unwrap()).collect();
    assert_eq!(marks, ["expected", "found", "same", "same"]);
    let clean = json(&Machine::new(), "json_clean", 0);
    assert_eq!(clean["verdict"]["clean"], true);
    assert_eq!((&clean["hooks"], &clean["hidden"]), (&serde_json::json!([]), &serde_json::json!([])));
    let total = &clean["total"];
    let not_compared = total["not_compared"].as_array().unwrap().iter().map(|r| r["bytes"].as_u64().unwrap());
    assert_eq!(
        total["bytes"].as_u64().unwrap(),
        total["identical"].as_u64().unwrap() + not_compared.sum::<u64>()
    );
}

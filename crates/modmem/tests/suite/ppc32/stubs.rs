//! Stubs: how many there is room for, which are made, and in which order.

use modmem::layout::LayoutError;
use modmem::link::{LinkError, RelocationProblem};
use modmem::modules::LoadError;
use modmem::profile::Switches;

use crate::ppc32::module::{
    ADDR32, CALL, FAR, INIT_TEXT, Kernel, Module, NEAR, REL24, TEXT, call, profile, stub, table_sizes,
};

const STUB: u64 = 16;

#[test]
fn room_is_for_each_target_of_each_section_and_for_the_tracer() {
    let mut module = Module::new(&[CALL; 5], &[CALL; 2]);
    let (data, _) = module.data(".data", true, &[0]);
    let (one, other) = (module.symbol("one"), module.symbol("other"));
    let text: Vec<_> = [(one, 0), (other, 0), (one, 0), (one, 4), (one, -4)].into_iter().zip(0..).collect();
    let text: Vec<_> = text.iter().map(|&((symbol, addend), at)| (at * 4, symbol, REL24, addend)).collect();
    module.relocate(".rela.text", 1, &text);
    module.relocate(".rela.data", data, &[(0, one, ADDR32, 0)]);
    module.relocate(".rela.init.text", 2, &[(0, one, REL24, 0), (4, one, REL24, 0)]);
    // By name alone: one in the middle counts as init's, one for debuggers not at all.
    module.relocate(".relaspecial.init", 0, &[(0, other, REL24, 8)]);
    module.relocate(".rela.debug_info", 0, &[(0, other, REL24, 16)]);
    assert_eq!(table_sizes(&module, &profile()), Ok(((4 + 1 + 1) * STUB, (1 + 1 + 1 + 1) * STUB)));
    let quiet = Switches { dynamic_ftrace: false, ..profile().switches };
    let quiet = modmem::Profile { switches: quiet, ..profile() };
    assert_eq!(table_sizes(&module, &quiet), Ok((4 * STUB, 2 * STUB)));
}

#[test]
fn relocations_that_are_never_applied_may_name_symbols_that_are_not_there() {
    let mut module = Module::new(&[CALL], &[0]);
    module.relocate(".rela.comment", 0, &[(0, 0xff_ffff, REL24, 1), (0, 0xff_ffff, REL24, 2)]);
    assert_eq!(table_sizes(&module, &profile()), Ok((3 * STUB, 0)));
}

/// Linux compares with the one before, and takes 0 for the one before the first.
#[test]
fn a_branch_to_symbol_0_counts_only_behind_others() {
    for (others, counted) in [(&[][..], 0), (&[(0, 0, REL24, 4)], 2), (&[(0, 0, REL24, -4)], 1)] {
        let mut module = Module::new(&[CALL; 2], &[0]);
        module.relocate(".rela.text", 1, &[&[(4, 0, REL24, 0)], others].concat());
        assert_eq!(table_sizes(&module, &profile()), Ok(((counted + 1) * STUB, 0)));
    }
}

#[test]
fn a_module_without_tables_is_refused() {
    let module = Module::without_tables(&[CALL], &[0]);
    let error = table_sizes(&module, &profile()).unwrap_err();
    assert_eq!(error, LayoutError::NoTable { section: ".plt" });
    assert!(error.to_string().contains("module.lds"), "{error}");
}

#[test]
fn stubs_come_in_the_order_in_which_the_kernel_sorts_and_one_serves_all() {
    let mut module = Module::new(&[CALL; 6], &[CALL]);
    let symbols = ["near", "far", "farther", "alias"].map(|name| module.symbol(name));
    let [near, far, farther, alias] = symbols;
    let entries = [(far, 0), (near, 0), (farther, 0), (far, 0), (far, 0x9000), (alias, 0)];
    let entries: Vec<_> =
        (0..).zip(entries).map(|(at, (symbol, addend))| (at * 4, symbol, REL24, addend)).collect();
    module.relocate(".rela.text", 1, &entries);
    module.relocate(".rela.init.text", 2, &[(0, far, REL24, 0)]);
    let addresses = [("near", NEAR), ("far", FAR), ("farther", FAR + 0x8000), ("alias", FAR)];
    let mut kernel = Kernel::new(profile(), &addresses);
    let id = kernel.load(&module).unwrap();
    // The largest symbol first, of one symbol the largest addend; the alias leads where `far` does.
    let targets = [FAR, FAR + 0x8000, FAR + 0x9000];
    let (_, table) = kernel.word(id, ".plt", 0);
    for (index, target) in targets.into_iter().enumerate() {
        let found: Vec<u32> = (0..4).map(|word| kernel.word(id, ".plt", index * 4 + word).0).collect();
        assert_eq!(found, stub(target), "stub {index}");
    }
    assert_eq!(kernel.word(id, ".plt", 12).0, 0, "no more stubs than targets");
    let stubs = [Some(0), None, Some(1), Some(0), Some(2), Some(0)];
    for (index, stub) in stubs.into_iter().enumerate() {
        let (word, at) = kernel.word(id, ".text", index);
        let to = stub.map_or(NEAR, |stub| table + stub * STUB);
        assert_eq!(word, call(at, to), "call {index}");
    }
    let (word, at) = kernel.word(id, ".init.text", 0);
    assert_eq!(word, call(at, kernel.word(id, ".init.plt", 0).1));
    assert_eq!(kernel.word(id, ".init.plt", 0).0, stub(FAR)[0]);
}

#[test]
fn what_a_module_has_itself_is_reached_without_stubs() {
    let mut module = Module::new(&[CALL; 2], &[CALL]);
    module.relocate(".rela.text", 1, &[(0, TEXT, REL24, 4), (4, INIT_TEXT, REL24, 0)]);
    let mut kernel = Kernel::new(profile(), &[]);
    let id = kernel.load(&module).unwrap();
    let ((first, at), (_, second)) = (kernel.word(id, ".text", 0), kernel.word(id, ".text", 1));
    assert_eq!(first, call(at, second));
    assert_eq!(kernel.word(id, ".plt", 0).0, 0);
}

fn problem(module: &Module, profile: modmem::Profile) -> (String, RelocationProblem) {
    let mut kernel = Kernel::new(profile, &[("far", FAR)]);
    let Err(LoadError::Link(LinkError::Relocation(error))) = kernel.load(module) else { panic!() };
    (error.to_string(), error.problem)
}

#[test]
fn a_branch_that_does_not_even_reach_its_stub_is_an_error_with_its_name() {
    let mut module = Module::new(&[0], &[0]);
    let (data, _) = module.data(".data", true, &[CALL]);
    let far = module.symbol("far");
    module.relocate(".rela.data", data, &[(0, far, REL24, 0)]);
    let (text, problem) = problem(&module, profile());
    // Below the data by nearly 800 MiB, where vmalloc lies.
    assert!(matches!(problem, RelocationProblem::Overflow { .. }), "{problem:?}");
    assert!(text.contains("\"far\"") || text.contains("far"), "{text}");
    assert!(text.contains("R_PPC_REL24"), "{text}");
}

/// Linux would write behind the table, into what lies there.
#[test]
fn a_branch_that_there_is_no_room_for_is_an_error() {
    let mut module = Module::new(&[CALL], &[0]);
    module.relocate(".rela.text", 1, &[(0, 0, REL24, 0)]);
    let quiet = Switches { dynamic_ftrace: false, ..profile().switches };
    let (text, problem) = problem(&module, modmem::Profile { switches: quiet, ..profile() });
    assert_eq!(problem, RelocationProblem::TableFull { table: ".plt" });
    assert!(text.contains("no entry left"), "{text}");
}

//! The classic hooks, each alone in a recorded kernel: what intruders do to code and tables, and what it looks like when
//! a single site of what the kernel did is undone.

mod arm64;
mod code;
mod modules;
mod ppc32;
mod s390x;
mod scene;
mod state;
mod table;
mod tables;

use scene::Scene;

/// Plays all scenes in one recorded kernel. `kinds` of hooks must have found a place there.
fn play(name: &'static str, kinds: usize) {
    let mut scene = Scene::open(name);
    code::entries_of_functions(&mut scene);
    code::calls_and_returns(&mut scene);
    code::anywhere(&mut scene);
    state::alternatives(&mut scene);
    state::locks_and_seals(&mut scene);
    state::jump_labels(&mut scene);
    state::static_calls(&mut scene);
    tables::swapped(&mut scene);
    tables::read_only_data(&mut scene);
    modules::hidden(&mut scene);
    modules::foreign_memory(&mut scene, scene::FOREIGN & !0xfff);
    modules::of_other_files(&mut scene);
    println!("{name}: {} kinds of hooks found", scene.kinds());
    assert!(scene.kinds() >= kinds, "{name}: {} kinds of hooks found a place", scene.kinds());
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn hooks_in_linux_6_1_are_found() {
    play("amd64-6.1", 80);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn hooks_in_linux_6_12_are_found() {
    play("amd64-6.12", 90);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn hooks_in_linux_7_2_are_found() {
    play("amd64-7.2", 90);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn hooks_in_linux_6_12_on_32_bit_powerpc_are_found() {
    let mut scene = Scene::open("ppc32-6.12");
    ppc32::all(&mut scene);
    assert!(scene.kinds() >= 45, "{} kinds of hooks found a place", scene.kinds());
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn hooks_in_linux_6_12_on_s390x_are_found() {
    let mut scene = Scene::open("s390x-6.12");
    s390x::all(&mut scene);
    assert!(scene.kinds() >= 55, "{} kinds of hooks found a place", scene.kinds());
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn hooks_in_linux_6_12_on_arm64_are_found() {
    let mut scene = Scene::open("arm64-6.12");
    arm64::all(&mut scene);
    assert!(scene.kinds() >= 60, "{} kinds of hooks found a place", scene.kinds());
}

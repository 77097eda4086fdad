//! Whoever owns a machine and hides on it is found, or named among what a verdict believes.

use xtask::adversary::{Fate, Machine, WAYS, attempt};
use xtask::oracle::folder;

/// Tries all ways; gives how many of them were possible there.
fn nobody_hides_on(name: &str) -> usize {
    let machine = Machine::read(&folder(name)).unwrap();
    let mut possible = 0;
    for way in WAYS {
        for with_image in [true, false] {
            let fate = attempt(way, &machine, with_image);
            assert_ne!(fate, Fate::Missed, "{name}: {}: {} (image: {with_image})", way.name, way.about);
            possible += usize::from(fate != Fate::NotPossible);
        }
    }
    println!("{name}: {possible} attempts");
    possible / 2
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn nobody_hides_on_linux_6_12() {
    assert!(nobody_hides_on("amd64-6.12") > 35);
}

#[test]
#[cfg_attr(not(alarms), ignore = "there are no recordings of false alarms beside MODMEM_ORACLE")]
fn nobody_hides_where_the_kernel_s_own_words_are_at_hand() {
    assert!(nobody_hides_on("../fresh/stufffull-6.12") > 40);
}

#[test]
#[cfg_attr(not(recordings), ignore = "MODMEM_ORACLE is not set")]
fn nobody_hides_on_linux_6_12_on_arm64() {
    assert!(nobody_hides_on("arm64-6.12") > 15);
}

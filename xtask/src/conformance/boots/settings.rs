//! x86-64: what an administrator sets, and what a laboratory does.

use super::amd64::DEFAULT;
use super::modules::FEWER;
use super::{Boot, Expected};

pub(super) const BOOTS: &[Boot] = &[
    Boot {
        name: "lab",
        about: "addresses as linked and shown: kptr_restrict=1, pointers not hashed",
        append: "nokaslr no_hash_pointers",
        kptr_restrict: Some(1),
        expect: &[Expected { file: "kptr_restrict", line: "1" }],
        modules: FEWER,
        ..DEFAULT
    },
    Boot {
        name: "kptr-2",
        about: "kptr_restrict=2 hides addresses from root too: a snapshot is refused",
        kptr_restrict: Some(2),
        expect: &[Expected { file: "kptr_restrict", line: "2" }],
        modules: FEWER,
        refuses: Some("kptr_restrict"),
        ..DEFAULT
    },
    Boot {
        name: "lockdown",
        about: "lockdown=integrity: only modules that Debian signed",
        append: "lockdown=integrity",
        modules: FEWER,
        waits: false,
        ..DEFAULT
    },
    Boot {
        name: "confidentiality",
        about: "lockdown=confidentiality shuts /proc/kcore: a snapshot is refused",
        append: "lockdown=confidentiality",
        modules: FEWER,
        waits: false,
        refuses: Some("lockdown"),
        ..DEFAULT
    },
];

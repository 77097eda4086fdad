//! Debian as it boots: systemd, udev, the modules and BPF programs that these load by themselves.

use super::{Boot, Expected, KernelFrom};
use crate::conformance::arch::AMD64;

const DEFAULT: Boot = Boot {
    name: "debian-12",
    about: "Debian 12 as debootstrap makes it and as it boots; what a new user does first",
    arch: &AMD64,
    kernel: KernelFrom::Root("bookworm"),
    cpu: "max",
    cpus: 2,
    append: "",
    kptr_restrict: None,
    setup: "",
    expect: &[
        Expected { file: "multi-user", line: "active" },
        Expected { file: "kptr_restrict", line: "0" },
        Expected { file: "modules", line: "e1000 " },
    ],
    modules: &[],
    least: 30,
    waits: true,
    drawn: false,
    refuses: None,
    finds: None,
    pokes: false,
    gates: true,
};

pub(super) const BOOTS: &[Boot] = &[
    DEFAULT,
    Boot { name: "debian-13", about: "Debian 13, the same", kernel: KernelFrom::Root("trixie"), ..DEFAULT },
];

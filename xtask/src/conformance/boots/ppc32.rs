//! 32-bit PowerPC: text below the kernel, data in vmalloc. No package has such a kernel: it is built.

use super::{Boot, KernelFrom};
use crate::conformance::arch::PPC32;

/// Everything of any size that the configuration makes modules of.
const MODULES: &[&str] = &[
    "ext4",
    "xfs",
    "btrfs",
    "overlay",
    "fuse",
    "wireguard",
    "e1000",
    "bridge",
    "nf_tables",
    "nf_conntrack",
    "sctp",
    "dm_crypt",
    "raid456",
];

const DEFAULT: Boot = Boot {
    name: "ppc32",
    about: "32-bit PowerPC, built from Debian's sources, which takes a quarter of an hour",
    arch: &PPC32,
    kernel: KernelFrom::Sources("6.12"),
    cpu: "7400",
    cpus: 1,
    append: "",
    kptr_restrict: None,
    setup: "",
    expect: &[],
    modules: MODULES,
    least: 30,
    waits: true,
    drawn: false,
    refuses: None,
    finds: None,
    pokes: false,
    gates: true,
};

pub(super) const BOOTS: &[Boot] = &[DEFAULT];

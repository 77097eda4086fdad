//! arm64: capabilities of CPUs, errata, random addresses, tracing.

use super::modules::TRACED;
use super::{Boot, Expected, KernelFrom};
use crate::conformance::arch::ARM64;

/// File systems, networks, and code that goes by the CPU's features.
const MODULES: &[&str] = &[
    "ext4",
    "xfs",
    "btrfs",
    "bridge",
    "nf_tables",
    "nf_conntrack",
    "sctp",
    "sha512_arm64",
    "chacha_neon",
    "drm",
    "snd_pcm",
    "nvme",
];

/// Pointers are signed by a quick algorithm: emulating the architecture's own takes most of the time.
const MAX: &str = "max,pauth-impdef=on";

const DEFAULT: Boot = Boot {
    name: "arm64",
    about: "arm64 with all that QEMU's CPU can do: what the gate boots",
    arch: &ARM64,
    kernel: KernelFrom::Archive("debian:6.12:arm64"),
    cpu: MAX,
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
    gates: true,
};

pub(super) const BOOTS: &[Boot] = &[
    DEFAULT,
    Boot { name: "arm64-kaslr", about: "arm64 on four older CPUs", cpu: "cortex-a72", cpus: 4, ..DEFAULT },
    Boot {
        name: "arm64-a53",
        about: "arm64 on a CPU with erratum 843419, for which code is changed",
        cpu: "cortex-a53",
        ..DEFAULT
    },
    Boot {
        name: "arm64-tracing",
        about: "arm64 with the function tracer and tracepoints on",
        setup: TRACED,
        expect: &[Expected { file: "setup.log", line: "tracer function, functions of ext4 " }],
        ..DEFAULT
    },
    Boot {
        name: "arm64-16k",
        about: "arm64 with pages of 16 KiB",
        kernel: KernelFrom::Archive("debian:6.12:arm64-16k"),
        ..DEFAULT
    },
];

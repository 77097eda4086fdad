//! s390x: facilities of CPUs, tracing. QEMU's CPUs have no random numbers for its kernel to choose addresses by.

use super::modules::{CHANGED, TRACED};
use super::{Boot, Expected, KernelFrom};
use crate::conformance::arch::S390X;

/// File systems, networks, and code that goes by the CPU's facilities.
const MODULES: &[&str] = &[
    "ext4",
    "xfs",
    "btrfs",
    "bridge",
    "nf_tables",
    "nf_conntrack",
    "sctp",
    "raid6_pq",
    "sha512_s390",
    "aes_s390",
    "dasd_eckd_mod",
    "zfcp",
    "qeth",
    "nvme",
];

const DEFAULT: Boot = Boot {
    name: "s390x",
    about: "s390x, one CPU: what the gate boots",
    arch: &S390X,
    kernel: KernelFrom::Archive("debian:6.12:s390x"),
    cpu: "max",
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

pub(super) const BOOTS: &[Boot] = &[
    DEFAULT,
    Boot { name: "s390x-qemu", about: "s390x on a CPU with fewer facilities", cpu: "qemu", ..DEFAULT },
    Boot {
        name: "s390x-tracing",
        about: "s390x with the function tracer and tracepoints on, two CPUs",
        cpus: 2,
        setup: TRACED,
        expect: &[Expected { file: "setup.log", line: "tracer function, functions of ext4 " }],
        ..DEFAULT
    },
    Boot {
        name: "s390x-pokes",
        about: "what tracing functions and tracepoints of modules changed in them since a snapshot before",
        setup: CHANGED,
        pokes: true,
        ..DEFAULT
    },
    Boot {
        name: "s390x-6.1",
        about: "s390x 6.1: lists functions alone, refers to variables through the GOT",
        kernel: KernelFrom::Archive("debian:6.1:s390x"),
        ..DEFAULT
    },
    Boot {
        name: "s390x-7.2",
        about: "s390x 7.2: the stack protector's canary in the lowcore",
        kernel: KernelFrom::Archive("debian:7.2:s390x"),
        gates: false,
        ..DEFAULT
    },
    Boot {
        name: "s390x-tracing-7.3",
        about: "s390x 7.3 with the function tracer and tracepoints on, two CPUs",
        kernel: KernelFrom::Archive("debian:7.3:s390x"),
        cpus: 2,
        setup: TRACED,
        expect: &[Expected { file: "setup.log", line: "tracer function, functions of ext4 " }],
        gates: false,
        ..DEFAULT
    },
];

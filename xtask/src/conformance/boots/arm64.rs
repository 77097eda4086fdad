//! arm64: capabilities of CPUs, errata, random addresses, tracing.

use super::modules::{CHANGED, TRACED};
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

/// What kernels for clouds have of these.
const CLOUD: &[&str] = &["xfs", "btrfs", "bridge", "nf_tables", "nf_conntrack", "sctp"];

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
    finds: None,
    pokes: false,
    gates: true,
};

/// Traces functions of two modules in an instance of tracing, and those of one of these in the main one too: a function is
/// marked with the instance's own description, or with what stands for several.
const INSTANCE: &str = "cd /sys/kernel/tracing
mkdir instances/one
echo 0 > tracing_on
echo 0 > instances/one/tracing_on
echo ':mod:jbd2' > set_ftrace_filter
echo ':mod:ext4' > instances/one/set_ftrace_filter
echo ':mod:jbd2' >> instances/one/set_ftrace_filter
echo function > instances/one/current_tracer
echo function > current_tracer
echo instance $(cat instances/one/current_tracer), functions of ext4 $(grep -c '\\[ext4\\]' enabled_functions)
cd /";

/// Kernels of suites that take uploads every week: they report, and hold nobody up.
const REPORT: Boot = Boot { append: "", gates: false, ..DEFAULT };

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
        name: "arm64-pokes",
        about: "what tracing functions and tracepoints of modules changed in them since a snapshot before",
        setup: CHANGED,
        pokes: true,
        ..DEFAULT
    },
    Boot {
        name: "arm64-instance",
        about: "arm64 with an instance of tracing: functions are marked with what lies in the heap",
        append: "",
        setup: INSTANCE,
        expect: &[Expected { file: "setup.log", line: "instance function, functions of ext4 " }],
        ..DEFAULT
    },
    Boot {
        name: "arm64-16k",
        about: "arm64 with pages of 16 KiB",
        kernel: KernelFrom::Archive("debian:6.12:arm64-16k"),
        ..DEFAULT
    },
    Boot {
        name: "arm64-cloud",
        about: "arm64 for clouds, four CPUs",
        kernel: KernelFrom::Archive("debian:6.12:cloud-arm64"),
        cpus: 4,
        append: "",
        modules: CLOUD,
        least: 10,
        ..DEFAULT
    },
    Boot {
        name: "arm64-rt",
        about: "arm64 with real-time preemption",
        kernel: KernelFrom::Archive("debian:6.12:rt-arm64"),
        append: "",
        ..DEFAULT
    },
    Boot {
        name: "arm64-6.1",
        about: "arm64 6.1: a list of functions alone, modules at random addresses around the kernel",
        kernel: KernelFrom::Archive("debian:6.1:arm64"),
        append: "",
        ..DEFAULT
    },
    Boot {
        name: "arm64-6.1-linked",
        about: "the same where it was linked to be: vmalloc begins with the kernel, amid where modules may go",
        kernel: KernelFrom::Archive("debian:6.1:arm64"),
        ..DEFAULT
    },
    Boot {
        name: "arm64-6.1-large",
        about: "the same with a module of more than 512 pages: vmalloc keeps their list where modules may lie",
        kernel: KernelFrom::Archive("debian:6.1:arm64"),
        modules: &["amdgpu"],
        least: 5,
        ..DEFAULT
    },
    Boot {
        name: "arm64-6.1-rt",
        about: "arm64 6.1 with real-time preemption",
        kernel: KernelFrom::Archive("debian:6.1:rt-arm64"),
        append: "",
        ..DEFAULT
    },
    Boot {
        name: "arm64-6.17",
        about: "arm64 6.17",
        kernel: KernelFrom::Archive("debian:6.17:arm64"),
        ..REPORT
    },
    Boot {
        name: "arm64-6.18",
        about: "arm64 6.18",
        kernel: KernelFrom::Archive("debian:6.18:arm64"),
        ..REPORT
    },
    Boot { name: "arm64-7.2", about: "arm64 7.2", kernel: KernelFrom::Archive("debian:7.2:arm64"), ..REPORT },
    Boot {
        name: "arm64-rt-7.2",
        about: "arm64 7.2 with real-time preemption",
        kernel: KernelFrom::Archive("debian:7.2:rt-arm64"),
        ..REPORT
    },
    Boot { name: "arm64-7.3", about: "arm64 7.3", kernel: KernelFrom::Archive("debian:7.3:arm64"), ..REPORT },
    Boot {
        name: "arm64-16k-7.3",
        about: "arm64 7.3 with pages of 16 KiB",
        kernel: KernelFrom::Archive("debian:7.3:arm64-16k"),
        ..REPORT
    },
    Boot {
        name: "arm64-rt-7.3",
        about: "arm64 7.3 with real-time preemption, in an instance of tracing",
        kernel: KernelFrom::Archive("debian:7.3:rt-arm64"),
        setup: INSTANCE,
        expect: &[Expected { file: "setup.log", line: "instance function, functions of ext4 " }],
        ..REPORT
    },
    Boot {
        name: "arm64-cloud-7.3",
        about: "arm64 7.3 for clouds",
        kernel: KernelFrom::Archive("debian:7.3:cloud-arm64"),
        modules: CLOUD,
        least: 10,
        ..REPORT
    },
];

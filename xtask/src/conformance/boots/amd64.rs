//! x86-64: the states of CPUs, mitigations and tracing that change its code.

use super::modules::{FEWER, MANY, MODULES};
use super::{Boot, Expected, KernelFrom, NO_KASLR};
use crate::conformance::arch::AMD64;

const DEFAULT: Boot = Boot {
    name: "default",
    about: "one CPU, addresses as linked: what the gate boots",
    arch: &AMD64,
    kernel: KernelFrom::Archive("debian:6.12"),
    cpu: "max",
    cpus: 1,
    append: NO_KASLR,
    setup: "",
    expect: &[],
    modules: MODULES,
    least: 30,
    gates: true,
};

pub(super) const BOOTS: &[Boot] = &[
    DEFAULT,
    Boot {
        name: "many",
        about: "about two hundred modules, the largest drivers among them",
        modules: MANY,
        ..DEFAULT
    },
    Boot { name: "smp", about: "four CPUs: locked instructions stay locked", cpus: 4, ..DEFAULT },
    Boot {
        name: "kaslr",
        about: "kernel and modules at random addresses",
        cpu: "EPYC-Milan",
        append: "",
        ..DEFAULT
    },
    Boot {
        name: "stuff",
        about: "retbleed=stuff on an Intel CPU: calls counted by thunks",
        cpu: "Skylake-Server",
        append: "nokaslr retbleed=stuff",
        expect: &[Expected { file: "vulnerabilities", line: "retbleed:Mitigation: Stuffing" }],
        modules: FEWER,
        ..DEFAULT
    },
    Boot {
        name: "its",
        about: "indirect_target_selection=force: aligned thunks for indirect branches and returns",
        cpu: "Skylake-Server",
        append: "nokaslr indirect_target_selection=force spectre_v2=retpoline",
        expect: &[Expected {
            file: "vulnerabilities",
            line: "indirect_target_selection:Mitigation: Aligned branch/return thunks",
        }],
        modules: FEWER,
        ..DEFAULT
    },
    Boot {
        name: "tracing",
        about: "the function tracer and tracepoints on",
        setup: "cd /sys/kernel/tracing
for events in ext4 xfs jbd2 kvm module; do echo 1 > events/$events/enable; done
# The sites are patched all the same, and the guest stays quick.
echo 0 > tracing_on
echo function > current_tracer
echo tracer $(cat current_tracer), functions of ext4 $(grep -c '\\[ext4\\]' enabled_functions)
cd /",
        expect: &[Expected { file: "setup.log", line: "tracer function, functions of ext4 " }],
        modules: FEWER,
        ..DEFAULT
    },
    Boot {
        name: "kprobe",
        about: "kprobes set at entries, in the middle of functions, and on returns",
        setup: "cd /sys/kernel/tracing
echo p:entry ext4:ext4_file_open >> kprobe_events
echo r:return ext4:ext4_sync_file >> kprobe_events
# Where instructions begin depends on the build: the kernel refuses other places.
for function in ext4:ext4_file_open xfs:xfs_file_open kvm:kvm_init; do
	found=0
	for offset in 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32; do
		echo p:middle_${function#*:}_$offset $function+$offset >> kprobe_events 2> /dev/null && found=$((found + 1))
		[ $found = 2 ] && break
	done
done
echo 1 > events/kprobes/enable
sleep 2
cat /sys/kernel/debug/kprobes/list
cd /",
        expect: &[
            Expected { file: "setup.log", line: "ext4_file_open+0x4  ext4 [FTRACE]" },
            Expected { file: "setup.log", line: " xfs_file_open+0x" },
        ],
        modules: FEWER,
        ..DEFAULT
    },
    Boot {
        name: "newest",
        about: "the newest kernel of Debian's unstable suite; only reports",
        kernel: KernelFrom::Archive("debian:sid"),
        append: "",
        cpus: 2,
        gates: false,
        ..DEFAULT
    },
];

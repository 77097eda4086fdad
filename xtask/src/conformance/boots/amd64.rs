//! x86-64: the states of CPUs, mitigations and tracing that change its code.

use super::modules::{FEWER, HOOKED, INSTANCE, MANY, MODULES, PATCHED, PROBED};
use super::{Boot, Expected, KernelFrom};
use crate::conformance::arch::AMD64;

pub(super) const DEFAULT: Boot = Boot {
    name: "default",
    about: "one CPU, Debian's defaults: what the gate boots",
    arch: &AMD64,
    kernel: KernelFrom::Archive("debian:6.12"),
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

/// A CPU whose kernel counts calls if told to, and what proves that it does.
const STUFF: Boot = Boot {
    cpu: "Skylake-Server",
    append: "retbleed=stuff",
    expect: &[Expected { file: "vulnerabilities", line: "retbleed:Mitigation: Stuffing" }],
    modules: FEWER,
    ..DEFAULT
};

/// Another kernel than the one that the gate boots, as it is: what a suite has is not for us to keep.
const fn of(name: &'static str, about: &'static str, kernel: &'static str) -> Boot {
    Boot {
        name,
        about,
        kernel: KernelFrom::Archive(kernel),
        cpu: "EPYC-Milan",
        cpus: 2,
        append: "",
        gates: false,
        ..DEFAULT
    }
}

/// Another state of the kernel that the gate boots.
const fn state(name: &'static str, about: &'static str, cpu: &'static str, append: &'static str) -> Boot {
    Boot { name, about, cpu, cpus: 2, append, modules: FEWER, ..DEFAULT }
}

/// A module of ours that hooks another one by the book.
const HOOKS: Boot = Boot {
    name: "6.12-hooks",
    about: "a module that hooks another by ftrace, probes and a tracepoint: the table of hooks names both",
    setup: HOOKED,
    expect: &[
        Expected { file: "setup.log", line: "modmem_hooks: ftrace 0" },
        Expected { file: "setup.log", line: "modmem_hooks: kprobe 0" },
        Expected { file: "setup.log", line: "modmem_hooks: tracepoint 0" },
    ],
    modules: &["ext4", "xfs", "bridge", "kvm", "modmem_hooks"],
    least: 10,
    ..DEFAULT
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
        about: "an AMD CPU; kernel and modules at other random addresses",
        cpu: "EPYC-Milan",
        ..DEFAULT
    },
    Boot { name: "stuff", about: "retbleed=stuff on an Intel CPU: calls counted by thunks", ..STUFF },
    Boot {
        name: "stuff-full",
        about: "the same with preempt=full: static calls of the function that returns 0 are counted",
        append: "retbleed=stuff preempt=full",
        ..STUFF
    },
    Boot {
        name: "stuff-6.18",
        about: "counted calls, patched before alternatives are applied; only reports",
        kernel: KernelFrom::Archive("debian:6.18"),
        append: "retbleed=stuff preempt=full",
        gates: false,
        ..STUFF
    },
    Boot {
        name: "stuff-7.2",
        about: "the same with static calls of the function that warns; only reports",
        kernel: KernelFrom::Archive("debian:7.2"),
        append: "retbleed=stuff preempt=full",
        gates: false,
        ..STUFF
    },
    Boot {
        name: "stuff-7.3",
        about: "the same with preempt=lazy; only reports",
        kernel: KernelFrom::Archive("debian:7.3"),
        append: "retbleed=stuff preempt=lazy",
        gates: false,
        ..STUFF
    },
    Boot {
        name: "its",
        about: "indirect_target_selection=force: aligned thunks for indirect branches and returns",
        cpu: "Skylake-Server",
        append: "indirect_target_selection=force spectre_v2=retpoline",
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
        name: "pokes",
        about: "every write to text while functions are traced, keys switched and static calls updated",
        setup: include_str!("../../../conformance/actions/pokes.sh"),
        pokes: true,
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
        name: "instance",
        about: "the function tracer of an instance: trampolines that the kernel makes at run time",
        setup: INSTANCE,
        expect: &[
            Expected { file: "setup.log", line: "instance function, functions of ext4 " },
            Expected { file: "setup.log", line: "tramp: 0x" },
        ],
        modules: FEWER,
        ..DEFAULT
    },
    Boot {
        name: "fprobe",
        about: "probes of functions, at their entries and returns, beside kprobes",
        setup: PROBED,
        expect: &[Expected { file: "setup.log", line: "probes of functions 2" }],
        modules: FEWER,
        ..DEFAULT
    },
    Boot {
        setup: INSTANCE,
        modules: FEWER,
        ..of("instance-7.3", "the same for 7.3; only reports", "debian:7.3")
    },
    Boot {
        setup: PROBED,
        modules: FEWER,
        ..of("fprobe-7.3", "the same for 7.3; only reports", "debian:7.3")
    },
    Boot {
        name: "livepatch",
        about: "a livepatch of a function of the kernel and of one of a module",
        setup: PATCHED,
        expect: &[Expected { file: "setup.log", line: "patched by modmem_livepatch" }],
        modules: &["ext4", "xfs", "bridge", "kvm", "modmem_livepatch"],
        least: 10,
        ..DEFAULT
    },
    HOOKS,
    Boot {
        name: "hidden-page",
        about: "a page of code that the page tables map and no list has",
        setup: "dmesg | grep modmem_page",
        expect: &[Expected { file: "setup.log", line: "modmem_page: 0xffff" }],
        modules: &["ext4", "xfs", "bridge", "kvm", "modmem_page"],
        least: 10,
        finds: Some("bytes: 0xfffffffffe000000..0xfffffffffe001000 belongs to nobody: NoOwner"),
        ..DEFAULT
    },
    Boot {
        name: "7.2-hooks",
        about: "the same for 7.2; only reports",
        kernel: KernelFrom::Archive("debian:7.2"),
        gates: false,
        ..HOOKS
    },
    state("no5lvl", "page tables of four levels", "max", "no5lvl"),
    state("unmitigated", "mitigations=off", "Skylake-Server", "mitigations=off"),
    state("pti", "page tables of their own for user space", "Skylake-Server", "pti=on nosmt"),
    Boot {
        expect: &[Expected { file: "vulnerabilities", line: "retbleed:Mitigation: untrained return thunk" }],
        ..state("unret", "retbleed=unret: returns by way of a thunk", "EPYC-Rome", "retbleed=unret")
    },
    Boot {
        expect: &[Expected { file: "vulnerabilities", line: "spec_rstack_overflow:" }],
        ..state("safe-ret", "safe returns", "EPYC-Milan", "spec_rstack_overflow=safe-ret")
    },
    state("nosmap", "without supervisor mode access prevention", "max", "nosmap ibt=off"),
    state("preempt-none", "preempt=none", "Skylake-Server", "preempt=none"),
    state("preempt-full", "preempt=full", "EPYC-Milan", "preempt=full"),
    of("5.10", "5.10; only reports", "debian:5.10"),
    Boot {
        cpu: "SandyBridge",
        ..of("5.10-nops", "5.10 on a CPU that it gives NOPs of prefixes; only reports", "debian:5.10")
    },
    Boot {
        setup: include_str!("../../../conformance/actions/graph.sh"),
        ..of("5.10-graph", "5.10 while graphs of functions are traced; only reports", "debian:5.10")
    },
    Boot {
        setup: include_str!("../../../conformance/actions/events.sh"),
        ..of("5.10-events", "5.10 with tracepoints of modules on; only reports", "debian:5.10")
    },
    of("6.16", "6.16; only reports", "debian:6.16"),
    of("6.17", "6.17; only reports", "debian:6.17"),
    of("6.18", "6.18; only reports", "debian:6.18"),
    of("6.19", "6.19; only reports", "debian:6.19"),
    of("7.0", "7.0; only reports", "debian:7.0"),
    of("7.2", "7.2; only reports", "debian:7.2"),
    of("7.3", "7.3; only reports", "debian:7.3"),
    of("7.3-cloud", "7.3 for virtual machines; only reports", "debian:7.3:cloud-amd64"),
    of("7.3-rt", "7.3 in real time; only reports", "debian:7.3:rt-amd64"),
    Boot {
        name: "newest",
        about: "the newest kernel of Debian's unstable suite; only reports",
        kernel: KernelFrom::Archive("debian:sid"),
        cpus: 2,
        gates: false,
        ..DEFAULT
    },
];

//! The machines that can be booted: a table of emulators, compilers, and of what each kernel is asked for.

use std::fmt;

use crate::compare::Held;

/// One kind of machine.
#[derive(Debug)]
pub(super) struct Arch {
    /// What `--arch` and Debian call it.
    pub(super) name: &'static str,
    /// What boots it.
    pub(super) emulator: Emulator,
    /// Where its busybox comes from.
    pub(super) busybox: Busybox,
    /// What records in the guest.
    pub(super) recorder: Recorder,
    /// Modules that the guest needs for its disk; those that are part of a kernel are passed over.
    pub(super) disk: &'static [&'static str],
    /// Symbols of the kernel whose contents decide how modules are patched, and how many bytes each has. What modmem
    /// records by itself is not listed.
    pub(super) words: &'static [(&'static str, u64)],
    /// References that a running kernel holds on modules and that loading does not make: an instance of the algorithm
    /// that the init function of `libcrc32c` takes, the control sockets that `sctp` opens for itself, the mount that
    /// `configfs` is pinned by once somebody has a folder in it, and the livepatch that is in force.
    pub(super) held: Held<'static>,
    /// Bytes of a jump label's key: a counter, and a pointer behind it.
    pub(super) key: u64,
}

/// A program of QEMU's.
#[derive(Debug)]
pub(super) struct Emulator {
    pub(super) program: &'static str,
    /// The packages that it needs.
    pub(super) packages: &'static [&'static str],
    /// What this machine is, and how much memory it has.
    pub(super) arguments: &'static [&'static str],
    /// The device for the disk.
    pub(super) disk: &'static str,
    /// The kernel's console.
    pub(super) console: &'static str,
}

/// Where the guest's shell and tools come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Busybox {
    /// Debian's package for the machine.
    Package,
    /// Debian's source package: the machine has no others.
    Sources,
}

/// What writes a snapshot in the guest.
#[derive(Debug)]
pub(super) enum Recorder {
    /// modmem itself, where Rust builds for it without more ado.
    Modmem,
    /// A small program in C, for which a cross compiler is enough.
    Dumper(Cross),
}

/// A cross compiler.
#[derive(Debug)]
pub(super) struct Cross {
    /// What stands before the name of each of its programs.
    pub(super) prefix: &'static str,
    pub(super) packages: &'static [&'static str],
    /// What the kernel's makefiles call the machine.
    pub(super) kernel_arch: &'static str,
}

impl Cross {
    pub(super) fn compiler(&self) -> String {
        format!("{}gcc", self.prefix)
    }

    /// What makefiles of the kernel's kind have to be told.
    pub(super) fn make_variables(&self) -> [String; 2] {
        [format!("ARCH={}", self.kernel_arch), format!("CROSS_COMPILE={}", self.prefix)]
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Where no module has a better implementation.
const HELD: Held<'_> = &[("crc32c_generic", 1), ("sctp", 2), ("configfs", 1)];

const PCI_DISK: &str = "virtio-blk-pci";
const PCI_MODULES: &[&str] = &["virtio_pci", "virtio_blk"];

pub(super) static AMD64: Arch = Arch {
    name: "amd64",
    emulator: Emulator {
        program: "qemu-system-x86_64",
        packages: &["qemu-system-x86", "seabios", "ipxe-qemu"],
        arguments: &["-accel", "tcg,thread=multi", "-m", "3G"],
        disk: PCI_DISK,
        console: "ttyS0",
    },
    busybox: Busybox::Package,
    recorder: Recorder::Modmem,
    disk: PCI_MODULES,
    words: &[],
    held: &[("crc32c_intel", 1), ("sctp", 2), ("configfs", 1), ("modmem_livepatch", 1)],
    key: 16,
};

pub(super) static ARM64: Arch = Arch {
    name: "arm64",
    emulator: Emulator {
        program: "qemu-system-aarch64",
        packages: &["qemu-system-arm", "ipxe-qemu"],
        arguments: &["-accel", "tcg,thread=multi", "-machine", "virt", "-m", "2G"],
        disk: PCI_DISK,
        console: "ttyAMA0",
    },
    busybox: Busybox::Package,
    recorder: Recorder::Dumper(Cross {
        prefix: "aarch64-linux-gnu-",
        packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
        kernel_arch: "arm64",
    }),
    disk: PCI_MODULES,
    // The bitmap by which alternatives are chosen (arch/arm64/kernel/alternative.c).
    words: &[("system_cpucaps", 16), ("boot_cpucaps", 16), ("ftrace_trace_function", 8)],
    held: HELD,
    key: 16,
};

pub(super) static S390X: Arch = Arch {
    name: "s390x",
    emulator: Emulator {
        program: "qemu-system-s390x",
        packages: &["qemu-system-misc"],
        arguments: &["-accel", "tcg,thread=multi", "-machine", "s390-ccw-virtio", "-m", "2G"],
        disk: "virtio-blk-ccw",
        console: "ttysclp0",
    },
    busybox: Busybox::Package,
    recorder: Recorder::Dumper(Cross {
        prefix: "s390x-linux-gnu-",
        packages: &["gcc-s390x-linux-gnu", "libc6-dev-s390x-cross"],
        kernel_arch: "s390",
    }),
    disk: &["virtio_blk"],
    // What alternatives are chosen by: facilities, branch prediction, where the lowcore lies
    // (arch/s390/kernel/alternative.c).
    words: &[
        ("stfle_fac_list", 128),
        ("alt_stfle_fac_list", 128),
        ("nobp", 4),
        ("relocate_lowcore", 4),
        ("machine_features", 8),
        ("machine_flags", 8),
        ("ftrace_trace_function", 8),
    ],
    held: HELD,
    key: 16,
};

pub(super) static PPC32: Arch = Arch {
    name: "ppc32",
    emulator: Emulator {
        program: "qemu-system-ppc",
        packages: &["qemu-system-ppc", "openbios-ppc"],
        // The firmware needs somewhere to write to: without graphics that is the serial line.
        arguments: &["-accel", "tcg", "-machine", "mac99,graphics=off", "-m", "1G"],
        disk: PCI_DISK,
        console: "ttyPZ0",
    },
    busybox: Busybox::Sources,
    recorder: Recorder::Dumper(Cross {
        prefix: "powerpc-linux-gnu-",
        packages: &["gcc-powerpc-linux-gnu", "libc6-dev-powerpc-cross"],
        kernel_arch: "powerpc",
    }),
    disk: &[],
    // `cur_cpu_spec` points to `the_cpu_spec`, whose features decide about alternative sections
    // (arch/powerpc/lib/feature-fixups.c).
    words: &[("cur_cpu_spec", 4), ("the_cpu_spec", 64), ("ftrace_trace_function", 4)],
    held: HELD,
    key: 8,
};

/// All of them.
pub(super) static ARCHES: [&Arch; 4] = [&AMD64, &ARM64, &S390X, &PPC32];

//! The states in which kernels are booted: a table.

/// One kernel, one machine, one state.
#[derive(Debug)]
pub(super) struct Boot {
    /// What `--boot` calls it.
    pub(super) name: &'static str,
    /// What it is for, in a line.
    pub(super) about: &'static str,
    /// The kernel, as modmem's `--kernel` takes it.
    pub(super) kernel: &'static str,
    /// The model of CPU, as QEMU's `-cpu` takes it.
    pub(super) cpu: &'static str,
    /// How many of them.
    pub(super) cpus: u32,
    /// What is added to the kernel's command line.
    pub(super) append: &'static str,
    /// Commands for the guest, run when all modules are loaded.
    pub(super) setup: &'static str,
    /// What the guest must report afterwards: without it, the state is not the one that the boot is named for.
    pub(super) expect: &'static [Expected],
    /// The modules; what they need comes with them.
    pub(super) modules: &'static [&'static str],
    /// So many modules must have been loaded, else nothing is proven.
    pub(super) least: usize,
    /// Does a difference fail the chore? A kernel that others upload must not block anybody.
    pub(super) gates: bool,
}

/// A line that a file of the guest's must have.
#[derive(Debug)]
pub(super) struct Expected {
    /// The file, below the guest's `/out`.
    pub(super) file: &'static str,
    /// A part of the line.
    pub(super) line: &'static str,
}

const KERNEL: &str = "debian:6.12";
const NO_KASLR: &str = "nokaslr";

/// File systems, networks, devices, a hypervisor, libraries. With what they need, about seventy.
const MODULES: &[&str] = &[
    "ext4",
    "xfs",
    "btrfs",
    "vfat",
    "overlay",
    "nfs",
    "cifs",
    "zram",
    "loop",
    "dm_crypt",
    "bridge",
    "veth",
    "tun",
    "nf_tables",
    "nf_conntrack",
    "wireguard",
    "sctp",
    "virtio_net",
    "e1000e",
    "kvm",
    "drm",
    "snd_hda_intel",
];

/// The largest, and many more.
const MANY: &[&str] = &[
    "ext4",
    "xfs",
    "btrfs",
    "f2fs",
    "gfs2",
    "ocfs2",
    "vfat",
    "overlay",
    "nfs",
    "nfsd",
    "cifs",
    "ceph",
    "zram",
    "loop",
    "dm_crypt",
    "dm_thin_pool",
    "raid456",
    "nvme",
    "ahci",
    "mpt3sas",
    "qla2xxx",
    "target_core_mod",
    "bridge",
    "veth",
    "tun",
    "vxlan",
    "nf_tables",
    "nf_conntrack",
    "openvswitch",
    "wireguard",
    "sctp",
    "tipc",
    "rds",
    "9p",
    "virtio_net",
    "e1000e",
    "ixgbe",
    "i40e",
    "mlx4_core",
    "mlx5_core",
    "iwlmvm",
    "ath11k",
    "bluetooth",
    "kvm",
    "vfio_pci",
    "drm",
    "i915",
    "nouveau",
    "amdgpu",
    "snd_hda_intel",
    "xhci_hcd",
    "usb_storage",
];

/// Enough where another state is what matters.
const FEWER: &[&str] =
    &["ext4", "xfs", "btrfs", "nfs", "bridge", "nf_tables", "wireguard", "sctp", "e1000e", "kvm"];

const DEFAULT: Boot = Boot {
    name: "default",
    about: "one CPU, addresses as linked: what the gate boots",
    kernel: KERNEL,
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
        kernel: "debian:sid",
        append: "",
        cpus: 2,
        gates: false,
        ..DEFAULT
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_gate_comes_first() {
        assert_eq!(BOOTS[0].name, "default");
        for (at, boot) in BOOTS.iter().enumerate() {
            assert!(BOOTS[..at].iter().all(|other| other.name != boot.name), "{}", boot.name);
        }
    }
}

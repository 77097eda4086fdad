//! Which modules are loaded, and what else is done in the guest: what several boots share.

/// File systems, networks, devices, a hypervisor, libraries. With what they need, about seventy.
pub(super) const MODULES: &[&str] = &[
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
pub(super) const MANY: &[&str] = &[
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
pub(super) const FEWER: &[&str] =
    &["ext4", "xfs", "btrfs", "nfs", "bridge", "nf_tables", "wireguard", "sctp", "e1000e", "kvm"];

/// Traces all functions, and tracepoints of some modules. The sites are patched whether anything is recorded or not, and
/// without it the guest stays quick.
pub(super) const TRACED: &str = "cd /sys/kernel/tracing
for events in ext4 xfs btrfs jbd2 module; do echo 1 > events/$events/enable; done
echo 0 > tracing_on
echo function > current_tracer
echo tracer $(cat current_tracer), functions of ext4 $(grep -c '\\[ext4\\]' enabled_functions)
cd /";

/// A snapshot, and then tracing: where the kernel's functions that write to text cannot be probed.
pub(super) const CHANGED: &str = "record before
cd /sys/kernel/tracing
for events in ext4 xfs btrfs jbd2 bridge; do [ -d events/$events ] && echo 1 > events/$events/enable; done
echo 0 > tracing_on
echo ':mod:ext4' > set_ftrace_filter
echo ':mod:xfs' >> set_ftrace_filter
echo function > current_tracer
cd /";

/// An instance that traces the functions of one module, which gets a trampoline of its own, beside the tracer of all,
/// which traces those of another and some of the same.
pub(super) const INSTANCE: &str = "cd /sys/kernel/tracing
mkdir instances/modmem
echo 0 > tracing_on
echo 0 > instances/modmem/tracing_on
echo '*:mod:ext4' > instances/modmem/set_ftrace_filter
echo function > instances/modmem/current_tracer
echo '*:mod:xfs' > set_ftrace_filter
echo 'ext4_f*' >> set_ftrace_filter
echo function > current_tracer
echo instance $(cat instances/modmem/current_tracer), functions of ext4 $(grep -c '\\[ext4\\]' enabled_functions)
grep '\\[ext4\\]' enabled_functions | head -n 4
cd /";

/// Probes of functions, by way of the tracer, and one kprobe.
pub(super) const PROBED: &str = "cd /sys/kernel/tracing
echo 'f:modmem_entry ext4_file_open' >> dynamic_events
echo 'f:modmem_return xfs_file_open%return' >> dynamic_events
echo 'p:modmem_kprobe ext4_sync_file' >> dynamic_events
echo 1 > events/fprobes/enable
echo 1 > events/kprobes/enable
echo probes of functions $(ls -d events/fprobes/modmem_* | wc -l)
grep '\\[ext4\\]' enabled_functions
cat /sys/kernel/debug/kprobes/list
cd /";

/// Waits until the livepatch is in force.
pub(super) const PATCHED: &str = "for try in 1 2 3 4 5 6 7 8 9 10; do
	grep -q 0 /sys/kernel/livepatch/modmem_livepatch/transition && break
	sleep 1
done
cat /proc/loadavg";

/// What our module said that hooks another, and what the kernel says of it.
pub(super) const HOOKED: &str = "dmesg | grep modmem_hooks
grep . /sys/kernel/tracing/enabled_functions
cat /sys/kernel/debug/kprobes/list";

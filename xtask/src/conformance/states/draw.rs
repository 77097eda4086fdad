//! What states are drawn from.

use super::State;
use super::actions;
use crate::random::Random;

/// Kernels of amd64, those of Debian's stable suites more often.
const KERNELS: &[&str] = &[
    "debian:6.1",
    "debian:6.1",
    "debian:6.1:cloud-amd64",
    "debian:6.1:rt-amd64",
    "debian:6.12",
    "debian:6.12",
    "debian:6.12",
    "debian:6.12:cloud-amd64",
    "debian:6.12:rt-amd64",
    "debian:6.16",
    "debian:6.17",
    "debian:6.17:rt-amd64",
    "debian:5.10",
    "debian:6.17:cloud-amd64",
    "debian:7.2:cloud-amd64",
    "debian:7.2",
    "debian:7.2:rt-amd64",
    "debian:7.3",
    "debian:7.3:cloud-amd64",
];
const KERNELS_ARM64: &[&str] = &[
    "debian:6.1:arm64",
    "debian:6.12:arm64",
    "debian:6.12:arm64-16k",
    "debian:6.12:cloud-arm64",
    "debian:6.12:rt-arm64",
    "debian:6.17:arm64",
    "debian:7.2:arm64",
    "debian:7.3:arm64",
];

const CPUS: &[&str] = &[
    "max",
    "max",
    "qemu64",
    "Nehalem",
    "Westmere",
    "SandyBridge",
    "IvyBridge",
    "Haswell",
    "Broadwell",
    "Skylake-Client",
    "Skylake-Server",
    "Skylake-Server",
    "Cascadelake-Server",
    "Icelake-Server",
    "Denverton",
    "Snowridge",
    "Opteron_G1",
    "Opteron_G3",
    "EPYC",
    "EPYC-Rome",
    "EPYC-Milan",
    "EPYC-Milan",
];
const CPUS_ARM64: &[&str] =
    &["max,pauth-impdef=on", "max,pauth-impdef=on", "cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76"];

/// Words of the command line of which at most one of each line is taken.
const APPEND: &[&[&str]] = &[
    &["mitigations=off", "mitigations=auto,nosmt"],
    &["retbleed=off", "retbleed=auto", "retbleed=stuff", "retbleed=stuff", "retbleed=unret", "retbleed=ibpb"],
    &[
        "spectre_v2=on",
        "spectre_v2=off",
        "spectre_v2=retpoline",
        "spectre_v2=retpoline,lfence",
        "spectre_v2=ibrs",
        "spectre_v2=eibrs,retpoline",
    ],
    &["spec_rstack_overflow=off", "spec_rstack_overflow=safe-ret", "spec_rstack_overflow=ibpb"],
    &[
        "indirect_target_selection=off",
        "indirect_target_selection=force",
        "indirect_target_selection=force",
        "indirect_target_selection=stuff",
    ],
    &["spec_store_bypass_disable=on", "spec_store_bypass_disable=off"],
    &["preempt=none", "preempt=voluntary", "preempt=full", "preempt=full", "preempt=lazy"],
    &["pti=on", "pti=off"],
    &["ibt=off"],
    &["no5lvl"],
    &["nokaslr"],
    &["no_hash_pointers"],
    &["maxcpus=1", "nosmp", "possible_cpus=8"],
    &["nosmap", "nopcid", "noxsave", "nofsgsbase", "clearcpuid=smap,smep", "clearcpuid=erms,fsrm"],
    &["init_on_free=1", "init_on_alloc=0", "slub_debug=FZP", "page_poison=1"],
    &[
        "lsm=landlock,lockdown,yama",
        "lsm=lockdown,capability,selinux,bpf",
        "lsm=lockdown,tomoyo,apparmor,bpf",
    ],
    &["lockdown=integrity", "lockdown=integrity", "lockdown=confidentiality"],
    &["ftrace=function", "ftrace=nop", "trace_event=module:*,ext4:*"],
    &["threadirqs", "nohz_full=1", "skew_tick=1", "tsc=unstable", "idle=poll", "audit=1", "audit=0"],
    &["psi=0", "psi=1", "transparent_hugepage=never", "numa=off", "sched_verbose", "delayacct"],
];
const APPEND_ARM64: &[&[&str]] = &[
    &["mitigations=off"],
    &["nokaslr"],
    &["kpti=1", "kpti=0"],
    &["arm64.nobti", "arm64.nopauth", "arm64.nosve", "arm64.nomte"],
    &["rodata=on", "rodata=off", "rodata=full"],
    &["preempt=none", "preempt=full", "preempt=lazy"],
    &["ssbd=force-on", "ssbd=force-off"],
    &["init_on_free=1", "init_on_alloc=0"],
    &["maxcpus=1"],
];

/// Of everything that modules are: large, small, of buses, networks, file systems, codes, devices.
const MODULES: &[&str] = &[
    "ext4",
    "xfs",
    "btrfs",
    "f2fs",
    "gfs2",
    "ocfs2",
    "vfat",
    "exfat",
    "ntfs3",
    "udf",
    "isofs",
    "overlay",
    "nfs",
    "nfsd",
    "cifs",
    "ceph",
    "fuse",
    "9p",
    "erofs",
    "squashfs",
    "zram",
    "loop",
    "nbd",
    "rbd",
    "dm_crypt",
    "dm_thin_pool",
    "dm_cache",
    "dm_verity",
    "raid1",
    "raid456",
    "nvme",
    "ahci",
    "megaraid_sas",
    "mpt3sas",
    "qla2xxx",
    "lpfc",
    "iscsi_tcp",
    "target_core_mod",
    "bridge",
    "veth",
    "tun",
    "macvlan",
    "vxlan",
    "geneve",
    "bonding",
    "team",
    "nf_tables",
    "nf_conntrack",
    "nft_ct",
    "ip_set",
    "ip_vs",
    "openvswitch",
    "wireguard",
    "sctp",
    "tipc",
    "rds",
    "mptcp_diag",
    "can",
    "batman_adv",
    "act_bpf",
    "sch_cake",
    "cls_flower",
    "virtio_net",
    "e1000",
    "e1000e",
    "igb",
    "ixgbe",
    "i40e",
    "ice",
    "mlx4_core",
    "mlx5_core",
    "mlx5_ib",
    "bnxt_en",
    "r8169",
    "tg3",
    "iwlmvm",
    "ath11k",
    "rtw88_8822be",
    "mt7921e",
    "mac80211",
    "bluetooth",
    "btusb",
    "kvm",
    "kvm_intel",
    "kvm_amd",
    "vfio_pci",
    "vhost_net",
    "drm",
    "i915",
    "xe",
    "nouveau",
    "amdgpu",
    "radeon",
    "virtio_gpu",
    "bochs",
    "ast",
    "snd_hda_intel",
    "snd_usb_audio",
    "snd_soc_core",
    "xhci_hcd",
    "usb_storage",
    "uas",
    "cdc_acm",
    "uvcvideo",
    "v4l2loopback",
    "hid_generic",
    "hid_multitouch",
    "i2c_i801",
    "spi_nor",
    "intel_rapl_msr",
    "coretemp",
    "thunderbolt",
    "tpm_tis",
    "ib_core",
    "rdma_cm",
    "ib_ipoib",
    "hv_vmbus",
    "xen_netback",
    "vmw_vsock_vmci_transport",
    "zstd_compress",
    "lz4",
    "sha512_ssse3",
    "aesni_intel",
    "chacha_x86_64",
    "serpent_avx2",
    "twofish_x86_64",
    "camellia_aesni_avx2_x86_64",
    "libcrc32c",
    "raid6_pq",
    "async_tx",
    "sunrpc",
    "dlm",
    "configfs",
    "msr",
    "binfmt_misc",
];

/// Modules whose code is most of all: with one of them much is compared.
const FIRST: &[&str] = &["ext4", "xfs", "btrfs", "kvm", "bridge", "nf_tables", "mac80211"];

/// One in so many states is of arm64, whose emulation is slower.
const ARM64_PERCENT: usize = 12;

/// The state of a seed.
pub(in crate::conformance) fn draw(seed: u64) -> State {
    let mut random = Random::of(seed);
    let arm64 = random.percent(ARM64_PERCENT);
    let mut state = State {
        kernel: random.one(if arm64 { KERNELS_ARM64 } else { KERNELS }).to_owned(),
        cpu: random.one(if arm64 { CPUS_ARM64 } else { CPUS }).to_owned(),
        cpus: random.one(&[1, 1, 2, 2, 2, 4]),
        ..State::default()
    };
    // Only the emulator's own CPU has pages of 16 KiB.
    if state.kernel.contains("16k") {
        CPUS_ARM64[0].clone_into(&mut state.cpu);
    }
    let count = random.one(&[0, 1, 1, 2, 2, 3, 4]);
    for group in random.some(if arm64 { APPEND_ARM64 } else { APPEND }, count) {
        state.append.push(random.one(group).to_owned());
    }
    // The dumper, which takes other machines' snapshots, is no program that refuses.
    state.kptr_restrict = match random.below(20) {
        0..3 => Some(1),
        3 if !arm64 => Some(2),
        _ => None,
    };
    let count = random.one(&[0, 1, 1, 2, 2, 3]);
    let names: Vec<&str> = actions::names().collect();
    state.actions = random.some(&names, count).into_iter().map(str::to_owned).collect();
    let count = 3 + random.below(16);
    state.modules = random.some(MODULES, count).into_iter().map(str::to_owned).collect();
    let first = random.one(FIRST);
    if !state.modules.iter().any(|name| name == first) {
        state.modules.insert(random.below(state.modules.len() + 1), first.to_owned());
    }
    let locked = state.append.iter().any(|word| word.starts_with("lockdown="));
    state.waits = random.percent(70) && !locked;
    state
}

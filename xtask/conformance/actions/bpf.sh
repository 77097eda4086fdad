# SPDX-License-Identifier: MIT OR Apache-2.0
# BPF programs: filters of sockets, and some at entries and returns of functions of the kernel and of modules, which
# call trampolines then.
bpf filter
bpf fentry do_unlinkat
for function in ext4:ext4_file_open xfs:xfs_file_open btrfs:btrfs_file_open bridge:br_handle_frame kvm:kvm_vcpu_ioctl; do
	[ -r /sys/kernel/btf/${function%:*} ] || continue
	bpf fentry ${function#*:} ${function%:*} && echo ${function#*:}
	bpf fexit ${function#*:} ${function%:*}
done
grep -c '\[bpf\]$' /proc/kallsyms

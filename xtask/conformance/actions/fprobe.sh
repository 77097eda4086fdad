# SPDX-License-Identifier: MIT OR Apache-2.0
# Probes at entries and returns of functions, by fprobe where the kernel has such events (6.5), else by kretprobe.
cd /sys/kernel/tracing
for function in ext4_file_open xfs_file_open btrfs_file_open ext4_sync_file br_handle_frame kvm_vcpu_ioctl; do
	grep -q " $function" /proc/kallsyms || continue
	echo "f:f_$function $function" >> dynamic_events || echo "p:f_$function $function" >> dynamic_events
	echo "f:r_$function $function%return" >> dynamic_events || echo "r:r_$function $function" >> dynamic_events
done
for group in events/fprobes events/kprobes; do
	[ -d $group ] && echo 1 > $group/enable
done
cat dynamic_events

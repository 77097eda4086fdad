# SPDX-License-Identifier: MIT OR Apache-2.0
# Probes at entries, in the middle of functions, on returns; where instructions begin the kernel knows.
cd /sys/kernel/tracing
for function in ext4:ext4_file_open xfs:xfs_file_open btrfs:btrfs_file_open kvm:kvm_init bridge:br_add_if; do
	grep -q " ${function#*:}.*\[${function%:*}\]" /proc/kallsyms || continue
	echo "p:entry_${function#*:} $function" >> kprobe_events
	echo "r:return_${function#*:} $function" >> kprobe_events
	found=0
	for offset in 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32; do
		echo "p:middle_${function#*:}_$offset $function+$offset" >> kprobe_events 2> /dev/null && found=$((found + 1))
		[ $found = 2 ] && break
	done
done
[ -d events/kprobes ] && echo 1 > events/kprobes/enable
sleep 2
cat /sys/kernel/debug/kprobes/list

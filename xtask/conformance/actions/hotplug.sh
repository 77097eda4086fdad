# SPDX-License-Identifier: MIT OR Apache-2.0
# CPUs go and come again.
for cpu in /sys/devices/system/cpu/cpu[1-9]; do
	[ -w $cpu/online ] || continue
	echo 0 > $cpu/online
	echo 1 > $cpu/online
done
cat /sys/devices/system/cpu/online

# SPDX-License-Identifier: MIT OR Apache-2.0
# All CPUs but the first go.
for cpu in /sys/devices/system/cpu/cpu[1-9]; do
	[ -w $cpu/online ] && echo 0 > $cpu/online
done
cat /sys/devices/system/cpu/online

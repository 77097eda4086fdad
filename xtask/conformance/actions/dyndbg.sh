# SPDX-License-Identifier: MIT OR Apache-2.0
# Debugging messages of some modules on: their static keys are switched.
for module in $(cut -d ' ' -f 1 /proc/modules | head -n 12); do
	echo "module $module +p" > /sys/kernel/debug/dynamic_debug/control
done
dmesg -n 1
grep -c '=p' /sys/kernel/debug/dynamic_debug/control

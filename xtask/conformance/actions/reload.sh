# SPDX-License-Identifier: MIT OR Apache-2.0
# Modules that nobody uses go, and come again in another order: memory is used again. The disk stays.
unused=
for try in 1 2 3; do
	for module in $(awk '$3 == 0 && !/^virtio/ { print $1 }' /proc/modules | head -n 6); do
		rmmod $module && unused="$module $unused"
	done
done
echo unloaded: $unused
for module in $unused; do
	insmod /modules/$module.ko
done

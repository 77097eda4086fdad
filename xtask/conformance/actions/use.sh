# SPDX-License-Identifier: MIT OR Apache-2.0
# Modules at work: file systems mounted, networks set up. Keys and static calls change by it.
dd if=/dev/zero of=/tmp/image bs=1M count=16 2> /dev/null
mke2fs -F /tmp/image > /dev/null
mkdir -p /tmp/mount
mount -t ext4 -o loop /tmp/image /tmp/mount && echo hello > /tmp/mount/hello && sync
for link in bridge:br0 veth:v0 dummy:d0 wireguard:wg0 vxlan:vx0 bond:bond0 macvlan:mac0; do
	ip link add ${link#*:} type ${link%:*}
done
for link in lo br0 v0 d0; do
	ip link set $link up
done
[ -b /dev/zram0 ] && echo 16M > /sys/block/zram0/disksize && mke2fs /dev/zram0 > /dev/null
mount | tail -n 2
ip link | grep -c '^[0-9]'

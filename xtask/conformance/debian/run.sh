#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# What a new user of modmem does on a Debian that has just booted: first as himself, then as root. Each attempt leaves
# its output and its exit status; all is brought out on a disk as one archive, whose last member says that nothing was
# cut off.

out=/var/tmp/out
mkdir -p "$out/live"
uptime=$(cut -d ' ' -f 1 /proc/uptime)
release=$(uname -r)

say() {
	echo "guest: $(cut -d ' ' -f 1 /proc/uptime) $*"
}

# attempt NAME USER ARGUMENT...
attempt() {
	name=$1 user=$2
	shift 2
	runuser -u "$user" -- modmem "$@" > "$out/$name.out" 2> "$out/$name.err"
	echo $? > "$out/$name.status"
	say "$user: modmem $*: status $(cat "$out/$name.status")"
}

say "up: $(systemctl is-system-running) on $release"
systemctl is-active multi-user.target > "$out/multi-user"
systemctl list-units --failed --no-legend > "$out/units-failed"
cat /proc/sys/kernel/kptr_restrict > "$out/kptr_restrict"
cat /proc/cmdline > "$out/cmdline"
cat /proc/modules > "$out/modules"
grep -c '\[bpf\]$' /proc/kallsyms > "$out/bpf"
echo "$uptime" > "$out/uptime"
cd /home/user || exit 1

attempt user-snapshot user snapshot -o /home/user/mine.mms
attempt user-live user verify --live
attempt root-snapshot root snapshot -o "$out/live/snapshot.mms"
attempt root-verify root verify "$out/live/snapshot.mms" --kernel "$release"
attempt root-live root verify --live --own-files
attempt user-load user load ext4 --machine host --json
attempt root-load root load ext4 --machine host --write "$out/written"

dmesg > "$out/dmesg"
grep . /sys/devices/system/cpu/vulnerabilities/* > "$out/vulnerabilities"
echo complete > "$out/zz-end"
tar -C "$out" -cf /dev/disk/by-id/virtio-modmem-out .
sync
say "brought out"

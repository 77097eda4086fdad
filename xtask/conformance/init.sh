#!/bin/busybox sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The guest's only program: loads the modules that it is given, in the order that it is given, writes down what the
# kernel says of them, takes snapshots, and brings everything out on a disk.
#
# /order    names of modules, in loading order; their files are in /modules
# /setup    commands that bring the kernel into the state that is to be recorded
# /words    what the dumper is to record of the kernel itself
# /options  recorder=modmem|dumper (what takes snapshots), waits=yes|no (is the last module one that waits in its init
#           function?), kptr_restrict=0|1|2 (nothing: as Debian has it)

/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /out
mount -t debugfs none /sys/kernel/debug
mount -t tracefs none /sys/kernel/tracing
. /options
[ -z "$kptr_restrict" ] || echo "$kptr_restrict" > /proc/sys/kernel/kptr_restrict
cat /proc/sys/kernel/kptr_restrict > /out/kptr_restrict

say() {
	read -r up _ < /proc/uptime
	echo "guest: $up $*"
}

# The disk holds one archive; its last member says that nothing was cut off.
finish() {
	echo "$1" > /out/zz-end
	sync
	tar cf /dev/vda -C /out .
	sync
	say "brought out: $1"
	poweroff -f
}

fail() {
	say "FAILED: $*"
	finish "failed: $*"
}

load() { # module
	if insmod "/modules/$1.ko" 2>> /out/insmod.log; then
		echo "$1" >> /out/loaded
	else
		echo "$1" >> /out/refused
	fi
}

# What user space sees of modules at this moment, file by file, and a snapshot.
record() { # moment
	folder=/out/$1
	mkdir -p "$folder/sysfs-notes"
	uname -r > "$folder/kernel"
	cat /proc/cmdline > "$folder/cmdline"
	cat /proc/cpuinfo > "$folder/cpuinfo"
	cat /proc/modules > "$folder/modules"
	while read -r name _; do
		module=/sys/module/$name
		read -r core < "$module/coresize"
		read -r init < "$module/initsize"
		read -r count < "$module/refcnt"
		read -r taint < "$module/taint"
		read -r state < "$module/initstate"
		echo "$name core=$core init=$init refcnt=$count taint=$taint state=$state" >&3
		cp -r "$module/notes" "$folder/sysfs-notes/$name"
	done < "$folder/modules" 3> "$folder/modinfo"
	# These files can be read in one piece only, which the shell does not do.
	(cd /sys/module && grep -H . ./*/sections/* ./*/sections/.[!.]*) |
		sed 's|^\./\(.*\)/sections/\(.*\):|\1 \2 |' > "$folder/sections"
	cat /proc/kallsyms > "$folder/kallsyms"
	say "$1: recorded what user space sees"
	"by_$recorder"
	say "$1: took a snapshot"
}

# The sizes that memories are compared with. Only the setting 1 shows root the addresses.
areas() {
	read -r setting < /proc/sys/kernel/kptr_restrict
	echo 1 > /proc/sys/kernel/kptr_restrict
	cat /proc/vmallocinfo > "$folder/vmallocinfo"
	echo "$setting" > /proc/sys/kernel/kptr_restrict
}

# In the state that the machine is in; whether this has to succeed the host knows.
by_modmem() {
	modmem snapshot -o "$folder/snapshot.mms" > "$folder/snapshot.log" 2>&1
	echo $? > "$folder/snapshot.status"
	areas
}

# The other members of a snapshot; the host puts them together. The dumper knows module memory by its areas alone.
by_dumper() {
	areas
	uname -m > "$folder/machine"
	cat /proc/version > "$folder/version"
	nproc > "$folder/cpus"
	cat "/boot/config-$(uname -r)" > "$folder/config"
	cat /sys/kernel/debug/kprobes/list > "$folder/kprobes"
	mkdir "$folder/notes"
	while read -r name _; do
		cat "$folder/sysfs-notes/$name"/* /sys/module/$name/notes/.[!.]* > "$folder/notes/$name" 2> /dev/null
	done < "$folder/modules"
	dumper "$folder" /words > "$folder/snapshot.log" 2>&1 || fail "dumper: $(tail -n 1 "$folder/snapshot.log")"
}

say "booted $(uname -r)"
while read -r name; do
	load "$name"
done < /order
say "loaded $(wc -l < /proc/modules) modules"
for try in 1 2 3 4 5 6 7 8 9 10; do
	[ -b /dev/vda ] && break
	sleep 1
done
[ -b /dev/vda ] || fail "no disk"
. /setup > /out/setup.log 2>&1
say "set up"
grep . /sys/devices/system/cpu/vulnerabilities/* > /out/vulnerabilities

if [ "$waits" = yes ]; then
	parameters=/sys/module/modmem_waits/parameters
	waiting=N
	load modmem_waits &
	for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		[ -r $parameters/waiting ] && read -r waiting < $parameters/waiting
		[ "$waiting" = Y ] && break
		sleep 1
	done
	[ "$waiting" = Y ] || fail "modmem_waits does not wait: $(cat /out/insmod.log)"
	record waiting
	echo 1 > $parameters/release || fail "modmem_waits cannot be released"
	wait
fi

# The kernel frees init memory from a work item, some time after init has returned.
sleep 1
record live
dmesg > /out/dmesg
finish complete

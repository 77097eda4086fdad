# SPDX-License-Identifier: MIT OR Apache-2.0
# Every write to text, by the function that makes them all, while functions of modules are traced, and keys and static calls of
# tracepoints switched, several times.
cd /sys/kernel/tracing
echo 'p:poke __text_poke at=%si old=+0(%si):x64 new=+0(%dx):x64 length=%cx' > kprobe_events
# A buffer of its own: another tracer empties the first.
mkdir instances/pokes
echo 16384 > instances/pokes/buffer_size_kb
echo 0 > tracing_on
echo 1 > instances/pokes/events/kprobes/poke/enable
for round in 1 2 3; do
	for events in ext4 xfs btrfs kvm jbd2 bridge; do
		[ -d events/$events ] && echo 1 > events/$events/enable
	done
	for events in ext4 xfs btrfs kvm jbd2 bridge; do
		[ -d events/$events ] && echo 0 > events/$events/enable
	done
	echo ':mod:ext4' > set_ftrace_filter
	echo function > current_tracer
	echo ':mod:bridge' >> set_ftrace_filter
	echo nop > current_tracer
	echo > set_ftrace_filter
done
echo 0 > instances/pokes/events/kprobes/poke/enable
grep ' poke: ' instances/pokes/trace | sed 's/.* poke: //'
rmdir instances/pokes
echo 1 > tracing_on
echo > kprobe_events

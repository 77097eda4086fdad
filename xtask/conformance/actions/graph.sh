# SPDX-License-Identifier: MIT OR Apache-2.0
# The graph tracer on the functions of some modules.
cd /sys/kernel/tracing
echo 0 > tracing_on
for module in ext4 xfs btrfs kvm; do
	echo ":mod:$module" >> set_ftrace_filter
done
echo function_graph > current_tracer
echo tracer $(cat current_tracer), $(wc -l < enabled_functions) functions

# SPDX-License-Identifier: MIT OR Apache-2.0
# The function tracer in an instance: its ftrace_ops are allocated, and it traces modules only.
mkdir /sys/kernel/tracing/instances/own
cd /sys/kernel/tracing/instances/own
echo 0 > tracing_on
for module in $(cut -d ' ' -f 1 /proc/modules | head -n 8); do
	echo ":mod:$module" >> set_ftrace_filter
done
echo function > current_tracer
echo tracer $(cat current_tracer), $(wc -l < /sys/kernel/tracing/enabled_functions) functions

# SPDX-License-Identifier: MIT OR Apache-2.0
# The function tracer on everything. Sites are patched whether anything is recorded or not.
cd /sys/kernel/tracing
echo 0 > tracing_on
echo function > current_tracer
echo tracer $(cat current_tracer), $(wc -l < enabled_functions) functions

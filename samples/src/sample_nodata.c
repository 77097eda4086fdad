// SPDX-License-Identifier: MIT OR Apache-2.0
// Text and nothing else: neither init nor exit, no data of its own.
#include "sample_lib.h"
#include "checksums.h"

u64 sample_nodata_mix(u64 value)
{
	value ^= value >> 32;
	value *= 0x9e3779b97f4a7c15;
	value ^= value >> 29;
	return value;
}
EXPORT_SYMBOL(sample_nodata_mix);

MODULE_INFO(description, "One function");
MODULE_INFO(license, "Dual MIT/GPL");

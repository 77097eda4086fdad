// SPDX-License-Identifier: MIT OR Apache-2.0
// Data and nothing else: the module has no text at all.
#include "sample_lib.h"
#include "checksums.h"

const char *const sample_data_levels[4] = { "low", "middle", "high", "too high" };
EXPORT_SYMBOL(sample_data_levels);

struct ring {
	struct ring *next;
	const char *const *level;
};

/* A ring of three that points into itself and into .rodata. */
struct ring sample_data_ring[3] = {
	{ &sample_data_ring[1], &sample_data_levels[0] },
	{ &sample_data_ring[2], &sample_data_levels[1] },
	{ &sample_data_ring[0], &sample_data_levels[2] },
};
EXPORT_SYMBOL_GPL(sample_data_ring);

MODULE_INFO(description, "Two tables");
MODULE_INFO(license, "Dual MIT/GPL");

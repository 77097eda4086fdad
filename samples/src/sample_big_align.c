// SPDX-License-Identifier: MIT OR Apache-2.0
// Only zeroed data, and that aligned to a page and to a cache line. There is
// no exit function: once loaded, the module stays.
#include "sample_lib.h"

static u8 page[4096] __attribute__((aligned(4096))) IN_SECTION(".bss..page_aligned");
static u8 line[5000] __attribute__((aligned(64)));

static INIT int sample_big_align_init(void)
{
	u8 *p = page, *l = line;

	/* The compiler must not conclude from the attributes what to find. */
	asm("" : "+r"(p), "+r"(l));
	if ((u64)p & 4095 || (u64)l & 63)
		return -EINVAL;
	memset(p, 0x5a, sizeof(page));
	l[sizeof(line) - 1] = p[0];
	_printk("sample_big_align: %s\n", sample_data_levels[2]);
	return 0;
}
MODULE_INIT(sample_big_align_init)

MODULE_INFO(description, "Zeroed memory with large alignment");
MODULE_INFO(license, "Dual MIT/GPL");
MODULE_INFO(staging, "Y");

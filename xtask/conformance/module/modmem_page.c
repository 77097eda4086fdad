// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A page of code that no list of the kernel has: it is mapped where modules may lie by the page tables alone, without
 * an area of vmalloc. A snapshot must find it all the same. It is never run.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>

/* Far behind all modules, and before what follows their range. */
#define PLACE (MODULES_END - 0x1000000UL)

/* xor %eax, %eax; ret; and a word to know it by */
static const u8 code[] = { 0x31, 0xc0, 0xc3, 'm', 'o', 'd', 'm', 'e', 'm' };

static struct page *page;

static int put(pte_t *entry, unsigned long address, void *data)
{
	set_pte(entry, mk_pte(page, PAGE_KERNEL_EXEC));
	return 0;
}

static int __init modmem_page_init(void)
{
	int error;

	page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!page)
		return -ENOMEM;
	memcpy(page_address(page), code, sizeof(code));
	/* All tables share the kernel's half. */
	error = apply_to_page_range(current->mm, PLACE, PAGE_SIZE, put, NULL);
	if (error) {
		__free_page(page);
		return error;
	}
	pr_info("modmem_page: %#lx\n", PLACE);
	/* Without an exit function the module stays, and so does the page. */
	return 0;
}
module_init(modmem_page_init);

MODULE_DESCRIPTION("A page of code that no list has");
MODULE_LICENSE("Dual MIT/GPL");

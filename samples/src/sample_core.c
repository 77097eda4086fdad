// SPDX-License-Identifier: MIT OR Apache-2.0
// Parameters, per-CPU data, data that turns read-only after init, a branch
// that is patched, weak and absolute symbols, an import from a namespace.
#include "sample_lib.h"
#include "checksums.h"

int sample_core_level = 3;
EXPORT_SYMBOL(sample_core_level);

static char *label = "sample";
static bool quiet;
static u32 sizes[4] = { 16, 32 };
static u32 size_count = 2;

PARAM_(level, param_ops_int, &sample_core_level, 0644);
MODULE_INFO(parmtype, "level:int");
MODULE_PARAM_DESC(level, "how much to say, 0 to 7 (default 3)");
MODULE_PARAM(label, charp, 0444);
MODULE_PARAM_DESC(label, "the name to register under");
MODULE_PARAM(quiet, bool, 0600);
MODULE_PARAM_DESC(quiet, "say nothing when the module goes");
MODULE_PARAM_ARRAY(sizes, uint, size_count, 0);
MODULE_PARAM_DESC(sizes, "up to four buffer sizes");

/* One of each per CPU. Linux 6.12 does not apply the relocation of `home`. */
static PERCPU u64 submitted KEEP;
static PERCPU int *home KEEP = &sample_core_level;

/* Written by init, read-only afterwards. */
static RO_AFTER_INIT u64 started;
static RO_AFTER_INIT u32 budget = 8;
static RO_AFTER_INIT struct branch_key tracing;

static INIT_DATA char greeting[] = "hello from init data";
static const u16 steps[] INIT_RODATA = { 1, 2, 4, 8, 16, 32 };

static u32 users;

/* Nobody defines this one: its address is 0. */
extern WEAK void sample_core_observer(u64 work);

/* An absolute number, defined in sample_core_abi.c. */
static inline u32 abi(void)
{
	u32 value;

	asm("movl $sample_core_abi, %0" : "=r"(value));
	return value;
}

int sample_core_open(u32 flags)
{
	if (flags & ~abi())
		return -EINVAL;
	if (users >= budget)
		return -EBUSY;
	locked_increment(&users);
	return users;
}
EXPORT_SYMBOL(sample_core_open);

void sample_core_close(int handle)
{
	if (handle > 0 && users)
		users--;
}
EXPORT_SYMBOL(sample_core_close);

u64 sample_core_submit(int handle, u64 work)
{
	if (handle <= 0)
		return 0;
	asm volatile("incq %%gs:%0" : "+m"(submitted));
	if (sample_core_observer)
		sample_core_observer(work);
	if (branch_enabled(&tracing))
		_printk("sample_core: %s: work %lu at %lu\n", label, work, jiffies);
	return work + (jiffies - started);
}
EXPORT_SYMBOL_GPL(sample_core_submit);

/* What another CPU has counted. */
u64 sample_core_submitted(u32 cpu)
{
	return *(u64 *)((u8 *)&submitted + __per_cpu_offset[cpu]);
}
EXPORT_SYMBOL_GPL(sample_core_submitted);

static struct sample_service service = {
	.open = sample_core_open,
	.close = sample_core_close,
};

static INIT int sample_core_init(void)
{
	u32 sum = 0;

	for (u32 i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		sum += steps[i];
	budget = sum;
	started = jiffies;
	service.name = label;
	if (!quiet)
		_printk("sample_core: %s, level %d, time %ld, crc %08x\n", greeting,
			sample_core_level, ktime_get(),
			sample_lib_crc32((const u8 *)greeting, sizeof(greeting) - 1));
	if (sample_lib_occupied() >= size_count + 2)
		return -EBUSY;
	return sample_lib_register(&service);
}
MODULE_INIT(sample_core_init)

static EXIT void sample_core_exit(void)
{
	sample_lib_unregister(&service);
	if (!quiet)
		_printk("sample_core: gone\n");
}
MODULE_EXIT(sample_core_exit)

MODULE_INFO(description, "A driver core with everything a module may carry");
MODULE_INFO(author, "modmem");
MODULE_INFO(license, "Dual MIT/GPL");
MODULE_INFO(version, "1.0");
MODULE_INFO(alias, "platform:sample-core");
MODULE_INFO(alias, "pci:v00001AF4d00005A5Asv*sd*bc*sc*i*");
MODULE_INFO(import_ns, "SAMPLE_INTERNAL");
MODULE_INFO(firmware, "sample/core.bin");

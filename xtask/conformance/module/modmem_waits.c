// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A module that stays in its init function until it is told to go on, so that memory that is freed after init can be
 * looked at. Init and core code have one of everything that the loader patches: the kernel's and own jump labels and
 * static calls, alternatives, paravirtual calls, locked instructions, indirect calls, exception tables, warnings; on
 * each machine what it has of these.
 *
 * /sys/module/modmem_waits/parameters/waiting reads Y once init waits; writing 1 to release beside it ends that.
 */
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/jump_label.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/prefetch.h>
#include <linux/sched/signal.h>
#include <linux/static_call.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#if defined(CONFIG_X86_64)
#include <asm/msr.h>
#elif defined(CONFIG_ARM64)
#include <asm/cpufeature.h>
#elif defined(CONFIG_S390)
#include <asm/alternative.h>
#endif

/* What other modules may call; there is no header, for there are no such modules. */
unsigned long modmem_everything(int value);
int modmem_factor_of(int value);
unsigned int modmem_visits(void);

static bool waiting;
module_param(waiting, bool, 0444);
MODULE_PARM_DESC(waiting, "init waits to be released");
static bool release;
module_param(release, bool, 0644);
MODULE_PARM_DESC(release, "let init go on");

/* Each kind of data: written, zeroed, constant, sealed after init, a copy for each CPU, init's own. */
static atomic_t visits = ATOMIC_INIT(7);
static u64 counted[64];
static const char *const names[] = { "data", "constant", "sealed", "init" };
static unsigned long sealed[4] __ro_after_init = { 1, 2, 3 };
static DEFINE_PER_CPU(u32, on_this_cpu) = 5;
static int init_numbers[24] __initdata = { 3, 1, 4, 1, 5 };
static const u16 init_constants[] __initconst = { 2, 7, 1, 8, 2, 8 };

DEFINE_STATIC_KEY_FALSE(modmem_off);
DEFINE_STATIC_KEY_TRUE(modmem_on);
static DEFINE_STATIC_KEY_FALSE(switched_on);
static DEFINE_STATIC_KEY_TRUE(switched_off);
static DEFINE_STATIC_KEY_FALSE_RO(sealed_key);

static noinline int twice(int value)
{
	return value * 2;
}

static noinline int thrice(int value)
{
	atomic_inc(&visits);
	return value * 3;
}

DEFINE_STATIC_CALL(modmem_factor, twice);
DEFINE_STATIC_CALL_NULL(modmem_nothing, thrice);

struct operations {
	int (*first)(int value);
	int (*second)(int value);
};
static const struct operations operations = { twice, thrice };

/* What is chosen by the CPU's features, and what may fault. */
#if defined(CONFIG_X86_64)
static __always_inline unsigned long of_machine(void)
{
	unsigned long sum = 0;
	int error;

	if (static_cpu_has(X86_FEATURE_ERMS))
		sum += 16;
	if (!static_cpu_has(X86_FEATURE_XMM2))
		sum += 32;
	sum += native_read_msr_safe(0xffffff, &error);
	sum += rdmsrl_safe(0xffffff, (u64 *)&counted[2]);
	return sum;
}
#else
/* Names of older kernels. */
#if defined(CONFIG_ARM64) && LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define alternative_has_cap_likely alternative_has_feature_likely
#define alternative_has_cap_unlikely alternative_has_feature_unlikely
#endif
#if defined(CONFIG_S390) && !defined(ALT_FACILITY)
#define ALT_FACILITY(number) number
#endif

static __always_inline unsigned long of_machine(void)
{
	unsigned long sum = 0;
	int word = 0;

#if defined(CONFIG_ARM64)
	if (alternative_has_cap_unlikely(ARM64_HAS_LDAPR))
		sum += 16;
	if (alternative_has_cap_likely(ARM64_HAS_CRC32))
		sum += 32;
#elif defined(CONFIG_S390)
	asm volatile(ALTERNATIVE("lghi %0,16", "lghi %0,32", ALT_FACILITY(129)) : "=d" (sum));
#endif
	sum += get_user(word, (int __user *)PAGE_SIZE);
	return sum + word;
}
#endif

/* Inlined into init and core code alike: what is patched in one memory is patched in the other. */
static __always_inline unsigned long everything(const struct operations *use, int value)
{
	unsigned long flags, sum = 0;
	u64 *written;

	/* Calls through pointers stay calls through pointers. */
	OPTIMIZER_HIDE_VAR(use);
	might_sleep();
	cond_resched();
	local_irq_save(flags);
	sum += this_cpu_inc_return(on_this_cpu);
	local_irq_restore(flags);
	if (static_branch_unlikely(&modmem_off))
		pr_info("never: %s\n", names[0]);
	if (static_branch_likely(&modmem_on))
		sum += 1;
	if (static_branch_unlikely(&switched_on))
		sum += twice(value);
	if (static_branch_likely(&switched_off))
		sum += thrice(value);
	if (static_branch_unlikely(&sealed_key))
		sum += sealed[2];
	if (want_init_on_alloc(0))
		sum += 4;
	if (want_init_on_free())
		sum += 8;
	sum += static_call(modmem_factor)(value);
	static_call_cond(modmem_nothing)(value);
	sum += use->first(value) + use->second(value);
	smp_mb();
	/* By a register: until Linux 6.2 objtool takes no address in an alternative, and then leaves all labels as they are. */
	written = &counted[1];
	OPTIMIZER_HIDE_VAR(written);
	prefetchw(written);
	if (atomic_fetch_add(value, &visits) > 1000)
		set_bit(3, (unsigned long *)counted);
	sum += of_machine();
	WARN_ON_ONCE(atomic_read(&visits) < 0);
	pr_debug("sum %lu\n", sum);
	return sum;
}

unsigned long modmem_everything(int value)
{
	return everything(&operations, value) + counted[5] + sealed[1];
}
EXPORT_SYMBOL(modmem_everything);

int modmem_factor_of(int value)
{
	return static_call(modmem_factor)(value);
}
EXPORT_SYMBOL_GPL(modmem_factor_of);

unsigned int modmem_visits(void)
{
	return atomic_read(&visits) + names[1][0];
}
EXPORT_SYMBOL_NS_GPL(modmem_visits, MODMEM);

static noinline int __init init_number(int index)
{
	return init_numbers[index % ARRAY_SIZE(init_numbers)] + init_constants[index % ARRAY_SIZE(init_constants)];
}

static int __init modmem_waits_init(void)
{
	static_branch_enable(&switched_on);
	static_branch_disable(&switched_off);
	static_call_update(modmem_factor, thrice);
	sealed[0] = init_number(3);
	if (init_number(1))
		static_branch_enable(&sealed_key);
	counted[0] = everything(&operations, init_number(2)) + modmem_everything(2);
	WRITE_ONCE(waiting, true);
	while (!READ_ONCE(release) && !fatal_signal_pending(current))
		msleep_interruptible(20);
	WRITE_ONCE(waiting, false);
	return 0;
}
module_init(modmem_waits_init);

static void __exit modmem_waits_exit(void)
{
	pr_info("%s %lu\n", names[3], modmem_everything(1));
}
module_exit(modmem_waits_exit);

MODULE_AUTHOR("The modmem authors");
MODULE_DESCRIPTION("Waits in its init function, so that init memory can be compared");
MODULE_LICENSE("Dual MIT/GPL");
MODULE_VERSION("1");

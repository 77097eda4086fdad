/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a Linux 6.12 module for x86-64 looks like to the loader, written down
 * from its binary form. Nothing here comes from the kernel's headers.
 */
#ifndef SAMPLE_MODULE_H
#define SAMPLE_MODULE_H

#define RELEASE "6.12.0-sample"
#define VERMAGIC RELEASE " SMP preempt mod_unload modversions "

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef u8 bool;

#define NULL ((void *)0)
#define ENOENT 2
#define EFAULT 14
#define EBUSY 16
#define EINVAL 22

#define STR_(x) #x
#define STR(x) STR_(x)
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)

#define IN_SECTION(name) __attribute__((section(name)))
#define KEEP __attribute__((used))
#define WEAK __attribute__((weak))

/* ---- where things live ---- */

#define INIT IN_SECTION(".init.text")
#define EXIT IN_SECTION(".exit.text") KEEP
#define INIT_DATA IN_SECTION(".init.data")
#define INIT_RODATA IN_SECTION(".init.rodata")
#define EXIT_DATA IN_SECTION(".exit.data")
#define RO_AFTER_INIT IN_SECTION(".data..ro_after_init")
#define PERCPU IN_SECTION(".data..percpu")

#define MODULE_INIT(function) \
	int init_module(void) __attribute__((alias(#function)));
#define MODULE_EXIT(function) \
	void cleanup_module(void) __attribute__((alias(#function)));

/* ---- .modinfo: "key=value" strings, one after the other ---- */

#define MODULE_INFO(key, value) \
	static const char CAT(modinfo_, __COUNTER__)[] \
	KEEP IN_SECTION(".modinfo") __attribute__((aligned(1))) = #key "=" value

/* ---- the module's own descriptor; only name, init and exit are filled in ---- */

struct module {
	u8 head[0x18];
	char name[56];
	u8 middle[0x138 - 0x18 - 56];
	int (*init)(void);
	u8 body[0x4b0 - 0x138 - 8];
	void (*exit)(void);
	u8 tail[0x500 - 0x4b0 - 8];
} __attribute__((aligned(64)));

_Static_assert(__builtin_offsetof(struct module, init) == 0x138, "init");
_Static_assert(__builtin_offsetof(struct module, exit) == 0x4b0, "exit");
_Static_assert(sizeof(struct module) == 0x500, "size");

extern struct module __this_module;

/* ---- __versions: the checksum this module expects of each import ---- */

struct version {
	u64 crc;
	char name[64 - 8];
};

/* ---- exports ----
 *
 * An entry is three self-relative 32-bit offsets: value, name, namespace. Each
 * sits in a section of its own; module.lds sorts these by name. build.sh makes
 * checksums.h, which gives CRC_<symbol>.
 */
#define EXPORT_(symbol, gpl, namespace) \
	asm(".pushsection ___ksymtab" gpl "+" #symbol ",\"a\"\n" \
	    "	.balign 4\n" \
	    "__ksymtab_" #symbol ":\n" \
	    "	.long " #symbol " - .\n" \
	    "	.long __kstrtab_" #symbol " - .\n" \
	    "	.long __kstrtabns_" #symbol " - .\n" \
	    "	.popsection\n" \
	    "	.pushsection ___kcrctab" gpl "+" #symbol ",\"a\"\n" \
	    "	.balign 4\n" \
	    "__crc_" #symbol ":\n" \
	    "	.long " STR(CAT(CRC_, symbol)) "\n" \
	    "	.popsection\n" \
	    "	.pushsection __ksymtab_strings,\"aMS\",@progbits,1\n" \
	    "__kstrtab_" #symbol ":\n" \
	    "	.asciz \"" #symbol "\"\n" \
	    "__kstrtabns_" #symbol ":\n" \
	    "	.asciz \"" namespace "\"\n" \
	    "	.popsection\n")

#define EXPORT_SYMBOL(symbol) EXPORT_(symbol, "", "")
#define EXPORT_SYMBOL_GPL(symbol) EXPORT_(symbol, "_gpl", "")
#define EXPORT_SYMBOL_NS_GPL(symbol, ns) EXPORT_(symbol, "_gpl", #ns)

/* ---- parameters ---- */

struct param_ops;
extern const struct param_ops param_ops_int, param_ops_uint, param_ops_bool,
	param_ops_charp, param_array_ops;

struct param {
	const char *name;
	struct module *module;
	const struct param_ops *ops;
	u16 permissions;
	signed char level;
	u8 flags;
	void *value;
};

struct param_array {
	u32 max;
	u32 element_size;
	u32 *count;
	const struct param_ops *ops;
	void *elements;
};

#define PARAM_(name_, ops_, value_, permissions_) \
	static const char param_name_##name_[] = #name_; \
	static const struct param param_##name_ KEEP IN_SECTION("__param") \
	__attribute__((aligned(8))) = { \
		.name = param_name_##name_, \
		.module = &__this_module, \
		.ops = &ops_, \
		.permissions = permissions_, \
		.level = -1, \
		.value = value_, \
	}

#define MODULE_PARAM(name, type, permissions) \
	PARAM_(name, param_ops_##type, &name, permissions); \
	MODULE_INFO(parmtype, #name ":" #type)

#define MODULE_PARAM_ARRAY(name, type, used, permissions) \
	static const struct param_array param_array_##name = { \
		.max = sizeof(name) / sizeof(name[0]), \
		.element_size = sizeof(name[0]), \
		.count = &used, \
		.ops = &param_ops_##type, \
		.elements = name, \
	}; \
	PARAM_(name, param_array_ops, (void *)&param_array_##name, permissions); \
	MODULE_INFO(parmtype, #name ":array of " #type)

#define MODULE_PARAM_DESC(name, text) MODULE_INFO(parm, #name ":" text)

/* ---- a branch that is off until its key is switched on ---- */

struct branch_key {
	u32 enabled;
	u64 type;
};

static inline __attribute__((always_inline)) bool
branch_enabled(struct branch_key *const key)
{
	asm goto("1:	.byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"
		 "	.pushsection __jump_table, \"aw\"\n"
		 "	.balign 8\n"
		 "	.long 1b - .\n"
		 "	.long %l[on] - .\n"
		 "	.quad %c0 - .\n"
		 "	.popsection\n"
		 : : "i"(key) : : on);
	return 0;
on:
	return 1;
}

/* ---- a locked increment that a one-CPU machine may unlock ---- */

static inline void locked_increment(u32 *counter)
{
	asm volatile(".pushsection .smp_locks,\"a\"\n"
		     "	.balign 4\n"
		     "	.long 1f - .\n"
		     "	.popsection\n"
		     "1:	lock incl %0\n"
		     : "+m"(*counter) : : "memory");
}

/* ---- the kernel's side ---- */

int _printk(const char *format, ...);
void *__kmalloc_noprof(u64 size, u32 flags);
void kfree(const void *memory);
int strcmp(const char *a, const char *b);
u64 strlen(const char *text);
void *memcpy(void *to, const void *from, u64 size);
void *memset(void *memory, int value, u64 size);
long ktime_get(void);
extern u64 jiffies;
extern u64 __per_cpu_offset[];

#endif

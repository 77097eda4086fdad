// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Hooks another module in every way that the kernel offers, without a change to what it does: functions are traced with
 * the right to change where they go, probed at their entries, in their middle and at their returns, and a tracepoint is
 * listened to.
 */
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
#define REGISTERS struct ftrace_regs
#else
#define REGISTERS struct pt_regs
#endif

static void notrace modmem_traces(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, REGISTERS *regs)
{
}

static struct ftrace_ops tracer = {
	.func = modmem_traces,
	.flags = FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY,
};

static int modmem_probes(struct kprobe *probe, struct pt_regs *regs)
{
	return 0;
}

static struct kprobe at_entry = { .symbol_name = "ext4_sync_file", .pre_handler = modmem_probes };
static struct kprobe in_middle = { .symbol_name = "ext4_file_mmap", .pre_handler = modmem_probes };
static struct kprobe of_kernel = { .symbol_name = "cmdline_proc_show", .pre_handler = modmem_probes };

static int modmem_returns(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	return 0;
}

static struct kretprobe at_return = { .kp.symbol_name = "ext4_dir_llseek", .handler = modmem_returns };

static void modmem_listens(void *data)
{
}

static struct tracepoint *tracepoint;

static int look(struct notifier_block *self, unsigned long event, void *data)
{
	struct tp_module *found = data;
	unsigned int i;

	if (event != MODULE_STATE_COMING || strcmp(found->mod->name, "ext4"))
		return 0;
	for (i = 0; i < found->mod->num_tracepoints; i++) {
		struct tracepoint *own = tracepoint_ptr_deref(&found->mod->tracepoints_ptrs[i]);

		if (!strcmp(own->name, "ext4_sync_fs"))
			tracepoint = own;
	}
	return 0;
}

static struct notifier_block looking = { .notifier_call = look };

static int __init modmem_hooks_init(void)
{
	static char of_ext4[] = "ext4_file_open", own[] = "version_proc_show";
	int offset, error;

	/* Functions of a module and of the kernel. */
	error = ftrace_set_filter(&tracer, of_ext4, strlen(of_ext4), 1);
	if (!error)
		error = ftrace_set_filter(&tracer, own, strlen(own), 0);
	if (!error)
		error = register_ftrace_function(&tracer);
	pr_info("modmem_hooks: ftrace %d\n", error);
	pr_info("modmem_hooks: kprobe %d\n", register_kprobe(&at_entry));
	/* Where instructions begin depends on the build: the kernel refuses other places. */
	for (offset = 9; offset < 40; offset++) {
		in_middle.offset = offset;
		in_middle.addr = NULL;
		in_middle.flags = 0;
		error = register_kprobe(&in_middle);
		if (!error)
			break;
	}
	pr_info("modmem_hooks: kprobe in the middle %d\n", error);
	pr_info("modmem_hooks: kprobe of the kernel %d\n", register_kprobe(&of_kernel));
	pr_info("modmem_hooks: kretprobe %d\n", register_kretprobe(&at_return));
	register_tracepoint_module_notifier(&looking);
	unregister_tracepoint_module_notifier(&looking);
	error = tracepoint ? tracepoint_probe_register(tracepoint, modmem_listens, NULL) : -ENOENT;
	pr_info("modmem_hooks: tracepoint %d\n", error);
	return 0;
}
module_init(modmem_hooks_init);

static void __exit modmem_hooks_exit(void)
{
	if (tracepoint)
		tracepoint_probe_unregister(tracepoint, modmem_listens, NULL);
	tracepoint_synchronize_unregister();
	unregister_kretprobe(&at_return);
	unregister_kprobe(&of_kernel);
	unregister_kprobe(&in_middle);
	unregister_kprobe(&at_entry);
	unregister_ftrace_function(&tracer);
}
module_exit(modmem_hooks_exit);

MODULE_AUTHOR("The modmem authors");
MODULE_DESCRIPTION("Hooks another module by the book, so that the table of hooks can be looked at");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A livepatch: replaces one function of the kernel and one of a module, neither of which the guest needs.
 */
#include <linux/fs.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static int patched_loadavg_proc_show(struct seq_file *file, void *unused)
{
	seq_puts(file, "patched by modmem_livepatch\n");
	return 0;
}

static int patched_ext4_sync_file(struct file *file, loff_t start, loff_t end, int datasync)
{
	return -EIO;
}

static struct klp_func of_kernel[] = {
	{ .old_name = "loadavg_proc_show", .new_func = patched_loadavg_proc_show },
	{ }
};

static struct klp_func of_ext4[] = {
	{ .old_name = "ext4_sync_file", .new_func = patched_ext4_sync_file },
	{ }
};

static struct klp_object objects[] = {
	{ .funcs = of_kernel },
	{ .name = "ext4", .funcs = of_ext4 },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init modmem_livepatch_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(modmem_livepatch_init);

static void __exit modmem_livepatch_exit(void)
{
}
module_exit(modmem_livepatch_exit);

MODULE_AUTHOR("The modmem authors");
MODULE_DESCRIPTION("Replaces functions, so that a livepatch's own memory can be compared");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

// SPDX-License-Identifier: MIT OR Apache-2.0
// The other half of sample_fs: comes and goes. Strings shared with the first
// half and among themselves are merged by the linker.
#include "sample_fs.h"

static u32 state;

struct file_system {
	const char *name;
	const struct sample_fs_operations *operations;
	struct module *owner;
};

int register_filesystem(struct file_system *fs);
int unregister_filesystem(struct file_system *fs);

static struct file_system sample_fs = {
	.name = "sample",
	.operations = &sample_fs_operations,
	.owner = &__this_module,
};

static const char *const words[] INIT_RODATA = { "sample", "file system", "system" };
static u32 tries INIT_DATA = 3;
static const char *farewell EXIT_DATA = "sample_fs: gone\n";

static INIT int sample_fs_init(void)
{
	const struct sample_service *service = sample_lib_find("sample");

	if (!service && sample_core_level > 7)
		return -ENOENT;
	for (u32 i = 0; i < tries; i++)
		state += strlen(words[i]);
	_printk("sample_fs: %s %s\n", words[0], words[1]);
	return register_filesystem(&sample_fs);
}
MODULE_INIT(sample_fs_init)

static EXIT void sample_fs_exit(void)
{
	unregister_filesystem(&sample_fs);
	_printk(farewell);
}
MODULE_EXIT(sample_fs_exit)

MODULE_INFO(description, "A file system whose files hold their own names");
MODULE_INFO(author, "modmem");
MODULE_INFO(license, "Dual MIT/GPL");
MODULE_INFO(alias, "fs-sample");
MODULE_INFO(softdep, "pre: sample_crypto post: sample_big_align");

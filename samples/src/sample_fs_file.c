// SPDX-License-Identifier: MIT OR Apache-2.0
// Half of sample_fs: tables of function pointers, a switch by jump table,
// an exception table. `state` is a local name in both halves.
#include "sample_fs.h"

static u32 state = 1;

/* Reads a byte, or gives -EFAULT where the address turns out to be bad. */
static int read_carefully(const u8 *from)
{
	int value;

	/* The second entry lies before the first in the file, not in memory. */
	asm volatile("1:	movzbl %1, %0\n"
		     "2:\n"
		     "	.pushsection .fixup.text,\"ax\"\n"
		     "3:	movl %2, %0\n"
		     "	jmp 2b\n"
		     "	.popsection\n"
		     "	.pushsection __ex_table,\"a\"\n"
		     "	.balign 4\n"
		     "	.long 3b - .\n"
		     "	.long 2b - .\n"
		     "	.long 0\n"
		     "	.long 1b - .\n"
		     "	.long 3b - .\n"
		     "	.long 0\n"
		     "	.popsection\n"
		     : "=r"(value) : "m"(*from), "i"(-EFAULT));
	return value;
}

static struct sample_fs_file *fs_open(const char *name)
{
	struct sample_fs_file *file = __kmalloc_noprof(sizeof(*file), 0xcc0);

	if (!file)
		return NULL;
	file->name = name;
	file->position = 0;
	file->handle = sample_core_open(0);
	state++;
	return file;
}

static long fs_read(struct sample_fs_file *file, u8 *to, u64 size)
{
	u64 done = 0;

	while (done < size) {
		int byte = read_carefully((const u8 *)file->name + file->position);

		if (byte < 0)
			return byte;
		if (!byte)
			break;
		to[done++] = byte;
		file->position++;
	}
	return done;
}

static long fs_control(struct sample_fs_file *file, u32 command, u64 *argument)
{
	switch (command) {
	case 0: *argument = state; return 0;
	case 1: *argument = file->position; return 0;
	case 2: file->position = *argument; return 0;
	case 3: *argument = strlen(file->name); return 0;
	case 4: *argument = sample_core_submit(file->handle, *argument); return 0;
	case 5: *argument = sample_lib_crc32((const u8 *)file->name, strlen(file->name)); return 0;
	case 6: *argument = sample_core_level; return 0;
	default: return -EINVAL;
	}
}

static void fs_close(struct sample_fs_file *file)
{
	sample_core_close(file->handle);
	kfree(file);
}

const struct sample_fs_operations sample_fs_operations = {
	.open = fs_open,
	.read = fs_read,
	.control = fs_control,
	.close = fs_close,
};

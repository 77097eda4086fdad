/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SAMPLE_FS_H
#define SAMPLE_FS_H

#include "sample_lib.h"

struct sample_fs_file {
	const char *name;
	int handle;
	u64 position;
};

struct sample_fs_operations {
	struct sample_fs_file *(*open)(const char *name);
	long (*read)(struct sample_fs_file *file, u8 *to, u64 size);
	long (*control)(struct sample_fs_file *file, u32 command, u64 *argument);
	void (*close)(struct sample_fs_file *file);
};

extern const struct sample_fs_operations sample_fs_operations;

#endif

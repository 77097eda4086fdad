/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the sample modules offer each other. */
#ifndef SAMPLE_LIB_H
#define SAMPLE_LIB_H

#include "module.h"

struct sample_service {
	const char *name;
	int (*open)(u32 flags);
	void (*close)(int handle);
};

/* sample_lib */
u32 sample_lib_adler32(const u8 *data, u64 size);
u32 sample_lib_checksum(const u8 *data, u64 size);
u32 sample_lib_crc32(const u8 *data, u64 size);
int sample_lib_register(const struct sample_service *service);
void sample_lib_unregister(const struct sample_service *service);
const struct sample_service *sample_lib_find(const char *name);
u32 sample_lib_occupied(void);
extern const u32 sample_lib_crc_table[16];

/* sample_core */
int sample_core_open(u32 flags);
void sample_core_close(int handle);
u64 sample_core_submit(int handle, u64 work);
extern int sample_core_level;

/* sample_crypto */
void sample_crypto_block(u32 out[16], const u32 in[16]);

/* sample_nodata */
u64 sample_nodata_mix(u64 value);

/* sample_data */
extern const char *const sample_data_levels[4];

#endif

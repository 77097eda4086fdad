// SPDX-License-Identifier: MIT OR Apache-2.0
// Exports of every kind: plain, GPL-only, in a namespace, data, an alias.
#include "sample_lib.h"
#include "checksums.h"

#define SLOTS 4

static const struct sample_service *slots[SLOTS];
static u32 occupied;

const u32 sample_lib_crc_table[16] = {
	0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
	0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
	0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
	0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
};
EXPORT_SYMBOL(sample_lib_crc_table);

u32 sample_lib_crc32(const u8 *data, u64 size)
{
	u32 crc = ~0u;

	while (size--) {
		crc ^= *data++;
		crc = (crc >> 4) ^ sample_lib_crc_table[crc & 15];
		crc = (crc >> 4) ^ sample_lib_crc_table[crc & 15];
	}
	return ~crc;
}
EXPORT_SYMBOL(sample_lib_crc32);

u32 sample_lib_adler32(const u8 *data, u64 size)
{
	u32 a = 1, b = 0;

	while (size--) {
		a = (a + *data++) % 65521;
		b = (b + a) % 65521;
	}
	return b << 16 | a;
}
EXPORT_SYMBOL(sample_lib_adler32);

/* Two names, one address. */
u32 sample_lib_checksum(const u8 *data, u64 size)
	__attribute__((alias("sample_lib_adler32")));
EXPORT_SYMBOL(sample_lib_checksum);

/* A weak definition: nothing overrides it here, so it is used. */
WEAK void sample_lib_changed(u32 now)
{
	occupied = now;
}

int sample_lib_register(const struct sample_service *service)
{
	for (u32 i = 0; i < SLOTS; i++) {
		if (!slots[i]) {
			slots[i] = service;
			sample_lib_changed(occupied + 1);
			return 0;
		}
	}
	return -EBUSY;
}
EXPORT_SYMBOL_GPL(sample_lib_register);

void sample_lib_unregister(const struct sample_service *service)
{
	for (u32 i = 0; i < SLOTS; i++) {
		if (slots[i] == service) {
			slots[i] = NULL;
			sample_lib_changed(occupied - 1);
			return;
		}
	}
}
EXPORT_SYMBOL_GPL(sample_lib_unregister);

const struct sample_service *sample_lib_find(const char *name)
{
	for (u32 i = 0; i < SLOTS; i++)
		if (slots[i] && !strcmp(slots[i]->name, name))
			return slots[i];
	return NULL;
}
EXPORT_SYMBOL_GPL(sample_lib_find);

u32 sample_lib_occupied(void)
{
	return occupied;
}
EXPORT_SYMBOL_NS_GPL(sample_lib_occupied, SAMPLE_INTERNAL);

static INIT int sample_lib_init(void)
{
	_printk("sample_lib: %u slots\n", SLOTS);
	return 0;
}
MODULE_INIT(sample_lib_init)

static EXIT void sample_lib_exit(void)
{
	_printk("sample_lib: gone\n");
}
MODULE_EXIT(sample_lib_exit)

MODULE_INFO(description, "Checksums and a registry for the other samples");
MODULE_INFO(author, "modmem");
MODULE_INFO(license, "Dual MIT/GPL");

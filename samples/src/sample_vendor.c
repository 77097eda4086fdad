// SPDX-License-Identifier: MIT OR Apache-2.0
// Stands for a vendor's driver: built out of tree, not under a licence that
// the loader counts as GPL-compatible. It may use plain exports only.
#include "sample_lib.h"
#include "checksums.h"

u32 sample_vendor_serial(void)
{
	static const u8 maker[] = "vendor";

	return sample_lib_checksum(maker, sizeof(maker) - 1) ^ sample_lib_crc_table[1];
}
EXPORT_SYMBOL(sample_vendor_serial);

static INIT int sample_vendor_init(void)
{
	_printk("sample_vendor: serial %08x\n", sample_vendor_serial());
	return 0;
}
MODULE_INIT(sample_vendor_init)

static EXIT void sample_vendor_exit(void)
{
}
MODULE_EXIT(sample_vendor_exit)

MODULE_INFO(description, "A driver from elsewhere");
MODULE_INFO(license, "Proprietary");
MODULE_INFO(alias, "usb:v1D6Bp5A5Ad*dc*dsc*dp*ic*isc*ip*in*");

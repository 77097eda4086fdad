// SPDX-License-Identifier: MIT OR Apache-2.0
// The block function of ChaCha20 (RFC 8439, 2.3), so that a run can be checked
// against the RFC's numbers. The built file carries a signature trailer.
#include "sample_lib.h"
#include "checksums.h"

/* The state before its key: "expand 32-byte k". */
static const u32 constants[4] = {
	0x61707865, 0x3320646e, 0x79622d32, 0x6b206574,
};

static u32 blocks;

static inline u32 rotate(u32 value, u32 by)
{
	return value << by | value >> (32 - by);
}

static void quarter(u32 *s, u32 a, u32 b, u32 c, u32 d)
{
	s[a] += s[b], s[d] = rotate(s[d] ^ s[a], 16);
	s[c] += s[d], s[b] = rotate(s[b] ^ s[c], 12);
	s[a] += s[b], s[d] = rotate(s[d] ^ s[a], 8);
	s[c] += s[d], s[b] = rotate(s[b] ^ s[c], 7);
}

void sample_crypto_block(u32 out[16], const u32 in[16])
{
	u32 s[16];

	memcpy(s, in, sizeof(s));
	for (int round = 0; round < 10; round++) {
		for (u32 i = 0; i < 4; i++)
			quarter(s, i, 4 + i, 8 + i, 12 + i);
		for (u32 i = 0; i < 4; i++)
			quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
	}
	for (u32 i = 0; i < 16; i++)
		out[i] = s[i] + in[i];
	blocks++;
}
EXPORT_SYMBOL_GPL(sample_crypto_block);

static INIT int sample_crypto_init(void)
{
	u32 state[16] = { 0 }, out[16];

	memcpy(state, constants, sizeof(constants));
	sample_crypto_block(out, state);
	/* The first word of the key stream for key 0, nonce 0, counter 0. */
	if (out[0] != 0xade0b876)
		return -EINVAL;
	_printk("sample_crypto: self-test passed\n");
	return 0;
}
MODULE_INIT(sample_crypto_init)

static EXIT void sample_crypto_exit(void)
{
	_printk("sample_crypto: %u blocks\n", blocks);
}
MODULE_EXIT(sample_crypto_exit)

MODULE_INFO(description, "The ChaCha20 block function");
MODULE_INFO(author, "modmem");
MODULE_INFO(license, "Dual BSD/GPL");
MODULE_INFO(alias, "crypto-sample");
MODULE_INFO(softdep, "pre: sample_builtin");

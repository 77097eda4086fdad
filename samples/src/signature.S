# SPDX-License-Identifier: MIT OR Apache-2.0
# What is appended to a signed module: a PKCS#7 message, a descriptor, a marker.
# The message is well-formed, but its signature is only the bytes 0 to 63, so no
# key will ever verify it.

	.macro der tag, name
	.byte \tag, \name\()_end - \name
\name:
	.endm
	.macro end name
\name\()_end:
	.endm

start:
	.byte 0x30, 0x81, message_end - message
message:
	.byte 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2	# signedData
	.byte 0xa0, 0x81, content_end - content
content:
	.byte 0x30, 0x81, signed_end - signed
signed:
	.byte 2, 1, 1						# version 1
	der	0x31, digests
	der	0x30, digest
	.byte 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1	# sha256
	end	digest
	end	digests
	der	0x30, data
	.byte 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1	# data, detached
	end	data
	.byte 0x31, 0x81, signers_end - signers
signers:
	.byte 0x30, 0x81, signer_end - signer
signer:
	.byte 2, 1, 1						# version 1
	der	0x30, issuer_and_serial
	der	0x30, issuer
	der	0x31, name
	der	0x30, attribute
	.byte 6, 3, 0x55, 4, 3					# commonName
	der	0x0c, common_name
	.ascii	"modmem sample key"
	end	common_name
	end	attribute
	end	name
	end	issuer
	.byte 2, 2, 0x06, 0x12					# serial number
	end	issuer_and_serial
	der	0x30, digest_again
	.byte 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1	# sha256
	end	digest_again
	der	0x30, algorithm
	.byte 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1	# rsaEncryption
	.byte 5, 0
	end	algorithm
	der	0x04, signature
	.set	i, 0
	.rept	64
	.byte	i
	.set	i, i + 1
	.endr
	end	signature
signer_end:
signers_end:
signed_end:
content_end:
message_end:

	.byte 0, 0, 2, 0, 0, 0, 0, 0	# algorithm, hash, kind 2 = PKCS#7, lengths, padding
	.byte 0, 0, 0, message_end - start	# length of the message, big-endian
	.ascii "~Module signature appended~\n"

// SPDX-License-Identifier: MIT OR Apache-2.0
// An absolute symbol for the rest of sample_core: a file of its own, because
// the assembler would fold the number into the instruction otherwise.
asm(".globl sample_core_abi\n"
    ".set sample_core_abi, 0x612\n");

// The same number as data, 32 and 64 bits wide.
asm(".section .rodata\n"
    "	.balign 8\n"
    "	.quad sample_core_abi\n"
    "	.long sample_core_abi\n"
    "	.balign 8\n"
    "	.previous\n");

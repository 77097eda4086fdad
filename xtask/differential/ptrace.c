// SPDX-License-Identifier: MIT OR Apache-2.0
// Loaded into User Mode Linux before the C library.
//
// Its 6.12 keeps the extended registers of a process in a buffer of fixed size, and gives the processor as many back as it
// has. On processors with more (AMX) Linux refuses that: it takes the whole state or nothing (arch/x86/kernel/fpu/regset.c:
// xstateregs_set, EFAULT). Here what is missing is filled up with what the process has.

#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

static _Thread_local char state[1 << 16] __attribute__((aligned(64)));

long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	pid_t process = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);
	int gets = request == PTRACE_GETREGSET, sets = request == PTRACE_SETREGSET;
	if ((gets || sets) && (unsigned long)address == NT_X86_XSTATE) {
		struct iovec *part = data, whole = { state, sizeof(state) };
		if (syscall(SYS_ptrace, PTRACE_GETREGSET, process, address, &whole) < 0)
			return -1;
		size_t length = part->iov_len < whole.iov_len ? part->iov_len : whole.iov_len;
		if (gets) {
			memcpy(part->iov_base, state, length);
			part->iov_len = length;
			return 0;
		}
		memcpy(state, part->iov_base, length);
		return syscall(SYS_ptrace, PTRACE_SETREGSET, process, address, &whole);
	}
	// The C library returns what these read.
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
		long word;
		if (syscall(SYS_ptrace, request, process, address, &word) < 0)
			return -1;
		errno = 0;
		return word;
	}
	return syscall(SYS_ptrace, request, process, address, data);
}

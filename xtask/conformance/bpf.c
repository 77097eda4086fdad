// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Loads a BPF program into the kernel and stays in the background, so that the program stays too.
 *
 *     bpf filter                       one that filters a socket, old style and new
 *     bpf fentry|fexit FUNCTION [MODULE]   one that runs when a function is entered or left, by a trampoline
 *
 * Exit status 0: it is there.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/filter.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static void need(int works, const char *what)
{
	if (works)
		return;
	perror(what);
	exit(1);
}

/* The types of the kernel or of a module, as it shows them. */
struct types {
	struct btf_header *header;
	uint32_t strings, count;
};

static struct types types_of(const char *name)
{
	char path[256];
	size_t size = 0, room = 1 << 24;
	char *bytes = malloc(room);
	ssize_t got;

	snprintf(path, sizeof(path), "/sys/kernel/btf/%s", name);
	int file = open(path, O_RDONLY);
	need(file >= 0 && bytes, path);
	while ((got = read(file, bytes + size, room - size)) > 0)
		size += (size_t)got;
	close(file);
	struct btf_header *header = (struct btf_header *)bytes;
	need(size > sizeof(*header) && header->magic == BTF_MAGIC, path);
	return (struct types){ .header = header, .strings = header->str_len };
}

/* Bytes behind the fixed part of a type. */
static size_t rest_of(const struct btf_type *type)
{
	size_t count = BTF_INFO_VLEN(type->info);

	switch (BTF_INFO_KIND(type->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case 17: /* a declaration's tag */
		return 4;
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return count * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return count * sizeof(struct btf_enum);
	case BTF_KIND_FUNC_PROTO:
		return count * sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return count * sizeof(struct btf_var_secinfo);
	case 19: /* an enumeration with 64 bits */
		return count * 12;
	default:
		return 0;
	}
}

/* The number of a function's type, and how many types there are. Numbers and strings of a module go on from the kernel's. */
static uint32_t function_in(struct types *types, const struct types *base, const char *wanted)
{
	char *start = (char *)types->header + types->header->hdr_len;
	char *at = start + types->header->type_off, *end = at + types->header->type_len;
	const char *strings = start + types->header->str_off;
	uint32_t first = base ? base->strings : 0, found = 0;
	uint32_t number = base ? base->count : 1;

	for (; at < end; number++) {
		struct btf_type *type = (struct btf_type *)at;
		if (BTF_INFO_KIND(type->info) == BTF_KIND_FUNC && type->name_off >= first &&
		    !strcmp(strings + type->name_off - first, wanted))
			found = number;
		at += sizeof(*type) + rest_of(type);
	}
	types->count = number;
	return found;
}

/* A descriptor of the types of a module that the kernel has. */
static int descriptor_of(const char *module)
{
	uint32_t id = 0;

	for (;;) {
		char name[64] = "";
		struct bpf_btf_info info = { .name = (uintptr_t)name, .name_len = sizeof(name) };
		union bpf_attr next = { .start_id = id };
		need(!bpf(BPF_BTF_GET_NEXT_ID, &next), module);
		id = next.next_id;
		union bpf_attr get = { .btf_id = id };
		int fd = bpf(BPF_BTF_GET_FD_BY_ID, &get);
		union bpf_attr ask = { .info = { .bpf_fd = (uint32_t)fd, .info_len = sizeof(info), .info = (uintptr_t)&info } };
		if (fd >= 0 && !bpf(BPF_OBJ_GET_INFO_BY_FD, &ask) && !strcmp(name, module))
			return fd;
		close(fd);
	}
}

static int loaded(union bpf_attr *attr)
{
	/* Returns 0, whatever it is called for. */
	static const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	attr->insns = (uintptr_t)code;
	attr->insn_cnt = sizeof(code) / sizeof(*code);
	attr->license = (uintptr_t)"GPL";
	int program = bpf(BPF_PROG_LOAD, attr);
	need(program >= 0, "BPF_PROG_LOAD");
	return program;
}

static void filter(void)
{
	struct sock_filter code[] = { BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), BPF_STMT(BPF_RET | BPF_A, 0) };
	struct sock_fprog old = { .len = 2, .filter = code };
	int sockets[2];

	need(!socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets), "socketpair");
	need(!setsockopt(sockets[0], SOL_SOCKET, SO_ATTACH_FILTER, &old, sizeof(old)), "SO_ATTACH_FILTER");
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_SOCKET_FILTER };
	int program = loaded(&attr);
	need(!setsockopt(sockets[1], SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof(program)), "SO_ATTACH_BPF");
}

static void trace(int type, const char *function, const char *module)
{
	struct types kernel = types_of("vmlinux");
	uint32_t id = function_in(&kernel, NULL, function);
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_TRACING };

	attr.expected_attach_type = (uint32_t)type;
	if (module) {
		struct types own = types_of(module);
		id = function_in(&own, &kernel, function);
		attr.attach_btf_obj_fd = (uint32_t)descriptor_of(module);
	}
	need(id, function);
	attr.attach_btf_id = id;
	union bpf_attr attach = { .raw_tracepoint = { .prog_fd = (uint32_t)loaded(&attr) } };
	need(bpf(BPF_RAW_TRACEPOINT_OPEN, &attach) >= 0, "BPF_RAW_TRACEPOINT_OPEN");
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";

	if (!strcmp(kind, "filter"))
		filter();
	else if (argc > 2 && (!strcmp(kind, "fentry") || !strcmp(kind, "fexit")))
		trace(!strcmp(kind, "fexit") ? BPF_TRACE_FEXIT : BPF_TRACE_FENTRY, argv[2], argv[3]);
	else
		return 2;
	/* The parent says that it is done; the child keeps what was opened. */
	need(!daemon(1, 0), "daemon");
	for (;;)
		pause();
}

/*
 * The guest's only program: has the running kernel load and unload the modules of a file, and writes down what it says.
 *
 * Environment: CASES and ANSWERS name files, FROM is how many cases of the first are passed over. A case is steps, a step
 * is two little-endian numbers of 32 bits, what to do and how many bytes follow:
 *
 *   0  load the module that follows
 *   1  the same, and look at all that can be seen of it
 *   2  the same, and at its symbols in /proc/kallsyms, which takes as long as a hundred modules
 *   3  unload the module whose name follows
 *   4  the case ends: all that is left is unloaded, the newest first
 *   5  where to look after the next load: lines end with a zero byte, each the offset of a section in a block of memory,
 *      the block's size and the section's name
 *
 * An answer is lines of text, each a word and what it says:
 *
 *   begin NUMBER                       a case
 *   step ERRNO                         what finit_module or delete_module returned
 *   log BYTES                          new lines of the kernel's log, as /dev/kmsg shows them, follow
 *   whole                              all of /sys/module/MODULE follows, and not only what the plan names
 *   file NAME BYTES                    a file of /sys/module/MODULE follows
 *   section NAME ADDRESS               a file of /sys/module/MODULE/sections, without its line's end
 *   note NAME BYTES                    a file of /sys/module/MODULE/notes follows
 *   area ADDRESS BYTES                 a block of memory follows
 *   unread ADDRESS                     one that cannot be read
 *   look NUMBER                        the host has read blocks of memory, for the NUMBERth time
 *   kallsyms BYTES                     lines of modules in /proc/kallsyms follow
 *   modules BYTES                      /proc/modules after the step follows
 *   gone ERRNO                         what delete_module returned in the end
 *   done NUMBER
 *
 * Memory is read by /proc/kcore. Where that has none, as in 7.2, the host reads it, whose process this kernel is: the guest
 * writes a line into a serial line that says where it waits for which number, lines of an address and a size, and an empty
 * one, and waits until the host has put the number there. As it neither sleeps nor lets others run, what frees the memory
 * of init (kernel/module/main.c:do_free_init) comes later.
 *
 * Each system call of the guest is two switches of processes on the host, so there are few: files that are read again
 * and again stay open, and a case's answer is written at once.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <elf.h>
#include <termios.h>
#include <unistd.h>

#define LARGEST (16 << 20)

/* Shorter files are not for init_module: it has an error of its own for them. */
#define SHORTEST sizeof(Elf64_Ehdr)

enum { LOAD, LOAD_AND_LOOK, LOAD_AND_LIST, UNLOAD, END, PLAN };

static FILE *answers;
static int kmsg = -1, modules = -1, kcore = -1, host = -1;
/* What /proc/modules said last. */
static char list[1 << 18];
/* Where to look after the next load. */
static char plan[1 << 16];
static size_t plan_length;
static Elf64_Phdr *segments;
static int segment_count;
static unsigned looks;
/* How often the host has looked. Written to while that is waited for, so that the host can write to it too. */
static volatile struct {
	uint32_t number, turns;
} looked;

static void stop(const char *what)
{
	if (answers) {
		fprintf(answers, "stopped %s: %s\n", what, strerror(errno));
		fflush(answers);
	}
	fprintf(stderr, "guest: %s: %s\n", what, strerror(errno));
	reboot(RB_POWER_OFF);
	exit(1);
}

/* What a file has that can be read from its beginning again. */
static size_t take_again(int file, char *to, size_t most)
{
	size_t length = 0;
	ssize_t got;

	while (length < most && (got = pread(file, to + length, most - length, length)) > 0)
		length += got;
	return length;
}

static size_t take_at(int folder, const char *path, char *to, size_t most)
{
	int file = openat(folder, path, O_RDONLY);
	size_t length = 0;
	ssize_t got;

	if (file < 0)
		return 0;
	while (length < most && (got = read(file, to + length, most - length)) > 0)
		length += got;
	close(file);
	return length;
}

static void take_log(int write_it)
{
	static char log[1 << 16], record[8192];
	size_t length = 0;
	ssize_t got;

	while ((got = read(kmsg, record, sizeof(record))) > 0 || (got < 0 && errno == EPIPE))
		if (got > 0 && length + got < sizeof(log)) {
			memcpy(log + length, record, got);
			length += got;
		}
	if (write_it && length) {
		fprintf(answers, "log %zu\n", length);
		fwrite(log, 1, length, answers);
	}
}

static void open_memory(void)
{
	Elf64_Ehdr header;

	kcore = open("/proc/kcore", O_RDONLY);
	if (kcore < 0 || pread(kcore, &header, sizeof(header), 0) != sizeof(header))
		stop("/proc/kcore");
	segment_count = header.e_phnum;
	segments = calloc(segment_count, sizeof(*segments));
	if (pread(kcore, segments, segment_count * sizeof(*segments), header.e_phoff) !=
	    (ssize_t)(segment_count * sizeof(*segments)))
		stop("/proc/kcore's program headers");
}

static void take_block(uint64_t address, uint64_t size)
{
	static char bytes[LARGEST];

	for (int at = 0; at < segment_count; at++) {
		const Elf64_Phdr *segment = &segments[at];
		uint64_t offset = address - segment->p_vaddr;

		if (address < segment->p_vaddr || offset + size > segment->p_memsz || size > sizeof(bytes) ||
		    pread(kcore, bytes, size, segment->p_offset + offset) != (ssize_t)size)
			continue;
		fprintf(answers, "area 0x%llx %llu\n", (unsigned long long)address, (unsigned long long)size);
		fwrite(bytes, 1, size, answers);
		return;
	}
	fprintf(answers, "unread 0x%llx\n", (unsigned long long)address);
}

static void open_host(void)
{
	struct termios settings;

	host = open("/dev/ttyS0", O_WRONLY | O_NOCTTY);
	if (host < 0 || tcgetattr(host, &settings))
		stop("/dev/ttyS0");
	cfmakeraw(&settings);
	if (tcsetattr(host, TCSANOW, &settings))
		stop("/dev/ttyS0's settings");
}

static void take_file(int folder, const char *word, const char *name)
{
	static char text[1 << 16];
	size_t length = take_at(folder, name, text, sizeof(text));

	fprintf(answers, "%s %s %zu\n", word, name, length);
	fwrite(text, 1, length, answers);
}

/* Has something done with each file of a folder in a module's. */
static void each_file(int module, const char *name, void (*take)(int folder, const char *file))
{
	int folder = openat(module, name, O_RDONLY | O_DIRECTORY);
	struct dirent *entry;
	DIR *files = folder < 0 ? NULL : fdopendir(folder);

	while (files && (entry = readdir(files)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			take(folder, entry->d_name);
	if (files)
		closedir(files);
}

/* The address of a section, and 0 if there is none of that name. */
static uint64_t section_at(int folder, const char *name)
{
	char text[64];
	/* One read: the file is a line. */
	int file = openat(folder, name, O_RDONLY);
	ssize_t length;

	if (file < 0)
		return 0;
	length = read(file, text, sizeof(text) - 1);
	close(file);
	text[length < 0 ? 0 : length] = 0;
	return strtoull(text, NULL, 16);
}

static void take_section(int folder, const char *name)
{
	fprintf(answers, "section %s 0x%llx\n", name, (unsigned long long)section_at(folder, name));
}

static void take_note(int folder, const char *name)
{
	take_file(folder, "note", name);
}

/* Reads the blocks of the plan, each found by one section in it, or has the host read them. */
static void take_blocks(int module, int whole)
{
	static char wanted[1 << 12];
	int folder = openat(module, "sections", O_RDONLY | O_DIRECTORY);
	size_t length, empty;

	empty = length = snprintf(wanted, sizeof(wanted), "look 0x%llx %u\n", (unsigned long long)(uintptr_t)&looked.number, looks + 1);
	for (char *line = plan; line < plan + plan_length; line += strlen(line) + 1) {
		uint64_t offset, size, address;
		char *name;

		offset = strtoull(line, &name, 10);
		size = strtoull(name, &name, 10);
		address = *name == ' ' ? section_at(folder, ++name) : 0;
		if (!address)
			continue;
		if (!whole)
			fprintf(answers, "section %s 0x%llx\n", name, (unsigned long long)address);
		address -= offset;
		if (segment_count) {
			take_block(address, size);
			continue;
		}
		length += snprintf(wanted + length, sizeof(wanted) - length, "0x%llx %llu\n",
				   (unsigned long long)address, (unsigned long long)size);
		if (length + 64 > sizeof(wanted))
			stop("a plan with too many blocks");
	}
	close(folder);
	if (length == empty)
		return;
	wanted[length++] = '\n';
	if (write(host, wanted, length) != (ssize_t)length)
		stop("the host");
	looks++;
	while (looked.number != looks)
		looked.turns++;
	fprintf(answers, "look %u\n", looks);
}

static void take_symbols(void)
{
	static char text[8 << 20], found[1 << 20];
	size_t length = take_at(AT_FDCWD, "/proc/kallsyms", text, sizeof(text) - 1), kept = 0;

	text[length] = 0;
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		size_t size = end + 1 - line;

		if (end[-1] == ']' && kept + size < sizeof(found)) {
			memcpy(found + kept, line, size);
			kept += size;
		}
	}
	fprintf(answers, "kallsyms %zu\n", kept);
	fwrite(found, 1, kept, answers);
}

/* The newest module's name; whether there is one. */
static int newest(char *name, size_t most)
{
	char *line_end = strchr(list, '\n'), *end;
	size_t length;

	if (!line_end)
		return 0;
	/* Names may have spaces: before the state are the name, a size, a count and users. */
	*line_end = 0;
	end = strstr(list, " Live 0x");
	for (int field = 0; end && field < 3; field++)
		for (end--; end > list && *end != ' '; end--)
			;
	length = end ? (size_t)(end - list) : strcspn(list, " ");
	*line_end = '\n';
	if (length >= most)
		stop("a name that is too long");
	memcpy(name, list, length);
	name[length] = 0;
	return 1;
}

static void look_at_module(unsigned what)
{
	char name[128], path[256];
	int folder;

	if (!newest(name, sizeof(name)))
		stop("a module that is not in the list");
	/* In a name a slash would be a folder's (lib/kobject.c:kobject_set_name_vargs). */
	for (char *slash = name; (slash = strchr(slash, '/')); )
		*slash = '!';
	snprintf(path, sizeof(path), "/sys/module/%s", name);
	folder = open(path, O_RDONLY | O_DIRECTORY);
	if (what != LOAD || !plan_length) {
		fprintf(answers, "whole\n");
		take_file(folder, "file", "coresize");
		take_file(folder, "file", "initsize");
		take_file(folder, "file", "taint");
		take_file(folder, "file", "initstate");
		take_file(folder, "file", "refcnt");
		each_file(folder, "sections", take_section);
		each_file(folder, "notes", take_note);
	}
	take_blocks(folder, what != LOAD);
	if (what == LOAD_AND_LIST)
		take_symbols();
	close(folder);
}

static void take_list(void)
{
	list[take_again(modules, list, sizeof(list) - 1)] = 0;
}

static void step(unsigned what, char *bytes, size_t length)
{
	int answer, file;

	if (what == UNLOAD) {
		bytes[length] = 0;
		answer = syscall(SYS_delete_module, bytes, O_NONBLOCK) ? errno : 0;
	} else if (what == LOAD && length >= SHORTEST) {
		answer = syscall(SYS_init_module, bytes, length, "") ? errno : 0;
	} else {
		file = memfd_create("module", 0);
		if (file < 0 || write(file, bytes, length) != (ssize_t)length)
			stop("a file in memory");
		answer = syscall(SYS_finit_module, file, "", 0) ? errno : 0;
		close(file);
	}
	fprintf(answers, "step %d\n", answer);
	take_log(1);
	take_list();
	fprintf(answers, "modules %zu\n%s", strlen(list), list);
	if (!answer && what != UNLOAD)
		look_at_module(what);
	plan_length = 0;
}

/* If the kernel dies of a case, the host knows of which. */
static void begin(unsigned number)
{
	fprintf(answers, "begin %u\n", number);
	fflush(answers);
}

static void finish(unsigned number)
{
	char name[128];
	int answer = 0;

	while (!answer && newest(name, sizeof(name))) {
		answer = syscall(SYS_delete_module, name, O_NONBLOCK) ? errno : 0;
		fprintf(answers, "gone %d\n", answer);
		take_log(1);
		take_list();
	}
	fprintf(answers, "done %u\n", number);
	/* What stays would be in the way of all others. */
	if (answer) {
		fflush(answers);
		reboot(RB_POWER_OFF);
	}
}

int main(void)
{
	static char bytes[LARGEST];
	const char *from = getenv("FROM");
	unsigned number = 0, first = from ? atoi(from) : 0;
	FILE *cases;
	uint32_t head[2];

	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	cases = fopen(getenv("CASES"), "r");
	answers = fopen(getenv("ANSWERS"), "w");
	if (!cases || !answers)
		stop("files");
	setvbuf(answers, NULL, _IOFBF, 1 << 20);
	setvbuf(cases, NULL, _IOFBF, 1 << 20);
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	modules = open("/proc/modules", O_RDONLY);
	if (kmsg < 0 || modules < 0)
		stop("/dev/kmsg and /proc/modules");
	open_memory();
	open_host();
	if (sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 50 }))
		stop("SCHED_FIFO");
	take_log(0);
	begin(first);
	while (fread(head, sizeof(head), 1, cases) == 1) {
		if (head[1] >= LARGEST)
			stop("a step that is too large");
		if (number < first) {
			if (fseek(cases, head[1], SEEK_CUR))
				stop("cases cut off");
			number += head[0] == END;
			continue;
		}
		if (head[1] && fread(bytes, head[1], 1, cases) != 1)
			stop("cases cut off");
		if (head[0] == END) {
			finish(number++);
			begin(number);
		} else if (head[0] == PLAN) {
			if (head[1] > sizeof(plan))
				stop("a plan that is too long");
			memcpy(plan, bytes, plan_length = head[1]);
		} else {
			step(head[0], bytes, head[1]);
		}
	}
	fprintf(answers, "end %u\n", number);
	fclose(answers);
	sync();
	reboot(RB_POWER_OFF);
	return 0;
}

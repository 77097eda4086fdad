/*
 * The guest's only program: has the running kernel load and unload the modules of a file, and writes down what it says.
 *
 * Environment: CASES and ANSWERS name files, FROM is how many cases of the first are passed over. A case is steps, a step
 * is two little-endian numbers of 32 bits, what to do and how many bytes follow:
 *
 *   0  load the module that follows
 *   1  the same, and look at all that can be seen of it
 *   2  unload the module whose name follows
 *   3  the case ends: all that is left is unloaded, the newest first
 *
 * An answer is lines of text, each a word and what it says:
 *
 *   begin NUMBER                       a case
 *   step ERRNO                         what finit_module or delete_module returned
 *   log BYTES                          new lines of the kernel's log, as /dev/kmsg shows them, follow
 *   file NAME BYTES                    a file of /sys/module/MODULE follows
 *   section NAME ADDRESS               a file of /sys/module/MODULE/sections, without its line's end
 *   note NAME BYTES                    a file of /sys/module/MODULE/notes follows
 *   area ADDRESS BYTES                 an area of vmalloc that a section lies in follows, without the guard page
 *   kallsyms BYTES                     lines of modules in /proc/kallsyms follow
 *   modules BYTES                      /proc/modules after the step follows
 *   gone ERRNO                         what delete_module returned in the end
 *   done NUMBER
 *
 * Each system call of the guest is two switches of processes on the host, so there are few: files that are read again
 * and again stay open, and a case's answer is written at once.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <elf.h>
#include <unistd.h>

#define MOST_SECTIONS 4096
#define LARGEST (16 << 20)

enum { LOAD, LOAD_AND_LOOK, UNLOAD, END };

static FILE *answers;
static int kmsg = -1, kcore = -1, modules = -1, areas = -1;
/* What /proc/modules said last. */
static char list[1 << 18];
static Elf64_Phdr *segments;
static int segment_count;
static uint64_t addresses[MOST_SECTIONS];
static int address_count;

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

static int read_memory(uint64_t address, void *to, uint64_t length)
{
	for (int at = 0; at < segment_count; at++) {
		const Elf64_Phdr *segment = &segments[at];

		if (address >= segment->p_vaddr && address + length <= segment->p_vaddr + segment->p_memsz)
			return pread(kcore, to, length, segment->p_offset + address - segment->p_vaddr) == (ssize_t)length;
	}
	return 0;
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

static void take_section(int folder, const char *name)
{
	char text[64];
	/* One read: the file is a line. */
	int file = openat(folder, name, O_RDONLY);
	ssize_t length = file < 0 ? 0 : read(file, text, sizeof(text) - 1);

	close(file);
	text[length < 0 ? 0 : length] = 0;
	text[strcspn(text, "\n")] = 0;
	fprintf(answers, "section %s %s\n", name, text);
	if (address_count < MOST_SECTIONS)
		addresses[address_count++] = strtoull(text, NULL, 16);
}

static void take_note(int folder, const char *name)
{
	take_file(folder, "note", name);
}

static void take_memory(void)
{
	static char text[1 << 20], bytes[LARGEST];
	size_t length = take_again(areas, text, sizeof(text) - 1);

	text[length] = 0;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		unsigned long long start, end;
		int is_one = 0;

		/* What is not purged has no bytes any more. */
		if (sscanf(line, "0x%llx-0x%llx", &start, &end) != 2 || end - start <= 4096 || strstr(line, "unpurged"))
			continue;
		for (int at = 0; at < address_count; at++)
			is_one |= addresses[at] >= start && addresses[at] < end;
		/* Without the guard page. */
		end -= 4096;
		if (!is_one || end - start > sizeof(bytes) || !read_memory(start, bytes, end - start))
			continue;
		fprintf(answers, "area 0x%llx %llu\n", start, end - start);
		fwrite(bytes, 1, end - start, answers);
	}
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

static void look_at_module(int wholly)
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
	take_file(folder, "file", "coresize");
	take_file(folder, "file", "initsize");
	take_file(folder, "file", "taint");
	address_count = 0;
	each_file(folder, "sections", take_section);
	take_memory();
	if (wholly) {
		take_file(folder, "file", "initstate");
		take_file(folder, "file", "refcnt");
		each_file(folder, "notes", take_note);
		take_symbols();
	}
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
		look_at_module(what == LOAD_AND_LOOK);
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
	areas = open("/proc/vmallocinfo", O_RDONLY);
	if (kmsg < 0 || modules < 0 || areas < 0)
		stop("/dev/kmsg, /proc/modules and /proc/vmallocinfo");
	open_memory();
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

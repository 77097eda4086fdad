/*
 * The guest's only program: has the running kernel load and unload each module of a file, and writes down what it says.
 *
 * Environment: MODULES and ANSWERS name files, FROM is how many modules of the first are passed over. A module is a
 * little-endian number of 32 bits and so many bytes. An answer is lines of text, each a word and what it says:
 *
 *   module NUMBER ERRNO                what finit_module returned
 *   log BYTES                          new lines of the kernel's log, as /dev/kmsg shows them, follow
 *   line TEXT                          the module's line in /proc/modules
 *   file NAME BYTES                    a file of /sys/module/MODULE follows
 *   section NAME ADDRESS               a file of /sys/module/MODULE/sections, without its line's end
 *   area ADDRESS BYTES                 an area of vmalloc that a section lies in follows, without the guard page
 *   unload ERRNO                       what delete_module returned
 *   done NUMBER
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

static FILE *answers;
static int kmsg = -1, kcore = -1;
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

static size_t take(const char *path, char *to, size_t most)
{
	int file = open(path, O_RDONLY);
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
	static char log[1 << 16];
	char record[8192];
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

static void take_file(const char *folder, const char *name)
{
	static char text[1 << 16];
	char path[512];
	size_t length;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	length = take(path, text, sizeof(text));
	fprintf(answers, "file %s %zu\n", name, length);
	fwrite(text, 1, length, answers);
}

static void take_sections(const char *folder)
{
	char path[1024], text[64];
	struct dirent *entry;
	DIR *sections;

	snprintf(path, sizeof(path), "%s/sections", folder);
	sections = opendir(path);
	address_count = 0;
	if (!sections)
		return;
	while ((entry = readdir(sections))) {
		char file[2048];
		size_t length;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		length = take(file, text, sizeof(text) - 1);
		text[length] = 0;
		text[strcspn(text, "\n")] = 0;
		fprintf(answers, "section %s %s\n", entry->d_name, text);
		if (address_count < MOST_SECTIONS)
			addresses[address_count++] = strtoull(text, NULL, 16);
	}
	closedir(sections);
}

static void take_memory(void)
{
	static char line[1024];
	FILE *areas = fopen("/proc/vmallocinfo", "r");

	if (!areas)
		stop("/proc/vmallocinfo");
	while (fgets(line, sizeof(line), areas)) {
		unsigned long long start, end;
		int is_one = 0;
		void *bytes;

		if (sscanf(line, "0x%llx-0x%llx", &start, &end) != 2 || end - start <= 4096)
			continue;
		for (int at = 0; at < address_count; at++)
			is_one |= addresses[at] >= start && addresses[at] < end;
		if (!is_one)
			continue;
		/* Without the guard page. */
		end -= 4096;
		bytes = malloc(end - start);
		if (bytes && read_memory(start, bytes, end - start)) {
			fprintf(answers, "area 0x%llx %llu\n", start, end - start);
			fwrite(bytes, 1, end - start, answers);
		}
		free(bytes);
	}
	fclose(areas);
}

static void look_at_module(char *name, size_t most)
{
	static char list[1 << 16];
	char folder[512], *end;
	size_t length = take("/proc/modules", list, sizeof(list) - 1);

	list[length] = 0;
	list[strcspn(list, "\n")] = 0;
	fprintf(answers, "line %s\n", list);
	/* Names may have spaces: before the state are the name, a size, a count and users. */
	end = strstr(list, " Live 0x");
	for (int field = 0; end && field < 3; field++)
		for (end--; end > list && *end != ' '; end--)
			;
	length = end ? (size_t)(end - list) : strcspn(list, " ");
	if (length >= most)
		stop("a name that is too long");
	memcpy(name, list, length);
	name[length] = 0;
	snprintf(folder, sizeof(folder), "/sys/module/%s", name);
	take_file(folder, "coresize");
	take_file(folder, "initsize");
	take_file(folder, "taint");
	take_sections(folder);
	take_memory();
}

static void ask(unsigned number, const void *bytes, size_t length)
{
	int file = memfd_create("module", 0), answer;
	char name[128];

	if (file < 0 || write(file, bytes, length) != (ssize_t)length)
		stop("a file in memory");
	/* If the kernel dies of it, the host knows of which. */
	fprintf(answers, "begin %u\n", number);
	fflush(answers);
	answer = syscall(SYS_finit_module, file, "", 0) ? errno : 0;
	close(file);
	fprintf(answers, "module %u %d\n", number, answer);
	take_log(1);
	if (!answer) {
		look_at_module(name, sizeof(name));
		answer = syscall(SYS_delete_module, name, O_NONBLOCK) ? errno : 0;
		fprintf(answers, "unload %d\n", answer);
		take_log(1);
	}
	fprintf(answers, "done %u\n", number);
}

int main(void)
{
	const char *from = getenv("FROM");
	unsigned number = 0, first = from ? atoi(from) : 0;
	FILE *modules;
	uint32_t length;

	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	modules = fopen(getenv("MODULES"), "r");
	answers = fopen(getenv("ANSWERS"), "w");
	if (!modules || !answers)
		stop("files");
	setvbuf(answers, NULL, _IOFBF, 1 << 20);
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (kmsg < 0)
		stop("/dev/kmsg");
	open_memory();
	take_log(0);
	while (fread(&length, sizeof(length), 1, modules) == 1) {
		void *bytes = malloc(length + 1);

		if (!bytes || fread(bytes, 1, length, modules) != length)
			stop("modules cut off");
		if (number >= first)
			ask(number, bytes, length);
		free(bytes);
		number++;
	}
	fprintf(answers, "end %u\n", number);
	fclose(answers);
	sync();
	reboot(RB_POWER_OFF);
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The recorder of guests for which modmem itself is not built: writes the memory of modules, and the kernel's words that
 * decide how modules are patched, in the format of a snapshot's member "mem".
 *
 *     dumper FOLDER WORDS
 *
 * FOLDER has vmallocinfo and kallsyms as the kernel showed them, and gets mem and missing. WORDS is a file of lines
 * "SYMBOL LENGTH", the length in decimal; symbols that the kernel does not have are passed over.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct range {
	uint64_t start, end;
};
struct word {
	char *symbol;
	uint64_t length;
};

/* Functions that ask for module memory, or parts of their names: the loader's, and those that make trampolines. */
static const char *const callers[] = { "module_alloc", "execmem", "load_module", "move_module", "layout_and_allocate",
				       "module_finalize", "ftrace_plt_init" };

static struct range *ranges;
static size_t range_count;
static struct word *words;
static size_t word_count;
static FILE *missing;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void *grown(void *array, size_t count, size_t size)
{
	/* Doubles at each power of two. */
	if (count & (count - 1))
		return array;
	array = realloc(array, (count ? 2 * count : 1) * size);
	if (!array)
		fail("memory");
	return array;
}

static FILE *opened(const char *folder, const char *name, const char *mode)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *file = fopen(path, mode);
	if (!file)
		fail(path);
	return file;
}

static void take(uint64_t start, uint64_t length)
{
	if (!length)
		return;
	ranges = grown(ranges, range_count, sizeof(*ranges));
	ranges[range_count++] = (struct range){ start, start + length };
}

/* The areas that belong to modules, without the guard page behind each. */
static void take_areas(FILE *list)
{
	uint64_t page = sysconf(_SC_PAGESIZE), start, end;
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, list) > 0) {
		if (sscanf(line, "0x%" SCNx64 "-0x%" SCNx64, &start, &end) != 2 || end <= start + page)
			continue;
		for (size_t i = 0; i < sizeof(callers) / sizeof(*callers); i++) {
			if (!strstr(line, callers[i]))
				continue;
			const char *pages = strstr(line, " pages=");
			take(start, pages ? strtoull(pages + 7, NULL, 10) * page : end - start - page);
			break;
		}
	}
	free(line);
}

static int by_symbol(const void *one, const void *other)
{
	return strcmp(((const struct word *)one)->symbol, ((const struct word *)other)->symbol);
}

static void read_words(FILE *list)
{
	char symbol[512];
	uint64_t length;

	while (fscanf(list, "%511s %" SCNu64, symbol, &length) == 2) {
		words = grown(words, word_count, sizeof(*words));
		words[word_count++] = (struct word){ strdup(symbol), length };
	}
	qsort(words, word_count, sizeof(*words), by_symbol);
}

/* The kernel's own symbols have no module behind their names. */
static void take_words(FILE *symbols)
{
	char *line = NULL, name[512];
	size_t room = 0;
	uint64_t address;

	while (getline(&line, &room, symbols) > 0) {
		struct word key = { name, 0 }, *found;
		if (strchr(line, '[') || sscanf(line, "%" SCNx64 " %*c %511s", &address, name) != 2)
			continue;
		found = bsearch(&key, words, word_count, sizeof(*words), by_symbol);
		if (found)
			take(address, found->length);
	}
	free(line);
}

static int by_start(const void *one, const void *other)
{
	const struct range *a = one, *b = other;

	return (a->start > b->start) - (a->start < b->start);
}

/* Records must not overlap: what does is one. */
static void merge(void)
{
	size_t last = 0;

	qsort(ranges, range_count, sizeof(*ranges), by_start);
	for (size_t i = 1; i < range_count; i++) {
		if (ranges[i].start >= ranges[last].end)
			ranges[++last] = ranges[i];
		else if (ranges[i].end > ranges[last].end)
			ranges[last].end = ranges[i].end;
	}
	range_count = range_count ? last + 1 : 0;
}

/* The core file and its segments. */
static int core;
static ElfW(Phdr) *segments;
static size_t segment_count;

/* Reads addresses of the kernel. */
static int read_core(struct range range, void *bytes)
{
	uint64_t length = range.end - range.start;

	for (size_t i = 0; i < segment_count; i++) {
		uint64_t start = segments[i].p_vaddr, size = segments[i].p_memsz;
		if (segments[i].p_type != PT_LOAD || range.start < start || range.start - start > size ||
		    length > size - (range.start - start))
			continue;
		off_t at = (off_t)segments[i].p_offset + (off_t)(range.start - start);
		if (pread(core, bytes, length, at) == (ssize_t)length)
			return 1;
	}
	return 0;
}

/* Writes the record of a range. */
static int record(struct range range, FILE *out)
{
	uint64_t length = range.end - range.start;
	char *bytes = malloc(length);

	if (!bytes)
		fail("memory");
	int is_read = read_core(range, bytes);
	if (is_read) {
		fprintf(out, "%" PRIx64 " %" PRIx64 "\n", range.start, length);
		fwrite(bytes, 1, length, out);
	}
	free(bytes);
	return is_read;
}

#ifdef __aarch64__
static int is_of_module(uint64_t address)
{
	for (size_t i = 0; i < range_count; i++)
		if (ranges[i].start <= address && address < ranges[i].end)
			return 1;
	return 0;
}

static uint64_t word_at(uint64_t address)
{
	uint64_t word;

	return is_of_module(address) && read_core((struct range){ address, address + sizeof(word) }, &word) ? word : 0;
}

/*
 * On arm64 a word before each function names who traces it (struct ftrace_ops). What was made at run time lies in the
 * linear map, and what is called is in its memory.
 */
static void take_tracers(FILE *sections)
{
	const uint64_t linear_map = 0xfff0000000000000, end = 0xffff800000000000, size = 512;
	char section[512];
	uint64_t address, place;
	struct range *found = NULL;
	size_t count = 0;

	while (fscanf(sections, "%*s %511s 0x%" SCNx64, section, &address) == 2) {
		if (strcmp(section, "__patchable_function_entries"))
			continue;
		for (; (place = word_at(address)) && is_of_module(place); address += sizeof(place)) {
			uint64_t mark = word_at(place);
			if (mark < linear_map || mark >= end || mark % 8)
				continue;
			size_t i = 0;
			while (i < count && found[i].start != mark)
				i++;
			if (i < count)
				continue;
			found = grown(found, count, sizeof(*found));
			found[count++] = (struct range){ mark, mark + size };
		}
	}
	for (size_t i = 0; i < count; i++)
		take(found[i].start, size);
	free(found);
}
#endif

int main(int argc, char **argv)
{
	ElfW(Ehdr) header;

	if (argc != 3) {
		fprintf(stderr, "usage: dumper FOLDER WORDS\n");
		return 2;
	}
	missing = opened(argv[1], "missing", "w");
	FILE *list = fopen(argv[2], "r");
	if (!list)
		fail(argv[2]);
	read_words(list);
	take_areas(opened(argv[1], "vmallocinfo", "r"));
	take_words(opened(argv[1], "kallsyms", "r"));
	merge();

	core = open("/proc/kcore", O_RDONLY);
	if (core < 0 || pread(core, &header, sizeof(header), 0) != sizeof(header))
		fail("/proc/kcore");
	size_t size = header.e_phnum * sizeof(ElfW(Phdr));
	segments = malloc(size);
	segment_count = header.e_phnum;
	if (!segments || pread(core, segments, size, header.e_phoff) != (ssize_t)size)
		fail("/proc/kcore: segments");
#ifdef __aarch64__
	take_tracers(opened(argv[1], "sections", "r"));
	merge();
#endif
	FILE *out = opened(argv[1], "mem", "w");
	for (size_t i = 0; i < range_count; i++)
		if (!record(ranges[i], out))
			fprintf(missing, "mem: %" PRIx64 " to %" PRIx64 " cannot be read from /proc/kcore\n",
				ranges[i].start, ranges[i].end);
	if (fclose(out) || fclose(missing))
		fail("mem");
	printf("%zu records\n", range_count);
	return 0;
}

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
				       "module_finalize" };

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

/* Finds the range in the segments of the core file, and writes its record. */
static int record(int core, const ElfW(Phdr) *segments, size_t count, struct range range, FILE *out)
{
	uint64_t length = range.end - range.start;
	char *bytes = malloc(length);

	if (!bytes)
		fail("memory");
	for (size_t i = 0; i < count; i++) {
		uint64_t start = segments[i].p_vaddr, size = segments[i].p_memsz;
		if (segments[i].p_type != PT_LOAD || range.start < start || range.start - start > size ||
		    length > size - (range.start - start))
			continue;
		off_t at = (off_t)segments[i].p_offset + (off_t)(range.start - start);
		if (pread(core, bytes, length, at) != (ssize_t)length)
			continue;
		fprintf(out, "%" PRIx64 " %" PRIx64 "\n", range.start, length);
		fwrite(bytes, 1, length, out);
		free(bytes);
		return 1;
	}
	free(bytes);
	return 0;
}

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

	int core = open("/proc/kcore", O_RDONLY);
	if (core < 0 || pread(core, &header, sizeof(header), 0) != sizeof(header))
		fail("/proc/kcore");
	size_t size = header.e_phnum * sizeof(ElfW(Phdr));
	ElfW(Phdr) *segments = malloc(size);
	if (!segments || pread(core, segments, size, header.e_phoff) != (ssize_t)size)
		fail("/proc/kcore: segments");
	FILE *out = opened(argv[1], "mem", "w");
	for (size_t i = 0; i < range_count; i++)
		if (!record(core, segments, header.e_phnum, ranges[i], out))
			fprintf(missing, "mem: %" PRIx64 " to %" PRIx64 " cannot be read from /proc/kcore\n",
				ranges[i].start, ranges[i].end);
	if (fclose(out) || fclose(missing))
		fail("mem");
	printf("%zu records\n", range_count);
	return 0;
}

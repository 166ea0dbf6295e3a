/* Runs a fuzz target without libFuzzer: over each file of the given folders (or the given files),
 * and over so many mutations of each. Mutations follow from the file's content alone, so what
 * fails once fails again; -v names each input before it runs, -w FILE keeps the last one.
 *
 *   fuzz_x [-v] [-m MUTATIONS] [-w FILE] PATH... */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_MAX   (1024 * 1024)
#define GROWTH_MAX  64 /* bytes that one mutation may add */
#define CHANGES_MAX 6
#define NAMES_MAX   1000

static struct {
	bool verbose;
	unsigned mutations, pass; /* 0: the files as they are; 1: mutations */
	const char *keep;
	size_t n_files, n_runs;
} run;

static void run_one(const uint8_t *data, size_t size, const char *name, unsigned mutation)
{
	if (run.verbose)
		fprintf(stderr, "%s, mutation %u, %zu bytes\n", name, mutation, size);
	if (run.keep)
		FUZZ_CHECK(file_write(run.keep, data, size, NULL) == 0);
	/* Exactly as large as it says, so that a read beyond is seen. */
	uint8_t *copy = malloc(size ? size : 1);
	FUZZ_CHECK(copy);
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	run.n_runs++;
}

static size_t insert(struct rng *r, uint8_t *buf, size_t size)
{
	size_t at = rng_below(r, (uint32_t)size + 1),
	       n = 1 + rng_below(r, GROWTH_MAX / CHANGES_MAX);
	memmove(buf + at + n, buf + at, size - at);
	for (size_t i = 0; i < n; i++)
		buf[at + i] = size && rng_below(r, 2) ? buf[rng_below(r, (uint32_t)size)]
						      : (uint8_t)rng_u64(r);
	return size + n;
}

static size_t cut(struct rng *r, uint8_t *buf, size_t size)
{
	size_t at = rng_below(r, (uint32_t)size), n = 1 + rng_below(r, (uint32_t)(size - at));
	if (n > 16 && rng_below(r, 4))
		n = 1 + n % 16;
	memmove(buf + at, buf + at + n, size - at - n);
	return size - n;
}

/* One change in place, in a form that parsers care about; returns the new size. */
static size_t change(struct rng *r, uint8_t *buf, size_t size)
{
	static const char marks[] = "\"{}[],:\\/+#.-0123456789eE\n\r\t =\x7f\xff\x80";
	size_t at = size ? rng_below(r, (uint32_t)size) : 0;
	switch (size ? rng_below(r, 8) : 0) {
	case 0:
		return insert(r, buf, size);
	case 1:
		return cut(r, buf, size);
	case 2:
		buf[at] ^= (uint8_t)(1u << rng_below(r, 8));
		break;
	case 3:
		buf[at] = (uint8_t)marks[rng_below(r, sizeof(marks))]; /* its NUL, too */
		break;
	case 4:
		buf[at] = (uint8_t)(buf[at] + (rng_below(r, 2) ? 1 : -1));
		break;
	case 5:
		buf[at] = rng_below(r, 2) ? 0xff : 0;
		break;
	case 6: {
		size_t from = rng_below(r, (uint32_t)size), n = size - (at > from ? at : from);
		memmove(buf + at, buf + from, 1 + rng_below(r, (uint32_t)n));
		break;
	}
	case 7:
		if (at + 4 <= size)
			memset(buf + at, rng_below(r, 2) ? 0x7f : 0xff, 4);
		break;
	}
	return size;
}

static void run_file(const char *path)
{
	_cleanup_free_ char *data = NULL;
	size_t size;
	struct err err = {0};
	if (run.pass == 1 && run.mutations == 0)
		return;
	if (file_read(path, INPUT_MAX, &data, &size, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	if (run.pass == 0) {
		run.n_files++;
		run_one((uint8_t *)data, size, path, 0);
		return;
	}
	_cleanup_free_ uint8_t *buf = malloc(size + GROWTH_MAX);
	FUZZ_CHECK(buf);
	for (unsigned m = 1; m <= run.mutations; m++) {
		struct rng rng;
		size_t n = size;
		rng_init(&rng, (uint64_t)size << 32 | m);
		memcpy(buf, data, size);
		unsigned changes = 1 + rng_below(&rng, 1 + rng_below(&rng, CHANGES_MAX));
		for (; changes > 0; changes--)
			n = change(&rng, buf, n);
		run_one(buf, n, path, m);
	}
}

static void run_path(const char *path)
{
	struct dirent **names = NULL;
	struct stat st;
	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
		run_file(path);
		return;
	}
	int n = scandir(path, &names, NULL, alphasort);
	if (n < 0 || n > NAMES_MAX) {
		fprintf(stderr, "%s: %s\n", path, n < 0 ? strerror(errno) : "too many files");
		exit(1);
	}
	for (int i = 0; i < n; i++) {
		char file[FILE_PATH_MAX];
		if (names[i]->d_name[0] != '.' &&
		    file_path(file, sizeof(file), "%s/%s", path, names[i]->d_name) == 0)
			run_file(file);
		free(names[i]);
	}
	free(names);
}

int main(int argc, char **argv)
{
	int opt;
	while ((opt = getopt(argc, argv, "vm:w:")) != -1) {
		if (opt == 'v')
			run.verbose = true;
		else if (opt == 'm')
			run.mutations = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 'w')
			run.keep = optarg;
		else
			return 2;
	}
	for (run.pass = 0; run.pass < 2; run.pass++)
		for (int i = optind; i < argc; i++)
			run_path(argv[i]);
	printf("%zu files, %zu inputs, %zu taken\n", run.n_files, run.n_runs, fuzz_taken);
	if (fuzz_taken == 0) {
		fprintf(stderr, "%s: found no input that is taken, expected some\n", argv[0]);
		return 1;
	}
	return 0;
}

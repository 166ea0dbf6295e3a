/* A fuzz target is one function of libFuzzer's form; replay.c runs it over a corpus in the normal
 * tests. What a target promises it checks with FUZZ_CHECK, so that a decoder that takes too much
 * fails as surely as one that crashes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(cond)                                                                   \
	do {                                                                               \
		if (!(cond)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                           \
		}                                                                          \
	} while (0)

/* Inputs that the target's decoder took: a corpus of which it takes none tests little. */
extern size_t fuzz_taken;

/* A file in memory with this content, for functions that take a path; close *ret_fd after. */
void fuzz_file(const void *data, size_t size, int *ret_fd, char path[FILE_PATH_MAX]);
/* A path in a folder of this process that goes when it ends; "": the folder's. */
void fuzz_path(const char *name, char path[FILE_PATH_MAX]);
/* Loads a configuration of that name, in fuzz_path()'s folder beside an empty folder of the name
 * that the example has for one, into ret, of `bytes` bytes. False: refused; then ret is as it was.
 */
bool fuzz_conf(const char *name, const char *folder, const uint8_t *data, size_t size,
	       int (*load)(const char *path, void *ret, struct err *err), void *ret, size_t bytes);
/* Writes the file, in no way that outlives a crash. */
void fuzz_put(const char *path, const void *data, size_t size);

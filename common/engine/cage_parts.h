/* The two parts of the cage that are the kernel's to have or not: cage_files.c, cage_calls.c. Each
 * returns 0, or a negative errno: the kernel cannot, and `why` is a word for a person. */
#pragma once

#include <stddef.h>

#include "common/engine/cage.h"

/* *ret_version: of Landlock's interface. */
int cage_files(const struct cage *c, int *ret_version, char *why, size_t size);
/* Only what cage_calls.c lists; needs no-new-privileges. */
int cage_calls(char *why, size_t size);

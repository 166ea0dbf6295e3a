/* Sets of processors as text: "0,2-3", as taskset and the kernel write them. */
#pragma once

#include <sched.h>
#include <stddef.h>

#include "common/base/err.h"

#define CPUS_TEXT_MAX 256

/* -EINVAL: no such list; -ERANGE: a number that no set can hold. */
int cpus_parse(const char *text, cpu_set_t *ret, struct err *err);
/* Cut where `size` does not do. */
void cpus_print(const cpu_set_t *set, char *buf, size_t size);

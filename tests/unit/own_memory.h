/* Whether what a process takes is its own: sanitizers and valgrind take memory beside it. */
#pragma once

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

static inline bool own_memory(void)
{
	const char *preload = getenv("LD_PRELOAD");
	return !UNDER_ASAN && !(preload && strstr(preload, "vgpreload"));
}

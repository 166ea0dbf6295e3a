/* Whether what a process takes is its own, and a limit of it is kept: sanitizers, valgrind and qemu
 * take memory beside it. */
#pragma once

#include "emulated.h"

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
	return !UNDER_ASAN && !under_valgrind() &&
	       !under_qemu("tell a program's memory from its own, or limit it (RLIMIT_DATA)");
}

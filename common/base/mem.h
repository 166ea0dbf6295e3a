/* Cleanup attributes (after systemd's): each resource has one owner, freed at its scope's end. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void mem_free_ptr(void *p)
{
	free(*(void **)p);
}

static inline void mem_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void mem_close_file(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define _cleanup_free_  __attribute__((cleanup(mem_free_ptr)))
#define _cleanup_close_ __attribute__((cleanup(mem_close_fd)))
#define _cleanup_file_  __attribute__((cleanup(mem_close_file)))
#define _cleanup_(f)    __attribute__((cleanup(f)))

#define TAKE_PTR(p)                         \
	({                                  \
		typeof(p) taken_ptr_ = (p); \
		(p) = NULL;                 \
		taken_ptr_;                 \
	})
#define TAKE_FD(fd)                   \
	({                            \
		int taken_fd_ = (fd); \
		(fd) = -1;            \
		taken_fd_;            \
	})

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))

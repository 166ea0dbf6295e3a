/* The cage that tasuki-worker enters before it reads anything that somebody else may have made:
 * images, cfgs, checkpoints. What runs in it can compute, read what it is to read and write where
 * it is to write; it reaches no network, no other process, no other file, and never gets out again.
 *
 *   no-new-privileges  no program raises what this process may (prctl(2))
 *   capabilities       all given up but CAP_DAC_OVERRIDE, so that a worker of root's reads what
 *                      root's daemon could; that also makes limits final
 *   limits             open files, threads, stack, and the size of each file written;
 *                      setrlimit(2); memory: ceiling.h; time: the daemon's deadlines (worker.h);
 *                      no core dumps: worker_process.h
 *   landlock           files and folders by name; no TCP, no signals to and no abstract sockets of
 *                      others where the kernel can do that, too (landlock(7))
 *   seccomp            a list of allowed system calls; any other ends the process, and its last
 *                      line says which one it was (seccomp(2), SECCOMP_RET_TRAP)
 *
 * What a kernel does not have is left out and named, unless all is required. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

#define CAGE_TEXT_MAX 256

struct cage {
	bool required; /* fail rather than go without a part of it */
	/* Files, and folders with all in them; one that is not there is left out. NULL-terminated.
	 */
	const char *const *readable, *const *writable; /* the latter: folders that are read, too */
};

struct cage_report {
	char parts[CAGE_TEXT_MAX];   /* "no-new-privileges, ..., landlock 7, seccomp" */
	char missing[CAGE_TEXT_MAX]; /* "landlock: not in this kernel"; "": nothing */
};

/* Once, with one thread: Landlock binds a thread and those that it starts. On failure the process
 * is partly confined, and of no use. */
int cage_enter(const struct cage *c, struct cage_report *ret, struct err *err);
/* No file that is written from now on gets larger. */
int cage_limit_file(uint64_t bytes, struct err *err);

/* Runs the command of [hook] on_swap as hook.h decides, on the agent's loop. */
#pragma once

#include "common/base/err.h"
#include "common/base/loop.h"
#include "device-agent/agent.h"

struct hook_run;

/* NULL in *ret: none is configured. ended: called after each run with "" or why it failed, in words
 * that name no path. conf outlives it. */
int hook_run_new(struct loop *loop, const struct agent_conf *conf,
		 void (*ended)(void *user, const char *failure), void *user, struct hook_run **ret,
		 struct err *err);
/* Ends a command that runs: it is told again at the next start. NULL allowed. */
void hook_run_free(struct hook_run *h);
/* The checkpoint that the command is being told of; "": none. NULL allowed. */
const char *hook_run_telling(const struct hook_run *h);
/* The active checkpoint is another one. NULL allowed. */
void hook_run_swap(struct hook_run *h, const struct agent_swap *swap);

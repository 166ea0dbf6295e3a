/* A trainer's side of what is offered to everyone, on its own machine: STATE/fleet.json, and an
 * operator's orders. */
#pragma once

#include "common/base/file.h"
#include "common/protocol/message.h"

struct rollout_state {
	struct msg_fleet offer;     /* sequence 0: nothing is offered */
	int64_t reports, activated; /* of the first group, counted by the trainer */
	double gain;                /* sum over these: accuracy less that of what was in use */
};

int rollout_state_read(const char *state, struct rollout_state *ret, struct err *err);
/* Lays "halt" or "next" down and waits until the trainer has taken it, timeout_s at most;
 * *ret_taken: it has. Before a halt the checkpoint is laid aside for rollout_resume(), as the
 * trainer forgets it. */
int rollout_order(const char *state, const char *word, int64_t timeout_s, bool *ret_taken,
		  struct err *err);
/* Publishes what was halted again, from what a halt laid aside: another first group begins. */
int rollout_resume(const char *state, char id[HASH_SIZE], struct err *err);

/* What the agent must not forget: state.json, replaced atomically and durably.
 *
 * One write of it is the one point at which a decision becomes true. What follows from it
 * outside of it (the `active` link, a line in the reports file) is written into it as `pending`
 * and done after it; both can be done again, so that a restart repairs a crash in between.
 *
 * The struct has no pointers: a change is made on a copy, saved, and then takes its place. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/protocol/message.h"
#include "common/trust/freshness.h"
#include "common/trust/sealed.h"
#include "device-agent/candidates.h"
#include "device-agent/handover.h"
#include "device-agent/meter.h"
#include "device-agent/rounds.h"

#define STATE_BYTES_MAX     (4 * 1024 * 1024)
#define STATE_COMMANDS_MAX  64
#define STATE_SPENT_MAX     256
#define STATE_SCORES_MAX    32
#define STATE_UNDECIDED_MAX 4
#define STATE_TAKEN_MAX     16

/* A checkpoint's score on one snapshot of one split. */
struct state_score {
	char checkpoint[HASH_SIZE], snapshot[HASH_SIZE];
	enum split split;
	struct score score;
};

/* A command that has been carried out, and its answer. */
struct state_command {
	char id[ID_SIZE];
	char reply[MESSAGE_SMALL_MAX + 1];
};

/* A signed command that changed something: until then nobody may have it carried out again. */
struct state_spent {
	char id[ID_SIZE];
	int64_t until_ms; /* UTC */
};

/* The last result of a trainer that was decided on; only where messages are signed. */
struct state_taken {
	char trainer[ID_SIZE];
	struct freshness_last last;
};

struct state {
	char model[HASH_SIZE]; /* all that is kept belongs to it; "": nothing yet */
	char log[LOGID_SIZE];  /* of its reports: made with the folder; "": not made yet */
	int64_t boot;
	int64_t report_seq; /* of the last report */
	bool paused, pinned;
	int64_t n_private; /* names of private classes that have an output */
	/* What the last trainer has, too: the last result, and what it was made from; and the
	 * weights that training from this seed begins with. "": none. */
	char bases[2][HASH_SIZE], first[HASH_SIZE];
	char local[HASH_SIZE]; /* newest checkpoint of the local lineage; "": none */
	/* Wait for the selector, in this order. */
	char undecided[STATE_UNDECIDED_MAX][HASH_SIZE];
	size_t n_undecided;
	int64_t sequence; /* of its own last offer, where these are signed */
	struct state_taken taken[STATE_TAKEN_MAX]; /* oldest first */
	size_t n_taken;
	struct {
		int64_t sequence;   /* of the last offer to the fleet that was taken up */
		char id[HASH_SIZE]; /* its checkpoint; "": not known */
		struct msg_fleet
			offer; /* while its checkpoint comes in; its sequence 0: none does */
		char key[HASH_SIZE];    /* hex: that its blocks are sealed with; "": not here */
	} fleet;
	/* What handovers with noise have given away, and the checkpoint that got noise last. */
	struct {
		double spent; /* sum of their rhos (common/privacy/accountant.h) */
		int64_t handovers;
		char counted[HASH_SIZE]; /* the one with noise that was counted last; "": none */
		char whole[HASH_SIZE], noised[HASH_SIZE]; /* of what, and what came of it; "" */
	} privacy;
	struct rounds rounds;
	struct meter_day link; /* bytes of blocks of that day, and some ahead */
	int64_t moved_bytes;   /* of all blocks since the folder was made, when this was written */
	struct handover handover;
	struct sealed seal;         /* its keys, while it is open; only with an identity */
	struct judgement judgement; /* while handover.phase is JUDGING */
	struct state_score scores[STATE_SCORES_MAX]; /* oldest first */
	size_t n_scores;
	struct state_command commands[STATE_COMMANDS_MAX]; /* oldest first */
	size_t n_commands;
	struct state_spent spent[STATE_SPENT_MAX];
	size_t n_spent;
	struct {
		char activate[HASH_SIZE];           /* "": nothing to swap */
		int64_t seq;                        /* of `report` */
		char report[MESSAGE_LARGE_MAX + 1]; /* "": none to write */
	} pending;
};

/* Missing file: an empty state. Anything that is not a state: -EINVAL, with file and member. */
int state_load(const char *path, struct state *ret, struct err *err);
/* While a secret is in it, only its owner may read the file. */
int state_save(const char *path, const struct state *s, struct err *err);

/* NULL: not known. snapshot NULL: the newest on any. */
const struct state_score *state_score_find(const struct state *s, const char *checkpoint,
					   enum split split, const char *snapshot);
void state_score_put(struct state *s, const struct state_score *score);
void state_score_drop(struct state *s, const char *checkpoint, enum split split,
		      const char *snapshot);
/* NULL: nothing of that trainer was decided on. */
struct state_taken *state_taken_find(struct state *s, const char *trainer);
void state_taken_put(struct state *s, const char *trainer, int64_t sequence, const char *id);
/* To the end of the queue, once; a full queue loses its oldest. */
void state_undecided_push(struct state *s, const char *checkpoint);
void state_undecided_drop(struct state *s, const char *checkpoint);
/* The answer remembered for a command, NULL: none. */
const char *state_command_find(const struct state *s, const char *id);
/* An answer over MESSAGE_SMALL_MAX bytes is not remembered. */
void state_command_put(struct state *s, const char *id, const char *reply);
bool state_is_spent(const struct state *s, const char *id);
/* Where there is no room, the one that ends first gives way, whatever the clock says. */
void state_spent_put(struct state *s, const char *id, int64_t until_ms);

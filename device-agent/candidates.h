/* Which checkpoints stand for choice when a result has come back, and what is to be made or scored
 * next until it can be decided. Pure: no I/O, no clock.
 *
 *   local                              the device's newest own one when judging began
 *   returned                           what the edge made of it, with the device's own private rows
 *   blends of these two                (at each configured weight)
 *   tuned                              the returned one, trained on a little
 *   previous                           what was active before what is active now
 *
 * and what is active at the moment of the decision. Each is made and scored before the next, the
 * cheap ones first, so that whenever the time is up there is something to decide on; only active,
 * local and returned are always waited for. The returned one does not wait for what is made of it:
 * it gets a decision of its own as soon as it is scored, so that a device has the better weights
 * while the others take their time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/id.h"
#include "common/protocol/message.h"
#include "device-agent/conf.h"

#define CANDIDATES_MAX (4 + SELECT_BLENDS_MAX)

enum candidate_kind {
	CANDIDATE_LOCAL,
	CANDIDATE_RETURNED,
	CANDIDATE_BLEND,
	CANDIDATE_TUNED,
	CANDIDATE_PREVIOUS,
	CANDIDATE_KIND_N
};
/* "local", ...: also in the state file */
const char *candidate_kind_name(enum candidate_kind k);

struct candidate_entry {
	enum candidate_kind kind;
	int64_t percent;            /* BLEND: of the returned one */
	char checkpoint[HASH_SIZE]; /* "": not made yet */
	bool out;                   /* cannot be made or scored: decided without it */
	bool early; /* RETURNED: it had, or waits for, a decision before the others' */
};

/* Kept over restarts: what has been made need not be made again. */
struct judgement {
	char result[HASH_SIZE]; /* what came back; "": nothing is being judged */
	struct candidate_entry at[CANDIDATES_MAX];
	size_t n;
};

/* local, previous: "" where there is none. What they have in common is tried once. graft: rows of
 * private classes did not travel and are to be put into the result. */
void candidates_begin(struct judgement *j, const struct select_conf *c, const char *result,
		      const char *local, const char *previous, bool graft);
/* The first entry of that checkpoint (the returned one can be the local one again), NULL: none. */
struct candidate_entry *candidates_find(struct judgement *j, const char *checkpoint);
const struct candidate_entry *candidates_kind(const struct judgement *j, enum candidate_kind k);
/* Made from what came back, or that itself: activated, it is the handover's success. */
bool candidate_descends(const struct candidate_entry *e);

struct candidates_view {
	const char *active;      /* "": none */
	bool has_split[SPLIT_N]; /* images to score on */
	bool can_train;          /* there are images to train on */
	bool over;               /* the time for it is up */
	/* Of a checkpoint on the images as they are now; NULL: not known (well enough to decide).
	 */
	const struct score *(*score)(const void *user, const char *checkpoint, enum split split);
	const void *user;
};

enum candidates_todo {
	CANDIDATES_SCORE,  /* checkpoint on split */
	CANDIDATES_GRAFT,  /* make `entry` of the result and rows that stayed here */
	CANDIDATES_BLEND,  /* make `entry` of LOCAL and RETURNED */
	CANDIDATES_TUNE,   /* train `checkpoint` on, to be `entry` */
	CANDIDATES_EARLY,  /* decide on `entry` by itself: others will take time */
	CANDIDATES_DECIDE, /* nothing is missing any more */
};

struct candidates_step {
	enum candidates_todo todo;
	size_t entry;
	const char *checkpoint; /* borrowed from judgement or view */
	enum split split;
};

struct candidates_step candidates_next(const struct judgement *j, const struct candidates_view *v);
/* Whether local epochs are to wait: the tuned one is not trained, or not scored yet. */
bool candidates_tuning(const struct judgement *j, const struct candidates_view *v);

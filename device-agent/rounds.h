/* What the worker does next: rounds of training epochs, pauses between them, looking for new
 * images, and when a handover is due. Pure: no I/O, no clock.
 *
 * A round is a number of epochs; after `rounds` of them (0: never) training rests until new
 * training images appear or a person orders a round. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/id.h"
#include "common/protocol/message.h"
#include "device-agent/conf.h"

struct rounds {
	/* Kept over restarts: */
	/* Trained here, whatever was adopted: the learning rate's schedule follows them. */
	int64_t epoch, images_seen;
	int64_t rounds_done;
	int64_t round_epoch, round_wanted; /* of the round under way; wanted 0: none is */
	int64_t offer_epoch;               /* epoch when the last handover began */
	int64_t adopted_epoch;             /* epoch when another checkpoint was last adopted */
	bool offer_ordered;                /* by a person, not begun yet */
	/* Best validation score so far, for the plateau. */
	struct score best;
	char best_snapshot[HASH_SIZE];
	int64_t best_epoch;
	struct score top; /* of the highest share right, on whatever images; n 0: none yet */
	char train_snapshot[HASH_SIZE]; /* training images as last trained on; "": never */
	/* Of this run only: */
	int64_t pause_until_ms;
	int64_t rescanned_ms; /* when images were last looked for */
	bool fresh;           /* looked for since the last epoch */
};

struct rounds_view {
	bool paused;
	uint32_t n_train;
};

enum rounds_todo {
	ROUNDS_PAUSED,
	ROUNDS_IDLE,   /* all rounds done, or no training image */
	ROUNDS_WAIT,   /* between two rounds */
	ROUNDS_RESCAN, /* look for new images, then ask again */
	ROUNDS_TRAIN,  /* one epoch */
};

/* After a (re)start, when the worker has just read its data. */
void rounds_restart(struct rounds *r, int64_t now_ms);
/* *ret_wake_ms: when to ask again if nothing happens before; -1: never. May begin a round. */
enum rounds_todo rounds_next(struct rounds *r, const struct agent_live *c,
			     const struct rounds_view *v, int64_t now_ms, int64_t *ret_wake_ms);
/* The images were looked at: their training snapshot now. */
void rounds_scanned(struct rounds *r, const struct agent_live *c, const char *train_snapshot,
		    int64_t now_ms);
/* An epoch of so many images is done and its checkpoint kept. */
void rounds_trained(struct rounds *r, const struct agent_live *c, int64_t images,
		    const char *train_snapshot, int64_t now_ms);
/* The newest local checkpoint has a validation score. */
void rounds_scored(struct rounds *r, const struct score *s, const char *snapshot);
/* The local lineage goes on from another checkpoint, with that score: it is to be trained on before
 * it is offered by itself. */
void rounds_adopted(struct rounds *r, const struct score *s, const char *snapshot);
/* A person wants a round now; epochs 0: as many as a round has. Returns how many. */
int64_t rounds_order(struct rounds *r, const struct agent_live *c, int64_t epochs);
/* Whether the newest local checkpoint is to be offered. */
bool rounds_offer_due(const struct rounds *r, const struct agent_live *c);
/* A handover of the checkpoint of that epoch has begun. */
void rounds_offered(struct rounds *r, int64_t epoch);

/* The device's side of a handover (docs/protocol.md). Pure: no I/O, no clock.
 *
 *            due                claim (a new fence)            result under the last fence
 *   IDLE ---------> OFFERING ---------------------> GRANTED ------------------> PULLING
 *    ^                 ^   \____________________________________________________^  |
 *    |                 |__ lease ran out, was given back; no block came;  ______|  | all blocks,
 *    |                     held for too long                                       |
 *    |                                                                             | verified
 *    |________ decided: ack _________________________________ JUDGING <____________|
 *
 * Invariants: a fence number is stored (HANDOVER_PERSIST) before it is given out and never used
 * twice; a result is taken only under the fence given out last, from the trainer it was given to,
 * and only for the checkpoint it was given for; what was decided is answered again in the same
 * words; a lease never ends here before it does for the trainer: its length is fixed with the fence
 * and stored with it, and only what was sent extends it.
 *
 * A trainer has the checkpoint only as long as something moves, and never longer than conf.hold_ms
 * (its work) and once more (the way back of its result): then its renewals are refused, the lease
 * runs out, and others are asked. Whoever let holds end without a result (HANDOVER_STRIKES) is
 * granted again only when the offer has been repeated (HANDOVER_SLOW_OFFERS), for HANDOVER_SLOW_MS.
 *
 * Actions are to be carried out in order; if HANDOVER_PERSIST fails, the whole step is
 * to be undone and the rest left out: the peer, or the timer, repeats what caused it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/rng.h"
#include "common/protocol/message.h"

#define HANDOVER_DECIDED_MAX 16
#define HANDOVER_ACTIONS_MAX 4

#define HANDOVER_OFFER_FIRST_MS 2000
#define HANDOVER_OFFER_CAP_MS   60000
#define HANDOVER_UP_SPREAD_MS   5000 /* a fleet that comes back at once does not offer at once */
#define HANDOVER_CLAIM_MS	1000 /* what a claim may take; not more than the first repetition */
#define HANDOVER_BUSY_MIN_MS    1000
#define HANDOVER_BUSY_MAX_MS    600000
/* A lease is renewed while something has moved within so many leases: a block was wanted that had
 * not been wanted before, the progress of the phase rose, the phase changed (so often at most,
 * under a fence). Who says that it is `queued` waits for others, which does not show. */
#define HANDOVER_STILL_LEASES 3
#define HANDOVER_PHASES_MAX   32
#define HANDOVER_QUEUED       "queued"
#define HANDOVER_STRIKES \
	2 /* a lost lease is one; a hold cut off, two; a decided result clears them */
#define HANDOVER_SLOW_OFFERS 3
#define HANDOVER_SLOW_MS     3600000
#define HANDOVER_SLOW_MAX    8 /* trainers remembered */

enum handover_phase {
	HANDOVER_IDLE,
	HANDOVER_OFFERING,
	HANDOVER_GRANTED,
	HANDOVER_PULLING,
	HANDOVER_JUDGING,
	HANDOVER_PHASE_N,
};
/* "", "offering", "granted", "pulling", "judging" */
const char *handover_phase_name(enum handover_phase p);

/* A result that has been answered. */
struct handover_decided {
	char trainer[ID_SIZE];
	struct msg_ack ack; /* checkpoint, fence, decision, ... */
};

/* May change at any time: what counts is what it was when a fence was given out. */
struct handover_conf {
	int64_t lease_ms, hold_ms;
};

struct handover_slow {
	char trainer[ID_SIZE];
	unsigned strikes;
	int64_t until_ms; /* then it is forgotten */
};

struct handover {
	/* Kept over restarts: */
	enum handover_phase phase;
	char checkpoint[HASH_SIZE]; /* on offer, or out with the trainer; "" when IDLE */
	int64_t fence;              /* given out last; 0: none yet */
	char trainer[ID_SIZE];      /* to whom */
	char granted[HASH_SIZE];    /* for what */
	int64_t lease_ms;           /* for how long at a time */
	bool open;                  /* no result under `fence` has been decided on */
	struct msg_result result;   /* PULLING, JUDGING: what came back */
	struct handover_decided decided[HANDOVER_DECIDED_MAX]; /* oldest first */
	size_t n_decided;
	/* Of this run only: */
	bool up, was_up; /* connected to the broker; has been before */
	unsigned attempt;
	int64_t offer_at_ms, busy_until_ms, lease_until_ms;
	int64_t postponed_until_ms; /* the caller's: nothing is offered or granted anew before */
	char sent[HASH_SIZE];	 /* the checkpoint offered last since the start; "": none */
	int64_t claim_until_ms; /* so long its first offer may wait for a claim undisturbed */
	struct handover_conf conf;
	int64_t hold_until_ms; /* of the trainer's work, then of the way back */
	bool came_back;        /* a result has come under this fence */
	bool cut_off;          /* the last renewal was refused */
	int64_t moved_ms;
	unsigned n_phases;
	struct rng rng;         /* jitter */
	char trainer_phase[17]; /* as the trainer last said */
	double trainer_progress, best_progress; /* of that phase */
	char busy_reason[MESSAGE_TEXT_MAX];     /* why a trainer will not take it; "" */
	struct handover_slow slow[HANDOVER_SLOW_MAX];
};

enum handover_event_kind {
	HANDOVER_EV_TIMER,
	HANDOVER_EV_UP, /* connected */
	HANDOVER_EV_DOWN,
	HANDOVER_EV_DUE,     /* checkpoint: to be offered */
	HANDOVER_EV_CLAIM,   /* claim */
	HANDOVER_EV_RESULT,  /* result; reason: why it does not fit our model, NULL: it does */
	HANDOVER_EV_PULLED,  /* the result is verified and kept */
	HANDOVER_EV_REFUSED, /* reason: what is wrong with what was pulled */
	HANDOVER_EV_STALLED, /* no block came for too long */
	HANDOVER_EV_JUDGED,  /* ack: the decision with its scores (ids are filled in here) */
	HANDOVER_EV_GONE,    /* the checkpoint on offer is no longer there, or no longer good */
	HANDOVER_EV_WANTED,  /* the trainer wants a block that it has not wanted before */
};

struct handover_event {
	enum handover_event_kind kind;
	const char *checkpoint;
	const struct msg_claim *claim;
	const struct msg_result *result;
	const struct msg_ack *ack;
	const char *reason;
};

enum handover_action_kind {
	HANDOVER_PERSIST, /* store the struct before what follows */
	HANDOVER_OFFER,   /* publish the offer of `checkpoint` */
	HANDOVER_GRANT,   /* to trainer: grant */
	HANDOVER_ACK,     /* to trainer: ack */
	HANDOVER_DROP,    /* what was pulled of payload `dropped` is not wanted any more */
};

struct handover_action {
	enum handover_action_kind kind;
	char trainer[ID_SIZE];
	char dropped[HASH_SIZE];
	struct msg_grant grant;
	struct msg_ack ack;
};

struct handover_actions {
	size_t n;
	struct handover_action at[HANDOVER_ACTIONS_MAX];
};

/* After the kept part has been loaded (or zeroed). A lease that was running runs anew in full:
 * longer than the trainer's. */
void handover_restart(struct handover *h, const struct handover_conf *conf, uint64_t seed,
		      int64_t now_ms);
void handover_step(struct handover *h, const struct handover_event *ev, int64_t now_ms,
		   struct handover_actions *ret);
/* When HANDOVER_EV_TIMER is due; -1: never. */
int64_t handover_deadline_ms(const struct handover *h);
/* Whether that trainer may have blocks of that checkpoint now. */
bool handover_may_pull(const struct handover *h, const char *trainer, const char *checkpoint);
/* Why nobody takes what is on offer, as far as a trainer said it; "". */
const char *handover_busy_reason(const struct handover *h);
/* Whether a newer checkpoint may be offered now. */
bool handover_may_offer(const struct handover *h);
/* An offer went out a moment ago: a newer checkpoint must wait, or the claims for the one would
 * always find the next (training that is quicker than the network would never be handed over). */
bool handover_awaits_claim(const struct handover *h, int64_t now_ms);

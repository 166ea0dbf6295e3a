/* One device's handover at the trainer, from the offer to the acknowledged result. Pure logic: no
 * I/O, no clock. job_step() takes what happened and says what is to be done; the caller does it
 * in the order given and reports the outcome as further events.
 *
 *   CLAIMING --grant--> PULLING --pulled--> QUEUED --slot--> BEFORE -> TRAINING -> AFTER
 *      |  ^                \________________/ | \___________/    |        /          |
 *      |  |  offer                            | lease over, refused, claim unanswered|
 *      |  +--------------------------------- LAPSED <---------------------'          v
 *      +--> DONE <--------------------------------------------------- ack ------- OFFERING
 *
 * Leases. A grant names the claim that it answers: the deadline is that claim's sending time plus
 * the lease, less a margin, and thus never later than the device's own. A grant that names none
 * (an older device) is taken for the answer to the oldest claim that is still unanswered; claims
 * expire at the broker (job_claim_expiry_s), so one that went unanswered for longer than a quarter
 * of the lease is lost, and such a grant is none of its.
 *
 * A renewal that the device refuses ends all work at once; a new grant is then asked for (fence 0).
 *
 * A device that only promises must not keep others out: a claim takes room for JOB_CLAIM_ROOM_MS
 * and stands for JOB_CLAIMING_MAX_MS, a transfer that brings no new block for a lease ends, and a
 * job without any block is not kept. Each bars the device for a while (JOB_A_BAR).
 *
 * What was finished under one grant (the checkpoint, the score before, whole epochs) serves under
 * the next: after each grant, worker reply or restart the next step follows from what is there.
 *
 * Merging (merge.c). A device's job that gathers is not trained from itself: scored, it waits for its
 * window, and gets what was made of that, whatever state it is in; then it goes on as above.
 *
 *   BEFORE --evaluated--> GATHERED --returned--> OFFERING
 *
 * The window's own work is a job, too: without a device (job_init_merged), so it claims nothing, and
 * works as long as any member has a lease; what OFFERING waits for is that all members were given it.
 *
 *   LAPSED --member--> QUEUED --slot--> MERGING -> BEFORE -> TRAINING -> [MIXING] -> AFTER -> OFFERING */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/id.h"
#include "common/base/rng.h"
#include "common/protocol/message.h"
#include "common/trust/sealed.h"

#define JOB_CLAIM_TRIES	   4 /* claims without an answer before it is given up */
#define JOB_CLAIM_FIRST_MS 1000
#define JOB_CLAIM_CAP_MS   8000
#define JOB_CLAIM_ROOM_MS  5000 /* for so long an unanswered claim keeps a place */
#define JOB_CLAIMING_MAX_MS 20000 /* however often it is offered meanwhile */
#define JOB_OFFER_FIRST_MS 2000 /* repetition of the result's offer */
#define JOB_OFFER_CAP_MS   60000
#define JOB_RETRY_FIRST_MS 1000 /* after a worker's failure */
#define JOB_RETRY_CAP_MS   60000
#define JOB_FAILURES_MAX   5 /* in a row, without an epoch or evaluation finished in between */
#define JOB_LAPSED_KEEP_MS (6 * 3600 * 1000) /* then the blocks or epochs it has are given up */
#define JOB_OFFER_KEEP_MS  ((int64_t)7 * 86400 * 1000) /* a result that nobody acknowledges */
#define JOB_CLAIMS_MAX	   16		     /* unanswered claims remembered */
#define JOB_ACTIONS_MAX	   16
#define JOB_LEASE_GUESS_MS 30000 /* for a claim's expiry, before the first grant */
#define JOB_LEASE_MIN_MS   5000 /* a grant for less is refused */

enum job_state {
	JOB_CLAIMING, /* a claim is out; nothing is done meanwhile */
	JOB_PULLING,
	JOB_QUEUED, /* all here; waits for a worker */
	JOB_BEFORE, /* the checkpoint as it came is evaluated */
	JOB_GATHERED, /* scored; waits for what is made of its window */
	JOB_MERGING,  /* a window's checkpoints become one */
	JOB_TRAINING,
	JOB_MIXING, /* what was trained is merged with what training began from */
	JOB_AFTER,    /* the result is evaluated */
	JOB_OFFERING, /* the result is offered until acknowledged; needs no lease */
	JOB_LAPSED,   /* no grant; what is finished is kept for the next one */
	JOB_DONE,
	JOB_STATE_N
};
const char *job_state_name(enum job_state s);

enum job_outcome { JOB_O_NONE, JOB_O_ACTIVATED, JOB_O_KEPT, JOB_O_REFUSED, JOB_O_DROPPED,
		   JOB_O_SCREENED, /* left out of its window: screen.h */
		   JOB_O_MERGED,   /* a window's: all members were given the result */
		   JOB_O_N };
const char *job_outcome_name(enum job_outcome o);

struct job_conf {
	int64_t lease_max_ms; /* no more than this of a lease is used */
	int64_t epochs;
	int64_t *claims; /* number of the last claim made, by any job; borrowed */
	bool gathers; /* jobs of devices wait for a window */
	bool mixes;   /* a window's: with a step in MIXING */
};

struct job_claim {
	int64_t number, sent_ms;
};

struct job {
	/* Kept in the database. */
	int64_t id; /* 0: not there yet: no grant was seen */
	char device[ID_SIZE]; /* "": a window's own */
	struct manifest manifest; /* of the checkpoint handed over; a window's: merged, id "": not yet */
	enum job_state state;
	int64_t fence; /* of the last grant; 0: none; a window's: its number */
	int64_t window; /* that it was taken into; 0: none */
	bool mixed;
	struct score reported; /* by the device, of its checkpoint; n 0: not said */
	bool pulled;
	int64_t epochs, epoch_done;
	char partial[HASH_SIZE]; /* what epoch_done epochs made of it; "": none. In the end: the result */
	int64_t images_trained;	 /* by this job */
	int64_t worked_ms;	 /* by workers, on it */
	bool has_before, has_after;
	struct score before, after;
	char snapshot_before[HASH_SIZE], snapshot_after[HASH_SIZE];
	enum job_outcome outcome;
	char reason[MESSAGE_TEXT_MAX];
	/* The device's, from its acknowledgement. */
	struct score validation, test, local_validation, local_test;
	/* Keys of its blocks; the caller makes our own, the device's come with the grant. Nothing
	 * without an identity. */
	struct sealed seal;

	/* Not kept. */
	int64_t lease_max_ms;
	int64_t lease_ms;    /* of the last grant */
	int64_t deadline_ms; /* monotonic; -1: no grant */
	int64_t *last_claim; /* as in job_conf */
	struct job_claim claims[JOB_CLAIMS_MAX]; /* unanswered ones, oldest first */
	unsigned n_claims;
	int64_t claim_fence; /* of the last claim: 0 asks for a new grant */
	int64_t claiming_since_ms; /* -1: no claim was sent yet */
	bool gathers, mixes; /* as in job_conf */
	bool held; /* blocks of it are on disk, or all of it; after a restart the caller's to find out */
	int64_t block_at_ms; /* PULLING: when the last new block came */
	unsigned tries; /* of claims, or of result offers, in a row */
	int64_t claim_at_ms, offer_at_ms, retry_at_ms; /* -1: not due */
	int64_t idle_since_ms; /* LAPSED or OFFERING since; -1 */
	bool has_slot; /* a worker is ours */
	bool running;  /* a run is open: it trains */
	unsigned failures;
	struct rng rng; /* jitter */
};

enum job_event_kind {
	JOB_E_OFFER,	 /* the device offers it (again), and there is room; score: what it reports */
	JOB_E_RESTORED,	 /* the first connection after job_restore */
	JOB_E_CONNECTED, /* to the broker, anew */
	JOB_E_DEVICE_UP, /* the device's presence came online */
	JOB_E_GRANT,	 /* granted, fence, lease_ms, claim, reason, seal */
	JOB_E_BLOCK,	 /* a new block came, or some were there already */
	JOB_E_PULLED,	 /* verified and in the store */
	JOB_E_BAD,	 /* what was pulled, or its window, is no good; reason */
	JOB_E_SLOT,	 /* a worker is ours now */
	JOB_E_EVALUATED, /* score, hash: snapshot; ms */
	JOB_E_EPOCH,	 /* hash: checkpoint, in the store; images, ms */
	JOB_E_MERGED,	 /* hash: checkpoint, in the store; ms */
	JOB_E_TAKEN,	 /* into this window; 0: that one is no more */
	JOB_E_SCREENED,	 /* it is left out of its window; reason */
	JOB_E_RETURNED,	 /* of its window: hash: result; score, snapshot, epochs, images, ms */
	JOB_E_MEMBER,	 /* to a window's: a member has a lease until deadline_ms */
	JOB_E_ORPHANED,	 /* to a window's: none has any */
	JOB_E_DELIVERED, /* to a window's: all members were given the result */
	JOB_E_FAILED,	 /* the worker, or storing what it made; reason. The slot is gone. */
	JOB_E_DIVERGED,	 /* the epoch's loss turned non-finite, and would again; reason */
	JOB_E_ACK,	 /* fence, decision, reason and the four scores in `ack` */
	JOB_E_DROP,	 /* given up from outside; reason */
	JOB_E_SHUTDOWN,	 /* the trainer ends; the job goes on after the restart */
	JOB_E_TIMER,	 /* job_next_ms() has come */
	JOB_E_N
};

struct job_event {
	enum job_event_kind kind;
	bool granted;
	int64_t fence, lease_ms;
	int64_t claim; /* 0: the grant names none */
	const char *reason; /* may be NULL */
	const struct score *score;
	const char *hash, *snapshot;
	const char *seal; /* of the grant; NULL or "": none */
	const char *checkpoint; /* JOB_E_EVALUATED: the result became this one, in the store; NULL: it did not */
	int64_t images, ms, epochs;
	int64_t window, deadline_ms;
	const struct msg_ack *ack;
};

enum job_action_kind {
	JOB_A_CLAIM,	 /* send in/claim with this action's fence and number */
	JOB_A_PULL,	 /* begin, or go on with, the transfer */
	JOB_A_HELD,	 /* tell the device that the checkpoint is here */
	JOB_A_ENQUEUE,	 /* wait for a worker; JOB_E_SLOT follows */
	JOB_A_EVALUATE,	 /* state says what: BEFORE the checkpoint, AFTER the partial one */
	JOB_A_MERGE,	 /* state says what: MERGING the window, MIXING the partial one */
	JOB_A_TRAIN,	 /* one epoch, from the partial one if there is one */
	JOB_A_RELEASE,	 /* end the transfer, leave the queue, stop and give back the worker */
	JOB_A_RUN_OPEN,	 /* training begins under this fence */
	JOB_A_RUN_EXTEND, /* the lease was renewed */
	JOB_A_RUN_CLOSE, /* training ended; why */
	JOB_A_PERSIST,	 /* before anything after it in the list is done */
	JOB_A_RESULT,	 /* send in/offer */
	JOB_A_OVER,	 /* send the ack that ends the exchange */
	JOB_A_REPORT,	 /* publish job/<device> now */
	JOB_A_GRANTED,	 /* a new fence: other jobs of this device are over */
	JOB_A_BAR,	 /* the device promised and gave nothing: no offer of it is taken for a while */
	JOB_A_GIVE_BACK, /* tell the device that nothing more is done under this fence; job.reason */
};
const char *job_action_name(enum job_action_kind k);

struct job_action {
	enum job_action_kind kind;
	int64_t fence;
	int64_t claim; /* JOB_A_CLAIM: its number */
	const char *why; /* static text */
};

struct job_actions {
	struct job_action a[JOB_ACTIONS_MAX];
	unsigned n;
};

/* A job for an offer that was just admitted; state CLAIMING, nothing sent. */
void job_init(struct job *j, const struct job_conf *conf, const char *device,
	      const struct manifest *m, uint64_t seed);
/* The same for one whose kept fields were read from the database; it waits for JOB_E_RESTORED. */
void job_restore(struct job *j, const struct job_conf *conf, int64_t now_ms, uint64_t seed);
/* A window's own, LAPSED until JOB_E_MEMBER. m: what is known of what it will be merged to. */
void job_init_merged(struct job *j, const struct job_conf *conf, int64_t window,
		     const struct manifest *m, uint64_t seed);
static inline bool job_is_merged(const struct job *j)
{
	return j->device[0] == '\0';
}
/* For logs: "device=ID fence=N", or "window=N" of a window's own. */
#define JOB_WHOSE_SIZE (ID_SIZE + 40)
const char *job_whose(const struct job *j, char ret[JOB_WHOSE_SIZE]);
/* Clears `out` and fills it. */
void job_step(struct job *j, const struct job_event *e, int64_t now_ms, struct job_actions *out);
/* When JOB_E_TIMER is due; -1: never. */
int64_t job_next_ms(const struct job *j);

/* It has a grant that it works under. */
bool job_is_working(const struct job *j);
/* Takes up room: neither over, nor lapsed, nor only waiting: for an acknowledgement, or for long for
 * an answer to its claim. */
bool job_takes_room(const struct job *j, int64_t now_ms);
/* Both scores and all epochs are there. */
bool job_is_complete(const struct job *j);
/* Broker-side expiry of a claim, see above. */
uint32_t job_claim_expiry_s(const struct job *j);

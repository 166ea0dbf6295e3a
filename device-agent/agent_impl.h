/* What the files of the agent share; nobody else includes it.
 *
 *   agent.c     start, the turn (what is to be done next), saving
 *   work.c      what the worker is asked for, and its answers
 *   learn.c     epochs, reports, decisions about them
 *   choose.c    which checkpoint becomes active
 *   judge.c     what came back: candidates, and the decision
 *   lineage.c   what descends from what, and what of it may leave
 *   exchange.c  handover: carrying out its actions, pulling, serving blocks
 *   sealing.c   keys of the handover's blocks
 *   link.c      blocks on a metered link
 *   standby.c   when training steps aside
 *   fleet.c     a checkpoint for everyone; fleet_key.c: the key it is sealed with
 *   privacy.c   noise on what goes out, and the account of it
 *   coding.c    the forms in which checkpoints go out and come in
 *   guard.c     checkpoints that are damaged
 *   announce.c  presence, status, reports
 *   chronicle.c the history that people look at
 *   ledger.c    what the audit log says
 *   figures.c   what Prometheus is told
 *   inbox.c     messages and commands
 *   trusted.c   who signed what comes in, and whether it is of now
 *
 * Almost nothing is done because of an event. An event changes the state; agent_turn() then looks
 * at the whole state and does what is missing. So a restart needs no other code than a normal run.
 */
#pragma once

#include "common/audit/audit.h"
#include "common/base/bucket.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/checkpoint/store.h"
#include "common/protocol/topic.h"
#include "common/transfer/part.h"
#include "common/transfer/sealing.h"
#include "common/transfer/serve.h"
#include "common/trust/trust.h"
#include "device-agent/agent.h"
#include "device-agent/commands.h"
#include "device-agent/details.h"
#include "device-agent/meter.h"
#include "device-agent/reports.h"
#include "device-agent/state.h"

#define AGENT_STATUS_MS       1000 /* between two status messages, at least */
/* ... and at most, though nothing has changed: nobody says that a status has come. Half of it at
 * random, so that a fleet that came back at once does not keep step. */
#define AGENT_STATUS_REPEAT_MS 600000
#define AGENT_DISK_MS 60000 /* between two looks at how much of it is free */
#define AGENT_RETRY_FIRST_MS  1000 /* after a full disk, a failed request */
#define AGENT_RETRY_CAP_MS    60000
#define AGENT_EXPIRY_S        60 /* of offers, grants, wants and acks at the broker */
#define AGENT_UP_SPREAD_MS    3000 /* when it comes back: before its status and reports, at most */
#define AGENT_REPLIES_MAX     32
#define AGENT_REPLY_DELAY_MS  2000 /* answers to fleet/cmd come within */
#define AGENT_ORDERED_MAX     4    /* `evaluate` commands that wait */
#define AGENT_CORRELATION_MAX 1024
#define AGENT_RANGES_MAX      8 /* wants for reports that wait */
#define AGENT_RANGE_REPORTS   100
#define AGENT_REPORT_BURST    20 /* then a pause of */
#define AGENT_REPORT_PAUSE_MS 100
#define AGENT_REFUSED_LOG_MS  10000 /* between two warnings of bad messages */
#define AGENT_OWN_FIRST_MAX   4     /* own evaluations in a row while one by command waits */
#define CODING_LACKED_MAX     4     /* bases that a trainer was found to lack, of one offer */
#define CODING_LOST_MAX       3     /* workers that end over a form, in a row: it is given up */
#define AGENT_LEFTOVER_MS     (6 * 3600 * 1000) /* a part whose result stalled is kept */

/* What others can make the agent do as often as they like: each kind has a bucket (inbox.c). */
enum flood {
	FLOOD_COMMAND,
	FLOOD_FLEET,
	FLOOD_BUSY, /* answers to commands that were too many */
	FLOOD_CLAIM,
	FLOOD_RENEWAL, /* claims of whoever has the grant */
	FLOOD_RESULT,
	FLOOD_OWN_RESULT, /* under the grant */
	FLOOD_FLEET_OFFER,
	FLOOD_REPORTS, /* wanted */
	FLOOD_SIGNED,  /* signatures to verify */
	FLOOD_N,
};

/* Of two times, of which -1 is never. */
static inline int64_t earlier(int64_t one, int64_t other)
{
	return one < 0 ? other : other < 0 ? one : MIN_OF(one, other);
}

#define COPY(to, from) snprintf(to, sizeof(to), "%s", from)

struct reply_to {
	char topic[TOPIC_SIZE];
	char correlation[AGENT_CORRELATION_MAX];
	size_t correlation_len;
	int64_t at_ms; /* not before */
};

/* An evaluation, outstanding or ordered by a command. */
struct evaluation {
	char checkpoint[HASH_SIZE];
	enum split split;
	char command[ID_SIZE]; /* "": the agent's own */
	struct reply_to to;
};

struct retry {
	unsigned failures;
	int64_t at_ms;                 /* not before */
	char reason[MESSAGE_TEXT_MAX]; /* without the details, which may name paths and classes */
	char logged[MESSAGE_TEXT_MAX]; /* last, with them */
};

struct agent {
	struct agent_conf conf;
	struct agent_live live; /* conf.live, or as `set` changed it */
	const struct model *model;
	struct agent_ports port;
	struct trust *trust;      /* NULL: plain */
	char numbered[HASH_SIZE]; /* what is on offer under state->sequence in this run; "" */
	struct rng rng;
	int lock_fd;
	struct store *store;
	struct reports *reports;
	struct audit *audit;
	struct audit_source heard; /* the message at hand, where it was signed */
	bool audit_failed;
	char activating[HASH_SIZE]; /* the log has that line, the swap is still due; "" */
	struct state *state, *draft;
	char state_path[FILE_PATH_MAX], incoming[FILE_PATH_MAX];
	char active[HASH_SIZE];        /* as the store's link says; "": none */
	int64_t now_ms;                /* of this turn */
	bool up, was_up;               /* connected; has been before */
	bool collect_due;              /* checkpoints may have become superfluous */
	char suspect[HASH_SIZE];       /* to be looked through; "": none */
	char damage[MESSAGE_TEXT_MAX]; /* found last; in the status until damage_until_ms */
	int64_t damage_until_ms;
	char swapped[HASH_SIZE];                /* what the port was told of last; "": nothing yet */
	char hook_failure[MESSAGE_TEXT_MAX]; /* of the command after the last swap; "": none */
	struct retry saving;

	/* The worker. */
	bool worker_ready, worker_paused;
	uint64_t n_worker_deaths;
	const char *worker_reason; /* why there is none, for others; NULL */
	struct worker_ready data;
	bool warned_none, warned_few;              /* of validation images */
	bool warned_unwatched;                     /* of protected classes without any */
	uint64_t train_id, evaluate_id, rescan_id; /* outstanding requests; 0: none */
	struct worker_progress train_progress, evaluate_progress;
	char train_out[FILE_PATH_MAX];
	struct retry training, evaluating;
	int64_t diverged;           /* epochs in a row whose loss was not finite */
	unsigned evaluate_failures; /* in a row, weighed */
	int64_t rounds_wake_ms;
	enum rounds_todo todo;
	char train_parent[HASH_SIZE]; /* that the epoch in hand goes on from; "": new weights */
	bool superseded;              /* the lineage has left it: nothing is made of it */
	struct {                      /* an epoch that is done, but not yet kept */
		bool there, added;
		int64_t images;
		struct manifest manifest;
	} trained;
	struct evaluation evaluation; /* the outstanding one */
	struct evaluation ordered[AGENT_ORDERED_MAX];
	size_t n_ordered;
	unsigned own_in_a_row; /* evaluations while one by command waits */
	struct details *details;

	/* The handover. */
	char candidate[HASH_SIZE]; /* due to be offered, still being scored; "" */
	struct {                   /* when judging began, in this run */
		bool there;
		int64_t ms;
	} judging_since;
	struct {             /* a candidate that is being made */
		uint64_t id; /* the request; 0: none */
		bool stopped;
		size_t entry; /* of the judgement about `result` */
		enum candidate_kind kind;
		char result[HASH_SIZE];
		char detail[16]; /* for the log */
		char out[FILE_PATH_MAX];
		struct manifest manifest;
		struct retry retry;
	} making;
	struct {             /* noise being added to what is to be offered */
		uint64_t id; /* the request; 0: none */
		bool first;  /* it is for the first weights */
		char whole[HASH_SIZE], out[FILE_PATH_MAX];
		double rho; /* that it will cost */
		struct retry retry;
	} noising;
	struct {                                         /* the form that is offered, being made */
		uint64_t id;                             /* the request; 0: none */
		bool first;                              /* it is for the first weights */
		char whole[HASH_SIZE], coded[HASH_SIZE]; /* of what, and made of it; "" */
		char out[FILE_PATH_MAX], decoded[FILE_PATH_MAX];
		char bases[3][HASH_SIZE]; /* as asked with */
		size_t n_bases;
		char lacked[CODING_LACKED_MAX][HASH_SIZE];
		size_t n_lacked;
		unsigned n_lost; /* workers */
	} coding;
	struct { /* what was pulled, being decoded */
		uint64_t id;
		unsigned n_lost;
		char checkpoint[HASH_SIZE], out[FILE_PATH_MAX];
	} decoding;
	bool pulling;
	struct part part;
	struct retry pull;
	struct retry rows; /* of private outputs: taking them out, putting them back */
	struct serve serve;
	char *block;           /* SEALING_BLOCK_MAX bytes: one on its way out or in */
	struct proof proof;    /* of the payload on offer, where there is an identity */
	struct seal *seal;     /* NULL: there is no identity, and nothing is sealed */
	struct sealed_memo seal_key;
	int64_t checked_fence; /* under which what is served was found good */
	struct {               /* bitmap: blocks wanted under that fence */
		int64_t fence;
		uint32_t n_blocks;
		uint8_t *bits;
	} wanted;
	int64_t leftover_until_ms; /* parts in incoming/ that may yet be of use; 0: none */

	/* The link. */
	struct meter meter;
	struct {
		int64_t wake_ms;       /* when what waits for it may go on; -1: nothing waits */
		bool day_over;         /* blocks wait for another day */
		bool pull_waits;       /* what comes in does, and nothing of it is awaited */
		int64_t told_day;      /* of which the log said so */
		int64_t payload_bytes; /* of the last one on offer, as it travels; 0: none yet */
	} link;
	/* What [when] says. */
	struct {
		struct when when;
		int64_t at_ms; /* of the next look */
		char unread[WHEN_REASON_MAX]; /* as last warned of; "" */
	} standby;
	/* A checkpoint for everyone. */
	struct {
		char dir[FILE_PATH_MAX];
		bool open, asking;
		struct part part;
		int64_t pull_at_ms;   /* what is missing is asked for from then on */
		char left[HASH_SIZE]; /* blocks of it may still be on their way; "" */
		/* Where it is sealed, see fleet_key.c. */
		struct seal_pair pair; /* that the key is asked for with */
		bool has_pair;
		unsigned n_asked;
		int64_t asks_at_ms;
		uint8_t key[SEAL_KEY];
		struct retry retry;
	} fleet;

	/* What is told. */
	char not_offered[ERR_TEXT_MAX]; /* why, as last logged; "" */
	char *status_text; /* as last published, without its time */
	int64_t status_sent_ms, status_repeat_ms;
	bool status_dirty;
	int64_t disk_free_bytes, disk_looked_ms; /* of the state folder */
	struct chronicle *chronicle;
	int64_t published_seq; /* reports up to this one have been published, or are history */
	struct {
		int64_t from, to;
	} ranges[AGENT_RANGES_MAX];
	size_t n_ranges;
	int64_t report_pause_ms;
	struct {
		struct reply_to to;
		char *text;
	} replies[AGENT_REPLIES_MAX];
	size_t n_replies;
	uint64_t n_refused; /* messages that were not what they should be */
	int64_t refused_logged_ms;
	struct bucket floods[FLOOD_N];
	uint64_t n_flooded[FLOOD_N]; /* left out */
	int64_t flooded_logged_ms;
};

/* agent.c */
/* A copy of the state to change; agent_commit() saves it and makes it the state. */
struct state *agent_draft(struct agent *a);
/* On failure nothing has changed, the reason is in a->saving, and a retry is due. */
int agent_commit(struct agent *a);
/* Whether saving is not to be tried now. */
bool agent_blocked(const struct agent *a);
void agent_turn(struct agent *a);
/* `what` and err go to the log; what others may know is `what` and err's category. */
void retry_failed(struct agent *a, struct retry *r, const char *what, const struct err *err);
void retry_done(struct retry *r);
bool retry_waits(const struct agent *a, const struct retry *r);

/* learn.c; the ..._step functions return whether they changed anything. */
bool learn_trained_step(struct agent *a);
bool learn_decide_step(struct agent *a);
const struct score *learn_score(const struct agent *a, const char *checkpoint, enum split split);
int learn_report(struct agent *a, struct state *next, const struct state_score *s,
		 const struct msg_report *decision);
/* Of its score on the validation images as they are now. */
int learn_report_validation(struct agent *a, struct state *next, const char *checkpoint,
			    const struct msg_report *decision);
/* Keeps that score from being pushed out of the state by newer ones. */
void learn_touch(const struct agent *a, struct state *next, const char *checkpoint);
/* The decision was against that one, without a test between the two. */
void learn_against(const struct agent *a, const char *checkpoint, struct msg_report *d);

/* choose.c */
struct choice {
	struct verdict verdict; /* a pair for each challenger */
	size_t n;
	bool paired; /* image by image; else by counts */
};
/* Of challengers whose scores are known to choose_score(); at most VERDICT_CONTENDERS_MAX. */
void choose(struct agent *a, const char *const *ids, size_t n, struct choice *ret);
/* What a report says of challenger i. */
void choose_report(const struct agent *a, const struct choice *c, size_t i, struct msg_report *d);
/* For logs, in `ret`, which it returns: why challenger i was taken or not, which class the floor
 * was about (its output, or `private`), and on how many images that stands. */
#define CHOOSE_WHY_SIZE 128
const char *choose_why(const struct agent *a, const struct choice *c, size_t i,
		       char ret[CHOOSE_WHY_SIZE]);
/* Its score on the validation images as they are now, NULL where that, or what the selector needs
 * beside it, is not known. */
const struct score *choose_score(const struct agent *a, const char *checkpoint);
bool choose_wants_outcomes(const struct agent *a);

/* judge.c */
bool judge_step(struct agent *a);
void judge_make_step(struct agent *a);
void judge_stop_step(struct agent *a);
/* False: nothing is being judged. */
bool judge_next(const struct agent *a, struct candidates_step *ret);
/* Whether the next local epoch is to wait for a candidate's. */
bool judge_holds_training(const struct agent *a);
/* A request for a candidate has ended; failure NULL: well. */
void judge_made(struct agent *a, const struct err *failure);
/* A checkpoint cannot be scored: if it is a candidate, it is decided without it; if it is what came
 * back, that is refused with the reason. */
void judge_unscorable(struct agent *a, const char *checkpoint, const char *reason);
int64_t judge_deadline_ms(const struct agent *a);

/* lineage.c */
/* Completes the manifest of what is made here: id, parents (which the store has), origin, epoch,
 * images_seen and trainer are the caller's, and stays where the making itself is a reason. It stays
 * if one of its parents does. */
int lineage_manifest(const struct agent *a, struct manifest *m, struct err *err);
/* What is said of `id`, a copy of `whole` that is made only to be sent; lineage_manifest() completes it. */
void lineage_copy(const struct manifest *whole, const char *id, struct manifest *ret);
/* Whether nothing that descends from it may leave. */
bool lineage_stays(const struct agent *a, const char *id);
/* What is offered in place of checkpoint `id`: itself, or a copy without the rows of private
 * outputs, which is made where there is none. */
int lineage_offered(struct agent *a, const char *id, char ret[HASH_SIZE], struct err *err);
/* -EPERM: it does not leave, err says why. The second one looks at the weights as well. */
int lineage_may_leave(const struct agent *a, const struct manifest *m, struct err *err);
int lineage_check_leaving(const struct agent *a, const char *id, struct err *err);
/* Of what `id` is such a copy; "": of none. */
void lineage_source(const struct agent *a, const char *id, char ret[HASH_SIZE]);
/* Whether what comes from elsewhere gets the rows of private outputs that this device has. */
bool lineage_takes_rows(const struct agent *a);
/* Whose private rows are to be put into what comes back; "": they went out with it. */
void lineage_rows(const struct agent *a, char ret[HASH_SIZE]);
int lineage_graft(struct agent *a, const char *result, const char *rows, char ret[HASH_SIZE],
		  struct err *err);
/* What local training goes on from without its newest checkpoint; "": from new weights. */
void lineage_instead(const struct agent *a, char ret[HASH_SIZE]);

/* work.c */
void work_step(struct agent *a);
/* args are taken. */
int work_request(struct agent *a, const char *op, struct json *args, uint64_t *ret_id,
		 struct err *err);
/* The worker is gone, and will be started again; what it was asked for was not at fault. */
bool work_worker_lost(int code);
/* n, correct, loss and snapshot of an answer, as the state may have them; the rest is 0. */
int work_read_score(const struct json *result, struct state_score *ret, struct err *err);
bool work_may_train(const struct agent *a);
/* That request is the training in hand. */
void work_training(struct agent *a, uint64_t id);
/* 0: it was asked to stop that request, which still is answered. */
int work_stop(struct agent *a, uint64_t id);
/* The local lineage goes on from another checkpoint than what is trained on from. */
void work_supersede(struct agent *a);

/* exchange.c */
/* Carries out a step of the handover machine; negative: it could not be saved and is undone. */
int exchange_event(struct agent *a, const struct handover_event *ev);
/* The same, saved together with what *next (a draft) has been changed by. */
int exchange_event_with(struct agent *a, struct state *next, const struct handover_event *ev);
bool exchange_offer_step(struct agent *a);
bool exchange_pull_step(struct agent *a);
int64_t exchange_deadline_ms(const struct agent *a);
void exchange_result(struct agent *a, const struct msg_result *r);
/* err says why it is refused, if it is. */
void exchange_block(struct agent *a, const struct topic *t, const void *data, size_t len,
		    struct err *err);
void exchange_want(struct agent *a, const struct msg_want *w, struct err *err);
void exchange_serve(struct agent *a);
/* What is on offer, or out with a trainer, must not leave: why is logged. */
void exchange_withdraw(struct agent *a, const struct err *why);

/* Parts of results that will not come any more are removed. */
void exchange_sweep(struct agent *a);

/* sealing.c: all of it does nothing without an identity, where nothing else is said */
int sealing_start(struct agent *a, struct err *err);
void sealing_stop(struct agent *a);
/* Whether a claim may lead to a grant; err says why not. */
bool sealing_claim(struct agent *a, const struct msg_claim *c, struct err *err);
/* Whether the keys that are kept are the ones for a grant that answers this claim. */
bool sealing_agreed(const struct agent *a, const struct msg_claim *c);
/* Puts into *next, which has its handover already, the keys of it. claim: that is granted; NULL:
 * none is. fence_was: before it. */
int sealing_step(const struct agent *a, struct state *next, const struct msg_claim *claim,
		 int64_t fence_was);
/* After a commit: what is over is forgotten here, too. */
void sealing_over(struct agent *a);
void sealing_grant(const struct agent *a, struct msg_grant *g);
/* Of the transfer that is on; NULL: not known. */
const uint8_t *sealing_key(struct agent *a, const char *payload, bool to_device);

/* link.c */
void link_start(struct agent *a);
void link_reload(struct agent *a, const struct meter_conf *conf);
/* Before anything is done in a turn: what of the link is known for it. */
void link_begin(struct agent *a);
/* A checkpoint of that size, as it travels, is to be offered: whether the day's bytes cover it, and
 * what comes back for it, which is about as large. */
bool link_offers(struct agent *a, int64_t payload_bytes);
/* How many blocks of that size (at most max) may cross now; what does is to be counted by
 * meter_count(). Fewer than max: link_begin() is due at a->link.wake_ms. */
size_t link_blocks(struct agent *a, enum meter_use use, int64_t block_bytes, size_t max);
/* What waits for the link; "": nothing. */
const char *link_reason(const struct agent *a);
/* Keeps what was used to the byte. */
void link_stop(struct agent *a);

/* The pulled result was decoded; err: it was not. */
void exchange_decoded(struct agent *a, const struct json *result, const struct err *err);

/* privacy.c */
bool privacy_on(const struct agent *a);
/* Whether it is on, and the budget is not enough for another handover. */
bool privacy_spent(const struct agent *a);
/* What is offered in place of `whole`: itself, or it with noise. -EAGAIN: that is being made; -EPERM: the
 * budget does not allow it, err says so. */
int privacy_offered(struct agent *a, const char *whole, char ret[HASH_SIZE], struct err *err);
void privacy_made(struct agent *a, const struct json *result, const struct err *failed);
/* lineage_may_leave(), and it has noise, and the budget allows it. */
int privacy_may_leave(const struct agent *a, const struct manifest *m, struct err *err);
/* `id` has been granted: counts it in *next. Negative: it cannot be, and is not to be granted. */
int privacy_granted(struct agent *a, struct state *next, const char *id);
/* The account, after a grant. */
void privacy_log(const struct agent *a);
void privacy_report(const struct agent *a, const struct state *s, struct msg_report *ret);

/* coding.c */
/* Asks for the first weights of the seed; what came of it is kept. */
int coding_request_first(struct agent *a, const char *out, uint64_t *ret_id, struct err *err);
int coding_keep_first(struct agent *a, const char *path, struct err *err);
/* Whether what a manifest's form is a difference to is here. */
bool coding_has_base(const struct agent *a, const struct manifest *m);
/* That result has been decided on. */
void coding_handed_over(struct agent *a, struct state *next, const char *result,
			const char *granted);
/* A claim that says that a base is lacking: true, and another form is due to be offered. */
bool coding_lacked(struct agent *a, const struct msg_claim *c);
/* What is offered in place of `whole`: its coded form. -EAGAIN: it is being made. */
int coding_offered(struct agent *a, const char *whole, char ret[HASH_SIZE]);
/* What was made, and is to be scored before it is offered: a copy without private rows, which
 * nobody here uses, has no scores, but a coded one has. "": nothing. */
const char *coding_to_score(const struct agent *a);
void coding_made(struct agent *a, const struct json *result, const struct err *failed);
/* Has a payload decoded: exchange_decoded() follows. -EBADMSG: it cannot be, ever. */
int coding_decode(struct agent *a, const struct manifest *m, const char *payload, struct err *err);
bool coding_decodes(const struct agent *a);

/* standby.c */
/* Looks at the machine, if it is time. */
void standby_look(struct agent *a);
/* Whether training may go on: neither a person nor [when] has stopped it. */
bool standby_trains(const struct agent *a);
/* Other conditions: the next look is due. */
void standby_reload(struct agent *a, const struct when_conf *conf);
int64_t standby_deadline_ms(const struct agent *a);

/* fleet.c */
int fleet_start(struct agent *a, struct err *err);
void fleet_close(struct agent *a);
void fleet_link(struct agent *a, bool up);
void fleet_offer(struct agent *a, const struct msg_fleet *m, bool retained, struct err *err);
/* One sent to all, or to this device. err is set where nobody waits for such a one. */
void fleet_block(struct agent *a, const struct topic *t, const void *data, size_t len,
		 struct err *err);
bool fleet_step(struct agent *a);
/* To the blocks of what is taken; where they are sealed, once their key is here. */
void fleet_subscribe(struct agent *a);
/* The way out has become a metered link, or is none any more. */
void fleet_way_out(struct agent *a);
int64_t fleet_deadline_ms(const struct agent *a);
/* Of the blocks to subscribe to; -ENOENT: none. */
int fleet_filter(const struct agent *a, char filter[TOPIC_SIZE]);

/* fleet_key.c */
/* Whether a checkpoint is taken that cannot be opened yet. */
bool fleet_key_missing(const struct agent *a);
/* NULL: none is here, or none is needed. */
const uint8_t *fleet_key(struct agent *a);
/* It is asked for at a random moment of so long a time. */
void fleet_key_plan(struct agent *a, int64_t within_ms);
void fleet_key_ask(struct agent *a); /* if it is due; only while it is missing */
void fleet_key_heard(struct agent *a, const struct msg_key *m, struct err *err);
/* What is not in the state: after a commit that took the key out of it, or put it in. */
void fleet_key_forget(struct agent *a);

/* guard.c */
/* That checkpoint could not be read, or is about to be given away: it is looked through soon. */
void guard_suspect(struct agent *a, const char *id);
bool guard_step(struct agent *a);
/* Looks through what is active, was before, and is trained on. */
void guard_start(struct agent *a);

/* trusted.c */
int trusted_start(struct agent *a, struct err *err);
/* Its own certificate ends: says so in time. */
void trusted_watch(struct agent *a);
/* Whether the message may be decoded: it is of a kind that nobody signs, or signed by somebody who
 * may write it. by: who; "": nobody. */
bool trusted_open(struct agent *a, const struct topic *t, const struct mqtt_message *m,
		  char by[ID_SIZE], struct err *err);
/* Whether what a message says of its writer is what its signature says. */
bool trusted_is_by(struct agent *a, const char *by, const char *trainer, struct err *err);
/* What is about to be offered gets its number, which is saved, and its end. */
int trusted_number(struct agent *a, struct manifest *m);
void trusted_offers_again(const struct agent *a, struct state *next);
/* A refusal tells which offer may be claimed. */
void trusted_grant(const struct agent *a, struct msg_grant *g);
/* Whether a claim, a result, an offer to the fleet, a command is of now, and meant for here. */
bool trusted_claim(struct agent *a, const struct msg_claim *c, struct err *err);
bool trusted_result(struct agent *a, struct msg_result *r, struct err *err);
bool trusted_fleet(struct agent *a, struct msg_fleet *m, struct err *err);
bool trusted_command(struct agent *a, const struct msg_cmd *c, struct err *err);
/* A command has changed something: a signed one is not carried out again while it is valid. */
void trusted_carried_out(const struct agent *a, struct state *next, const struct msg_cmd *c);
/* A handover was decided on by ev: that result is not taken again; into the same write. */
void trusted_decided(struct state *next, const struct handover *before,
		     const struct handover_event *ev);
/* The trainer has heard of it, and has no reason to say it again. */
void trusted_over(struct agent *a, const struct msg_ack *k);

/* announce.c */
/* text is freed. */
int announce_publish(struct agent *a, const struct topic *t, char *text, bool retain);
void announce_presence(struct agent *a, bool online);
void announce_status(struct agent *a, bool force);
/* Others, too, have come back just now: status and reports follow in a while. */
void announce_later(struct agent *a);
void announce_status_fill(struct agent *a, struct msg_status *ret);
/* Why it waits, pauses or failed: all reasons that there can be, the first one that holds is told.
 * kind: a word for figures; text: "" where it does not hold. */
#define ANNOUNCE_REASONS_MAX 16
struct announce_reason {
	const char *kind, *text;
};
size_t announce_reasons(const struct agent *a, struct announce_reason ret[ANNOUNCE_REASONS_MAX]);
void announce_reports(struct agent *a);
void announce_reports_want(struct agent *a, int64_t from, int64_t to);
int64_t announce_deadline_ms(const struct agent *a);

/* chronicle.c */
int chronicle_start(struct agent *a, struct err *err);
void chronicle_free(struct agent *a);
/* That report was kept. */
void chronicle_report(struct agent *a, const char *text);
/* The broker is there, or is not any more. */
void chronicle_link(struct agent *a);
void chronicle_publish(struct agent *a); /* if it is due */
int64_t chronicle_deadline_ms(const struct agent *a);
/* Whether there may be a confusion matrix of validation images at all. */
bool chronicle_counts(const struct agent *a);
/* Of an evaluation that was asked for counts, n images in all, into *d. */
int chronicle_read_counts(const struct agent *a, const struct json *result, int64_t n,
			  struct detail *d, struct err *err);

/* ledger.c */
/* A line of the audit log: by this device unless e says who, and because of the message at hand. */
void ledger_say(struct agent *a, const struct audit_event *e);
/* A step of the handover, before it is saved: what is granted or decided is in the log first. */
void ledger_handover(struct agent *a, const struct handover *was, const struct handover *h);
/* The head of the log, for a report. */
void ledger_head(struct agent *a, struct msg_report *ret);
/* It takes the place of what is active now; on disk when this returns, if it can be. */
void ledger_activating(struct agent *a, const char *checkpoint);
/* c: NULL where it could not be read; id: "" then, or not known. done: else it was refused. */
void ledger_command(struct agent *a, const struct msg_cmd *c, const char *id, bool done);

/* inbox.c */
/* Whether there is too much of that; counted, and logged now and then. ret_wait_ms may be NULL. */
bool inbox_flooded(struct agent *a, enum flood kind, int64_t *ret_wait_ms);
const char *inbox_flood_name(enum flood kind);
void inbox_message(struct agent *a, const struct mqtt_message *m);
void inbox_reply(struct agent *a, const struct reply_to *to, char *text);
void inbox_replies_due(struct agent *a);
int64_t inbox_deadline_ms(const struct agent *a);
/* An ordered evaluation has ended; score NULL: with error. */
void inbox_evaluated(struct agent *a, const struct evaluation *e, const struct score *score,
		     const char *snapshot, const char *error);

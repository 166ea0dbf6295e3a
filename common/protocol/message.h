/* The JSON messages: one struct, one encoder and one checking decoder each. docs/protocol.md
 * lists every field. Decoders take the raw payload; they check size, then form, then each field,
 * ignore unknown members unless named in `critical`, and leave *ret untouched on failure.
 * Text in messages is one line without control characters. Encoders return text that the caller
 * frees, NULL when out of memory or when an integer is beyond JSON_INT_MAX; they make text and
 * numbers fit what the decoders take: control characters become blanks, text is cut to its limit
 * between characters, a loss that is not finite is sent as 1e9. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/checkpoint/manifest.h"
#include "common/dataset/dataset.h"
#include "common/json/json.h"

#define MESSAGE_SMALL_MAX   4096  /* bytes of status, commands, claims, grants, wants, acks */
#define MESSAGE_LARGE_MAX   65536 /* bytes of reports and manifests */
#define MESSAGE_BASES_MAX   8
#define MESSAGE_WANT_MAX    32
#define MESSAGE_TEXT_MAX    256
#define MESSAGE_CLASSES_MAX 512 /* per_class entries of a report; more classes: none is sent */
#define MESSAGE_WINDOW_MAX  32 /* members of a window that a trainer's status names */
#define MESSAGE_QUARANTINE_MAX 4 /* devices in quarantine that it names */
#define MESSAGE_EPSILON_MAX 1e15
#define MESSAGE_REPORTS_MAX 100 /* reports asked for by one want */

/* A checkpoint's score on one snapshot of one split. n 0: none. */
struct score {
	int64_t n, correct;
	double loss; /* mean cross-entropy */
};

/* 0..1; 0 of none. */
static inline double score_accuracy(const struct score *s)
{
	return s->n > 0 ? (double)s->correct / (double)s->n : 0;
}

struct class_score {
	int32_t class_index;
	int64_t n, correct;
};

/* device/<id>/presence, trainer/<id>/presence: retained, and the Will. */
struct msg_presence {
	bool online;
	int64_t boot; /* counts up with every start; a Will of an older boot is ignored */
};

enum phase { PHASE_IDLE, PHASE_TRAINING, PHASE_EVALUATING, PHASE_TRANSFERRING, PHASE_WAITING,
	     PHASE_PAUSED, PHASE_N };
const char *phase_name(enum phase p);

/* device/<id>/status, retained. */
struct msg_status {
	int64_t boot;
	char agent[33]; /* version */
	char model[HASH_SIZE];
	enum phase phase;
	char reason[MESSAGE_TEXT_MAX]; /* why it waits, pauses or failed; "" */
	int64_t epoch;
	int64_t report_seq; /* last report made */
	int64_t report_first; /* oldest report kept; 0: not said */
	char log[LOGID_SIZE]; /* of reports, see msg_report; "": not said */
	bool has_active;
	struct {
		char checkpoint[HASH_SIZE];
		enum origin origin;
		double accuracy; /* on the device's validation images; < 0: not known */
		bool pinned;
	} active;
	/* Beyond the fixed fields, for people who watch: */
	double progress; /* 0..1 of the present phase; < 0: not known */
	double loss, images_per_second; /* of training; NaN: none */
	char handover[17]; /* "", "offering", "granted", "pulling", "judging" */
	char trainer[ID_SIZE]; /* of the handover; "" */
	int64_t skipped_images;
	/* Of blocks, sent and received since the state folder was made; of the image files; free where the
	 * state folder is. < 0: not said. */
	int64_t moved_bytes, data_bytes, disk_free_bytes;
	/* The last line of its audit log, and that line's sha256; 0 and "": not said. */
	int64_t audit_seq;
	char audit_head[HASH_SIZE];
	int64_t at_ms;
};

/* What handovers with noise have given away (docs/security.md). */
struct msg_privacy {
	double epsilon, delta, budget; /* budget: the largest epsilon that is handed over for */
	int64_t handovers;
};

/* device/<id>/report */
struct msg_report {
	/* Numbers count within a log: a device that lost its state begins another one, at 1. */
	char log[LOGID_SIZE]; /* "": a device that names none */
	int64_t seq;
	char checkpoint[HASH_SIZE];
	/* With origin fleet: as it was offered, where rows of private outputs have been put into it; "" */
	char source[HASH_SIZE];
	enum origin origin;
	char snapshot[HASH_SIZE];
	enum split split;
	struct score score;
	struct class_score *per_class; /* owned: msg_report_done */
	size_t n_per_class;
	bool has_decision, activated; /* decision: "activated" or "kept"; absent on plain scores */
	char reason[MESSAGE_TEXT_MAX]; /* of a decision that does not follow from the scores; "" */
	bool has_against;
	char against[HASH_SIZE];
	double against_accuracy;
	char why[17]; /* the selector's word for it: "unsure", ...; "" */
	/* How the two were compared: */
	char test[17]; /* "best" (by their scores), "mcnemar"; "": not said */
	int64_t contenders; /* that could have taken the other one's place */
	bool has_pair; /* image by image: */
	int64_t won, lost; /* images that this one alone got right, that the other one alone did */
	double p; /* that two equally good ones come out so, adjusted for all contenders */
	bool has_privacy;
	struct msg_privacy privacy;
	int64_t audit_seq; /* as in msg_status, but signed where messages are */
	char audit_head[HASH_SIZE];
	int64_t epoch;
	int64_t at_ms;
};

/* device/<id>/offer: the manifest's members and: */
struct msg_offer {
	struct manifest manifest;
	char trainer[ID_SIZE]; /* `last_trainer`: the trainer it was with last; "" */
	char bases[MESSAGE_BASES_MAX][HASH_SIZE];
	size_t n_bases;
	struct score validation, test; /* the device's own scores of it */
};

/* device/<id>/in/claim. fence 0: a first claim; else a renewal under that fence. A busy one with a
 * reason says that this trainer would not take it later either, unless that reason goes. */
struct msg_claim {
	char trainer[ID_SIZE];
	char checkpoint[HASH_SIZE]; /* the one offered */
	int64_t fence;
	int64_t claim; /* the trainer's number of it, never used twice; 0: none (or busy) */
	bool busy;
	int64_t retry_ms; /* with busy: come back after so long */
	char reason[MESSAGE_TEXT_MAX]; /* with busy; "" */
	/* With busy: a base that this trainer does not have: it can take the checkpoint in another
	 * form. "": that is not why. */
	char lacks[HASH_SIZE];
	char phase[17]; /* "queued", "pulling", "training", ... */
	double progress; /* 0..1 */
	char seal[HASH_SIZE]; /* X25519 public key of the trainer's, for this handover; "": none */
	int64_t sequence; /* of the offer that it answers, where these have one; 0: none */
};

/* fleet/offer, retained: a checkpoint for everyone. The manifest's members (origin fleet; trainer: who
 * has it, and answers wants) and: */
struct msg_fleet {
	struct manifest manifest;
	int64_t share;		/* percent of the devices that may take it, see fleet_has() */
	bool halted;		/* nobody is to take it any more */
	char reason[MESSAGE_TEXT_MAX]; /* with halted */
	int64_t starts_in_ms;	/* its blocks are sent to fleet/block after that; < 0: they are not */
	int64_t spread_ms;	/* whoever lacks blocks asks at a random moment of so long a time */
	struct score test;	/* on the trainer's test images; n 0: not said */
};
#define FLEET_SPREAD_MAX_MS 3600000
/* Sequences follow the clock; one that is further ahead of it than a wrong clock can be (a device
 * may be in 1970) is nobody's, and would be the last one ever. */
#define FLEET_AHEAD_S ((int64_t)100 * 365 * 86400)
static inline bool fleet_sequence_may_be(int64_t sequence, int64_t utc_ms)
{
	return sequence <= utc_ms / 1000 + FLEET_AHEAD_S;
}
/* Whether a device is among the first `share` percent: the first 8 digits of the sha256 of
 * "<sequence> <device>", taken as a number, modulo 100, are below it. */
bool fleet_has(const char *device, int64_t sequence, int64_t share);
/* That percentile itself, 0..99. */
int64_t fleet_place(const char *device, int64_t sequence);

/* trainer/<id>/in/<device>/key: a device asks for the site key that the fleet's blocks are sealed
 * with; device/<id>/in/key: it gets it (common/trust/sitekey.h). */
#define MESSAGE_SITE_KEY 120 /* hex digits: nonce, key, tag */
struct msg_key {
	char trainer[ID_SIZE];
	int64_t sequence;     /* of the fleet's offer */
	char seal[HASH_SIZE]; /* X25519 public key of whoever sends this, made for it */
	char key[MESSAGE_SITE_KEY + 1]; /* sealed for the other one; "": it is asked for */
};

/* trainer/<id>/in/<device>/grant */
struct msg_grant {
	char checkpoint[HASH_SIZE];
	bool granted; /* false: somebody else has it, or it is over */
	int64_t fence;
	int64_t claim; /* of the claim that it answers; 0: that one had none */
	int64_t lease_ms; /* counted by the trainer from when it sent the claim */
	char reason[MESSAGE_TEXT_MAX];
	char seal[HASH_SIZE]; /* the same of the device's, for this fence; "": none */
	int64_t sequence; /* without `granted`: of what is on offer now; 0: none */
};

/* device/<id>/in/offer: the manifest's members (parents[0]: the checkpoint handed over) and: */
struct msg_result {
	struct manifest manifest;
	int64_t fence;
	struct score before, after; /* on the trainer's own test images */
	char snapshot[HASH_SIZE]; /* of those test images */
	int64_t images_trained;
	int64_t duration_ms;
};

/* .../in/want on either side: blocks of a checkpoint; to a device also reports it has made. */
struct msg_want {
	char trainer[ID_SIZE]; /* to a device: where the answer goes; "" to a trainer */
	char checkpoint[HASH_SIZE]; /* "" : reports */
	uint32_t blocks[MESSAGE_WANT_MAX];
	size_t n_blocks;
	int64_t reports_from, reports_to; /* inclusive; 0: none */
};

enum decision { DECISION_ACTIVATED, DECISION_KEPT, DECISION_REFUSED };
const char *decision_name(enum decision d);

/* .../in/ack. To a trainer: the decision on a result is stored. To a device: the trainer holds
 * the checkpoint (a base for later), or has noted that the handover under `fence` is over. */
struct msg_ack {
	char trainer[ID_SIZE]; /* to a device; "" to a trainer */
	char checkpoint[HASH_SIZE];
	int64_t fence;
	bool has_decision;
	enum decision decision;
	char reason[MESSAGE_TEXT_MAX]; /* with DECISION_REFUSED */
	/* To a trainer, all on the device: the returned checkpoint (4) and the device's own (5). */
	struct score validation, test, local_validation, local_test;
};

struct msg_quarantine {
	char device[ID_SIZE];
	int64_t since_ms, until_ms;
	char why[33];
};

/* trainer/<id>/status, retained. */
struct msg_trainer_status {
	int64_t boot;
	char version[33];
	char model[HASH_SIZE];
	int64_t queued, active, capacity, devices, handovers; /* handovers: finished, in all */
	double load; /* (queued + active) / capacity */
	char strategy[17]; /* "resume", "merge", "agnostic"; "": not said */
	int64_t refused; /* checkpoints that were screened out, in all */
	int64_t refused_messages; /* not understood, or not for it, since its start */
	/* Devices whose checkpoints wait to be merged, or are. */
	int64_t members;
	char window[MESSAGE_WINDOW_MAX][ID_SIZE]; /* the first of them */
	size_t n_window;
	/* Devices from which nothing is taken for a while, for what they sent. */
	int64_t quarantined;
	struct msg_quarantine quarantine[MESSAGE_QUARANTINE_MAX]; /* the first of them */
	size_t n_quarantine;
	int64_t audit_seq; /* as in msg_status */
	char audit_head[HASH_SIZE];
	char reason[MESSAGE_TEXT_MAX];
	int64_t at_ms;
};

/* trainer/<id>/job/<device> */
struct msg_job {
	char device[ID_SIZE], checkpoint[HASH_SIZE];
	int64_t fence;
	char phase[17];
	double progress;
	int64_t epoch, epochs;
	int64_t window; /* that it is merged in; 0: none */
	double loss, images_per_second; /* NaN: none */
	struct score before, after;
	int64_t at_ms;
};

enum cmd { CMD_PING, CMD_STATUS, CMD_TRAIN, CMD_HANDOVER, CMD_PAUSE, CMD_RESUME, CMD_PIN, CMD_UNPIN,
	   CMD_ROLLBACK, CMD_EVALUATE, CMD_SET, CMD_N };
const char *cmd_name(enum cmd c);

/* device/<id>/in/cmd, fleet/cmd */
struct msg_cmd {
	enum cmd cmd;
	char id[ID_SIZE];
	int64_t expires_ms; /* 0: never; compared with the clock by the caller */
	char checkpoint[HASH_SIZE]; /* pin (a whole id); evaluate: optional; "" */
	char key[65], value[MESSAGE_TEXT_MAX]; /* set */
	int64_t epochs; /* train: 0: one round */
	enum split split; /* evaluate; SPLIT_VALIDATION unless given */
};

char *msg_presence_print(const struct msg_presence *m);
int msg_presence_parse(const void *p, size_t len, struct msg_presence *ret, struct err *err);
char *msg_status_print(const struct msg_status *m);
/* The same as a tree, for the answer to the command `status`. */
struct json *msg_status_json(const struct msg_status *m);
int msg_status_parse(const void *p, size_t len, struct msg_status *ret, struct err *err);
char *msg_report_print(const struct msg_report *m);
int msg_report_parse(const void *p, size_t len, struct msg_report *ret, struct err *err);
void msg_report_done(struct msg_report *m);
char *msg_offer_print(const struct msg_offer *m);
int msg_offer_parse(const void *p, size_t len, struct msg_offer *ret, struct err *err);
char *msg_fleet_print(const struct msg_fleet *m);
int msg_fleet_parse(const void *p, size_t len, struct msg_fleet *ret, struct err *err);
char *msg_key_print(const struct msg_key *m);
int msg_key_parse(const void *p, size_t len, struct msg_key *ret, struct err *err);
char *msg_claim_print(const struct msg_claim *m);
int msg_claim_parse(const void *p, size_t len, struct msg_claim *ret, struct err *err);
char *msg_grant_print(const struct msg_grant *m);
int msg_grant_parse(const void *p, size_t len, struct msg_grant *ret, struct err *err);
char *msg_result_print(const struct msg_result *m);
int msg_result_parse(const void *p, size_t len, struct msg_result *ret, struct err *err);
char *msg_want_print(const struct msg_want *m);
int msg_want_parse(const void *p, size_t len, struct msg_want *ret, struct err *err);
char *msg_ack_print(const struct msg_ack *m);
int msg_ack_parse(const void *p, size_t len, struct msg_ack *ret, struct err *err);
char *msg_trainer_status_print(const struct msg_trainer_status *m);
int msg_trainer_status_parse(const void *p, size_t len, struct msg_trainer_status *ret,
			     struct err *err);
char *msg_job_print(const struct msg_job *m);
int msg_job_parse(const void *p, size_t len, struct msg_job *ret, struct err *err);
char *msg_cmd_print(const struct msg_cmd *m);
/* Where the text is JSON with a usable `id`, that id is put into `ret_id` even when the rest is
 * refused, so that the refusal can be answered; else "". */
int msg_cmd_parse(const void *p, size_t len, struct msg_cmd *ret, char ret_id[ID_SIZE],
		  struct err *err);
/* Answers: {id, ok, error?, ...}; `extra` (may be NULL) is taken, its members are merged in. An id
 * of "" or NULL (the request had no usable one) is sent as null. */
char *msg_reply_print(const char *id, const char *error, struct json *extra);

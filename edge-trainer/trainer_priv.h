/* What the files of the trainer share; nobody else includes it.
 *
 *   trainer.c   life, routing of messages, the tick, what is published about the trainer
 *   offers.c    offers, grants, acks: from the wire to job events
 *   perform.c   job actions: from job_step() to the wire, the database, the workers
 *   pull.c      blocks in both directions
 *   keys.c      keys of handovers' blocks
 *   slots.c     workers and what they answer
 *   fleet.c     a checkpoint for everyone: offer, rollout, blocks; fleet_file.c: what is kept of it,
 *               site_key.c: what it is sealed with
 *   vouched.c   who signed what comes in, and whether it is of now
 *   coding.c    the forms in which checkpoints come in and go out
 *   merge.c     windows: whose checkpoints become one, and who gets what is made of it
 *   devices.c   the table of devices: who is noted, who is heard, who is barred
 *   screening.c what is not even trained on, and quarantine
 *   record.c    what the audit log says
 *   reports.c   what devices say of themselves, and their reports
 *   disk.c      what is kept on disk
 *   figures.c   what Prometheus is told */
#pragma once

#include "common/audit/audit.h"
#include "common/base/bucket.h"
#include "common/base/rng.h"
#include "common/checkpoint/store.h"
#include "common/protocol/message.h"
#include "common/protocol/topic.h"
#include "common/transfer/part.h"
#include "common/transfer/sealing.h"
#include "common/transfer/serve.h"
#include "common/trust/trust.h"
#include "edge-trainer/db.h"
#include "edge-trainer/idmap.h"
#include "edge-trainer/job.h"
#include "edge-trainer/queue.h"
#include "edge-trainer/quota.h"
#include "edge-trainer/screen.h"
#include "edge-trainer/standing.h"
#include "edge-trainer/trainer.h"

#define FLUSH_MS	  50   /* reports and statuses gather for so long before a commit */
#define TICK_MS		  1000 /* jobs' progress, trainer status, gaps */
#define FLUSH_RETRY_MS	  5000 /* after a commit that failed */
#define COLLECT_MS	  (60 * 1000)
#define MESSAGE_EXPIRY_S  60 /* of results, wants and acks at the broker */
#define BUSY_NO_WORKER_MS 30000
#define BUSY_NO_DISK_MS	  60000
#define BUSY_GIVE_BACK_MS 30000
/* Who was told to wait and did not come back for so long begins to wait anew. */
#define WAITS_MAX_MS	  ((int64_t)2 * QUEUE_RETRY_MAX_MS)
#define WAITS_GRACE_MS	  30000 /* an offer in line is repeated no later than so long after its time */
/* A device whose offers cannot be taken, as those of another model: doubling while that goes on. */
#define UNFIT_FIRST_MS	  60000
#define UNFIT_CAP_MS	  ((int64_t)QUEUE_RETRY_MAX_MS)
/* One that promised and gave nothing is not taken on for so long: doubling each time, forgiven with
 * the next checkpoint that comes whole. */
#define BAR_FIRST_MS	  ((int64_t)10000)
#define BAR_CAP_MS	  ((int64_t)3600 * 1000)
#define BAR_STRIKES_MAX	  10
#define LAPSED_MAX	  256 /* lapsed jobs that are kept; those of unproven devices go first */
#define KILLED_MAX	  2 /* a device's payload that ends so many workers is bad, whatever it is */
#define GAP_FIRST_MS	  2000
#define GAP_CAP_MS	  60000
#define GAP_TRIES_MAX	  12	/* unanswered: those reports are given up */
#define GAP_AWAY_MS	  (5 * 60 * 1000) /* between two wishes to a device that is said to be away */
#define RESULT_AWAY_PART  8 /* of a result's offers to such a device, one in so many goes out */
#define GAP_ASKS_PER_TICK 20 /* devices: a fleet that was away does not answer all at once */
#define GAP_KEPT	  11000 /* a device keeps no more reports than these */

/* What a device says, each with a rate of its own; blocks and wants are bounded by the transfer. */
enum say { SAY_REPORT, SAY_OFFER, SAY_OTHER, SAY_FORGED, SAY_N };
extern const struct bucket_limit device_rates[SAY_N];

struct device {
	struct idmap_node node;
	char id[ID_SIZE];
	struct device *older, *newer; /* by when it was heard; see trainer.by_age */
	bool gone; /* no longer in the table */
	bool presence_known, online;
	int64_t boot, seen_ms;
	int64_t handovers; /* completed */
	double weight, error; /* as in struct mixture_member */

	/* Reports: log_known once its status, its row or a report named the log. */
	bool log_known;
	char log[LOGID_SIZE];
	int64_t report_seq, report_have, report_first;
	/* Reports that are asked for. */
	bool has_gap, gap_away; /* gap_away: it is away, and is asked when gap_at_ms has come */
	struct device *next_gap;
	unsigned gap_tries;
	int64_t gap_at_ms, gap_to;

	/* To be written with the next commit. */
	bool dirty;
	struct device *next_dirty;
	char *status; /* JSON, owned */
	/* Of its audit log: the last head that ours has a line of, and when that was; 0: none yet. */
	int64_t head_seq, head_at_ms;
	uint64_t batch; /* the transaction that its row was last part of */

	/* An offer that found no room. */
	struct waiting_offer *waiting; /* in line; owned; NULL: it is not */
	bool waits; /* since waits_since_ms, and was told so at waits_told_ms */
	int64_t waits_since_ms, waits_told_ms, sent_away;

	struct entry *jobs;
	struct bucket said[SAY_N], lines;
	uint64_t n_refused; /* offers and messages that were not understood or not for us */
	uint64_t unlogged; /* of those, since the last line */
	unsigned strikes, n_unfit;
	unsigned n_killed; /* workers that ended over what it sent, in a row */
	int64_t barred_until_ms;
	struct standing standing;
	bool has_first; /* the first weights, by its last offer */
	char bad_checkpoint[HASH_SIZE]; /* the last one that was pulled and no good to train on */
};

struct waiting_offer {
	struct manifest manifest;
	struct score validation;
};

struct device_list {
	struct device *oldest, *newest;
};

static inline bool device_is_proven(const struct device *d)
{
	return d->handovers > 0;
}

/* A job and what belongs to it at run time. */
struct entry {
	struct job job;
	struct device *device;
	struct entry *next_of_device;
	struct entry *prev, *next; /* all entries */

	bool pulling; /* part is open */
	struct part part;
	struct { /* what was pulled */
		bool due; /* a worker decodes it, or it waits for one that does */
		char payload[FILE_PATH_MAX];
	} decoding;
	int slot;    /* -1: none */
	int64_t run; /* row of the open run */
	int64_t slot_since_ms;
	struct worker_progress progress; /* of the request in hand */
	double loss, images_per_second; /* of the last epoch; NaN: none */

	unsigned n_away; /* offers of the result that were due while the device was said to be away */
	struct { /* the result, in the form in which it travels */
		char checkpoint[HASH_SIZE], payload[HASH_SIZE]; /* "": not looked at */
		int64_t size;
	} sending;
	struct serve wanted; /* blocks of it that the device asked for */
	struct proof proof;  /* of them, where there is an identity */
	struct sealed_memo seal_key;
	char numbered[HASH_SIZE]; /* the result that `sequence` is of; "": none in this run */
	int64_t sequence;

	/* What performing an action led to; handled after the actions. */
	enum job_event_kind followup; /* JOB_E_N: none */
	char followup_reason[MESSAGE_TEXT_MAX];
	struct score followup_score;
	char followup_hash[HASH_SIZE];
	bool superseding;

	/* Screening and merging. */
	double delta; /* from what its device had last (screen.h); < 0: not known */
	double *norms; /* of its checkpoint's tensors, owned; NULL: not looked at yet */
	double share;  /* of the members' part of the window that it was taken into */
};

enum slot_op { SLOT_IDLE, SLOT_EVALUATE, SLOT_ENCODE, SLOT_TRAIN, SLOT_MERGE, SLOT_RESCAN };

struct slot {
	bool ready, failed_open;
	const char *why; /* it failed to open, for others; NULL */
	struct worker_ready data;
	struct entry *entry; /* whose it is; NULL: nobody's, also while a stopped request runs out */
	enum slot_op op;
	uint64_t request; /* unanswered; 0: none */
	char out[FILE_PATH_MAX];
	char base[HASH_SIZE]; /* SLOT_ENCODE: that it may be the difference to; "": none */
	struct { /* beside it: one payload at a time */
		uint64_t request; /* unanswered; 0: none */
		struct entry *entry; /* whose it is; NULL: nobody's any more */
	} decode;
	int64_t rescan_at_ms;
};

struct merge {
	struct window window;	 /* those that gather now */
	struct manifest lineage; /* the last merged result; id "": none, or no longer here */
	double *usual;		 /* norms of its tensors, owned; NULL: not known */
	int64_t failed;		 /* a window that came to nothing, until its members know; 0 */
	char reason[MESSAGE_TEXT_MAX];
};

struct fleet;

struct trainer {
	const struct trainer_conf *conf;
	const struct model *model;
	struct trainer_ports ports;
	struct trust *trust; /* NULL: plain */
	struct bucket forged; /* verifications in vain */
	struct bucket fleet_offers; /* of other trainers, looked at */
	struct job_conf job_conf;
	struct db *db;
	struct store *store;
	struct audit *audit;
	struct audit_source heard; /* the message at hand, where it was signed */
	bool audit_failed;
	struct queue queue;
	struct idmap devices;
	size_t devices_max;
	struct device_list by_age[2]; /* unproven, proven */
	struct device *dirty, *gaps;
	uint64_t batch; /* counts commits, good or bad */
	struct entry *entries;
	unsigned n_entries;
	struct device own; /* of a window's job, which is of no device */
	struct merge merge;
	struct fleet *fleet;
	struct seal *seal; /* NULL: there is no identity, and nothing is sealed */
	struct {
		char first[HASH_SIZE]; /* the first weights; "": not there (yet) */
		uint64_t first_request;
		unsigned first_slot;
	} coding;
	struct slot slots[TRAINER_SLOTS_MAX];
	struct rng rng;
	int64_t boot, handovers, screened;
	int64_t last_claim; /* its number: the boot's, and a count from a random one */
	bool up, was_up, stopping, blocks_stalled;
	uint32_t n_pulling; /* entries with an open part */
	int64_t flush_at_ms, second_at_ms, collect_at_ms; /* -1: not due */
	struct msg_trainer_status published;
	const char *reason; /* what is wrong, for the status: without details; NULL */
	char fault[ERR_TEXT_MAX]; /* with them, as logged last */
	/* Checkpoints in the store that no open job names, as last counted. */
	int64_t n_history, n_unknown;
	bool disk_full; /* the last job that asked found no room within the limit */
	uint64_t n_refused; /* messages that were not understood or not for us, of all devices */
	/* Since the start, for figures.c. */
	uint64_t n_busy, n_worker_deaths, n_epochs, n_images, n_reports, moved_in_bytes, moved_out_bytes;
	struct score last_before, last_after; /* of a job; n 0: none yet */
	char incoming[FILE_PATH_MAX];
};

static inline int64_t trainer_now(const struct trainer *t)
{
	return t->ports.mono_ms(t->ports.user);
}

static inline int64_t trainer_utc(const struct trainer *t)
{
	return t->ports.real_ms(t->ports.user);
}

/* trainer.c: publishes `text` (taken; NULL: out of memory) on the topic of kind, to `device`. */
int trainer_send(struct trainer *t, enum topic_kind kind, const char *device, char *text,
		 bool retain, uint32_t expiry_s);
/* Logs, once while it is the same, and the status says it until a commit succeeds. */
void trainer_fault(struct trainer *t, const struct err *err);
bool trainer_commit(struct trainer *t);
void trainer_describe(struct trainer *t, struct msg_trainer_status *ret);

/* perform.c: runs the event through the job and does what it says. The entry may be gone
 * afterwards: false. */
bool entry_event(struct trainer *t, struct entry *e, const struct job_event *ev);
bool entry_event_kind(struct trainer *t, struct entry *e, enum job_event_kind kind);
/* Handles a followup that was left outside of an event; false as above. */
bool entry_settle(struct trainer *t, struct entry *e);
void entry_followup(struct entry *e, enum job_event_kind kind, const char *reason);
void entry_perform(struct trainer *t, struct entry *e, const struct job_actions *actions);
void entry_report(struct trainer *t, struct entry *e); /* publishes job/<device> */
struct entry *entry_new(struct trainer *t, struct device *d);
void entry_free(struct trainer *t, struct entry *e);
struct entry *entry_find(const struct device *d, const char *checkpoint);
double entry_progress(const struct entry *e);
/* Of a result on offer: how it travels. False: it is not there. */
bool entry_sending(struct trainer *t, struct entry *e);
void entry_result(const struct trainer *t, const struct entry *e, struct manifest *ret);

static inline bool entry_is_merged(const struct entry *e)
{
	return job_is_merged(&e->job);
}
/* The job that works for it: its own, or its window's. */
const struct entry *entry_worker(const struct trainer *t, const struct entry *e);

/* merge.c */
/* Does what is due by the state of all jobs: opens and closes windows, starts, ends and delivers
 * their work. Entries may be gone afterwards. */
void merge_run(struct trainer *t);
int64_t merge_next_ms(const struct trainer *t); /* -1: nothing is due by time */
struct entry *merge_entry(const struct trainer *t); /* the window that is worked on; NULL */
/* What is to be merged now, and how, into a request's arguments; how many. Of a single one `id` is set. */
int merge_inputs(struct trainer *t, const struct entry *e, struct json *args, char id[HASH_SIZE]);
/* What the window's checkpoints were merged to has this score. */
void merge_scored(const struct trainer *t, const struct entry *merged, const struct score *score);
void merge_done(struct trainer *t, const struct entry *e); /* a window's job has ended */
void merge_acknowledged(struct trainer *t, const struct entry *e);
void merge_report(struct trainer *t); /* publishes job/<device> of each member */
void merge_describe(const struct trainer *t, struct msg_trainer_status *m);
int merge_load(struct trainer *t, struct err *err);
void merge_free(struct trainer *t);

/* offers.c */
/* Tells the device to come back later; reason: "", or why that is of no use for now. fence: of the
 * grant that is given back, or 0. */
void offers_busy(struct trainer *t, const struct device *d, const char *checkpoint, int64_t fence,
		 int64_t retry_ms, const char *reason);
/* The same to be asked again at once, in another form. */
void offers_lacks(struct trainer *t, const struct device *d, const struct manifest *m, int64_t fence);
/* Takes in whose turn it is, as far as there is room. Entries may be gone afterwards. */
void offers_next(struct trainer *t);
void offers_forget(struct trainer *t, struct device *d); /* it is no longer in line */
void offers_offer(struct trainer *t, const struct topic *topic, const struct mqtt_message *m);
void offers_grant(struct trainer *t, const struct topic *topic, const struct mqtt_message *m);
void offers_ack(struct trainer *t, const struct topic *topic, const struct mqtt_message *m);

/* pull.c */
void pull_begin(struct trainer *t, struct entry *e);
/* Whether the checkpoint is here, and need not be sent by this device. */
bool pull_has_proven(struct trainer *t, const struct device *d, const char *id);
void pull_end(struct trainer *t, struct entry *e); /* keeps the part file */
void pull_forget(struct trainer *t, struct entry *e); /* removes it */
/* What coding_decode_job() led to. */
void pull_decoded(struct trainer *t, struct entry *e, const char *weights, const struct err *failed);
void pull_block(struct trainer *t, const struct topic *topic, const struct mqtt_message *m);
void pull_tick(struct trainer *t, struct entry *e, int64_t now_ms);
void pull_restart(struct trainer *t, struct entry *e);
void pull_want(struct trainer *t, const struct topic *topic, const struct mqtt_message *m);
void pull_serve(struct trainer *t); /* blocks that wait to be sent */
void pull_clean(struct trainer *t); /* at start: part files of jobs that are gone */
/* Sends block to->block of a file; seal to m as sealing_read_block() has them. 0; -EAGAIN: the
 * connection is full; other errors: it cannot be read, and is left out. */
int pull_send(struct trainer *t, const struct topic *to, struct seal *seal, const uint8_t *key,
	      struct proof *proof, const char *path, const struct manifest *m, int qos,
	      uint32_t expiry_s, uint32_t *ret_len);
bool pull_there(const struct trainer *t, const struct entry *e); /* blocks of it are on disk */

/* keys.c: all of it does nothing without an identity. */
/* The database has them: it is nobody else's to read. SQLite gives the files beside it the same mode. */
int keys_protect(const char *db, struct err *err);
/* A pair for a job that has none. */
int keys_begin(struct trainer *t, struct job *j, struct err *err);
void keys_claim(const struct trainer *t, const struct entry *e, struct msg_claim *c);
/* Whether keys can be agreed on with this grant; err says why not. */
bool keys_grant(struct trainer *t, const struct msg_grant *g, struct err *err);
/* Of the transfer that is on; NULL: not known. */
const uint8_t *keys_transfer(struct trainer *t, struct entry *e, const char *payload, bool to_device);

/* fleet.c */
int fleet_load(struct trainer *t, struct err *err);
void fleet_done(struct trainer *t);
void fleet_connected(struct trainer *t);
/* An offer, ours or another's; by: who signed it. */
void fleet_heard(struct trainer *t, const struct mqtt_message *msg, const char *by);
bool fleet_want(struct trainer *t, const struct device *d, const struct msg_want *w);
/* A report that is new. */
void fleet_report(struct trainer *t, const struct device *d, const struct msg_report *r);
void site_key_wanted(struct trainer *t, const struct topic *topic, const struct mqtt_message *m);
/* A window's result: id, epoch and images_seen of its manifest, and its score here. */
void fleet_merged(struct trainer *t, const struct manifest *m, const struct score *test);
void fleet_serve(struct trainer *t); /* blocks that are due */
void fleet_writable(struct trainer *t);
int64_t fleet_next_ms(const struct trainer *t); /* -1: nothing is due by time */
void fleet_second(struct trainer *t);
bool fleet_keeps(const struct trainer *t, const char *id); /* it is on offer */
bool fleet_has_one(const struct trainer *t);

/* slots.c */
void slots_assign(struct trainer *t);
void slots_evaluate(struct trainer *t, struct entry *e);
void slots_train(struct trainer *t, struct entry *e);
void slots_merge(struct trainer *t, struct entry *e);
void slots_extend(struct trainer *t, const struct entry *e); /* its lease was renewed */
void slots_release(struct trainer *t, struct entry *e, const char *why);
void slots_rescan(struct trainer *t, int64_t now_ms);
bool slots_usable(const struct trainer *t); /* at least one has, or will have, a worker */

/* coding.c */
bool coding_codes(const struct trainer *t); /* by the configuration */
/* Whether what a manifest's form is a difference to is here. */
bool coding_base_here(struct trainer *t, const struct device *d, const struct manifest *m);
void coding_note_bases(const struct trainer *t, struct device *d, const struct msg_offer *o);
void coding_ask_first(struct trainer *t, unsigned slot);
/* Has the payload decoded as soon as there is a worker for it; pull_decoded() follows. -ENOKEY: the
 * base is gone. */
int coding_decode_job(struct trainer *t, struct entry *e, const char *payload, struct err *err);
void coding_next(struct trainer *t); /* those that wait for a worker; entries may be gone afterwards */
void coding_rest(struct trainer *t, struct entry *e); /* it waits no longer */
void coding_forget(struct trainer *t, struct entry *e); /* what is decoded is not needed any more */
/* A worker's answer: false: to something else. */
bool coding_reply(struct trainer *t, unsigned slot, uint64_t request, const struct err *failed);
/* Whether the result is to be coded before it is scored. */
bool coding_is_due(const struct trainer *t, const struct entry *e);
/* Of the request to do so. */
int coding_args(struct trainer *t, struct entry *e, const char *decoded, struct json *args,
		struct err *err);
/* What came of it is kept: ret is the result's id now. */
int coding_keep(struct trainer *t, struct entry *e, const char *decoded, const struct json *result,
		char ret[HASH_SIZE], struct err *err);

/* devices.c */
struct device *device_find(const struct trainer *t, const char *id);
/* The same, noted if it is not known: only for who has said something that was understood. NULL: too
 * many that have jobs, or no memory. */
struct device *device_get(struct trainer *t, const char *id);
void devices_free(struct trainer *t);
void device_release(struct device *d); /* after it left a list: frees it if it is gone, too */
void device_touch(struct trainer *t, struct device *d); /* its row is to be written */
void device_seen(struct trainer *t, struct device *d); /* the same: it was heard just now */
void device_restore(struct trainer *t, struct device *d, int64_t handovers);
void device_completed(struct trainer *t, struct device *d); /* a handover */
/* Counts it, and logs it unless there was much of that lately. */
void device_complain(struct trainer *t, struct device *d, const char *what, const char *why);
/* The same without a line: nothing that anybody need look at. */
void device_count_refused(struct trainer *t, struct device *d);
/* The same for whoever sent it, known or not. */
void device_not_understood(struct trainer *t, const char *id, const char *what, const char *why);
/* Whether this is to be looked at: it keeps to its rate. device_said() counts it, once it is surely
 * the device's. */
bool device_heed(struct trainer *t, struct device *d, enum say what);
void device_said(struct device *d, enum say what);
void device_bar(struct trainer *t, struct device *d);

/* vouched.c */
/* Whether the message may be decoded: it is of a kind that nobody signs, or signed by who must have
 * written it. d: the device of its topic; NULL: not known. by: who; "": nobody. */
bool vouched_open(struct trainer *t, const struct topic *topic, struct device *d,
		  const struct mqtt_message *m, char by[ID_SIZE]);
/* Whether an offer is of now, and meant for here. */
bool vouched_offer(struct trainer *t, struct device *d, struct manifest *m);
/* From here on nothing older of that device is. */
void vouched_accepted(struct trainer *t, struct device *d, const struct manifest *m);
/* Nor this one again. */
void vouched_over(struct trainer *t, struct device *d, const char *checkpoint);
/* The same of an offer to the fleet that another trainer signed. */
bool vouched_fleet(struct trainer *t, struct manifest *m, const char *by);
/* A result's number, kept, and its end; false: it cannot be kept. */
bool vouched_number(struct trainer *t, struct entry *e, struct manifest *m);
void vouched_watch(struct trainer *t); /* its own certificate ends: says so in time */

/* disk.c */
int disk_check(const struct trainer *t, struct err *err); /* at start: the limit is enough for one */
/* Whether there is room for one more job within the limit; makes it, if something may go. */
bool disk_admit(struct trainer *t);
bool disk_has_fleet_room(const struct trainer *t); /* beside a handover's */
/* Removes a checkpoint, unless a job or the fleet has it, or the database knows it. */
int disk_forget(struct trainer *t, const char *id, struct err *err);
void disk_collect(struct trainer *t, int64_t now_ms);
void disk_describe(const struct trainer *t, char *buf, size_t size); /* why it is full; "" */

/* screening.c */
/* Of a checkpoint in the store, for each tensor; NULL: it could not be read. The caller's. */
double *screening_norms(const struct trainer *t, const char *id);
/* Of what came in, by itself. */
enum screen_verdict screening_weights(struct trainer *t, struct entry *e);
/* Whether it is to be evaluated with a confusion matrix; and what that says. */
bool screening_wants_answers(const struct trainer *t, const struct entry *e);
enum screen_verdict screening_answers(const struct trainer *t, const struct json *result);
/* Counted and logged: JOB_E_SCREENED with that reason is to follow. score: just taken, or NULL. */
void screening_note(struct trainer *t, struct entry *e, enum screen_verdict why,
		    const struct score *score, char reason[MESSAGE_TEXT_MAX]);
/* The same, and it follows at once: the entry is gone afterwards. */
void screening_out(struct trainer *t, struct entry *e, enum screen_verdict why,
		   const struct score *score);
/* What the device itself sent was bad. */
void screening_refused(struct trainer *t, struct device *d, const char *why);
/* How long it is in quarantine, with the reason for it; 0: it is not. */
int64_t screening_left_ms(const struct trainer *t, const struct device *d, char *buf, size_t size);
void screening_completed(struct trainer *t, struct entry *e); /* a handover, with a decision */
void screening_second(struct trainer *t); /* whom an operator releases */
void screening_describe(struct trainer *t, struct msg_trainer_status *m);
int screening_load(struct trainer *t, struct err *err);

/* record.c */
#define HEAD_EVERY_MS (10 * 60 * 1000) /* between two lines about one device's head */
/* A line of the audit log: by this trainer unless e says who, and because of the message at hand. */
void record_say(struct trainer *t, const struct audit_event *e);
/* A job's step, from that state and fence. */
void record_job(struct trainer *t, const struct entry *e, enum job_event_kind ev,
		enum job_state was, int64_t fence_was);
/* What the message at hand, the device's, says of its own log; seq 0: nothing. Where messages are
 * signed, only one that is counts. */
void record_head(struct trainer *t, struct device *d, int64_t seq, const char *hash);

/* reports.c */
void reports_presence(struct trainer *t, const struct topic *topic, const struct mqtt_message *m);
void reports_status(struct trainer *t, const struct topic *topic, const struct mqtt_message *m);
void reports_report(struct trainer *t, const struct topic *topic, const struct mqtt_message *m);
void reports_ask(struct trainer *t, int64_t now_ms);
void reports_flush(struct trainer *t);
int reports_load(struct trainer *t, struct err *err);
void reports_undone(struct trainer *t); /* the last transaction came to nothing */

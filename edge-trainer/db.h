/* The trainer's memory: devices, reports, checkpoints, jobs and runs, in SQLite (WAL,
 * synchronous=FULL). The only door to SQLite.
 *
 * Writes gather in one open transaction until db_commit(), which is durable when it returns;
 * whoever tells another machine of something commits first. What was not committed is lost with
 * the process, and must be of a kind that is asked for again (reports) or made again (an epoch).
 *
 * All functions: 0 or a negative errno (-EIO, -ENOSPC, -EUCLEAN: damaged, -EPROTO: a row that this
 * version cannot read) with err naming the file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/protocol/message.h"
#include "common/trust/freshness.h"
#include "edge-trainer/job.h"
#include "edge-trainer/standing.h"

#define DB_SCHEMA_VERSION 7
#define DB_JOBS_MAX       100000             /* that are over, with their runs; the oldest go */
#define DB_BYTES_MAX      ((int64_t)1 << 30) /* then the oldest reports go */
#define DB_PRUNE_ROWS     1000 /* reports, and jobs, that one db_prune() takes away at most */

struct db;

/* Makes the file if need be and brings an older schema up to date; a newer one is refused
 * (-EPROTO). */
int db_open(const char *path, struct db **ret, struct err *err);
/* Commits what is open. NULL allowed. */
void db_free(struct db *db);
static inline void db_freep(struct db **db)
{
	db_free(*db);
}

bool db_is_dirty(const struct db *db); /* something waits for db_commit */
/* On failure everything since the last commit is undone; so it is where SQLite took a part of it
 * back by itself, as on a full disk: then this fails, too. */
int db_commit(struct db *db, struct err *err);

/* Counts up with every call, from 1: "boot", with every start, or "window". It stands only once
 * db_commit() succeeded. */
int db_next(struct db *db, const char *what, int64_t *ret, struct err *err);

/* --- devices --- */

struct db_device {
	char id[ID_SIZE];
	const char *status; /* JSON of the last one; borrowed; NULL: leave what is there */
	int64_t boot;
	bool online;
	int64_t report_seq;   /* highest number known to be made */
	int64_t report_have;  /* all up to this one are here, or cannot be had */
	int64_t seen_ms;      /* UTC */
	char log[LOGID_SIZE]; /* of reports: the one that report_seq and report_have are about */
	int64_t handovers;    /* completed */
	double weight, error; /* as in struct mixture_member; error < 0: none */
};

int db_device_put(struct db *db, const struct db_device *d, struct err *err);
/* The one that was seen last comes last. */
int db_device_each(struct db *db, int (*each)(void *user, const struct db_device *d), void *user,
		   struct err *err);

int db_device_forget(struct db *db, const char *device, struct err *err); /* its reports stay */

/* How it stands; kept also where the device is forgotten, as long as it says something. Not there:
 * as zeroed, with delta -1. */
int db_standing_get(struct db *db, const char *device, struct standing *ret, struct err *err);
int db_standing_put(struct db *db, const char *device, const struct standing *s, struct err *err);
/* Of devices that are forgotten: whose last quarantine was over by then. */
int db_standing_prune(struct db *db, int64_t before_ms, struct err *err);

/* --- what keeps messages from being played again; only where they are signed --- */

/* The device's last offer that was accepted; sequence 0: none yet. It stays when the device is
 * forgotten. */
int db_offer_get(struct db *db, const char *device, struct freshness_last *ret, struct err *err);
int db_offer_put(struct db *db, const char *device, const struct freshness_last *last,
		 struct err *err);
/* That nothing comes of it any more, if it is of that checkpoint. */
int db_offer_over(struct db *db, const char *device, const char *checkpoint, struct err *err);
/* The number of the next message of its own, as freshness_next()'s. */
int db_sequence(struct db *db, int64_t now_ms, int64_t *ret, struct err *err);

/* --- reports --- */

/* A second report of the same (device, log, seq) changes nothing; *ret_new tells. */
int db_report_put(struct db *db, const char *device, const struct msg_report *r,
		  int64_t received_ms, bool *ret_new, struct err *err);
/* What is missing first among have+1..upto: *ret_have becomes the number before it, *ret_from and
 * *ret_to its ends (at most `most` numbers); both 0 when nothing is missing. */
int db_report_gap(struct db *db, const char *device, const char *log, int64_t have, int64_t upto,
		  int64_t most, int64_t *ret_have, int64_t *ret_from, int64_t *ret_to,
		  struct err *err);

/* --- jobs and their checkpoints --- */

/* Inserts (id 0; sets it) or updates, with the checkpoint's manifest. A new id stands only once
 * db_commit() succeeded. */
int db_job_put(struct db *db, struct job *j, int64_t now_ms, struct err *err);
/* Whether that checkpoint has come from this device, or was made for it. */
int db_job_shared(struct db *db, const char *device, const char *checkpoint, bool *ret,
		  struct err *err);
/* Whether all blocks of that checkpoint have come from this device, ever. */
int db_job_sent(struct db *db, const char *device, const char *checkpoint, bool *ret,
		struct err *err);
/* What the device's last handover with a decision began from, and came to; "": none. */
int db_job_last(struct db *db, const char *device, char ret_checkpoint[HASH_SIZE],
		char ret_result[HASH_SIZE], struct err *err);
/* Jobs that are not done, oldest first; `j` is the callee's to copy. */
int db_job_each(struct db *db, int (*each)(void *user, const struct job *j), void *user,
		struct err *err);
/* Grants since `since_ms`, by device, for the hourly limit. */
int db_job_served(struct db *db, int64_t since_ms,
		  int (*each)(void *user, const char *device, int64_t n), void *user,
		  struct err *err);
/* Jobs that ended with a decision, and those that were screened out, ever. */
int db_job_finished(struct db *db, int64_t *ret, int64_t *ret_screened, struct err *err);
/* The last result that windows came to; ret->id "": none. */
int db_job_lineage(struct db *db, struct manifest *ret, struct err *err);
/* Something that was made for this device. */
int db_checkpoint_put(struct db *db, const char *device, const struct manifest *m, int64_t now_ms,
		      struct err *err);
/* Whether that id was ever handed over or made, as far as rows go back. */
int db_checkpoint_known(struct db *db, const char *id, bool *ret, struct err *err);
/* Checkpoints (handed over and made) of jobs that are open or were touched since `since_ms`: those
 * of open ones first, then the newest first; *ret is the caller's. */
int db_checkpoint_kept(struct db *db, int64_t since_ms, char (**ret)[HASH_SIZE], size_t *ret_n,
		       struct err *err);
/* Forgets checkpoints' manifests that no such job names. */
int db_checkpoint_forget(struct db *db, int64_t since_ms, struct err *err);

/* --- runs: uninterrupted stretches of training under one fence --- */

/* until_mono_ms: the lease's deadline: training cannot have gone on beyond it, whatever became of
 * this process. */
int db_run_open(struct db *db, const struct job *j, int64_t now_ms, int64_t mono_ms,
		int64_t until_mono_ms, int64_t *ret_run, struct err *err);
int db_run_extend(struct db *db, int64_t run, int64_t until_mono_ms, struct err *err);
int db_run_close(struct db *db, int64_t run, int64_t now_ms, int64_t mono_ms, const char *why,
		 struct err *err);
/* Closes what a killed process left open, at its deadline or now, whichever is earlier. */
int db_run_recover(struct db *db, int64_t now_ms, int64_t mono_ms, struct err *err);

/* --- what is no longer kept --- */

struct db_limits {
	int64_t before_ms; /* jobs and reports that are older go (UTC) */
	int64_t jobs_max;  /* that are over */
	int64_t bytes_max; /* of the whole database */
};

/* Takes away some of what is beyond the limits, oldest first, and says how many rows: call again
 * until it is 0. Runs go with their jobs. For the sake of bytes only reports go, those of devices
 * without a handover first. */
int db_prune(struct db *db, const struct db_limits *limits, int64_t *ret_n, struct err *err);
/* What the database takes on disk, but for pages that are free in it. */
int db_bytes(struct db *db, int64_t *ret, struct err *err);

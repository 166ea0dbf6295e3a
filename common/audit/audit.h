/* The audit log: who did what and when, as lines of JSON, each of which holds the sha256 of the
 * line before it (docs/protocol.md, "The audit log", has the exact bytes). So nothing can be
 * changed, taken out or put in without every line after it being rewritten; and whoever heard the
 * newest line's number and hash, the head, sees that, too.
 *
 * A folder holds `audit.log`, and the files before it under `audit.log.` and the number of their
 * first line, 12 digits. The chain goes on from file to file, over restarts.
 *
 * When it is on disk. A line is written at once, so that a process that is killed loses none;
 * audit_sync() makes it last through a power cut, and is called before the head is told to
 * anybody, and before an activation: there is never one that the log does not know of, while the
 * log may know of one that a crash kept from happening (the start then does it, and says so again).
 *
 * A log that cannot be written (a full disk) stops nobody's work: what is missing is counted and,
 * as soon as it can be, said in the log itself. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/id.h"
#include "common/json/json.h"

#define AUDIT_FILE	 "audit.log"
#define AUDIT_FILE_BYTES (4 * 1024 * 1024) /* then another one is begun */
#define AUDIT_FILES_KEPT 7		   /* beside it; the oldest go */
#define AUDIT_LINE_MAX	 4096		   /* bytes of a line, without its newline */
#define AUDIT_SEQ_MAX	 (JSON_INT_MAX / 2)	   /* of a line; so there is always a next one */
#define AUDIT_TEXT_MAX	 255		   /* of each text; longer ones are cut */
/* What anybody can make happen as often as he likes: so many lines at once, and so many a second. */
#define AUDIT_COMMON_BURST 256
#define AUDIT_COMMON_PER_S 1.0
#define AUDIT_NONE \
	"0000000000000000000000000000000000000000000000000000000000000000" /* before line 1 */

struct audit;

struct audit_head {
	int64_t seq; /* 0: no line yet */
	char hash[HASH_SIZE];
};

/* Of the message that made something happen. Zeroed: none did, or it was not signed. */
struct audit_source {
	char signer[ID_SIZE];	 /* the certificate's name */
	char message[HASH_SIZE]; /* sha256 of the message's bytes */
};

/* signer "": zeroes it. */
void audit_heard(struct audit_source *s, const char *signer, const void *message, size_t len);

/* All but `event` may be absent: NULL, "" or 0. No names of classes, no paths (a text with a slash
 * is left out). */
struct audit_event {
	const char *event;
	const char *who;  /* the device, trainer, operator that did it */
	const char *peer; /* to whom, or whose */
	const char *checkpoint, *parent;
	int64_t fence;
	const char *decision; /* of whoever decides: "activated", "refused", "norm out of line" */
	const char *reason;
	const char *command, *id; /* its word, and its id */
	const char *key, *value;  /* of a command `set` */
	int64_t number, until_ms;
	const struct audit_head *head; /* that the peer told */
	const char *signer, *message; /* as in struct audit_source */
	bool common; /* anybody can make it happen: bounded by AUDIT_COMMON_... */
};

/* Finds the head, cuts a torn last line off (and says so in a line of its own). Only -ENOMEM and
 * -ENAMETOOLONG: a log that cannot be opened is one that cannot be written. */
int audit_open(const char *folder, int64_t real_ms, struct audit **ret, struct err *err);
void audit_free(struct audit *a); /* NULL allowed */
void audit_say(struct audit *a, int64_t real_ms, const struct audit_event *e);
/* How often that event was said with that decision (NULL: any) since the log was opened, also where
 * it could not be written; at most AUDIT_COUNTS_MAX pairs are counted. */
#define AUDIT_COUNTS_MAX 64
uint64_t audit_count(const struct audit *a, const char *event, const char *decision);
void audit_sync(struct audit *a);
void audit_head(const struct audit *a, struct audit_head *ret);
/* NULL: all is well. Else why lines are missing; it lasts until one can be written. */
const struct err *audit_fault(const struct audit *a);

/* --- reading --- */

struct audit_line {
	int64_t seq, at_ms;
	char prev[HASH_SIZE];
	char event[33];
};

/* Of `len` bytes without the newline. -EBADMSG. *ret_json (may be NULL) is the caller's. */
int audit_line_parse(const char *text, size_t len, struct audit_line *ret, struct json **ret_json,
		     struct err *err);

/* The files of a folder, oldest first: `audit.log` is the last. The caller's. */
int audit_files(const char *folder, char (**ret)[FILE_PATH_MAX], size_t *ret_n, struct err *err);

/* What has been read of a chain; zeroed: nothing. */
struct audit_chain {
	int64_t first; /* number of the first line; more than 1: the ones before are no longer kept */
	int64_t at_ms; /* of the last one */
	struct audit_head head;
	uint64_t lines;
};

/* Checks that the file goes on from what is in *c, line by line: form, number, time, chain. each
 * (may be NULL) gets every line that is right, and may end it with an error of its own. -EBADMSG:
 * the first line that is wrong, with file, number, found and expected. */
typedef int audit_each(void *user, const struct audit_head *head, const struct json *line,
		       struct err *err);
int audit_check(const char *path, struct audit_chain *c, audit_each *each, void *user,
		struct err *err);
/* The same of all files of a folder; its first line is line 1, unless so many files are kept that
 * the oldest have gone. -ENOENT: there is none. */
int audit_check_folder(const char *folder, struct audit_chain *c, audit_each *each, void *user,
		       struct err *err);

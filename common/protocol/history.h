/* device/<id>/history, retained: what a device's checkpoints scored on its validation images, and
 * what the active one takes for what; for people. Classes are numbers of outputs: names never
 * leave. Not signed, as a status is not. Encoder and decoder are as in message.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/id.h"
#include "common/checkpoint/manifest.h"
#include "common/protocol/message.h"

#define HISTORY_POINTS_MAX  256
#define HISTORY_CLASSES_MAX 64
#define HISTORY_COUNT_MAX   9999999 /* images a cell: a full message is below MESSAGE_LARGE_MAX */
#define HISTORY_DIGITS      12      /* of a checkpoint's id */

struct history_point {
	int64_t at_s; /* since 1970 */
	int64_t epoch;
	enum origin origin;
	int64_t n, correct; /* validation images */
	bool swap;          /* it became active then */
	char checkpoint[HISTORY_DIGITS + 1];
};

struct msg_history {
	int64_t at_ms;
	struct history_point points[HISTORY_POINTS_MAX]; /* oldest first */
	size_t n_points;
	/* Of the active checkpoint, on validation images: */
	struct {
		char checkpoint[HASH_SIZE];
		int64_t classes; /* k; 0: there is none */
		/* k rows of k: true class, answer */
		int32_t counts[HISTORY_CLASSES_MAX * HISTORY_CLASSES_MAX];
	} confusion;
};

char *msg_history_print(const struct msg_history *m);
int msg_history_parse(const void *p, size_t len, struct msg_history *ret, struct err *err);

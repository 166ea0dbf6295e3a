/* Who may come in, and whose turn it is. Pure logic: no I/O, no clock.
 *
 * Room: at most `capacity` jobs are in (claimed, in transfer, waiting or worked on). Of those a part
 * is kept for proven devices, which have completed a handover before, and the same part of the line:
 * whoever invents devices cannot keep them out. A device gets at most `per_hour` grants within an hour, counted in windows of QUEUE_WINDOW_MS.
 *
 * Turn: offers that wait for room, and jobs that wait for a worker, stand in a line each, by
 *
 *     since - gain * QUEUE_GAIN_MS,   gain = (1 - accuracy) / (1 + grants within the last hour)
 *
 * least first: a checkpoint of which nothing is right yet goes before one that is perfect and has
 * waited for up to QUEUE_GAIN_MS longer, and a device's second helping counts half. The accuracy is
 * the device's word, on its validation images (not said: one half); whoever lies gains those
 * minutes, once. All grow old alike, so nobody starves: what came QUEUE_GAIN_MS later never goes first.
 *
 * Return: whoever finds no room is told when to come back: when, by the length of recent jobs, its
 * turn will have come; and never so soon that all who were sent away lately would come at more than
 * QUEUE_OFFERS_PER_S. A random part of up to a half on top keeps them apart. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "edge-trainer/idmap.h"

#define QUEUE_WINDOW_MS	  (5 * 60 * 1000)
#define QUEUE_WINDOWS	  12
#define QUEUE_DEVICES_MAX 100000
#define QUEUE_WAITING_MAX 1024
#define QUEUE_RETRY_MIN_MS 1000
#define QUEUE_RETRY_MAX_MS (10 * 60 * 1000)
#define QUEUE_KEPT_PART	  4 /* of capacity and line, one in so many is for proven devices alone */
#define QUEUE_JOB_GUESS_MS 30000 /* a job's length before one has been seen */
#define QUEUE_GAIN_MS	  (10 * 60 * 1000) /* of waiting, that the largest gain is worth */
#define QUEUE_GAIN_UNKNOWN 0.5
#define QUEUE_OFFERS_PER_S 100 /* that are to come back at a time */

struct queue_waiting {
	void *item;
	int64_t turn_ms;
	int64_t until_ms; /* an offer: then it is forgotten, unless it is made again */
	bool proven;
};

/* Whose turn comes first is first. */
struct queue_line {
	struct queue_waiting at[QUEUE_WAITING_MAX];
	unsigned n;
};

struct queue {
	unsigned capacity, per_hour, slots;
	unsigned in, in_unproven;
	struct idmap served; /* device -> grants within the last hour */
	struct queue_line jobs, offers;
	unsigned sent_away[2]; /* devices, in the last stretch of QUEUE_RETRY_MAX_MS and in this one */
	int64_t stretch; /* number of this one */
	double job_ms; /* running mean of a job's time in a slot */
	int64_t window; /* number of the window that `served` was last swept in */
};

int queue_init(struct queue *q, unsigned capacity, unsigned per_hour, unsigned slots);
void queue_done(struct queue *q);

/* May a job of this device come in now? If not: -EBUSY, or -EDQUOT and when, as it had its share of
 * this hour. */
int queue_room(struct queue *q, const char *device, bool proven, int64_t now_ms,
	       int64_t *ret_retry_ms);
/* How many jobs are in, and of those how many of unproven devices: by the caller's count. */
void queue_set_in(struct queue *q, unsigned in, unsigned in_unproven);
/* The device was granted a job. -ENOSPC: too many devices within the hour. */
int queue_serve(struct queue *q, const char *device, int64_t now_ms);
unsigned queue_served(struct queue *q, const char *device, int64_t now_ms);
/* A job left its slot, having had it for so long. */
void queue_note(struct queue *q, int64_t took_ms);

/* What is expected of training this device's checkpoint, 0 to 1; accuracy < 0: not known. */
double queue_gain(struct queue *q, const char *device, double accuracy, int64_t now_ms);

/* -EEXIST: it waits already; -ENOSPC. */
int queue_wait(struct queue *q, void *job, double gain, int64_t now_ms);
void queue_cancel(struct queue *q, const void *job);
/* Takes whose turn it is; NULL when none waits. */
void *queue_next(struct queue *q);

/* An offer that waits since since_ms for room, or its repetition. What has to leave for it, as the
 * line is full, or itself; NULL: nothing. */
void *queue_offer(struct queue *q, void *offer, bool proven, double gain, int64_t since_ms,
		  int64_t until_ms);
void queue_offer_cancel(struct queue *q, const void *offer);
/* Takes whose turn it is among those for whom there is room (queue_set_in()); NULL when there is none. */
void *queue_offer_next(struct queue *q);
/* Takes one that was not made again in time; NULL. */
void *queue_offer_stale(struct queue *q, int64_t now_ms);

/* A device was sent away; *stretch is its own, 0 at first. */
void queue_sent_away(struct queue *q, int64_t *stretch, int64_t now_ms);
/* When that offer is to be made again; random: 0 to 1. */
int64_t queue_retry_ms(const struct queue *q, const void *offer, double random);
/* At least `least_ms`, and spread as described above. */
int64_t queue_spread_ms(const struct queue *q, int64_t least_ms, double random);

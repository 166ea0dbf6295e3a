/* Who may come in, and whose turn it is. Pure logic: no I/O, no clock.
 *
 * Room: at most `capacity` jobs are in (claimed, in transfer, waiting or worked on). Of those a part
 * is kept for proven devices, which have completed a handover before: whoever invents devices
 * cannot keep them out. A device gets at most `per_hour` grants within an hour, counted in windows of QUEUE_WINDOW_MS. Whoever finds no
 * room is told when to come back: when, by the length of recent jobs, one will be free.
 *
 * Turn: of the jobs that wait for a worker, the one whose device was served least in the last
 * hour goes first; among equals, the one that has waited longest. */
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
#define QUEUE_KEPT_PART	  4 /* of capacity, one in so many is for proven devices alone */
#define QUEUE_JOB_GUESS_MS 30000 /* a job's length before one has been seen */

struct queue_waiting {
	void *job;
	const char *device; /* the job's own, while it waits */
	int64_t since_ms;
};

struct queue {
	unsigned capacity, per_hour, slots;
	unsigned in, in_unproven;
	struct idmap served; /* device -> grants within the last hour */
	struct queue_waiting waiting[QUEUE_WAITING_MAX]; /* oldest first */
	unsigned n_waiting;
	double job_ms; /* running mean of a job's time in a slot */
	int64_t window; /* number of the window that `served` was last swept in */
};

int queue_init(struct queue *q, unsigned capacity, unsigned per_hour, unsigned slots);
void queue_done(struct queue *q);

/* May a job of this device come in now? If not: -EBUSY and when to come back. */
int queue_room(struct queue *q, const char *device, bool proven, int64_t now_ms,
	       int64_t *ret_retry_ms);
/* How many jobs are in, and of those how many of unproven devices: by the caller's count. */
void queue_set_in(struct queue *q, unsigned in, unsigned in_unproven);
/* The device was granted a job. -ENOSPC: too many devices within the hour. */
int queue_serve(struct queue *q, const char *device, int64_t now_ms);
unsigned queue_served(struct queue *q, const char *device, int64_t now_ms);
/* A job left its slot, having had it for so long. */
void queue_note(struct queue *q, int64_t took_ms);

/* -EEXIST: it waits already; -ENOSPC. */
int queue_wait(struct queue *q, void *job, const char *device, int64_t now_ms);
void queue_cancel(struct queue *q, const void *job);
/* Takes whose turn it is; NULL when none waits. */
void *queue_next(struct queue *q, int64_t now_ms);

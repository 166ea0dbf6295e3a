/* A checkpoint for everyone goes to a share of the devices first, and to the rest when their
 * reports are no worse than what they had. Pure logic.
 *
 *   BEGIN -> FIRST --(enough reports, no worse)--> REST
 *              |  \--(enough reports, worse; or too few in time)--> HALTED
 *              `-- a share of 100: REST at once
 *
 * An operator may end the wait: NEXT takes FIRST to REST whatever was reported, HALT either to HALTED.
 *
 * A report counts once a device: the trainer brings each decision about this checkpoint once, of
 * devices that are in the first group. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define ROLLOUT_REPORTS_MAX 100

struct rollout_conf {
	int64_t share;    /* percent that come first; 100: everyone at once */
	int64_t reports;  /* of the first, at least, before the rest follows */
	int64_t wait_ms;  /* for these */
	double tolerance; /* by which their accuracy may be less in the mean, 0..1 */
};

enum rollout_phase { ROLLOUT_NONE, ROLLOUT_FIRST, ROLLOUT_REST, ROLLOUT_HALTED, ROLLOUT_PHASE_N };

struct rollout {
	enum rollout_phase phase;
	int64_t share;    /* percent that may have it now */
	int64_t begun_ms; /* UTC: it outlives restarts */
	int64_t reports, activated;
	double gain; /* sum, over reports, of accuracy less that of what was active */
};

enum rollout_event_kind {
	ROLLOUT_EV_BEGIN,
	ROLLOUT_EV_REPORT,
	ROLLOUT_EV_TIMER,
	ROLLOUT_EV_NEXT, /* these two: an operator says so */
	ROLLOUT_EV_HALT
};

struct rollout_event {
	enum rollout_event_kind kind;
	int64_t share; /* BEGIN: that share holds `reports` devices; see rollout_share() */
	double gain;   /* REPORT; 0 where nothing was active */
	bool activated;
};

enum rollout_action { ROLLOUT_NOTHING, ROLLOUT_OFFER, ROLLOUT_WIDEN, ROLLOUT_HALT };

const char *rollout_phase_name(enum rollout_phase p);
/* What follows; ROLLOUT_OFFER: it is to be offered to `share`. The state has changed only where a
 * report was counted or an action is returned. */
enum rollout_action rollout_step(struct rollout *r, const struct rollout_conf *c,
				 const struct rollout_event *ev, int64_t now_ms);
/* The share of the first group in a fleet of which n[i] devices have the place i: the configured
 * one, or what holds as many devices as reports are needed, or everyone. */
int64_t rollout_share(const struct rollout_conf *c, const int64_t n[100]);
int64_t rollout_next_ms(const struct rollout *r, const struct rollout_conf *c); /* UTC; -1: never */

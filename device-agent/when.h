/* When a device may train: at which hours, on what power, how warm, beside which other programs,
 * with how much room on the disk, over which link. Pure: no I/O, no clock (readings.h brings both).
 *
 * Each condition has a limit and, so that training does not flap around it, a margin that must be
 * won back; and training that has begun to wait waits for WHEN_HOLD_MS at least. What cannot be
 * read holds nothing back.
 *
 * The load that counts is that of the others. The kernel's average has the training itself in it,
 * and would stop it for its own sake: so what training adds is counted as the kernel counts, by an
 * exponential average over a minute, and taken off. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/file.h"

#define WHEN_WINDOWS_MAX   64
#define WHEN_DAY_MIN       (24 * 60)
#define WHEN_WEEK_MIN      (7 * WHEN_DAY_MIN)
#define WHEN_NAMES_MAX     200 /* bytes of a list of interfaces, of an interface's name ... */
#define WHEN_INTERFACE_MAX 16
#define WHEN_REASON_MAX    128
#define WHEN_LOOK_MS       1000  /* so often is looked: what a change takes to be seen, at most */
#define WHEN_HOLD_MS       5000  /* that it waits, at least */
#define WHEN_TELL_MS       60000 /* the figures in the reason are no older */

/* Margins. */
#define WHEN_LOAD_BACK        0.8 /* of the limit */
#define WHEN_TEMPERATURE_BACK 5   /* degrees below it */
#define WHEN_BATTERY_BACK     5   /* percent points above it */
#define WHEN_DISK_BACK        1.1 /* times the limit */
#define WHEN_LOAD_AVERAGE_MS  60000

/* What waits while the way out is a metered link. */
enum when_metered { WHEN_METERED_NONE, WHEN_METERED_HANDOVER, WHEN_METERED_ALL };

/* Minutes since Monday, 0:00 local time; `to` may lie in the next week. */
struct when_window {
	int32_t from_min, to_min;
};

struct when_hours {
	struct when_window windows[WHEN_WINDOWS_MAX]; /* the rest zeros */
	size_t n;                                     /* 0: at any hour */
};

struct when_conf {
	struct when_hours hours;
	bool mains;                      /* not on a battery */
	int64_t battery_min_percent;     /* on a battery: not below; 0: any */
	double temperature_max_c;        /* 0: any */
	double load_max;                 /* of other programs, a processor; 0: any */
	int64_t disk_free_min_bytes;     /* 0: any */
	char interfaces[WHEN_NAMES_MAX]; /* that are metered: names with * and ?, commas; "": none
					  */
	enum when_metered metered;
	char root[FILE_PATH_MAX]; /* folder of proc/ and sys/ */
};

enum when_power { WHEN_POWER_UNKNOWN, WHEN_POWER_MAINS, WHEN_POWER_BATTERY };

struct when_readings {
	int32_t week_min; /* now, as in when_window */
	enum when_power power;
	int32_t battery_percent; /* -1: not known */
	double temperature_c;    /* NaN: not known, as the next */
	double load;             /* average of a minute, a processor, training included */
	double own;              /* what training takes while it runs: share of the processors */
	bool training;           /* it computes now */
	int64_t disk_free_bytes; /* -1: not known */
	char interface[WHEN_INTERFACE_MAX]; /* of the way out; "": not known, or none */
};

enum when_kind {
	WHEN_HOURS,
	WHEN_POWER,
	WHEN_BATTERY,
	WHEN_TEMPERATURE,
	WHEN_LOAD,
	WHEN_DISK,
	WHEN_METERED,
	WHEN_KIND_N
};

struct when {
	bool waits;                   /* training does */
	bool no_handover;             /* blocks wait, and nothing is offered */
	char reason[WHEN_REASON_MAX]; /* why training waits; "" */
	/* private: */
	bool over[WHEN_KIND_N];
	enum when_kind told;
	int64_t since_ms, told_ms, looked_ms;
	double own;
};

/* Whether there is anything to look at. */
bool when_any(const struct when_conf *c);
/* "mon-fri 22:00-06:00, sat,sun": days before a time belong to it, the last ones without a time are
 * whole days, a time without days is every day's; what ends before it begins ends the next day.
 * -EINVAL, -E2BIG: err says what was found. */
int when_parse_hours(const char *text, struct when_hours *ret, struct err *err);
/* What follows from the readings of this moment (monotonic), in *w, which began as zeros. */
void when_step(struct when *w, const struct when_conf *c, const struct when_readings *r,
	       int64_t now_ms);
/* The conditions are others: the next step judges them without the margins of the old ones, and
 * neither holds what waits for one that is gone, nor tells an old reason. */
void when_again(struct when *w);
/* Conditions that are set and could not be read, for a person: "temperature, power"; "". */
void when_unread(const struct when_conf *c, const struct when_readings *r,
		 char ret[WHEN_REASON_MAX]);

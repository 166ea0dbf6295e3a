/* What a service tells its manager: sd_notify(3), without libsystemd, whose protocol this is (one
 * datagram, also for other managers). Nothing is sent unless NOTIFY_SOCKET is set. */
#pragma once

#include <stdint.h>

#include "common/base/loop.h"

/* "READY=1", "STOPPING=1", "STATUS=...". */
void notify_send(const char *state);
/* "STATUS=" and what a person sees in `systemctl status`: one line, cut at NOTIFY_STATUS_MAX. */
#define NOTIFY_STATUS_MAX 256
void notify_status(const char *text);
/* Between this and the next "READY=1" a configuration is read again. */
void notify_reloading(void);

/* Says so often that the loop goes round that the manager is content (sd_watchdog_enabled(3)); what
 * hangs in a callback is killed and started again. */
struct watchdog {
	struct loop_source *timer; /* NULL: nobody wants to know */
	int64_t every_ms;
};

/* Does nothing unless WATCHDOG_USEC is set, for this process. */
int watchdog_start(struct watchdog *w, struct loop *l);
void watchdog_stop(struct watchdog *w);

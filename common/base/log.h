/* Log lines: one line on standard error. To the journal, which notes the time itself and reads
 * the priority (sd-daemon(3)): "<priority>program: text key=value ...". To anything else:
 * "2026-11-23T05:58:00.123Z program: [warning: |error: ]text key=value ...", in UTC.
 * Thread-safe: one write(2) a line. Libraries do not log above debug.
 *
 * Whoever can make a program log must not fill a disk with it: beyond LOG_BURST lines at once,
 * LOG_PER_S a second are written; the next one that is follows a line that says how many were left
 * out. Errors have LOG_ERRORS of the burst for themselves. Debug lines, which a person asked for,
 * are not counted. */
#pragma once

#define LOG_BURST  500
#define LOG_PER_S  50
#define LOG_ERRORS 100

enum log_priority { LOG_P_ERROR = 3, LOG_P_WARNING = 4, LOG_P_INFO = 6, LOG_P_DEBUG = 7 };

/* `program` must outlive the process. Lines above `max` (less important) are dropped. */
void log_init(const char *program, enum log_priority max);
void log_write(enum log_priority p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_write(LOG_P_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_P_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_P_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_P_DEBUG, __VA_ARGS__)

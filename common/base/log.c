#include "common/base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/bucket.h"
#include "common/base/clock.h"
#include "common/base/text.h"

#define LINE_MAX_BYTES 2048

static const char *program_name = "tasuki";
static enum log_priority max_priority = LOG_P_INFO;
static bool to_journal;
/* What the limit has let through and left out; guarded by the lock. */
static pthread_mutex_t limit_lock = PTHREAD_MUTEX_INITIALIZER;
static struct bucket limit;
static unsigned long long left_out;

/* systemd.exec(5): JOURNAL_STREAM is DEVICE:INODE of the stream that leads to the journal. It is
 * inherited also by a child whose standard error goes elsewhere, hence the comparison. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;
	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_init(const char *program, enum log_priority max)
{
	program_name = program;
	max_priority = max;
	to_journal = stderr_is_journal();
	limit = (struct bucket){0};
	left_out = 0;
}

static const char *level(enum log_priority p)
{
	return p == LOG_P_ERROR ? "error: " : p == LOG_P_WARNING ? "warning: " : "";
}

/* What stands before the text: the journal has the time and the level itself. */
static size_t begin_line(char *line, size_t size, enum log_priority p)
{
	int n;
	if (to_journal) {
		n = snprintf(line, size, "<%d>%s: ", (int)p, program_name);
	} else {
		char now[CLOCK_TEXT_MAX];
		clock_format(clock_real_ms(), now);
		n = snprintf(line, size, "%s %s: %s", now, program_name, level(p));
	}
	return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

static bool may_write(enum log_priority p, unsigned long long *ret_left_out)
{
	static const struct bucket_limit lines = {LOG_BURST - LOG_ERRORS, LOG_PER_S},
					 errors = {LOG_BURST, LOG_PER_S};
	*ret_left_out = 0;
	if (p >= LOG_P_DEBUG)
		return true;
	pthread_mutex_lock(&limit_lock);
	bool may = bucket_take(&limit, p <= LOG_P_ERROR ? &errors : &lines, clock_mono_ms(), NULL);
	if (may) {
		*ret_left_out = left_out;
		left_out = 0;
	} else {
		left_out++;
	}
	pthread_mutex_unlock(&limit_lock);
	return may;
}

static void write_left_out(unsigned long long n)
{
	char line[LINE_MAX_BYTES];
	size_t len = begin_line(line, sizeof(line), LOG_P_WARNING);
	len += (size_t)snprintf(line + len, sizeof(line) - len,
				"%llu lines left out: more than %d a second\n", n, LOG_PER_S);
	ssize_t ignored = write(STDERR_FILENO, line, len);
	(void)ignored;
}

void log_write(enum log_priority p, const char *fmt, ...)
{
	unsigned long long n;
	int saved_errno = errno;
	if (p > max_priority || !may_write(p, &n))
		return;
	if (n)
		write_left_out(n);
	char line[LINE_MAX_BYTES];
	size_t len = begin_line(line, sizeof(line) - 1, p);
	va_list ap;
	va_start(ap, fmt);
	errno = saved_errno; /* for %m */
	int m = vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	len += (size_t)m;
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len] = 0;
	text_blank_controls(line);
	line[len++] = '\n';
	ssize_t ignored = write(STDERR_FILENO, line, len);
	(void)ignored;
	errno = saved_errno;
}

#include "common/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static const char *program_name = "tasuki";
static enum log_priority max_priority = LOG_P_INFO;
static int on_terminal = -1;

void log_init(const char *program, enum log_priority max)
{
	program_name = program;
	max_priority = max;
	on_terminal = isatty(STDERR_FILENO);
}

/* A text from outside must not be able to forge a second line or speak to the terminal: blanks
 * ASCII's control characters and, in UTF-8, those from U+0080 to U+009F. */
static void blank_controls(char *line, size_t len)
{
	unsigned char *u = (unsigned char *)line;
	for (size_t i = 0; i < len; i++) {
		if (u[i] < 0x20 || u[i] == 0x7f)
			u[i] = ' ';
		else if (u[i] == 0xc2 && i + 1 < len && u[i + 1] >= 0x80 && u[i + 1] <= 0x9f)
			u[i] = u[i + 1] = ' ';
	}
}

void log_write(enum log_priority p, const char *fmt, ...)
{
	if (p > max_priority)
		return;
	char line[LINE_MAX_BYTES];
	int n = 0;
	if (on_terminal <= 0)
		n = snprintf(line, sizeof(line), "<%d>", (int)p);
	n += snprintf(line + n, sizeof(line) - (size_t)n, "%s: ", program_name);
	va_list ap;
	va_start(ap, fmt);
	int m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	size_t len = (size_t)n + (size_t)m;
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	blank_controls(line, len);
	line[len++] = '\n';
	int saved_errno = errno;
	ssize_t ignored = write(STDERR_FILENO, line, len);
	(void)ignored;
	errno = saved_errno;
}

void log_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	if (!path || !*path)
		return;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	if (len >= sizeof(sa.sun_path))
		return;
	memcpy(sa.sun_path, path, len);
	if (sa.sun_path[0] == '@')
		sa.sun_path[0] = 0;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sa,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	close(fd);
}

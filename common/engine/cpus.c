#include "common/engine/cpus.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A number and what follows it. */
static int number(const char **at, long *ret)
{
	char *end;
	if (!isdigit((unsigned char)**at))
		return -EINVAL;
	errno = 0;
	*ret = strtol(*at, &end, 10);
	*at = end;
	return errno || *ret >= CPU_SETSIZE ? -ERANGE : 0;
}

static int range(const char **at, cpu_set_t *set)
{
	long first, last;
	int r = number(at, &first);
	last = first;
	if (r == 0 && **at == '-') {
		(*at)++;
		r = number(at, &last);
		if (r == 0 && last < first)
			r = -EINVAL;
	}
	for (long i = first; r == 0 && i <= last; i++)
		CPU_SET((size_t)i, set);
	return r;
}

int cpus_parse(const char *text, cpu_set_t *ret, struct err *err)
{
	cpu_set_t set;
	const char *at = text;
	CPU_ZERO(&set);
	int r = range(&at, &set);
	while (r == 0 && *at == ',') {
		at++;
		r = range(&at, &set);
	}
	if (r == 0 && *at)
		r = -EINVAL;
	if (r < 0)
		return err_set(err, r, "found '%.40s', expected processors as 0,2-3, at most %d",
			       text, CPU_SETSIZE - 1);
	*ret = set;
	return 0;
}

void cpus_print(const cpu_set_t *set, char *buf, size_t size)
{
	size_t n = 0;
	buf[0] = 0;
	for (size_t i = 0; i < CPU_SETSIZE && n < size; i++) {
		size_t last = i;
		if (!CPU_ISSET(i, set))
			continue;
		while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set))
			last++;
		n += (size_t)snprintf(buf + n, size - n, last > i ? "%s%zu-%zu" : "%s%zu",
				      n ? "," : "", i, last);
		i = last;
	}
}

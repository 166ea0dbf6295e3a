#include "cli/filter.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static const char *const sorts[FILTER_SORT_N] = {"id", "accuracy", "phase", "seen"};

/* The index of `value` among n words, or -1 and a message. */
static int choose(const char *name, const char *option, const char *value, const char *const *words,
		  int n)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(value, words[i]))
			return i;
	const char *near = cli_nearest(value, words, (size_t)n);
	cli_usage(name, "%s: found '%s', expected one of those in --help%s", option, value,
		  cli_did_you_mean(near));
	return -1;
}

static int choose_phase(const char *name, const char *value)
{
	const char *words[PHASE_N];
	for (int i = 0; i < PHASE_N; i++)
		words[i] = phase_name((enum phase)i);
	return choose(name, "--phase", value, words, PHASE_N);
}

static int choose_origin(const char *name, const char *value)
{
	const char *words[ORIGIN_N];
	for (int i = 0; i < ORIGIN_N; i++)
		words[i] = origin_name((enum origin)i);
	return choose(name, "--origin", value, words, ORIGIN_N);
}

int filter_option(struct filter *f, const char *name, int option, const char *value)
{
	int r;
	switch (option) {
	case 'p':
		return (f->phase = choose_phase(name, value)) < 0 ? -1 : 1;
	case 'o':
		return (f->origin = choose_origin(name, value)) < 0 ? -1 : 1;
	case 'n':
		return f->online = true;
	case 'f':
		return f->offline = true;
	case 'h':
		return f->handover = true;
	case 'l':
		return cli_num(name, "--below", value, 0, 100, &f->below) ? 1 : -1;
	case 'r':
		r = choose(name, "--sort", value, sorts, FILTER_SORT_N);
		f->sort = (enum filter_sort)MAX_OF(r, 0);
		return r < 0 ? -1 : 1;
	default:
		return 0;
	}
}

static double accuracy(const struct online_device *d)
{
	return d->has_status && d->status.has_active ? d->status.active.accuracy : -1;
}

static bool named(const struct filter *f, const char *id)
{
	for (int i = 0; i < f->n_patterns; i++)
		if (fnmatch(f->patterns[i], id, 0) == 0)
			return true;
	return f->n_patterns == 0;
}

bool filter_takes(const struct filter *f, const struct online_device *d)
{
	if (!named(f, d->id) || (f->online && !d->online) ||
	    (f->offline && (!d->has_presence || d->online)))
		return false;
	if (f->phase >= 0 && (!filter_is_now(d) || (int)d->status.phase != f->phase))
		return false;
	if (f->origin >= 0 &&
	    (!d->has_status || !d->status.has_active || (int)d->status.active.origin != f->origin))
		return false;
	if (f->handover && (!d->has_status || !d->status.handover[0]))
		return false;
	return f->below < 0 || (accuracy(d) >= 0 && 100 * accuracy(d) < f->below);
}

/* What is not known comes last. */
static double key(const struct online_device *d, enum filter_sort by)
{
	if (by == FILTER_BY_ACCURACY)
		return accuracy(d) < 0 ? 2 : accuracy(d);
	if (by == FILTER_BY_PHASE)
		return filter_is_now(d) ? (double)d->status.phase : PHASE_N;
	return d->has_status ? (double)d->status.at_ms : 1e18;
}

static int compare(const void *one, const void *other, void *by)
{
	const struct online_device *a = *(void *const *)one, *b = *(void *const *)other;
	double x = key(a, *(enum filter_sort *)by), y = key(b, *(enum filter_sort *)by);
	return x < y ? -1 : x > y ? 1 : strcmp(a->id, b->id);
}

const struct online_device **filter_devices(const struct filter *f, const struct online *o,
					    size_t *ret_n)
{
	const struct online_device **found = calloc(o->n_devices + 1, sizeof(*found));
	size_t n = 0;
	for (size_t i = 0; found && i < o->n_devices; i++)
		if (filter_takes(f, o->devices[i]))
			found[n++] = o->devices[i];
	enum filter_sort by = f->sort;
	if (n && by != FILTER_BY_ID) /* they are in that order */
		qsort_r(found, n, sizeof(*found), compare, &by);
	*ret_n = n;
	return found;
}

/* What was seen of a seed's run, and what must hold of it at any moment:
 * - a fence is given out once: to one trainer, for one checkpoint;
 * - a result is decided on once, and the answer to its repetitions is the same;
 * - under a fence at most one result is taken;
 * - a retained history never loses a swap.
 * And in the end: each decision is known to the trainer whose result it is about. */
#include "tests/sim/soak.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/protocol/topic.h"

#define GRANTS_MAX    4096
#define DECISIONS_MAX 4096
#define MADE_MAX      65536
#define RETAINED_MAX  16

struct grant {
	char device[ID_SIZE], trainer[ID_SIZE], checkpoint[HASH_SIZE];
	int64_t fence;
};

static struct {
	uint64_t seed;
	bool failed, verbose;
	char *text;
	size_t len;
	FILE *lines;
	struct grant grants[GRANTS_MAX];
	struct history_decision decisions[DECISIONS_MAX];
	unsigned n_grants, n_decisions, n_made, n_retained;
	struct {
		char device[ID_SIZE];
		int64_t n_swaps;
		struct msg_history m;
	} retained[RETAINED_MAX];
	char made[MADE_MAX][HASH_SIZE];
} h;

void history_begin(uint64_t seed, bool verbose)
{
	if (h.lines)
		fclose(h.lines);
	free(h.text);
	h.text = NULL;
	h.lines = open_memstream(&h.text, &h.len);
	h.seed = seed;
	h.failed = false;
	h.verbose = verbose;
	h.n_grants = h.n_decisions = h.n_made = h.n_retained = 0;
}

static void note(const char *fmt, va_list ap)
{
	va_list copy;

	va_copy(copy, ap);
	fprintf(h.lines, "%10.3f ", (double)sim_now() / 1000);
	vfprintf(h.lines, fmt, ap);
	fputc('\n', h.lines);
	if (h.verbose) {
		printf("%10.3f ", (double)sim_now() / 1000);
		vprintf(fmt, copy);
		putchar('\n');
	}
	va_end(copy);
}

void history_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	note(fmt, ap);
	va_end(ap);
}

void history_fail(const char *fmt, ...)
{
	va_list ap;

	h.failed = true;
	fputs("FAILED: ", h.lines);
	va_start(ap, fmt);
	note(fmt, ap);
	va_end(ap);
}

bool history_failed(void)
{
	return h.failed;
}

void history_print(FILE *to)
{
	fflush(h.lines);
	fwrite(h.text, 1, h.len, to);
}

void history_made(const char *id)
{
	if (h.n_made == MADE_MAX)
		history_fail("more checkpoints than MADE_MAX");
	else
		memcpy(h.made[h.n_made++], id, HASH_SIZE);
}

bool history_is_made(const char *id)
{
	for (unsigned i = h.n_made; i-- > 0;)
		if (strcmp(h.made[i], id) == 0)
			return true;
	return false;
}

static void granted(const struct topic *t, const struct msg_grant *g)
{
	struct grant *new = &h.grants[h.n_grants];

	for (unsigned i = 0; i < h.n_grants; i++) {
		const struct grant *was = &h.grants[i];

		if (strcmp(was->device, t->device) != 0 || was->fence != g->fence)
			continue;
		if (strcmp(was->trainer, t->trainer) != 0 ||
		    strcmp(was->checkpoint, g->checkpoint) != 0)
			history_fail("%s fence %lld is given to %s, %.12s and to %s, %.12s",
				     t->device, (long long)g->fence, was->trainer, was->checkpoint,
				     t->trainer, g->checkpoint);
		return;
	}
	if (++h.n_grants == GRANTS_MAX)
		history_fail("more grants than GRANTS_MAX");
	snprintf(new->device, ID_SIZE, "%s", t->device);
	snprintf(new->trainer, ID_SIZE, "%s", t->trainer);
	snprintf(new->checkpoint, HASH_SIZE, "%s", g->checkpoint);
	new->fence = g->fence;
	history_note("%s grants %.12s to %s fence=%lld", t->device, g->checkpoint, t->trainer,
		     (long long)g->fence);
}

struct history_decision *history_decision(const char *device, int64_t fence, const char *result)
{
	for (unsigned i = 0; i < h.n_decisions; i++) {
		struct history_decision *d = &h.decisions[i];

		if (d->fence == fence && strcmp(d->device, device) == 0 &&
		    strcmp(d->result, result) == 0)
			return d;
	}
	return NULL;
}

static void decided(const struct topic *t, const struct msg_ack *a)
{
	struct history_decision *d = history_decision(t->device, a->fence, a->checkpoint);

	if (d) {
		if (d->decision != a->decision)
			history_fail("%s fence %lld result %.12s: %s, and then %s: %s", t->device,
				     (long long)a->fence, a->checkpoint, decision_name(d->decision),
				     decision_name(a->decision), a->reason);
		return;
	}
	for (unsigned i = 0; i < h.n_decisions && a->decision != DECISION_REFUSED; i++)
		if (h.decisions[i].fence == a->fence &&
		    h.decisions[i].decision != DECISION_REFUSED &&
		    strcmp(h.decisions[i].device, t->device) == 0)
			history_fail("%s fence %lld: both %.12s and %.12s are taken", t->device,
				     (long long)a->fence, h.decisions[i].result, a->checkpoint);
	d = &h.decisions[h.n_decisions];
	if (++h.n_decisions == DECISIONS_MAX)
		history_fail("more decisions than DECISIONS_MAX");
	*d = (struct history_decision){.fence = a->fence, .decision = a->decision};
	snprintf(d->device, ID_SIZE, "%s", t->device);
	snprintf(d->trainer, ID_SIZE, "%s", t->trainer);
	snprintf(d->result, HASH_SIZE, "%s", a->checkpoint);
	history_note("%s decides %.12s of %s fence=%lld: %s %s", t->device, a->checkpoint,
		     t->trainer, (long long)a->fence, decision_name(a->decision), a->reason);
}

const struct msg_history *history_retained(const char *device)
{
	for (unsigned i = 0; i < h.n_retained; i++)
		if (strcmp(h.retained[i].device, device) == 0)
			return &h.retained[i].m;
	return NULL;
}

/* Each one can be read, and has all swaps of the one before, until there are more points than there is room for. */
static void retained(const char *device, const struct mqtt_publish *p)
{
	static struct msg_history m;
	struct err err = {0};
	int64_t n_swaps = 0;
	unsigned i = 0;

	if (!p->retain || msg_history_parse(p->payload, p->len, &m, &err) < 0) {
		history_fail("%s: %s", device, err.text);
		return;
	}
	for (size_t k = 0; k < m.n_points; k++)
		n_swaps += m.points[k].swap;
	while (i < h.n_retained && strcmp(h.retained[i].device, device) != 0)
		i++;
	if (i == RETAINED_MAX) {
		history_fail("more devices than RETAINED_MAX");
		return;
	}
	if (i < h.n_retained && n_swaps < h.retained[i].n_swaps)
		history_fail("%s: %lld swaps in its history, there were %lld", device,
			     (long long)n_swaps, (long long)h.retained[i].n_swaps);
	snprintf(h.retained[i].device, ID_SIZE, "%s", device);
	h.retained[i].n_swaps = n_swaps;
	h.retained[i].m = m;
	h.n_retained = MAX_OF(h.n_retained, i + 1);
}

void history_sent(const struct mqtt_publish *p)
{
	struct topic t;
	struct msg_grant g;
	struct msg_ack a;

	if (topic_parse(p->topic, SITE, &t) < 0) {
		history_fail("%s: not a topic", p->topic);
		return;
	}
	if (t.kind == TOPIC_DEVICE_HISTORY)
		retained(t.device, p);
	if (t.kind == TOPIC_TRAINER_GRANT && msg_grant_parse(p->payload, p->len, &g, NULL) == 0 &&
	    g.granted)
		granted(&t, &g);
	if (t.kind == TOPIC_TRAINER_ACK && msg_ack_parse(p->payload, p->len, &a, NULL) == 0 &&
	    a.has_decision)
		decided(&t, &a);
}

void history_check(void)
{
	for (unsigned i = 0; i < h.n_decisions; i++) {
		const struct history_decision *d = &h.decisions[i];

		if (d->n_jobs > 1 || (d->n_jobs == 0 && d->decision != DECISION_REFUSED))
			history_fail("%s fence %lld result %.12s was %s: %u jobs ended by it",
				     d->device, (long long)d->fence, d->result,
				     decision_name(d->decision), d->n_jobs);
	}
}

unsigned history_n_decided(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < h.n_decisions; i++)
		n += h.decisions[i].decision != DECISION_REFUSED;
	return n;
}

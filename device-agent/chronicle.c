/* What the retained history says: points made of the reports on disk, which are read again at the
 * start, and what the active checkpoint takes for what, as its last evaluation told, in a file of
 * its own. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device-agent/history.h"

#define EVERY_MS     60000         /* between two of them, at least ... */
#define BYTES_A_S    100           /* ... and on average no more than this: a link may be metered */
#define SWAP_MS      5000          /* after a swap, but no sooner than that after the last one */
#define UP_SPREAD_MS 10000         /* a fleet that comes back does not say all of it at once */
#define COUNTS_FILE  "counts.json" /* in the state folder */

struct chronicle {
	struct history history;
	struct msg_history message; /* its points are only filled in to be printed */
	char snapshot[HASH_SIZE]; /* of the images that its counts are of; "": not known, or none */
	char active[HASH_SIZE];   /* when it was looked at last */
	bool dirty, swapped;
	int64_t sent_ms, bytes; /* of the last one; sent_ms -1: none yet */
	int64_t up_ms;          /* not before: the link is fresh */
};

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static void add(struct chronicle *c, int64_t seq, const char *text)
{
	struct msg_report r;
	struct history_point p;
	if (msg_report_parse(text, strlen(text), &r, NULL) < 0)
		return; /* of another version; what remains is of use */
	if (history_point(&r, &p)) {
		history_add(&c->history, seq, &p);
		c->dirty = true;
		c->swapped |= p.swap;
	}
	msg_report_done(&r);
}

/* ---- what is taken for what ---- */

bool chronicle_counts(const struct agent *a)
{
	return a->model->outputs <= HISTORY_CLASSES_MAX;
}

static int counts_path(const struct agent *a, char ret[FILE_PATH_MAX])
{
	return file_path(ret, FILE_PATH_MAX, "%s/" COUNTS_FILE, a->conf.state);
}

/* Those of the run before, where they are of what is active; else there are none. */
static void load_counts(struct agent *a)
{
	struct chronicle *c = a->chronicle;
	_cleanup_free_ char *text = NULL;
	char path[FILE_PATH_MAX];
	size_t len;
	if (counts_path(a, path) < 0 || file_read(path, MESSAGE_LARGE_MAX, &text, &len, NULL) < 0 ||
	    msg_history_parse(text, len, &c->message, NULL) < 0)
		return;
	if (!same(c->message.confusion.checkpoint, a->active) ||
	    c->message.confusion.classes != (int64_t)a->model->outputs)
		c->message.confusion.classes = 0;
}

/* A history without points. What cannot be kept is told until the next restart nonetheless. */
static void save_counts(struct agent *a)
{
	struct chronicle *c = a->chronicle;
	char path[FILE_PATH_MAX];
	c->message.n_points = 0;
	c->message.at_ms = a->port.real_ms(a->port.user);
	_cleanup_free_ char *text = msg_history_print(&c->message);
	struct err err = {0};
	if (!text || counts_path(a, path) < 0)
		return;
	if (file_write(path, text, strlen(text), &err) < 0)
		log_warning("device=%s %s", a->conf.id, err.text);
}

static int read_row(const struct json *row, int32_t k, int32_t *ret, int64_t *left)
{
	int32_t i = 0;
	for (const struct json *e = json_first(row); e; e = json_next(e)) {
		int64_t v;
		if (i == k || json_int(e, 0, MIN_OF(*left, INT32_MAX), &v) < 0)
			return -EBADMSG;
		ret[i++] = (int32_t)v;
		*left -= v;
	}
	return i == k ? 0 : -EBADMSG;
}

int chronicle_read_counts(const struct agent *a, const struct json *result, int64_t n,
			  struct detail *d, struct err *err)
{
	const struct json *rows;
	const int32_t k = (int32_t)a->model->outputs;
	int32_t i = 0;
	int64_t left = n;
	if (d->split != SPLIT_VALIDATION || !chronicle_counts(a) || !json_has(result, "confusion"))
		return 0;
	int r = json_get_arr(result, "confusion", (size_t)k, &rows, err);
	if (r < 0)
		return r;
	d->n_outputs = k;
	d->confusion = calloc((size_t)(k * k), sizeof(*d->confusion));
	if (!d->confusion)
		return err_errno(err, -ENOMEM, "confusion");
	for (const struct json *e = json_first(rows); r == 0 && e; e = json_next(e), i++)
		r = read_row(e, k, &d->confusion[i * k], &left);
	if (r < 0 || left != 0)
		return err_set(err, -EBADMSG,
			       "confusion: found something else, expected rows of %d counts, of "
			       "%lld images "
			       "in all",
			       (int)k, (long long)n);
	return 0;
}

/* Of what is active now; what is known of an older state of the images stays until there is more.
 */
static void look(struct agent *a)
{
	struct chronicle *c = a->chronicle;
	const char *snapshot = a->data.snapshot[SPLIT_VALIDATION];
	if (!same(c->active, a->active)) {
		COPY(c->active, a->active);
		c->message.confusion.classes = 0;
		c->snapshot[0] = 0;
		c->dirty = c->swapped = true; /* also where a person did it */
	}
	if (!*a->active || same(c->snapshot, snapshot))
		return;
	const struct detail *d = details_find(a->details, a->active, SPLIT_VALIDATION, snapshot);
	if (!d || !d->confusion)
		return;
	COPY(c->snapshot, snapshot);
	COPY(c->message.confusion.checkpoint, a->active);
	c->message.confusion.classes = d->n_outputs;
	memcpy(c->message.confusion.counts, d->confusion,
	       sizeof(*d->confusion) * (size_t)(d->n_outputs * d->n_outputs));
	c->dirty = true;
	save_counts(a);
}

/* ---- start, and what happens ---- */

int chronicle_start(struct agent *a, struct err *err)
{
	struct chronicle *c = a->chronicle = calloc(1, sizeof(*c));
	if (!c)
		return err_errno(err, -ENOMEM, "history");
	for (int64_t seq = reports_first(a->reports); seq <= reports_last(a->reports); seq++) {
		_cleanup_free_ char *text = NULL;
		int r = reports_read(a->reports, seq, &text, err);
		if (r < 0)
			return r;
		add(c, seq, text);
	}
	c->sent_ms = -1;
	COPY(c->active, a->active);
	load_counts(a);
	return 0;
}

void chronicle_free(struct agent *a)
{
	free(a->chronicle);
}

void chronicle_report(struct agent *a, const char *text)
{
	add(a->chronicle, reports_last(a->reports), text);
}

void chronicle_link(struct agent *a)
{
	struct chronicle *c = a->chronicle;
	if (!a->up)
		return;
	c->dirty = true; /* what is retained may be lost, or of another life */
	c->up_ms = a->now_ms + rng_below(&a->rng, UP_SPREAD_MS);
}

/* ---- publishing ---- */

int64_t chronicle_deadline_ms(const struct agent *a)
{
	const struct chronicle *c = a->chronicle;
	int64_t wait_ms = c->swapped ? SWAP_MS : MAX_OF(EVERY_MS, c->bytes * 1000 / BYTES_A_S);
	if (!a->up || !c->dirty)
		return -1;
	return c->sent_ms < 0 ? c->up_ms : MAX_OF(c->up_ms, c->sent_ms + wait_ms);
}

void chronicle_publish(struct agent *a)
{
	struct chronicle *c = a->chronicle;
	struct topic t = {.kind = TOPIC_DEVICE_HISTORY};
	look(a);
	int64_t at = chronicle_deadline_ms(a);
	if (at < 0 || a->now_ms < at)
		return;
	COPY(t.device, a->conf.id);
	c->message.at_ms = a->port.real_ms(a->port.user);
	c->message.n_points = c->history.n;
	memcpy(c->message.points, c->history.at, sizeof(c->history.at[0]) * c->history.n);
	char *text = msg_history_print(&c->message);
	int64_t bytes = text ? (int64_t)strlen(text) : 0;
	c->sent_ms = a->now_ms; /* also where it fails: not in haste */
	if (announce_publish(a, &t, text, true) < 0)
		return;
	c->bytes = bytes;
	c->dirty = c->swapped = false;
}

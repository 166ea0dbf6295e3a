/* Rows of devices and their reports. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/json/json.h"
#include "edge-trainer/db_priv.h"

int db_device_put(struct db *db, const struct db_device *d, struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_DEVICE_PUT, err);

	if (!s)
		return -EIO;
	db_bind_str(s, ":id", d->id);
	db_bind_str(s, ":status", d->status);
	db_bind_int(s, ":boot", d->boot);
	db_bind_int(s, ":online", d->online);
	db_bind_int(s, ":report_seq", d->report_seq);
	db_bind_int(s, ":report_have", d->report_have);
	db_bind_int(s, ":seen", d->seen_ms);
	db_bind_text(s, ":log", d->log);
	db_bind_int(s, ":handovers", d->handovers);
	db_bind_num(s, ":weight", d->weight);
	if (d->error >= 0)
		db_bind_num(s, ":error", d->error);
	return db_run(db, s, err);
}

int db_device_each(struct db *db, int (*each)(void *user, const struct db_device *d), void *user,
		   struct err *err)
{
	sqlite3_stmt *s = db_get(db, DB_DEVICE_EACH, err);
	int r;

	if (!s)
		return -EIO;
	while ((r = db_row(db, s, err)) == 1) {
		struct db_device d = {
			.status = (const char *)sqlite3_column_text(s, 1),
			.boot = sqlite3_column_int64(s, 2),
			.online = sqlite3_column_int(s, 3),
			.report_seq = sqlite3_column_int64(s, 4),
			.report_have = sqlite3_column_int64(s, 5),
			.seen_ms = sqlite3_column_int64(s, 6),
			.handovers = sqlite3_column_int64(s, 8),
			.weight = sqlite3_column_double(s, 9),
			.error = sqlite3_column_type(s, 10) == SQLITE_NULL ?
					 -1 :
					 sqlite3_column_double(s, 10),
		};

		db_column_str(s, 0, d.id, sizeof(d.id));
		db_column_str(s, 7, d.log, sizeof(d.log));
		r = each(user, &d);
		if (r < 0)
			break;
	}
	sqlite3_reset(s);
	return r;
}

int db_device_forget(struct db *db, const char *device, struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_DEVICE_FORGET, err);

	if (!s)
		return -EIO;
	db_bind_str(s, ":id", device);
	return db_run(db, s, err);
}

static const char *or_null(const char *text)
{
	return *text ? text : NULL;
}

static void bind_decision(sqlite3_stmt *s, const struct msg_report *m)
{
	if (m->has_decision)
		db_bind_str(s, ":decision", m->activated ? "activated" : "kept");
	if (m->has_against) {
		db_bind_str(s, ":against", m->against);
		db_bind_num(s, ":against_accuracy", m->against_accuracy);
	}
	db_bind_str(s, ":reason", or_null(m->reason));
	db_bind_str(s, ":why", or_null(m->why));
	if (*m->test) {
		db_bind_str(s, ":test", m->test);
		db_bind_int(s, ":contenders", m->contenders);
	}
	if (m->has_pair) {
		db_bind_int(s, ":won", m->won);
		db_bind_int(s, ":lost", m->lost);
		db_bind_num(s, ":p", m->p);
	}
}

/* [[class, n, correct], ...] */
static char *per_class_text(const struct msg_report *m)
{
	_cleanup_(json_freep) struct json *a = json_new_arr();

	for (size_t i = 0; i < m->n_per_class; i++) {
		struct json *row = json_new_arr();

		json_push_int(row, m->per_class[i].class_index);
		json_push_int(row, m->per_class[i].n);
		json_push_int(row, m->per_class[i].correct);
		json_push(a, row);
	}
	return json_print(a);
}

int db_report_put(struct db *db, const char *device, const struct msg_report *m,
		  int64_t received_ms, bool *ret_new, struct err *err)
{
	_cleanup_free_ char *per_class = NULL;
	sqlite3_stmt *s = db_write(db, DB_REPORT_PUT, err);
	int r;

	if (!s)
		return -EIO;
	if (m->n_per_class > 0) {
		per_class = per_class_text(m);
		if (!per_class)
			return err_set(err, -ENOMEM, "%s: out of memory", db->path);
	}
	db_bind_str(s, ":device", device);
	db_bind_text(s, ":log", m->log);
	db_bind_int(s, ":seq", m->seq);
	db_bind_str(s, ":checkpoint", m->checkpoint);
	db_bind_str(s, ":origin", origin_name(m->origin));
	db_bind_str(s, ":snapshot", m->snapshot);
	db_bind_str(s, ":split", split_name(m->split));
	db_bind_int(s, ":n", m->score.n);
	db_bind_int(s, ":correct", m->score.correct);
	db_bind_num(s, ":loss", m->score.loss);
	db_bind_str(s, ":per_class", per_class);
	bind_decision(s, m);
	db_bind_int(s, ":epoch", m->epoch);
	db_bind_int(s, ":at", m->at_ms);
	db_bind_int(s, ":received", received_ms);
	r = db_run(db, s, err);
	if (r == 0)
		*ret_new = sqlite3_changes(db->h) > 0;
	return r;
}

int db_report_gap(struct db *db, const char *device, const char *log, int64_t have, int64_t upto,
		  int64_t most, int64_t *ret_have, int64_t *ret_from, int64_t *ret_to,
		  struct err *err)
{
	sqlite3_stmt *s = db_get(db, DB_REPORT_ABOVE, err);
	int64_t next = upto + 1; /* the first stored one above the gap */
	int r;

	if (!s)
		return -EIO;
	db_bind_str(s, ":device", device);
	db_bind_text(s, ":log", log);
	db_bind_int(s, ":have", have);
	db_bind_int(s, ":upto", upto);
	while ((r = db_row(db, s, err)) == 1) {
		int64_t seq = sqlite3_column_int64(s, 0);

		if (seq > have + 1) {
			next = seq;
			break;
		}
		have = seq;
	}
	sqlite3_reset(s);
	if (r < 0)
		return r;
	*ret_have = have;
	*ret_from = have < upto ? have + 1 : 0;
	*ret_to = have < upto ? MIN_OF(next - 1, have + most) : 0;
	return 0;
}

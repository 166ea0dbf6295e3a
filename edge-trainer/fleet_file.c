/* STATE/fleet.json: one object, replaced atomically. */
#include <errno.h>
#include <string.h>

#include "common/base/hex.h"
#include "common/base/mem.h"
#include "edge-trainer/fleet_priv.h"

#define FLEET_FILE_MAX     (256 * 1024)
#define FLEET_FILE_VERSION 1

static int file_name(const struct trainer *t, char path[FILE_PATH_MAX], struct err *err)
{
	int r = file_path(path, FILE_PATH_MAX, "%s/fleet.json", t->conf->state);

	return r < 0 ? err_set(err, r, "%s: path of the state folder is too long", t->conf->state)
		     : 0;
}

static char *print(const struct fleet *f)
{
	_cleanup_(json_freep) struct json *j = json_new_obj();
	struct json *counted = json_new_arr();
	char key[2 * SEAL_KEY + 1];

	hex_print(f->key, SEAL_KEY, key);
	json_set_int(j, "version", FLEET_FILE_VERSION);
	json_set_int(j, "seen", MAX_OF(f->seen, f->offer.manifest.sequence));
	if (f->offer.manifest.sequence > 0) {
		_cleanup_free_ char *text = msg_fleet_print(&f->offer);

		json_set_str(j, "offer", text ? text : "");
		json_set_int(j, "position", f->position);
		if (f->has_key)
			json_set_str(j, "key", key);
		json_set_int(j, "phase", f->rollout.phase);
		json_set_int(j, "share", f->rollout.share);
		json_set_int(j, "begun_ms", f->rollout.begun_ms);
		json_set_int(j, "activated", f->rollout.activated);
		json_set_num(j, "gain", f->rollout.gain);
	}
	for (size_t i = 0; i < f->n_counted; i++)
		json_push_str(counted, f->counted[i]);
	json_set(j, "counted", counted);
	return json_print(j);
}

void fleet_save(struct trainer *t)
{
	struct fleet *f = t->fleet;
	_cleanup_free_ char *text = print(f);
	char path[FILE_PATH_MAX];
	struct err err = {0};
	int r = text ? file_name(t, path, &err) : err_set(&err, -ENOMEM, "out of memory");

	if (r == 0)
		r = (f->has_key ? file_write_private : file_write)(path, text, strlen(text), &err);
	if (r < 0)
		trainer_fault(t, &err);
	f->save_due = r < 0;
	if (r == 0)
		f->saved_position = f->position;
}

static int read_counted(struct fleet *f, const struct json *j, struct err *err)
{
	const struct json *list;
	int r = json_get_arr(j, "counted", ROLLOUT_REPORTS_MAX, &list, err);

	for (const struct json *e = r == 0 ? json_first(list) : NULL; e; e = json_next(e)) {
		const char *id = json_str(e);

		if (!id || !id_valid(id))
			return err_set(err, -EINVAL, "counted: found something that is not an id");
		memcpy(f->counted[f->n_counted++], id, strlen(id) + 1);
	}
	f->rollout.reports = (int64_t)f->n_counted;
	return r;
}

static int read_key(struct fleet *f, const struct json *j, struct err *err)
{
	char key[2 * SEAL_KEY + 1];
	int r = json_get_str(j, "key", key, sizeof(key), err);

	if (r == 0 && hex_parse(key, f->key, SEAL_KEY) < 0)
		r = err_set(err, -EINVAL, "key: expected %d lower-case hex digits", 2 * SEAL_KEY);
	f->has_key = r == 0;
	seal_wipe(key, sizeof(key));
	return r;
}

static int read_offer(struct fleet *f, const struct json *j, struct err *err)
{
	int64_t phase = 0, position = 0;
	const char *text;
	int r = json_get_text(j, "offer", MESSAGE_LARGE_MAX, &text, err);

	if (r == 0)
		r = msg_fleet_parse(text, strlen(text), &f->offer, err);
	if (r == 0)
		r = json_get_int(j, "phase", ROLLOUT_FIRST, ROLLOUT_PHASE_N - 1, &phase, err);
	if (r == 0)
		r = json_get_int(j, "share", 1, 100, &f->rollout.share, err);
	if (r == 0)
		r = json_get_int(j, "begun_ms", 0, JSON_INT_MAX, &f->rollout.begun_ms, err);
	if (r == 0)
		r = json_get_int(j, "activated", 0, ROLLOUT_REPORTS_MAX, &f->rollout.activated,
				 err);
	if (r == 0)
		r = json_get_num(j, "gain", -1e6, 1e6, &f->rollout.gain, err);
	if (r == 0)
		r = json_get_int(j, "position", 0, MANIFEST_BLOCKS_MAX, &position, err);
	if (r == 0 && json_has(j, "key"))
		r = read_key(f, j, err);
	f->rollout.phase = (enum rollout_phase)phase;
	f->position = (uint32_t)position;
	return r;
}

static int read_file(struct fleet *f, const char *path, struct err *err)
{
	_cleanup_(json_freep) struct json *j = NULL;
	int64_t version;
	int r = json_parse_file(path, FLEET_FILE_MAX, &j, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = json_get_int(j, "version", FLEET_FILE_VERSION, FLEET_FILE_VERSION, &version, err);
	if (r == 0)
		r = json_get_int(j, "seen", 0, JSON_INT_MAX, &f->seen, err);
	if (r == 0 && json_has(j, "offer"))
		r = read_offer(f, j, err);
	if (r == 0)
		r = read_counted(f, j, err);
	if (r < 0)
		err_prefix(err, "%s", path);
	return r;
}

int fleet_read(struct trainer *t, struct err *err)
{
	char path[FILE_PATH_MAX];
	int r = file_name(t, path, err);

	return r < 0 ? r : read_file(t->fleet, path, err);
}

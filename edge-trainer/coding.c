/* The forms in which checkpoints travel (common/encoding), as workers make and read them.
 *
 * What a device sends is decoded by any worker, also one that trains meanwhile: a transfer does not
 * wait for its turn. A result is coded when it is scored, by the worker that made it: its score is
 * that of what the device will have. A device's own result is the difference to what it handed over,
 * which it has; a window's goes to all of its members, so it is the difference to the first
 * weights, where all have those. */
#include <errno.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "edge-trainer/trainer_priv.h"

bool coding_codes(const struct trainer *t)
{
	return t->conf->encoding != (int)ENCODING_RAW;
}

/* Another device's is none, although it is here: what a difference to it decodes to, and whether it
 * does, is not for anybody who has heard of its id. */
bool coding_base_here(struct trainer *t, const struct device *d, const struct manifest *m)
{
	struct err err = {0};
	bool shared = strcmp(m->base, t->coding.first) == 0;

	if (m->encoding != ENCODING_DELTA)
		return true;
	if (!shared && db_job_shared(t->db, d->id, m->base, &shared, &err) < 0)
		trainer_fault(t, &err);
	return shared && store_has(t->store, m->base);
}

void coding_note_bases(const struct trainer *t, struct device *d, const struct msg_offer *o)
{
	d->has_first = false;
	for (size_t i = 0; i < o->n_bases; i++)
		d->has_first |= strcmp(o->bases[i], t->coding.first) == 0;
}

/* --- first weights --- */

static int first_path(struct trainer *t, char path[FILE_PATH_MAX], struct err *err)
{
	return store_tmp(t->store, "first.weights", path, err);
}

/* The weights that training from [train] seed begins with: made anew at each start, as nothing else
 * says which ones these are. */
void coding_ask_first(struct trainer *t, unsigned slot)
{
	char path[FILE_PATH_MAX];
	struct err err = {0};
	struct json *args;

	if (!coding_codes(t) || t->coding.first[0] || t->coding.first_request)
		return;
	if (first_path(t, path, &err) < 0) {
		trainer_fault(t, &err);
		return;
	}
	args = json_new_obj();
	json_set_int(args, "seed", t->conf->seed);
	json_set_str(args, "out", path);
	if (t->ports.work(t->ports.user, slot, "first", args, &t->coding.first_request) < 0)
		t->coding.first_request = 0;
	t->coding.first_slot = slot;
}

static int keep_first(struct trainer *t, struct err *err)
{
	struct manifest m = {.origin = ORIGIN_LOCAL, .size = (int64_t)t->model->file_bytes};
	char path[FILE_PATH_MAX], id[HASH_SIZE];
	int r = first_path(t, path, err);

	if (r == 0)
		r = weights_check(t->model, path, NULL, id, err);
	if (r < 0)
		return r;
	manifest_name(&m, id);
	memcpy(m.model, t->model->id, sizeof(m.model));
	memcpy(m.device, t->conf->id, sizeof(m.device)); /* nobody's: ours */
	memcpy(m.trainer, t->conf->id, sizeof(m.trainer));
	m.classes = t->model->n_classes;
	m.block_size = t->conf->block_size;
	m.created_ms = trainer_utc(t);
	r = store_add(t->store, path, &m, err);
	if (r == 0)
		memcpy(t->coding.first, id, sizeof(id));
	return r;
}

static void first_made(struct trainer *t, const struct err *failed)
{
	struct err err = {0};

	t->coding.first_request = 0;
	if (!failed && keep_first(t, &err) < 0)
		failed = &err;
	if (failed)
		log_warning("first weights: %s", failed->text);
}

/* --- what comes in --- */

static int decoded_path(struct trainer *t, unsigned slot, char path[FILE_PATH_MAX],
			struct err *err)
{
	char name[32];

	snprintf(name, sizeof(name), "slot-%u.decoded", slot);
	return store_tmp(t->store, name, path, err);
}

/* A worker that decodes nothing now, rather one that nobody's job would lose. */
static struct slot *find_decoder(struct trainer *t)
{
	struct slot *found = NULL;

	for (unsigned i = 0; i < t->conf->slots; i++) {
		struct slot *s = &t->slots[i];

		if (s->ready && !s->decode.request && (!found || (found->entry && !s->entry)))
			found = s;
	}
	return found;
}

/* -EAGAIN: that worker takes none now. */
static int decode_with(struct trainer *t, struct slot *s, struct entry *e, struct err *err)
{
	const struct manifest *m = &e->job.manifest;
	unsigned slot = (unsigned)(s - t->slots);
	char out[FILE_PATH_MAX], base[FILE_PATH_MAX];
	struct json *args;
	int r = decoded_path(t, slot, out, err);

	if (r < 0)
		return r;
	if (m->encoding == ENCODING_DELTA && store_weights(t->store, m->base, base) < 0)
		return err_set(err, -ENOKEY, "base: checkpoint %.12s is not here any more", m->base);
	args = json_new_obj();
	json_set_str(args, "payload", e->decoding.payload);
	json_set_str(args, "encoding", encoding_name(m->encoding));
	json_set_str(args, "out", out);
	if (m->encoding == ENCODING_DELTA)
		json_set_str(args, "base", base);
	r = t->ports.work(t->ports.user, slot, "decode", args, &s->decode.request);
	if (r == 0) {
		s->decode.entry = e;
		return 0;
	}
	s->decode.request = 0;
	if (r == -ENOTCONN)
		s->ready = false; /* until it says so again */
	if (r == -ENOTCONN || r == -EBUSY)
		return -EAGAIN;
	err_errno(err, r, "the worker takes no request");
	err_categorize(err, ERR_WORKER);
	return r;
}

int coding_decode_job(struct trainer *t, struct entry *e, const char *payload, struct err *err)
{
	struct slot *s;
	int r = -EAGAIN;

	memcpy(e->decoding.payload, payload, sizeof(e->decoding.payload));
	while (r == -EAGAIN && (s = find_decoder(t))) {
		r = decode_with(t, s, e, err);
		if (r == -EAGAIN && s->ready)
			break;
	}
	e->decoding.due = r == 0 || r == -EAGAIN;
	return r == -EAGAIN ? 0 : r;
}

static struct slot *decoder_of(struct trainer *t, const struct entry *e)
{
	for (unsigned i = 0; i < t->conf->slots; i++)
		if (t->slots[i].decode.entry == e)
			return &t->slots[i];
	return NULL;
}

/* The newest entry is the first of all. */
static struct entry *longest_waiting(struct trainer *t)
{
	struct entry *found = NULL;

	for (struct entry *e = t->entries; e; e = e->next)
		if (e->decoding.due && !decoder_of(t, e))
			found = e;
	return found;
}

void coding_next(struct trainer *t)
{
	struct entry *e;
	struct slot *s;

	while ((s = find_decoder(t)) && (e = longest_waiting(t))) {
		struct err err = {0};
		int r = decode_with(t, s, e, &err);

		if (r == -EAGAIN && s->ready)
			return; /* its next answer makes room */
		if (r < 0 && r != -EAGAIN)
			pull_decoded(t, e, "", &err);
	}
}

void coding_rest(struct trainer *t, struct entry *e)
{
	if (!decoder_of(t, e))
		e->decoding.due = false;
}

void coding_forget(struct trainer *t, struct entry *e)
{
	struct slot *s = decoder_of(t, e);

	if (s)
		s->decode.entry = NULL; /* until it is answered, the worker has it */
	e->decoding.due = false;
}

/* Nobody else's work is to be lost to it again and again. */
static bool kills(struct trainer *t, struct device *d, const struct err *failed, struct err *err)
{
	bool lost = failed && (failed->code == -ECONNRESET || failed->code == -ETIMEDOUT ||
			       failed->code == -EPROTO);

	if (!lost || ++d->n_killed < KILLED_MAX)
		return false;
	err_set(err, -EBADMSG, "%u workers ended over it: %s", d->n_killed, failed->text);
	device_bar(t, d);
	return true;
}

static void decoded(struct trainer *t, unsigned slot, const struct err *failed)
{
	struct entry *e = t->slots[slot].decode.entry;
	char path[FILE_PATH_MAX];
	struct err err = {0};

	t->slots[slot].decode.request = 0;
	t->slots[slot].decode.entry = NULL;
	if (decoded_path(t, slot, path, NULL) < 0)
		path[0] = '\0';
	if (e)
		pull_decoded(t, e, path, kills(t, e->device, failed, &err) ? &err : failed);
	if (*path)
		file_remove(path, NULL);
}

bool coding_reply(struct trainer *t, unsigned slot, uint64_t request, const struct err *failed)
{
	if (request == t->coding.first_request && slot == t->coding.first_slot)
		first_made(t, failed);
	else if (request == t->slots[slot].decode.request)
		decoded(t, slot, failed);
	else
		return false;
	return true;
}

/* --- what goes out --- */

bool coding_is_due(const struct trainer *t, const struct entry *e)
{
	struct manifest m;

	return coding_codes(t) && e->job.state == JOB_AFTER &&
	       store_manifest(t->store, e->job.partial, &m, NULL) == 0 &&
	       m.encoding == ENCODING_RAW;
}

/* What its receivers have for certain; "": nothing. */
static void base_of(const struct trainer *t, const struct entry *e, char ret[HASH_SIZE])
{
	memcpy(ret, entry_is_merged(e) ? t->coding.first : e->job.manifest.id, HASH_SIZE);
	for (const struct entry *o = t->entries; entry_is_merged(e) && o; o = o->next)
		if (!entry_is_merged(o) && o->job.window == e->job.fence && !o->device->has_first)
			ret[0] = '\0';
}

static int payload_path(struct trainer *t, const struct entry *e, char path[FILE_PATH_MAX],
			struct err *err)
{
	char name[32];

	snprintf(name, sizeof(name), "slot-%d.payload", e->slot);
	return store_tmp(t->store, name, path, err);
}

int coding_args(struct trainer *t, struct entry *e, const char *decoded, struct json *args,
		struct err *err)
{
	char *base = t->slots[e->slot].base, path[FILE_PATH_MAX];
	int r = payload_path(t, e, path, err);

	if (r < 0)
		return r;
	json_set_str(args, "out", path);
	json_set_str(args, "decoded", decoded);
	json_set_str(args, "encoding", encoding_choices[t->conf->encoding]);
	json_set_num(args, "tolerance", t->conf->tolerance);
	base_of(t, e, base);
	if (*base && store_weights(t->store, base, path) == 0) {
		struct json *bases = json_new_arr();

		json_push_str(bases, path);
		json_set(args, "bases", bases);
	}
	return 0;
}

static int coded_manifest(struct trainer *t, struct entry *e, const char *name, const char *payload,
			  const char *id, struct manifest *m, struct err *err)
{
	entry_result(t, e, m);
	if (strcmp(id, m->id) != 0)
		memcpy(m->source, m->id, sizeof(m->source));
	manifest_name(m, id);
	return manifest_coded(m, name, payload, t->slots[e->slot].base, err);
}

int coding_keep(struct trainer *t, struct entry *e, const char *decoded, const struct json *result,
		char ret[HASH_SIZE], struct err *err)
{
	char name[17], path[FILE_PATH_MAX], id[HASH_SIZE];
	struct manifest m;
	int r = json_get_str(result, "encoding", name, sizeof(name), err);

	memcpy(ret, e->job.partial, HASH_SIZE);
	if (r < 0 || strcmp(name, encoding_name(ENCODING_RAW)) == 0)
		return r;
	r = payload_path(t, e, path, err);
	if (r == 0)
		r = weights_check(t->model, decoded, NULL, id, err);
	if (r == 0)
		r = coded_manifest(t, e, name, path, id, &m, err);
	if (r == 0)
		r = db_checkpoint_put(t->db, e->job.device, &m, trainer_utc(t), err);
	if (r == 0)
		r = store_add_coded(t->store, decoded, path, &m, err);
	if (r < 0)
		return r;
	memcpy(ret, id, HASH_SIZE);
	log_info("coded job=%lld checkpoint=%.12s source=%.12s encoding=%s base=%.12s bytes=%lld of %llu",
		 (long long)e->job.id, id, m.source, name, m.base, (long long)m.size,
		 (unsigned long long)t->model->file_bytes);
	return 0;
}

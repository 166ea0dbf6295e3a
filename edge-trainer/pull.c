/* Blocks: of an offered checkpoint on its way in, and of a result on its way out.
 *
 * In: one part file per device and checkpoint; a new want goes out when half of the window has come.
 * Out: what the device wants is remembered, at most MESSAGE_WANT_MAX a device, and sent as the
 * connection takes it; what is lost it asks for again. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "edge-trainer/trainer_priv.h"

static int part_dir(const struct trainer *t, const struct entry *e, char out[FILE_PATH_MAX])
{
	return file_path(out, FILE_PATH_MAX, "%s/%s", t->incoming, e->device->id);
}

static void send_want(struct trainer *t, struct entry *e, int64_t now_ms)
{
	struct msg_want w = {0};

	w.n_blocks = xfer_want(&e->part.xfer, now_ms, w.blocks, MESSAGE_WANT_MAX);
	if (w.n_blocks == 0)
		return;
	memcpy(w.trainer, t->conf->id, sizeof(w.trainer));
	memcpy(w.checkpoint, manifest_payload(&e->job.manifest), sizeof(w.checkpoint));
	trainer_send(t, TOPIC_DEVICE_WANT, e->device->id, msg_want_print(&w), false,
		     MESSAGE_EXPIRY_S);
}

static void failed(struct trainer *t, struct entry *e, const struct err *err)
{
	if (err->code == -EBADMSG || err->code == -EINVAL) {
		device_complain(t, e->device, "checkpoint", err->text);
		entry_followup(e, JOB_E_BAD, err_category_text(ERR_CHECKPOINT));
	} else if (err->code == -ENOKEY) { /* the device is told when it offers that again */
		entry_followup(e, JOB_E_BAD, "its base is not here any more");
	} else {
		trainer_fault(t, err);
		entry_followup(e, JOB_E_FAILED, err_category_text(err->category));
	}
}

/* Verified, then moved into the store. */
static int keep(struct trainer *t, struct entry *e, const char *weights, struct err *err)
{
	struct manifest m = e->job.manifest;
	char id[HASH_SIZE];
	int r = weights_check(t->model, weights, NULL, id, err);

	if (r == -EBADMSG) /* what the device has is like this: not taken again */
		memcpy(e->device->bad_checkpoint, m.id, sizeof(m.id));
	if (r == 0 && strcmp(id, m.id) != 0)
		r = err_set(err, -EBADMSG, "%s: sha256: found %s, expected %s", weights, id, m.id);
	manifest_decoded(&m, t->model->file_bytes);
	return r < 0 ? r : store_add(t->store, weights, &m, err);
}

static void pulled(struct entry *e)
{
	e->device->strikes = 0;
	entry_followup(e, JOB_E_PULLED, NULL);
}

/* All blocks are here. */
static void finish(struct trainer *t, struct entry *e)
{
	char path[FILE_PATH_MAX];
	struct err err = {0};
	int r = part_finish(&e->part, path, &err);
	bool raw = e->job.manifest.encoding == ENCODING_RAW;

	e->pulling = false;
	if (r == 0)
		r = raw ? keep(t, e, path, &err) : coding_decode_job(t, e, path, &err);
	if (r < 0)
		failed(t, e, &err);
	else if (raw)
		pulled(e);
}

void pull_decoded(struct trainer *t, struct entry *e, const char *weights, const struct err *why)
{
	char dir[FILE_PATH_MAX];
	struct err err = {0};

	if (e->job.state == JOB_PULLING) {
		if (!why && keep(t, e, weights, &err) < 0)
			why = &err;
		if (why && why->code == -EBADMSG)
			memcpy(e->device->bad_checkpoint, e->job.manifest.id, HASH_SIZE);
		if (why)
			failed(t, e, why);
		else
			pulled(e);
		/* A worker that died does not say that the payload is bad. */
		if ((!why || why->code == -EBADMSG) && part_dir(t, e, dir) == 0)
			part_discard(dir, manifest_payload(&e->job.manifest));
	}
	coding_forget(t, e);
	entry_settle(t, e);
}

/* It is here, and this device has given us all of it before. To name an id proves nothing: whoever has
 * heard of a checkpoint must not have it trained for him. */
static bool has_proven(struct trainer *t, const struct entry *e)
{
	const char *id = e->job.manifest.id;
	struct err err = {0};
	bool sent = false;

	if (!store_has(t->store, id))
		return false;
	if (db_job_sent(t->db, e->device->id, id, &sent, &err) < 0)
		trainer_fault(t, &err);
	return sent;
}

bool pull_there(const struct trainer *t, const struct entry *e)
{
	char dir[FILE_PATH_MAX];

	return part_dir(t, e, dir) == 0 && part_there(dir, manifest_payload(&e->job.manifest));
}

void pull_begin(struct trainer *t, struct entry *e)
{
	char dir[FILE_PATH_MAX];
	struct err err = {0};
	int64_t now_ms = trainer_now(t);
	int r;

	if (e->decoding.request) /* all of it is here */
		return;
	if (has_proven(t, e)) {
		entry_followup(e, JOB_E_PULLED, NULL);
		return;
	}
	pull_end(t, e);
	r = part_dir(t, e, dir);
	if (r == 0)
		r = file_mkdirs(dir, &err);
	if (r == 0)
		r = part_open(&e->part, dir, &e->job.manifest, now_ms, &err);
	if (r < 0) {
		trainer_fault(t, &err);
		entry_followup(e, JOB_E_FAILED, err_category_text(err.category));
		return;
	}
	e->pulling = true;
	if (xfer_complete(&e->part.xfer)) {
		finish(t, e);
		return;
	}
	if (e->part.xfer.n_held > 0)
		entry_followup(e, JOB_E_BLOCK, NULL);
	send_want(t, e, now_ms);
}

void pull_end(struct trainer *t, struct entry *e)
{
	(void)t;
	if (e->pulling)
		part_close(&e->part);
	e->pulling = false;
}

void pull_forget(struct trainer *t, struct entry *e)
{
	char dir[FILE_PATH_MAX];

	pull_end(t, e);
	if (part_dir(t, e, dir) < 0)
		return;
	part_discard(dir, manifest_payload(&e->job.manifest));
	if (!e->device->jobs || (e->device->jobs == e && !e->next_of_device))
		file_remove(dir, NULL);
}

static struct entry *find_payload(const struct device *d, const char *payload)
{
	for (struct entry *e = d->jobs; e; e = e->next_of_device)
		if (strcmp(manifest_payload(&e->job.manifest), payload) == 0)
			return e;
	return NULL;
}

void pull_block(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct device *d = device_find(t, topic->device);
	struct entry *e = d ? find_payload(d, topic->checkpoint) : NULL;
	struct err err = {0};
	int64_t now_ms = trainer_now(t);
	int r;

	if (!e || !e->pulling)
		return; /* late, or nobody's */
	r = part_block(&e->part, topic->block, m->payload, m->len, now_ms, &err);
	if (r < 0) {
		struct job_event failed = {.kind = JOB_E_FAILED,
					   .reason = err_category_text(err.category)};

		trainer_fault(t, &err);
		entry_event(t, e, &failed);
		return;
	}
	if (r != XFER_OK) {
		log_debug("block not taken device=%s block=%u len=%zu result=%d", d->id,
			  topic->block, m->len, r);
		return;
	}
	entry_event_kind(t, e, JOB_E_BLOCK);
	if (!xfer_complete(&e->part.xfer)) {
		if (e->part.xfer.n_asked <= XFER_WINDOW / 2)
			send_want(t, e, now_ms);
		return;
	}
	finish(t, e);
	entry_settle(t, e);
}

void pull_tick(struct trainer *t, struct entry *e, int64_t now_ms)
{
	int64_t at_ms;

	if (!e->pulling)
		return;
	at_ms = xfer_deadline_ms(&e->part.xfer);
	if (at_ms >= 0 && now_ms >= at_ms)
		xfer_timeout(&e->part.xfer, now_ms);
	send_want(t, e, now_ms);
}

void pull_restart(struct trainer *t, struct entry *e)
{
	if (!e->pulling)
		return;
	xfer_restart(&e->part.xfer, trainer_now(t));
	send_want(t, e, trainer_now(t));
}

void pull_want(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct device *d = device_find(t, topic->device);
	struct err err = {0};
	struct msg_want w;
	struct entry *e;

	if (!d)
		return;
	if (msg_want_parse(m->payload, m->len, &w, &err) < 0) {
		device_complain(t, d, "want", err.text);
		return;
	}
	for (e = d->jobs; e; e = e->next_of_device)
		if (e->job.state == JOB_OFFERING && entry_sending(t, e) &&
		    strcmp(e->sending.payload, w.checkpoint) == 0)
			break;
	if (!e) {
		log_debug("want of nothing on offer device=%s", d->id);
		return;
	}
	for (size_t i = 0; i < w.n_blocks; i++) {
		unsigned k = 0;

		while (k < e->n_wanted && e->wanted[k] != w.blocks[i])
			k++;
		if (k == e->n_wanted && e->n_wanted < MESSAGE_WANT_MAX)
			e->wanted[e->n_wanted++] = w.blocks[i];
	}
	pull_serve(t);
}

/* 0; -EAGAIN: the connection is full; other errors: the block is left out. */
static int send_block(struct trainer *t, struct entry *e, uint32_t block, void *buf)
{
	struct topic to = {.kind = TOPIC_DEVICE_BLOCK, .block = block};
	char path[FILE_PATH_MAX], topic[TOPIC_SIZE];
	struct mqtt_publish p = {.topic = topic, .payload = buf};
	struct err err = {0};
	uint32_t len;
	int r = store_payload(t->store, e->job.partial, path, &err);

	if (r == 0)
		r = part_read_block(path, (uint64_t)e->sending.size, (uint32_t)t->conf->block_size,
				    block, buf, &len, &err);
	if (r < 0) {
		device_complain(t, e->device, "want", err.text[0] ? err.text : "no such result");
		return r;
	}
	memcpy(to.device, e->device->id, sizeof(to.device));
	memcpy(to.checkpoint, e->sending.payload, sizeof(to.checkpoint));
	r = topic_format(topic, t->conf->site, &to);
	p.len = len;
	return r < 0 ? r : t->ports.publish(t->ports.user, &p);
}

/* One block of each device in turn, so that none waits for another's whole list. */
void pull_serve(struct trainer *t)
{
	static char buf[MANIFEST_BLOCK_MAX];
	bool more = true;

	t->blocks_stalled = false;
	while (more) {
		more = false;
		for (struct entry *e = t->entries; e; e = e->next) {
			if (e->n_wanted == 0)
				continue;
			if (e->job.state != JOB_OFFERING || !t->up) {
				e->n_wanted = 0;
				continue;
			}
			if (send_block(t, e, e->wanted[0], buf) == -EAGAIN) {
				t->blocks_stalled = true;
				return; /* trainer_writable() goes on */
			}
			e->n_wanted--;
			memmove(e->wanted, e->wanted + 1, e->n_wanted * sizeof(e->wanted[0]));
			more = true;
		}
	}
}

void pull_clean(struct trainer *t)
{
	DIR *dir = opendir(t->incoming);
	struct dirent *f;

	if (!dir)
		return;
	while ((f = readdir(dir))) {
		struct idmap_node *n;
		char path[FILE_PATH_MAX];

		if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0)
			continue;
		n = idmap_find(&t->devices, f->d_name);
		if ((!n || !idmap_entry(n, struct device, node)->jobs) &&
		    file_path(path, sizeof(path), "%s/%s", t->incoming, f->d_name) == 0)
			file_remove(path, NULL);
	}
	closedir(dir);
}

/* Blocks: of an offered checkpoint on its way in, and of a result on its way out.
 *
 * In: one part file per device and checkpoint; all that come in share what may be outstanding.
 * Out: what the device wants is remembered and sent as the connection takes it; what is lost it asks
 * for again. */
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

	memcpy(w.trainer, t->conf->id, sizeof(w.trainer));
	memcpy(w.checkpoint, manifest_payload(&e->job.manifest), sizeof(w.checkpoint));
	xfer_share(&e->part.xfer, t->n_pulling);
	while ((w.n_blocks = xfer_want(&e->part.xfer, now_ms, w.blocks, MESSAGE_WANT_MAX)) > 0)
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

/* All of it has come, as its offer named it, and it is no good. */
static void bad(struct trainer *t, struct entry *e)
{
	memcpy(e->device->bad_checkpoint, e->job.manifest.id, HASH_SIZE);
	screening_refused(t, e->device, "not usable weights");
}

/* Looked through, then moved into the store. */
static int keep(struct trainer *t, struct entry *e, const char *weights, struct err *err)
{
	struct manifest m = e->job.manifest;
	bool raw = m.encoding == ENCODING_RAW; /* then its hash is verified already */
	char id[HASH_SIZE];
	int r = weights_check(t->model, weights, NULL, raw ? NULL : id, err);

	if (r == -EBADMSG && raw) /* what the device has is like this: not taken again */
		bad(t, e);
	if (r == 0 && !raw && strcmp(id, m.id) != 0)
		r = err_set(err, -EBADMSG, "%s: sha256: found %s, expected %s", weights, id, m.id);
	manifest_decoded(&m, t->model->file_bytes);
	return r < 0 ? r : (raw ? store_add_own : store_add)(t->store, weights, &m, err);
}

static void pulled(struct entry *e)
{
	e->device->strikes = e->device->n_killed = 0;
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
	t->n_pulling--;
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
			bad(t, e);
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
bool pull_has_proven(struct trainer *t, const struct device *d, const char *id)
{
	struct err err = {0};
	bool sent = false;

	if (!store_has(t->store, id))
		return false;
	if (db_job_sent(t->db, d->id, id, &sent, &err) < 0)
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

	if (e->decoding.due) /* all of it is here */
		return;
	if (pull_has_proven(t, e->device, e->job.manifest.id)) {
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
	e->part.from_signer = true;
	e->pulling = true;
	t->n_pulling++;
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
	coding_rest(t, e);
	if (!e->pulling)
		return;
	part_close(&e->part);
	e->pulling = false;
	t->n_pulling--;
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

/* Late, where nothing is on its way; else not of what this device has announced. */
static void block_of_another(struct trainer *t, struct device *d, const struct topic *topic)
{
	char why[MESSAGE_TEXT_MAX], found[13], expected[13];

	for (const struct entry *e = d->jobs; e; e = e->next_of_device) {
		if (!e->pulling)
			continue;
		snprintf(why, sizeof(why), "found checkpoint %s, expected %s",
			 hash_short(topic->checkpoint, found),
			 hash_short(manifest_payload(&e->job.manifest), expected));
		device_complain(t, d, "block", why);
		return;
	}
	device_count_refused(t, d);
}

static struct entry *find_payload(const struct device *d, const char *payload)
{
	for (struct entry *e = d->jobs; e; e = e->next_of_device)
		if (strcmp(manifest_payload(&e->job.manifest), payload) == 0)
			return e;
	return NULL;
}

static void block_refused(struct trainer *t, struct device *d, uint32_t block, size_t len,
			  enum xfer_result r)
{
	struct err err = {0};

	err_set(&err, -EINVAL, "block %u of %zu bytes: %s", block, len, xfer_result_text(r));
	if (t->trust)
		trust_refuse(t->trust, sealed_refusal(r), &err);
	device_complain(t, d, "block", err.text);
}

void pull_block(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct device *d = device_find(t, topic->device);
	struct entry *e = d ? find_payload(d, topic->checkpoint) : NULL;
	static uint8_t opened[SEALING_BLOCK_MAX];
	struct err err = {0};
	int64_t now_ms = trainer_now(t);
	int r;

	if (!d) {
		t->n_refused++;
		return;
	}
	if (!e || !e->pulling) {
		block_of_another(t, d, topic);
		return;
	}
	t->moved_in_bytes += m->len;
	r = sealing_take_block(t->seal, keys_transfer(t, e, e->part.id, false), &e->part, topic->block,
			       m->payload, m->len, opened, now_ms, &err);
	if (r < 0) {
		struct job_event failed = {.kind = JOB_E_FAILED,
					   .reason = err_category_text(err.category)};

		trainer_fault(t, &err);
		entry_event(t, e, &failed);
		return;
	}
	if (r == XFER_E_TWICE)
		return;
	if (r != XFER_OK) {
		block_refused(t, d, topic->block, m->len, (enum xfer_result)r);
		return;
	}
	entry_event_kind(t, e, JOB_E_BLOCK);
	if (!xfer_complete(&e->part.xfer)) {
		send_want(t, e, now_ms);
		return;
	}
	finish(t, e);
	entry_settle(t, e);
}

void pull_tick(struct trainer *t, struct entry *e, int64_t now_ms)
{
	int64_t at_ms;

	if (e->decoding.due) /* nobody waits for the device */
		entry_event_kind(t, e, JOB_E_BLOCK);
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
	if (!e && fleet_want(t, d, &w))
		return;
	if (!e) {
		log_debug("want of nothing on offer device=%s", d->id);
		return;
	}
	serve_add(&e->wanted, w.blocks, w.n_blocks);
	pull_serve(t);
}

int pull_send(struct trainer *t, const struct topic *to, struct seal *seal, const uint8_t *key,
	      struct proof *proof, const char *path, const struct manifest *m, int qos,
	      uint32_t expiry_s, uint32_t *ret_len)
{
	static uint8_t buf[SEALING_BLOCK_MAX];
	char topic[TOPIC_SIZE];
	struct mqtt_publish p = {.topic = topic, .payload = buf, .qos = qos, .expiry_s = expiry_s};
	struct err err = {0};
	int r = sealing_read_block(seal, key, proof, path, m, to->block, buf, ret_len, &err);

	if (r == 0)
		r = topic_format(topic, t->conf->site, to);
	if (r < 0) {
		log_debug("block not sent checkpoint=%.12s block=%u: %s", to->checkpoint, to->block,
			  err.text[0] ? err.text : strerror(-r));
		return r;
	}
	p.len = *ret_len;
	r = t->ports.publish(t->ports.user, &p);
	if (r == 0)
		t->moved_out_bytes += p.len;
	return r;
}

/* The same of the job's result, to its device. */
static int send_block(struct trainer *t, struct entry *e, uint32_t block)
{
	struct topic to = {.kind = TOPIC_DEVICE_BLOCK, .block = block};
	struct manifest m = {.size = e->sending.size, .block_size = t->conf->block_size};
	const uint8_t *key = keys_transfer(t, e, e->sending.payload, true);
	char path[FILE_PATH_MAX];
	uint32_t len;
	int r = store_payload(t->store, e->job.partial, path, NULL);

	memcpy(to.device, e->device->id, sizeof(to.device));
	memcpy(to.checkpoint, e->sending.payload, sizeof(to.checkpoint));
	memcpy(m.payload, e->sending.payload, sizeof(m.payload));
	if (r == 0)
		r = pull_send(t, &to, t->seal, key, &e->proof, path, &m, 0, 0, &len);
	if (r == -ERANGE || r == -ENOENT)
		device_complain(t, e->device, "want", "no such block");
	return r;
}

/* One block of each device in turn, so that none waits for another's whole list. */
void pull_serve(struct trainer *t)
{
	bool more = true;

	t->blocks_stalled = false;
	while (more) {
		more = false;
		for (struct entry *e = t->entries; e; e = e->next) {
			if (e->wanted.n == 0)
				continue;
			if (e->job.state != JOB_OFFERING || !t->up) {
				e->wanted.n = 0;
				continue;
			}
			if (send_block(t, e, e->wanted.blocks[0]) == -EAGAIN) {
				t->blocks_stalled = true;
				return; /* trainer_writable() goes on */
			}
			serve_sent(&e->wanted, 1);
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

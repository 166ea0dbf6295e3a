/* A checkpoint for everyone: told once (fleet/offer, retained), its blocks sent once
 * (fleet/block/...), what a device lacks after that sent to it alone; to a share of the devices
 * first (rollout.h), to the rest when these are no worse.
 *
 * Model: `offer` is what is offered, by its sequence; 0: nothing. `position` of its blocks have
 * been sent to the present group; so STATE/fleet.json, which has all of this, is what a restart
 * goes on from. A larger sequence heard on fleet/offer is another trainer's: then ours is over.
 * Blocks leave at [fleet] rate_bytes, those for everyone and those for one device in turn, so
 * neither a device that asks for much nor one that does not read takes the link or the broker's
 * memory.
 *
 * What is wanted is remembered for FLEET_PEERS_MAX devices at most, a window of blocks each;
 * the others ask again. Blocks that are still to be sent to everyone are not sent to one. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "edge-trainer/fleet_priv.h"

#define FLEET_CENSUS_MS      3000 /* from a connection on, for presence and status of all devices */
#define FLEET_START_MS       3000 /* for devices to subscribe in */
#define FLEET_BURST_MS       100  /* of sending that a late tick may make good */
#define FLEET_STEP_MS        10   /* between two bursts, at least */
#define FLEET_SAVE_BLOCKS    64   /* sent again after a crash, at most */
#define FLEET_QOS            1 /* so the broker holds a block back where a device does not read */
#define FLEET_BLOCK_EXPIRY_S 600
#define PUBLISH_SUFFIX       ".weights"

static bool is_on(const struct fleet *f)
{
	return f->offer.manifest.sequence > 0 && f->rollout.phase != ROLLOUT_HALTED;
}

static bool is_sending(const struct fleet *f)
{
	return is_on(f) && f->position < f->n_blocks;
}

static uint32_t count_blocks(const struct manifest *m)
{
	return (uint32_t)((m->size + m->block_size - 1) / m->block_size);
}

bool fleet_keeps(const struct trainer *t, const char *id)
{
	return is_on(t->fleet) && strcmp(t->fleet->offer.manifest.id, id) == 0;
}

bool fleet_has_one(const struct trainer *t)
{
	return is_on(t->fleet);
}

/* Where `tasuki publish` lays its files. */
static int folder_name(const struct trainer *t, char dir[FILE_PATH_MAX])
{
	return file_path(dir, FILE_PATH_MAX, "%s/publish", t->conf->state);
}

static int make_folder(const struct trainer *t, struct err *err)
{
	char dir[FILE_PATH_MAX];
	int r = folder_name(t, dir);

	return r < 0 ? err_errno(err, r, "%s", t->conf->state) : file_mkdirs(dir, err);
}

/* What was on offer when the program ended: of this model, here still, and, if what we send is sealed,
 * made to be. */
static bool may_go_on(const struct trainer *t)
{
	const struct fleet *f = t->fleet;

	if (strcmp(f->offer.manifest.model, t->model->id) != 0)
		return false;
	return !is_on(f) || (store_has(t->store, f->offer.manifest.id) &&
			     (!t->seal || (f->has_key && *f->offer.manifest.root)));
}

int fleet_load(struct trainer *t, struct err *err)
{
	struct fleet *f = t->fleet = calloc(1, sizeof(*f));
	int r = f ? fleet_read(t, err) : err_set(err, -ENOMEM, "out of memory");

	if (r == 0)
		r = make_folder(t, err);
	if (r == 0)
		r = fleet_orders_open(t, err);
	if (r < 0 || f->offer.manifest.sequence == 0)
		return r;
	if (!may_go_on(t)) {
		log_warning("fleet sequence=%lld checkpoint=%.12s: no longer offered",
			    (long long)f->offer.manifest.sequence, f->offer.manifest.id);
		f->seen = MAX_OF(f->seen, f->offer.manifest.sequence);
		f->offer = (struct msg_fleet){0};
		f->rollout = (struct rollout){0};
		f->n_counted = 0;
		site_key_forget(f);
		return 0;
	}
	f->n_blocks = count_blocks(&f->offer.manifest);
	f->position = MIN_OF(f->position, f->n_blocks);
	return 0;
}

void fleet_done(struct trainer *t)
{
	if (!t->fleet)
		return;
	site_key_forget(t->fleet);
	proof_done(&t->fleet->proof);
	free(t->fleet);
}

/* --- what is offered --- */

/* What is said of it was saved before. */
static void announce(struct trainer *t)
{
	struct fleet *f = t->fleet;
	struct msg_fleet m = f->offer;
	int64_t start_ms;

	f->announce_due = f->offer.manifest.sequence > 0;
	if (!t->up || f->save_due || !f->announce_due)
		return;
	m.share = f->rollout.share;
	start_ms = MIN_OF(FLEET_START_MS + site_key_ms(t), (int64_t)FLEET_SPREAD_MAX_MS);
	m.starts_in_ms = is_sending(f) ? start_ms : -1;
	if (t->trust)
		m.manifest.expires_ms = trainer_utc(t) + FRESHNESS_FLEET_MS;
	if (trainer_send(t, TOPIC_FLEET_OFFER, NULL, msg_fleet_print(&m), true, 0) < 0)
		return;
	f->announce_due = false;
	f->announced_ms = trainer_now(t);
	if (is_sending(f))
		f->send_at_ms = trainer_now(t) + start_ms;
}

/* What is no longer on offer goes, unless a handover knows it. */
static void forget(struct trainer *t, const char *id)
{
	struct err err = {0};

	if (*id && disk_forget(t, id, &err) < 0)
		trainer_fault(t, &err);
}

static void halt(struct trainer *t, bool by_operator)
{
	struct fleet *f = t->fleet;
	const struct rollout *r = &f->rollout;

	f->offer.halted = true;
	if (by_operator)
		snprintf(f->offer.reason, sizeof(f->offer.reason), "by an operator");
	else if (r->reports < t->conf->rollout.reports)
		snprintf(f->offer.reason, sizeof(f->offer.reason),
			 "%lld reports in time, expected %lld", (long long)r->reports,
			 (long long)t->conf->rollout.reports);
	else
		snprintf(f->offer.reason, sizeof(f->offer.reason),
			 "%.2f points worse in the mean of %lld devices",
			 -100 * r->gain / (double)r->reports, (long long)r->reports);
	log_warning("fleet sequence=%lld checkpoint=%.12s halted: %s", (long long)f->offer.manifest.sequence,
		    f->offer.manifest.id, f->offer.reason);
	f->n_peers = 0;
	site_key_forget(f);
}

static void act(struct trainer *t, enum rollout_action action, bool by_operator)
{
	struct fleet *f = t->fleet;

	if (action == ROLLOUT_NOTHING)
		return;
	if (action == ROLLOUT_HALT)
		halt(t, by_operator);
	record_say(t, &(struct audit_event){.event = "fleet",
					    .who = by_operator ? "operator of this machine" : NULL,
					    .checkpoint = f->offer.manifest.id,
					    .number = f->offer.manifest.sequence,
					    .decision = f->offer.halted ? "halted" : "offered",
					    .reason = f->offer.reason});
	if (action == ROLLOUT_HALT) {
		forget(t, f->offer.manifest.id);
	} else {
		f->position = 0;
		f->n_sent = 0;
		log_info("fleet sequence=%lld checkpoint=%.12s share=%lld%% reports=%lld "
			 "activated=%lld: offered",
			 (long long)f->offer.manifest.sequence, f->offer.manifest.id,
			 (long long)f->rollout.share, (long long)f->rollout.reports,
			 (long long)f->rollout.activated);
	}
	fleet_save(t);
	announce(t);
}

bool fleet_advance(struct trainer *t, const struct rollout_event *ev)
{
	enum rollout_action action =
		rollout_step(&t->fleet->rollout, &t->conf->rollout, ev, trainer_utc(t));

	act(t, action, ev->kind == ROLLOUT_EV_HALT || ev->kind == ROLLOUT_EV_NEXT);
	return action != ROLLOUT_NOTHING;
}

struct census {
	int64_t sequence;
	int64_t n[100];
};

static int count_device(void *user, struct idmap_node *node)
{
	struct census *c = user;

	c->n[fleet_place(idmap_entry(node, struct device, node)->id, c->sequence)]++;
	return 0;
}

/* What is said of a checkpoint that is in the store: m has its id, epoch and images_seen. */
static void describe(const struct trainer *t, const struct manifest *m, struct manifest *ret)
{
	*ret = (struct manifest){.origin = ORIGIN_FLEET,
				 .epoch = m->epoch,
				 .images_seen = m->images_seen,
				 .classes = (int64_t)t->model->n_classes,
				 .size = (int64_t)t->model->file_bytes,
				 .block_size = t->conf->block_size,
				 .created_ms = trainer_utc(t)};
	memcpy(ret->id, m->id, sizeof(ret->id));
	memcpy(ret->model, t->model->id, sizeof(ret->model));
	memcpy(ret->device, t->conf->id, sizeof(ret->device));
	memcpy(ret->trainer, t->conf->id, sizeof(ret->trainer));
}

/* Offers it. Where that fails, what was offered goes on. */
static void begin(struct trainer *t, const struct manifest *m, const struct score *test)
{
	struct fleet *f = t->fleet;
	struct rollout_event ev = {.kind = ROLLOUT_EV_BEGIN};
	struct census c = {0};
	struct manifest to;
	struct err err = {0};
	char before[HASH_SIZE];

	describe(t, m, &to);
	if (site_key_make(t, &to, &err) < 0) {
		trainer_fault(t, &err);
		return;
	}
	/* The clock, so that one whose state was lost is not taken for older. */
	c.sequence = MAX_OF(MAX_OF(f->seen, f->offer.manifest.sequence) + 1, trainer_utc(t) / 1000);
	idmap_each(&t->devices, count_device, &c);
	memcpy(before, f->offer.manifest.id, sizeof(before));
	to.sequence = c.sequence;
	f->offer = (struct msg_fleet){.manifest = to,
				      .share = 100,
				      .starts_in_ms = -1,
				      .spread_ms = t->conf->fleet_spread_ms,
				      .test = *test};
	f->n_blocks = count_blocks(&to);
	f->n_counted = 0;
	f->n_peers = 0;
	ev.share = rollout_share(&t->conf->rollout, c.n);
	fleet_advance(t, &ev);
	forget(t, before);
}

/* Another trainer has a newer one: ours is over. */
static void give_way(struct trainer *t, const struct msg_fleet *m)
{
	struct fleet *f = t->fleet;
	char before[HASH_SIZE];

	memcpy(before, f->offer.manifest.id, sizeof(before));
	if (f->offer.manifest.sequence > 0)
		log_info("fleet sequence=%lld gives way to sequence=%lld of trainer=%s",
			 (long long)f->offer.manifest.sequence, (long long)m->manifest.sequence, m->manifest.trainer);
	f->offer = (struct msg_fleet){0};
	f->rollout = (struct rollout){0};
	f->n_counted = 0;
	f->n_peers = 0;
	f->announce_due = false;
	site_key_forget(f);
	fleet_save(t);
	forget(t, before);
}

void fleet_heard(struct trainer *t, const struct mqtt_message *msg, const char *by)
{
	struct fleet *f = t->fleet;
	struct err err = {0};
	struct msg_fleet m;

	if (msg->len == 0)
		return;
	if (msg_fleet_parse(msg->payload, msg->len, &m, &err) < 0) {
		t->n_refused++;
		log_debug("fleet offer not understood: %s", err.text);
		return;
	}
	if (!vouched_fleet(t, &m.manifest, by))
		return;
	if (m.manifest.sequence <= MAX_OF(f->seen, f->offer.manifest.sequence))
		return;
	if (!fleet_sequence_may_be(m.manifest.sequence, trainer_utc(t))) {
		t->n_refused++;
		log_debug("fleet offer refused: sequence %lld is too far ahead",
			  (long long)m.manifest.sequence);
		return;
	}
	f->seen = m.manifest.sequence;
	give_way(t, &m);
}

void fleet_report(struct trainer *t, const struct device *d, const struct msg_report *r)
{
	struct fleet *f = t->fleet;
	struct rollout_event ev = {.kind = ROLLOUT_EV_REPORT, .activated = r->activated};
	const char *id = *r->source ? r->source : r->checkpoint;

	if (f->rollout.phase != ROLLOUT_FIRST || !r->has_decision || r->split != SPLIT_VALIDATION ||
	    strcmp(id, f->offer.manifest.id) != 0 ||
	    !fleet_has(d->id, f->offer.manifest.sequence, f->rollout.share) ||
	    f->n_counted == ROLLOUT_REPORTS_MAX)
		return;
	for (size_t i = 0; i < f->n_counted; i++)
		if (strcmp(f->counted[i], d->id) == 0)
			return;
	memcpy(f->counted[f->n_counted++], d->id, ID_SIZE);
	if (r->has_against)
		ev.gain = score_accuracy(&r->score) - r->against_accuracy;
	log_info("fleet sequence=%lld checkpoint=%.12s device=%s report=%zu of %lld %s gain=%+.2f "
		 "points",
		 (long long)f->offer.manifest.sequence, f->offer.manifest.id, d->id, f->n_counted,
		 (long long)t->conf->rollout.reports, r->activated ? "activated" : "kept",
		 100 * ev.gain);
	f->save_due = true;
	fleet_advance(t, &ev);
}

void fleet_merged(struct trainer *t, const struct manifest *m, const struct score *test)
{
	if (!t->conf->fleet_merged)
		return;
	if (t->fleet->rollout.phase == ROLLOUT_FIRST) {
		log_info("checkpoint=%.12s is not offered to the fleet: sequence=%lld is with the "
			 "first devices",
			 m->id, (long long)t->fleet->offer.manifest.sequence);
		return;
	}
	if (disk_has_fleet_room(t))
		begin(t, m, test);
}

/* --- what an operator publishes --- */

static int take(struct trainer *t, const char *path, struct err *err)
{
	struct manifest from = {0}, m;
	struct weights_header h;
	int r = weights_check(t->model, path, &h, from.id, err);

	if (r < 0)
		return r;
	if (!disk_has_fleet_room(t))
		return err_set(err, -E2BIG,
			       "%s: no room for it beside a handover: [queue] "
			       "disk_max_mb = %lld",
			       path, (long long)t->conf->disk_max_bytes >> 20);
	if (fleet_keeps(t, from.id)) {
		log_info("fleet checkpoint=%.12s is on offer already", from.id);
		return file_remove(path, err);
	}
	from.images_seen = (int64_t)h.seen;
	describe(t, &from, &m);
	r = store_add(t->store, path, &m, err);
	if (r == 0)
		begin(t, &m, &(struct score){0});
	return r;
}

/* One a second, so that a folder full of them holds up nothing else. */
static void look_for_published(struct trainer *t)
{
	char dir[FILE_PATH_MAX], path[FILE_PATH_MAX] = "", aside[FILE_PATH_MAX];
	struct err err = {0};
	struct dirent *e;
	DIR *d;
	int r;

	if (folder_name(t, dir) < 0)
		return;
	d = opendir(dir);
	while (d && !*path && (e = readdir(d))) {
		size_t n = strlen(e->d_name), k = strlen(PUBLISH_SUFFIX);

		if (e->d_name[0] != '.' && (e->d_type == DT_REG || e->d_type == DT_UNKNOWN) &&
		    n > k && strcmp(e->d_name + n - k, PUBLISH_SUFFIX) == 0 &&
		    file_path(path, sizeof(path), "%s/%s", dir, e->d_name) < 0)
			path[0] = '\0';
	}
	if (d)
		closedir(d);
	r = *path ? take(t, path, &err) : 0;
	if (r == 0)
		return;
	if (r != -EBADMSG && r != -E2BIG) { /* of this moment: it waits there */
		trainer_fault(t, &err);
		return;
	}
	log_error("not offered to the fleet: %s", err.text);
	if (file_path(aside, sizeof(aside), "%s.refused", path) < 0 ||
	    file_rename(path, aside, &err) < 0)
		file_remove(path, NULL);
}

/* --- blocks --- */

/* What one device lacks, to be sent to it alone. False: it is not about what we offer. */
bool fleet_want(struct trainer *t, const struct device *d, const struct msg_want *w)
{
	struct fleet *f = t->fleet;
	struct peer *p = NULL;

	if (!fleet_keeps(t, w->checkpoint))
		return false;
	for (unsigned i = 0; i < f->n_peers && !p; i++)
		if (strcmp(f->peers[i].device, d->id) == 0)
			p = &f->peers[i];
	if (!p && f->n_peers == FLEET_PEERS_MAX) {
		f->n_left_out++;
		return true; /* it asks again */
	}
	if (!p) {
		p = &f->peers[f->n_peers++];
		p->wanted.n = 0;
		memcpy(p->device, d->id, sizeof(p->device));
	}
	for (size_t i = 0; i < w->n_blocks; i++) {
		/* Else it comes for everyone, or there is no such block. */
		if (w->blocks[i] < f->position)
			serve_add(&p->wanted, &w->blocks[i], 1);
	}
	if (p->wanted.n == 0)
		*p = f->peers[--f->n_peers];
	fleet_serve(t);
	return true;
}

/* 0; -EAGAIN, -ENOTCONN: not now; other errors: the block is left out. */
static int send_block(struct trainer *t, struct topic *to, uint32_t block, int qos,
		      uint32_t *ret_len)
{
	const struct manifest *m = &t->fleet->offer.manifest;
	char path[FILE_PATH_MAX];
	int r = store_weights(t->store, m->id, path);

	memcpy(to->checkpoint, m->id, sizeof(to->checkpoint));
	to->block = block;
	return r < 0 ? r
		     : pull_send(t, to, t->seal, t->fleet->has_key ? t->fleet->key : NULL,
				 &t->fleet->proof, path, m, qos, qos ? FLEET_BLOCK_EXPIRY_S : 0,
				 ret_len);
}

static int send_next(struct trainer *t, uint32_t *ret_len)
{
	struct fleet *f = t->fleet;
	struct topic to = {.kind = TOPIC_FLEET_BLOCK};
	int r = send_block(t, &to, f->position, FLEET_QOS, ret_len);

	if (r == -EAGAIN || r == -ENOTCONN)
		return r;
	f->n_sent += r == 0;
	f->position++; /* what was left out is asked for */
	if (f->position == f->n_blocks)
		log_info("fleet sequence=%lld checkpoint=%.12s sent blocks=%llu of %u",
			 (long long)f->offer.manifest.sequence, f->offer.manifest.id,
			 (unsigned long long)f->n_sent, f->n_blocks);
	if (f->position == f->n_blocks || f->position >= f->saved_position + FLEET_SAVE_BLOCKS)
		fleet_save(t);
	if (f->position == f->n_blocks)
		announce(t); /* whoever hears of it from here on pulls it */
	return r;
}

static int send_again(struct trainer *t, uint32_t *ret_len)
{
	struct fleet *f = t->fleet;
	struct topic to = {.kind = TOPIC_DEVICE_BLOCK};
	struct peer *p = &f->peers[f->turn %= f->n_peers];
	int r;

	memcpy(to.device, p->device, sizeof(to.device));
	r = send_block(t, &to, p->wanted.blocks[0], 0, ret_len);
	if (r == -EAGAIN || r == -ENOTCONN)
		return r;
	f->n_again += r == 0;
	serve_sent(&p->wanted, 1);
	if (p->wanted.n == 0)
		*p = f->peers[--f->n_peers];
	else
		f->turn++;
	return r;
}

static bool has_work(const struct fleet *f)
{
	return !f->announce_due && (is_sending(f) || f->n_peers > 0);
}

void fleet_serve(struct trainer *t)
{
	struct fleet *f = t->fleet;
	int64_t now_ms = trainer_now(t), rate = t->conf->fleet_rate;

	while (t->up && !f->stalled && has_work(f) && now_ms >= f->send_at_ms) {
		uint32_t len = 0;
		bool next = is_sending(f) && (f->everyones_turn || f->n_peers == 0);
		int r = next ? send_next(t, &len) : send_again(t, &len);

		if (r == -EAGAIN || r == -ENOTCONN) {
			f->stalled = true;
			return;
		}
		f->everyones_turn = !next;
		if (rate > 0)
			f->send_at_ms = MAX_OF(f->send_at_ms, now_ms - FLEET_BURST_MS) +
					(int64_t)len * 1000 / rate;
	}
}

int64_t fleet_next_ms(const struct trainer *t)
{
	const struct fleet *f = t->fleet;

	if (!t->up || f->stalled || !has_work(f))
		return -1;
	return MAX_OF(f->send_at_ms, trainer_now(t) + FLEET_STEP_MS);
}

/* --- its life --- */

void fleet_connected(struct trainer *t)
{
	t->fleet->stalled = false;
	t->fleet->census_ms = trainer_now(t) + FLEET_CENSUS_MS;
	announce(t);
}

void fleet_writable(struct trainer *t)
{
	t->fleet->stalled = false;
	fleet_serve(t);
}

void fleet_second(struct trainer *t)
{
	struct fleet *f = t->fleet;
	struct rollout_event timer = {.kind = ROLLOUT_EV_TIMER};

	if (f->n_again != f->n_again_told)
		log_info("fleet sequence=%lld blocks sent again=%llu left out=%llu",
			 (long long)f->offer.manifest.sequence, (unsigned long long)f->n_again,
			 (unsigned long long)f->n_left_out);
	f->n_again_told = f->n_again;
	if (f->n_keys != f->n_keys_told)
		log_info("fleet sequence=%lld keys given=%llu left out=%llu",
			 (long long)f->offer.manifest.sequence, (unsigned long long)f->n_keys,
			 (unsigned long long)f->n_keys_left_out);
	f->n_keys_told = f->n_keys;
	if (f->save_due)
		fleet_save(t);
	/* What is retained is valid for so long only. */
	if (t->trust && f->offer.manifest.sequence > 0 &&
	    trainer_now(t) - f->announced_ms >= FRESHNESS_FLEET_MS / 4)
		f->announce_due = true;
	if (f->announce_due)
		announce(t);
	fleet_advance(t, &timer);
	fleet_orders_look(t);
	/* A share of the devices is of those that are known. */
	if (t->up && trainer_now(t) >= f->census_ms)
		look_for_published(t);
}

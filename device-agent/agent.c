#include "device-agent/agent_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/checkpoint/model_file.h"
#include "device-agent/private_names.h"

#define CHECKPOINTS_KEPT_MAX 43
#define STEPS_MAX            32 /* of one turn; more is not to be expected */
#define SESSION_EXPIRY_S     86400

/* ---- retries ---- */

void retry_failed(struct agent *a, struct retry *r, const char *what, const struct err *err)
{
	int64_t wait =
		rng_backoff_ms(&a->rng, r->failures, AGENT_RETRY_FIRST_MS, AGENT_RETRY_CAP_MS);
	if (r->failures < 32)
		r->failures++;
	r->at_ms = a->now_ms + wait;
	char text[MESSAGE_TEXT_MAX];
	snprintf(text, sizeof(text), "%s: %.200s", what, err->text);
	if (strcmp(text, r->logged) != 0)
		log_warning("device=%s %s", a->conf.id, text);
	COPY(r->logged, text);
	snprintf(r->reason, sizeof(r->reason), "%s: %s", what, err_category_text(err->category));
}

void retry_done(struct retry *r)
{
	memset(r, 0, sizeof(*r));
}

bool retry_waits(const struct agent *a, const struct retry *r)
{
	return r->failures && a->now_ms < r->at_ms;
}

/* ---- saving ---- */

bool agent_blocked(const struct agent *a)
{
	return retry_waits(a, &a->saving);
}

/* Does what the saved state says is to follow from it. */
static int do_pending(struct agent *a, struct err *err)
{
	struct state *s = a->state;
	int r;
	if (*s->pending.activate) {
		/* The log first: no activation that it does not know of. */
		if (strcmp(s->pending.activate, a->active) != 0)
			ledger_activating(a, s->pending.activate);
		r = store_activate(a->store, s->pending.activate, err);
		/* Gone: then there is nothing to make active, now or later. */
		if (r < 0 && r != -ENOENT)
			return r;
		store_active(a->store, a->active);
		s->pending.activate[0] = a->activating[0] = 0;
	}
	if (*s->pending.report) {
		if (s->pending.seq > reports_last(a->reports)) {
			r = reports_append(a->reports, s->pending.report, err);
			if (r < 0)
				return r;
			chronicle_report(a, s->pending.report);
		}
		s->pending.report[0] = 0;
	}
	return 0;
}

static bool is_pending(const struct state *s)
{
	return *s->pending.activate || *s->pending.report;
}

static bool pending_step(struct agent *a)
{
	struct err err = {0};
	if (!is_pending(a->state))
		return false;
	if (do_pending(a, &err) < 0) {
		retry_failed(a, &a->saving, "cannot save", &err);
		return false;
	}
	retry_done(&a->saving);
	return true;
}

struct state *agent_draft(struct agent *a)
{
	/* Nothing new is decided before what was decided last is done; see agent_commit(). */
	if (is_pending(a->state))
		pending_step(a);
	memcpy(a->draft, a->state, sizeof(*a->draft));
	a->draft->moved_bytes = a->meter.total;
	return a->draft;
}

int agent_commit(struct agent *a)
{
	struct err err = {0};
	if (is_pending(a->state))
		return -EAGAIN; /* why is in a->saving */
	int r = state_save(a->state_path, a->draft, &err);
	if (r < 0) {
		retry_failed(a, &a->saving, "cannot save", &err);
		return r;
	}
	struct state *old = a->state;
	a->state = a->draft;
	a->draft = old;
	a->collect_due = true;
	a->status_dirty = true;
	r = do_pending(a, &err);
	if (r < 0)
		retry_failed(a, &a->saving, "cannot save", &err);
	else
		retry_done(&a->saving);
	return 0; /* it is true from the moment it was saved */
}

static void keep(char list[][HASH_SIZE], size_t *n, const char *id)
{
	if (*id && *n < CHECKPOINTS_KEPT_MAX)
		memcpy(list[(*n)++], id, HASH_SIZE);
}

static void collect(struct agent *a)
{
	const struct state *s = a->state;
	char list[CHECKPOINTS_KEPT_MAX][HASH_SIZE], source[2][HASH_SIZE];
	size_t n = 0;
	struct err err = {0};
	keep(list, &n, s->local);
	keep(list, &n, a->candidate);
	for (size_t i = 0; i < s->judgement.n; i++)
		keep(list, &n, s->judgement.at[i].checkpoint);
	if (a->train_id || a->trained.there)
		keep(list, &n, a->train_parent);
	keep(list, &n, s->handover.checkpoint);
	keep(list, &n, s->handover.granted);
	/* Their private rows are put back into what comes of the copies. */
	lineage_source(a, s->handover.checkpoint, source[0]);
	lineage_source(a, s->handover.granted, source[1]);
	for (size_t i = 0; i < ARRAY_LEN(s->bases); i++)
		keep(list, &n, s->bases[i]);
	keep(list, &n, s->first);
	keep(list, &n, s->privacy.noised);
	if (a->noising.id)
		keep(list, &n, a->noising.whole);
	keep(list, &n, a->coding.whole);
	keep(list, &n, a->coding.coded);
	keep(list, &n, source[0]);
	keep(list, &n, source[1]);
	keep(list, &n, s->handover.result.manifest.id);
	keep(list, &n, s->fleet.offer.manifest.id);
	keep(list, &n, s->pending.activate);
	for (size_t i = 0; i < s->n_undecided; i++)
		keep(list, &n, s->undecided[i]);
	if (a->evaluate_id)
		keep(list, &n, a->evaluation.checkpoint);
	for (size_t i = 0; i < a->n_ordered; i++)
		keep(list, &n, a->ordered[i].checkpoint);
	if (a->trained.there && a->trained.added)
		keep(list, &n, a->trained.manifest.id);
	if (a->port.telling)
		keep(list, &n, a->port.telling(a->port.user));
	if (store_collect(a->store, (const char(*)[HASH_SIZE])list, n, &err) < 0)
		log_warning("device=%s %s", a->conf.id, err.text);
	a->collect_due = false;
}

/* ---- the turn ---- */

static struct handover_conf handover_conf(const struct agent *a)
{
	return (struct handover_conf){.lease_ms = a->live.lease_s * 1000,
				      .hold_ms = a->live.hold_max_s * 1000};
}

static void handover_timer(struct agent *a)
{
	int64_t at = handover_deadline_ms(&a->state->handover);
	struct handover_event ev = {.kind = HANDOVER_EV_TIMER};
	if (at >= 0 && a->now_ms >= at && !agent_blocked(a))
		exchange_event(a, &ev);
}

static bool step(struct agent *a)
{
	if (agent_blocked(a))
		return false;
	if (is_pending(a->state))
		return pending_step(a);
	return guard_step(a) || learn_trained_step(a) || learn_decide_step(a) || judge_step(a) ||
	       exchange_offer_step(a) || exchange_pull_step(a) || fleet_step(a);
}

static int64_t retry_at(const struct agent *a, const struct retry *r)
{
	return retry_waits(a, r) ? r->at_ms : -1;
}

static void rearm(struct agent *a)
{
	int64_t at = a->rounds_wake_ms;
	if (!agent_blocked(a))
		at = *a->suspect
			     ? a->now_ms
			     : earlier(earlier(at, exchange_deadline_ms(a)), fleet_deadline_ms(a));
	at = earlier(at, announce_deadline_ms(a));
	at = earlier(at, chronicle_deadline_ms(a));
	at = earlier(at, inbox_deadline_ms(a));
	at = earlier(at, retry_at(a, &a->saving));
	at = earlier(at, retry_at(a, &a->training));
	at = earlier(at, retry_at(a, &a->evaluating));
	at = earlier(at, retry_at(a, &a->pull));
	at = earlier(at, retry_at(a, &a->fleet.retry));
	at = earlier(at, retry_at(a, &a->making.retry));
	at = earlier(at, judge_deadline_ms(a));
	at = earlier(at, retry_at(a, &a->rows));
	at = earlier(at, retry_at(a, &a->noising.retry));
	at = earlier(at, a->link.wake_ms);
	at = earlier(at, standby_deadline_ms(a));
	if (a->leftover_until_ms)
		at = earlier(at, a->leftover_until_ms);
	a->port.wake_at(a->port.user, at);
}

static void tell_swap(struct agent *a)
{
	struct agent_swap s = {0};
	struct manifest m;
	if (!a->port.swapped || !*a->active || strcmp(a->swapped, a->active) == 0)
		return;
	COPY(s.checkpoint, a->active);
	if (store_manifest(a->store, a->active, &m, NULL) == 0)
		COPY(s.origin, origin_name(m.origin));
	const struct state_score *score =
		state_score_find(a->state, a->active, SPLIT_VALIDATION, NULL);
	if (score) {
		s.n = score->score.n;
		s.correct = score->score.correct;
	}
	COPY(a->swapped, a->active);
	a->port.swapped(a->port.user, &s);
}

void agent_hook_ended(struct agent *a, const char *failure)
{
	COPY(a->hook_failure, failure);
	a->status_dirty = a->collect_due = true;
	a->port.wake_at(a->port.user, a->port.mono_ms(a->port.user));
}

void agent_turn(struct agent *a)
{
	a->now_ms = a->port.mono_ms(a->port.user);
	a->state->handover.conf = handover_conf(a);
	standby_look(a);
	link_begin(a);
	trusted_watch(a);
	handover_timer(a);
	for (int i = 0; i < STEPS_MAX && step(a); i++)
		;
	if (a->leftover_until_ms && a->now_ms >= a->leftover_until_ms)
		exchange_sweep(a);
	tell_swap(a);
	work_step(a);
	exchange_serve(a);
	announce_reports(a);
	announce_status(a, false);
	chronicle_publish(a);
	inbox_replies_due(a);
	if (a->collect_due)
		collect(a);
	rearm(a);
}

void agent_tick(struct agent *a)
{
	a->status_dirty = true;
	agent_turn(a);
}

void agent_reload(struct agent *a, const struct agent_conf *conf)
{
	a->conf.live = a->live = conf->live;
	link_reload(a, &conf->link);
	standby_reload(a, &conf->when);
	agent_tick(a);
}

void agent_writable(struct agent *a)
{
	agent_turn(a);
}

void agent_message(struct agent *a, const struct mqtt_message *m)
{
	a->now_ms = a->port.mono_ms(a->port.user);
	link_begin(a);
	inbox_message(a, m);
	a->status_dirty = true;
	agent_turn(a);
}

void agent_link(struct agent *a, bool up)
{
	struct handover_event ev = {.kind = up ? HANDOVER_EV_UP : HANDOVER_EV_DOWN};
	a->now_ms = a->port.mono_ms(a->port.user);
	link_begin(a);
	if (a->up && !up && memcmp(&a->live, &a->conf.live, sizeof(a->live)) != 0) {
		a->live = a->conf.live;
		log_info("device=%s connection lost: settings taken back", a->conf.id);
	}
	a->up = up;
	chronicle_link(a);
	if (up) {
		announce_presence(a, true);
		if (a->was_up)
			announce_later(a);
		else
			announce_status(a, true);
		a->was_up = true;
		if (a->pulling)
			xfer_restart(&a->part.xfer, a->now_ms);
	} else {
		a->serve.n = 0;
		a->n_ranges = 0;
	}
	fleet_link(a, up);
	exchange_event(a, &ev);
	agent_turn(a);
}

void agent_stop(struct agent *a)
{
	a->now_ms = a->port.mono_ms(a->port.user);
	link_stop(a);
	announce_presence(a, false);
}

/* ---- start ---- */

int64_t agent_boot(const struct agent *a)
{
	return a->state->boot;
}

void agent_worker_conf(const struct agent *a, struct worker_conf *ret)
{
	*ret = a->conf.worker;
	if (a->state->n_private) /* fits: it was opened by that name */
		file_path(ret->private_classes, sizeof(ret->private_classes),
			  "%s/" PRIVATE_NAMES_FILE, a->conf.state);
}

void agent_mqtt_conf(const struct agent *a, struct mqtt_conf *ret)
{
	const struct agent_conf *c = &a->conf;
	struct topic t = {.kind = TOPIC_DEVICE_PRESENCE};
	struct msg_presence will = {.online = false, .boot = a->state->boot};
	_cleanup_free_ char *text = msg_presence_print(&will);
	memset(ret, 0, sizeof(*ret));
	COPY(ret->host, c->host);
	ret->port = (int)c->port;
	identity_tls(&c->identity, &ret->tls, NULL); /* fits: the file was seen at start */
	/* Fits: agent_conf_load() sees to it. */
	int n = snprintf(ret->client_id, sizeof(ret->client_id), "d/%s/%s", c->site, c->id);
	ret->client_id[n < (int)sizeof(ret->client_id) ? n : 0] = 0;
	ret->session_expiry_s = SESSION_EXPIRY_S;
	ret->keepalive_s = (int)c->keepalive_s;
	ret->reconnect_first_ms = c->reconnect_first_ms;
	ret->reconnect_cap_ms = c->reconnect_cap_ms;
	COPY(t.device, c->id);
	topic_format(ret->will_topic, c->site, &t);
	COPY(ret->will_payload, text ? text : "");
	ret->will_retain = true;
}

int agent_filter(const struct agent *a, size_t i, char filter[MQTT_TOPIC_MAX], int *ret_qos,
		 bool *ret_retained)
{
	static const enum topic_kind kinds[AGENT_FILTERS] = {
		TOPIC_DEVICE_CLAIM, TOPIC_DEVICE_RESULT, TOPIC_DEVICE_WANT, TOPIC_DEVICE_BLOCK,
		TOPIC_DEVICE_ACK,   TOPIC_DEVICE_CMD,    TOPIC_FLEET_CMD,   TOPIC_FLEET_OFFER,
		TOPIC_DEVICE_KEY,   TOPIC_FLEET_BLOCK,
	};
	struct topic t = {.kind = kinds[i]};
	COPY(t.device, a->conf.id);
	*ret_qos = t.kind == TOPIC_DEVICE_BLOCK ? 0 : 1;
	*ret_retained = t.kind == TOPIC_FLEET_OFFER;
	if (t.kind == TOPIC_FLEET_BLOCK)
		return fleet_filter(a, filter);
	if (t.kind == TOPIC_DEVICE_KEY && !a->seal)
		return -ENOENT; /* nobody has one */
	return topic_filter(filter, a->conf.site, &t, NULL);
}

/* What the state names and the store does not have any more cannot be gone on with. */
static void reconcile(struct agent *a)
{
	struct state *s = a->state;
	struct handover *h = &s->handover;
	char instead[HASH_SIZE];
	struct err err = {0};
	if (*s->local && !store_has(a->store, s->local)) {
		lineage_instead(a, instead);
		log_warning(
			"device=%s checkpoint %.12s of the local lineage is gone: going on from %s",
			a->conf.id, s->local, *instead ? instead : "new weights");
		COPY(s->local, instead);
	}
	for (size_t i = s->n_undecided; i-- > 0;)
		if (!store_has(a->store, s->undecided[i]))
			state_undecided_drop(s, s->undecided[i]);
	if (s->pinned && !*a->active) {
		log_warning("device=%s the pinned checkpoint is gone", a->conf.id);
		s->pinned = false;
	}
	if ((h->phase == HANDOVER_OFFERING || h->phase == HANDOVER_GRANTED) &&
	    (!store_has(a->store, h->checkpoint) ||
	     lineage_check_leaving(a, h->checkpoint, &err) == -EPERM)) {
		struct handover_event ev = {.kind = HANDOVER_EV_GONE};
		struct handover_actions ignored;
		log_error("device=%s checkpoint=%.12s is no longer on offer: %s", a->conf.id,
			  h->checkpoint, *err.text ? err.text : "it is gone");
		handover_step(h, &ev, a->now_ms, &ignored);
		s->rounds.offer_ordered = true; /* of what may be offered */
	}
	if (h->phase == HANDOVER_JUDGING && !store_has(a->store, h->result.manifest.id)) {
		h->phase = HANDOVER_PULLING;
		s->judgement = (struct judgement){0};
	}
	for (size_t i = 0; i < s->judgement.n; i++) {
		struct candidate_entry *e = &s->judgement.at[i];
		if (!*e->checkpoint || store_has(a->store, e->checkpoint))
			continue;
		e->out = e->kind == CANDIDATE_LOCAL || e->kind == CANDIDATE_PREVIOUS;
		e->checkpoint[0] = 0; /* others are made again */
	}
}

/* Reports are numbered within a log. A folder that has none is new, or has lost its state: numbers
 * begin at 1 again, and reports of another log are set aside. */
static int begin_log(struct state *s, const char *reports, struct err *err)
{
	char old[FILE_PATH_MAX];
	int r = file_path(old, sizeof(old), "%s.old", reports);
	if (r < 0)
		return err_errno(err, r, "%s", reports);
	if (file_exists(reports) && (r = file_rename(reports, old, err)) < 0)
		return r;
	snprintf(s->log, sizeof(s->log), "%016llx", (unsigned long long)rng_entropy());
	s->report_seq = 0;
	s->pending.report[0] = 0;
	return 0;
}

/* Before the worker is opened with them, and before anything else is kept: what a crash in between
 * leaves is names that no weights are about yet. */
static int map_private_names(struct agent *a, struct err *err)
{
	struct private_names names;
	int r = private_names_read(&a->conf, a->model, a->state->n_private, &names, err);
	if (r < 0)
		return r;
	size_t n_new = names.n_new;
	r = private_names_keep(&names, err);
	if (r == 0 && n_new)
		log_info("device=%s %zu of %zu private classes got an output: %s", a->conf.id,
			 n_new, names.n, names.path);
	if (r == 0)
		a->state->n_private = (int64_t)names.n;
	private_names_done(&names);
	return r;
}

/* For applications beside the agent. */
static int describe(struct agent *a, struct err *err)
{
	struct model_file m = {.center_crop = a->conf.worker.data.center_crop};
	struct worker_conf w;
	agent_worker_conf(a, &w);
	COPY(m.model, a->model->id);
	COPY(m.site, a->conf.site);
	COPY(m.device, a->conf.id);
	COPY(m.cfg, w.cfg);
	COPY(m.classes, w.classes);
	COPY(m.private_classes, w.private_classes);
	COPY(m.absent, w.absent);
	return model_file_write(a->conf.state, &m, err);
}

static int open_folder(struct agent *a, struct err *err)
{
	char path[FILE_PATH_MAX];
	int r = file_mkdirs(a->conf.state, err);
	if (r == 0)
		r = file_path(path, sizeof(path), "%s/lock", a->conf.state);
	if (r == 0)
		r = file_lock(path, &a->lock_fd, err);
	if (r == 0)
		r = file_path(a->incoming, sizeof(a->incoming), "%s/incoming", a->conf.state);
	if (r == 0)
		r = file_mkdirs(a->incoming, err);
	if (r == 0)
		r = file_path(path, sizeof(path), "%s/" WORKER_KEEPS, a->conf.state);
	if (r == 0)
		r = file_mkdirs(path, err);
	if (r == 0)
		r = store_open(a->conf.state, &a->store, err);
	if (r == 0)
		r = file_path(a->state_path, sizeof(a->state_path), "%s/state.json", a->conf.state);
	if (r == 0)
		r = state_load(a->state_path, a->state, err);
	if (r < 0)
		return r;
	r = audit_open(a->conf.state, a->port.real_ms(a->port.user), &a->audit, err);
	if (r < 0)
		return r;
	struct state *s = a->state;
	r = state_check_model(s, a->conf.state, a->model, err);
	if (r < 0)
		return r;
	r = map_private_names(a, err);
	if (r == 0)
		r = describe(a, err);
	if (r < 0)
		return r;
	r = file_path(path, sizeof(path), "%s/reports.jsonl", a->conf.state);
	if (r < 0)
		return err_errno(err, r, "%s", a->conf.state);
	r = *s->log ? 0 : begin_log(s, path, err);
	if (r < 0)
		return r;
	return reports_open(path, *s->pending.report ? s->pending.seq - 1 : s->report_seq,
			    &a->reports, err);
}

static int start(struct agent *a, struct err *err)
{
	int r = open_folder(a, err);
	if (r == 0)
		r = sealing_start(a, err);
	if (r < 0)
		return r;
	a->published_seq = reports_last(a->reports);
	store_active(a->store, a->active);
	r = chronicle_start(a, err);
	if (r < 0)
		return r;
	r = do_pending(a, err);
	if (r < 0)
		return r;
	reconcile(a);
	struct state *s = a->state;
	COPY(s->model, a->model->id);
	s->boot++;
	rounds_restart(&s->rounds, a->now_ms);
	const struct handover_conf hc = handover_conf(a);
	handover_restart(&s->handover, &hc, rng_u64(&a->rng), a->now_ms);
	link_start(a);
	a->collect_due = true;
	r = state_save(a->state_path, s, err);
	if (r < 0)
		return r;
	ledger_say(a, &(struct audit_event){
			      .event = "started", .number = s->boot, .reason = TASUKI_VERSION});
	guard_start(a);
	exchange_sweep(a);
	r = fleet_start(a, err);
	if (r < 0)
		return r;
	if (a->conf.share_never)
		log_info("device=%s [data] share = never: nothing is offered", a->conf.id);
	return 0;
}

int agent_new(const struct agent_conf *conf, const struct model *model,
	      const struct agent_ports *ports, uint64_t seed, struct agent **ret, struct err *err)
{
	struct agent *a = calloc(1, sizeof(*a));
	if (!a)
		return err_errno(err, -ENOMEM, "agent");
	a->conf = *conf;
	a->live = conf->live;
	a->model = model;
	a->port = *ports;
	a->lock_fd = -1;
	a->rounds_wake_ms = -1;
	a->status_dirty = true;
	a->status_sent_ms = -AGENT_STATUS_MS;
	rng_init(&a->rng, seed);
	a->now_ms = a->port.mono_ms(a->port.user);
	a->state = calloc(1, sizeof(*a->state));
	a->draft = calloc(1, sizeof(*a->draft));
	a->block = malloc(SEALING_BLOCK_MAX);
	a->details = calloc(1, sizeof(*a->details));
	int r = a->state && a->draft && a->block && a->details ? trusted_start(a, err)
							       : err_errno(err, -ENOMEM, "agent");
	if (r >= 0)
		r = start(a, err);
	if (r < 0) {
		agent_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void agent_free(struct agent *a)
{
	if (!a)
		return;
	if (a->pulling)
		part_close(&a->part);
	fleet_close(a);
	trust_free(a->trust);
	for (size_t i = 0; i < a->n_replies; i++)
		free(a->replies[i].text);
	free(a->status_text);
	chronicle_free(a);
	free(a->block);
	proof_done(&a->proof);
	sealing_stop(a);
	if (a->details)
		details_done(a->details);
	free(a->details);
	free(a->wanted.bits);
	free(a->state);
	free(a->draft);
	reports_free(a->reports);
	audit_free(a->audit);
	store_free(a->store);
	if (a->lock_fd >= 0)
		close(a->lock_fd);
	free(a);
}

/* A device: the real agent with its files, between the simulated broker and worker. */
#include "common/crypto/hash.h"
#include "common/privacy/accountant.h"
#include "device-agent/agent_impl.h"
#include "tests/sim/soak.h"

#include <stdlib.h>
#include <string.h>

#define EPOCHS      40
#define STEP_MAX_MS 15000
#define NEVER       (-1)

struct sim_device {
	unsigned number;
	struct agent_conf conf;
	const struct model *model;
	struct agent *a; /* NULL: it does not run */
	struct sim_client client;
	struct sim_worker worker;
	int64_t wake_ms;
	uint64_t life;
	bool doomed, inside;    /* killed as soon as what it does now returns */
	char active[HASH_SIZE]; /* as checked last */
	char noised[HASH_SIZE]; /* of the last grant that got out, and of how many */
	int64_t n_noised;
};

double sim_crash;
int sim_encoding;
unsigned sim_handovers_max;
int64_t sim_down_max_ms = 5000;

static void start(void *arg, uint64_t life);

/* What becomes active was made by a worker, to the byte. */
static void check_active(struct sim_device *d)
{
	char path[FILE_PATH_MAX], id[HASH_SIZE];
	struct err err = {0};

	if (strcmp(d->active, d->a->active) == 0)
		return;
	memcpy(d->active, d->a->active, HASH_SIZE);
	file_path(path, sizeof(path), "%s/active.weights", d->conf.state);
	if (hash_file(path, id, &err) < 0)
		history_fail("%s: active: %s", d->conf.id, err.text);
	else if (strcmp(id, d->active) != 0)
		history_fail("%s: active is named %.12s and is %.12s", d->conf.id, d->active, id);
	else if (!history_is_made(id))
		history_fail("%s: %.12s is active, and nobody made it", d->conf.id, id);
	history_note("%s active %.12s", d->conf.id, d->active);
}

static void take_down(struct sim_device *d)
{
	history_note("%s killed", d->conf.id);
	d->doomed = false;
	sim_stop(&d->client, true);
	sim_worker_kill(&d->worker);
	agent_free(d->a);
	d->a = NULL;
	d->wake_ms = NEVER;
	sim_at(sim_now() + sim_between(1, sim_down_max_ms), start, d, ++d->life);
}

/* Around all that enters the agent. */
static bool enter(struct sim_device *d)
{
	d->inside = true;
	return d->a != NULL;
}

static void leave(struct sim_device *d)
{
	d->inside = false;
	if (d->a)
		check_active(d);
	if (d->a && d->doomed)
		take_down(d);
}

void sim_device_kill(struct sim_device *d)
{
	if (d->a)
		take_down(d);
}

/* --- ports --- */

/* What is granted has noise, and is in the account before anybody hears of the grant: over all
 * kills, each noised one at least once, and never more of them than the budget is for. */
static void check_account(struct sim_device *d, const struct mqtt_publish *p)
{
	const struct state *s = d->a->state;
	struct manifest m;
	struct msg_grant g;
	struct topic t;

	if (sim_handovers_max == 0 || topic_parse(p->topic, SITE, &t) < 0 ||
	    t.kind != TOPIC_TRAINER_GRANT || msg_grant_parse(p->payload, p->len, &g, NULL) < 0 ||
	    !g.granted || store_manifest(d->a->store, g.checkpoint, &m, NULL) < 0)
		return;
	if (strcmp(m.noised, d->noised) != 0)
		d->n_noised++;
	snprintf(d->noised, sizeof(d->noised), "%s", m.noised);
	if (!*m.noised || strcmp(m.noised, s->privacy.counted) != 0 ||
	    s->privacy.handovers < d->n_noised || s->privacy.handovers > sim_handovers_max)
		history_fail("%s grants %.12s: noised %.12s, counted %.12s, %lld handovers, "
			     "expected %lld to %u",
			     d->conf.id, g.checkpoint, m.noised, s->privacy.counted,
			     (long long)s->privacy.handovers, (long long)d->n_noised,
			     sim_handovers_max);
}

static int publish(void *user, const struct mqtt_publish *p)
{
	struct sim_device *d = user;
	int r;

	if (d->doomed)
		return 0;
	if (sim_chance(sim_crash)) {
		d->doomed = true;
		return 0;
	}
	r = sim_publish(&d->client, p);
	if (r == 0)
		history_sent(p);
	if (r == 0)
		check_account(d, p);
	return r;
}

/* Nothing is published to everyone here. */
static int subscribe(void *user, const char *filter, int qos, bool on)
{
	return 0;
}

static int request(void *user, const char *op, struct json *args, uint64_t *ret_id)
{
	struct sim_device *d = user;

	return sim_worker_request(&d->worker, op, args, ret_id);
}

static void tick(void *arg, uint64_t life)
{
	struct sim_device *d = arg;

	if (d->life != life || d->wake_ms == NEVER || sim_now() < d->wake_ms)
		return;
	d->wake_ms = NEVER;
	if (enter(d))
		agent_tick(d->a);
	leave(d);
}

static void wake_at(void *user, int64_t at_ms)
{
	struct sim_device *d = user;

	if (at_ms < 0) {
		d->wake_ms = NEVER;
		return;
	}
	at_ms = MAX_OF(at_ms, sim_now() + 1);
	if (at_ms == d->wake_ms)
		return;
	d->wake_ms = at_ms;
	sim_at(at_ms, tick, d, d->life);
}

/* --- what happens to it --- */

static void on_message(void *user, const struct mqtt_message *m)
{
	struct sim_device *d = user;

	if (enter(d))
		agent_message(d->a, m);
	leave(d);
}

static void on_link(void *user, bool up)
{
	struct sim_device *d = user;

	if (enter(d))
		agent_link(d->a, up);
	leave(d);
}

static void on_writable(void *user)
{
	struct sim_device *d = user;

	if (enter(d))
		agent_writable(d->a);
	leave(d);
}

static void on_ready(void *owner)
{
	struct sim_device *d = owner;
	struct worker_ready r = {.n = {40, 20, 10}, .classes = 5};
	struct err err = {0};

	for (int i = 0; i < SPLIT_N; i++)
		memset(r.snapshot[i], "abc"[i], HASH_HEX);
	memcpy(r.model, d->model->id, HASH_SIZE);
	if (enter(d) && agent_worker_ready(d->a, &r, &err) < 0)
		history_fail("%s: %s", d->conf.id, err.text);
	leave(d);
}

static void on_progress(void *owner, uint64_t id)
{
	struct sim_device *d = owner;
	struct worker_progress p = {.step = 1, .steps = 2, .loss = 1};

	if (enter(d))
		agent_worker_progress(d->a, id, &p);
	leave(d);
}

static void on_reply(void *owner, uint64_t id, const struct json *result, const struct err *err)
{
	struct sim_device *d = owner;

	if (enter(d))
		agent_worker_reply(d->a, id, result, err);
	leave(d);
}

static void on_died(void *owner, const struct err *why)
{
	struct sim_device *d = owner;

	if (enter(d))
		agent_worker_died(d->a, why);
	leave(d);
}

/* --- its life --- */

static void start(void *arg, uint64_t life)
{
	struct sim_device *d = arg;
	const struct agent_ports ports = {.publish = publish,
					  .subscribe = subscribe,
					  .request = request,
					  .mono_ms = sim_mono_ms,
					  .real_ms = sim_real_ms,
					  .wake_at = wake_at,
					  .user = d};
	struct mqtt_conf mc;
	struct err err = {0};

	if (d->life != life)
		return;
	if (agent_new(&d->conf, d->model, &ports, rng_u64(&sim_rng), &d->a, &err) < 0) {
		history_fail("%s does not start: %s", d->conf.id, err.text);
		return;
	}
	history_note("%s starts boot=%lld", d->conf.id, (long long)agent_boot(d->a));
	agent_mqtt_conf(d->a, &mc);
	snprintf(d->client.will_topic, sizeof(d->client.will_topic), "%s", mc.will_topic);
	snprintf(d->client.will, sizeof(d->client.will), "%s", mc.will_payload);
	d->client.n_filters = 0;
	for (size_t i = 0; i < AGENT_FILTERS; i++)
		if (agent_filter(d->a, i, d->client.filters[d->client.n_filters],
				 &d->client.qos[d->client.n_filters],
				 &d->client.retained[d->client.n_filters]) == 0)
			d->client.n_filters++;
	check_active(d);
	sim_start(&d->client);
	sim_worker_start(&d->worker);
}

struct sim_device *sim_device_new(unsigned number, const char *dir, const struct model *m)
{
	struct sim_device *d = calloc(1, sizeof(*d));
	struct agent_conf *c = &d->conf;

	d->number = number;
	d->model = m;
	d->wake_ms = NEVER;
	strcpy(c->site, SITE);
	snprintf(c->id, sizeof(c->id), "cam-%u", number);
	file_path(c->state, sizeof(c->state), "%s/cam-%u", dir, number);
	sim_identity(ROLE_DEVICE, c->id, &c->identity);
	c->block_size = 1024;
	c->encoding = sim_encoding;
	if (sim_handovers_max)
		c->privacy = (struct privacy_conf){
			.noise = 2,
			.clip = 0.02, /* less than the weights, or it is screened out */
			.delta = 1e-5,
			.budget = accountant_epsilon(
				(sim_handovers_max + 0.5) * accountant_handover(2), 1e-5)};
	c->live = (struct agent_live){.round_epochs = EPOCHS,
				      .rounds = 1,
				      .every_epochs = 2,
				      .min_epochs = 1,
				      .lease_s = 30,
				      .hold_max_s = 900};
	d->client = (struct sim_client){.user = d,
					.durable = true,
					.message = on_message,
					.link = on_link,
					.writable = on_writable};
	d->worker = (struct sim_worker){.model = m,
					.salt = number,
					.step_max_ms = STEP_MAX_MS,
					.owner = d,
					.ready = on_ready,
					.progress = on_progress,
					.reply = on_reply,
					.died = on_died};
	sim_join(&d->client);
	sim_at(sim_now() + sim_between(1, 3000), start, d, ++d->life);
	return d;
}

void sim_device_free(struct sim_device *d)
{
	sim_worker_kill(&d->worker);
	agent_free(d->a);
	free(d);
}

struct sim_client *sim_device_client(struct sim_device *d)
{
	return &d->client;
}

bool sim_device_is_done(const struct sim_device *d)
{
	const struct state *s = d->a ? d->a->state : NULL;

	return s && s->rounds.epoch >= EPOCHS && s->n_undecided == 0 && !d->a->train_id &&
	       !d->a->evaluate_id && s->handover.phase == HANDOVER_IDLE && !*d->a->candidate &&
	       !rounds_offer_due(&s->rounds, &d->a->live);
}

int64_t sim_device_fence(const struct sim_device *d)
{
	return d->a ? d->a->state->handover.fence : 0;
}

int64_t sim_device_reports(const struct sim_device *d)
{
	return d->a ? reports_last(d->a->reports) : 0;
}

char *sim_device_report(struct sim_device *d, int64_t seq)
{
	char *text = NULL;

	return d->a && reports_read(d->a->reports, seq, &text, NULL) == 0 ? text : NULL;
}

void sim_device_check_history(struct sim_device *d)
{
	const struct msg_history *m = history_retained(d->conf.id);
	size_t n = 0;

	if (!d->a || !m) {
		history_fail("%s: no history", d->conf.id);
		return;
	}
	for (int64_t seq = 1; seq <= sim_device_reports(d); seq++) {
		_cleanup_free_ char *text = sim_device_report(d, seq);
		const struct history_point *p = &m->points[MIN_OF(n, HISTORY_POINTS_MAX - 1)];
		struct msg_report r;

		if (!text || msg_report_parse(text, strlen(text), &r, NULL) < 0 ||
		    r.split != SPLIT_VALIDATION)
			continue;
		n++;
		if (n <= HISTORY_POINTS_MAX &&
		    (n > m->n_points || p->correct != r.score.correct || p->epoch != r.epoch ||
		     p->swap != (r.has_decision && r.activated) ||
		     strncmp(p->checkpoint, r.checkpoint, HISTORY_DIGITS) != 0))
			history_fail("%s: point %zu of its history is not its report %lld",
				     d->conf.id, n, (long long)seq);
		msg_report_done(&r);
	}
	if (n != m->n_points)
		history_fail("%s: %zu points in its history, there are %zu", d->conf.id,
			     m->n_points, n);
	if (m->confusion.classes != d->model->outputs ||
	    strcmp(m->confusion.checkpoint, d->a->active) != 0)
		history_fail("%s: counts of %.12s, active is %.12s", d->conf.id,
			     m->confusion.checkpoint, d->a->active);
}

void sim_device_describe(const struct sim_device *d, char *buf, size_t size)
{
	const struct state *s = d->a ? d->a->state : NULL;

	if (!s)
		snprintf(buf, size, "%s is down", d->conf.id);
	else
		snprintf(buf, size, "%s up=%d epoch=%lld handover='%s' fence=%lld undecided=%zu",
			 d->conf.id, d->client.up, (long long)s->rounds.epoch,
			 handover_phase_name(s->handover.phase), (long long)s->handover.fence,
			 s->n_undecided);
}

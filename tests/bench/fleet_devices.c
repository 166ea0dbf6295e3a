/* Many devices in one process, on one loop: the agents and MQTT sessions of the product, with a
 * stand-in for the worker. Driven by tests/bench/fleet.
 *
 * Every second a line of JSON on standard output: what was sent and came in so far, how long each
 * claim of that second took, how late the loop was. On standard input a line `hold` lets no
 * training end from then on; one of `forget` lets nobody wait for the claim of an offer that nobody
 * may have heard, until it is repeated; the end of input ends the program. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/protocol/message.h"
#include "common/protocol/topic.h"
#include "device-agent/session.h"
#include "tests/bench/fake_worker.h"

#define TICK_MS    1000
#define GOODBYE_MS 100

struct counts {
	int64_t statuses, reports, offers, claims, busy, called, results, acks, connects, lost;
};

struct device {
	struct host *host;
	struct agent_session session;
	struct fake_worker worker;
	bool up;
	int64_t offered_ms; /* of the first offer that is not answered yet; 0: none */
	char *offer;        /* the last one; NULL: none yet */
	bool sent_away;     /* it was answered `busy` */
	char topic[MQTT_TOPIC_MAX];
};

struct host {
	struct agent_conf conf;
	struct classes classes;
	struct model *model;
	struct loop *loop;
	struct loop_source *sigterm, *input, *tick, *ramp, *again;
	int64_t first, count, epoch_ms, ramp_ms, again_ms; /* of the command line */
	const char *state;
	struct device *devices;
	int64_t n_started, began_ms, tick_at_ms, n_up;
	struct counts counts;
	struct json *latencies; /* ms, of this second */
	struct rng rng;
};

/* ---- what is counted ---- */

static enum topic_kind kind_of(const struct host *h, const char *topic)
{
	struct topic t;
	return topic_parse(topic, h->conf.site, &t) < 0 ? TOPIC_N : t.kind;
}

static void on_sent(void *user, const struct mqtt_publish *p)
{
	struct device *d = user;
	struct counts *c = &d->host->counts;
	enum topic_kind kind = kind_of(d->host, p->topic);
	c->statuses += kind == TOPIC_DEVICE_STATUS;
	c->reports += kind == TOPIC_DEVICE_REPORT;
	c->offers += kind == TOPIC_DEVICE_OFFER;
	c->acks += kind == TOPIC_TRAINER_ACK;
	if (kind != TOPIC_DEVICE_OFFER)
		return;
	if (!d->offered_ms)
		d->offered_ms = clock_mono_ms();
	free(d->offer);
	d->offer = strndup(p->payload, p->len);
	d->sent_away = false;
	snprintf(d->topic, sizeof(d->topic), "%s", p->topic);
}

static void on_claim(struct device *d, const struct mqtt_message *m)
{
	struct counts *c = &d->host->counts;
	struct msg_claim claim;
	if (msg_claim_parse(m->payload, m->len, &claim, NULL) < 0 || claim.fence)
		return;
	d->sent_away = claim.busy;
	c->busy += claim.busy;
	c->claims += !claim.busy;
	if (!d->offered_ms) {
		c->called += !claim.busy; /* its turn has come */
		return;
	}
	json_push_int(d->host->latencies, clock_mono_ms() - d->offered_ms);
	d->offered_ms = 0;
}

static void on_came(void *user, const struct mqtt_message *m)
{
	struct device *d = user;
	enum topic_kind kind = kind_of(d->host, m->topic);
	d->host->counts.results += kind == TOPIC_DEVICE_RESULT;
	if (kind == TOPIC_DEVICE_CLAIM)
		on_claim(d, m);
}

static void on_state(void *user, enum mqtt_state state, const char *why)
{
	struct device *d = user;
	struct host *h = d->host;
	if (state == MQTT_TAKEN_OVER) {
		log_error("taken over: %s", why);
		loop_exit(h->loop, EXIT_FAILURE);
	}
	h->counts.connects += state == MQTT_UP;
	h->counts.lost += d->up && state == MQTT_DOWN;
	h->n_up += (state == MQTT_UP) - d->up;
	d->up = state == MQTT_UP;
	if (!d->up)
		d->offered_ms = 0; /* it is repeated, and measured, when it is back */
}

static int on_tick(void *user)
{
	struct host *h = user;
	const struct counts *c = &h->counts;
	const struct {
		const char *name;
		int64_t n;
	} members[] = {{"started", h->n_started},
		       {"up", h->n_up},
		       {"connects", c->connects},
		       {"lost", c->lost},
		       {"statuses", c->statuses},
		       {"reports", c->reports},
		       {"offers", c->offers},
		       {"claims", c->claims},
		       {"busy", c->busy},
		       {"called", c->called},
		       {"results", c->results},
		       {"acks", c->acks},
		       {"late_ms", clock_mono_ms() - h->tick_at_ms}};
	struct json *j = json_new_obj();
	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		json_set_int(j, members[i].name, members[i].n);
	json_set(j, "latencies_ms", h->latencies);
	h->latencies = json_new_arr();
	_cleanup_free_ char *text = json_print(j);
	json_free(j);
	printf("%s\n", text ? text : "{}");
	fflush(stdout);
	h->tick_at_ms = clock_mono_ms() + TICK_MS;
	return loop_timer_at(h->tick, h->tick_at_ms);
}

/* ---- devices ---- */

static int on_request(void *user, const char *op, struct json *args, uint64_t *ret_id)
{
	return fake_worker_request(&((struct device *)user)->worker, op, args, ret_id);
}

static void on_reply(void *user, uint64_t request, const struct json *result, const struct err *err)
{
	agent_worker_reply(((struct device *)user)->session.agent, request, result, err);
}

static int start_device(struct host *h, int64_t i, struct err *err)
{
	struct device *d = &h->devices[i];
	const struct agent_session_ports ports = {.request = on_request,
						  .state = on_state,
						  .sent = on_sent,
						  .came = on_came,
						  .user = d};
	struct agent_conf conf = h->conf;
	struct worker_ready ready;
	d->host = h;
	d->worker.model = h->model;
	d->worker.epoch_ms = h->epoch_ms;
	d->worker.reply = on_reply;
	d->worker.user = d;
	snprintf(conf.id, sizeof(conf.id), "cam-%05lld", (long long)(h->first + i));
	int r = file_path(conf.state, sizeof(conf.state), "%s/%s", h->state, conf.id);
	if (r == 0)
		r = fake_worker_init(&d->worker, h->loop);
	if (r < 0)
		return err_errno(err, r, "%s", conf.id);
	r = agent_session_init(&d->session, h->loop, &conf, h->model, &ports, err);
	if (r < 0)
		return r;
	fake_worker_ready(&d->worker, &ready);
	return agent_worker_ready(d->session.agent, &ready, err);
}

/* One after the other, evenly over ramp_ms. */
static int on_ramp(void *user)
{
	struct host *h = user;
	struct err err = {0};
	int r = start_device(h, h->n_started, &err);
	if (r < 0) {
		log_error("%s", err.text);
		return r;
	}
	h->n_started++;
	return loop_timer_at(h->ramp, h->n_started == h->count
					      ? -1
					      : h->began_ms + h->ramp_ms * h->n_started / h->count);
}

/* Whoever was sent away keeps away for long. So that there are as many offers as are wanted, one of
 * those repeats its offer nevertheless. */
static int on_again(void *user)
{
	struct host *h = user;
	for (int tries = 0; tries < 100 && h->n_started; tries++) {
		struct device *d = &h->devices[rng_below(&h->rng, (uint32_t)h->n_started)];
		if (!d->up || !d->sent_away || d->offered_ms)
			continue;
		const struct mqtt_publish p = {
			.topic = d->topic, .payload = d->offer, .len = strlen(d->offer), .qos = 1};
		if (mqtt_publish(d->session.mqtt, &p) == 0) {
			h->counts.offers++;
			d->offered_ms = clock_mono_ms();
		}
		break;
	}
	return loop_timer_at(h->again, clock_mono_ms() + h->again_ms);
}

static int on_input(void *user, int fd, uint32_t events)
{
	struct host *h = user;
	char text[64];
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		loop_exit(h->loop, EXIT_SUCCESS);
	text[MAX_OF(n, 0)] = '\0';
	for (int64_t i = 0; i < h->n_started; i++) {
		h->devices[i].worker.held |= strstr(text, "hold") != NULL;
		if (strstr(text, "forget"))
			h->devices[i].offered_ms = 0;
	}
	return 0;
}

static int on_signal(void *user, int signo)
{
	loop_exit(((struct host *)user)->loop, EXIT_SUCCESS);
	return 0;
}

/* ---- start and end ---- */

static int start(struct host *h, const char *path, struct err *err)
{
	int r = agent_conf_load(path, &h->conf, err);
	if (r == 0)
		r = classes_load(h->conf.worker.classes, &h->classes, err);
	if (r == 0)
		r = model_load(h->conf.worker.cfg, (const char *const *)h->classes.names,
			       h->classes.n, &h->model, err);
	if (r < 0)
		return r;
	h->devices = calloc((size_t)h->count, sizeof(*h->devices));
	h->latencies = json_new_arr();
	rng_init(&h->rng, rng_entropy());
	h->began_ms = clock_mono_ms();
	h->tick_at_ms = h->began_ms + TICK_MS;
	r = h->devices ? loop_new(&h->loop) : -ENOMEM;
	if (r == 0)
		r = loop_add_signal(h->loop, SIGTERM, on_signal, h, &h->sigterm);
	if (r == 0)
		r = loop_add_timer(h->loop, on_tick, h, &h->tick);
	if (r == 0)
		r = loop_add_timer(h->loop, on_ramp, h, &h->ramp);
	if (r == 0)
		r = loop_add_fd(h->loop, STDIN_FILENO, EPOLLIN, on_input, h, &h->input);
	if (r == 0)
		r = loop_timer_at(h->tick, h->tick_at_ms);
	if (r == 0)
		r = loop_timer_at(h->ramp, h->began_ms);
	if (r == 0 && h->again_ms)
		r = loop_add_timer(h->loop, on_again, h, &h->again);
	if (r == 0 && h->again_ms)
		r = loop_timer_at(h->again, h->began_ms + h->ramp_ms);
	return r < 0 ? err_errno(err, r, "event loop") : 0;
}

static void stop(struct host *h)
{
	for (int64_t i = 0; h->devices && i < h->count; i++) {
		agent_session_done(&h->devices[i].session, GOODBYE_MS);
		fake_worker_done(&h->devices[i].worker);
		free(h->devices[i].offer);
	}
	free(h->devices);
	json_free(h->latencies);
	loop_source_free(h->sigterm);
	loop_source_free(h->tick);
	loop_source_free(h->ramp);
	loop_source_free(h->again);
	loop_source_free(h->input);
	loop_free(h->loop);
	model_free(h->model);
	classes_done(&h->classes);
}

static int usage(void)
{
	fputs("Usage: fleet_devices --state DIR [--first N] [--count N] [--epoch-ms N]\n"
	      "                     [--ramp-ms N] [--again-ms N] AGENT.CONF\n"
	      "Devices cam-N and so on, as AGENT.CONF says but with ids and folders of their own.\n"
	      "An epoch takes --epoch-ms; the last device starts after --ramp-ms. Every\n"
	      "--again-ms one that was answered `busy` offers again.\n"
	      "See tests/bench/fleet, which starts it.\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"state", required_argument, NULL, 's'},
		{"first", required_argument, NULL, 'f'},
		{"count", required_argument, NULL, 'n'},
		{"epoch-ms", required_argument, NULL, 'e'},
		{"ramp-ms", required_argument, NULL, 'r'},
		{"again-ms", required_argument, NULL, 'a'},
		{0},
	};
	static struct host h = {.count = 1, .epoch_ms = 60000, .ramp_ms = 1000};
	struct err err = {0};
	int c;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		int64_t n = optarg ? strtoll(optarg, NULL, 10) : 0;
		if (c == 's')
			h.state = optarg;
		else if (c == 'f' && n >= 0)
			h.first = n;
		else if (c == 'n' && n > 0)
			h.count = n;
		else if (c == 'a' && n > 0)
			h.again_ms = n;
		else if (c == 'e' && n > 0)
			h.epoch_ms = n;
		else if (c == 'r' && n >= 0)
			h.ramp_ms = n;
		else
			return usage();
	}
	if (optind + 1 != argc || !h.state)
		return usage();
	log_init("fleet_devices", LOG_P_WARNING);
	int r = start(&h, argv[optind], &err);
	if (r == 0)
		r = loop_run(h.loop);
	if (*err.text)
		log_error("%s", err.text);
	else if (r < 0)
		log_error("event loop: %s", strerror(-r));
	stop(&h);
	return r < 0 ? EXIT_FAILURE : r;
}

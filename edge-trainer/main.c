/* tasuki-trainer: arguments, and the real things behind the trainer's ports. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/base/arguments.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/loop.h"
#include "common/base/mem.h"
#include "common/base/notify.h"
#include "common/checkpoint/model.h"
#include "common/dataset/dataset.h"
#include "common/metrics/daemon.h"
#include "common/metrics/server.h"
#include "common/mqtt/mqtt.h"
#include "common/trust/trust.h"
#include "edge-trainer/conf.h"
#include "edge-trainer/trainer.h"

#define EXIT_TAKEN_OVER 3
#define STOP_MS		700 /* for the last publishes */

struct daemon;

struct slot_worker {
	struct daemon *daemon;
	unsigned slot;
	struct worker *worker;
};

struct daemon {
	const char *path;
	struct conf *start; /* the configuration's file, as it was */
	struct trainer_conf conf;
	struct classes classes;
	struct model *model;
	struct loop *loop;
	struct loop_source *timer, *sigterm, *sigint, *sighup;
	struct watchdog watchdog;
	struct mqtt *mqtt;
	struct slot_worker workers[TRAINER_SLOTS_MAX];
	struct trainer *trainer;
	struct metrics_server *metrics;
	int lock_fd;
};

/* --- ports --- */

static int port_publish(void *user, const struct mqtt_publish *p)
{
	struct daemon *d = user;

	return d->mqtt ? mqtt_publish(d->mqtt, p) : -ENOTCONN;
}

static int port_work(void *user, unsigned slot, const char *op, struct json *args,
		     uint64_t *ret_id)
{
	struct daemon *d = user;

	if (!d->workers[slot].worker) {
		json_free(args);
		return -ENOTCONN;
	}
	return worker_request(d->workers[slot].worker, op, args, ret_id);
}

static int64_t port_mono_ms(void *user)
{
	(void)user;
	return clock_mono_ms();
}

static int64_t port_real_ms(void *user)
{
	(void)user;
	return clock_real_ms();
}

/* Whatever happened may have made something due: the tick runs in the loop's next round. */
static void poke(struct daemon *d)
{
	loop_timer_at(d->timer, 0);
}

static int on_timer(void *user)
{
	struct daemon *d = user;

	return loop_timer_at(d->timer, trainer_tick(d->trainer));
}

static int on_signal(void *user, int signo)
{
	struct daemon *d = user;

	log_info("stopping signal=%s", strsignal(signo));
	loop_exit(d->loop, 0);
	return 0;
}

/* --- broker --- */

static void on_message(void *user, const struct mqtt_message *m)
{
	struct daemon *d = user;

	trainer_message(d->trainer, m);
	poke(d);
}

static void on_state(void *user, enum mqtt_state state, const char *why)
{
	struct daemon *d = user;

	notify_status(why);
	if (state == MQTT_TAKEN_OVER) {
		log_error("session taken over: another client is connected as trainer '%s' of site "
			  "'%s': %s",
			  d->conf.id, d->conf.site, why);
		loop_exit(d->loop, EXIT_TAKEN_OVER);
		return;
	}
	if (state == MQTT_UP)
		log_info("%s", why);
	else
		log_warning("%s", why);
	trainer_connected(d->trainer, state == MQTT_UP);
	poke(d);
}

static void on_writable(void *user)
{
	struct daemon *d = user;

	trainer_writable(d->trainer);
}

static int start_mqtt(struct daemon *d, struct err *err)
{
	struct mqtt_conf conf = {
		.port = d->conf.port,
		.clean_start = true,
		.keepalive_s = d->conf.keepalive_s,
		.reconnect_first_ms = d->conf.reconnect_first_ms,
		.reconnect_cap_ms = d->conf.reconnect_cap_ms,
		.will_retain = true,
	};
	struct mqtt_handler handler = {on_message, on_state, on_writable, d};
	char filters[TRAINER_SUBS_MAX][MQTT_TOPIC_MAX];
	int qos[TRAINER_SUBS_MAX];
	bool retained[TRAINER_SUBS_MAX];
	unsigned n = trainer_subscriptions(d->trainer, filters, qos, retained);
	int r;

	memcpy(conf.host, d->conf.host, sizeof(conf.host));
	identity_tls(&d->conf.identity, &conf.tls, NULL); /* fits: the file was seen at start */
	if (snprintf(conf.client_id, sizeof(conf.client_id), "trainer-%s-%s", d->conf.site,
		     d->conf.id) >= (int)sizeof(conf.client_id))
		return err_set(err, -ENAMETOOLONG, "site and id: too long together for a client id");
	r = trainer_will(d->trainer, conf.will_topic, sizeof(conf.will_topic), conf.will_payload,
			 sizeof(conf.will_payload));
	if (r < 0)
		return err_errno(err, r, "the Will's topic");
	r = mqtt_new(d->loop, &conf, &handler, &d->mqtt, err);
	for (unsigned i = 0; r == 0 && i < n; i++) {
		r = mqtt_subscribe(d->mqtt, filters[i], qos[i], retained[i]);
		if (r < 0)
			err_errno(err, r, "%s: subscription", filters[i]);
	}
	return r < 0 ? r : mqtt_start(d->mqtt, err);
}

/* --- workers --- */

static void on_ready(void *user, const struct worker_ready *r)
{
	struct slot_worker *w = user;

	trainer_worker_ready(w->daemon->trainer, w->slot, r);
	poke(w->daemon);
}

static void on_progress(void *user, uint64_t request, const struct worker_progress *p)
{
	struct slot_worker *w = user;

	trainer_worker_progress(w->daemon->trainer, w->slot, request, p);
}

static void on_reply(void *user, uint64_t request, const struct json *result,
		     const struct err *err)
{
	struct slot_worker *w = user;

	trainer_worker_reply(w->daemon->trainer, w->slot, request, result, err);
	poke(w->daemon);
}

static void on_died(void *user, const struct err *why, bool failed_open, int64_t retry_in_ms)
{
	struct slot_worker *w = user;

	trainer_worker_died(w->daemon->trainer, w->slot, why, failed_open, retry_in_ms);
	poke(w->daemon);
}

static int start_workers(struct daemon *d, struct err *err)
{
	for (unsigned i = 0; i < d->conf.slots; i++) {
		struct slot_worker *w = &d->workers[i];
		struct worker_handler handler = {on_ready, on_progress, on_reply, on_died, w};
		struct worker_conf conf = d->conf.worker;
		int r = file_path(conf.log_path, sizeof(conf.log_path), "%s/worker-%u.log",
				  d->conf.state, i);

		w->daemon = d;
		w->slot = i;
		if (r < 0)
			return err_set(err, r, "%s: path of the state folder is too long",
				       d->conf.state);
		r = worker_new(d->loop, &conf, &handler, &w->worker, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- life --- */

static int load(struct daemon *d, struct err *err)
{
	int r = trainer_conf_load(d->path, &d->conf, err);

	return r < 0 ? r : trainer_model_load(&d->conf, &d->classes, &d->model, err);
}

static void unload(struct daemon *d)
{
	model_free(d->model);
	classes_done(&d->classes);
}

/* As trainer_new() does, for --check-config and for what is read again. */
static int check_identity(const struct daemon *d, struct err *err)
{
	struct trust *t = NULL;
	int r = trust_new(&d->conf.identity, ROLE_TRAINER, clock_real_ms(), &t, err);

	trust_free(t);
	return r;
}

static void figures(void *user, FILE *to)
{
	struct daemon *d = user;
	struct metrics m = {.to = to, .prefix = "tasuki_trainer"};

	trainer_figures(d->trainer, &m);
	metrics_broker(&m, d->mqtt);
}

static void on_changed(void *user, const char *section, const char *key, bool taken)
{
	(void)user;
	if (taken)
		log_info("[%s] %s: changed", section, key);
	else
		log_warning("[%s] %s: written otherwise, in force after a restart", section, key);
}

/* A file that would not do for a start changes nothing. */
static int on_reload(void *user, int signo)
{
	struct daemon *d = user, next = {.path = d->path};
	struct err err = {0};
	int r;

	notify_reloading();
	r = load(&next, &err);
	if (r == 0)
		r = check_identity(&next, &err);
	if (r == 0)
		r = trainer_conf_reload(d->start, d->path, &next.conf, &d->conf, on_changed, d, &err);
	if (r > 0)
		trainer_reload(d->trainer);
	if (r < 0)
		log_error("nothing is changed: %s", err.text);
	else if (strcmp(next.model->id, d->model->id) != 0)
		log_warning("model=%.12s: cfg or classes are others, in force after a restart",
			    next.model->id);
	if (r >= 0)
		log_info("%s: read again, %d changed", d->path, r);
	unload(&next);
	poke(d);
	notify_send("READY=1");
	return 0;
}

static int start(struct daemon *d, struct err *err)
{
	struct trainer_ports ports = {d, port_publish, port_work, port_mono_ms, port_real_ms};
	char path[FILE_PATH_MAX];
	int r = loop_new(&d->loop);

	if (r == 0)
		r = loop_add_signal(d->loop, SIGTERM, on_signal, d, &d->sigterm);
	if (r == 0)
		r = loop_add_signal(d->loop, SIGINT, on_signal, d, &d->sigint);
	if (r == 0)
		r = loop_add_signal(d->loop, SIGHUP, on_reload, d, &d->sighup);
	if (r == 0)
		r = watchdog_start(&d->watchdog, d->loop);
	if (r == 0)
		r = loop_add_timer(d->loop, on_timer, d, &d->timer);
	if (r < 0)
		return err_errno(err, r, "event loop");
	r = conf_load(d->path, &d->start, err);
	if (r == 0)
		r = file_mkdirs(d->conf.state, err);
	if (r < 0)
		return r;
	r = file_path(path, sizeof(path), "%s/lock", d->conf.state);
	if (r < 0)
		return err_set(err, r, "%s: path of the state folder is too long", d->conf.state);
	r = file_lock(path, &d->lock_fd, err);
	if (r == 0)
		r = trainer_new(&d->conf, d->model, &ports, &d->trainer, err);
	if (r == 0)
		r = start_workers(d, err);
	if (r == 0)
		r = start_mqtt(d, err);
	if (r == 0)
		r = metrics_server_new(d->loop, &d->conf.metrics, figures, d, &d->metrics, err);
	if (r == 0)
		poke(d);
	return r;
}

static void stop(struct daemon *d)
{
	metrics_server_free(d->metrics);
	notify_send("STOPPING=1");
	if (d->trainer)
		trainer_stop(d->trainer);
	for (unsigned i = 0; i < TRAINER_SLOTS_MAX; i++) {
		worker_free(d->workers[i].worker);
		d->workers[i].worker = NULL;
	}
	mqtt_free(d->mqtt, STOP_MS, false);
	d->mqtt = NULL;
	trainer_free(d->trainer);
	loop_source_free(d->timer);
	loop_source_free(d->sigterm);
	loop_source_free(d->sigint);
	loop_source_free(d->sighup);
	watchdog_stop(&d->watchdog);
	loop_free(d->loop);
	conf_free(d->start);
	unload(d);
	if (d->lock_fd >= 0)
		close(d->lock_fd);
}

static int run(struct daemon *d, bool check)
{
	struct err err = {0};
	int r = load(d, &err);

	if (r == 0 && check)
		r = check_identity(d, &err);
	if (r == 0 && check) {
		printf("%s: fine: trainer=%s site=%s model=%.12s\n", d->path, d->conf.id,
		       d->conf.site, d->model->id);
	} else if (r == 0) {
		r = start(d, &err);
		if (r == 0) {
			log_info("started version=%s site=%s trainer=%s model=%.12s jobs=%u "
				 "capacity=%u %s",
				 TASUKI_VERSION, d->conf.site, d->conf.id, d->model->id,
				 d->conf.slots, d->conf.capacity, identity_mode(&d->conf.identity));
			notify_send("READY=1");
			r = loop_run(d->loop);
			if (r < 0)
				err_errno(&err, r, "event loop");
		}
	}
	if (r < 0)
		log_error("%s", err.text);
	stop(d);
	return r < 0 ? EXIT_FAILURE : r;
}

int main(int argc, char **argv)
{
	static struct daemon d = {.lock_fd = -1};
	struct arguments a = {
		"tasuki-trainer",
		"Trains the models that devices hand over on its own images, and hands them back.",
		"trainer.conf",
		"SIGHUP has it read again: what can change while the program runs does, the log says what "
		"waits.\n",
	};
	int code = arguments_read(&a, argc, argv);

	if (code >= 0)
		return code;
	d.path = a.conf;
	return run(&d, a.check);
}

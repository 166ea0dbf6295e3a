/* tasuki-agent: arguments, signals, the loop, the worker, and between them the session.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "common/base/arguments.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/notify.h"
#include "common/metrics/server.h"
#include "common/trust/trust.h"
#include "device-agent/hook_run.h"
#include "device-agent/private_names.h"
#include "device-agent/session.h"

#define EXIT_TAKEN_OVER 3
#define GOODBYE_MS      1000 /* for what is in flight to the broker */

struct program {
	const char *path;
	struct conf *start; /* the configuration's file, as it was */
	struct agent_conf conf;
	struct classes classes;
	struct model *model;
	struct loop *loop;
	struct loop_source *sigterm, *sigint, *sighup;
	struct watchdog watchdog;
	struct agent_session session;
	struct worker *worker;
	struct metrics_server *metrics;
	struct hook_run *hook; /* NULL: none */
	bool worker_was_ready;
};

static int port_request(void *user, const char *op, struct json *args, uint64_t *ret_id)
{
	return worker_request(((struct program *)user)->worker, op, args, ret_id);
}

/* ---- what happens ---- */

static int on_signal(void *user, int signo)
{
	struct program *p = user;
	log_info("device=%s stopping: %s", p->conf.id, strsignal(signo));
	loop_exit(p->loop, EXIT_SUCCESS);
	return 0;
}

static void on_state(void *user, enum mqtt_state state, const char *why)
{
	struct program *p = user;
	notify_status(why);
	switch (state) {
	case MQTT_UP:
		log_info("device=%s %s", p->conf.id, why);
		break;
	case MQTT_DOWN:
		log_warning("device=%s %s", p->conf.id, why);
		break;
	case MQTT_TAKEN_OVER:
		log_error("another client has taken over the session of device=%s (0x8E)",
			  p->conf.id);
		loop_exit(p->loop, EXIT_TAKEN_OVER);
		break;
	}
}

static void on_ready(void *user, const struct worker_ready *r)
{
	struct program *p = user;
	struct err err = {0};
	p->worker_was_ready = true;
	if (agent_worker_ready(p->session.agent, r, &err) < 0) {
		log_error("device=%s %s", p->conf.id, err.text);
		loop_exit(p->loop, EXIT_FAILURE);
	}
}

static void on_progress(void *user, uint64_t request, const struct worker_progress *progress)
{
	agent_worker_progress(((struct program *)user)->session.agent, request, progress);
}

static void on_reply(void *user, uint64_t request, const struct json *result, const struct err *err)
{
	agent_worker_reply(((struct program *)user)->session.agent, request, result, err);
}

static void on_died(void *user, const struct err *why, bool failed_open, int64_t retry_in_ms)
{
	struct program *p = user;
	if (failed_open && !p->worker_was_ready) {
		log_error("device=%s %s", p->conf.id, why->text);
		loop_exit(p->loop, EXIT_FAILURE);
		return;
	}
	agent_worker_died(p->session.agent, why);
}

static void on_swapped(void *user, const struct agent_swap *s)
{
	hook_run_swap(((struct program *)user)->hook, s);
}

static const char *telling(void *user)
{
	return hook_run_telling(((struct program *)user)->hook);
}

static void on_hook_ended(void *user, const char *failure)
{
	agent_hook_ended(((struct program *)user)->session.agent, failure);
}

/* ---- start and end ---- */

static int load(struct program *p, struct err *err)
{
	int r = agent_conf_load(p->path, &p->conf, err);
	if (r == 0)
		r = agent_model_load(&p->conf, &p->classes, &p->model, NULL, err);
	/* The agent does that again, in the locked state folder. */
	struct trust *t = NULL;
	if (r == 0)
		r = trust_new(&p->conf.identity, ROLE_DEVICE, clock_real_ms(), &t, err);
	trust_free(t);
	return r;
}

static void figures(void *user, FILE *to)
{
	agent_session_figures(&((struct program *)user)->session, to);
}

static void unload(struct program *p)
{
	model_free(p->model);
	classes_done(&p->classes);
}

static void on_changed(void *user, const char *section, const char *key, bool taken)
{
	struct program *p = user;
	if (taken)
		log_info("device=%s [%s] %s: changed", p->conf.id, section, key);
	else
		log_warning("device=%s [%s] %s: written otherwise, in force after a restart",
			    p->conf.id, section, key);
}

/* A file that would not do for a start changes nothing. */
static int on_reload(void *user, int signo)
{
	struct program *p = user, next = {.path = p->path};
	struct err err = {0};
	notify_reloading();
	int r = load(&next, &err);
	if (r == 0)
		r = agent_conf_reload(p->start, p->path, &next.conf, &p->conf, on_changed, p, &err);
	if (r > 0)
		agent_reload(p->session.agent, &p->conf);
	if (r < 0)
		log_error("device=%s nothing is changed: %s", p->conf.id, err.text);
	else if (strcmp(next.model->id, p->model->id) != 0)
		log_warning("device=%s model=%.12s: cfg or classes are others, in force after a "
			    "restart",
			    p->conf.id, next.model->id);
	if (r >= 0)
		log_info("device=%s %s: read again, %d changed", p->conf.id, p->path, r);
	unload(&next);
	notify_send("READY=1");
	return 0;
}

static int start(struct program *p, struct err *err)
{
	const struct agent_session_ports ports = {.request = port_request,
						  .state = on_state,
						  .swapped = on_swapped,
						  .telling = telling,
						  .user = p};
	const struct worker_handler worker = {.ready = on_ready,
					      .progress = on_progress,
					      .reply = on_reply,
					      .died = on_died,
					      .user = p};
	int r = loop_new(&p->loop);
	/* Signals first: threads inherit the mask. */
	if (r == 0)
		r = loop_add_signal(p->loop, SIGTERM, on_signal, p, &p->sigterm);
	if (r == 0)
		r = loop_add_signal(p->loop, SIGINT, on_signal, p, &p->sigint);
	if (r == 0)
		r = loop_add_signal(p->loop, SIGHUP, on_reload, p, &p->sighup);
	if (r == 0)
		r = watchdog_start(&p->watchdog, p->loop);
	if (r < 0)
		return err_errno(err, r, "event loop");
	r = conf_load(p->path, &p->start, err);
	if (r == 0)
		r = hook_run_new(p->loop, &p->conf, on_hook_ended, p, &p->hook, err);
	if (r < 0)
		return r;
	r = agent_session_init(&p->session, p->loop, &p->conf, p->model, &ports, err);
	if (r < 0)
		return r;
	struct worker_conf conf;
	agent_worker_conf(p->session.agent, &conf);
	r = worker_new(p->loop, &conf, &worker, &p->worker, err);
	return r < 0 ? r
		     : metrics_server_new(p->loop, &p->conf.metrics, figures, p, &p->metrics, err);
}

static void stop(struct program *p)
{
	metrics_server_free(p->metrics);
	notify_send("STOPPING=1");
	worker_free(p->worker);
	hook_run_free(p->hook);
	agent_session_done(&p->session, GOODBYE_MS);
	loop_source_free(p->sigterm);
	loop_source_free(p->sigint);
	loop_source_free(p->sighup);
	watchdog_stop(&p->watchdog);
	loop_free(p->loop);
	conf_free(p->start);
	unload(p);
}

static int run(struct program *p, bool check_only)
{
	struct err err = {0};
	int r = load(p, &err);
	if (r == 0 && check_only) {
		printf("%s: fine: device=%s site=%s model=%.12s\n", p->path, p->conf.id,
		       p->conf.site, p->model->id);
		return EXIT_SUCCESS;
	}
	if (r == 0)
		r = start(p, &err);
	if (r < 0) {
		log_error("%s", err.text);
		return EXIT_FAILURE;
	}
	notify_send("READY=1");
	log_info("device=%s site=%s boot=%lld model=%.12s started %s", p->conf.id, p->conf.site,
		 (long long)agent_boot(p->session.agent), p->model->id,
		 identity_mode(&p->conf.identity));
	r = loop_run(p->loop);
	if (r < 0) {
		log_error("event loop: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	return r;
}

int main(int argc, char **argv)
{
	struct arguments a = {
		"tasuki-agent",
		"Trains on this device's images and hands training over to edge trainers.",
		"agent.conf",
		"SIGHUP has it read again: what can change while the program runs does, the log "
		"says what waits.\n",
	};
	int code = arguments_read(&a, argc, argv);
	if (code >= 0)
		return code;
	struct program *p = calloc(1, sizeof(*p));
	if (!p)
		return EXIT_FAILURE;
	p->path = a.conf;
	code = run(p, a.check);
	stop(p);
	free(p);
	return code;
}

/* tasuki-agent: arguments, signals, the loop, the worker, and between them the session.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/metrics/server.h"
#include "common/trust/trust.h"
#include "device-agent/private_names.h"
#include "device-agent/session.h"

#define EXIT_USAGE      2
#define EXIT_TAKEN_OVER 3
#define GOODBYE_MS      1000 /* for what is in flight to the broker */

struct program {
	struct agent_conf conf;
	struct classes classes;
	struct model *model;
	struct loop *loop;
	struct loop_source *sigterm, *sigint;
	struct agent_session session;
	struct worker *worker;
	struct metrics_server *metrics;
	bool worker_was_ready;
};

static void usage(FILE *f)
{
	fputs("Usage: tasuki-agent [--check-config] [--verbose] [--version] CONFIG\n"
	      "Trains on this device's images and hands training over to edge trainers.\n"
	      "  --check-config  check CONFIG and what it names, make nothing, then exit\n"
	      "  --verbose       log every step\n"
	      "  --version       print the version, then exit\n"
	      "  --help          print this, then exit\n"
	      "CONFIG: see agent.conf among the examples, which has every key and its default.\n",
	      f);
}

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

/* ---- start and end ---- */

static int load(struct program *p, const char *path, struct err *err)
{
	int r = agent_conf_load(path, &p->conf, err);
	if (r == 0)
		r = classes_load(p->conf.worker.classes, &p->classes, err);
	if (r == 0)
		r = model_load(p->conf.worker.cfg, (const char *const *)p->classes.names,
			       p->classes.n, &p->model, err);
	if (r == 0)
		r = model_check_classifier(p->model, err);
	if (r == 0 && strcmp(p->conf.worker.absent, "mask") == 0)
		r = model_check_absent(p->model, err);
	/* The agent does it again, in the locked state folder. */
	struct private_names names = {0};
	if (r == 0)
		r = private_names_read(&p->conf, p->model, 0, &names, err);
	const struct classes *all = names.n ? &names.all : &p->classes;
	if (r == 0)
		r = agent_conf_classes(&p->conf, (const char *const *)all->names, all->n, err);
	private_names_done(&names);
	/* The agent does that again, too. */
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

static int start(struct program *p, struct err *err)
{
	const struct agent_session_ports ports = {
		.request = port_request, .state = on_state, .user = p};
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
	if (r < 0)
		return err_errno(err, r, "event loop");
	r = agent_session_init(&p->session, p->loop, &p->conf, p->model, &ports, err);
	if (r < 0)
		return r;
	struct worker_conf conf;
	agent_worker_conf(p->session.agent, &conf);
	r = worker_new(p->loop, &conf, &worker, &p->worker, err);
	return r < 0 ? r : metrics_server_new(p->loop, &p->conf.metrics, figures, p, &p->metrics, err);
}

static void stop(struct program *p)
{
	log_notify("STOPPING=1");
	metrics_server_free(p->metrics);
	worker_free(p->worker);
	agent_session_done(&p->session, GOODBYE_MS);
	loop_source_free(p->sigterm);
	loop_source_free(p->sigint);
	loop_free(p->loop);
	model_free(p->model);
	classes_done(&p->classes);
}

static int run(struct program *p, const char *path, bool check_only)
{
	struct err err = {0};
	int r = load(p, path, &err);
	if (r == 0 && check_only) {
		printf("%s: fine: device=%s site=%s model=%.12s\n", path, p->conf.id, p->conf.site,
		       p->model->id);
		return EXIT_SUCCESS;
	}
	if (r == 0)
		r = start(p, &err);
	if (r < 0) {
		log_error("%s", err.text);
		return EXIT_FAILURE;
	}
	log_notify("READY=1");
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
	static const struct option options[] = {
		{"check-config", no_argument, NULL, 'c'},
		{"verbose", no_argument, NULL, 'v'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	bool check_only = false, verbose = false;
	int c;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			check_only = true;
			break;
		case 'v':
			verbose = true;
			break;
		case 'V':
			printf("tasuki-agent %s\n", TASUKI_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind + 1 != argc) {
		usage(stderr);
		return EXIT_USAGE;
	}
	log_init("tasuki-agent", verbose ? LOG_P_DEBUG : LOG_P_INFO);
	struct program *p = calloc(1, sizeof(*p));
	if (!p)
		return EXIT_FAILURE;
	int code = run(p, argv[optind], check_only);
	stop(p);
	free(p);
	return code;
}

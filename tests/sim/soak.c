/* The soak: seeds of random faults, each a fleet of two or three devices and two trainers that hand
 * over small checkpoints in virtual time (tests/sim/sim.h). What must hold is in history.c and at
 * the end of a seed here: every handover has ended, exactly once; no report is lost; what is active
 * was made by a worker, to the byte.
 *
 *   soak [--from SEED] [--seeds N] [--secure] [--verbose]
 *
 * A seed that fails is printed with its history, and can be run again by its number. (With --secure
 * keys, nonces and signatures are other ones each time; what happens when is not.) */
#include "tests/sim/soak.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/audit/audit.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define DEVICES_MAX    3
#define TRAINERS       2
#define T0_MS          INT64_C(1000000)
#define FAULTY_MS      (8 * 60 * 1000)   /* of faults, then quiet: */
#define QUIET_MS       (4 * 3600 * 1000) /* within which all must end */
#define REPORTS_MS     (30 * 60 * 1000)  /* and then all reports have come */
#define FAULT_EVERY_MS 12000

/* The convolution's weights, statistics and a connected layer: 20 blocks of 1 KiB. */
static const char cfg[] = "[net]\nbatch=4\nsubdivisions=1\nwidth=16\nheight=16\nchannels=1\n"
			  "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\npad=1\n"
			  "activation=leaky\n[maxpool]\nsize=2\nstride=2\n[connected]\noutput=5\n"
			  "activation=linear\n[softmax]\n";

static struct sim_device *devices[DEVICES_MAX];
static struct sim_trainer *trainers[TRAINERS];
static unsigned n_devices;
static int64_t faulty_until_ms;

int64_t soak_fence(const char *device)
{
	unsigned i = (unsigned)(device[strlen("cam-")] - '0');

	return i < n_devices ? sim_device_fence(devices[i]) : 0;
}

/* --- faults --- */

static struct sim_client *some_client(void)
{
	unsigned i = rng_below(&sim_rng, n_devices + TRAINERS);

	return i < n_devices ? sim_device_client(devices[i])
			     : sim_trainer_client(trainers[i - n_devices]);
}

static void new_weather(void)
{
	bool bad = sim_chance(0.6);

	sim_faults = (struct sim_faults){
		.lose = bad ? rng_between(&sim_rng, 0, 0.3) : 0,
		.twice = bad ? rng_between(&sim_rng, 0, 0.3) : 0,
		.flip = sim_chance(0.2) ? 0.02 : 0,
		.full = sim_chance(0.3) ? 0.1 : 0,
		.delay_max_ms = sim_chance(0.3) ? 20000 : 500,
		.reorder = sim_chance(0.5),
	};
	sim_crash = sim_chance(0.3) ? 0.01 : 0;
	sim_worker_fails = sim_chance(0.3) ? 0.1 : 0;
	sim_down_max_ms = sim_chance(0.2) ? 90000 : 3000;
}

static void calm(void)
{
	sim_faults = (struct sim_faults){.delay_max_ms = 50};
	sim_crash = sim_worker_fails = 0;
	sim_down_max_ms = 1000;
}

static void fault(void *arg, uint64_t n)
{
	if (sim_now() >= faulty_until_ms) {
		history_note("quiet from here on");
		calm();
		return;
	}
	switch (rng_below(&sim_rng, 8)) {
	case 0:
		sim_device_kill(devices[rng_below(&sim_rng, n_devices)]);
		break;
	case 1:
		sim_trainer_kill(trainers[rng_below(&sim_rng, TRAINERS)]);
		break;
	case 2:
		history_note("broker restarts");
		sim_broker_restart(sim_chance(0.5));
		break;
	case 3:
	case 4:
		sim_cut(some_client());
		break;
	default:
		new_weather();
		break;
	}
	sim_at(sim_now() + sim_between(1, 2 * FAULT_EVERY_MS), fault, arg, n);
}

/* --- the end --- */

static bool all_ended(void)
{
	char ignored[1024];

	for (unsigned i = 0; i < n_devices; i++)
		if (!sim_device_is_done(devices[i]))
			return false;
	for (unsigned i = 0; i < TRAINERS; i++)
		if (sim_trainer_open(trainers[i], ignored, sizeof(ignored)) > 0)
			return false;
	return true;
}

/* Looked at now and then: it takes longer than an event does. */
static bool look(void)
{
	static int64_t at_ms;

	if (sim_now() < faulty_until_ms || (at_ms <= sim_now() && sim_now() < at_ms + 1000))
		return false;
	at_ms = sim_now();
	return all_ended();
}

static void say_what_is_open(void)
{
	char text[1024];

	for (unsigned i = 0; i < n_devices; i++) {
		sim_device_describe(devices[i], text, sizeof(text));
		history_note("%s", text);
	}
	for (unsigned i = 0; i < TRAINERS; i++) {
		sim_trainer_open(trainers[i], text, sizeof(text));
		history_note("%s", text);
	}
}

static void check_end(bool ended)
{
	if (!ended) {
		history_fail("not all has ended after %d s of quiet", QUIET_MS / 1000);
		say_what_is_open();
		return;
	}
	for (unsigned i = 0; i < TRAINERS; i++)
		sim_trainer_check(trainers[i], devices, n_devices);
	for (unsigned i = 0; i < n_devices; i++)
		sim_device_check_history(devices[i]);
	history_check();
}

struct totals {
	uint64_t messages, decided, virtual_ms;
};

/* Through all restarts and full disks. */
static void check_audit(const char *dir, const char *kind, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct audit_chain c = {0};
		char folder[FILE_PATH_MAX];
		struct err err = {0};

		file_path(folder, sizeof(folder), "%s/%s-%u", dir, kind, i);
		if (audit_check_folder(folder, &c, NULL, NULL, &err) < 0 || c.lines < 2)
			history_fail("audit log: %s", err.text);
	}
}

static bool run(uint64_t seed, const char *dir, bool verbose, struct totals *totals)
{
	static const char *const names[] = {"zero", "one", "two", "three", "four"};
	struct model *m = NULL;
	struct err err = {0};
	bool ended;

	if (model_parse(cfg, strlen(cfg), "soak.cfg", names, 5, &m, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	sim_begin(seed, T0_MS);
	history_begin(seed, verbose);
	sim_worker_made = history_made;
	n_devices = 2 + rng_below(&sim_rng, DEVICES_MAX - 1);
	faulty_until_ms = T0_MS + FAULTY_MS;
	sim_encoding = sim_chance(0.5) ? (int)ENCODING_RAW
				       : (int)rng_below(&sim_rng, ENCODING_N + 1);
	sim_handovers_max = sim_chance(0.3) ? 1 + rng_below(&sim_rng, 6) : 0;
	sim_identity_begin(dir);
	for (unsigned i = 0; i < n_devices; i++)
		devices[i] = sim_device_new(i, dir, m);
	for (unsigned i = 0; i < TRAINERS; i++)
		trainers[i] = sim_trainer_new(i, dir, m);
	new_weather();
	sim_at(T0_MS + 5000, fault, NULL, 0);
	ended = sim_run(faulty_until_ms + QUIET_MS, look);
	if (ended) /* reports that are asked for */
		sim_run(sim_now() + REPORTS_MS, NULL);
	check_end(ended);
	totals->messages += sim_n_messages();
	totals->decided += history_n_decided();
	totals->virtual_ms += (uint64_t)(sim_now() - T0_MS);
	sim_end();
	for (unsigned i = 0; i < n_devices; i++)
		sim_device_free(devices[i]);
	for (unsigned i = 0; i < TRAINERS; i++)
		sim_trainer_free(trainers[i]);
	sim_identity_end();
	check_audit(dir, "cam", n_devices);
	check_audit(dir, "edge", TRAINERS);
	model_free(m);
	file_remove(dir, NULL);
	return !history_failed();
}

int main(int argc, char **argv)
{
	uint64_t from = 1, n = 20, failed = 0;
	struct totals totals = {0};
	bool verbose = false;
	struct timespec began, now;

	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--from") == 0 && i + 1 < argc)
			from = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
			n = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--verbose") == 0)
			verbose = true;
		else if (strcmp(argv[i], "--secure") == 0)
			sim_secure = true;
		else
			return fprintf(stderr, "usage: soak [--from SEED] [--seeds N] [--secure] "
					       "[--verbose]\n"),
			       2;
	log_init("soak", verbose ? LOG_P_INFO : (enum log_priority)0);
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (uint64_t seed = from; seed < from + n; seed++) {
		char dir[SIM_DIR_SIZE];

		if (!sim_dir(dir))
			return perror(dir), 1;
		if (run(seed, dir, verbose, &totals))
			continue;
		failed++;
		printf("seed %llu failed; its history:\n", (unsigned long long)seed);
		history_print(stdout);
		fflush(stdout);
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("%llu seeds, %llu failed: %llu results decided, %llu messages, %.1f h of virtual "
	       "time "
	       "in %.0f s\n",
	       (unsigned long long)n, (unsigned long long)failed,
	       (unsigned long long)totals.decided, (unsigned long long)totals.messages,
	       (double)totals.virtual_ms / 3600000,
	       (double)(now.tv_sec - began.tv_sec) + (double)(now.tv_nsec - began.tv_nsec) * 1e-9);
	return failed > 0;
}

/* An application that reads through libtasuki at full speed, from several threads, and checks each
 * answer against what the checkpoint that it names is known to answer.
 *
 *     app-stress STATE EXPECTED THREADS SWAPS SECONDS [WORKER [ROUNDS]]
 *
 * EXPECTED has lines "CHECKPOINT IMAGE CLASS SCORE". Ends once it has seen so many swaps (0: none
 * are waited for) and so many seconds are over, or with an error after SECONDS_MAX. ROUNDS: a file
 * that has a byte for each time that every thread has ended a call since the last one. Prints one
 * line of JSON: calls, wrong and failed ones, swaps seen, the longest call and the longest
 * swap-free one. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libtasuki/tasuki.h"

#define EXPECTED_MAX 4096
#define THREADS_MAX  16
#define SCORE_CLOSE  1e-3 /* another number of threads, another order of sums */
#define SECONDS_MAX  300.0

struct expected {
	char checkpoint[TASUKI_ID_SIZE], image[256];
	unsigned class_index;
	double score;
};

static struct {
	tasuki *t;
	struct expected all[EXPECTED_MAX];
	int n;
	atomic_bool stop;
	atomic_ulong called_back; /* swaps by callback */
	_Atomic uint64_t swaps;
} app;

struct reader {
	pthread_t thread;
	atomic_ulong calls; /* looked at by the others */
	unsigned long wrong, failed, round;
	double longest_ms;       /* between the ends of two calls: it does nothing else */
	double longest_quiet_ms; /* of those during which there was no swap */
	int checkpoints;         /* changes of what answered */
	char last[TASUKI_ID_SIZE], error[512];
};

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static const struct expected *find(const char *checkpoint, const char *image)
{
	for (int i = 0; i < app.n; i++)
		if (!strcmp(app.all[i].checkpoint, checkpoint) && !strcmp(app.all[i].image, image))
			return &app.all[i];
	return NULL;
}

static void check(struct reader *r, const struct expected *asked, const struct tasuki_result *got,
		  const float *p, uint32_t n)
{
	const struct expected *e = find(got->checkpoint, asked->image);
	double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += (double)p[i];
	if (!e || got->class_index != e->class_index ||
	    fabs((double)got->score - e->score) > SCORE_CLOSE || fabs(sum - 1) > 1e-4) {
		r->wrong++;
		snprintf(r->error, sizeof(r->error),
			 "%s by %.12s: class %u score %g, expected class %u score %g", asked->image,
			 got->checkpoint, got->class_index, (double)got->score,
			 e ? e->class_index : 0, e ? e->score : -1);
	}
	r->checkpoints += strcmp(r->last, got->checkpoint) != 0;
	memcpy(r->last, got->checkpoint, sizeof(r->last));
}

static void *read_all(void *user)
{
	struct reader *r = user;
	struct tasuki_result got;
	struct tasuki_error e;
	uint32_t w, h, c, n;
	tasuki_shape(app.t, &w, &h, &c, &n);
	float *p = malloc(n * sizeof(*p));
	uint64_t swaps = app.swaps;
	double last = now_ms();
	for (int i = (int)((uintptr_t)user / 64 % (uintptr_t)app.n); !app.stop;
	     i = (i + 1) % app.n) {
		int code = tasuki_classify_file(app.t, app.all[i].image, &got, p, n, &e);
		r->calls++;
		if (code < 0) {
			r->failed++;
			snprintf(r->error, sizeof(r->error), "%s", e.text);
		} else {
			check(r, &app.all[i], &got, p, n);
		}
		double at = now_ms();
		uint64_t seen = app.swaps;
		r->longest_ms = fmax(r->longest_ms, at - last);
		if (seen == swaps)
			r->longest_quiet_ms = fmax(r->longest_quiet_ms, at - last);
		swaps = seen;
		last = at;
	}
	free(p);
	return NULL;
}

static void on_swap(void *user, const struct tasuki_checkpoint *now)
{
	app.called_back++;
}

static void on_trouble(void *user, const struct tasuki_error *what)
{
	fprintf(stderr, "trouble: %s\n", what->text);
}

static void read_expected(const char *path)
{
	FILE *f = fopen(path, "re");
	struct expected *e = app.all;
	while (f && app.n < EXPECTED_MAX &&
	       fscanf(f, "%64s %255s %u %lf", e->checkpoint, e->image, &e->class_index,
		      &e->score) == 4)
		e = &app.all[++app.n];
	if (f)
		fclose(f);
}

/* One more, where each has ended a call. */
static void count_round(struct reader *readers, int n, FILE *to)
{
	for (int i = 0; i < n; i++)
		if (readers[i].calls == readers[i].round)
			return;
	for (int i = 0; i < n; i++)
		readers[i].round = readers[i].calls;
	fputc('.', to);
	fflush(to);
}

/* Looks on until it has seen enough: the swaps are somebody else's. */
static bool watch(unsigned long want, double seconds, struct reader *readers, int n, FILE *rounds)
{
	struct pollfd fd = {.fd = tasuki_fd(app.t), .events = POLLIN};
	struct tasuki_checkpoint now = {0};
	double begun = now_ms();
	while (now.swaps < want || now_ms() < begun + seconds * 1e3) {
		if (now_ms() > begun + SECONDS_MAX * 1e3)
			return false;
		if (poll(&fd, 1, 100) > 0)
			tasuki_current(app.t, &now);
		app.swaps = now.swaps;
		if (rounds)
			count_round(readers, n, rounds);
	}
	return true;
}

static int report(const struct reader *readers, int n, double seconds, uint64_t swaps)
{
	struct reader all = {0};
	for (int i = 0; i < n; i++) {
		const struct reader *r = &readers[i];
		all.calls += r->calls;
		all.wrong += r->wrong;
		all.failed += r->failed;
		all.checkpoints += r->checkpoints;
		all.longest_ms = fmax(all.longest_ms, r->longest_ms);
		all.longest_quiet_ms = fmax(all.longest_quiet_ms, r->longest_quiet_ms);
		if (*r->error)
			fprintf(stderr, "app-stress: %s\n", r->error);
	}
	printf("{\"calls\": %lu, \"wrong\": %lu, \"failed\": %lu, \"swaps\": %llu, "
	       "\"called_back\": %lu, "
	       "\"checkpoints\": %d, \"longest_ms\": %.2f, \"longest_quiet_ms\": %.2f, "
	       "\"calls_per_second\": %.0f}\n",
	       all.calls, all.wrong, all.failed, (unsigned long long)swaps,
	       (unsigned long)app.called_back, all.checkpoints, all.longest_ms,
	       all.longest_quiet_ms, (double)all.calls / seconds);
	return all.wrong || all.failed || !all.calls;
}

int main(int argc, char **argv)
{
	struct tasuki_options o = {.size = sizeof(o), .on_swap = on_swap, .on_trouble = on_trouble};
	struct tasuki_error e;
	FILE *rounds = argc > 7 ? fopen(argv[7], "we") : NULL;
	static struct reader readers[THREADS_MAX];
	int n = argc > 5 ? atoi(argv[3]) : 0;
	if (n < 1 || n > THREADS_MAX)
		return 2;
	o.worker = argc > 6 ? argv[6] : NULL;
	read_expected(argv[2]);
	if (!app.n || tasuki_open(argv[1], &o, &app.t, &e) < 0) {
		fprintf(stderr, "app-stress: %s\n", app.n ? e.text : "nothing is expected");
		return 1;
	}
	printf("open\n");
	fflush(stdout);
	double begun = now_ms();
	for (int i = 0; i < n; i++)
		if (pthread_create(&readers[i].thread, NULL, read_all, &readers[i]) != 0)
			return 1;
	bool done = watch(strtoul(argv[4], NULL, 10), atof(argv[5]), readers, n, rounds);
	app.stop = true;
	for (int i = 0; i < n; i++)
		pthread_join(readers[i].thread, NULL);
	double seconds = (now_ms() - begun) / 1e3;
	struct tasuki_checkpoint now;
	tasuki_current(app.t, &now);
	tasuki_close(app.t); /* a swap is counted before it is told of; now each has been told of */
	int failed = report(readers, n, seconds, now.swaps);
	if (rounds)
		fclose(rounds);
	if (!done)
		fprintf(stderr, "app-stress: not enough swaps within %.0f s\n", SECONDS_MAX);
	return failed || !done;
}

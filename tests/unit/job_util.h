/* Transcripts of jobs: what happens when, what is done, and where that leads. Leases are of 60 s
 * unless a row says otherwise; their margin is 3 s. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "edge-trainer/job.h"

#define LEASE      60000
#define S1         "1111111111111111111111111111111111111111111111111111111111111111"
#define S2         "2222222222222222222222222222222222222222222222222222222222222222"
#define W1         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define W2         "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define CHECKPOINT "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

static int64_t numbers; /* of claims */
static const struct job_conf conf = {.lease_max_ms = 120000, .epochs = 2, .claims = &numbers};
static const struct score some_score = {.n = 100, .correct = 44, .loss = 1.5};

/* One row of a transcript. `does`: the names of the actions, claims and runs with their fence. */
struct row {
	int64_t at_ms;
	enum job_event_kind kind;
	/* Grants: > 0 granted, < 0 refused with -fence, 0 refused with 0; TAKEN: the window; MEMBER: the
	 * deadline. */
	int64_t fence;
	const char *hash; /* or reason */
	const char *does;
	enum job_state then;
	int64_t claim; /* grants: the claim they name, counted from 1; 0: none, as older devices do
			*/
};

static struct job job;

static inline void begin(void)
{
	struct manifest m = {.id = CHECKPOINT, .epoch = 7};

	numbers = 0;
	job_init(&job, &conf, "cam-1", &m, 1);
}

static inline void describe(const struct job_actions *a, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < a->n; i++) {
		n += (size_t)snprintf(buf + n, size - n, "%s%s", i ? " " : "",
				      job_action_name(a->a[i].kind));
		if (a->a[i].kind == JOB_A_CLAIM || a->a[i].kind == JOB_A_RUN_OPEN)
			n += (size_t)snprintf(buf + n, size - n, ":%lld", (long long)a->a[i].fence);
		assert_true(n < size);
	}
}

static inline void check_invariants(void)
{
	if (job.has_slot)
		assert_true(job.state == JOB_BEFORE || job.state == JOB_MERGING ||
			    job.state == JOB_TRAINING || job.state == JOB_MIXING ||
			    job.state == JOB_AFTER);
	if (job.running)
		assert_int_equal(job.state, JOB_TRAINING);
	assert_int_equal(job_is_working(&job), job.deadline_ms >= 0);
}

static inline void step(const struct row *r, struct job_actions *out)
{
	struct msg_ack ack = {.fence = r->fence, .has_decision = true};
	struct job_event e = {
		.kind = r->kind,
		.granted = r->fence > 0,
		.fence = r->fence < 0 ? -r->fence : r->fence,
		.lease_ms = LEASE,
		.reason = r->hash,
		.hash = r->hash,
		.score = &some_score,
		.images = 1000,
		.ms = 500,
		.ack = &ack,
		.claim = r->claim,
		.window = r->fence,
		.deadline_ms = r->fence,
		.epochs = 2,
		.snapshot = r->claim ? S2 : S1,
	};

	snprintf(ack.checkpoint, sizeof(ack.checkpoint), "%s", job.partial);
	if (r->kind == JOB_E_ACK && r->hash && strcmp(r->hash, "kept") == 0)
		ack.decision = DECISION_KEPT;
	if (r->kind == JOB_E_ACK && r->hash && strcmp(r->hash, "refused") == 0)
		ack.decision = DECISION_REFUSED;
	job_step(&job, &e, r->at_ms, out);
	check_invariants();
}

static inline void play(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct job_actions out;
		char text[512];

		step(&rows[i], &out);
		describe(&out, text, sizeof(text));
		if (strcmp(text, rows[i].does) != 0)
			fail_msg("row %zu (at %lld): does '%s', expected '%s'", i,
				 (long long)rows[i].at_ms, text, rows[i].does);
		if (job.state != rows[i].then)
			fail_msg("row %zu: then %s, expected %s", i, job_state_name(job.state),
				 job_state_name(rows[i].then));
	}
}

#define PLAY(...)                                              \
	do {                                                   \
		const struct row rows_[] = {__VA_ARGS__};      \
		play(rows_, sizeof(rows_) / sizeof(rows_[0])); \
	} while (0)

#define TO_PULLING                                                                               \
	{0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},                                      \
		{100, JOB_E_GRANT, 5, NULL, "persist granted persist report pull", JOB_PULLING}, \
	{                                                                                        \
		150, JOB_E_BLOCK, 0, NULL, "", JOB_PULLING                                       \
	}
#define TO_QUEUED                                                                     \
	TO_PULLING,                                                                   \
	{                                                                             \
		200, JOB_E_PULLED, 0, NULL, "persist report enqueue held", JOB_QUEUED \
	}
#define TO_TRAINING                                                                          \
	TO_QUEUED, {300, JOB_E_SLOT, 0, NULL, "persist report evaluate", JOB_BEFORE},        \
	{                                                                                    \
		400, JOB_E_EVALUATED, 0, S1, "persist report run-open:5 train", JOB_TRAINING \
	}
#define TO_OFFERING                                                                        \
	TO_TRAINING, {500, JOB_E_EPOCH, 0, W1, "persist report train", JOB_TRAINING},      \
		{600, JOB_E_EPOCH, 0, W2, "run-close persist report evaluate", JOB_AFTER}, \
	{                                                                                  \
		700, JOB_E_EVALUATED, 0, S1, "release persist report result", JOB_OFFERING \
	}

/* The device's side of a handover as transcripts: what comes in, what goes out, in which phase it
 * is then. Actions in short: P stored, O offer, G granted, g not granted, A ack, R ack that
 * refuses, D part dropped; in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "device-agent/handover.h"

#define LEASE 120000
#define HOLD  (20 * LEASE)

/* Checkpoints, by one letter. */
static const char *hash(char letter)
{
	static char text[8][HASH_SIZE];
	static size_t next;
	char *h = text[next++ % 8];
	memset(h, letter, HASH_HEX);
	h[HASH_HEX] = 0;
	return h;
}

struct row {
	int64_t at_ms;
	enum handover_event_kind kind;
	char checkpoint; /* DUE, CLAIM; RESULT: its own */
	const char *trainer;
	int64_t fence;
	char parent;        /* RESULT */
	const char *reason; /* REFUSED; RESULT: does not fit */
	int64_t retry_ms;   /* CLAIM: busy */
	/* Expected: */
	const char *actions;
	enum handover_phase phase;
	/* CLAIM: what the trainer does. */
	const char *doing;
	double progress;
};

#define WANTED(at, ...)                                                     \
	{                                                                   \
		at, HANDOVER_EV_WANTED, 0, NULL, 0, 0, NULL, 0, __VA_ARGS__ \
	}
#define UP(at, ...)                                                     \
	{                                                               \
		at, HANDOVER_EV_UP, 0, NULL, 0, 0, NULL, 0, __VA_ARGS__ \
	}
#define DOWN(at, ...)                                                     \
	{                                                                 \
		at, HANDOVER_EV_DOWN, 0, NULL, 0, 0, NULL, 0, __VA_ARGS__ \
	}
#define DUE(at, c, ...)                                                  \
	{                                                                \
		at, HANDOVER_EV_DUE, c, NULL, 0, 0, NULL, 0, __VA_ARGS__ \
	}
#define TIMER(at, ...)                                                     \
	{                                                                  \
		at, HANDOVER_EV_TIMER, 0, NULL, 0, 0, NULL, 0, __VA_ARGS__ \
	}
#define CLAIM(at, who, c, fence, ...)                                         \
	{                                                                     \
		at, HANDOVER_EV_CLAIM, c, who, fence, 0, NULL, 0, __VA_ARGS__ \
	}
#define BUSY(at, who, c, ms, ...)                                          \
	{                                                                  \
		at, HANDOVER_EV_CLAIM, c, who, 0, 0, NULL, ms, __VA_ARGS__ \
	}
#define GIVE_BACK(at, who, c, fence, ms, ...)                                  \
	{                                                                      \
		at, HANDOVER_EV_CLAIM, c, who, fence, 0, NULL, ms, __VA_ARGS__ \
	}
#define RESULT(at, who, r, parent, fence, ...)                                      \
	{                                                                           \
		at, HANDOVER_EV_RESULT, r, who, fence, parent, NULL, 0, __VA_ARGS__ \
	}
#define UNFIT(at, who, r, parent, fence, why, ...)                                 \
	{                                                                          \
		at, HANDOVER_EV_RESULT, r, who, fence, parent, why, 0, __VA_ARGS__ \
	}
#define PULLED(at, ...)                                                     \
	{                                                                   \
		at, HANDOVER_EV_PULLED, 0, NULL, 0, 0, NULL, 0, __VA_ARGS__ \
	}
#define STALLED(at, ...)                                                     \
	{                                                                    \
		at, HANDOVER_EV_STALLED, 0, NULL, 0, 0, NULL, 0, __VA_ARGS__ \
	}
#define REFUSED(at, why, ...)                                               \
	{                                                                   \
		at, HANDOVER_EV_REFUSED, 0, NULL, 0, 0, why, 0, __VA_ARGS__ \
	}
#define JUDGED(at, ...)                                                     \
	{                                                                   \
		at, HANDOVER_EV_JUDGED, 0, NULL, 0, 0, NULL, 0, __VA_ARGS__ \
	}
#define GONE(at, ...)                                                     \
	{                                                                 \
		at, HANDOVER_EV_GONE, 0, NULL, 0, 0, NULL, 0, __VA_ARGS__ \
	}

#define IDLE     HANDOVER_IDLE
#define OFFERING HANDOVER_OFFERING
#define GRANTED  HANDOVER_GRANTED
#define PULLING  HANDOVER_PULLING
#define JUDGING  HANDOVER_JUDGING

static struct handover h;
static struct handover_actions acts;
static struct handover_conf conf;

static int setup(void **state)
{
	conf = (struct handover_conf){LEASE, HOLD};
	memset(&h, 0, sizeof(h));
	handover_restart(&h, &conf, 7, 0);
	return 0;
}

static char letter_of(const struct handover_action *a)
{
	switch (a->kind) {
	case HANDOVER_PERSIST:
		return 'P';
	case HANDOVER_OFFER:
		return 'O';
	case HANDOVER_GRANT:
		return a->grant.granted ? 'G' : 'g';
	case HANDOVER_ACK:
		return a->ack.decision == DECISION_REFUSED ? 'R' : 'A';
	case HANDOVER_DROP:
		return 'D';
	}
	return '?';
}

static void play_row(const struct row *r, size_t i)
{
	struct msg_claim claim = {.fence = r->fence,
				  .busy = r->retry_ms > 0,
				  .retry_ms = r->retry_ms,
				  .claim = (int64_t)i + 100,
				  .progress = r->progress};
	struct msg_result result = {.fence = r->fence};
	struct msg_ack ack = {.decision = DECISION_ACTIVATED, .validation = {10, 9, 0.1}};
	struct handover_event ev = {.kind = r->kind,
				    .checkpoint = hash(r->checkpoint),
				    .claim = &claim,
				    .result = &result,
				    .ack = &ack,
				    .reason = r->reason};
	snprintf(claim.trainer, sizeof(claim.trainer), "%s", r->trainer ? r->trainer : "");
	snprintf(claim.phase, sizeof(claim.phase), "%s", r->doing ? r->doing : "");
	if (claim.busy)
		snprintf(claim.reason, sizeof(claim.reason), "%s", r->reason ? r->reason : "");
	snprintf(claim.checkpoint, sizeof(claim.checkpoint), "%s", hash(r->checkpoint));
	snprintf(result.manifest.trainer, ID_SIZE, "%s", claim.trainer);
	snprintf(result.manifest.id, HASH_SIZE, "%s", hash(r->checkpoint));
	if (r->parent) {
		snprintf(result.manifest.parents[0], HASH_SIZE, "%s", hash(r->parent));
		result.manifest.n_parents = 1;
	}
	handover_step(&h, &ev, r->at_ms, &acts);
	char got[HANDOVER_ACTIONS_MAX + 1] = "";
	for (size_t k = 0; k < acts.n; k++)
		got[k] = letter_of(&acts.at[k]);
	if (strcmp(got, r->actions) != 0 || h.phase != r->phase)
		fail_msg("row %zu: got '%s' in phase %d, expected '%s' in phase %d", i, got,
			 (int)h.phase, r->actions, (int)r->phase);
}

static void play(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		play_row(&rows[i], i);
}
#define PLAY(...)                                         \
	do {                                              \
		const struct row rows_[] = {__VA_ARGS__}; \
		play(rows_, ARRAY_LEN(rows_));            \
	} while (0)

#define TO_GRANTED \
	UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING), CLAIM(10, "t1", 'c', 0, "PG", GRANTED)
#define TO_PULLING TO_GRANTED, RESULT(20, "t1", 'r', 'c', 1, "P", PULLING)
#define TO_JUDGING TO_PULLING, PULLED(30, "P", JUDGING)

static void test_whole(void **state)
{
	PLAY(TO_GRANTED);
	assert_int_equal(acts.at[1].grant.fence, 1);
	assert_int_equal(acts.at[1].grant.lease_ms, LEASE);
	assert_string_equal(acts.at[1].trainer, "t1");
	assert_true(handover_may_pull(&h, "t1", hash('c')));
	assert_false(handover_may_pull(&h, "t2", hash('c')));
	assert_false(handover_may_pull(&h, "t1", hash('d')));
	assert_false(handover_may_offer(&h));
	PLAY(CLAIM(40000, "t1", 'c', 1, "G", GRANTED), CLAIM(80000, "t1", 'c', 1, "G", GRANTED),
	     RESULT(90000, "t1", 'r', 'c', 1, "P", PULLING), PULLED(91000, "P", JUDGING));
	assert_string_equal(h.result.manifest.id, hash('r'));
	PLAY(JUDGED(92000, "PA", IDLE));
	assert_string_equal(acts.at[1].trainer, "t1");
	assert_string_equal(acts.at[1].ack.checkpoint, hash('r'));
	assert_int_equal(acts.at[1].ack.fence, 1);
	assert_true(acts.at[1].ack.has_decision);
	assert_int_equal(acts.at[1].ack.validation.correct, 9);
	assert_true(handover_may_offer(&h));
	/* The next one has the next fence. */
	PLAY(DUE(93000, 'd', "PO", OFFERING), CLAIM(94000, "t2", 'd', 0, "PG", GRANTED));
	assert_int_equal(h.fence, 2);
}

static void test_offers_back_off(void **state)
{
	PLAY(UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING));
	int64_t now = 0, longest = 0;
	for (int i = 0; i < 12; i++) {
		int64_t at = handover_deadline_ms(&h), first = now + HANDOVER_OFFER_FIRST_MS / 2;
		assert_true(at >= first && at <= now + HANDOVER_OFFER_CAP_MS);
		PLAY(TIMER(at - 1, "", OFFERING), TIMER(at, "O", OFFERING));
		longest = MAX_OF(longest, at - now);
		now = at;
	}
	assert_true(longest > HANDOVER_OFFER_CAP_MS / 2);
	/* A connection that came back is news: soon, and from the shortest wait again. */
	PLAY(DOWN(now + 1, "", OFFERING));
	assert_int_equal(handover_deadline_ms(&h), -1);
	PLAY(TIMER(now + 900000, "", OFFERING), UP(now + 900001, "", OFFERING),
	     TIMER(now + 900001 + HANDOVER_UP_SPREAD_MS, "O", OFFERING));
	assert_true(handover_deadline_ms(&h) <=
		    now + 900001 + HANDOVER_UP_SPREAD_MS + HANDOVER_OFFER_FIRST_MS);
}

/* A claim for what was offered before: it has room, so the newer one is offered to it at once. */
static void test_claim_for_the_last_one(void **state)
{
	PLAY(UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING), BUSY(5, "t1", 'c', 300000, "", OFFERING),
	     DUE(2000, 'd', "P", OFFERING), CLAIM(3000, "t1", 'c', 0, "gO", OFFERING));
	assert_int_equal(handover_deadline_ms(&h) <= 3000 + HANDOVER_OFFER_FIRST_MS * 2, true);
	/* Once: who repeats it is not listened to. */
	PLAY(CLAIM(3001, "t1", 'c', 0, "g", OFFERING), CLAIM(3010, "t1", 'd', 0, "PG", GRANTED));
}

static void test_due_while_offline(void **state)
{
	PLAY(DUE(0, 'c', "P", OFFERING), UP(500, "O", OFFERING));
	assert_string_equal(h.checkpoint, hash('c'));
}

static void test_newer_takes_the_place(void **state)
{
	PLAY(UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING), DUE(10, 'c', "", OFFERING),
	     DUE(20, 'd', "P", OFFERING));
	/* It is offered when the older one would have been. */
	int64_t at = handover_deadline_ms(&h);
	PLAY(TIMER(at, "O", OFFERING), CLAIM(at + 1, "t1", 'c', 0, "g", OFFERING),
	     CLAIM(at + 2, "t1", 'd', 0, "PG", GRANTED), DUE(at + 3, 'e', "", GRANTED));
	assert_string_equal(h.granted, hash('d'));
}

static void test_busy(void **state)
{
	PLAY(UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING), BUSY(5, "t1", 'c', 30000, "", OFFERING));
	assert_int_equal(handover_deadline_ms(&h), 30005);
	/* The longest counts; other checkpoints do not. */
	PLAY(BUSY(6, "t2", 'c', 10000, "", OFFERING), BUSY(7, "t2", 'x', 90000, "", OFFERING));
	assert_int_equal(handover_deadline_ms(&h), 30005);
	PLAY(DOWN(8, "", OFFERING), UP(9, "", OFFERING), TIMER(30005, "O", OFFERING));
	PLAY(BUSY(30006, "t1", 'c', 99999999, "", OFFERING));
	assert_int_equal(handover_deadline_ms(&h), 30006 + HANDOVER_BUSY_MAX_MS);
	/* Somebody has room after all. */
	PLAY(CLAIM(30007, "t2", 'c', 0, "PG", GRANTED));
	setup(NULL);
	PLAY(UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING), BUSY(5, "t1", 'c', 1, "", OFFERING));
	assert_int_equal(handover_deadline_ms(&h), 5 + HANDOVER_BUSY_MIN_MS);
}

/* The trainer is full after all: the lease is over at once, others are asked when it said. */
static void test_given_back(void **state)
{
	PLAY(TO_GRANTED, GIVE_BACK(20, "t2", 'c', 1, 5000, "", GRANTED),
	     GIVE_BACK(20, "t1", 'c', 2, 5000, "", GRANTED),
	     GIVE_BACK(20, "t1", 'd', 1, 5000, "", GRANTED), BUSY(20, "t1", 'c', 5000, "", GRANTED),
	     GIVE_BACK(30, "t1", 'c', 1, 5000, "P", OFFERING));
	assert_int_equal(handover_deadline_ms(&h), 5030);
	assert_string_equal(h.checkpoint, hash('c'));
	PLAY(GIVE_BACK(40, "t1", 'c', 1, 90000, "", OFFERING), DOWN(50, "", OFFERING),
	     UP(60, "", OFFERING), RESULT(70, "t1", 'r', 'c', 1, "R", OFFERING),
	     TIMER(5030, "O", OFFERING), CLAIM(5040, "t1", 'c', 0, "PG", GRANTED));
	assert_int_equal(h.fence, 2);
	/* Whoever does that again and again comes last. */
	PLAY(GIVE_BACK(5050, "t1", 'c', 2, 1000, "P", OFFERING),
	     CLAIM(5060, "t1", 'c', 0, "g", OFFERING), CLAIM(5070, "t2", 'c', 0, "PG", GRANTED));
	/* A result that is coming in is not given back. */
	PLAY(RESULT(5080, "t2", 'r', 'c', 3, "P", PULLING),
	     GIVE_BACK(5090, "t2", 'c', 3, 1000, "", PULLING));
}

static void test_two_trainers(void **state)
{
	PLAY(TO_GRANTED, CLAIM(11, "t2", 'c', 0, "g", GRANTED));
	assert_string_equal(acts.at[0].trainer, "t2");
	assert_int_equal(acts.at[0].grant.fence, 0);
	/* A guessed fence helps nobody. */
	PLAY(CLAIM(12, "t2", 'c', 1, "g", GRANTED), RESULT(13, "t2", 'r', 'c', 1, "R", GRANTED),
	     RESULT(14, "t1", 'r', 'c', 1, "P", PULLING));
}

static void test_repeated_claim(void **state)
{
	PLAY(TO_GRANTED, CLAIM(50, "t1", 'c', 0, "G", GRANTED));
	assert_int_equal(acts.at[0].grant.fence, 1);
	assert_int_equal(h.fence, 1);
	/* The trainer counts its lease from that claim, so we may not count from an earlier one. */
	assert_int_equal(handover_deadline_ms(&h), 50 + LEASE);
	PLAY(CLAIM(60, "t1", 'c', 9, "g", GRANTED), CLAIM(60, "t1", 'd', 1, "g", GRANTED));
}

static void test_lease_runs_out(void **state)
{
	PLAY(TO_GRANTED, TIMER(10 + LEASE - 1, "", GRANTED), TIMER(10 + LEASE, "PO", OFFERING));
	assert_string_equal(h.trainer, "t1"); /* the offer names it */
	/* Its renewal comes too late; a new claim gets a new fence, also from another. */
	PLAY(CLAIM(130020, "t1", 'c', 1, "g", OFFERING),
	     CLAIM(130030, "t2", 'c', 0, "PG", GRANTED));
	assert_int_equal(h.fence, 2);
	PLAY(RESULT(130040, "t1", 'r', 'c', 1, "R", GRANTED),
	     RESULT(130050, "t2", 'r', 'c', 1, "R", GRANTED),
	     RESULT(130060, "t1", 'r', 'c', 2, "R", GRANTED),
	     RESULT(130070, "t2", 'q', 'c', 2, "P", PULLING));
}

static void test_lease_runs_out_offline(void **state)
{
	PLAY(TO_GRANTED, DOWN(20, "", GRANTED), TIMER(10 + LEASE, "P", OFFERING),
	     UP(400000, "", OFFERING), TIMER(400000 + HANDOVER_UP_SPREAD_MS, "O", OFFERING));
}

static void test_result_after_lease(void **state)
{
	/* Nobody else has got a fence since: what was trained is not lost, */
	PLAY(TO_GRANTED, TIMER(10 + LEASE, "PO", OFFERING),
	     RESULT(140000, "t1", 'r', 'c', 1, "P", PULLING));
	/* even when a newer checkpoint is on offer already. */
	setup(NULL);
	PLAY(TO_GRANTED, TIMER(10 + LEASE, "PO", OFFERING), DUE(120020, 'd', "P", OFFERING),
	     RESULT(150000, "t1", 'r', 'd', 1, "R", OFFERING),
	     RESULT(150001, "t1", 'r', 'c', 1, "P", PULLING));
	assert_string_equal(h.checkpoint, hash('c'));
}

static void test_wrong_results(void **state)
{
	PLAY(RESULT(0, "t1", 'r', 'c', 0, "R", IDLE), RESULT(0, "t1", 'r', 'c', 1, "R", IDLE),
	     TO_GRANTED, RESULT(20, "t1", 'r', 'x', 1, "R", GRANTED),
	     RESULT(20, "t1", 'r', 0, 1, "R", GRANTED),
	     RESULT(20, "t1", 'r', 'c', 2, "R", GRANTED));
	assert_non_null(strstr(acts.at[0].ack.reason, "fence 2"));
	/* One that is ours but does not fit ends it. */
	PLAY(UNFIT(30, "t1", 'r', 'c', 1, "size: found 1, expected 2", "PRD", IDLE));
	assert_string_equal(acts.at[1].ack.reason, "size: found 1, expected 2");
	PLAY(RESULT(31, "t1", 'r', 'c', 1, "R", IDLE));
	assert_string_equal(acts.at[0].ack.reason, "size: found 1, expected 2");
	PLAY(RESULT(32, "t1", 'q', 'c', 1, "R", IDLE), CLAIM(33, "t1", 'c', 1, "g", IDLE));
}

static void test_duplicates_of_result(void **state)
{
	PLAY(TO_PULLING, RESULT(21, "t1", 'r', 'c', 1, "", PULLING), PULLED(30, "P", JUDGING),
	     RESULT(31, "t1", 'r', 'c', 1, "", JUDGING),
	     RESULT(32, "t1", 'q', 'c', 1, "R", JUDGING), CLAIM(33, "t1", 'c', 1, "g", JUDGING),
	     PULLED(34, "", JUDGING), JUDGED(40, "PA", IDLE), JUDGED(41, "", IDLE),
	     RESULT(50, "t1", 'r', 'c', 1, "A", IDLE), RESULT(60, "t1", 'r', 'c', 1, "A", IDLE));
	assert_int_equal(acts.at[0].ack.validation.correct, 9);
	/* In the middle of the next one, too. */
	PLAY(DUE(70, 'd', "PO", OFFERING), RESULT(71, "t1", 'r', 'c', 1, "A", OFFERING),
	     CLAIM(72, "t1", 'd', 0, "PG", GRANTED), RESULT(73, "t1", 'r', 'c', 1, "A", GRANTED));
}

static void test_another_result_while_pulling(void **state)
{
	PLAY(TO_PULLING, RESULT(21, "t1", 'q', 'c', 1, "PD", PULLING));
	assert_string_equal(acts.at[1].dropped, hash('r'));
	assert_string_equal(h.result.manifest.id, hash('q'));
}

static void test_bad_blocks(void **state)
{
	PLAY(TO_PULLING, REFUSED(30, "sha256 differs", "PRD", IDLE));
	assert_string_equal(acts.at[1].ack.reason, "sha256 differs");
	assert_string_equal(acts.at[2].dropped, hash('r'));
	PLAY(REFUSED(31, "again", "", IDLE), RESULT(40, "t1", 'r', 'c', 1, "R", IDLE));
}

static void test_no_blocks(void **state)
{
	PLAY(STALLED(0, "", IDLE), TO_PULLING, STALLED(30, "PO", OFFERING));
	assert_string_equal(h.checkpoint, hash('c'));
	/* It comes back after all. */
	PLAY(RESULT(40, "t1", 'r', 'c', 1, "P", PULLING), STALLED(50, "PO", OFFERING),
	     CLAIM(60, "t2", 'c', 0, "PG", GRANTED), RESULT(70, "t1", 'r', 'c', 1, "R", GRANTED));
}

static void test_renewal_while_pulling(void **state)
{
	PLAY(TO_PULLING, CLAIM(25, "t1", 'c', 1, "G", PULLING),
	     CLAIM(26, "t2", 'c', 0, "g", PULLING), TIMER(10 + 5 * LEASE, "", PULLING),
	     DUE(27, 'd', "", PULLING));
}

static void test_gone(void **state)
{
	PLAY(GONE(0, "", IDLE), UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING), GONE(1, "P", IDLE),
	     CLAIM(2, "t1", 'c', 0, "g", IDLE), TIMER(99999, "", IDLE));
}

static void test_restart(void **state)
{
	/* In each phase: what is kept is enough to go on. */
	PLAY(UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING));
	handover_restart(&h, &conf, 8, 1000);
	PLAY(UP(1000, "O", OFFERING), CLAIM(1010, "t1", 'c', 0, "PG", GRANTED));
	handover_restart(&h, &conf, 9, 2000);
	assert_int_equal(handover_deadline_ms(&h), 2000 + LEASE);
	PLAY(UP(2000, "", GRANTED), CLAIM(2010, "t1", 'c', 1, "G", GRANTED));
	assert_int_equal(h.fence, 1);
	PLAY(RESULT(2020, "t1", 'r', 'c', 1, "P", PULLING));
	handover_restart(&h, &conf, 10, 3000);
	PLAY(UP(3000, "", PULLING), RESULT(3010, "t1", 'r', 'c', 1, "", PULLING),
	     PULLED(3020, "P", JUDGING));
	handover_restart(&h, &conf, 11, 4000);
	PLAY(UP(4000, "", JUDGING), JUDGED(4010, "PA", IDLE));
	handover_restart(&h, &conf, 12, 5000);
	PLAY(UP(5000, "", IDLE), RESULT(5010, "t1", 'r', 'c', 1, "A", IDLE),
	     DUE(5020, 'd', "PO", OFFERING), CLAIM(5030, "t1", 'd', 0, "PG", GRANTED));
	assert_int_equal(h.fence, 2);
}

static void test_remembers_sixteen(void **state)
{
	PLAY(UP(0, "", IDLE));
	for (int64_t f = 1; f <= HANDOVER_DECIDED_MAX + 2; f++)
		PLAY(DUE(f * 100, 'c', "PO", OFFERING), CLAIM(f * 100, "t1", 'c', 0, "PG", GRANTED),
		     RESULT(f * 100, "t1", 'r', 'c', f, "P", PULLING),
		     PULLED(f * 100, "P", JUDGING), JUDGED(f * 100, "PA", IDLE));
	assert_int_equal(h.n_decided, HANDOVER_DECIDED_MAX);
	PLAY(RESULT(9000, "t1", 'r', 'c', 2, "R", IDLE), RESULT(9000, "t1", 'r', 'c', 3, "A", IDLE),
	     RESULT(9000, "t1", 'r', 'c', HANDOVER_DECIDED_MAX + 2, "A", IDLE));
}

/* Training that is quicker than the network: an offer stands long enough to be claimed. */
static void test_awaits_claim(void **state)
{
	PLAY(UP(0, "", IDLE));
	assert_false(handover_awaits_claim(&h, 0));
	PLAY(DUE(10, 'a', "PO", OFFERING));
	assert_true(handover_awaits_claim(&h, 10));
	assert_true(handover_awaits_claim(&h, 10 + HANDOVER_CLAIM_MS - 1));
	assert_false(handover_awaits_claim(&h, 10 + HANDOVER_CLAIM_MS));
	PLAY(CLAIM(500, "t1", 'a', 0, "PG", GRANTED));
	assert_false(handover_awaits_claim(&h, 501));
}

/* `set lease_s` in the middle, and a restart with another lease_s in the file: a lease is as long
 * as it was when its fence was given out. */
static void test_lease_belongs_to_its_fence(void **state)
{
	static const int64_t others[] = {1000, 10 * LEASE};
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		int64_t other = others[i];
		setup(NULL);
		PLAY(TO_GRANTED);
		conf.lease_ms = h.conf.lease_ms = other;
		PLAY(CLAIM(30, "t1", 'c', 1, "G", GRANTED));
		assert_int_equal(acts.at[0].grant.lease_ms, LEASE);
		assert_int_equal(handover_deadline_ms(&h), 30 + LEASE);
		handover_restart(&h, &conf, 8, 1000);
		assert_int_equal(handover_deadline_ms(&h), 1000 + LEASE);
		PLAY(UP(1000, "", GRANTED), CLAIM(1010, "t1", 'c', 1, "G", GRANTED));
		assert_int_equal(acts.at[0].grant.lease_ms, LEASE);
		/* The next fence has what is set now. */
		PLAY(TIMER(1010 + LEASE, "PO", OFFERING),
		     CLAIM(1011 + LEASE, "t1", 'c', 0, "PG", GRANTED));
		assert_int_equal(acts.at[1].grant.lease_ms, other);
	}
}

/* The answer to a claim names it, so that a delayed one is not taken for that to a later claim. */
static void test_answers_name_their_claim(void **state)
{
	PLAY(TO_GRANTED);
	assert_int_equal(acts.at[1].grant.claim, 102); /* its row */
	PLAY(CLAIM(20, "t1", 'c', 1, "G", GRANTED));
	assert_int_equal(acts.at[0].grant.claim, 100);
	PLAY(UP(30, "", GRANTED), CLAIM(30, "t2", 'c', 0, "g", GRANTED));
	assert_int_equal(acts.at[0].grant.claim, 101);
}

#define RENEW(at, ...) CLAIM(at, "t1", 'c', 1, __VA_ARGS__)

/* Renewals alone hold nothing for ever. */
static void test_only_renewing(void **state)
{
	int64_t now = 10;
	PLAY(TO_GRANTED);
	while (now + LEASE / 3 <= 10 + HANDOVER_STILL_LEASES * LEASE) {
		now += LEASE / 3;
		PLAY(RENEW(now, "G", GRANTED));
	}
	PLAY(RENEW(now + 1000, "g", GRANTED));
	assert_non_null(strstr(acts.at[0].grant.reason, "moved"));
	assert_int_equal(acts.at[0].grant.fence, 1);
	/* What was granted is kept: the trainer counts on it. */
	PLAY(TIMER(now + LEASE - 1, "", GRANTED), CLAIM(now + 2000, "t2", 'c', 0, "g", GRANTED),
	     TIMER(now + LEASE, "PO", OFFERING));
	/* Then others first, */
	now += LEASE;
	PLAY(CLAIM(now + 10, "t1", 'c', 0, "g", OFFERING),
	     CLAIM(now + 20, "t2", 'c', 0, "PG", GRANTED));
	assert_int_equal(h.fence, 2);
}

static void test_cut_off_and_moving_again(void **state)
{
	int64_t still = 10 + HANDOVER_STILL_LEASES * LEASE;
	PLAY(TO_GRANTED, RENEW(still - 1000, "G", GRANTED), RENEW(still + 1000, "g", GRANTED),
	     RENEW(still + 2000, "G", GRANTED, "training", 0.1));
	assert_int_equal(handover_deadline_ms(&h), still + 2000 + LEASE);
	/* It was no fault: a lease lost is one strike, not two. */
	PLAY(TIMER(still + 2000 + LEASE, "PO", OFFERING),
	     CLAIM(still + 2010 + LEASE, "t1", 'c', 0, "PG", GRANTED));
}

/* Each way to move, for twice as long as standing still is allowed. */
static void test_what_moves(void **state)
{
	enum { PROGRESS, PHASES, BLOCKS, QUEUE, CREEPS_BACK, WAYS };
	for (int way = 0; way < WAYS; way++) {
		int64_t now = 10, end = 10 + 2 * HANDOVER_STILL_LEASES * LEASE;
		bool lasts = way != CREEPS_BACK;
		setup(NULL);
		PLAY(UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING),
		     CLAIM(10, "t1", 'c', 0, "PG", GRANTED, "pulling", 0.5));
		for (int i = 0; now < end; i++) {
			bool refused = !lasts && now - 10 > HANDOVER_STILL_LEASES * LEASE;
			if (way == BLOCKS && i % 6 == 0)
				PLAY(WANTED(now, "", GRANTED));
			PLAY(RENEW(now, refused ? "g" : "G", GRANTED,
				   way == QUEUE                  ? HANDOVER_QUEUED
				   : way == PHASES && i % 12 < 6 ? "training"
								 : "pulling",
				   way == PROGRESS      ? 0.5 + 0.01 * i
				   : way == CREEPS_BACK ? 0.5 - 0.01 * (i % 10)
							: 0.5));
			now += LEASE / 3;
			if (refused)
				break;
		}
		assert_true(lasts || now < end);
	}
}

static void test_phases_do_not_count_for_ever(void **state)
{
	int64_t now = 10, end = 10 + (HANDOVER_PHASES_MAX + HANDOVER_STILL_LEASES + 2) * LEASE;
	h.conf.hold_ms = conf.hold_ms = 1000 * LEASE;
	PLAY(TO_GRANTED);
	for (int i = 0; now < end && h.phase == GRANTED && !h.cut_off; i++) {
		struct msg_claim c = {.trainer = "t1", .fence = 1};
		struct handover_event ev = {.kind = HANDOVER_EV_CLAIM, .claim = &c};
		snprintf(c.checkpoint, sizeof(c.checkpoint), "%s", hash('c'));
		snprintf(c.phase, sizeof(c.phase), "%s", i % 2 ? "one" : "two");
		handover_step(&h, &ev, now, &acts);
		now += LEASE;
	}
	assert_true(h.cut_off);
	assert_true(now > 10 + HANDOVER_PHASES_MAX * LEASE);
}

/* However it moves, or waits: not beyond the limit; its lease ends no later. */
static void test_hold_is_bounded(void **state)
{
	for (int queued = 0; queued <= 1; queued++) {
		int64_t now = 10;
		int i = 0;
		setup(NULL);
		PLAY(TO_GRANTED);
		for (; now + LEASE <= 10 + HOLD; now += LEASE / 3)
			PLAY(RENEW(now, "G", GRANTED, queued ? HANDOVER_QUEUED : "training",
				   0.001 * ++i));
		PLAY(RENEW(now, "g", GRANTED, queued ? HANDOVER_QUEUED : "training", 0.9));
		assert_non_null(strstr(acts.at[0].grant.reason, "too long"));
		assert_in_range(handover_deadline_ms(&h), 10 + HOLD - LEASE, 10 + HOLD);
		PLAY(TIMER(10 + HOLD, "PO", OFFERING),
		     CLAIM(20 + HOLD, "t1", 'c', 0, "g", OFFERING));
	}
}

/* The way back has the same limit, once: a block now and then is not enough. */
static void test_way_back_is_bounded(void **state)
{
	PLAY(TO_PULLING);
	assert_int_equal(handover_deadline_ms(&h), 20 + HOLD);
	PLAY(STALLED(1000, "PO", OFFERING), RESULT(2000, "t1", 'r', 'c', 1, "P", PULLING));
	assert_int_equal(handover_deadline_ms(&h), 20 + HOLD);
	PLAY(TIMER(19 + HOLD, "", PULLING), TIMER(20 + HOLD, "PO", OFFERING),
	     RESULT(30 + HOLD, "t1", 'r', 'c', 1, "R", OFFERING),
	     CLAIM(40 + HOLD, "t1", 'c', 0, "g", OFFERING),
	     CLAIM(50 + HOLD, "t2", 'c', 0, "PG", GRANTED));
}

/* Lets leases run out until it is known for that. */
static int64_t make_slow(int64_t now)
{
	for (int i = 0; i < HANDOVER_STRIKES; i++) {
		PLAY(CLAIM(now, "t1", 'c', 0, "PG", GRANTED), TIMER(now + LEASE, "PO", OFFERING));
		now += LEASE + 1;
	}
	return now;
}

static void test_slow_comes_last(void **state)
{
	PLAY(UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING));
	int64_t now = make_slow(10);
	/* It has to let the offer go round, but where it is the only one, it is better than none.
	 */
	for (int i = 1; i < HANDOVER_SLOW_OFFERS; i++) {
		PLAY(CLAIM(now, "t1", 'c', 0, "g", OFFERING));
		now = handover_deadline_ms(&h);
		PLAY(TIMER(now, "O", OFFERING));
	}
	PLAY(CLAIM(now, "t1", 'c', 0, "PG", GRANTED));
	/* A result clears it of all that. */
	PLAY(RESULT(now, "t1", 'r', 'c', h.fence, "P", PULLING), PULLED(now, "P", JUDGING),
	     JUDGED(now, "PA", IDLE), DUE(now, 'd', "PO", OFFERING),
	     CLAIM(now, "t1", 'd', 0, "PG", GRANTED));
}

static void test_slow_is_forgotten(void **state)
{
	PLAY(UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING));
	int64_t now = make_slow(10);
	PLAY(CLAIM(now, "t1", 'c', 0, "g", OFFERING),
	     CLAIM(now - 1 + HANDOVER_SLOW_MS, "t1", 'c', 0, "PG", GRANTED));
	/* Away from the broker, leases run out by no fault of the trainer. */
	setup(NULL);
	PLAY(UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING));
	for (int64_t i = 0, at = 10; i < 2 * HANDOVER_STRIKES; i++, at += 2 * LEASE)
		PLAY(CLAIM(at, "t1", 'c', 0, "PG", GRANTED), DOWN(at + 1, "", GRANTED),
		     TIMER(at + LEASE, "P", OFFERING), UP(at + LEASE + 1, "", OFFERING),
		     TIMER(at + LEASE + 1 + HANDOVER_UP_SPREAD_MS, "O", OFFERING));
	/* One lost lease is nothing. */
	setup(NULL);
	PLAY(TO_GRANTED, TIMER(10 + LEASE, "PO", OFFERING),
	     CLAIM(20 + LEASE, "t1", 'c', 0, "PG", GRANTED));
}

/* Many trainers: whoever was struck longest ago is forgotten first. */
static void test_slow_ones_are_bounded(void **state)
{
	int64_t now = 10;
	char id[ID_SIZE];
	PLAY(UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING));
	for (int i = 0; i < HANDOVER_SLOW_MAX + 1; i++)
		for (int k = 0; k < HANDOVER_STRIKES; k++) {
			snprintf(id, sizeof(id), "t%d", i);
			PLAY(CLAIM(now, id, 'c', 0, "PG", GRANTED),
			     TIMER(now + LEASE, "PO", OFFERING));
			now += LEASE + 1;
		}
	PLAY(CLAIM(now, "t1", 'c', 0, "g", OFFERING), CLAIM(now, id, 'c', 0, "g", OFFERING),
	     CLAIM(now, "t0", 'c', 0, "PG", GRANTED));
}

static void test_why_nobody_takes_it(void **state)
{
	static const char why[] = "model: found abc, expected def";
	struct row r = BUSY(5, "t1", 'c', 600000, "", OFFERING);
	PLAY(UP(0, "", IDLE), DUE(0, 'c', "PO", OFFERING));
	assert_string_equal(handover_busy_reason(&h), "");
	r.reason = why;
	play(&r, 1);
	assert_string_equal(handover_busy_reason(&h), why);
	PLAY(CLAIM(10, "t2", 'c', 0, "PG", GRANTED));
	assert_string_equal(handover_busy_reason(&h), "");
}

/* What may not be sent now is neither offered nor granted; who has it keeps it. */
static void test_postponed(void **state)
{
	h.postponed_until_ms = 50000;
	PLAY(UP(0, "", IDLE), DUE(10, 'c', "P", OFFERING), TIMER(2000, "", OFFERING),
	     CLAIM(3000, "t1", 'c', 0, "g", OFFERING), DUE(4000, 'd', "P", OFFERING),
	     DOWN(5000, "", OFFERING), UP(6000, "", OFFERING));
	assert_int_equal(handover_deadline_ms(&h), 50000);
	PLAY(TIMER(50000, "O", OFFERING), CLAIM(50010, "t1", 'd', 0, "PG", GRANTED));
	h.postponed_until_ms = 10 * LEASE;
	PLAY(CLAIM(50020, "t1", 'd', 1, "G", GRANTED), TIMER(50020 + LEASE, "P", OFFERING),
	     CLAIM(50030 + LEASE, "t2", 'd', 0, "g", OFFERING));
	h.postponed_until_ms = 0; /* sooner than it was thought */
	PLAY(UP(5 * LEASE, "", OFFERING), TIMER(5 * LEASE + HANDOVER_UP_SPREAD_MS, "O", OFFERING));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = {
		T(test_whole),
		T(test_offers_back_off),
		T(test_claim_for_the_last_one),
		T(test_due_while_offline),
		T(test_newer_takes_the_place),
		T(test_busy),
		T(test_given_back),
		T(test_two_trainers),
		T(test_repeated_claim),
		T(test_lease_runs_out),
		T(test_lease_runs_out_offline),
		T(test_result_after_lease),
		T(test_wrong_results),
		T(test_duplicates_of_result),
		T(test_another_result_while_pulling),
		T(test_bad_blocks),
		T(test_no_blocks),
		T(test_renewal_while_pulling),
		T(test_gone),
		T(test_restart),
		T(test_remembers_sixteen),
		T(test_awaits_claim),
		T(test_lease_belongs_to_its_fence),
		T(test_answers_name_their_claim),
		T(test_only_renewing),
		T(test_cut_off_and_moving_again),
		T(test_what_moves),
		T(test_phases_do_not_count_for_ever),
		T(test_hold_is_bounded),
		T(test_way_back_is_bounded),
		T(test_slow_comes_last),
		T(test_slow_is_forgotten),
		T(test_slow_ones_are_bounded),
		T(test_why_nobody_takes_it),
		T(test_postponed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

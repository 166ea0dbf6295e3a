/* Which signed manifests are of now: by tables, and that a replayed history leads nowhere. */
#include "ckpt_util.h"

#include "common/trust/freshness.h"

#define NOW_MS    1790000000000LL
#define MINUTE_MS 60000LL
#define LIFE_MS   FRESHNESS_HANDOVER_MS
#define A         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B         "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define P         "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

static struct manifest good(void)
{
	return (struct manifest){.id = A,
				 .model = B,
				 .device = "cam-1",
				 .parents = {P},
				 .n_parents = 1,
				 .sequence = 100,
				 .expires_ms = NOW_MS + LIFE_MS};
}

static enum refusal check(const struct manifest *m, const struct freshness_last *last,
			  const char *parent)
{
	struct err err = {0};
	const struct freshness here = {.device = "cam-1",
				       .model = B,
				       .parent = parent,
				       .last = last,
				       .now_ms = NOW_MS,
				       .lifetime_ms = LIFE_MS};
	enum refusal r = freshness_check(m, &here, &err);
	assert_int_equal(r != REFUSAL_NONE, err.code != 0);
	assert_int_equal(r != REFUSAL_NONE, *err.text != 0);
	return r;
}

static void what_came_before_decides(void **state)
{
	static const struct {
		int64_t last;
		const char *id;
		bool over;
		enum refusal r;
	} cases[] = {
		{0, "", false, REFUSAL_NONE}, /* the first one ever */
		{99, B, false, REFUSAL_NONE},      {99, B, true, REFUSAL_NONE},
		{99, A, true, REFUSAL_NONE},   /* offered again: another handover */
		{100, A, false, REFUSAL_NONE}, /* repeated */
		{100, A, true, REFUSAL_REPLAY},    {100, B, false, REFUSAL_MIXED},
		{100, B, true, REFUSAL_MIXED},     {101, A, false, REFUSAL_REPLAY},
		{101, B, false, REFUSAL_ROLLBACK}, {101, B, true, REFUSAL_ROLLBACK},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct freshness_last last = {.sequence = cases[i].last, .over = cases[i].over};
		struct manifest m = good();
		strcpy(last.id, cases[i].id);
		if (check(&m, &last, P) != cases[i].r)
			fail_msg("case %zu", i);
	}
	struct manifest m = good();
	m.sequence = 0;
	assert_int_equal(check(&m, &(struct freshness_last){0}, P), REFUSAL_ROLLBACK);
}

static void it_must_be_meant_for_here(void **state)
{
	struct freshness_last none = {0};
	struct manifest m = good();
	strcpy(m.device, "cam-2");
	assert_int_equal(check(&m, &none, P), REFUSAL_DEVICE);
	m = good();
	strcpy(m.model, A);
	assert_int_equal(check(&m, &none, P), REFUSAL_MODEL);
	m = good();
	assert_int_equal(check(&m, &none, B), REFUSAL_MIXED);
	assert_int_equal(check(&m, &none, NULL), REFUSAL_NONE);
	m.n_parents = 0;
	assert_int_equal(check(&m, &none, P), REFUSAL_MIXED);
}

static void it_has_its_time(void **state)
{
	static const struct {
		int64_t expires_ms;
		enum refusal r;
	} cases[] = {
		{0, REFUSAL_FREEZE},
		{1, REFUSAL_FREEZE},
		{NOW_MS - FRESHNESS_SKEW_MS - 1, REFUSAL_FREEZE},
		{NOW_MS - FRESHNESS_SKEW_MS, REFUSAL_NONE},
		{NOW_MS, REFUSAL_NONE},
		{NOW_MS + LIFE_MS + FRESHNESS_SKEW_MS, REFUSAL_NONE},
		{NOW_MS + LIFE_MS + FRESHNESS_SKEW_MS + 1, REFUSAL_FREEZE},
		{INT64_MAX, REFUSAL_FREEZE},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct manifest m = good();
		m.expires_ms = cases[i].expires_ms;
		if (check(&m, &(struct freshness_last){0}, P) != cases[i].r)
			fail_msg("case %zu", i);
	}
}

static void numbers_rise_whatever_the_clock_does(void **state)
{
	assert_int_equal(freshness_next(0, NOW_MS), NOW_MS);
	assert_int_equal(freshness_next(NOW_MS, NOW_MS), NOW_MS + 1);
	assert_int_equal(freshness_next(NOW_MS, NOW_MS - MINUTE_MS), NOW_MS + 1);
	/* What a clock a year ahead has left is no number that anybody takes. */
	assert_int_equal(freshness_next(NOW_MS + 365 * 24 * 60 * MINUTE_MS, NOW_MS), NOW_MS);
	/* Without its memory: beyond all that it has used, unless it made one a millisecond. */
	assert_true(freshness_next(0, NOW_MS + 1000) > NOW_MS + 1);
}

/* Whoever has a key, or any trainer's, cannot use up the numbers of those who come after him. */
static void no_number_is_far_ahead(void **state)
{
	struct err err = {0};
	struct manifest m = good();
	const struct freshness_last none = {0};
	const int64_t most = NOW_MS + FRESHNESS_AHEAD_MS;
	m.sequence = most;
	assert_int_equal(check(&m, &none, P), REFUSAL_NONE);
	m.sequence = most + 1;
	assert_int_equal(check(&m, &none, P), REFUSAL_ROLLBACK);
	m.sequence = JSON_INT_MAX;
	assert_int_equal(check(&m, &none, P), REFUSAL_ROLLBACK);
	assert_int_equal(freshness_sequence(most / 1000, FRESHNESS_FLEET_UNIT_MS, NOW_MS, &err),
			 REFUSAL_NONE);
	assert_int_equal(freshness_sequence(most / 1000 + 1, FRESHNESS_FLEET_UNIT_MS, NOW_MS, &err),
			 REFUSAL_ROLLBACK);
	/* The next honest one is taken, whatever the largest was that somebody has used. */
	assert_true(freshness_next(most, NOW_MS + 1000) <= NOW_MS + 1000 + FRESHNESS_AHEAD_MS);
}

/* 200 offers of a signer are taken in order; from any moment on, none of those before is, and the
 * last one only as its own repetition. */
static void no_history_can_be_played_again(void **state)
{
	struct manifest made[200];
	struct freshness_last last = {0};
	for (int i = 0; i < 200; i++) {
		made[i] = good();
		memset(made[i].id, "0123456789abcdef"[i % 16], HASH_HEX);
		made[i].sequence =
			i ? freshness_next(made[i - 1].sequence, NOW_MS + i / 3) : NOW_MS;
		made[i].expires_ms = NOW_MS + MINUTE_MS;
		assert_int_equal(check(&made[i], &last, P), REFUSAL_NONE);
		last = (struct freshness_last){.sequence = made[i].sequence};
		memcpy(last.id, made[i].id, HASH_SIZE);
		assert_int_equal(check(&made[i], &last, P), REFUSAL_NONE);
		for (int k = 0; k < i; k++)
			assert_int_equal(check(&made[k], &last, P), strcmp(made[k].id, last.id)
									    ? REFUSAL_ROLLBACK
									    : REFUSAL_REPLAY);
	}
}

static void each_refusal_has_its_name(void **state)
{
	for (int i = 0; i < REFUSAL_N; i++)
		for (int k = 0; k <= i; k++)
			assert_int_equal(strcmp(refusal_name((enum refusal)i),
						refusal_name((enum refusal)k)) == 0,
					 i == k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_came_before_decides),
		cmocka_unit_test(it_must_be_meant_for_here),
		cmocka_unit_test(it_has_its_time),
		cmocka_unit_test(numbers_rise_whatever_the_clock_does),
		cmocka_unit_test(no_number_is_far_ahead),
		cmocka_unit_test(no_history_can_be_played_again),
		cmocka_unit_test(each_refusal_has_its_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A metered link: what may cross, when, and what is left of the day. */
#include "ckpt_util.h"

#include "device-agent/meter.h"

#define DAY        (24 * 3600 * INT64_C(1000))
#define NOON       (20000 * DAY + DAY / 2)
#define BLOCK      1000
#define CONF(r, d) (&(const struct meter_conf){.rate_bytes = (r), .bytes_a_day = (d)})

static const struct meter_day nothing;

static void init(struct meter *m, const struct meter_conf *c, const struct meter_day *kept)
{
	meter_init(m, c, kept);
	m->block_bytes = BLOCK;
}

static enum meter_answer may(struct meter *m, enum meter_use use, int64_t now_ms, int64_t utc_ms,
			     int64_t *wait_ms)
{
	enum meter_answer r = meter_may(m, use, BLOCK, now_ms, utc_ms, wait_ms);
	if (r == METER_GO)
		meter_count(m, BLOCK);
	return r;
}

static void test_no_limit(void **state)
{
	struct meter m;
	int64_t wait_ms = -1;
	init(&m, CONF(0, 0), &nothing);
	m.wants[METER_RESULT] = true;
	for (int i = 0; i < 100000; i++)
		assert_int_equal(may(&m, METER_FLEET, 0, NOON, &wait_ms), METER_GO);
	assert_true(meter_covers(&m, INT64_MAX / 2, NOON));
	assert_true(meter_is_kept(&m, &nothing, BLOCK));
	assert_int_equal(wait_ms, -1);
}

/* At most the rate in the long run, whoever asks how often; at once a second's worth, and a block
 * even where that is more. */
static void test_rate(void **state)
{
	static const struct {
		int64_t rate, at_once, in_100_s;
	} rows[] = {{5000, 5, 505}, {1000, 1, 101}, {250, 1, 26}, {100, 1, 11}};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct meter m;
		int64_t wait_ms = 0, n = 0, now = 1000000;
		init(&m, CONF(rows[i].rate, 0), &nothing);
		while (may(&m, METER_OFFER, now, NOON, &wait_ms) == METER_GO)
			n++;
		assert_int_equal(n, rows[i].at_once);
		for (int64_t end = now + 100000; now <= end; now += 10)
			n += may(&m, METER_OFFER, now, NOON, &wait_ms) == METER_GO;
		assert_in_range(n, rows[i].in_100_s - 1, rows[i].in_100_s);
		/* The wait that it names is right. */
		while (may(&m, METER_OFFER, now, NOON, &wait_ms) == METER_GO)
			;
		assert_int_equal(may(&m, METER_OFFER, now + wait_ms - 2, NOON, &(int64_t){0}),
				 METER_E_RATE);
		assert_int_equal(may(&m, METER_OFFER, now + wait_ms, NOON, &wait_ms), METER_GO);
	}
}

static void test_day(void **state)
{
	struct meter m;
	int64_t wait_ms, n = 0;
	init(&m, CONF(0, 10500), &nothing);
	assert_true(meter_covers(&m, 10500, NOON));
	assert_false(meter_covers(&m, 10501, NOON));
	while (may(&m, METER_RESULT, 0, NOON, &wait_ms) == METER_GO)
		n++;
	assert_int_equal(n, 10);
	assert_int_equal(wait_ms, METER_RECHECK_MS);
	assert_true(meter_covers(&m, 500, NOON));
	int64_t late = 20001 * DAY - 5000;
	assert_int_equal(may(&m, METER_RESULT, 0, late, &wait_ms), METER_E_DAY);
	assert_int_equal(wait_ms, 5000);
	assert_int_equal(may(&m, METER_RESULT, 0, late + wait_ms, &wait_ms), METER_GO);
	assert_false(meter_covers(&m, 10500, late + 5000));
}

/* A clock that is set must neither give a day twice nor shut the link for a year. */
static void test_clock(void **state)
{
	static const struct {
		int64_t to;
		enum meter_answer answer;
	} rows[] = {{NOON, METER_E_DAY},
		    {NOON - DAY / 4, METER_E_DAY},
		    {NOON - DAY, METER_E_DAY},
		    {NOON - 365 * DAY, METER_GO},
		    {NOON + DAY, METER_GO}};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct meter m;
		int64_t wait_ms;
		init(&m, CONF(0, BLOCK),
		     &(const struct meter_day){.day = NOON / DAY, .bytes = BLOCK});
		assert_int_equal(may(&m, METER_RESULT, 0, rows[i].to, &wait_ms), rows[i].answer);
	}
}

static void test_priority(void **state)
{
	struct meter m;
	int64_t wait_ms = 0;
	init(&m, CONF(100000, 10000), &nothing);
	m.wants[METER_OFFER] = true;
	assert_int_equal(may(&m, METER_FLEET, 0, NOON, &wait_ms), METER_E_RATE);
	assert_true(wait_ms > 0);
	assert_int_equal(may(&m, METER_RESULT, 0, NOON, &wait_ms), METER_GO);
	assert_int_equal(may(&m, METER_OFFER, 0, NOON, &wait_ms), METER_GO);
	m.wants[METER_RESULT] = true;
	assert_int_equal(may(&m, METER_OFFER, 0, NOON, &wait_ms), METER_E_RATE);
	m.wants[METER_RESULT] = m.wants[METER_OFFER] = false;
	assert_int_equal(may(&m, METER_FLEET, 0, NOON, &wait_ms), METER_GO);
	/* 7000 are left of the day. */
	m.reserved = 6000;
	assert_int_equal(may(&m, METER_FLEET, 0, NOON, &wait_ms), METER_GO);
	assert_int_equal(may(&m, METER_FLEET, 0, NOON, &wait_ms), METER_E_DAY);
	assert_int_equal(may(&m, METER_RESULT, 0, NOON, &wait_ms), METER_GO);
}

/* Killed after any block: what was kept is never less than what was used, and is written seldom. */
static void test_kept(void **state)
{
	static const struct {
		int64_t a_day;
		int writes;
	} rows[] = {{100 * 1000 * 1000, 96}, {1000 * 1000, 17}, {5 * BLOCK, 5}};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct meter m;
		struct meter_day kept = {0};
		int64_t wait_ms;
		int writes = 0;
		init(&m, CONF(0, rows[i].a_day), &kept);
		while (meter_may(&m, METER_OFFER, BLOCK, 0, NOON, &wait_ms) == METER_GO) {
			if (!meter_is_kept(&m, &kept, BLOCK)) {
				kept = meter_ahead(&m, BLOCK);
				writes++;
			}
			meter_count(&m, BLOCK);
			assert_int_equal(kept.day, NOON / DAY);
			assert_true(kept.bytes >= m.used.bytes);
			assert_true(kept.bytes <= rows[i].a_day);
		}
		assert_in_range(writes, 1, rows[i].writes);
		init(&m, CONF(0, rows[i].a_day), &kept);
		assert_int_equal(meter_may(&m, METER_OFFER, BLOCK, 0, NOON, &wait_ms), METER_E_DAY);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_limit), cmocka_unit_test(test_rate),
		cmocka_unit_test(test_day),      cmocka_unit_test(test_clock),
		cmocka_unit_test(test_priority), cmocka_unit_test(test_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

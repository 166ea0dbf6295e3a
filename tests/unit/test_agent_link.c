/* The agent on a metered link: what is over the limit waits, and nothing fails for it; what is here
 * already does not travel. */
#include "agent_rig.h"

#define DAY (24 * 3600 * INT64_C(1000))

static size_t count(const char *part_of_topic)
{
	size_t n = 0;
	for (size_t i = 0; i < n_sent; i++)
		n += strstr(sent[i].topic, part_of_topic) != NULL;
	return n;
}

static size_t block_bytes(void)
{
	size_t n = 0;
	for (size_t i = 0; i < n_sent; i++)
		n += strstr(sent[i].topic, "/block/") ? sent[i].len : 0;
	return n;
}

static void until(int64_t at)
{
	now = at;
	agent_tick(a);
}

static int64_t midnight(void)
{
	return now + DAY - fake_real(NULL) % DAY;
}

static void want(const char *id, uint32_t first, uint32_t second)
{
	struct msg_want w = {.trainer = "edge-1", .blocks = {first, second}, .n_blocks = 2};
	memcpy(w.checkpoint, id, HASH_SIZE);
	say_text(DEVICE "in/want", msg_want_print(&w));
}

static void limited(int64_t rate_bytes, int64_t bytes_a_day)
{
	conf.link = (struct meter_conf){rate_bytes, bytes_a_day};
	conf.live.hold_max_s = 2 * 86400;
	again();
}

static int64_t size(void)
{
	return (int64_t)model->file_bytes;
}

static void test_rate(void **state)
{
	char offered[HASH_SIZE];
	limited(1024, 0);
	until_offered(offered);
	claim(0, offered);
	want(offered, 0, 1);
	assert_int_equal(count("/block/"), 1);
	assert_in_range(wake - now, 1, 1000);
	/* Nothing small waits. */
	claim(1, offered);
	assert_int_equal(count("/grant"), 2);
	until(wake);
	until(now + 1000);
	assert_int_equal(count("/block/"), 2);
	/* The same on the way back. */
	char path[FILE_PATH_MAX];
	struct msg_result r = result_of(offered, 77, 1, path);
	until(now + 5000);
	forget_sent();
	say_text(DEVICE "in/offer", msg_result_print(&r));
	assert_said(TRAINER "want", "\"blocks\":[0]");
	until(now + 1000);
	assert_said(TRAINER "want", "\"blocks\":[1]");
	assert_int_equal(count("/want"), 2);
}

/* What comes back may come in blocks that are larger than a second's bytes. */
static void test_large_block(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	limited(100, 0);
	until_offered(offered);
	claim(0, offered);
	struct msg_result r = result_of(offered, 77, 1, path);
	r.manifest.block_size = MANIFEST_BLOCK_MAX;
	say_text(DEVICE "in/offer", msg_result_print(&r));
	assert_said(TRAINER "want", "\"blocks\":[0]");
}

/* Never enough, and it is not offered once. */
static void test_less_than_a_checkpoint(void **state)
{
	char id[HASH_SIZE];
	limited(0, 2 * size() - 1);
	trained(1, id);
	evaluated(id, SPLIT_VALIDATION, 10);
	trained(2, id);
	evaluated(id, SPLIT_VALIDATION, 12);
	evaluated(id, SPLIT_TEST, 6);
	for (int64_t end = now + 2 * DAY; now < end;) {
		until(now + 600000);
		forget_asked();
		assert_int_equal(count("/offer"), 0);
		forget_sent();
	}
	until(now + 600000); /* the status is repeated */
	assert_said(DEVICE "status", "do not cover");
}

/* A whole handover, then another one is due: there is not enough for it until midnight. */
static void test_not_offered(void **state)
{
	char offered[HASH_SIZE], next[HASH_SIZE], path[FILE_PATH_MAX];
	limited(0, 4 * size() - 1);
	until_offered(offered);
	claim(0, offered);
	want(offered, 0, 1);
	assert_int_equal(block_bytes(), size());
	struct msg_result r = result_of(offered, 77, 1, path);
	bring_result(&r, path);
	evaluated(r.manifest.id, SPLIT_TEST, 8);
	evaluated(r.manifest.id, SPLIT_VALIDATION, 15);
	assert_active(r.manifest.id);
	trained(3, next);
	evaluated(next, SPLIT_VALIDATION, 1);
	trained(4, next);
	evaluated(next, SPLIT_VALIDATION, 1);
	forget_sent();
	evaluated(next, SPLIT_TEST, 1);
	until(now + 60000);
	assert_int_equal(count("/offer"), 0);
	assert_said(DEVICE "status", "do not cover a checkpoint out and back");
	/* An old offer's claim holds nothing. */
	claim(0, next);
	assert_said(TRAINER "grant", "\"granted\":false");
	/* What a day has used outlives a restart. */
	restart();
	until(now + 60000);
	assert_int_equal(count("/offer"), 0);
	int64_t day = midnight();
	while (now < day) {
		assert_int_equal(count("/offer"), 0);
		assert_true(wake > now);
		until(MIN_OF(now + 600000, day));
		forget_asked();
	}
	until(now + 1);
	assert_said(DEVICE "offer", next);
	claim(0, next);
	assert_said(TRAINER "grant", "\"granted\":true");
}

/* A trainer asks for one block over and over: no more than the day's bytes cross, nothing fails,
 * and its result is pulled on the next day, without having stalled. */
static void test_used_up(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	limited(0, 20 * size());
	until_offered(offered);
	claim(0, offered);
	for (int i = 0; i < 60; i++)
		want(offered, 0, 1);
	assert_in_range(block_bytes(), 20 * size() - 1024, 20 * size());
	until(now + 1000);
	assert_said(DEVICE "status", "the day's bytes are used up");
	struct msg_result r = result_of(offered, 77, 1, path);
	forget_sent();
	say_text(DEVICE "in/offer", msg_result_print(&r));
	int64_t day = midnight();
	while (now < day) {
		assert_int_equal(count("/want") + count("/ack"), 0);
		until(MIN_OF(now + 600000, day));
		assert_true(wake > now);
		forget_asked();
	}
	assert_said(DEVICE "status", "\"handover\":\"pulling\"");
	until(now + 1);
	send_blocks(&r.manifest, path, false);
	until(now + 1000);
	assert_said(DEVICE "status", "\"handover\":\"judging\"");
}

/* Killed at any moment, it never crosses twice what a day may. */
static void test_killed_again_and_again(void **state)
{
	char offered[HASH_SIZE];
	size_t crossed = 0;
	limited(0, 20 * size());
	until_offered(offered);
	claim(0, offered);
	for (int i = 0; i < 60; i++) {
		want(offered, 0, 1);
		crossed += block_bytes();
		restart();
	}
	assert_in_range(crossed, 2 * size(), 20 * size());
}

/* The same result again, under the next fence: it is in the store, and no block travels. */
static void test_result_that_is_here(void **state)
{
	char offered[HASH_SIZE], next[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	struct msg_result r = result_of(offered, 77, 1, path);
	bring_result(&r, path);
	evaluated(r.manifest.id, SPLIT_TEST, 8);
	evaluated(r.manifest.id, SPLIT_VALIDATION, 15);
	trained(3, next);
	evaluated(next, SPLIT_VALIDATION, 1);
	trained(4, next);
	evaluated(next, SPLIT_VALIDATION, 1);
	evaluated(next, SPLIT_TEST, 1);
	claim(0, next);
	r = result_of(next, 77, 2, path);
	until(now + 5000);
	forget_sent();
	say_text(DEVICE "in/offer", msg_result_print(&r));
	until(now + 5000);
	assert_int_equal(count("/want"), 0);
	assert_int_equal(count("/ack"), 1); /* its score is known, too */
	assert_said(TRAINER "ack", "\"fence\":2,\"decision\":\"kept\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_rate),
		T(test_large_block),
		T(test_less_than_a_checkpoint),
		T(test_not_offered),
		T(test_used_up),
		T(test_killed_again_and_again),
		T(test_result_that_is_here),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The history that an agent publishes: what is in it, when it is sent, what a restart leaves of it.
 */
#include "agent_rig.h"

#include "common/protocol/history.h"
#include "device-agent/agent_impl.h"

#define HISTORY  DEVICE "history"
#define MINUTE   60000
#define ALONE(f) cmocka_unit_test_setup_teardown(f, alone, teardown)

static struct msg_history h;

/* The last one that was sent; false: none was. */
static bool told(void)
{
	const struct sent *s = last(HISTORY);
	if (!s)
		return false;
	assert_true(s->retain);
	assert_null(strstr(s->payload, "private")); /* a class's name */
	if (msg_history_parse(s->payload, s->len, &h, &err) < 0)
		fail_msg("%s", err.text);
	return true;
}

/* Nothing is offered. */
static int alone(void **state)
{
	int r = setup(state);
	conf.live.every_epochs = 0;
	again();
	return r;
}

static void wait_ms(int64_t ms)
{
	for (int64_t until = now + ms; now < until;) {
		now += 1000;
		agent_tick(a);
	}
}

static void assert_point(size_t i, const char *id, int64_t correct, bool swap)
{
	assert_true(i < h.n_points);
	assert_memory_equal(h.points[i].checkpoint, id, HISTORY_DIGITS);
	assert_int_equal(h.points[i].correct, correct);
	assert_int_equal(h.points[i].n, 20);
	assert_int_equal(h.points[i].swap, swap);
	assert_int_equal(h.points[i].origin, ORIGIN_LOCAL);
}

static void assert_counts(const char *id, int64_t correct)
{
	assert_string_equal(h.confusion.checkpoint, id);
	assert_int_equal(h.confusion.classes, 5);
	for (int i = 0; i < 25; i++)
		assert_int_equal(h.confusion.counts[i], i == 18   ? correct
							: i == 16 ? 20 - correct
								  : 0);
}

static void test_swaps_and_others(void **state)
{
	char first[HASH_SIZE], second[HASH_SIZE], third[HASH_SIZE];
	wait_ms(11000); /* after the fleet has come back */
	assert_true(told());
	assert_int_equal(h.n_points, 0);
	assert_int_equal(h.confusion.classes, 0);
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 10);
	wait_ms(6000); /* soon after a swap */
	assert_true(told());
	assert_int_equal(h.n_points, 1);
	assert_point(0, first, 10, true);
	assert_counts(first, 10);
	/* What is kept is no swap: within a minute. */
	forget_sent();
	trained(2, second);
	evaluated(second, SPLIT_VALIDATION, 9);
	wait_ms(MINUTE - 10000);
	assert_false(told());
	wait_ms(10000);
	assert_true(told());
	assert_int_equal(h.n_points, 2);
	assert_point(1, second, 9, false);
	assert_counts(first, 10);
	/* Nothing new: nothing is said. */
	forget_sent();
	wait_ms(3 * MINUTE);
	assert_false(told());
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 11);
	wait_ms(1000);
	assert_true(told());
	assert_point(2, third, 11, true);
	assert_counts(third, 11);
}

static void test_restart(void **state)
{
	char first[HASH_SIZE], second[HASH_SIZE];
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 10);
	trained(2, second);
	evaluated(second, SPLIT_VALIDATION, 8);
	restart();
	assert_false(is_asked("evaluate")); /* nothing is done only to be shown */
	wait_ms(11000);
	assert_true(told());
	assert_int_equal(h.n_points, 2);
	assert_point(0, first, 10, true);
	assert_point(1, second, 8, false);
	assert_counts(first, 10);
}

/* Counts that are of another checkpoint, or none at all, are not told. */
static void test_counts_of_another(void **state)
{
	char first[HASH_SIZE], path[FILE_PATH_MAX];
	static const char *const texts[] = {
		"",
		"{",
		"{\"at\":\"2024-11-23T12:00:00Z\",\"points\":[]}",
		"{\"at\":\"2024-11-23T12:00:00Z\",\"points\":[],\"confusion\":{\"checkpoint\":"
		"\"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\","
		"\"classes\":1,\"counts\":[7]}}",
	};
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 10);
	file_path(path, sizeof(path), "%s/counts.json", conf.state);
	assert_true(file_exists(path));
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_int_equal(file_write(path, texts[i], strlen(texts[i]), &err), 0);
		restart();
		wait_ms(11000);
		assert_true(told());
		assert_int_equal(h.n_points, 1);
		assert_int_equal(h.confusion.classes, 0);
	}
}

/* A worker whose counts do not add up has answered nothing. */
static void test_wrong_counts(void **state)
{
	char first[HASH_SIZE];
	trained(1, first);
	struct asked q = take("evaluate");
	for (int i = 0; i < 3; i++) {
		struct json *r = json_new_obj(), *rows = counts_of(20, 10);
		if (i == 0)
			json_push(rows, json_new_arr());
		if (i == 1) {
			json_free(rows);
			rows = counts_of(19, 10);
		}
		if (i == 2) {
			json_free(rows);
			rows = json_new_arr();
			json_push_int(rows, 20);
		}
		json_set_str(r, "checkpoint", first);
		json_set_str(r, "snapshot", snapshot[SPLIT_VALIDATION]);
		json_set_int(r, "n", 20);
		json_set_int(r, "correct", 10);
		json_set_num(r, "loss", 0.5);
		json_set(r, "confusion", rows);
		agent_worker_reply(a, q.id, r, NULL);
		json_free(r);
		json_free(q.args);
		assert_null(last(DEVICE "report"));
		wait_ms(2 * MINUTE);
		q = take("evaluate"); /* it is asked again */
	}
	json_free(q.args);
}

/* Long ones are sent less often: 100 bytes a second on average. */
static void test_a_long_one_is_seldom(void **state)
{
	char id[HASH_SIZE];
	size_t n = 0;
	for (uint64_t seed = 1; seed <= 150; seed++) {
		trained(seed, id);
		evaluated(id, SPLIT_VALIDATION, seed == 1 ? 10 : 9);
		forget_sent();
	}
	wait_ms(10 * MINUTE); /* what is due of it has gone out */
	forget_sent();
	trained(200, id);
	evaluated(id, SPLIT_VALIDATION, 9);
	for (int i = 0; i < 120 && !told(); i++, n++)
		wait_ms(1000);
	assert_in_range(n, 0, 5); /* nothing was sent for so long */
	forget_sent();
	trained(201, id);
	evaluated(id, SPLIT_VALIDATION, 9);
	wait_ms(MINUTE + 5000);
	assert_false(told());
	wait_ms(MINUTE);
	assert_true(told());
	assert_int_equal(h.n_points, 152);
}

static void test_bytes_in_status(void **state)
{
	struct msg_status s;
	struct worker_ready r = {.n = {40, 20, 10}, .classes = 5, .bytes = 12345};
	memcpy(r.snapshot, snapshot, sizeof(snapshot));
	memcpy(r.model, model->id, HASH_SIZE);
	assert_int_equal(agent_worker_ready(a, &r, &err), 0);
	meter_count(&a->meter, 2000);
	wait_ms(2000);
	const struct sent *m = last(DEVICE "status");
	assert_int_equal(msg_status_parse(m->payload, m->len, &s, &err), 0);
	assert_int_equal(s.data_bytes, 12345);
	assert_int_equal(s.moved_bytes, 2000);
	uint64_t is;
	assert_int_equal(file_free_bytes(conf.state, &is), 0);
	assert_in_range(s.disk_free_bytes, is / 2, is + is / 2);
	agent_stop(a);
	restart();
	meter_count(&a->meter, 500);
	wait_ms(2000);
	m = last(DEVICE "status");
	assert_int_equal(msg_status_parse(m->payload, m->len, &s, &err), 0);
	assert_int_equal(s.moved_bytes, 2500);
	assert_int_equal(s.data_bytes, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ALONE(test_swaps_and_others),     ALONE(test_restart),
		ALONE(test_counts_of_another),    ALONE(test_wrong_counts),
		ALONE(test_a_long_one_is_seldom), ALONE(test_bytes_in_status),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

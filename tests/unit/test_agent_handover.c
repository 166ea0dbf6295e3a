/* The agent with a trainer: a handover from offer to ack, with all that can come between. */
#include "agent_rig.h"

/* ---- a handover ---- */

static void test_handover(void **state)
{
	char offered[HASH_SIZE];
	until_offered(offered);
	claim(0, offered);
	assert_said(TRAINER "grant", "\"granted\":true,\"fence\":1");
	/* Blocks, also when the way is full for a while. */
	struct msg_want w = {.trainer = "edge-1", .blocks = {0, 1}, .n_blocks = 2};
	memcpy(w.checkpoint, offered, HASH_SIZE);
	publish_result = -EAGAIN;
	say_text(DEVICE "in/want", msg_want_print(&w));
	publish_result = 0;
	agent_writable(a);
	char topic[TOPIC_SIZE];
	snprintf(topic, sizeof(topic), TRAINER "block/%s/0", offered);
	assert_int_equal(last(topic)->len, 1024);
	snprintf(topic, sizeof(topic), TRAINER "block/%s/1", offered);
	assert_int_equal(last(topic)->len, model->file_bytes - 1024);
	/* To nobody else, and nothing else. */
	forget_sent();
	strcpy(w.trainer, "edge-2");
	say_text(DEVICE "in/want", msg_want_print(&w));
	assert_int_equal(n_sent, 0);
}

static void test_ordered_does_not_wait(void **state)
{
	char offered[HASH_SIZE];
	until_offered(offered);
	for (int i = 0; i < 5; i++) {
		now = wake;
		agent_tick(a);
	}
	static const char text[] = "{\"cmd\":\"handover\",\"id\":\"h1\"}";
	forget_sent();
	say(DEVICE "in/cmd", text, strlen(text));
	assert_said("tasuki/v1/home/reply/cam-1", offered);
	assert_true(wake <= now);
	agent_tick(a);
	assert_said(DEVICE "offer", offered);
}

static void test_result_is_taken(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	struct msg_result r = result_of(offered, 77, 1, path);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	send_blocks(&r.manifest, path, false);
	evaluated(r.manifest.id, SPLIT_TEST, 8);
	assert_active(offered);
	assert_null(last(TRAINER "ack"));
	evaluated(r.manifest.id, SPLIT_VALIDATION, 15);
	assert_active(r.manifest.id);
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
	assert_said(TRAINER "ack", "\"local_validation\":{\"n\":20,\"correct\":12");
	assert_said(TRAINER "ack", "\"local_test\":{\"n\":10,\"correct\":6");
	assert_said(DEVICE "report", "\"origin\":\"edge\"");
	/* The ack was lost: the offer of the result is repeated, and answered alike. */
	forget_sent();
	say_text(DEVICE "in/offer", msg_result_print(&r));
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
	assert_int_equal(n_sent, 1);
	/* A later local checkpoint that is better takes over in its turn. */
	char third[HASH_SIZE];
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 16);
	assert_active(third);
}

static void test_result_is_worse(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	struct msg_result r = result_of(offered, 77, 1, path);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	send_blocks(&r.manifest, path, false);
	evaluated(r.manifest.id, SPLIT_TEST, 10);
	evaluated(r.manifest.id, SPLIT_VALIDATION, 12);
	assert_active(offered);
	assert_said(TRAINER "ack", "\"decision\":\"kept\"");
	assert_said(DEVICE "report", "\"decision\":\"kept\"");
}

static void test_bad_results(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	struct msg_result r = result_of(offered, 77, 7, path);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	assert_said(TRAINER "ack", "\"decision\":\"refused\",\"reason\":\"fence 7");
	r.fence = 1;
	/* One bit flipped on the way. */
	say_text(DEVICE "in/offer", msg_result_print(&r));
	send_blocks(&r.manifest, path, true);
	assert_said(TRAINER "ack", "\"decision\":\"refused\"");
	assert_null(strstr(last(TRAINER "ack")->payload, dir)); /* no path leaves */
	assert_active(offered);
	/* Another model, under the next fence. */
	char third[HASH_SIZE], fourth[HASH_SIZE];
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 1);
	trained(4, fourth);
	evaluated(fourth, SPLIT_VALIDATION, 1);
	evaluated(fourth, SPLIT_TEST, 1);
	claim(0, fourth);
	r = result_of(fourth, 78, 2, path);
	memset(r.manifest.model, '5', HASH_HEX);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	assert_said(TRAINER "ack", "model");
	assert_active(offered);
}

static void test_nan_in_result(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX], *data;
	size_t len;
	until_offered(offered);
	claim(0, offered);
	struct msg_result r = result_of(offered, 77, 1, path);
	assert_int_equal(file_read(path, 1 << 20, &data, &len, NULL), 0);
	memset(data + 100, 0xff, 4);
	util_write(path, data, len);
	free(data);
	assert_int_equal(hash_file(path, r.manifest.id, NULL), 0); /* the id is its own */
	say_text(DEVICE "in/offer", msg_result_print(&r));
	send_blocks(&r.manifest, path, false);
	assert_said(TRAINER "ack", "\"decision\":\"refused\"");
	assert_false(is_asked("evaluate"));
	assert_active(offered);
}

static void test_restart_in_each_phase(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	restart();
	assert_said(DEVICE "offer", offered);
	claim(0, offered);
	restart();
	assert_null(last(DEVICE "offer"));
	claim(1, offered);
	assert_said(TRAINER "grant", "\"granted\":true,\"fence\":1");
	struct msg_result r = result_of(offered, 77, 1, path);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	restart();
	assert_said(TRAINER "want", r.manifest.id);
	send_blocks(&r.manifest, path, false);
	restart();
	evaluated(r.manifest.id, SPLIT_TEST, 8);
	restart();
	evaluated(r.manifest.id, SPLIT_VALIDATION, 15); /* the other score was on disk */
	assert_active(r.manifest.id);
	restart();
	say_text(DEVICE "in/offer", msg_result_print(&r));
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
	assert_active(r.manifest.id);
	assert_int_equal(agent_boot(a), 7);
}

static void test_lease_and_stall(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	forget_sent();
	now += 60000;
	agent_tick(a);
	assert_said(DEVICE "offer", "\"last_trainer\":\"edge-1\"");
	struct msg_result r = result_of(offered, 77, 1, path);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	size_t wants = 0;
	forget_sent();
	for (int64_t end = now + 59000; now<end; now = wake> now ? wake : now + 1)
		agent_tick(a);
	for (size_t i = 0; i < n_sent; i++)
		wants += strcmp(sent[i].topic, TRAINER "want") == 0;
	assert_in_range(wants, 2, 20); /* again and again, but not in haste */
	now += 2000;
	agent_tick(a);
	assert_said(DEVICE "offer", offered);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_handover),
		T(test_ordered_does_not_wait),
		T(test_result_is_taken),
		T(test_result_is_worse),
		T(test_bad_results),
		T(test_nan_in_result),
		T(test_restart_in_each_phase),
		T(test_lease_and_stall),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

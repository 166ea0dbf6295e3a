/* What each command does to the agent's state, and where its answer goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "device-agent/commands.h"

#define COPY(to, from) snprintf(to, sizeof(to), "%s", from)

static struct state *s;
static struct agent_live live;
static struct msg_status status;
static struct commands_view view;
static struct json *answer;
static struct err err;
static char local[HASH_SIZE], active[HASH_SIZE], previous[HASH_SIZE], unknown[HASH_SIZE];

static bool has(void *user, const char *checkpoint)
{
	return strcmp(checkpoint, unknown) != 0;
}

static int setup(void **state)
{
	err = (struct err){0};
	s = calloc(1, sizeof(*s));
	live = (struct agent_live){.round_epochs = 10, .every_epochs = 5, .lease_s = 120};
	memset(local, '1', HASH_HEX);
	memset(active, '2', HASH_HEX);
	memset(previous, '3', HASH_HEX);
	memset(unknown, '4', HASH_HEX);
	status = (struct msg_status){.boot = 7,
				     .phase = PHASE_TRAINING,
				     .progress = -1,
				     .loss = NAN,
				     .images_per_second = NAN,
				     .at_ms = 1};
	COPY(status.agent, "0.1.0");
	COPY(status.model, unknown);
	view = (struct commands_view){.device = "cam-1",
				      .active = active,
				      .previous = previous,
				      .status = &status,
				      .has = has};
	view.has_split[SPLIT_VALIDATION] = true;
	if (!s)
		return -1;
	COPY(s->local, local);
	s->boot = 7;
	answer = json_new_obj();
	return 0;
}

static int teardown(void **state)
{
	json_free(TAKE_PTR(answer));
	free(s);
	return 0;
}

static int apply(enum cmd cmd, const char *checkpoint)
{
	struct msg_cmd c = {.cmd = cmd, .id = "a1", .split = SPLIT_VALIDATION};
	COPY(c.checkpoint, checkpoint);
	return commands_apply(s, &live, &view, &c, answer, &err);
}

static void assert_answer_str(const char *key, const char *value)
{
	char text[256];
	assert_int_equal(json_get_str(answer, key, text, sizeof(text), NULL), 0);
	assert_string_equal(text, value);
}

static void assert_answer_int(const char *key, int64_t value)
{
	int64_t v;
	assert_int_equal(json_get_int(answer, key, INT64_MIN, INT64_MAX, &v, NULL), 0);
	assert_int_equal(v, value);
}

static void test_ping_and_status(void **state)
{
	assert_int_equal(apply(CMD_PING, ""), 0);
	assert_answer_str("device", "cam-1");
	assert_answer_int("boot", 7);
	assert_true(commands_reads_only(CMD_PING) && commands_reads_only(CMD_STATUS));
	assert_false(commands_reads_only(CMD_PAUSE));
	json_free(answer);
	answer = json_new_obj();
	assert_int_equal(apply(CMD_STATUS, ""), 0);
	assert_answer_str("phase", "training");
	assert_answer_str("agent", "0.1.0");
}

static void test_train(void **state)
{
	assert_int_equal(apply(CMD_TRAIN, ""), 0);
	assert_answer_int("epochs", 10);
	assert_int_equal(s->rounds.round_wanted, 10);
	struct msg_cmd c = {.cmd = CMD_TRAIN, .id = "a2", .epochs = 3};
	assert_int_equal(commands_apply(s, &live, &view, &c, answer, &err), 0);
	assert_int_equal(s->rounds.round_wanted, 3);
}

static void test_handover(void **state)
{
	assert_int_equal(apply(CMD_HANDOVER, ""), 0);
	assert_true(s->rounds.offer_ordered);
	assert_answer_str("checkpoint", local);
	s->rounds.offer_ordered = false;
	s->handover.phase = HANDOVER_GRANTED;
	assert_int_equal(apply(CMD_HANDOVER, ""), -EBUSY);
	s->handover.phase = HANDOVER_IDLE;
	s->local[0] = 0;
	assert_int_equal(apply(CMD_HANDOVER, ""), -ENOENT);
	assert_false(s->rounds.offer_ordered);
}

static void test_pause_and_resume(void **state)
{
	assert_int_equal(apply(CMD_PAUSE, ""), 0);
	assert_true(s->paused);
	assert_int_equal(apply(CMD_PAUSE, ""), 0);
	assert_int_equal(apply(CMD_RESUME, ""), 0);
	assert_false(s->paused);
}

static void test_pin_and_unpin(void **state)
{
	assert_int_equal(apply(CMD_PIN, unknown), -ENOENT);
	assert_non_null(strstr(err.text, unknown));
	assert_false(s->pinned);
	assert_int_equal(apply(CMD_UNPIN, ""), 0);
	assert_int_equal(s->n_undecided, 0); /* nothing was pinned: nothing to decide */
	assert_int_equal(apply(CMD_PIN, local), 0);
	assert_true(s->pinned);
	assert_string_equal(s->pending.activate, local);
	assert_int_equal(apply(CMD_UNPIN, ""), 0);
	assert_false(s->pinned);
	/* What was active before, and the newest, are looked at again. */
	assert_int_equal(s->n_undecided, 2);
	assert_string_equal(s->undecided[0], previous);
	assert_string_equal(s->undecided[1], local);
}

static void test_rollback(void **state)
{
	assert_int_equal(apply(CMD_ROLLBACK, ""), 0);
	assert_true(s->pinned);
	assert_string_equal(s->pending.activate, previous);
	assert_answer_str("checkpoint", previous);
	s->pinned = false;
	view.previous = "";
	assert_int_equal(apply(CMD_ROLLBACK, ""), -ENOENT);
	assert_false(s->pinned);
}

static void test_evaluate(void **state)
{
	assert_int_equal(apply(CMD_EVALUATE, ""), COMMANDS_LATER);
	assert_int_equal(apply(CMD_EVALUATE, local), COMMANDS_LATER);
	assert_int_equal(apply(CMD_EVALUATE, unknown), -ENOENT);
	view.has_split[SPLIT_VALIDATION] = false;
	assert_int_equal(apply(CMD_EVALUATE, ""), -ENOENT);
	assert_non_null(strstr(err.text, "validation"));
	view.has_split[SPLIT_VALIDATION] = true;
	view.active = "";
	assert_int_equal(apply(CMD_EVALUATE, ""), -ENOENT);
}

static void test_set(void **state)
{
	struct msg_cmd c = {.cmd = CMD_SET, .id = "a1", .key = "every_epochs", .value = "9"};
	assert_int_equal(commands_apply(s, &live, &view, &c, answer, &err), 0);
	assert_int_equal(live.every_epochs, 9);
	assert_answer_str("key", "every_epochs");
	assert_answer_str("value", "9");
	COPY(c.key, "state");
	assert_int_equal(commands_apply(s, &live, &view, &c, answer, &err), -ENOENT);
}

static void test_reply_topic(void **state)
{
	char t[TOPIC_SIZE];
	static const char *const foreign[] = {
		NULL,
		"",
		"x",
		"tasuki/v1/home/device/cam-1/in/cmd",
		"tasuki/v1/other/reply/me",
		"tasuki/v1/home/reply/",
		"tasuki/v1/home/reply/+",
		"tasuki/v1/home/reply/a/#",
		"tasuki/v1/home/replyx/a",
	};
	assert_int_equal(commands_reply_topic("home", "cam-1", "tasuki/v1/home/reply/me/7", t), 0);
	assert_string_equal(t, "tasuki/v1/home/reply/me/7");
	for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
		assert_int_equal(commands_reply_topic("home", "cam-1", foreign[i], t), 0);
		assert_string_equal(t, "tasuki/v1/home/reply/cam-1");
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_ping_and_status),  T(test_train),         T(test_handover),
		T(test_pause_and_resume), T(test_pin_and_unpin), T(test_rollback),
		T(test_evaluate),         T(test_set),           T(test_reply_topic),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

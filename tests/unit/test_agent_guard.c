/* Checkpoints that rot on the device's own disk, or are deleted under its hands: what an
 * application opens stays whole, what is lost is said, everything goes on from what is good. */
#include "agent_rig.h"
#include "failure.h"

/* ---- doing damage ---- */

static void checkpoint_path(char path[FILE_PATH_MAX], const char *id, const char *name)
{
	assert_int_equal(
		file_path(path, FILE_PATH_MAX, "%s/checkpoints/%s/%s", conf.state, id, name), 0);
}

static void flip_a_bit(const char *id)
{
	char path[FILE_PATH_MAX], byte;
	checkpoint_path(path, id, "weights");
	FILE *f = fopen(path, "r+");
	assert_non_null(f);
	assert_int_equal(fseek(f, (long)model->file_bytes - 4, SEEK_SET), 0);
	assert_int_equal(fread(&byte, 1, 1, f), 1);
	byte ^= 1;
	assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
	assert_int_equal(fwrite(&byte, 1, 1, f), 1);
	fclose(f);
}

static void lose(const char *id, const char *name)
{
	char path[FILE_PATH_MAX];
	checkpoint_path(path, id, name);
	assert_int_equal(unlink(path), 0);
}

static bool put_aside(const char *id)
{
	char path[FILE_PATH_MAX];
	assert_int_equal(file_path(path, sizeof(path), "%s/damaged/%s", conf.state, id), 0);
	return file_exists(path);
}

static void assert_none_active(void)
{
	char path[FILE_PATH_MAX];
	assert_int_equal(file_path(path, sizeof(path), "%s/active.weights", conf.state), 0);
	assert_false(file_exists(path));
}

static void tick(int64_t ms)
{
	now += ms;
	agent_tick(a);
}

/* Epochs by their scores; the second of two (or the only one) is offered. */
static void epochs(const int *correct, size_t n, char id[][HASH_SIZE])
{
	for (size_t i = 0; i < n; i++) {
		trained(i + 1, id[i]);
		evaluated(id[i], SPLIT_VALIDATION, correct[i]);
	}
}
#define EPOCHS(id, ...)                                               \
	do {                                                          \
		const int correct_[] = {__VA_ARGS__};                 \
		epochs(correct_, sizeof(correct_) / sizeof(int), id); \
	} while (0)

static void stop(void)
{
	agent_free(a);
	a = NULL;
}

/* Nothing is offered by itself. */
static void offer_nothing(void)
{
	stop();
	conf.live.every_epochs = 0;
	restart();
}

static void want(const char *id)
{
	struct msg_want w = {.trainer = "edge-1", .blocks = {0, 1}, .n_blocks = 2};
	memcpy(w.checkpoint, id, HASH_SIZE);
	say_text(DEVICE "in/want", msg_want_print(&w));
}

static bool blocks_went(void)
{
	for (size_t i = 0; i < n_sent; i++)
		if (strstr(sent[i].topic, "/block/"))
			return true;
	return false;
}

/* ---- on offer ---- */

/* The trainer wants what cannot be read: that handover ends, and what is good is offered. */
static void offered_is_lost(void (*damage)(const char *id))
{
	char id[2][HASH_SIZE];
	EPOCHS(id, 10, 9); /* the first stays active, the second is offered */
	evaluated(id[1], SPLIT_TEST, 5);
	claim(0, id[1]);
	assert_said(TRAINER "grant", "\"granted\":true");
	damage(id[1]);
	forget_sent();
	want(id[1]);
	assert_false(blocks_went());
	assert_true(put_aside(id[1]));
	assert_active(id[0]);
	evaluated(id[0], SPLIT_TEST, 5);
	assert_said(DEVICE "offer", id[0]);
	assert_said(DEVICE "offer", "\"epoch\":1,");
	tick(1000);
	assert_said(DEVICE "status", "damaged");
	assert_said(DEVICE "status", "\"handover\":\"offering\"");
	/* The old claim is over; the new offer can be claimed, and the blocks come. */
	claim(1, id[1]);
	assert_said(TRAINER "grant", "\"granted\":false");
	claim(0, id[0]);
	assert_said(TRAINER "grant", "\"granted\":true,\"fence\":2");
	want(id[0]);
	assert_true(blocks_went());
	/* It is remembered: also after a restart nothing names the lost one. */
	restart();
	claim(2, id[0]);
	assert_said(TRAINER "grant", "\"granted\":true,\"fence\":2");
}

static void lose_weights(const char *id)
{
	lose(id, "weights");
}

static void lose_manifest(const char *id)
{
	lose(id, "manifest.json");
}

static void test_offered_is_deleted(void **state)
{
	offered_is_lost(lose_weights);
}

static void test_offered_without_manifest(void **state)
{
	offered_is_lost(lose_manifest);
}

static void test_offered_has_rotted(void **state)
{
	offered_is_lost(flip_a_bit);
}

static void test_lost_in_the_middle(void **state)
{
	char id[2][HASH_SIZE];
	EPOCHS(id, 10, 9);
	evaluated(id[1], SPLIT_TEST, 5);
	claim(0, id[1]);
	want(id[1]);
	assert_true(blocks_went());
	lose(id[1], "weights");
	forget_sent();
	want(id[1]);
	assert_false(blocks_went());
	assert_int_equal(wake, now); /* at once */
	tick(0);
	evaluated(id[0], SPLIT_TEST, 5);
	assert_said(DEVICE "offer", id[0]);
}

/* As long as nobody can look, nothing travels. */
static void test_unchecked_is_not_served(void **state)
{
	static const char pause[] = "{\"cmd\":\"pause\",\"id\":\"p1\"}";
	char id[2][HASH_SIZE];
	EPOCHS(id, 10, 9);
	evaluated(id[1], SPLIT_TEST, 5);
	claim(0, id[1]);
	limit_files(0);
	say(DEVICE "in/cmd", pause, strlen(pause)); /* cannot be saved */
	limit_files(RLIM_INFINITY);
	want(id[1]);
	assert_false(blocks_went());
	tick(1000);
	assert_true(blocks_went());
}

/* What is on offer and active at once. */
static void test_offered_and_active(void **state)
{
	char id[2][HASH_SIZE];
	EPOCHS(id, 9, 10);
	evaluated(id[1], SPLIT_TEST, 5);
	claim(0, id[1]);
	flip_a_bit(id[1]);
	want(id[1]);
	assert_active(id[0]);
	assert_said(DEVICE "report", "\"reason\":\"what was active is damaged\"");
	assert_said(DEVICE "report", "\"decision\":\"activated\"");
	assert_said(DEVICE "report", "\"against\":{\"checkpoint\":\"");
	assert_said(DEVICE "report", id[1]);
	evaluated(id[0], SPLIT_TEST, 5);
	assert_said(DEVICE "offer", id[0]);
}

/* ---- at the start ---- */

static void test_active_at_start(void **state)
{
	char id[3][HASH_SIZE];
	offer_nothing();
	EPOCHS(id, 8, 9, 10);
	stop();
	flip_a_bit(id[2]);
	restart();
	assert_active(id[1]);
	assert_true(put_aside(id[2]));
	assert_said(DEVICE "report", "\"reason\":\"what was active is damaged\"");
	assert_said(DEVICE "report", id[1]);
	assert_said(DEVICE "status", "damaged");
	/* Training goes on from what is good. */
	char weights[FILE_PATH_MAX];
	assert_int_equal(json_get_str(asked[0].args, "weights", weights, sizeof(weights), NULL), 0);
	assert_non_null(strstr(weights, id[1]));
	restart();
	assert_active(id[1]);
	assert_null(last(DEVICE "report"));
	tick(2 * 3600 * 1000);
	assert_null(strstr(last(DEVICE "status")->payload, "damaged"));
}

static void test_active_file_gone_at_start(void **state)
{
	for (int i = 0; i < 2; i++) {
		char id[3][HASH_SIZE];
		if (i) {
			teardown(state);
			setup(state);
		}
		offer_nothing();
		EPOCHS(id, 8, 9, 10);
		stop();
		lose(id[2], i ? "weights" : "manifest.json");
		restart();
		assert_active(id[1]);
		assert_true(put_aside(id[2]));
		assert_said(DEVICE "report", "\"reason\":\"what was active is damaged\"");
	}
}

static void test_previous_too(void **state)
{
	char id[4][HASH_SIZE];
	offer_nothing();
	EPOCHS(id, 8, 9, 10, 7); /* active: 2, previous: 1, local: 3 */
	stop();
	flip_a_bit(id[2]);
	flip_a_bit(id[1]);
	restart();
	assert_active(id[3]);
	assert_true(put_aside(id[2]) && put_aside(id[1]));
	static const char text[] = "{\"cmd\":\"rollback\",\"id\":\"h1\"}";
	say(DEVICE "in/cmd", text, strlen(text));
	assert_said("tasuki/v1/home/reply/cam-1", "no previous");
}

static void test_nothing_is_good(void **state)
{
	char id[2][HASH_SIZE], next[HASH_SIZE];
	EPOCHS(id, 9, 10);
	stop();
	flip_a_bit(id[0]);
	flip_a_bit(id[1]);
	restart();
	assert_none_active();
	assert_said(DEVICE "status", "\"active\":null");
	assert_said(DEVICE "status", "damaged");
	assert_false(json_has(asked[0].args, "weights")); /* from new ones */
	trained(7, next);
	evaluated(next, SPLIT_VALIDATION, 1);
	assert_active(next);
}

static void test_previous_alone(void **state)
{
	char id[2][HASH_SIZE];
	EPOCHS(id, 9, 10);
	stop();
	flip_a_bit(id[0]);
	restart();
	assert_active(id[1]);
	assert_true(put_aside(id[0]));
	assert_null(last(DEVICE "report"));
	static const char text[] = "{\"cmd\":\"rollback\",\"id\":\"h1\"}";
	say(DEVICE "in/cmd", text, strlen(text));
	assert_said("tasuki/v1/home/reply/cam-1", "no previous");
	assert_active(id[1]);
}

static void test_local_at_start(void **state)
{
	char id[2][HASH_SIZE], weights[FILE_PATH_MAX];
	EPOCHS(id, 10, 9);
	stop();
	flip_a_bit(id[1]);
	restart();
	assert_active(id[0]);
	assert_true(put_aside(id[1]));
	assert_int_equal(json_get_str(asked[0].args, "weights", weights, sizeof(weights), NULL), 0);
	assert_non_null(strstr(weights, id[0]));
}

static void test_pinned(void **state)
{
	char id[3][HASH_SIZE], text[256];
	offer_nothing();
	EPOCHS(id, 8, 9, 10);
	snprintf(text, sizeof(text), "{\"cmd\":\"pin\",\"id\":\"p1\",\"checkpoint\":\"%s\"}",
		 id[1]);
	say(DEVICE "in/cmd", text, strlen(text));
	assert_active(id[1]);
	stop();
	flip_a_bit(id[1]);
	restart();
	assert_active(id[2]);
	assert_said(DEVICE "status", "\"pinned\":false");
}

/* A full disk at that moment: what is active is whole, and the rest is made up for later. */
static void test_on_full_disk(void **state)
{
	char id[3][HASH_SIZE];
	offer_nothing();
	EPOCHS(id, 8, 9, 10);
	stop();
	flip_a_bit(id[2]);
	forget_asked();
	forget_sent();
	assert_int_equal(begin(), 0);
	stop();
	restart();
	assert_active(id[1]);
	/* After the store was changed, before the state was: as a kill in between would leave it.
	 */
	teardown(state);
	setup(state);
	offer_nothing();
	EPOCHS(id, 8, 9, 10);
	stop();
	struct store *s;
	assert_int_equal(store_open(conf.state, &s, NULL), 0);
	assert_int_equal(store_set_aside(s, id[2], id[1], NULL), 0);
	store_free(s);
	restart();
	assert_active(id[1]);
	trained(9, id[2]);
	evaluated(id[2], SPLIT_VALIDATION, 20);
	assert_active(id[2]);
}

/* ---- at work ---- */

static void test_worker_cannot_load_it(void **state)
{
	char id[3][HASH_SIZE], next[HASH_SIZE];
	offer_nothing();
	EPOCHS(id, 8, 9, 10);
	/* Other validation images: the active one is to be scored anew. */
	memset(snapshot[SPLIT_VALIDATION], 'd', HASH_HEX);
	data_read();
	flip_a_bit(id[2]);
	struct asked q = take("evaluate");
	json_free(q.args);
	agent_worker_reply(a, q.id, NULL,
			   failure(-EBADMSG, ERR_CHECKPOINT, "weights: value is not finite"));
	assert_active(id[1]);
	assert_true(put_aside(id[2]));
	assert_said(DEVICE "report", "\"reason\":\"what was active is damaged\"");
	/* Trained from: the same. */
	flip_a_bit(id[1]);
	q = take("train");
	json_free(q.args);
	agent_worker_reply(a, q.id, NULL,
			   failure(-EBADMSG, ERR_CHECKPOINT, "weights: value is not finite"));
	assert_true(put_aside(id[1]));
	tick(60000);
	trained(5, next);
	tick(60000);
	evaluated(next, SPLIT_VALIDATION, 3);
	assert_active(next);
}

static void test_worker_fails_for_another_reason(void **state)
{
	char id[2][HASH_SIZE];
	EPOCHS(id, 9, 10);
	struct asked q = take("train");
	json_free(q.args);
	agent_worker_reply(a, q.id, NULL, failure(-EIO, ERR_OTHER, "no memory, or so"));
	assert_active(id[1]);
	assert_false(put_aside(id[1]));
}

static void test_result_is_pulled_again(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	struct msg_result r = result_of(offered, 77, 1, path);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	send_blocks(&r.manifest, path, false);
	lose(r.manifest.id, "weights");
	struct asked q = take("evaluate");
	json_free(q.args);
	agent_worker_reply(a, q.id, NULL, failure(-ENOENT, ERR_CHECKPOINT, "weights: not there"));
	assert_said(TRAINER "want", r.manifest.id);
	send_blocks(&r.manifest, path, false);
	tick(60000);
	evaluated(r.manifest.id, SPLIT_TEST, 8);
	evaluated(r.manifest.id, SPLIT_VALIDATION, 15);
	assert_active(r.manifest.id);
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_offered_is_deleted),
		T(test_offered_without_manifest),
		T(test_offered_has_rotted),
		T(test_lost_in_the_middle),
		T(test_unchecked_is_not_served),
		T(test_offered_and_active),
		T(test_active_at_start),
		T(test_active_file_gone_at_start),
		T(test_previous_too),
		T(test_nothing_is_good),
		T(test_previous_alone),
		T(test_local_at_start),
		T(test_pinned),
		T(test_on_full_disk),
		T(test_worker_cannot_load_it),
		T(test_worker_fails_for_another_reason),
		T(test_result_is_pulled_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

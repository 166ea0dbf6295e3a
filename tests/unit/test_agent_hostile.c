/* The agent among hostile peers: floods, trainers that hold without working, results that never
 * come. */
#include "agent_rig.h"

#include "device-agent/agent_impl.h"

#include <dirent.h>
#include <sys/stat.h>

#include "device-agent/agent_impl.h"

#define REPLY     "tasuki/v1/home/reply/cam-1"
#define OWN_FIRST 4 /* AGENT_OWN_FIRST_MAX */

static size_t count(const char *topic, const char *part)
{
	size_t n = 0;
	for (size_t i = 0; i < n_sent; i++)
		n += strcmp(sent[i].topic, topic) == 0 && strstr(sent[i].payload, part);
	return n;
}

static void tick(int64_t ms)
{
	now += ms;
	agent_tick(a);
}

static void command(const char *topic, const char *cmd, int id)
{
	char text[256];
	snprintf(text, sizeof(text), "{\"id\":\"c%d\",\"cmd\":%s}", id, cmd);
	say(topic, text, strlen(text));
}
#define SET "\"set\",\"key\":\"every_epochs\",\"value\":\"9\""

static int64_t saved_at(void)
{
	struct stat st;
	char path[FILE_PATH_MAX];
	assert_int_equal(file_path(path, sizeof(path), "%s/state.json", conf.state), 0);
	assert_int_equal(stat(path, &st), 0);
	return (int64_t)st.st_ino; /* each save makes a new file */
}

/* ---- floods ---- */

static void test_command_flood(void **state)
{
	int64_t before = saved_at();
	size_t saves = 0;
	for (int i = 0; i < 200; i++) {
		command(DEVICE "in/cmd", SET, i);
		saves += saved_at() != before;
		before = saved_at();
	}
	assert_in_range(saves, 1, 64);
	assert_int_equal(count(REPLY, "\"ok\":true"), 64);
	/* The others hear when to come again, as far as there is time for answers. */
	assert_int_equal(count(REPLY, "busy: too many commands"), 16);
	assert_int_equal(count(REPLY, "\"retry_ms\":"), 16);
	/* Refused for that is not remembered: the same command is carried out later. */
	forget_sent();
	tick(1000);
	command(DEVICE "in/cmd", SET, 199);
	assert_int_equal(count(REPLY, "\"id\":\"c199\",\"ok\":true"), 1);
	/* The fleet's commands have their own. */
	command("tasuki/v1/home/fleet/cmd", "\"ping\"", 900);
	tick(2000);
	assert_int_equal(count(REPLY, "\"id\":\"c900\",\"ok\":true"), 1);
}

static void test_rubbish_flood(void **state)
{
	for (int i = 0; i < 200; i++)
		say(DEVICE "in/cmd", "{", 1);
	assert_in_range(n_sent, 1, 90);
}

/* What is decided here does not wait for what people order, nor they for ever. */
static void test_own_evaluations_come_first(void **state)
{
	char first[HASH_SIZE], id[OWN_FIRST + 1][HASH_SIZE];
	agent_free(a);
	a = NULL;
	conf.live.every_epochs = 0;
	restart();
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 20);
	/* One is at work, the others wait. */
	for (int i = 0; i < 3; i++)
		command(DEVICE "in/cmd", "\"evaluate\",\"split\":\"train\"", i);
	trained(2, id[0]);
	evaluated(first, SPLIT_TRAIN, 1);
	for (uint64_t i = 0; i < OWN_FIRST; i++) {
		trained(3 + i, id[i + 1]);
		evaluated(id[i], SPLIT_VALIDATION, 1);
	}
	evaluated(first, SPLIT_TRAIN, 1); /* its turn after that */
	evaluated(id[OWN_FIRST], SPLIT_VALIDATION, 1);
	evaluated(first, SPLIT_TRAIN, 1);
	assert_int_equal(count(REPLY, "\"ok\":true"), 3);
}

/* One is at work and as many wait as may; then it is refused by name. */
static void test_ordered_evaluations(void **state)
{
	char first[HASH_SIZE];
	conf.live.every_epochs = 0;
	again();
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 20);
	for (int i = 0; i < 1 + AGENT_ORDERED_MAX; i++)
		command(DEVICE "in/cmd", "\"evaluate\",\"split\":\"train\"", i);
	assert_int_equal(count(REPLY, "too many are waiting"), 0);
	command(DEVICE "in/cmd", "\"evaluate\",\"split\":\"train\"", 99);
	assert_int_equal(count(REPLY, "evaluate: too many are waiting"), 1);
}

/* So many answers to the fleet's commands are put off; more go out at once. */
static void test_answers_put_off(void **state)
{
	forget_sent();
	for (int i = 0; i < AGENT_REPLIES_MAX + 5; i++)
		command("tasuki/v1/home/fleet/cmd", "\"ping\"", i);
	assert_int_equal(count(REPLY, "\"ok\":true"), 5);
	now += AGENT_REPLY_DELAY_MS;
	agent_tick(a);
	assert_int_equal(count(REPLY, "\"ok\":true"), AGENT_REPLIES_MAX + 5);
}

static void foreign_claim(int i, const char *checkpoint)
{
	struct msg_claim c = {.fence = 0, .claim = i + 1};
	snprintf(c.trainer, sizeof(c.trainer), "evil-%d", i);
	memcpy(c.checkpoint, checkpoint, HASH_SIZE);
	say_text(DEVICE "in/claim", msg_claim_print(&c));
}

static void test_claim_flood(void **state)
{
	char offered[HASH_SIZE];
	until_offered(offered);
	claim(0, offered);
	forget_sent();
	for (int i = 0; i < 200; i++)
		foreign_claim(i, offered);
	assert_in_range(n_sent, 32, 70);
	/* Whoever has the grant is heard all the same. */
	forget_sent();
	claim(1, offered);
	assert_said(TRAINER "grant", "\"granted\":true,\"fence\":1");
}

static void test_result_flood(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	forget_sent();
	struct msg_result r = result_of(offered, 77, 9, path);
	for (int i = 0; i < 200; i++)
		say_text(DEVICE "in/offer", msg_result_print(&r));
	assert_in_range(count(TRAINER "ack", "refused"), 1, 32);
	r.fence = 1;
	say_text(DEVICE "in/offer", msg_result_print(&r));
	assert_said(TRAINER "want", r.manifest.id);
}

/* ---- holding without working ---- */

static void renew(int64_t fence, const char *checkpoint, double progress)
{
	struct msg_claim c = {.trainer = "edge-1", .fence = fence, .claim = 77, .phase = "pulling"};
	c.progress = progress;
	memcpy(c.checkpoint, checkpoint, HASH_SIZE);
	say_text(DEVICE "in/claim", msg_claim_print(&c));
}

/* The lease is 60 s: nothing moves, so after three of them it is not renewed any more. */
static void test_only_renewing(void **state)
{
	char offered[HASH_SIZE];
	until_offered(offered);
	claim(0, offered);
	int64_t end = now + 3 * 60000;
	while (now + 20000 <= end) {
		now += 20000;
		renew(1, offered, 0);
		assert_said(TRAINER "grant", "\"granted\":true,\"fence\":1,\"claim\":77");
	}
	/* Blocks are asked for: that is work, but only once each. */
	struct msg_want w = {.trainer = "edge-1", .blocks = {1}, .n_blocks = 1};
	memcpy(w.checkpoint, offered, HASH_SIZE);
	say_text(DEVICE "in/want", msg_want_print(&w));
	end = now + 3 * 60000;
	while (now + 20000 <= end) {
		now += 20000;
		say_text(DEVICE "in/want", msg_want_print(&w));
		renew(1, offered, 0);
		assert_said(TRAINER "grant", "\"granted\":true");
	}
	now += 20000;
	renew(1, offered, 0);
	assert_said(TRAINER "grant", "\"granted\":false");
	assert_said(TRAINER "grant", "moved");
	forget_sent();
	tick(60000);
	assert_said(DEVICE "offer", offered);
	/* Another one is taken at once. */
	claim(0, offered);
	assert_said(TRAINER "grant", "\"granted\":false");
	foreign_claim(1, offered);
	assert_said("tasuki/v1/home/trainer/evil-1/in/cam-1/grant", "\"granted\":true,\"fence\":2");
}

/* However busy it looks: `hold_max_s`, 20 minutes here. */
static void test_hold_max(void **state)
{
	char offered[HASH_SIZE];
	int64_t began;
	double progress = 0;
	until_offered(offered);
	claim(0, offered);
	for (began = now; now - began < 3600 * 1000; now += 20000) {
		forget_sent();
		renew(1, offered, progress += 1e-6);
		if (strstr(last(TRAINER "grant")->payload, "\"granted\":false"))
			break;
	}
	assert_in_range(now - began, 1200000 - 60000, 1200000);
	assert_said(TRAINER "grant", "too long");
	tick(60000);
	assert_said(DEVICE "offer", offered);
}

/* `set lease_s` and a restart with another one: what was given out stays as long as it was. */
static void test_lease_of_a_fence(void **state)
{
	char offered[HASH_SIZE];
	until_offered(offered);
	claim(0, offered);
	assert_said(TRAINER "grant", "\"lease_ms\":60000");
	command(DEVICE "in/cmd", "\"set\",\"key\":\"lease_s\",\"value\":\"5\"", 1);
	forget_sent();
	claim(1, offered);
	assert_said(TRAINER "grant", "\"lease_ms\":60000");
	tick(30000);
	assert_null(last(DEVICE "offer"));
	conf.live.lease_s = 5;
	restart();
	tick(59000);
	assert_null(last(DEVICE "offer"));
	tick(1001);
	assert_said(DEVICE "offer", offered);
	claim(0, offered);
	assert_said(TRAINER "grant", "\"lease_ms\":5000");
}

static void test_why_nobody_takes_it(void **state)
{
	char offered[HASH_SIZE];
	struct msg_claim c = {.trainer = "edge-1", .busy = true, .retry_ms = 600000};
	until_offered(offered);
	memcpy(c.checkpoint, offered, HASH_SIZE);
	strcpy(c.reason, "model: found abc, expected def");
	say_text(DEVICE "in/claim", msg_claim_print(&c));
	tick(1000);
	assert_said(DEVICE "status", "model: found abc, expected def");
	foreign_claim(1, offered);
	tick(1000);
	assert_null(strstr(last(DEVICE "status")->payload, "expected def"));
}

/* ---- results that never come ---- */

static size_t n_incoming(void)
{
	char path[FILE_PATH_MAX];
	size_t n = 0;
	assert_int_equal(file_path(path, sizeof(path), "%s/incoming", conf.state), 0);
	DIR *d = opendir(path);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += *e->d_name != '.';
	closedir(d);
	return n;
}

/* Begins to come in, then does not. */
static struct msg_result stalled(const char *offered, uint64_t seed, int64_t fence)
{
	char path[FILE_PATH_MAX];
	struct msg_result r = result_of(offered, seed, fence, path);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	assert_said(TRAINER "want", r.manifest.id);
	uint8_t block[1024];
	uint32_t len;
	char topic[TOPIC_SIZE];
	assert_int_equal(part_read_block(path, (uint64_t)r.manifest.size, sizeof(block), 0, block,
					 &len, NULL),
			 0);
	snprintf(topic, sizeof(topic), DEVICE "in/block/%s/0", r.manifest.id);
	say(topic, block, len);
	assert_int_equal(n_incoming(), 2); /* the part and its map */
	tick(60001);
	assert_said(DEVICE "status", "\"handover\":\"offering\"");
	return r;
}

static void test_parts_end_with_their_handover(void **state)
{
	char offered[HASH_SIZE];
	until_offered(offered);
	claim(0, offered);
	struct msg_result r = stalled(offered, 77, 1);
	assert_int_equal(n_incoming(), 2); /* it may yet come */
	say_text(DEVICE "in/offer", msg_result_print(&r));
	tick(60001);
	assert_int_equal(n_incoming(), 2);
	/* Another one takes its place; another grant ends it. */
	stalled(offered, 78, 1);
	assert_int_equal(n_incoming(), 2);
	foreign_claim(1, offered);
	assert_int_equal(n_incoming(), 0);
}

static void test_parts_do_not_outlive_their_time(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	/* What an older version left. */
	assert_int_equal(file_path(path, sizeof(path), "%s/incoming/%s.part", conf.state, offered),
			 0);
	util_write(path, "x", 1);
	claim(0, offered);
	assert_int_equal(n_incoming(), 0);
	stalled(offered, 77, 1);
	restart();
	assert_int_equal(n_incoming(), 2);
	for (int i = 0; i < 6; i++)
		tick(3600 * 1000);
	assert_int_equal(n_incoming(), 0);
}

/* Refused by its manifest, before a byte is reserved for it. */
static void test_result_of_another_size(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	struct msg_result r = result_of(offered, 77, 1, path);
	r.manifest.block_size = MANIFEST_BLOCK_MAX;
	r.manifest.size = INT64_C(1) << 30;
	say_text(DEVICE "in/offer", msg_result_print(&r));
	assert_said(TRAINER "ack", "\"decision\":\"refused\"");
	assert_said(TRAINER "ack", "size");
	assert_int_equal(n_incoming(), 0);
	assert_null(last(TRAINER "want"));
}

static void block(const char *id, unsigned n, size_t len)
{
	static const char bytes[2048];
	char topic[TOPIC_SIZE];
	snprintf(topic, sizeof(topic), DEVICE "in/block/%s/%u", id, n);
	say(topic, bytes, len);
}

/* Of another checkpoint than announced, of a wrong length, out of range: counted, and nothing comes of
 * them. */
static void test_bad_blocks(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	block(offered, 0, 1024); /* nothing is coming in */
	assert_int_equal(a->n_refused, 1);
	struct msg_result r = result_of(offered, 77, 1, path);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	block(offered, 0, 1024);
	assert_int_equal(a->n_refused, 2);
	block(r.manifest.id, 0, 1023);
	block(r.manifest.id, 0, 1025);
	block(r.manifest.id, 1, 1024);
	assert_int_equal(a->n_refused, 5);
	block(r.manifest.id, 2, 1024);
	block(r.manifest.id, 4294967295, 1024);
	assert_int_equal(a->n_refused, 7);
	assert_int_equal(n_incoming(), 0);
	/* It is as if they had not come. */
	send_blocks(&r.manifest, path, false);
	assert_int_equal(a->n_refused, 7);
	assert_true(is_asked("evaluate"));
}

static void test_wants_what_is_not_there(void **state)
{
	char offered[HASH_SIZE];
	until_offered(offered);
	claim(0, offered);
	struct msg_want w = {.trainer = "edge-1", .blocks = {2, 1000000, 0}, .n_blocks = 3};
	memcpy(w.checkpoint, offered, HASH_SIZE);
	forget_sent();
	say_text(DEVICE "in/want", msg_want_print(&w));
	assert_int_equal(a->n_refused, 1);
	size_t n = 0;
	for (size_t i = 0; i < n_sent; i++)
		n += strstr(sent[i].topic, "/block/") != NULL;
	assert_int_equal(n, 1);
}

/* ---- a worker that was taken over ---- */

static void answer(struct asked q, const char *id, int64_t images, const char *images_hash)
{
	struct json *r = json_new_obj();
	json_set_str(r, "checkpoint", id);
	json_set_str(r, "snapshot", images_hash);
	json_set_int(r, "images", images);
	json_set_int(r, "n", 20);
	json_set_int(r, "correct", 20);
	json_set_num(r, "loss", 0);
	request_done(&q, r);
}

/* What it says gets into the state, which has to be one that can be read and written again. */
static void test_answers_of_a_worker(void **state)
{
	const int64_t images[] = {JSON_INT_MAX, (int64_t)WEIGHTS_SEEN_MAX, 40};
	char id[HASH_SIZE], out[FILE_PATH_MAX];
	for (uint64_t i = 0; i < ARRAY_LEN(images); i++) {
		struct asked q = take("train");
		path_of(&q, "out", out);
		util_write_weights(model, out, i + 1, 40);
		assert_int_equal(hash_file(out, id, NULL), 0);
		answer(q, id, images[i], "");
		answer(take("evaluate"), id, 0, "no hash");
		assert_null(state_score_find(a->state, id, SPLIT_VALIDATION, "no hash"));
		a_second_later();
		answer(take("evaluate"), id, 0, snapshot[SPLIT_VALIDATION]);
		assert_int_equal(a->state->rounds.epoch, i + 1);
	}
	restart();
	assert_int_equal(a->state->rounds.epoch, 3);
	assert_int_equal(a->state->rounds.images_seen, WEIGHTS_SEEN_MAX);
}

/* ---- which log a report is of ---- */

static void member(const char *topic, const char *key, char *ret, size_t size)
{
	struct json *j = NULL;
	assert_non_null(last(topic));
	assert_int_equal(json_parse(last(topic)->payload, last(topic)->len, 65536, &j, NULL), 0);
	assert_int_equal(json_get_str(j, key, ret, size, NULL), 0);
	json_free(j);
}

static void test_log_of_reports(void **state)
{
	char id[HASH_SIZE], one[LOGID_SIZE], two[LOGID_SIZE], path[FILE_PATH_MAX];
	trained(1, id);
	evaluated(id, SPLIT_VALIDATION, 3);
	member(DEVICE "report", "log", one, sizeof(one));
	assert_true(logid_valid(one));
	assert_said(DEVICE "status", one);
	restart();
	trained(2, id);
	evaluated(id, SPLIT_VALIDATION, 4);
	assert_said(DEVICE "report", one);
	assert_said(DEVICE "report", "\"seq\":2,");
	tick(1000);
	assert_said(DEVICE "status", "\"report_first\":1");
	/* Its state is lost: another log, from 1, and none of the old reports under it. */
	agent_free(a);
	a = NULL;
	assert_int_equal(file_path(path, sizeof(path), "%s/state.json", conf.state), 0);
	assert_int_equal(unlink(path), 0);
	restart();
	member(DEVICE "status", "log", two, sizeof(two));
	assert_string_not_equal(one, two);
	assert_said(DEVICE "status", "\"report_seq\":0");
	evaluated(id, SPLIT_VALIDATION, 4); /* what is active, anew */
	assert_said(DEVICE "report", "\"seq\":1,");
	assert_said(DEVICE "report", two);
	assert_int_equal(file_path(path, sizeof(path), "%s/reports.jsonl.old", conf.state), 0);
	assert_true(file_exists(path));
}

/* A device's clock that is a year behind, or a trainer's that is ahead: results count by their fence. */
static void test_clock_a_year_off(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	struct msg_result r = result_of(offered, 77, 1, path);
	r.manifest.created_ms += (int64_t)365 * 86400 * 1000;
	say_text(DEVICE "in/offer", msg_result_print(&r));
	send_blocks(&r.manifest, path, false);
	evaluated(r.manifest.id, SPLIT_TEST, 8);
	evaluated(r.manifest.id, SPLIT_VALIDATION, 15);
	assert_active(r.manifest.id);
	/* A command is not carried out when, by this clock, its time is over; and it is told why. */
	say_text(DEVICE "in/cmd", strdup("{\"cmd\":\"pause\",\"id\":\"x\",\"expires\":\"2025-09-21T00:00:00Z\"}"));
	assert_said("tasuki/v1/home/reply/cam-1", "expires: the command has expired");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_command_flood),
		T(test_rubbish_flood),
		T(test_own_evaluations_come_first),
		T(test_claim_flood),
		T(test_result_flood),
		T(test_only_renewing),
		T(test_hold_max),
		T(test_lease_of_a_fence),
		T(test_why_nobody_takes_it),
		T(test_parts_end_with_their_handover),
		T(test_parts_do_not_outlive_their_time),
		T(test_result_of_another_size),
		T(test_bad_blocks),
		T(test_wants_what_is_not_there),
		T(test_answers_of_a_worker),
		T(test_ordered_evaluations),
		T(test_answers_put_off),
		T(test_log_of_reports),
		T(test_clock_a_year_off),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

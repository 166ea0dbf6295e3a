/* The agent alone: epochs, decisions, what is saved when, commands. */
#include "agent_rig.h"

#include "device-agent/agent_impl.h"
#include "failure.h"

#include "device-agent/agent_impl.h"

/* ---- training and decisions ---- */

static void test_first_epochs(void **state)
{
	char first[HASH_SIZE], second[HASH_SIZE];
	assert_said(DEVICE "presence", "\"online\":true");
	assert_true(last(DEVICE "presence")->retain);
	assert_said(DEVICE "status", "\"active\":null");
	assert_false(json_has(asked[0].args, "weights")); /* new ones */
	trained(1, first);
	assert_true(is_asked("train")); /* goes on meanwhile */
	evaluated(first, SPLIT_VALIDATION, 10);
	assert_active(first);
	assert_said(DEVICE "report", "\"decision\":\"activated\"");
	assert_said(DEVICE "report", "\"per_class\":[{\"class\":3");
	assert_null(strstr(last(DEVICE "report")->payload, "private")); /* names never leave */
	/* No better on the same images: kept. */
	trained(2, second);
	evaluated(second, SPLIT_VALIDATION, 10);
	assert_active(first);
	assert_said(DEVICE "report", "\"decision\":\"kept\"");
	assert_said(DEVICE "report", first);
}

static void test_better_takes_over(void **state)
{
	char first[HASH_SIZE], second[HASH_SIZE];
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 10);
	trained(2, second);
	evaluated(second, SPLIT_VALIDATION, 11);
	assert_active(second);
	now += 1000;
	agent_tick(a);
	assert_said(DEVICE "status", second);
	assert_said(DEVICE "status", "\"accuracy\":0.55");
	assert_said(DEVICE "status", "\"report_seq\":2");
}

static void test_other_validation_images(void **state)
{
	char first[HASH_SIZE], second[HASH_SIZE];
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 19);
	/* Other images are there: what is active gets its score on them before it is compared. */
	memset(snapshot[SPLIT_VALIDATION], 'd', HASH_HEX);
	data_read();
	evaluated(first, SPLIT_VALIDATION, 5);
	restart();
	trained(2, second);
	evaluated(second, SPLIT_VALIDATION, 6);
	assert_active(second);
}

static void test_bad_epoch(void **state)
{
	/* A worker that says it is done and has written rubbish. */
	struct asked q = take("train");
	char out[FILE_PATH_MAX], id[HASH_SIZE];
	assert_int_equal(json_get_str(q.args, "out", out, sizeof(out), NULL), 0);
	util_write(out, "rubbish", 7);
	struct json *r = json_new_obj();
	agent_worker_reply(a, q.id, r, NULL);
	json_free(r);
	json_free(q.args);
	assert_false(is_asked("train")); /* not at once */
	now += 1000;
	agent_tick(a);
	assert_said(DEVICE "status", "\"reason\":\"epoch not kept: the checkpoint is not usable\"");
	now = wake > now ? wake : now + 1;
	agent_tick(a);
	trained(1, id);
	evaluated(id, SPLIT_VALIDATION, 3);
	assert_active(id);
}

/* The last good epoch stays, those who watch know why, and it is tried with another order of
 * images, less and less often. */
static void test_diverged(void **state)
{
	enum { CAP_MS = 60000 };
	char good[HASH_SIZE], next[HASH_SIZE];
	int64_t seed, last_seed = -1, wait_ms = 0;
	trained(1, good);
	evaluated(good, SPLIT_VALIDATION, 5);
	assert_active(good);
	for (int i = 0; i < 12; i++) {
		struct asked q = take("train");
		assert_int_equal(json_get_int(q.args, "seed", 0, 99, &seed, NULL), 0);
		assert_int_not_equal(seed, last_seed);
		last_seed = seed;
		json_free(q.args);
		agent_worker_reply(a, q.id, NULL, failure(-EDOM, ERR_DIVERGED, "/tmp/x: nan"));
		int64_t from = now;
		now += 1000; /* a status a second */
		agent_tick(a);
		assert_said(DEVICE "status", "\"reason\":\"training: the loss is not finite\"");
		assert_active(good);
		while (!is_asked("train") && now < from + 2 * CAP_MS) {
			now += 100;
			agent_tick(a);
		}
		wait_ms = now - from;
		assert_true(wait_ms >= 1000 && wait_ms <= CAP_MS + 100);
	}
	assert_true(wait_ms >= CAP_MS / 2);
	trained(2, next);
	now += 1000;
	agent_tick(a);
	assert_said(DEVICE "status", "\"reason\":\"\"");
}

static void test_worker_dies(void **state)
{
	char id[HASH_SIZE];
	struct asked q = take("train");
	json_free(q.args);
	agent_worker_reply(a, q.id, NULL, failure(-ECONNRESET, ERR_WORKER, "killed"));
	agent_worker_died(a, failure(-ECONNRESET, ERR_WORKER, "killed, last line: 'Alice/1.png'"));
	assert_false(is_asked("train"));
	now += 1000;
	agent_tick(a);
	assert_said(DEVICE "status", "\"reason\":\"the worker died\"");
	data_read();
	trained(1, id); /* asked for again, at once */
	now += 1000;
	agent_tick(a);
	assert_said(DEVICE "status", "\"reason\":\"\"");
	struct worker_ready other = {.n = {1, 1, 1}};
	memset(other.model, '9', HASH_HEX);
	assert_int_equal(agent_worker_ready(a, &other, &err), -EINVAL);
}

/* What the worker answers to `rescan`. */
static void rescanned(uint32_t n_train)
{
	static const char *const splits[] = {"train", "validation", "test"};
	const uint32_t n[] = {n_train, 20, 10};
	struct asked q = take("rescan");
	struct json *r = json_new_obj(), *images = json_new_obj(), *snapshots = json_new_obj();
	for (int i = 0; i < SPLIT_N; i++) {
		json_set_int(images, splits[i], n[i]);
		json_set_str(snapshots, splits[i], snapshot[i]);
	}
	json_set(r, "images", images);
	json_set_int(r, "stay", 0);
	json_set(r, "snapshot", snapshots);
	json_set_int(r, "classes", 5);
	json_set_str(r, "model", model->id);
	json_set_int(r, "skipped", 1);
	struct json *names = json_new_arr();
	json_push_str(names, "bad.png");
	json_set(r, "skipped_names", names);
	json_set_str(r, "engine", "darknet");
	json_set_str(r, "precision", "f32");
	json_set_int(r, "threads", 1);
	struct json *cage = json_new_obj();
	json_set_str(cage, "parts", "");
	json_set_str(cage, "missing", "");
	json_set(r, "cage", cage);
	json_set_bool(r, "changed", true);
	agent_worker_reply(a, q.id, r, NULL);
	json_free(r);
	json_free(q.args);
}

static void test_new_images(void **state)
{
	char id[HASH_SIZE];
	agent_free(a);
	a = NULL;
	conf.live.rounds = 1;
	conf.live.round_epochs = 1;
	conf.live.rescan_s = 10;
	conf.live.every_epochs = 0;
	restart();
	trained(1, id);
	/* Scores of one decision stand on the same images: first that, then a look. */
	assert_false(is_asked("rescan"));
	evaluated(id, SPLIT_VALIDATION, 5);
	assert_false(is_asked("train")); /* the round is over */
	now += 10000;
	agent_tick(a);
	struct asked q = take("rescan");
	agent_worker_reply(a, q.id, NULL,
			   failure(-EIO, ERR_DATA, "data: cannot read")); /* all stays as it was */
	assert_false(is_asked("train"));
	now += 10000;
	agent_tick(a);
	rescanned(40);
	assert_false(is_asked("train"));
	now += 10000;
	agent_tick(a);
	memset(snapshot[SPLIT_TRAIN], 'e', HASH_HEX);
	rescanned(50);
	trained(2, id);
	evaluated(id, SPLIT_VALIDATION, 6);
	now += 1000;
	agent_tick(a);
	assert_said(DEVICE "status", "\"skipped_images\":1");
	assert_said(DEVICE "status", "\"epoch\":2");
}

static void test_not_to_be_evaluated(void **state)
{
	/* A checkpoint that fails again and again is given up, and training goes on. */
	char first[HASH_SIZE], second[HASH_SIZE];
	trained(1, first);
	for (int i = 0; i < 5; i++) {
		struct asked q = take("evaluate");
		json_free(q.args);
		agent_worker_reply(a, q.id, NULL, failure(-EIO, ERR_FILE, "/data/Alice: not read"));
		assert_false(is_asked("evaluate")); /* not in haste */
		now += 1000;
		agent_tick(a);
		assert_said(DEVICE "status", "evaluation: a file cannot be read or written\"");
		now += 59000;
		agent_tick(a);
	}
	assert_false(is_asked("evaluate"));
	trained(2, second);
	evaluated(second, SPLIT_VALIDATION, 3);
	assert_active(second);
}

/* An evaluation that finds an image gone: the data are looked at, the checkpoint is not given up.
 */
static void test_images_gone(void **state)
{
	char id[HASH_SIZE];
	trained(1, id);
	for (int i = 0; i < 8; i++) {
		struct asked q = take("evaluate");
		json_free(q.args);
		agent_worker_reply(a, q.id, NULL, failure(-ESTALE, ERR_DATA, "a/1.png: gone"));
		assert_false(is_asked("evaluate"));
		snapshot[SPLIT_VALIDATION][0] = "0123456789"[i];
		rescanned(40);
		now += 60000;
		agent_tick(a);
	}
	evaluated(id, SPLIT_VALIDATION, 7);
	assert_active(id);
}

static void test_wrong_score(void **state)
{
	/* A score of other weights than were asked for counts for nothing. */
	char id[HASH_SIZE], path[FILE_PATH_MAX];
	trained(1, id);
	struct asked q = take("evaluate");
	struct json *r = json_new_obj();
	json_set_str(r, "checkpoint", snapshot[0]);
	json_set_str(r, "snapshot", snapshot[SPLIT_VALIDATION]);
	json_set_int(r, "n", 20);
	json_set_int(r, "correct", 20);
	json_set_num(r, "loss", 0);
	agent_worker_reply(a, q.id, r, NULL);
	json_free(r);
	json_free(q.args);
	file_path(path, sizeof(path), "%s/active", conf.state);
	assert_false(file_exists(path));
	now = wake;
	agent_tick(a);
	evaluated(id, SPLIT_VALIDATION, 1);
	assert_active(id);
}

static void test_no_images(void **state)
{
	struct worker_ready r = {.n = {40, 0, 0}, .classes = 5};
	char id[HASH_SIZE];
	memcpy(r.model, model->id, HASH_SIZE);
	memcpy(r.snapshot, snapshot, sizeof(snapshot));
	assert_int_equal(agent_worker_ready(a, &r, &err), 0);
	trained(1, id);
	assert_false(is_asked("evaluate"));
	now += 1000;
	agent_tick(a);
	assert_said(DEVICE "status", "no validation images");
	trained(2, id); /* training and offers go on */
	assert_said(DEVICE "offer", id);
	assert_null(strstr(last(DEVICE "offer")->payload, "validation"));
	forget_asked();
	r.n[SPLIT_TRAIN] = 0;
	agent_worker_died(a, failure(-ECONNRESET, ERR_WORKER, "gone"));
	assert_int_equal(agent_worker_ready(a, &r, &err), 0);
	now += 1000;
	agent_tick(a);
	assert_said(DEVICE "status", "no training images");
}

static void test_progress_is_told(void **state)
{
	struct worker_progress p = {.step = 3, .steps = 4, .loss = 1.25, .images_per_second = 77};
	now += 1000;
	agent_worker_progress(a, asked[0].id, &p);
	assert_said(DEVICE "status", "\"phase\":\"training\"");
	assert_said(DEVICE "status", "\"progress\":0.75");
	assert_said(DEVICE "status", "\"images_per_second\":77");
	size_t before = n_sent;
	p.step = 4;
	agent_worker_progress(a, asked[0].id, &p);
	assert_int_equal(n_sent, before); /* once a second at most, */
	now = wake;
	agent_tick(a);
	assert_said(DEVICE "status", "\"progress\":1"); /* but the last word is said */
}

/* One that was lost, at the broker or behind it, must not be missed for ever. */
static void test_status_is_repeated(void **state)
{
	now += 1000;
	agent_tick(a);
	const int64_t sent_ms = now;
	forget_sent();
	for (now = sent_ms + 1000; now < sent_ms + AGENT_STATUS_REPEAT_MS / 2; now += 10000)
		agent_tick(a); /* nothing has changed */
	assert_null(last(DEVICE "status"));
	while (wake > now && wake <= sent_ms + AGENT_STATUS_REPEAT_MS) {
		now = wake;
		agent_tick(a);
	}
	assert_said(DEVICE "status", "\"report_seq\":0");
	forget_sent();
	agent_link(a, false);
	now += 2 * AGENT_STATUS_REPEAT_MS;
	agent_tick(a);
	assert_null(last(DEVICE "status"));
}

static void test_topics_and_will(void **state)
{
	struct mqtt_conf m;
	char filter[MQTT_TOPIC_MAX];
	int qos;
	bool retained;
	agent_mqtt_conf(a, &m);
	assert_string_equal(m.client_id, "d/home/cam-1");
	assert_string_equal(m.will_topic, DEVICE "presence");
	assert_string_equal(m.will_payload, "{\"online\":false,\"boot\":1}");
	assert_true(m.will_retain);
	assert_false(m.clean_start);
	for (size_t i = 0; i < AGENT_FILTERS; i++) {
		int r = agent_filter(a, i, filter, &qos, &retained);
		if (i >=
		    AGENT_FILTERS - 2) { /* neither keys nor blocks for everyone are waited for */
			assert_int_equal(r, -ENOENT);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(qos, strstr(filter, "/block/") ? 0 : 1);
		bool offer = strcmp(filter, "tasuki/v1/home/fleet/offer") == 0;
		assert_int_equal(retained, offer);
		assert_true(strncmp(filter, DEVICE "in/", strlen(DEVICE "in/")) == 0 || offer ||
			    strcmp(filter, "tasuki/v1/home/fleet/cmd") == 0);
	}
	agent_stop(a);
	assert_said(DEVICE "presence", "\"online\":false");
}

/* ---- saving ---- */

static void test_full_disk(void **state)
{
	char offered[HASH_SIZE];
	until_offered(offered);
	/* Nothing can be stored, so no fence may be given out. */
	limit_files(0);
	claim(0, offered);
	limit_files(RLIM_INFINITY);
	assert_null(last(TRAINER "grant"));
	now += 1000;
	agent_tick(a);
	assert_said(DEVICE "status", "cannot save");
	now += 60000;
	claim(0, offered);
	assert_said(TRAINER "grant", "\"granted\":true,\"fence\":1");
	now += 1000;
	agent_tick(a);
	assert_said(DEVICE "status", "\"reason\":\"\"");
}

static bool is_kept(const char *id)
{
	char path[FILE_PATH_MAX];
	file_path(path, sizeof(path), "%s/checkpoints/%s/weights", conf.state, id);
	return file_exists(path);
}

/* Whatever is active meanwhile: the command on_swap was given its path. */
static void test_told_of_is_kept(void **state)
{
	char id[5][HASH_SIZE];
	conf.live.every_epochs = 0;
	again();
	for (int i = 0; i < 5; i++) {
		trained(i + 1, id[i]);
		evaluated(id[i], SPLIT_VALIDATION, 5 + i);
		if (i == 1)
			memcpy(told_of, id[1], HASH_SIZE);
	}
	assert_true(is_kept(id[1]));
	assert_false(is_kept(id[2]));
	*told_of = 0;
	agent_hook_ended(a, "");
	now = wake;
	agent_tick(a);
	assert_false(is_kept(id[1]));
	assert_true(is_kept(id[4]));
}

static void test_decision_on_full_disk(void **state)
{
	char first[HASH_SIZE], path[FILE_PATH_MAX];
	trained(1, first);
	limit_files(0);
	evaluated(first, SPLIT_VALIDATION, 9);
	limit_files(RLIM_INFINITY);
	file_path(path, sizeof(path), "%s/active", conf.state);
	assert_false(file_exists(path));
	assert_null(last(DEVICE "report"));
	now = wake;
	agent_tick(a);
	assert_active(first); /* the score was not lost */
	assert_said(DEVICE "report", "\"seq\":1");
	assert_said(DEVICE "report", "\"decision\":\"activated\"");
}

/* A crash after the state was saved and before what follows from it was done. */
static void test_saved_but_not_done(void **state)
{
	char first[HASH_SIZE], path[FILE_PATH_MAX];
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 9);
	assert_active(first);
	agent_free(a);
	a = NULL;
	/* Undo what was done after the save: it must be done again. */
	file_path(path, sizeof(path), "%s/active", conf.state);
	assert_int_equal(unlink(path), 0);
	file_path(path, sizeof(path), "%s/reports.jsonl", conf.state);
	assert_int_equal(truncate(path, 0), 0);
	restart();
	assert_active(first);
	assert_said(DEVICE "report", "\"seq\":1,");
	restart();
	assert_null(last(DEVICE "report")); /* once is enough */
}

static void test_one_agent_a_folder(void **state)
{
	struct agent *first = a;
	a = NULL;
	assert_int_equal(begin(), -EBUSY);
	char pid[32];
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	assert_non_null(strstr(err.text, pid));
	assert_null(a);
	a = first;
}

static void test_other_model(void **state)
{
	struct model *old = model;
	char id[HASH_SIZE];
	trained(1, id);
	agent_free(a);
	a = NULL;
	model = util_model(SMALL_CFG, 4);
	assert_int_equal(begin(), -EINVAL);
	assert_non_null(strstr(err.text, "model"));
	model_free(old);
}

/* ---- commands and reports ---- */

static void command(const char *topic, const char *text, bool retained)
{
	struct mqtt_message m = {.topic = topic,
				 .payload = text,
				 .len = strlen(text),
				 .retained = retained,
				 .response_topic = "tasuki/v1/home/reply/me/1",
				 .correlation = "abc",
				 .correlation_len = 3};
	agent_message(a, &m);
}
#define REPLY "tasuki/v1/home/reply/me/1"

static void test_commands(void **state)
{
	char first[HASH_SIZE], second[HASH_SIZE];
	until_offered(second);
	command(DEVICE "in/cmd", "{\"cmd\":\"rollback\",\"id\":\"a1\"}", false);
	assert_said(REPLY, "\"ok\":true");
	forget_sent();
	command(DEVICE "in/cmd", "{\"cmd\":\"rollback\",\"id\":\"a1\"}", false);
	assert_said(REPLY, "\"ok\":true"); /* the same answer; not back again */
	char path[FILE_PATH_MAX];
	file_path(path, sizeof(path), "%s/active.weights", conf.state);
	assert_int_equal(hash_file(path, first, NULL), 0);
	assert_string_not_equal(first, second);
	/* Pinned: nothing replaces it, also after a restart. */
	restart();
	char third[HASH_SIZE];
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 20);
	assert_active(first);
	command(DEVICE "in/cmd", "{\"cmd\":\"rollback\",\"id\":\"a1\"}", false);
	assert_active(first);
	command(DEVICE "in/cmd", "{\"cmd\":\"unpin\",\"id\":\"a2\"}", false);
	assert_active(third); /* by way of the second */
	command(DEVICE "in/cmd",
		"{\"cmd\":\"unpin\",\"id\":\"a3\",\"expires\":\"2020-01-01T00:00:00Z\"}", false);
	assert_said(REPLY, "expired");
	command(DEVICE "in/cmd", "{\"cmd\":\"fly\",\"id\":\"a4\"}", false);
	assert_said(REPLY, "fly");
	forget_sent();
	command(DEVICE "in/cmd", "{\"cmd\":\"pause\",\"id\":\"a5\"}", true); /* a leftover */
	assert_int_equal(n_sent, 0);
}

static void test_pause(void **state)
{
	command(DEVICE "in/cmd", "{\"cmd\":\"pause\",\"id\":\"p1\"}", false);
	assert_true(is_asked("pause"));
	restart();
	assert_true(is_asked("pause"));
	assert_false(is_asked("train"));
	now += 1000;
	agent_tick(a);
	assert_said(DEVICE "status", "\"phase\":\"paused\"");
	command(DEVICE "in/cmd", "{\"cmd\":\"resume\",\"id\":\"p2\"}", false);
	assert_true(is_asked("resume"));
	assert_true(is_asked("train"));
}

static void test_fleet_answers_later(void **state)
{
	command("tasuki/v1/home/fleet/cmd", "{\"cmd\":\"ping\",\"id\":\"f1\"}", false);
	assert_null(last(REPLY));
	now += 2000;
	agent_tick(a);
	assert_said(REPLY, "\"device\":\"cam-1\"");
}

static void test_evaluate_command(void **state)
{
	char id[HASH_SIZE];
	command(DEVICE "in/cmd", "{\"cmd\":\"evaluate\",\"id\":\"e0\"}", false);
	assert_said(REPLY, "no checkpoint is active");
	trained(1, id);
	evaluated(id, SPLIT_VALIDATION, 9);
	command(DEVICE "in/cmd", "{\"cmd\":\"evaluate\",\"id\":\"e1\",\"split\":\"train\"}", false);
	command(DEVICE "in/cmd", "{\"cmd\":\"evaluate\",\"id\":\"e1\",\"split\":\"train\"}", false);
	forget_sent();
	evaluated(id, SPLIT_TRAIN, 4);
	assert_said(REPLY, "\"correct\":4");
	assert_said(DEVICE "report", "\"split\":\"train\"");
	assert_false(is_asked("evaluate"));
	command(DEVICE "in/cmd", "{\"cmd\":\"evaluate\",\"id\":\"e2\"}", false);
	struct asked q = take("evaluate");
	json_free(q.args);
	agent_worker_reply(a, q.id, NULL, failure(-EIO, ERR_FILE, "/data/Alice: not read"));
	assert_said(REPLY, "\"error\":\"a file cannot be read or written\"");
}

static void test_set_is_taken_back(void **state)
{
	char first[HASH_SIZE], second[HASH_SIZE];
	command(DEVICE "in/cmd",
		"{\"cmd\":\"set\",\"id\":\"s1\",\"key\":\"every_epochs\",\"value\":\"1\"}", false);
	agent_link(a, false);
	agent_link(a, true);
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 9);
	assert_false(is_asked("evaluate")); /* not due: two epochs again */
	command(DEVICE "in/cmd",
		"{\"cmd\":\"set\",\"id\":\"s2\",\"key\":\"every_epochs\",\"value\":\"1\"}", false);
	evaluated(first, SPLIT_TEST, 1);
	assert_said(DEVICE "offer", first);
	trained(2, second);
}

static void test_reports_on_request(void **state)
{
	char id[HASH_SIZE];
	until_offered(id);
	forget_sent();
	struct msg_want w = {.trainer = "edge-1", .reports_from = 1, .reports_to = 99};
	say_text(DEVICE "in/want", msg_want_print(&w));
	assert_int_equal(n_sent, 3);
	assert_non_null(strstr(sent[0].payload, "\"seq\":1,"));
	assert_non_null(strstr(sent[2].payload, "\"seq\":3,"));
	/* Made offline, told when connected again. */
	agent_link(a, false);
	publish_result = -ENOTCONN;
	trained(3, id);
	evaluated(id, SPLIT_VALIDATION, 1);
	publish_result = 0;
	forget_sent();
	agent_link(a, true);
	assert_said(DEVICE "presence", "true");
	assert_null(last(DEVICE "report")); /* others have come back, too */
	now += AGENT_UP_SPREAD_MS;
	agent_tick(a);
	assert_said(DEVICE "status", "\"report_seq\":4,");
	assert_said(DEVICE "report", "\"seq\":4,");
}

static void test_hostile_messages(void **state)
{
	static const char *const topics[] = {
		DEVICE "in/claim", DEVICE "in/offer",     DEVICE "in/want",
		DEVICE "in/ack",   DEVICE "in/block/x/1", "tasuki/v1/home/device/cam-2/in/claim",
		"nonsense",
	};
	static const char *const texts[] = {
		"",         "{}",
		"[]",       "{\"trainer\":\"../x\"}",
		"\xff\xfe", "{\"trainer\":\"edge-1\",\"checkpoint\":7,\"fence\":0}"};
	char id[HASH_SIZE];
	until_offered(id);
	forget_sent();
	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		for (size_t k = 0; k < ARRAY_LEN(texts); k++)
			say(topics[i], texts[k], strlen(texts[k]));
	assert_int_equal(n_sent, 0);
	claim(0, id);
	assert_said(TRAINER "grant", "\"granted\":true");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_first_epochs),
		T(test_better_takes_over),
		T(test_other_validation_images),
		T(test_bad_epoch),
		T(test_diverged),
		T(test_worker_dies),
		T(test_new_images),
		T(test_not_to_be_evaluated),
		T(test_images_gone),
		T(test_wrong_score),
		T(test_no_images),
		T(test_progress_is_told),
		T(test_status_is_repeated),
		T(test_topics_and_will),
		T(test_full_disk),
		T(test_told_of_is_kept),
		T(test_decision_on_full_disk),
		T(test_saved_but_not_done),
		T(test_one_agent_a_folder),
		T(test_other_model),
		T(test_commands),
		T(test_pause),
		T(test_fleet_answers_later),
		T(test_evaluate_command),
		T(test_set_is_taken_back),
		T(test_reports_on_request),
		T(test_hostile_messages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

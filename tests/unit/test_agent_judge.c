/* What came back is judged: which candidates are made of it and when, what a crash, a failure, a
 * lack of time or other images in the middle do to it, which one becomes active, and what is
 * trained on after that. */
#include "agent_rig.h"
#include "failure.h"

static char offered[HASH_SIZE]; /* and active, with 12 of 20 */
static struct msg_result result;
static char result_path[FILE_PATH_MAX];

static int64_t int_of(const struct asked *q, const char *key)
{
	int64_t v = -1;
	json_get_int(q->args, key, 0, JSON_INT_MAX, &v, NULL);
	return v;
}

static double num_of(const struct asked *q, const char *key)
{
	double v = -1;
	json_get_num(q->args, key, 0, 1e9, &v, NULL);
	return v;
}

static void assert_path(const struct asked *q, const char *key, const char *id)
{
	char path[FILE_PATH_MAX] = "";
	json_get_str(q->args, key, path, sizeof(path), NULL);
	if (!strstr(path, id))
		fail_msg("%s: found %s, expected checkpoint %s", key, path, id);
}

/* The training that is asked for: for a candidate (by steps), or an epoch. */
static bool tuning_is_asked(void)
{
	for (size_t i = 0; i < n_asked; i++)
		if (strcmp(asked[i].op, "train") == 0)
			return json_has(asked[i].args, "steps");
	return false;
}

/* Answers a request for a candidate with weights made from `seed`. */
static void made(struct asked q, uint64_t seed, char id[HASH_SIZE])
{
	char out[FILE_PATH_MAX];
	assert_int_equal(json_get_str(q.args, "out", out, sizeof(out), NULL), 0);
	util_write_weights(model, out, seed, 40 * seed);
	assert_int_equal(hash_file(out, id, NULL), 0);
	struct json *r = json_new_obj();
	json_set_str(r, "checkpoint", id);
	json_set_num(r, "loss", 1);
	agent_worker_reply(a, q.id, r, NULL);
	json_free(r);
	json_free(q.args);
}

static void fails(struct asked q, int code)
{
	json_free(q.args);
	agent_worker_reply(a, q.id, NULL, failure(code, ERR_OTHER, "no luck"));
}

static void tick(int64_t ms)
{
	now += ms;
	agent_tick(a);
}

/* What came back gets its scores: 8 of 10, and so many of 20. */
static void result_scored(int64_t correct)
{
	evaluated(result.manifest.id, SPLIT_TEST, 8);
	evaluated(result.manifest.id, SPLIT_VALIDATION, correct);
}

static void bring_back(void)
{
	until_offered(offered);
	claim(0, offered);
	result = result_of(offered, 77, 1, result_path);
	bring_result(&result, result_path);
}

/* A result is there, and scored. Of four images more than what is active: see verdict. */
static void judged_beside(int64_t correct)
{
	bring_back();
	result_scored(correct);
}

static void all_candidates(void)
{
	conf.select = (struct select_conf){.blends = {50},
					   .n_blends = 1,
					   .previous = true,
					   .tune_steps = 60,
					   .tune_rate_percent = 20};
	again();
}

static bool is_kept(const char *id)
{
	char path[FILE_PATH_MAX];
	file_path(path, sizeof(path), "%s/checkpoints/%s", conf.state, id);
	return file_exists(path);
}

/* ---- in what order ---- */

static void test_candidates_in_order(void **state)
{
	char blend[HASH_SIZE], third[HASH_SIZE], tuned[HASH_SIZE];
	all_candidates();
	judged_beside(15);
	struct asked q = take("blend");
	assert_path(&q, "a", offered);
	assert_path(&q, "b", result.manifest.id);
	assert_true(num_of(&q, "alpha") == 0.5);
	bool settle = false;
	json_get_bool(q.args, "settle", &settle, NULL);
	assert_true(settle);
	tick(1000);
	assert_said(DEVICE "status", "\"phase\":\"evaluating\"");
	made(q, 50, blend);
	evaluated(blend, SPLIT_VALIDATION, 16);
	assert_said(DEVICE "report", "\"origin\":\"blend\"");
	assert_null(strstr(last(DEVICE "report")->payload, "decision"));
	/* What came back is better, and did not wait for the others. */
	assert_active(result.manifest.id);
	assert_null(last(TRAINER "ack"));
	/* It trains at the end of the epoch in hand, before the next one. */
	assert_false(tuning_is_asked());
	trained(3, third);
	q = take("train");
	assert_path(&q, "weights", result.manifest.id); /* not the blend, though that is better */
	assert_int_equal(int_of(&q, "steps"), 60);
	assert_true(num_of(&q, "learning_rate_scale") == 0.2);
	assert_int_equal(int_of(&q, "schedule_seen"), 3 * 40);
	assert_false(json_has(q.args, "momentum"));
	evaluated(third, SPLIT_VALIDATION, 11);
	assert_null(last(TRAINER "ack"));
	made(q, 60, tuned);
	assert_false(is_asked("train")); /* until it is decided */
	evaluated(tuned, SPLIT_VALIDATION, 18);
	assert_active(tuned);
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
	assert_said(TRAINER "ack", "\"validation\":{\"n\":20,\"correct\":15");
	assert_said(DEVICE "report", "\"origin\":\"tuned\"");
	assert_said(DEVICE "report", "\"decision\":\"activated\"");
	assert_said(DEVICE "report", "\"contenders\":4");
	assert_said(DEVICE "report", "\"epoch\":6"); /* the result's */
	tick(1000);
	assert_said(DEVICE "status", "\"origin\":\"tuned\"");
	/* The local lineage goes on from itself. */
	q = take("train");
	assert_path(&q, "weights", third);
	assert_true(json_has(q.args, "momentum"));
	assert_int_equal(int_of(&q, "schedule_seen"), 3 * 40);
	json_free(q.args);
	assert_false(is_kept(blend));
}

static void test_none_is_better(void **state)
{
	char blend[HASH_SIZE], third[HASH_SIZE], tuned[HASH_SIZE];
	all_candidates();
	judged_beside(11);
	made(take("blend"), 50, blend);
	evaluated(blend, SPLIT_VALIDATION, 12); /* a tie */
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 12);
	made(take("train"), 60, tuned);
	evaluated(tuned, SPLIT_VALIDATION, 12);
	assert_active(offered);
	assert_said(TRAINER "ack", "\"decision\":\"kept\"");
	assert_said(DEVICE "report", "\"origin\":\"edge\"");
	assert_said(DEVICE "report", "\"decision\":\"kept\"");
	assert_said(DEVICE "report", "\"why\":\"not-more\"");
	assert_said(DEVICE "report", "\"test\":{\"name\":\"best\",\"contenders\":4}");
	assert_false(is_kept(blend) || is_kept(tuned) || is_kept(result.manifest.id));
}

/* What came back is active before the others are there, and nothing made of it is better: the
 * handover was a success, also after a restart, and local training goes on from it. */
static void test_early_one_stands(void **state)
{
	char blend[HASH_SIZE];
	conf.select = (struct select_conf){.blends = {50}, .n_blends = 1, .lineage = LINEAGE_ADOPT};
	again();
	judged_beside(15);
	assert_active(result.manifest.id);
	assert_said(DEVICE "report", "\"decision\":\"activated\"");
	assert_null(last(TRAINER "ack"));
	restart();
	struct asked epoch = take("train"), q = take("blend");
	assert_path(&epoch, "weights", offered);
	assert_active(result.manifest.id);
	made(q, 50, blend);
	evaluated(blend, SPLIT_VALIDATION, 15); /* a tie */
	assert_active(result.manifest.id);
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
	q = take("stop");
	assert_int_equal(int_of(&q, "target"), (int64_t)epoch.id);
	json_free(q.args);
	json_free(epoch.args);
	agent_worker_reply(a, epoch.id, NULL, failure(-ECANCELED, ERR_OTHER, "stopped"));
	q = take("train");
	assert_path(&q, "weights", result.manifest.id);
	json_free(q.args);
}

/* The same, but it was kept at first: it is not decided on again before the others are there. */
static void test_early_one_is_kept(void **state)
{
	char blend[HASH_SIZE];
	conf.select = (struct select_conf){.blends = {50}, .n_blends = 1};
	again();
	judged_beside(12);
	assert_active(offered);
	assert_said(DEVICE "report", "\"decision\":\"kept\"");
	assert_null(last(TRAINER "ack"));
	made(take("blend"), 50, blend);
	evaluated(blend, SPLIT_VALIDATION, 14);
	assert_active(blend);
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
}

/* The device's own newest, which was kept, is the best of all on images that came since: it gets a
 * decision of its own. */
static void test_own_is_best(void **state)
{
	char first[HASH_SIZE];
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 12);
	trained(2, offered);
	evaluated(offered, SPLIT_VALIDATION, 9);
	evaluated(offered, SPLIT_TEST, 6);
	claim(0, offered);
	memset(snapshot[SPLIT_VALIDATION], 'd', HASH_HEX);
	data_read();
	evaluated(first, SPLIT_VALIDATION, 4);
	result = result_of(offered, 77, 1, result_path);
	bring_result(&result, result_path);
	evaluated(offered, SPLIT_VALIDATION, 10);
	evaluated(result.manifest.id, SPLIT_TEST, 8);
	assert_active(first);
	forget_sent();
	evaluated(result.manifest.id, SPLIT_VALIDATION, 8);
	assert_active(offered);
	assert_said(TRAINER "ack", "\"decision\":\"kept\"");
	assert_said(TRAINER "ack", "\"local_validation\":{\"n\":20,\"correct\":10");
	assert_said(DEVICE "report", "\"decision\":\"activated\"");
	size_t kept = 0;
	for (size_t i = 0; i < n_sent; i++)
		kept += strstr(sent[i].payload, "\"decision\":\"kept\"") &&
			strstr(sent[i].payload, "\"why\":\"outscored\"") &&
			strstr(sent[i].payload, "\"accuracy\":0.5}");
	assert_int_equal(kept, 1); /* what came back, against the device's own */
}

/* What was active before is better on images that came since: it gets a decision of its own. */
static void test_previous_is_best(void **state)
{
	char first[HASH_SIZE];
	conf.select.previous = true;
	again();
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 10);
	trained(2, offered);
	evaluated(offered, SPLIT_VALIDATION, 12);
	evaluated(offered, SPLIT_TEST, 6);
	claim(0, offered);
	memset(snapshot[SPLIT_VALIDATION], 'd', HASH_HEX);
	data_read();
	evaluated(offered, SPLIT_VALIDATION, 8);
	result = result_of(offered, 77, 1, result_path);
	bring_result(&result, result_path);
	result_scored(9);
	assert_active(result.manifest.id);
	forget_sent();
	evaluated(first, SPLIT_VALIDATION, 14);
	assert_active(first);
	assert_said(TRAINER "ack", "\"decision\":\"kept\"");
	assert_said(DEVICE "report", first);
	assert_said(DEVICE "report", "\"decision\":\"activated\"");
}

static void test_pinned(void **state)
{
	static const char pin[] = "{\"cmd\":\"rollback\",\"id\":\"p1\"}";
	char first[HASH_SIZE], path[FILE_PATH_MAX];
	all_candidates();
	bring_back();
	say(DEVICE "in/cmd", pin, strlen(pin));
	file_path(path, sizeof(path), "%s/active.weights", conf.state);
	assert_int_equal(hash_file(path, first, NULL), 0);
	result_scored(19);
	assert_false(is_asked("blend")); /* it could not become active */
	assert_active(first);
	assert_said(TRAINER "ack", "\"decision\":\"kept\"");
}

/* ---- what can come between ---- */

static void test_restart_in_the_middle(void **state)
{
	char blend[HASH_SIZE], tuned[HASH_SIZE], third[HASH_SIZE], lost[HASH_SIZE];
	all_candidates();
	bring_back();
	restart();
	evaluated(result.manifest.id, SPLIT_TEST, 8);
	restart();
	evaluated(result.manifest.id, SPLIT_VALIDATION, 15);
	assert_true(is_asked("blend"));
	restart();
	made(take("blend"), 50, blend);
	restart();
	assert_false(is_asked("blend")); /* it is there */
	evaluated(blend, SPLIT_VALIDATION, 16);
	restart();
	/* Nothing trains after a start: tuning comes first. */
	assert_true(tuning_is_asked());
	restart();
	made(take("train"), 60, lost);
	assert_true(is_kept(lost));
	/* Gone before it was scored, and made again. */
	agent_free(a);
	a = NULL;
	char gone[FILE_PATH_MAX];
	file_path(gone, sizeof(gone), "%s/checkpoints/%s", conf.state, lost);
	assert_int_equal(file_remove(gone, NULL), 0);
	restart();
	made(take("train"), 60, tuned);
	restart();
	evaluated(tuned, SPLIT_VALIDATION, 18);
	assert_active(tuned);
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
	assert_false(tuning_is_asked());
	trained(3, third);
	restart();
	assert_active(tuned);
	assert_false(is_kept(blend));
}

static void test_time_is_up(void **state)
{
	char blend[HASH_SIZE], third[HASH_SIZE];
	all_candidates();
	conf.select.budget_s = 10;
	again();
	judged_beside(15);
	made(take("blend"), 50, blend);
	evaluated(blend, SPLIT_VALIDATION, 16);
	assert_true(wake <= now + 10000);
	tick(9000);
	assert_null(last(TRAINER "ack"));
	tick(1000);
	assert_active(blend); /* the epoch in hand was too long to wait for */
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
	trained(3, third); /* and was not disturbed */
	evaluated(third, SPLIT_VALIDATION, 11);
	assert_false(tuning_is_asked());
}

static void test_time_is_up_in_tuning(void **state)
{
	char blend[HASH_SIZE], third[HASH_SIZE];
	all_candidates();
	conf.select.budget_s = 10;
	again();
	judged_beside(15);
	made(take("blend"), 50, blend);
	evaluated(blend, SPLIT_VALIDATION, 14);
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 11);
	struct asked q = take("train");
	tick(10000);
	assert_active(result.manifest.id);
	struct asked stop = take("stop");
	assert_int_equal(int_of(&stop, "target"), (int64_t)q.id);
	json_free(stop.args);
	tick(1000);
	assert_false(is_asked("stop")); /* once */
	assert_false(is_asked("train"));
	fails(q, -ECANCELED);
	q = take("train");
	assert_path(&q, "weights", third);
	assert_true(json_has(q.args, "epochs"));
	json_free(q.args);
	/* What was decided on is what came back. */
	assert_said(DEVICE "report", result.manifest.id);
}

/* Training stands still: the trainer is not kept waiting for it. */
static void test_paused(void **state)
{
	static const char pause[] = "{\"cmd\":\"pause\",\"id\":\"p1\"}";
	for (int in_hand = 0; in_hand < 2; in_hand++) {
		char third[HASH_SIZE];
		if (in_hand) {
			teardown(state);
			setup(state);
		}
		all_candidates();
		conf.select.n_blends = 0;
		again();
		judged_beside(15);
		if (in_hand) {
			trained(3, third);
			evaluated(third, SPLIT_VALIDATION, 11);
			assert_true(tuning_is_asked());
		}
		assert_null(last(TRAINER "ack"));
		say(DEVICE "in/cmd", pause, strlen(pause));
		assert_active(result.manifest.id);
		assert_said(TRAINER "ack", "\"decision\":\"activated\"");
		assert_int_equal(is_asked("stop"), in_hand);
	}
}

static void test_blend_fails(void **state)
{
	char third[HASH_SIZE], tuned[HASH_SIZE];
	all_candidates();
	judged_beside(15);
	fails(take("blend"), -EIO);
	assert_false(is_asked("blend")); /* not again */
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 11);
	struct asked q = take("train");
	assert_path(&q, "weights", result.manifest.id);
	made(q, 60, tuned);
	evaluated(tuned, SPLIT_VALIDATION, 18);
	assert_active(tuned);
}

static void test_tuning_fails(void **state)
{
	char third[HASH_SIZE];
	all_candidates();
	conf.select.n_blends = 0;
	again();
	judged_beside(15);
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 11);
	fails(take("train"), -EDOM);
	assert_active(result.manifest.id);
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
	assert_true(is_asked("train")); /* and the lineage goes on, at once */
	assert_false(tuning_is_asked());
}

static void test_bad_blend(void **state)
{
	/* A worker that says it is done and has written rubbish. */
	char out[FILE_PATH_MAX];
	all_candidates();
	conf.select.tune_steps = 0;
	again();
	judged_beside(15);
	struct asked q = take("blend");
	assert_int_equal(json_get_str(q.args, "out", out, sizeof(out), NULL), 0);
	util_write(out, "rubbish", 7);
	struct json *r = json_new_obj();
	agent_worker_reply(a, q.id, r, NULL);
	json_free(r);
	json_free(q.args);
	assert_false(file_exists(out));
	assert_active(result.manifest.id);
}

/* A worker that dies in the middle says little about the candidate: three times. */
static void test_worker_dies(void **state)
{
	all_candidates();
	conf.select.tune_steps = 0;
	again();
	judged_beside(15);
	for (int i = 0; i < 3; i++) {
		assert_null(last(TRAINER "ack"));
		struct asked q = take("blend");
		forget_asked(); /* the epoch dies, too */
		fails(q, -ECONNRESET);
		agent_worker_died(a, failure(-ECONNRESET, ERR_WORKER, "killed"));
		data_read();
		tick(60000);
	}
	assert_false(is_asked("blend"));
	assert_active(result.manifest.id);
}

static void test_damaged_candidate(void **state)
{
	char blend[HASH_SIZE], path[FILE_PATH_MAX];
	all_candidates();
	conf.select.tune_steps = 0;
	again();
	judged_beside(15);
	made(take("blend"), 50, blend);
	file_path(path, sizeof(path), "%s/checkpoints/%s/weights", conf.state, blend);
	assert_int_equal(truncate(path, 100), 0);
	fails(take("evaluate"), -EBADMSG);
	tick(60000);
	assert_false(is_asked("blend"));
	assert_active(result.manifest.id);
	file_path(path, sizeof(path), "%s/damaged/%s", conf.state, blend);
	assert_true(file_exists(path));
}

/* Cannot be evaluated, for whatever reason: five times, then it is left out. */
static void test_candidate_cannot_be_scored(void **state)
{
	char blend[HASH_SIZE];
	all_candidates();
	conf.select.tune_steps = 0;
	again();
	judged_beside(15);
	made(take("blend"), 50, blend);
	for (int i = 0; i < 5; i++) {
		assert_null(last(TRAINER "ack"));
		fails(take("evaluate"), -EIO);
		tick(60000);
	}
	assert_active(result.manifest.id);
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
}

/* The local one rots meanwhile: judged beside what is good. */
static void test_local_is_damaged(void **state)
{
	char first[HASH_SIZE], path[FILE_PATH_MAX];
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 10);
	trained(2, offered);
	evaluated(offered, SPLIT_VALIDATION, 9);
	evaluated(offered, SPLIT_TEST, 6);
	claim(0, offered);
	result = result_of(offered, 77, 1, result_path);
	bring_result(&result, result_path);
	struct asked q = take("evaluate");
	file_path(path, sizeof(path), "%s/checkpoints/%s/weights", conf.state, offered);
	assert_int_equal(truncate(path, 100), 0);
	json_free(q.args);
	fails(take("train"), -EBADMSG); /* that finds it */
	agent_worker_reply(a, q.id, NULL, failure(-ECONNRESET, ERR_WORKER, "killed"));
	data_read();
	evaluated(first, SPLIT_TEST, 7);
	result_scored(11);
	assert_active(result.manifest.id);
	assert_said(TRAINER "ack", "\"local_validation\":{\"n\":20,\"correct\":10");
}

/* Other images in the middle: all scores are taken anew, what was made is not made anew. */
static void test_images_change(void **state)
{
	char blend[HASH_SIZE];
	all_candidates();
	conf.select.tune_steps = 0;
	again();
	judged_beside(19);
	made(take("blend"), 50, blend);
	struct asked q = take("evaluate");
	json_free(q.args);
	agent_worker_reply(a, q.id, NULL, failure(-ESTALE, ERR_DATA, "a/1.png: gone"));
	forget_asked();
	memset(snapshot[SPLIT_VALIDATION], 'd', HASH_HEX);
	agent_worker_died(a, failure(-ECONNRESET, ERR_WORKER, "killed"));
	data_read();
	tick(60000);
	evaluated(result.manifest.id, SPLIT_VALIDATION, 9); /* for its 19, it is active */
	evaluated(offered, SPLIT_VALIDATION, 10);
	assert_null(last(TRAINER "ack"));
	evaluated(blend, SPLIT_VALIDATION, 8);
	char first[HASH_SIZE];
	struct asked f = take("evaluate"); /* the previous one */
	assert_int_equal(json_get_str(f.args, "weights", result_path, sizeof(result_path), NULL),
			 0);
	snprintf(first, sizeof(first), "%.64s", strstr(result_path, "checkpoints/") + 12);
	asked[n_asked++] = f;
	evaluated(first, SPLIT_VALIDATION, 7);
	assert_active(offered); /* the 19 of other images count for nothing */
	assert_said(TRAINER "ack", "\"validation\":{\"n\":20,\"correct\":9");
}

/* ---- what is trained on ---- */

static void test_adopt(void **state)
{
	char lost[HASH_SIZE], third[HASH_SIZE];
	conf.select.lineage = LINEAGE_ADOPT;
	again();
	bring_back();
	evaluated(result.manifest.id, SPLIT_TEST, 8);
	struct asked q = take("train"); /* the epoch in hand */
	evaluated(result.manifest.id, SPLIT_VALIDATION, 15);
	assert_active(result.manifest.id);
	struct asked stop = take("stop");
	assert_int_equal(int_of(&stop, "target"), (int64_t)q.id);
	json_free(stop.args);
	assert_false(is_asked("train"));
	/* It had just ended: of a lineage that is left, nothing is made. */
	asked[n_asked++] = q;
	trained(9, lost);
	assert_false(is_asked("evaluate"));
	assert_false(is_kept(lost));
	q = take("train");
	assert_path(&q, "weights", result.manifest.id);
	assert_int_equal(int_of(&q, "epoch"), 2);
	assert_int_equal(int_of(&q, "schedule_seen"), 2 * 40); /* its own schedule goes on */
	asked[n_asked++] = q;
	forget_sent();
	tick(1000);
	assert_null(last(DEVICE "offer")); /* nothing new in it yet */
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 16);
	assert_active(third);
	char path[FILE_PATH_MAX], *text;
	size_t len;
	file_path(path, sizeof(path), "%s/active.json", conf.state);
	assert_int_equal(file_read(path, 65536, &text, &len, NULL), 0);
	assert_non_null(strstr(text, result.manifest.id)); /* its parent */
	free(text);
	/* Many rounds: it is handed over in its turn, and comes back. */
	char fourth[HASH_SIZE];
	trained(4, fourth);
	evaluated(fourth, SPLIT_VALIDATION, 16);
	evaluated(fourth, SPLIT_TEST, 8);
	assert_said(DEVICE "offer", fourth);
	claim(0, fourth);
	result = result_of(fourth, 78, 2, result_path);
	bring_result(&result, result_path);
	result_scored(18);
	assert_active(result.manifest.id);
	restart();
	q = take("train");
	assert_path(&q, "weights", result.manifest.id);
	json_free(q.args);
}

static void test_adopt_what_was_tuned(void **state)
{
	char third[HASH_SIZE], tuned[HASH_SIZE];
	all_candidates();
	conf.select.lineage = LINEAGE_ADOPT;
	conf.select.n_blends = 0;
	again();
	judged_beside(15);
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 11);
	made(take("train"), 60, tuned);
	evaluated(tuned, SPLIT_VALIDATION, 18);
	assert_false(is_asked("stop"));
	struct asked q = take("train");
	assert_path(&q, "weights", tuned);
	assert_int_equal(int_of(&q, "epoch"), 3);
	json_free(q.args);
	assert_false(is_kept(third));
}

/* What is tuned also sees the images that are never shared; it is used, and never offered: the
 * lineage goes on from what it was tuned from. */
static void test_adopt_what_has_to_stay(void **state)
{
	char third[HASH_SIZE], tuned[HASH_SIZE], text[FILE_PATH_MAX], *manifest;
	size_t len;
	bool stay = false;
	all_candidates();
	conf.select.lineage = LINEAGE_ADOPT;
	conf.select.n_blends = 0;
	n_stay = 7;
	again();
	judged_beside(15);
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 11);
	struct asked q = take("train");
	json_get_bool(q.args, "stay", &stay, NULL);
	assert_true(stay);
	made(q, 60, tuned);
	evaluated(tuned, SPLIT_VALIDATION, 18);
	assert_active(tuned);
	file_path(text, sizeof(text), "%s/active.json", conf.state);
	assert_int_equal(file_read(text, 65536, &manifest, &len, NULL), 0);
	assert_non_null(strstr(manifest, "\"stays\""));
	free(manifest);
	q = take("train");
	assert_path(&q, "weights", result.manifest.id);
	assert_false(json_has(q.args, "stay"));
	json_free(q.args);
}

static void test_adopt_only_what_was_chosen(void **state)
{
	char third[HASH_SIZE];
	conf.select.lineage = LINEAGE_ADOPT;
	again();
	judged_beside(12);
	assert_said(TRAINER "ack", "\"decision\":\"kept\"");
	assert_false(is_asked("stop"));
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 13);
	assert_active(third);
}

/* What a trainer says of where private rows are is not kept. */
static void test_source_from_outside(void **state)
{
	char path[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	result = result_of(offered, 77, 1, result_path);
	memcpy(result.manifest.source, offered, HASH_SIZE);
	bring_result(&result, result_path);
	result_scored(15);
	assert_active(result.manifest.id);
	file_path(path, sizeof(path), "%s/active.json", conf.state);
	_cleanup_free_ char *text = NULL;
	size_t len;
	assert_int_equal(file_read(path, 65536, &text, &len, NULL), 0);
	assert_non_null(strstr(text, result.manifest.id));
	assert_null(strstr(text, "\"source\""));
}

/* The manifest of what is trained from is damaged meanwhile: what came of it is not kept, and
 * training goes on from something good, not again and again from the same. */
static void test_damaged_parent(void **state)
{
	char first[HASH_SIZE], second[HASH_SIZE], third[HASH_SIZE], path[FILE_PATH_MAX];
	conf.live.every_epochs = 0;
	again();
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 12);
	trained(2, second);
	evaluated(second, SPLIT_VALIDATION, 10);
	file_path(path, sizeof(path), "%s/checkpoints/%s/manifest.json", conf.state, second);
	assert_int_equal(file_write(path, "{}", 2, NULL), 0);
	trained(3, third);
	tick(120000);
	assert_false(is_kept(third));
	struct asked q = take("train");
	assert_path(&q, "weights", first);
	json_free(q.args);
}

/* Weights that say they have seen so many images that none could be trained on after them. */
static void test_adopt_not_a_forged_count(void **state)
{
	char third[HASH_SIZE];
	conf.select.lineage = LINEAGE_ADOPT;
	again();
	until_offered(offered);
	claim(0, offered);
	result = result_of(offered, 77, 1, result_path);
	util_write_weights(model, result_path, 77, WEIGHTS_SEEN_MAX);
	assert_int_equal(hash_file(result_path, result.manifest.id, NULL), 0);
	bring_result(&result, result_path);
	result_scored(15);
	assert_active(result.manifest.id); /* it is good to use, */
	assert_false(is_asked("stop"));    /* but not to train on */
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 16);
	assert_active(third);
}

/* ---- with confidence ---- */

/* Each little improvement is no more than chance may give, but they are not lost: each new
 * checkpoint is compared with the active one. */
static void test_gains_add_up(void **state)
{
	char first[HASH_SIZE], next[HASH_SIZE];
	with_confidence();
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 10);
	assert_active(first);
	assert_said(DEVICE "report", "\"why\":\"first\"");
	for (int i = 1; i < 4; i++) {
		trained((uint64_t)i + 1, next);
		evaluated(next, SPLIT_VALIDATION, 10 + i);
		assert_active(first);
		assert_said(DEVICE "report", "\"why\":\"unsure\"");
	}
	assert_said(DEVICE "report", "\"test\":{\"name\":\"mcnemar-mid-p\",\"contenders\":1,"
				     "\"won\":3,\"lost\":0,\"p\":0.0625");
	assert_said(DEVICE "report", "\"n\":20,");
	trained(6, next);
	evaluated(next, SPLIT_VALIDATION, 14); /* one more than before, four more than the active */
	assert_active(next);
	assert_said(DEVICE "report", "\"why\":\"takes-over\"");
	assert_said(DEVICE "report", "\"decision\":\"activated\"");
}

/* Outcomes are not on disk: what a decision needs is evaluated again, and not reported again. */
static void test_outcomes_after_restart(void **state)
{
	char first[HASH_SIZE], second[HASH_SIZE];
	with_confidence();
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 10);
	restart();
	assert_false(is_asked("evaluate")); /* nothing is to be decided */
	trained(2, second);
	forget_sent();
	evaluated(first, SPLIT_VALIDATION, 10);
	assert_null(last(DEVICE "report"));
	evaluated(second, SPLIT_VALIDATION, 15);
	assert_active(second);
	assert_said(DEVICE "report", "\"seq\":2,");
}

/* The more candidates, the more one of them must show. */
static void test_judged_with_confidence(void **state)
{
	char blend[HASH_SIZE], first[HASH_SIZE];
	conf.select.blends[0] = 50;
	conf.select.n_blends = 1;
	with_confidence();
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 12);
	static const char text[] = "{\"cmd\":\"handover\",\"id\":\"h1\"}";
	say(DEVICE "in/cmd", text, strlen(text));
	evaluated(first, SPLIT_TEST, 6);
	claim(0, first);
	result = result_of(first, 77, 1, result_path);
	bring_result(&result, result_path);
	result_scored(15);
	made(take("blend"), 50, blend);
	restart();
	evaluated(first, SPLIT_VALIDATION, 12);
	evaluated(result.manifest.id, SPLIT_VALIDATION, 15);
	evaluated(blend, SPLIT_VALIDATION, 16); /* alone, four would do */
	assert_active(first);
	assert_said(TRAINER "ack", "\"decision\":\"kept\"");
	assert_said(DEVICE "report", "\"why\":\"unsure\"");
	assert_said(DEVICE "report", "\"contenders\":2");
	assert_said(DEVICE "report", "\"won\":3,\"lost\":0");
}

/* An answer whose images do not agree with its counts is none. */
static void test_bad_outcomes(void **state)
{
	char first[HASH_SIZE];
	static const char *const bad[] = {NULL, "", "8000", "80000000", "xyz"};
	with_confidence();
	trained(1, first);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct asked q = take("evaluate");
		struct json *r = json_new_obj();
		json_set_str(r, "checkpoint", first);
		json_set_str(r, "snapshot", snapshot[SPLIT_VALIDATION]);
		json_set_int(r, "n", 2);
		json_set_int(r, "correct", 2);
		json_set_num(r, "loss", 0);
		if (bad[i])
			json_set_str(r, "outcomes", bad[i]);
		agent_worker_reply(a, q.id, r, NULL);
		json_free(r);
		json_free(q.args);
		tick(60000);
	}
	assert_null(last(DEVICE "report"));
}

static void test_protected_class(void **state)
{
	char first[HASH_SIZE], next[HASH_SIZE];
	conf.select.protect[0] = 4;
	conf.select.n_protect = 1;
	conf.select.protect_points = 10;
	with_confidence();
	trained(1, first);
	evaluated_two(first, 0, 8);
	trained(2, next);
	evaluated_two(next, 10, 6); /* whatever the gain */
	assert_active(first);
	assert_said(DEVICE "report", "\"why\":\"floor\"");
	trained(3, next);
	evaluated_two(next, 10, 7);
	assert_active(next);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_candidates_in_order),
		T(test_none_is_better),
		T(test_early_one_stands),
		T(test_early_one_is_kept),
		T(test_own_is_best),
		T(test_previous_is_best),
		T(test_pinned),
		T(test_restart_in_the_middle),
		T(test_time_is_up),
		T(test_time_is_up_in_tuning),
		T(test_paused),
		T(test_blend_fails),
		T(test_tuning_fails),
		T(test_bad_blend),
		T(test_worker_dies),
		T(test_damaged_candidate),
		T(test_candidate_cannot_be_scored),
		T(test_local_is_damaged),
		T(test_images_change),
		T(test_adopt),
		T(test_adopt_what_was_tuned),
		T(test_adopt_what_has_to_stay),
		T(test_adopt_only_what_was_chosen),
		T(test_adopt_not_a_forged_count),
		T(test_source_from_outside),
		T(test_damaged_parent),
		T(test_gains_add_up),
		T(test_outcomes_after_restart),
		T(test_judged_with_confidence),
		T(test_bad_outcomes),
		T(test_protected_class),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

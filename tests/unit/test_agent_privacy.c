/* Noise on what is handed over, and its account: the worker that adds it is the test, with the real
 * mechanism. */
#include "agent_rig.h"

#include <math.h>
#include <sys/mman.h>

#include "common/checkpoint/weights.h"
#include "common/encoding/encoding.h"
#include "common/privacy/accountant.h"

#define CLIP  3.5
#define NOISE 0.5
#define DELTA 1e-6

static char whole[HASH_SIZE], first[HASH_SIZE], noised_id[HASH_SIZE];

static double epsilon_of(int handovers)
{
	return accountant_epsilon(handovers * accountant_handover(NOISE), DELTA);
}

/* So many handovers, and a little. */
static int setup_for(void **state, int handovers)
{
	if (setup(state) < 0)
		return -1;
	conf.privacy = (struct privacy_conf){NOISE, CLIP, DELTA, epsilon_of(handovers) + 0.01};
	again();
	return 0;
}

static int setup_one(void **state)
{
	return setup_for(state, 1);
}

static int setup_many(void **state)
{
	return setup_for(state, 9);
}

/* Answers the request for noise: that it is on `of`, from `base`. */
static void noise_added(const char *of, const char *base, char id[HASH_SIZE])
{
	struct asked q = take("noise");
	struct weights_noise c = {.first_row = model->outputs};
	char weights[FILE_PATH_MAX], from[FILE_PATH_MAX], out[FILE_PATH_MAX];
	double norm;
	path_of(&q, "weights", weights);
	path_of(&q, "base", from);
	path_of(&q, "out", out);
	assert_non_null(strstr(weights, of));
	assert_non_null(strstr(from, base));
	assert_int_equal(json_get_num(q.args, "clip", 0, 1e9, &c.clip, &err), 0);
	assert_int_equal(json_get_num(q.args, "noise", 0, 1e9, &c.noise, &err), 0);
	assert_true(c.clip == CLIP && c.noise == NOISE);
	assert_false(json_has(q.args, "first_row"));
	if (weights_noise(model, weights, from, &c, out, &norm, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(hash_file(out, id, &err), 0);
	struct json *r = json_new_obj();
	json_set_num(r, "norm", norm);
	request_done(&q, r);
}

/* Until a checkpoint with noise is on offer. */
static void until_noised(void)
{
	two_epochs(whole);
	first_made(first);
	noise_added(whole, first, noised_id);
	assert_string_equal(last_offer().manifest.id, noised_id);
}

/* One handover from the claim to the decision; `seed` makes the result, whose id is put into ret.
 */
static void handed_over(int64_t fence, uint64_t seed, char ret[HASH_SIZE])
{
	char path[FILE_PATH_MAX];
	claim(0, last_offer().manifest.id);
	struct msg_result r = result_of(noised_id, seed, fence, path);
	bring_result(&r, path);
	evaluated(r.manifest.id, SPLIT_TEST, 8);
	evaluated(r.manifest.id, SPLIT_VALIDATION, (int64_t)(11 + fence));
	memcpy(ret, r.manifest.id, HASH_SIZE);
}

static void next_epochs(uint64_t seed, char newest[HASH_SIZE])
{
	char before[HASH_SIZE];
	trained(seed, before);
	evaluated(before, SPLIT_VALIDATION, 5);
	trained(seed + 1, newest);
	evaluated(newest, SPLIT_VALIDATION, 6);
	evaluated(newest, SPLIT_TEST, 6);
}

static struct msg_privacy reported(void)
{
	struct msg_report m = {0};
	const struct sent *s = last(DEVICE "report");
	if (!s)
		fail_msg("nothing is reported");
	if (msg_report_parse(s->payload, s->len, &m, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(m.has_privacy);
	assert_true(m.privacy.delta == DELTA);
	msg_report_done(&m);
	return m.privacy;
}

/* Wherever in what was sent so far: the bytes of whole weights, 64 at a time. */
static void nothing_of(const char *id)
{
	char path[FILE_PATH_MAX], *data;
	size_t len;
	file_path(path, sizeof(path), "%s/checkpoints/%s/weights", conf.state, id);
	assert_int_equal(file_read(path, 1 << 20, &data, &len, &err), 0);
	for (size_t i = 0; i < n_sent; i++)
		for (size_t at = WEIGHTS_HEADER_SIZE; at + 64 <= len; at += 4)
			if (memmem(sent[i].payload, sent[i].len, data + at, 64))
				fail_msg("%s has bytes %zu.. of %s", sent[i].topic, at, id);
	free(data);
}

/* What is offered and served is the noised one, to the byte; nothing else is, also when asked for.
 */
static void test_only_noised_leaves(void **state)
{
	char path[FILE_PATH_MAX], id[HASH_SIZE];
	two_epochs(whole);
	assert_null(last(DEVICE "offer"));
	first_made(first);
	assert_null(last(DEVICE "offer"));
	a_second_later();
	assert_said(DEVICE "status", "\"reason\":\"noise is added to what is handed over\"");
	noise_added(whole, first, noised_id);
	struct msg_offer o = last_offer();
	assert_string_equal(o.manifest.id, noised_id);
	assert_string_equal(o.manifest.source, whole);
	assert_string_equal(o.manifest.parents[0], whole);
	assert_null(strstr(last(DEVICE "offer")->payload, "noise"));
	claim(0, noised_id);
	fetched(&o.manifest, path);
	assert_int_equal(hash_file(path, id, NULL), 0);
	assert_string_equal(id, noised_id);
	struct msg_want w = {.trainer = "edge-1", .n_blocks = 1};
	memcpy(w.checkpoint, whole, HASH_SIZE);
	say_text(DEVICE "in/want", msg_want_print(&w));
	nothing_of(whole);
	assert_true(weights_check(model, path, NULL, NULL, &err) == 0);
}

/* In a form: of the noised one. A trainer that lacks the base gets another form of the same, at no
 * further cost. */
static void test_forms(void **state)
{
	char weights[FILE_PATH_MAX], out[FILE_PATH_MAX], decoded[FILE_PATH_MAX], id[2][HASH_SIZE];
	conf.encoding = ENCODING_AUTO;
	again();
	two_epochs(whole);
	first_made(first);
	noise_added(whole, first, noised_id);
	for (int i = 0; i < 2; i++) {
		struct asked q = take("encode");
		const struct encoding_conf c = {i ? ENCODING_INT8 : ENCODING_DELTA, 0.5};
		char base[FILE_PATH_MAX];
		file_path(base, sizeof(base), "%s/checkpoints/%s/weights", conf.state, first);
		path_of(&q, "weights", weights);
		path_of(&q, "out", out);
		path_of(&q, "decoded", decoded);
		assert_non_null(strstr(weights, noised_id));
		if (encoding_encode(model, &c, weights, i ? NULL : base, out, decoded, id[i],
				    &err) < 0)
			fail_msg("%s", err.text);
		struct json *r = json_new_obj();
		json_set_str(r, "encoding", encoding_name(c.encoding));
		if (!i)
			json_set_int(r, "base", 0);
		request_done(&q, r);
		evaluated(id[i], SPLIT_TEST, 5);
		now += 3000;
		agent_tick(a);
		struct msg_offer o = last_offer();
		assert_string_equal(o.manifest.id, id[i]);
		assert_string_equal(o.manifest.source, whole);
		claim(0, id[i]);
		fetched(&o.manifest, out);
		nothing_of(whole);
		struct msg_claim busy = {.trainer = "edge-1", .busy = true, .retry_ms = 1000};
		busy.fence = i + 1;
		memcpy(busy.checkpoint, id[i], HASH_SIZE);
		say_text(DEVICE "in/claim", msg_claim_print(&busy)); /* it gives it back */
		busy.fence = 0;
		memcpy(busy.lacks, first, HASH_SIZE);
		if (!i)
			say_text(DEVICE "in/claim", msg_claim_print(&busy));
		now += 3000;
		agent_tick(a);
	}
	assert_false(is_asked("noise"));
	char third[HASH_SIZE];
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 13);
	assert_int_equal(reported().handovers, 1);
}

/* Once, with the fence, whatever comes after it; before the grant it costs nothing. */
static void test_counted_once(void **state)
{
	char third[HASH_SIZE];
	until_noised();
	assert_int_equal(reported().handovers, 0);
	assert_true(reported().epsilon == 0);
	restart();
	assert_false(is_asked("noise"));
	now += 60000;
	agent_tick(a);
	assert_string_equal(last_offer().manifest.id, noised_id);
	claim(0, noised_id);
	assert_said(TRAINER "grant", "\"granted\":true");
	claim(0, noised_id); /* said twice */
	restart();           /* killed between the grant and the first block */
	now += 61000;        /* the lease runs out */
	agent_tick(a);
	now += 61000;
	agent_tick(a);
	claim(0, noised_id);
	assert_said(TRAINER "grant", "\"fence\":2");
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 13);
	assert_int_equal(reported().handovers, 1);
	assert_true(fabs(reported().epsilon - epsilon_of(1)) < 1e-9);
	assert_true(reported().budget == conf.privacy.budget);
}

/* The next one is from the result, and is counted, too; with it the account is used up. */
/* How often standard error has `text`, from now on: to be begun, then ended. */
static int log_fd, kept_stderr;

static void log_begin(void)
{
	kept_stderr = dup(STDERR_FILENO);
	log_fd = memfd_create("log", 0);
	dup2(log_fd, STDERR_FILENO);
}

static int log_end(const char *text)
{
	static char got[1 << 16];
	int found = 0;
	dup2(kept_stderr, STDERR_FILENO);
	close(kept_stderr);
	ssize_t n = pread(log_fd, got, sizeof(got) - 1, 0);
	close(log_fd);
	assert_true(n >= 0);
	got[n] = 0;
	for (const char *at = got; (at = strstr(at, text)); at++)
		found++;
	return found;
}

static void test_base_and_budget(void **state)
{
	char result[2][HASH_SIZE], newest[HASH_SIZE];
	conf.privacy.budget = epsilon_of(2);
	again();
	until_noised();
	handed_over(1, 77, result[0]);
	next_epochs(3, newest);
	noise_added(newest, result[0], noised_id);
	assert_string_equal(last_offer().manifest.id, noised_id);
	handed_over(2, 78, result[1]);
	forget_sent();
	log_begin();
	next_epochs(5, newest);
	next_epochs(7, newest);
	assert_int_equal(log_end("not offered: privacy budget"), 1);
	assert_false(is_asked("noise"));
	assert_null(last(DEVICE "offer"));
	assert_int_equal(reported().handovers, 2);
	assert_true(fabs(reported().epsilon - epsilon_of(2)) < 1e-9);
	a_second_later();
	assert_said(DEVICE "status",
		    "\"reason\":\"the privacy budget is spent: nothing is handed over\"");
	say_text(DEVICE "in/cmd", strdup("{\"cmd\":\"handover\",\"id\":\"a1\"}"));
	assert_said("tasuki/v1/home/reply/cam-1", "privacy budget");
	assert_true(is_asked("train")); /* all else goes on */
	restart();
	next_epochs(9, newest);
	assert_false(is_asked("noise"));
	assert_null(last(DEVICE "offer"));
	/* A person allows more. */
	conf.privacy.budget = epsilon_of(3);
	again();
	next_epochs(11, newest);
	noise_added(newest, result[1], noised_id);
	assert_string_equal(last_offer().manifest.id, noised_id);
}

/* Not enough for the one that is on offer since a restart; nor for a single one. */
static void test_budget_is_lowered(void **state)
{
	char newest[HASH_SIZE];
	until_noised();
	conf.privacy.budget = epsilon_of(1) - 0.01;
	again();
	assert_null(last(DEVICE "offer"));
	claim(0, noised_id);
	assert_said(TRAINER "grant", "\"granted\":false");
	next_epochs(3, newest);
	assert_null(last(DEVICE "offer"));
	assert_int_equal(reported().handovers, 0);
}

/* What was on offer, or out, without noise when it is turned on. */
static void test_turned_on(void **state)
{
	char id[HASH_SIZE];
	conf.privacy.noise = 0;
	again();
	until_offered(id);
	claim(0, id);
	assert_said(TRAINER "grant", "\"granted\":true");
	conf.privacy.noise = NOISE;
	again();
	forget_sent();
	struct msg_want w = {.trainer = "edge-1", .n_blocks = 1};
	memcpy(w.checkpoint, id, HASH_SIZE);
	say_text(DEVICE "in/want", msg_want_print(&w));
	for (size_t i = 0; i < n_sent; i++)
		assert_null(strstr(sent[i].topic, "/block/"));
	first_made(first);
	noise_added(id, first, noised_id);
	assert_string_equal(last_offer().manifest.id, noised_id);
}

/* Without noise nothing is handed over, however often it fails. */
static void test_failures(void **state)
{
	two_epochs(whole);
	request_fails("first", -EIO);
	assert_null(last(DEVICE "offer"));
	a_second_later();
	a_second_later();
	first_made(first);
	for (int i = 0; i < 6; i++) {
		request_fails("noise", i % 2 ? -EIO : -ECONNRESET);
		assert_null(last(DEVICE "offer"));
		if (i % 2 == 0)
			data_read();
		else
			assert_false(is_asked("noise")); /* not at once */
		now += 61000;
		agent_tick(a);
	}
	noise_added(whole, first, noised_id);
	assert_string_equal(last_offer().manifest.id, noised_id);
}

/* What cannot be saved is not granted. */
static void test_grant_needs_the_save(void **state)
{
	until_noised();
	limit_files(100);
	claim(0, noised_id);
	assert_null(last(TRAINER "grant"));
	limit_files(RLIM_INFINITY);
	now += 61000;
	agent_tick(a);
	claim(0, noised_id);
	assert_said(TRAINER "grant", "\"granted\":true");
	char third[HASH_SIZE];
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 13);
	assert_int_equal(reported().handovers, 1);
}

int main(void)
{
#define TEST(f, with) cmocka_unit_test_setup_teardown(f, with, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_only_noised_leaves, setup_one),
		TEST(test_forms, setup_one),
		TEST(test_counted_once, setup_one),
		TEST(test_base_and_budget, setup_many),
		TEST(test_budget_is_lowered, setup_many),
		TEST(test_turned_on, setup_one),
		TEST(test_failures, setup_one),
		TEST(test_grant_needs_the_save, setup_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Workers that die, hang, lie, lack memory or room, and requests that are refused. */
#include "worker_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/dataset/image.h"
#include "own_memory.h"

static void test_killed(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, rig.n_ready == 1);
	uint64_t t = rig_send(&rig, "train", long_training("never"));
	uint64_t e = rig_send(&rig, "pause", NULL);
	RIG_WAIT(&rig, rig.requests[e].answered);
	kill(worker_pid(rig.worker), SIGKILL);
	RIG_WAIT(&rig, rig.n_died == 1);
	assert_true(rig.requests[t].answered);
	assert_int_equal(rig.requests[t].code, -ECONNRESET);
	assert_non_null(strstr(rig.requests[t].error, "SIGKILL"));
	assert_int_equal(rig.requests[t].category, ERR_WORKER);
	assert_false(rig.failed_open);
	assert_true(rig.retry_in_ms >= 25 && rig.retry_in_ms <= 50);
	assert_int_equal(worker_pid(rig.worker), 0);
	assert_int_equal(worker_request(rig.worker, "pause", NULL, &e), -ENOTCONN);
	/* Another one comes, not paused, and works. */
	rig_do(&rig, "train", train_args(NULL, "k", 1, 0));
	assert_int_equal(rig.n_ready, 2);
	pid_t pid = worker_pid(rig.worker);
	assert_int_equal(kill(pid, 0), 0);
	rig_stop(&rig);
	assert_int_equal(kill(pid, 0), -1);
}

static void test_hung(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	conf.stall_ms = 3000; /* a busy machine stands still for a part of this */
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, rig.n_ready == 1);
	uint64_t t = rig_send(&rig, "train", long_training("never"));
	/* Longer than stall_ms: it moves. */
	int64_t end = clock_mono_ms() + conf.stall_ms + 500;
	RIG_WAIT(&rig, rig.requests[t].n_progress > 2 && clock_mono_ms() > end);
	assert_int_equal(rig.n_died, 0);
	/* Paused it may stand still for as long as it likes. */
	rig_do(&rig, "pause", NULL);
	end = clock_mono_ms() + conf.stall_ms + 500;
	while (clock_mono_ms() < end)
		assert_true(loop_once(rig.loop, 50) >= 0);
	assert_int_equal(rig.n_died, 0);
	rig_do(&rig, "resume", NULL);
	kill(worker_pid(rig.worker), SIGSTOP);
	RIG_WAIT(&rig, rig.n_died == 1);
	assert_int_equal(rig.requests[t].code, -ETIMEDOUT);
	assert_non_null(strstr(rig.why, "hung"));
	assert_int_equal(rig.requests[t].category, ERR_HUNG);
	assert_int_equal(rig.category, ERR_HUNG);
	RIG_WAIT(&rig, rig.n_ready == 2);
	rig_stop(&rig);
}

static struct json *until(struct json *j, int64_t at_ms)
{
	json_set_int(j, "until_ms", at_ms);
	return j;
}

/* It ends at its time, though nobody tells it to; another time takes the place of the first. */
static void test_until(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, rig.n_ready == 1);
	uint64_t t = rig_send(&rig, "train",
			      until(long_training("never"), clock_mono_ms() + RIG_WAIT_MS));
	struct rig_request *q = &rig.requests[t];
	RIG_WAIT(&rig, q->progress.step > 0);
	int64_t end = clock_mono_ms() + 700;
	rig_do(&rig, "until", until(json_new_obj(), end));
	assert_false(q->answered && clock_mono_ms() < end);
	usleep(1200000); /* as if the daemon hung */
	RIG_WAIT(&rig, q->answered);
	assert_int_equal(q->code, -ETIME);
	assert_true(clock_mono_ms() >= end);
	assert_false(file_exists(at("never")));
	/* The next one has no end but its own. */
	rig_do(&rig, "train", train_args(NULL, "k", 1, 0));
	assert_int_equal(rig_ask(&rig, "train", until(long_training("never"), 1))->code, -ETIME);
	assert_true(rig_ask(&rig, "train", until(long_training("never"), -1))->code < 0);
	rig_stop(&rig);
}

/* Another program in the worker's place; what the first end of it is reported as. */
static void in_its_place(const char *program, int64_t start_timeout_ms, const char *expected)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	snprintf(conf.program, sizeof(conf.program), "%s", program);
	conf.start_timeout_ms = start_timeout_ms;
	conf.backoff_first_ms = 20;
	conf.backoff_cap_ms = 80;
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, rig.n_died == 1);
	if (!strstr(rig.why, expected))
		fail_msg("found '%s', expected '%s'", rig.why, expected);
	assert_int_equal(rig.n_ready, 0);
	assert_false(rig.failed_open);
	RIG_WAIT(&rig, rig.n_died == 3); /* and again, ever later */
	assert_true(rig.retry_in_ms >= 40 && rig.retry_in_ms <= 80);
	rig_stop(&rig);
}

static void test_not_a_worker(void **state)
{
	static const struct {
		const char *script, *expected;
	} cases[] = {
		{"echo some last words; exit 3", "status 3, last line: 'some last words'"},
		{"echo '{}' >&3; exec sleep 60", "garbage"},
		{"echo 'hello' >&3; exec sleep 60", "garbage"},
		{"echo '{\"id\":77,\"ok\":true,\"result\":{}}' >&3; exec sleep 60",
		 "not outstanding"},
		{"echo '{\"id\":1,\"ok\":true,\"result\":{}}' >&3; exec sleep 60", "garbage: open"},
		{"echo '{\"id\":1,\"ok\":false,\"code\":5,\"error\":\"\"}' >&3; exec sleep 60",
		 "code"},
		{"head -c 1200000 /dev/zero | tr '\\0' x >&3; exec sleep 60", "too long"},
	};
	struct err err = {0};
	in_its_place("/bin/true", 0, "exited with status 0");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char script[512];
		int n = snprintf(script, sizeof(script), "#!/bin/sh\n%s\n", cases[i].script);
		assert_int_equal(file_write(at("script"), script, (size_t)n, &err), 0);
		assert_int_equal(chmod(at("script"), 0700), 0);
		in_its_place(at("script"), 0, cases[i].expected);
	}
	assert_int_equal(file_write(at("script"), "#!/bin/sh\nexec sleep 60\n", 24, &err), 0);
	assert_int_equal(chmod(at("script"), 0700), 0);
	in_its_place(at("script"), 100, "hung");
	struct worker_conf conf = conf_of("model.cfg");
	snprintf(conf.program, sizeof(conf.program), "%s", at("nothing"));
	assert_int_equal(worker_call(&conf, "rescan", NULL, NULL, NULL, NULL, NULL, &err), -ENOENT);
}

/* Lines alone are no progress: a step that does not move is a worker that hangs. */
static void test_lines_are_no_progress(void **state)
{
	static const char script[] =
		"#!/bin/sh\nread open <&3\n"
		"h=0000000000000000000000000000000000000000000000000000000000000000\n"
		"echo '{\"id\":1,\"ok\":true,\"result\":{\"images\":{\"train\":1,\"validation\":0,"
		"\"test\":0},\"stay\":0,\"snapshot\":{\"train\":\"\",\"validation\":\"\",\"test\":\"\"},"
		"\"classes\":10,\"model\":\"'$h'\",\"skipped\":0,\"skipped_names\":[],"
		"\"engine\":\"darknet\",\"precision\":\"f32\",\"threads\":1,\"cage\":{\"parts\":\"\",\"missing\":\"\"}}}' >&3\n"
		"read train <&3\n"
		"while :; do echo '{\"id\":2,\"event\":\"progress\",\"step\":5,\"steps\":9,"
		"\"loss\":null,\"images_per_second\":1}'; sleep 0.1; done >&3\n";
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	struct err err = {0};
	assert_int_equal(file_write(at("script"), script, sizeof(script) - 1, &err), 0);
	assert_int_equal(chmod(at("script"), 0700), 0);
	snprintf(conf.program, sizeof(conf.program), "%s", at("script"));
	conf.stall_ms = 3000; /* some lines' time, whatever a `sleep 0.1` takes here */
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, rig.n_ready == 1);
	uint64_t t = rig_send(&rig, "train", long_training("never"));
	RIG_WAIT(&rig, rig.n_died == 1);
	assert_true(rig.requests[t].n_progress > 2);
	assert_true(isnan(rig.requests[t].progress.loss));
	assert_int_equal(rig.requests[t].code, -ETIMEDOUT);
	rig_stop(&rig);
}

static struct json *many_images(int n)
{
	struct json *j = json_new_obj(), *images = json_new_arr();
	for (int i = 0; i < n; i++)
		json_push_str(images, at("there/is/no/image/of/this/name"));
	json_set_str(j, "weights", at("long"));
	json_set(j, "images", images);
	return j;
}

static void test_long_lines(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	const struct json *results;
	uint64_t id;
	rig_start(&rig, &conf);
	rig_do(&rig, "train", train_args(NULL, "long", 1, 0));
	const struct json *r = rig_do(&rig, "classify", many_images(3000));
	assert_int_equal(json_get_arr(r, "results", 3000, &results, NULL), 0);
	assert_int_equal(json_len(results), 3000);
	/* An answer, and then a request, that do not fit into a line cost only themselves. */
	assert_int_equal(rig_ask(&rig, "classify", many_images(10000))->code, -E2BIG);
	struct json *j = many_images(1);
	char *text = calloc(1, WORKER_LINE_MAX + 1);
	memset(text, 'x', WORKER_LINE_MAX);
	json_set_str(j, "weights", text);
	free(text);
	assert_int_equal(worker_request(rig.worker, "classify", j, &id), -E2BIG);
	assert_int_equal(rig_ask(&rig, "classify", many_images(10))->code, 0);
	rig_stop(&rig);
}

/* `open` is refused, in words that name what is wrong. */
static void refused(const struct worker_conf *conf, const char *expected,
		    enum err_category category)
{
	struct rig rig;
	rig_start(&rig, conf);
	RIG_WAIT(&rig, rig.n_died == 2);
	if (!rig.failed_open || !strstr(rig.why, expected))
		fail_msg("found '%s', expected '%s'", rig.why, expected);
	assert_int_equal(rig.n_ready, 0);
	assert_int_equal(rig.category, category);
	rig_stop(&rig);
}

static void test_refused(void **state)
{
	struct err err = {0};
	struct worker_conf c = conf_of("none.cfg");
	refused(&c, "none.cfg", ERR_CONF);
	assert_int_equal(file_write(at("bad.cfg"), "[net]\nbatch=x\n", 14, &err), 0);
	c = conf_of("bad.cfg");
	refused(&c, "bad.cfg", ERR_CONF);
	c = conf_of("model.cfg");
	snprintf(c.data.path, sizeof(c.data.path), "%s", at("nothing"));
	refused(&c, "nothing", ERR_DATA);
	c = conf_of("model.cfg");
	snprintf(c.engine, sizeof(c.engine), "abacus");
	refused(&c, "abacus", ERR_CONF);
	c = conf_of("model.cfg");
	snprintf(c.precision, sizeof(c.precision), "f8");
	refused(&c, "precision", ERR_CONF);
	c = conf_of("model.cfg");
	c.data.width = 64;
	refused(&c, "data.width", ERR_DATA);
	c = conf_of("model.cfg");
	snprintf(c.classes, sizeof(c.classes), "%s", at("no-classes"));
	refused(&c, "no-classes", ERR_CONF);
	c = conf_of("model.cfg");
	c.has_data = false;
	struct json *args = train_args(NULL, "z", 1, 0);
	assert_int_equal(worker_call(&c, "train", args, NULL, NULL, NULL, NULL, &err), -ENODATA);
}

static void test_bad_requests(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	struct err err = {0};
	rig_start(&rig, &conf);
	assert_int_equal(rig_ask(&rig, "dance", NULL)->code, -ENOSYS);
	assert_int_equal(rig_ask(&rig, "open", NULL)->code, -EEXIST);
	assert_int_equal(rig_ask(&rig, "train", NULL)->code, -ENOENT);
	struct json *both = train_args(NULL, "z", 1, 0);
	json_set_int(both, "steps", 1);
	assert_int_equal(rig_ask(&rig, "train", both)->code, -EINVAL);
	assert_int_equal(rig_ask(&rig, "train", train_args(NULL, "no/folder/z", 1, 0))->code,
			 -ENOENT);
	assert_int_equal(rig_ask(&rig, "evaluate", evaluate_args("none", "test"))->code, -ENOENT);
	/* Weights that are not this model's: short, long, not finite. */
	rig_do(&rig, "train", train_args(NULL, "w", 1, 0));
	char *data;
	size_t len;
	assert_int_equal(file_read(at("w"), 1 << 20, &data, &len, &err), 0);
	for (int i = 0; i < 3; i++) {
		char copy[32768] = {0};
		assert_true(len + 4 < sizeof(copy));
		memcpy(copy, data, len);
		if (i == 2)
			memset(copy + 64, 0xff, 4);
		size_t n = i == 0 ? len - 4 : i == 1 ? len + 4 : len;
		assert_int_equal(file_write(at("v"), copy, n, &err), 0);
		struct rig_request *q = rig_ask(&rig, "evaluate", evaluate_args("v", "test"));
		assert_int_equal(q->code, -EBADMSG);
		assert_non_null(strstr(q->error, at("v")));
		assert_int_equal(q->category, ERR_CHECKPOINT);
		assert_int_equal(rig_ask(&rig, "train", train_args("v", "z", 1, 0))->code,
				 -EBADMSG);
	}
	free(data);
	/* None of it cost the worker. */
	rig_do(&rig, "evaluate", evaluate_args("w", "test"));
	assert_int_equal(rig.n_died, 0);
	/* A number of requests is enough. */
	uint64_t id;
	int r = 0, n = 0;
	while ((r = worker_request(rig.worker, "pause", NULL, &id)) == 0)
		n++;
	assert_int_equal(r, -EBUSY);
	assert_int_equal(n, WORKER_REQUESTS_MAX);
	rig_stop(&rig);
}

static void test_full_disk(void **state)
{
	struct rlimit before, small;
	struct worker_conf conf = conf_of("model.cfg");
	struct err err = {0};
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = (struct rlimit){4096, before.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	int r = worker_call(&conf, "train", train_args(NULL, "full", 1, 0), NULL, NULL, NULL, NULL,
			    &err);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(r, -EFBIG);
	assert_non_null(strstr(err.text, "wrote 4096 of "));
	assert_false(file_exists(at("full")));
	assert_false(file_exists(at("full.tmp")));
}

static void proc_status(int pid, const char *key, char *value, size_t size)
{
	char line[256], path[64];
	size_t len = strlen(key);
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	value[0] = 0;
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, key, len) == 0 && line[len] == ':')
			snprintf(value, size, "%s", line + len + 1 + strspn(line + len + 1, "\t "));
	value[strcspn(value, "\n")] = 0;
	fclose(f);
}

/* What the worker says it needs, when it is refused for lack of it. */
static uint64_t needed(struct worker_conf conf)
{
	struct err err = {0};
	unsigned long long bytes = 0, train, evaluate, program, limit;
	conf.memory_max_bytes = 1000;
	assert_int_equal(worker_call(&conf, "rescan", NULL, NULL, NULL, NULL, NULL, &err), -EINVAL);
	assert_int_equal(err.category, ERR_MEMORY);
	assert_non_null(strstr(err.text, conf.cfg));
	const char *at_needs = strstr(err.text, "needs ");
	assert_non_null(at_needs);
	assert_int_equal(sscanf(at_needs,
				"needs %llu bytes of memory (%llu to train, %llu to evaluate, %llu "
				"for the program), and the limit is %llu",
				&bytes, &train, &evaluate, &program, &limit),
			 5);
	assert_int_equal(limit, 1000);
	assert_int_equal(bytes, train + evaluate + program);
	assert_true(train > 0 && evaluate > 0 && program > 1024 * 1024);
	return bytes;
}

static void write_big_cfg(void)
{
	struct err err = {0};
	char text[2048];
	int n = snprintf(text, sizeof(text), cfg_head, "0.01");
	n += snprintf(text + n, sizeof(text) - (size_t)n,
		      "[connected]\noutput=8192\nactivation=linear\n"
		      "[connected]\noutput=8192\nactivation=linear\n"
		      "[connected]\noutput=8192\nactivation=linear\n"
		      "[connected]\noutput=10\nactivation=linear\n[softmax]\n");
	assert_int_equal(file_write(at("big.cfg"), text, (size_t)n, &err), 0);
}

/* An evaluation's batch is bounded by its inputs, too: 64 of these were 2^32 floats, which Darknet
 * counts in int. */
static void test_large_inputs(void **state)
{
	struct err err = {0};
	char text[512];
	struct worker_conf conf = conf_of("inputs.cfg");
	int n = snprintf(text, sizeof(text),
			 "[net]\nbatch=1\nsubdivisions=1\nwidth=8192\nheight=8192\nchannels=1\n"
			 "[crop]\ncrop_width=2\ncrop_height=2\n"
			 "[connected]\noutput=10\nactivation=linear\n[softmax]\n");
	assert_int_equal(file_write(at("inputs.cfg"), text, (size_t)n, &err), 0);
	assert_true(needed(conf) < 4ull * 1024 * 1024 * 1024);
}

/* A network that does not fit is refused before anything is allocated for it. */
static void test_too_large(void **state)
{
	struct worker_conf conf = conf_of("big.cfg");
	write_big_cfg();
	/* Two networks of 137 million weights, each with its updates. */
	assert_true(needed(conf) > 4ull * 2 * 2 * 137 * 1000 * 1000);
	conf.memory_max_bytes = 1u << 30;
	refused(&conf, "and the limit is 1073741824", ERR_MEMORY);
}

/* Beneath a limit that is just high enough it works, and it was not much too high. */
static void test_fits(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	char peak[64];
	if (!own_memory())
		skip();
	snprintf(conf.cfg, sizeof(conf.cfg), "%s", TASUKI_SOURCE "/deploy/models/digits.cfg");
	for (conf.threads = 1; conf.threads <= 2; conf.threads++) {
		conf.memory_max_bytes = needed(conf) + 2 * 1024 * 1024;
		rig_start(&rig, &conf);
		struct json *args = train_args(NULL, "fits", 1, 0);
		rig_do(&rig, "train", args);
		rig_do(&rig, "evaluate", evaluate_args("fits", "train"));
		proc_status(worker_pid(rig.worker), "VmHWM", peak, sizeof(peak));
		uint64_t bytes = strtoull(peak, NULL, 10) * 1024;
		/* MALLOC_PERTURB_ touches what is never used otherwise. */
		if (bytes > conf.memory_max_bytes + conf.memory_max_bytes / 50 ||
		    bytes * 3 < conf.memory_max_bytes * 2)
			fail_msg("found a peak of %llu bytes, expected two thirds of %llu to all "
				 "of it",
				 (unsigned long long)bytes,
				 (unsigned long long)conf.memory_max_bytes);
		assert_int_equal(rig.n_died, 0);
		rig_stop(&rig);
	}
}

static struct json *settled_blend(void)
{
	struct json *j = json_new_obj();
	json_set_str(j, "a", at("turn"));
	json_set_str(j, "b", at("turn"));
	json_set_num(j, "alpha", .5);
	json_set_bool(j, "settle", true);
	json_set_str(j, "out", at("settled"));
	return j;
}

/* A second network to train is refused where there is no room for two, and the first goes on; once
 * that only waits for its next training, it makes room. */
static void test_settles_in_turn(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	if (!own_memory())
		skip();
	snprintf(conf.cfg, sizeof(conf.cfg), "%s", TASUKI_SOURCE "/deploy/models/digits.cfg");
	conf.memory_max_bytes = needed(conf) + 2 * 1024 * 1024;
	rig_start(&rig, &conf);
	rig_do(&rig, "train", train_args(NULL, "turn", 1, 0));
	uint64_t t = rig_send(&rig, "train", long_training("never"));
	struct rig_request *q = &rig.requests[t];
	RIG_WAIT(&rig, q->progress.step > 0);
	struct rig_request *blend = rig_ask(&rig, "blend", settled_blend());
	assert_int_equal(blend->code, -ENOMEM);
	assert_non_null(strstr(blend->error, "one more network to train needs"));
	assert_false(file_exists(at("settled.unsettled")));
	int64_t step = q->progress.step;
	RIG_WAIT(&rig, q->progress.step > step);
	rig_do(&rig, "stop", target(t));
	rig_do(&rig, "blend", settled_blend());
	rig_do(&rig, "evaluate", evaluate_args("settled", "train"));
	rig_do(&rig, "train", train_args("settled", "turn", 1, 0));
	assert_int_equal(rig.n_died, 0);
	rig_stop(&rig);
}

/* Memory that is not there although no limit of ours is in the way: Darknet does not look, and
 * dies. */
static void test_no_memory(void **state)
{
	struct rlimit before, small;
	struct worker_conf conf = conf_of("big.cfg");
	struct err err = {0};
	if (!own_memory())
		skip();
	write_big_cfg();
	assert_int_equal(getrlimit(RLIMIT_DATA, &before), 0);
	small = (struct rlimit){600u << 20, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_DATA, &small), 0);
	int r = worker_call(&conf, "rescan", NULL, NULL, NULL, NULL, NULL, &err);
	assert_int_equal(setrlimit(RLIMIT_DATA, &before), 0);
	assert_int_equal(r, -EIO);
	assert_non_null(strstr(err.text, "last line: 'tasuki-worker: out of memory'"));
	assert_int_equal(err.category, ERR_MEMORY);
}

/* What comes on top of what was foreseen, here an image of 192 MB, fails like malloc() does. */
static void test_out_of_memory(void **state)
{
	enum { SIDE = 8000, CHANNELS = 3 };
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	struct err err = {0};
	const struct json *results;
	const char *error;
	if (!own_memory())
		skip();
	uint8_t *pixels = calloc(SIDE, SIDE * CHANNELS);
	assert_non_null(pixels);
	assert_int_equal(image_write_png(at("large.png"), pixels, SIDE, SIDE, CHANNELS, &err), 0);
	free(pixels);
	for (int limited = 0; limited <= 1; limited++) {
		conf.memory_max_bytes = limited ? needed(conf) + 2 * 1024 * 1024 : 0;
		rig_start(&rig, &conf);
		rig_do(&rig, "train", train_args(NULL, "w", 1, 0));
		struct json *args = json_new_obj(), *images = json_new_arr();
		json_set_str(args, "weights", at("w"));
		json_push_str(images, at("large.png"));
		json_set(args, "images", images);
		const struct json *r = rig_do(&rig, "classify", args);
		assert_int_equal(json_get_arr(r, "results", 1, &results, NULL), 0);
		const struct json *one = json_at(results, 0);
		assert_int_equal(json_has(one, "error"), limited);
		if (limited) {
			assert_int_equal(json_get_text(one, "error", 500, &error, NULL), 0);
			assert_non_null(strstr(error, strerror(ENOMEM)));
		}
		rig_do(&rig, "evaluate", evaluate_args("w", "test")); /* it goes on */
		assert_int_equal(rig.n_died, 0);
		rig_stop(&rig);
	}
}

static void test_log_and_engine(void **state)
{
	struct worker_conf conf = conf_of("model.cfg");
	struct err err = {0};
	struct json *result = NULL;
	struct worker_ready ready;
	char *log, engine[32];
	size_t len;
	snprintf(conf.log_path, sizeof(conf.log_path), "%s", at("log"));
	if (worker_call(&conf, "rescan", NULL, NULL, NULL, &ready, &result, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(file_read(at("log"), 1 << 20, &log, &len, &err), 0);
	assert_non_null(strstr(log, "softmax")); /* Darknet's table of layers */
	free(log);
	/* Said only when calls of libdarknet did arrive at what replaces its products. */
	assert_int_equal(json_get_str(result, "engine", engine, sizeof(engine), NULL), 0);
	assert_string_equal(engine, strcmp(GEMM, "openblas") == 0 ? "darknet+openblas" : "darknet");
	assert_string_equal(ready.engine, engine);
	assert_string_equal(ready.precision, "f32");
	assert_int_equal(ready.threads, 1);
	json_free(result);
}

/* What the configuration says of processors, threads and niceness holds in the worker. */
static void test_processors(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	char allowed[64];
	cpu_set_t ours;
	assert_int_equal(sched_getaffinity(0, sizeof(ours), &ours), 0);
	conf.threads = 0;
	conf.nice = 7;
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, rig.n_ready == 1);
	assert_int_equal(rig.ready.threads, CPU_COUNT(&ours));
	errno = 0;
	assert_int_equal(getpriority(PRIO_PROCESS, (id_t)worker_pid(rig.worker)), 7);
	rig_stop(&rig);
	int last = CPU_SETSIZE - 1;
	while (!CPU_ISSET(last, &ours))
		last--;
	CPU_SET(last, &conf.cpus);
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, rig.n_ready == 1);
	assert_int_equal(rig.ready.threads, 1);
	proc_status(worker_pid(rig.worker), "Cpus_allowed_list", allowed, sizeof(allowed));
	assert_int_equal(atoi(allowed), last);
	assert_null(strpbrk(allowed, "-,"));
	rig_stop(&rig);
	conf.threads = 3; /* more than processors is a person's choice */
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, rig.n_ready == 1);
	assert_int_equal(rig.ready.threads, 3);
	rig_stop(&rig);
	conf.threads = WORKER_THREADS_MAX + 1;
	struct err err = {0};
	assert_int_equal(worker_call(&conf, "rescan", NULL, NULL, NULL, NULL, NULL, &err), -ERANGE);
}

/* A daemon that is killed leaves no worker behind. */
static void test_orphan(void **state)
{
	int fds[2];
	pid_t pid = 0;
	assert_int_equal(pipe(fds), 0);
	pid_t daemon = fork();
	assert_true(daemon >= 0);
	if (daemon == 0) {
		struct rig rig;
		struct worker_conf conf = conf_of("model.cfg");
		rig_start(&rig, &conf);
		RIG_WAIT(&rig, rig.n_ready == 1);
		rig_send(&rig, "train", long_training("never"));
		pid = worker_pid(rig.worker);
		if (write(fds[1], &pid, sizeof(pid)) != sizeof(pid))
			_exit(1);
		for (;;)
			loop_once(rig.loop, -1);
	}
	assert_int_equal(read(fds[0], &pid, sizeof(pid)), sizeof(pid));
	assert_int_equal(kill(pid, 0), 0);
	kill(daemon, SIGKILL);
	waitpid(daemon, NULL, 0);
	int64_t end = clock_mono_ms() + RIG_WAIT_MS;
	char state_path[64];
	bool gone = false;
	snprintf(state_path, sizeof(state_path), "/proc/%d/cmdline", pid);
	while (!gone && clock_mono_ms() < end) {
		/* A zombie that nobody reaps has no command line any more. */
		int fd = open(state_path, O_RDONLY | O_CLOEXEC);
		char c;
		gone = fd < 0 || read(fd, &c, 1) <= 0;
		if (fd >= 0)
			close(fd);
		usleep(20000);
	}
	assert_true(gone);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_hung),
		cmocka_unit_test(test_not_a_worker),
		cmocka_unit_test(test_lines_are_no_progress),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_fits),
		cmocka_unit_test(test_settles_in_turn),
		cmocka_unit_test(test_large_inputs),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_log_and_engine),
		cmocka_unit_test(test_processors),
		cmocka_unit_test(test_orphan),
		cmocka_unit_test(test_until),
	};
	return cmocka_run_group_tests_name("worker_life", tests, set_up, tear_down);
}

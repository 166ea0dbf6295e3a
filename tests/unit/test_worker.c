/* tasuki-worker itself, with Darknet, on drawn digits. Run from the build tree. */
#include "worker_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/checkpoint/model.h"
#include "common/checkpoint/weights.h"
#include "common/dataset/digits.h"
#include "common/dataset/image.h"

#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#endif
#ifndef ASAN
#define ASAN 0
#endif

#define N_DRAWN 240 /* digits_write adds a fifth as test images */

static char dir[64] = "/tmp/test_worker.XXXXXX";

static const char cfg_head[] = "[net]\nbatch=16\nsubdivisions=2\nwidth=28\nheight=28\nchannels=1\n"
			       "learning_rate=%s\npolicy=constant\nmomentum=0.9\ndecay=0.0005\n";
static const char cfg_layers[] =
	"[convolutional]\nbatch_normalize=1\nfilters=6\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
	"[maxpool]\nsize=2\nstride=2\n[dropout]\nprobability=.2\n"
	"[connected]\noutput=10\nactivation=linear\n[softmax]\n%s";

static const char *at(const char *name)
{
	static char paths[8][FILE_PATH_MAX];
	static unsigned next;
	char *p = paths[next++ % 8];
	snprintf(p, FILE_PATH_MAX, "%s/%s", dir, name);
	return p;
}

static void write_cfg(const char *name, const char *rate, const char *tail)
{
	char text[2048];
	struct err err = {0};
	int n = snprintf(text, sizeof(text), cfg_head, rate);
	n += snprintf(text + n, sizeof(text) - (size_t)n, cfg_layers, tail);
	if (file_write(at(name), text, (size_t)n, &err) < 0)
		fail_msg("%s", err.text);
}

static int set_up(void **state)
{
	struct err err = {0};
	assert_non_null(mkdtemp(dir));
	write_cfg("model.cfg", "0.02", "");
	write_cfg("cost.cfg", "0.02", "[cost]\n");
	write_cfg("wild.cfg", "1e6", "");
	if (digits_write(at("data"), N_DRAWN, 7, NULL, &err) < 0)
		fail_msg("%s", err.text);
	return 0;
}

static int tear_down(void **state)
{
	return file_remove(dir, NULL);
}

static struct worker_conf conf_of(const char *cfg)
{
	struct worker_conf c = {.has_data = true, .fold = 1, .engine = "darknet", .threads = 1,
				.backoff_first_ms = 50, .backoff_cap_ms = 200};
	snprintf(c.cfg, sizeof(c.cfg), "%s", at(cfg));
	snprintf(c.data.path, sizeof(c.data.path), "%s", at("data"));
	c.data.validation_share = 0.2;
	c.data.seed = 1;
	c.augment = (struct augment){.shift_px = 2, .blur = 0.5, .brightness = 0.2};
	return c;
}

static struct json *train_args(const char *weights, const char *out, int64_t epochs, int64_t epoch)
{
	struct json *j = json_new_obj();
	if (weights)
		json_set_str(j, "weights", at(weights));
	json_set_str(j, "out", at(out));
	json_set_int(j, "epochs", epochs);
	json_set_int(j, "epoch", epoch);
	json_set_int(j, "seed", 3);
	return j;
}

static struct json *long_training(const char *out)
{
	struct json *j = json_new_obj();
	json_set_str(j, "out", at(out));
	json_set_int(j, "steps", 100000000);
	json_set_int(j, "seed", 3);
	return j;
}

static struct json *evaluate_args(const char *weights, const char *split)
{
	struct json *j = json_new_obj();
	json_set_str(j, "weights", at(weights));
	json_set_str(j, "split", split);
	json_set_bool(j, "confusion", true);
	return j;
}

static struct json *target(uint64_t id)
{
	struct json *j = json_new_obj();
	json_set_int(j, "target", (int64_t)id);
	return j;
}

static double num(const struct json *j, const char *key)
{
	double v;
	struct err err = {0};
	if (json_get_num(j, key, -INFINITY, INFINITY, &v, &err) < 0)
		fail_msg("%s", err.text);
	return v;
}

static void id_of(const struct json *j, char id[HASH_SIZE])
{
	assert_int_equal(json_get_str(j, "checkpoint", id, HASH_SIZE, NULL), 0);
	assert_true(hash_valid(id));
}

static void check_weights(const char *cfg, const char *weights, uint64_t seen, const char *id)
{
	_cleanup_(model_freep) struct model *m = NULL;
	struct weights_header h;
	struct err err = {0};
	char found[HASH_SIZE];
	assert_int_equal(model_load(at(cfg), NULL, 0, &m, &err), 0);
	if (weights_check(m, at(weights), &h, found, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(found, id);
	assert_int_equal(h.seen, seen);
}

static void test_learns(void **state)
{
	const char *const cfgs[] = {"model.cfg", "cost.cfg"};
	for (size_t i = 0; i < ARRAY_LEN(cfgs); i++) {
		struct rig rig;
		struct worker_conf c = conf_of(cfgs[i]);
		char id[HASH_SIZE];
		c.fold = 3;
		rig_start(&rig, &c);
		const struct json *t = rig_do(&rig, "train", train_args(NULL, "a", 1, 0));
		double first = num(t, "loss");
		uint32_t n = rig.ready.n[SPLIT_TRAIN] * 3, steps = (n + 15) / 16;
		assert_int_equal(rig.ready.n[SPLIT_TRAIN] + rig.ready.n[SPLIT_VALIDATION], N_DRAWN);
		assert_int_equal(rig.ready.n[SPLIT_TEST], N_DRAWN / 5);
		assert_int_equal((int)num(t, "steps"), steps);
		assert_int_equal((int)num(t, "images"), steps * 16);
		id_of(t, id);
		check_weights(cfgs[i], "a", steps * 16, id);
		t = rig_do(&rig, "train", train_args("a", "b", 2, 1));
		assert_true(num(t, "loss") < 0.8 * first);
		assert_int_equal((int)num(t, "seen"), steps * 16 * 3);
		id_of(t, id);
		check_weights(cfgs[i], "b", steps * 16 * 3, id);
		const struct json *e = rig_do(&rig, "evaluate", evaluate_args("b", "train"));
		assert_true(num(e, "accuracy") > 0.4);
		assert_false(file_exists(at("b.tmp")));
		rig_stop(&rig);
	}
}

/* Trains in a process of its own: id of what came out. */
static void trained(struct worker_conf c, struct json *args, const char *then, char id[HASH_SIZE])
{
	struct rig rig;
	rig_start(&rig, &c);
	const struct json *t = rig_do(&rig, "train", args);
	if (then)
		t = rig_do(&rig, "train", train_args("r", then, 1, 1));
	id_of(t, id);
	rig_stop(&rig);
}

static void test_reproducible(void **state)
{
	char a[HASH_SIZE], b[HASH_SIZE], c[HASH_SIZE], d[HASH_SIZE];
	struct worker_conf conf = conf_of("model.cfg");
	conf.fold = 2;
	trained(conf, train_args(NULL, "r", 2, 0), NULL, a);
	trained(conf, train_args(NULL, "r", 2, 0), NULL, b);
	assert_string_equal(a, b);
	/* Epoch by epoch with the live network: momentum is kept, nothing differs. */
	trained(conf, train_args(NULL, "r", 1, 0), "s", c);
	assert_string_equal(a, c);
	/* From the file, in another process: momentum is lost. */
	trained(conf, train_args("r", "s", 1, 1), NULL, d);
	assert_string_not_equal(a, d);
	struct json *other = train_args(NULL, "r", 2, 0);
	json_set_int(other, "seed", 4);
	trained(conf, other, NULL, d);
	assert_string_not_equal(a, d);
	/* A network that is not the first of its process is new all the same. */
	struct rig rig;
	rig_start(&rig, &conf);
	rig_do(&rig, "train", train_args(NULL, "x", 1, 5));
	id_of(rig_do(&rig, "train", train_args(NULL, "x", 2, 0)), d);
	rig_stop(&rig);
	assert_string_equal(a, d);
}

static void check_counts(const struct json *e, int n)
{
	const struct json *classes, *confusion, *row;
	int64_t sum = 0, correct = 0, cells = 0, diagonal = 0, v;
	assert_int_equal(json_get_arr(e, "per_class", 10, &classes, NULL), 0);
	assert_int_equal(json_get_arr(e, "confusion", 10, &confusion, NULL), 0);
	assert_int_equal(json_len(classes), 10);
	assert_int_equal(json_len(confusion), 10);
	for (size_t i = 0; i < 10; i++) {
		sum += (int64_t)num(json_at(classes, i), "n");
		correct += (int64_t)num(json_at(classes, i), "correct");
		row = json_at(confusion, i);
		for (size_t k = 0; k < 10; k++) {
			assert_int_equal(json_int_at(row, k, 0, n, &v), 0);
			cells += v;
			diagonal += k == i ? v : 0;
		}
	}
	assert_int_equal(sum, n);
	assert_int_equal(cells, n);
	assert_int_equal((int)num(e, "n"), n);
	assert_int_equal(correct, (int)num(e, "correct"));
	assert_int_equal(diagonal, correct);
}

static void test_evaluate_same_everywhere(void **state)
{
	double loss[3], correct[3];
	char id[HASH_SIZE], shown[HASH_SIZE];
	struct worker_conf conf = conf_of("model.cfg");
	trained(conf, train_args(NULL, "e", 1, 0), NULL, id);
	for (int i = 0; i < 3; i++) {
		struct rig rig;
		conf.threads = i == 0 ? 1 : 2;
		rig_start(&rig, &conf);
		if (i == 2) /* not the first thing that process does */
			rig_do(&rig, "train", train_args(NULL, "x", 1, 0));
		const struct json *e = rig_do(&rig, "evaluate", evaluate_args("e", "train"));
		check_counts(e, (int)rig.ready.n[SPLIT_TRAIN]);
		id_of(e, shown);
		assert_string_equal(shown, id);
		assert_int_equal(json_get_str(e, "snapshot", shown, sizeof(shown), NULL), 0);
		assert_string_equal(shown, rig.ready.snapshot[SPLIT_TRAIN]);
		loss[i] = num(e, "loss");
		correct[i] = num(e, "correct");
		assert_int_equal(rig_ask(&rig, "evaluate", evaluate_args("e", "nonsense"))->code,
				 -EINVAL);
		rig_stop(&rig);
	}
	assert_true(loss[0] == loss[1] && loss[1] == loss[2]);
	assert_true(correct[0] == correct[1] && correct[1] == correct[2]);
}

static void test_in_the_middle(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	rig_start(&rig, &conf);
	rig_do(&rig, "train", train_args(NULL, "m", 1, 0));
	uint64_t t = rig_send(&rig, "train", long_training("never"));
	struct rig_request *q = &rig.requests[t];
	RIG_WAIT(&rig, q->n_progress && q->progress.step > 0);
	/* An evaluation is served, and training goes on. */
	rig_do(&rig, "evaluate", evaluate_args("m", "validation"));
	assert_false(q->answered);
	int64_t step = q->progress.step;
	RIG_WAIT(&rig, q->progress.step > step);
	assert_true(isfinite(q->progress.loss) && q->progress.images_per_second > 0);
	/* A second training is not. */
	assert_int_equal(rig_ask(&rig, "train", train_args(NULL, "n", 1, 0))->code, -EBUSY);
	/* Paused: the step stands still, and evaluations are served. */
	rig_do(&rig, "pause", NULL);
	unsigned n = q->n_progress;
	RIG_WAIT(&rig, q->n_progress > n);
	step = q->progress.step;
	n = q->n_progress;
	rig_do(&rig, "evaluate", evaluate_args("m", "validation"));
	RIG_WAIT(&rig, q->n_progress > n + 1);
	assert_int_equal(q->progress.step, step);
	rig_do(&rig, "resume", NULL);
	RIG_WAIT(&rig, q->progress.step > step);
	rig_do(&rig, "stop", target(t));
	assert_true(q->answered);
	assert_int_equal(q->code, -ECANCELED);
	assert_false(file_exists(at("never")));
	/* What is not there any more is no error. */
	rig_do(&rig, "stop", target(t));
	rig_stop(&rig);
}

/* What is asked for in the middle leaves no trace in the weights. */
static void test_middle_changes_nothing(void **state)
{
	char alone[HASH_SIZE], disturbed[HASH_SIZE];
	struct worker_conf conf = conf_of("model.cfg");
	struct rig rig;
	conf.fold = 2;
	trained(conf, train_args(NULL, "m", 1, 0), NULL, disturbed);
	trained(conf, train_args(NULL, "q", 20, 0), NULL, alone);
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, worker_is_ready(rig.worker));
	uint64_t t = rig_send(&rig, "train", train_args(NULL, "q", 20, 0));
	for (int i = 0; i < 5 && !rig.requests[t].answered; i++) {
		rig_do(&rig, "pause", NULL);
		rig_do(&rig, "evaluate", evaluate_args("m", "validation"));
		rig_do(&rig, "resume", NULL);
	}
	RIG_WAIT(&rig, rig.requests[t].answered);
	id_of(rig.requests[t].result, disturbed);
	rig_stop(&rig);
	assert_string_equal(alone, disturbed);
}

static struct json *blend_args(double alpha)
{
	struct json *j = json_new_obj();
	json_set_str(j, "a", at("a"));
	json_set_str(j, "b", at("b"));
	json_set_num(j, "alpha", alpha);
	json_set_str(j, "out", at("ab"));
	return j;
}

static void test_blend(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	char id[HASH_SIZE];
	rig_start(&rig, &conf);
	rig_do(&rig, "train", train_args(NULL, "a", 1, 0));
	uint64_t seen = (uint64_t)num(rig_do(&rig, "train", train_args("a", "b", 4, 1)), "seen");
	double a = num(rig_do(&rig, "evaluate", evaluate_args("a", "train")), "loss");
	double b = num(rig_do(&rig, "evaluate", evaluate_args("b", "train")), "loss");
	const double alphas[] = {0, 1, 0.5};
	double loss[3];
	for (int i = 0; i < 3; i++) {
		id_of(rig_do(&rig, "blend", blend_args(alphas[i])), id);
		check_weights("model.cfg", "ab", seen, id);
		loss[i] = num(rig_do(&rig, "evaluate", evaluate_args("ab", "train")), "loss");
	}
	assert_true(loss[0] == a && loss[1] == b && loss[2] != a && loss[2] != b);
	assert_int_equal(rig_ask(&rig, "blend", blend_args(1.5))->code, -ERANGE);
	rig_stop(&rig);
}

/* Image i of the pictures: a folder a class; the sixth is not there. */
static const char *picture(int i)
{
	char name[32];
	snprintf(name, sizeof(name), "pictures/%d/%d.png", i % 10, i);
	return at(name);
}

static struct json *draw_pictures(int n)
{
	struct json *paths = json_new_arr();
	struct err err = {0};
	uint8_t pixels[DIGITS_SIDE * DIGITS_SIDE];
	char folder[32];
	for (int i = 0; i < n; i++) {
		snprintf(folder, sizeof(folder), "pictures/%d", i % 10);
		assert_int_equal(file_mkdirs(at(folder), &err), 0);
		digits_draw(99, (uint64_t)i, i % 10, pixels);
		if (i != 5)
			assert_int_equal(image_write_png(picture(i), pixels, DIGITS_SIDE, DIGITS_SIDE,
							 1, &err), 0);
		json_push_str(paths, picture(i));
	}
	return paths;
}

static void check_classified(const struct json *results, int n, int *ret_correct)
{
	assert_int_equal(json_len(results), n);
	for (int i = 0; i < n; i++) {
		const struct json *one = json_at(results, (size_t)i);
		const char *text;
		char name[16];
		assert_int_equal(json_get_text(one, "image", 1000, &text, NULL), 0);
		assert_string_equal(text, picture(i));
		assert_int_equal(json_has(one, "error"), i == 5);
		if (i == 5)
			continue;
		assert_true(num(one, "score") > 0.1 && num(one, "score") <= 1);
		*ret_correct += (int)num(one, "class") == i % 10;
		snprintf(name, sizeof(name), "%d", (int)num(one, "class"));
		assert_int_equal(json_get_text(one, "name", 100, &text, NULL), 0);
		assert_string_equal(text, name);
	}
}

/* Classifying pictures one by one counts as many hits as evaluating them as a data set. */
static void test_classify(void **state)
{
	enum { N = 70 }; /* more than one batch */
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	struct json *args = json_new_obj(), *images = draw_pictures(N);
	const struct json *results;
	int correct = 0;
	rig_start(&rig, &conf);
	rig_do(&rig, "train", train_args(NULL, "c", 10, 0));
	rig_stop(&rig);
	snprintf(conf.data.path, sizeof(conf.data.path), "%s", at("pictures"));
	conf.data.validation_share = 0;
	rig_start(&rig, &conf);
	json_set_str(args, "weights", at("c"));
	json_set(args, "images", images);
	const struct json *r = rig_do(&rig, "classify", args);
	assert_int_equal(json_get_arr(r, "results", N, &results, NULL), 0);
	check_classified(results, N, &correct);
	const struct json *e = rig_do(&rig, "evaluate", evaluate_args("c", "train"));
	assert_int_equal((int)num(e, "n"), N - 1);
	assert_int_equal((int)num(e, "correct"), correct);
	assert_true(correct > N / 5);
	args = json_new_obj();
	json_set_str(args, "out", at("sheet.png"));
	rig_do(&rig, "sheet", args);
	assert_true(file_exists(at("sheet.png")));
	rig_stop(&rig);
}

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
	conf.stall_ms = 700;
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, rig.n_ready == 1);
	uint64_t t = rig_send(&rig, "train", long_training("never"));
	RIG_WAIT(&rig, rig.requests[t].n_progress > 2); /* longer than stall_ms: it moves */
	assert_int_equal(rig.n_died, 0);
	/* Paused it may stand still for as long as it likes. */
	rig_do(&rig, "pause", NULL);
	int64_t until = clock_mono_ms() + 900;
	while (clock_mono_ms() < until)
		assert_true(loop_once(rig.loop, 50) >= 0);
	assert_int_equal(rig.n_died, 0);
	rig_do(&rig, "resume", NULL);
	kill(worker_pid(rig.worker), SIGSTOP);
	RIG_WAIT(&rig, rig.n_died == 1);
	assert_int_equal(rig.requests[t].code, -ETIMEDOUT);
	assert_non_null(strstr(rig.why, "hung"));
	RIG_WAIT(&rig, rig.n_ready == 2);
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
		{"echo '{\"id\":77,\"ok\":true,\"result\":{}}' >&3; exec sleep 60", "not outstanding"},
		{"echo '{\"id\":1,\"ok\":true,\"result\":{}}' >&3; exec sleep 60", "garbage: open"},
		{"echo '{\"id\":1,\"ok\":false,\"code\":5,\"error\":\"\"}' >&3; exec sleep 60", "code"},
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
	assert_int_equal(worker_call(&conf, "rescan", NULL, NULL, NULL, NULL, &err), -ENOENT);
}

/* Lines alone are no progress: a step that does not move is a worker that hangs. */
static void test_lines_are_no_progress(void **state)
{
	static const char script[] =
		"#!/bin/sh\nread open <&3\n"
		"h=0000000000000000000000000000000000000000000000000000000000000000\n"
		"echo '{\"id\":1,\"ok\":true,\"result\":{\"images\":{\"train\":1,\"validation\":0,"
		"\"test\":0},\"snapshot\":{\"train\":\"\",\"validation\":\"\",\"test\":\"\"},"
		"\"classes\":10,\"model\":\"'$h'\",\"skipped\":0,\"skipped_names\":[]}}' >&3\n"
		"read train <&3\n"
		"while :; do echo '{\"id\":2,\"event\":\"progress\",\"step\":5,\"steps\":9,"
		"\"loss\":null,\"images_per_second\":1}'; sleep 0.1; done >&3\n";
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	struct err err = {0};
	assert_int_equal(file_write(at("script"), script, sizeof(script) - 1, &err), 0);
	assert_int_equal(chmod(at("script"), 0700), 0);
	snprintf(conf.program, sizeof(conf.program), "%s", at("script"));
	conf.stall_ms = 500;
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
static void refused(const struct worker_conf *conf, const char *expected)
{
	struct rig rig;
	rig_start(&rig, conf);
	RIG_WAIT(&rig, rig.n_died == 2);
	if (!rig.failed_open || !strstr(rig.why, expected))
		fail_msg("found '%s', expected '%s'", rig.why, expected);
	assert_int_equal(rig.n_ready, 0);
	rig_stop(&rig);
}

static void test_refused(void **state)
{
	struct err err = {0};
	struct worker_conf c = conf_of("none.cfg");
	refused(&c, "none.cfg");
	assert_int_equal(file_write(at("bad.cfg"), "[net]\nbatch=x\n", 14, &err), 0);
	c = conf_of("bad.cfg");
	refused(&c, "bad.cfg");
	c = conf_of("model.cfg");
	snprintf(c.data.path, sizeof(c.data.path), "%s", at("nothing"));
	refused(&c, "nothing");
	c = conf_of("model.cfg");
	snprintf(c.engine, sizeof(c.engine), "abacus");
	refused(&c, "abacus");
	c = conf_of("model.cfg");
	c.data.width = 64;
	refused(&c, "data.width");
	c = conf_of("model.cfg");
	snprintf(c.classes, sizeof(c.classes), "%s", at("no-classes"));
	refused(&c, "no-classes");
	c = conf_of("model.cfg");
	c.has_data = false;
	struct json *args = train_args(NULL, "z", 1, 0);
	assert_int_equal(worker_call(&c, "train", args, NULL, NULL, NULL, &err), -ENODATA);
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
	assert_int_equal(rig_ask(&rig, "train", train_args(NULL, "no/folder/z", 1, 0))->code, -ENOENT);
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
		assert_int_equal(rig_ask(&rig, "train", train_args("v", "z", 1, 0))->code, -EBADMSG);
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

static void test_not_finite(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("wild.cfg");
	rig_start(&rig, &conf);
	struct rig_request *q = rig_ask(&rig, "train", train_args(NULL, "wild", 50, 0));
	assert_int_equal(q->code, -EDOM);
	assert_false(file_exists(at("wild")));
	assert_false(file_exists(at("wild.tmp")));
	/* Nothing of it is left in the next one. */
	struct json *calm = train_args(NULL, "calm", 1, 0);
	json_set_num(calm, "learning_rate_scale", 2e-8);
	rig_do(&rig, "train", calm);
	assert_int_equal(rig.n_died, 0);
	rig_stop(&rig);
}

static void test_rescan(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	struct worker_ready ready;
	struct err err = {0};
	snprintf(conf.data.path, sizeof(conf.data.path), "%s", at("growing"));
	assert_int_equal(digits_write(at("growing"), 100, 1, NULL, &err), 0);
	rig_start(&rig, &conf);
	const struct json *r = rig_do(&rig, "rescan", NULL);
	assert_int_equal(worker_ready_parse(r, &ready, &err), 0);
	assert_false(ready.changed);
	assert_string_equal(ready.model, rig.ready.model);
	uint64_t t = rig_send(&rig, "train", long_training("never"));
	RIG_WAIT(&rig, rig.requests[t].progress.step > 0);
	assert_int_equal(digits_write(at("growing"), 150, 2, NULL, &err), 0);
	assert_int_equal(worker_ready_parse(rig_do(&rig, "rescan", NULL), &ready, &err), 0);
	assert_true(ready.changed);
	assert_int_equal(ready.n[SPLIT_TRAIN] + ready.n[SPLIT_VALIDATION], 150);
	assert_string_not_equal(ready.snapshot[SPLIT_TRAIN], rig.ready.snapshot[SPLIT_TRAIN]);
	int64_t step = rig.requests[t].progress.step;
	RIG_WAIT(&rig, rig.requests[t].progress.step > step);
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
	int r = worker_call(&conf, "train", train_args(NULL, "full", 1, 0), NULL, NULL, NULL, &err);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(r, -EFBIG);
	assert_non_null(strstr(err.text, "wrote 4096 of "));
	assert_false(file_exists(at("full")));
	assert_false(file_exists(at("full.tmp")));
}

static void test_out_of_memory(void **state)
{
	struct worker_conf conf = conf_of("big.cfg");
	struct err err = {0};
	char text[2048];
	const char *preload = getenv("LD_PRELOAD");
	/* ASan's shadow memory does not fit into any limit; valgrind keeps limits to itself. */
	if (ASAN || (preload && strstr(preload, "vgpreload")))
		skip();
	int n = snprintf(text, sizeof(text), cfg_head, "0.01");
	n += snprintf(text + n, sizeof(text) - (size_t)n,
		      "[connected]\noutput=8192\nactivation=linear\n"
		      "[connected]\noutput=8192\nactivation=linear\n"
		      "[connected]\noutput=8192\nactivation=linear\n"
		      "[connected]\noutput=10\nactivation=linear\n[softmax]\n");
	assert_int_equal(file_write(at("big.cfg"), text, (size_t)n, &err), 0);
	conf.memory_max_bytes = 400u * 1024 * 1024;
	assert_int_equal(worker_call(&conf, "rescan", NULL, NULL, NULL, NULL, &err), -EIO);
	if (!strstr(err.text, "out of memory"))
		fail_msg("found '%s'", err.text);
	/* The limit is not in the way of what fits. */
	snprintf(conf.cfg, sizeof(conf.cfg), "%s", at("model.cfg"));
	struct json *args = train_args(NULL, "fits", 1, 0);
	if (worker_call(&conf, "train", args, NULL, NULL, NULL, &err) < 0)
		fail_msg("%s", err.text);
}

static void test_log_and_engine(void **state)
{
	struct worker_conf conf = conf_of("model.cfg");
	struct err err = {0};
	struct json *result = NULL;
	char *log, engine[32];
	size_t len;
	snprintf(conf.log_path, sizeof(conf.log_path), "%s", at("log"));
	if (worker_call(&conf, "rescan", NULL, NULL, NULL, &result, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(file_read(at("log"), 1 << 20, &log, &len, &err), 0);
	assert_non_null(strstr(log, "softmax")); /* Darknet's table of layers */
	free(log);
	/* Said only when calls of libdarknet did arrive at what replaces its products. */
	assert_int_equal(json_get_str(result, "engine", engine, sizeof(engine), NULL), 0);
	assert_string_equal(engine, strcmp(GEMM, "openblas") == 0 ? "darknet+openblas" : "darknet");
	json_free(result);
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
	int64_t until = clock_mono_ms() + 5000;
	char state_path[64];
	bool gone = false;
	snprintf(state_path, sizeof(state_path), "/proc/%d/cmdline", pid);
	while (!gone && clock_mono_ms() < until) {
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
		cmocka_unit_test(test_learns),
		cmocka_unit_test(test_reproducible),
		cmocka_unit_test(test_evaluate_same_everywhere),
		cmocka_unit_test(test_in_the_middle),
		cmocka_unit_test(test_middle_changes_nothing),
		cmocka_unit_test(test_blend),
		cmocka_unit_test(test_classify),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_hung),
		cmocka_unit_test(test_not_a_worker),
		cmocka_unit_test(test_lines_are_no_progress),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_not_finite),
		cmocka_unit_test(test_rescan),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_log_and_engine),
		cmocka_unit_test(test_orphan),
	};
	return cmocka_run_group_tests_name("worker", tests, set_up, tear_down);
}

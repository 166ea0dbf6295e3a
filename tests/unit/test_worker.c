/* What tasuki-worker computes, with Darknet, on drawn digits. Run from the build tree. */
#include "worker_rig.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "common/dataset/image.h"
#include "common/engine/worker_protocol.h"

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
			assert_int_equal(json_int(json_at(row, k), 0, n, &v), 0);
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

/* Weights so large that a pool sees minus infinity alone, which the layers after it hide. */
static void test_no_maximum(void **state)
{
	static const char cfg[] =
		"[net]\nbatch=4\nsubdivisions=1\nwidth=28\nheight=28\nchannels=1\n"
		"[convolutional]\nfilters=8\nsize=28\nactivation=linear\n[maxpool]\n"
		"[activation]\nactivation=relu\n[connected]\noutput=10\nactivation=linear\n"
		"[softmax]\n";
	struct rig rig;
	struct err err = {0};
	_cleanup_free_ char *w = NULL;
	size_t len;
	assert_int_equal(file_write(at("pool.cfg"), cfg, strlen(cfg), &err), 0);
	struct worker_conf conf = conf_of("pool.cfg");
	rig_start(&rig, &conf);
	rig_do(&rig, "train", train_args(NULL, "p", 1, 0));
	assert_int_equal(file_read(at("p"), 1 << 20, &w, &len, &err), 0);
	for (size_t i = 8; i < 8 + 8 * 28 * 28; i++)
		memcpy(w + WEIGHTS_HEADER_SIZE + 4 * i, &(float){-3e38f}, 4);
	assert_int_equal(file_write(at("p"), w, len, &err), 0);
	rig_do(&rig, "evaluate", evaluate_args("p", "train"));
	assert_int_equal(rig_ask(&rig, "train", train_args("p", "q", 1, 0))->code, -EDOM);
	assert_false(file_exists(at("q")));
	rig_stop(&rig);
}

/* Threads of the worker. */
static int n_threads(const struct rig *rig)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/task", worker_pid(rig->worker));
	DIR *d = opendir(path);
	assert_non_null(d);
	int n = 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void test_in_the_middle(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	rig_start(&rig, &conf);
	rig_do(&rig, "train", train_args(NULL, "m", 1, 0));
	int threads = n_threads(&rig);
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
	assert_int_equal(n_threads(&rig), threads);
	/* What is not there any more is no error. */
	rig_do(&rig, "stop", target(t));
	rig_stop(&rig);
}

/* A pause is looked at before the next batch, whatever an epoch has left: asked for together with
 * the training, before the first. */
static void test_paused_within_a_batch(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, worker_is_ready(rig.worker));
	pid_t pid = worker_pid(rig.worker); /* it finds both when it looks */
	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	uint64_t t = rig_send(&rig, "train", long_training("never"));
	uint64_t pause = rig_send(&rig, "pause", NULL);
	kill(pid, SIGCONT);
	struct rig_request *q = &rig.requests[t];
	RIG_WAIT(&rig, rig.requests[pause].answered);
	int64_t until_ms = clock_mono_ms() + 3 * WORKER_PROGRESS_MS;
	RIG_WAIT(&rig, clock_mono_ms() > until_ms);
	assert_int_equal(q->n_progress, 0); /* else one has begun */
	rig_do(&rig, "resume", NULL);
	RIG_WAIT(&rig, q->progress.step > 0);
	rig_stop(&rig);
}

/* Steps take their time, in seconds and in fact; requests do not wait for it, nor does it count as
 * standing still. */
static void test_paced(void **state)
{
	enum { STEP_MS = 150, STEPS = 6 };
	char free_id[HASH_SIZE], paced[HASH_SIZE];
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	struct json *args = train_args(NULL, "p", 1, 0);
	trained(conf, args, NULL, free_id);
	conf.step_ms = STEP_MS;
	trained(conf, train_args(NULL, "p", 1, 0), NULL, paced);
	assert_string_equal(free_id, paced);
	conf.step_ms = 60000;
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, worker_is_ready(rig.worker));
	uint64_t t = rig_send(&rig, "train", long_training("never"));
	struct rig_request *q = &rig.requests[t];
	RIG_WAIT(&rig, q->progress.step == 1);
	/* In the middle of a step of a minute. */
	int64_t begun = clock_mono_ms();
	rig_do(&rig, "evaluate", evaluate_args("p", "validation"));
	rig_do(&rig, "pause", NULL);
	rig_do(&rig, "resume", NULL);
	struct json *end = json_new_obj();
	json_set_int(end, "until_ms", clock_mono_ms() + 100);
	rig_do(&rig, "until", end);
	RIG_WAIT(&rig, q->answered);
	assert_int_equal(q->code, -ETIME);
	assert_true(clock_mono_ms() - begun < conf.step_ms);
	rig_stop(&rig);
	conf.step_ms = STEP_MS;
	rig_start(&rig, &conf);
	args = long_training("p");
	json_set_int(args, "steps", STEPS);
	RIG_WAIT(&rig, worker_is_ready(rig.worker));
	begun = clock_mono_ms();
	const struct json *r = rig_do(&rig, "train", args);
	assert_true(clock_mono_ms() - begun >= STEPS * STEP_MS);
	assert_true(num(r, "seconds") >= STEPS * STEP_MS / 1000.);
	assert_true(num(r, "images_per_second") <= 16 * 1000. / STEP_MS);
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

/* Correct ones of an evaluation's outcomes, each image's loss added to `losses`. */
static unsigned read_outcomes(const struct json *e, unsigned n, double *losses)
{
	const char *text;
	unsigned correct = 0;
	assert_int_equal(json_get_text(e, "outcomes", 4 * n, &text, NULL), 0);
	assert_int_equal(strlen(text), 4 * n);
	for (unsigned i = 0; i < n; i++) {
		char one[5] = "", *end;
		memcpy(one, text + 4 * (size_t)i, 4);
		unsigned v = (unsigned)strtoul(one, &end, 16);
		assert_true(*end == 0 && strspn(one, "0123456789abcdef") == 4);
		correct += (v & WORKER_OUTCOME_CORRECT) != 0;
		losses[i] += (v & 0x7fff) * WORKER_OUTCOME_LOSS_MAX / WORKER_OUTCOME_LOSS_STEPS;
	}
	return correct;
}

/* Image by image they add up to the score; not asked for, they are not there. */
static void test_outcomes(void **state)
{
	enum { N = 1000 };
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	rig_start(&rig, &conf);
	rig_do(&rig, "train", train_args(NULL, "o", 5, 0));
	const struct json *e = rig_do(&rig, "evaluate", evaluate_args("o", "train"));
	assert_false(json_has(e, "outcomes"));
	struct json *args = evaluate_args("o", "train");
	json_set_bool(args, "outcomes", true);
	e = rig_do(&rig, "evaluate", args);
	double losses[N] = {0}, sum = 0, worst = 0;
	unsigned n = rig.ready.n[SPLIT_TRAIN], sure = 0;
	assert_true(n > 64 && n < N);
	assert_int_equal(read_outcomes(e, n, losses), (unsigned)num(e, "correct"));
	for (unsigned i = 0; i < n; i++) {
		sum += losses[i];
		sure += losses[i] < 0.6931;
		worst = fmax(worst, losses[i]);
	}
	assert_true(fabs(sum / n - num(e, "loss")) < WORKER_OUTCOME_LOSS_MAX / 60000);
	/* Whose class has more than a half is right. */
	assert_true(sure > n / 4 && sure <= (unsigned)num(e, "correct") && worst > 0.6931);
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
			assert_int_equal(image_write_png(picture(i), pixels, DIGITS_SIDE,
							 DIGITS_SIDE, 1, &err),
					 0);
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

/* Whether the loss or the weights are the first that are no numbers. */
static void test_not_finite(void **state)
{
	static const struct {
		const char *cfg, *engine;
		double calm; /* scale of its learning rate */
	} cases[] = {{"wild.cfg", "darknet", 2e-8},
		     {"wildest.cfg", "darknet", 2e-40},
		     {"wild.cfg", "auto", 2e-8},
		     {"wildest.cfg", "auto", 2e-40}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct rig rig;
		struct worker_conf conf = conf_of(cases[i].cfg);
		snprintf(conf.engine, sizeof(conf.engine), "%s", cases[i].engine);
		rig_start(&rig, &conf);
		struct rig_request *q = rig_ask(&rig, "train", train_args(NULL, "wild", 50, 0));
		assert_int_equal(q->code, -EDOM);
		assert_int_equal(q->category, ERR_DIVERGED);
		assert_false(file_exists(at("wild")));
		assert_false(file_exists(at("wild.tmp")));
		/* Nothing of it is left in the next one. */
		struct json *calm = train_args(NULL, "calm", 1, 0);
		json_set_num(calm, "learning_rate_scale", cases[i].calm);
		rig_do(&rig, "train", calm);
		rig_do(&rig, "evaluate", evaluate_args("calm", "train"));
		assert_int_equal(rig.n_died, 0);
		rig_stop(&rig);
	}
}

/* A learning rate that has come down to 0 stays there. */
static void test_end_of_schedule(void **state)
{
	static const char *const engines[] = {"darknet", "auto"};
	char text[2048];
	struct err err = {0};
	/* Of a key that is there twice the first counts. */
	int n = snprintf(text, sizeof(text), "[net]\npolicy=poly\nmax_batches=3\npower=0.5\n");
	n += snprintf(text + n, sizeof(text) - (size_t)n, cfg_head + strlen("[net]\n"), "0.02");
	n += snprintf(text + n, sizeof(text) - (size_t)n, cfg_layers, "");
	assert_int_equal(file_write(at("poly.cfg"), text, (size_t)n, &err), 0);
	for (size_t i = 0; i < ARRAY_LEN(engines); i++) {
		struct rig rig;
		struct worker_conf conf = conf_of("poly.cfg");
		snprintf(conf.engine, sizeof(conf.engine), "%s", engines[i]);
		rig_start(&rig, &conf);
		rig_do(&rig, "train", train_args(NULL, "poly", 5, 0));
		rig_stop(&rig);
	}
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
	/* Fewer than there are places in the order that was made ahead. */
	assert_int_equal(digits_write(at("growing"), 12, 3, NULL, &err), 0);
	assert_int_equal(worker_ready_parse(rig_do(&rig, "rescan", NULL), &ready, &err), 0);
	assert_int_equal(ready.n[SPLIT_TRAIN] + ready.n[SPLIT_VALIDATION], 12);
	step = rig.requests[t].progress.step;
	RIG_WAIT(&rig, rig.requests[t].progress.step > step);
	assert_int_equal(rig.n_died, 0);
	rig_stop(&rig);
}

/* Images that are read as they are needed train and score as those in memory. */
static void test_memory_limit(void **state)
{
	char held[HASH_SIZE], read[HASH_SIZE];
	double loss[2];
	struct worker_conf conf = conf_of("model.cfg");
	conf.fold = 2;
	trained(conf, train_args(NULL, "h", 2, 0), NULL, held);
	for (int i = 0; i < 2; i++) {
		struct rig rig;
		conf.data.memory_max_bytes = i ? 50 * 28 * 28 : 0;
		rig_start(&rig, &conf);
		loss[i] = num(rig_do(&rig, "evaluate", evaluate_args("h", "train")), "loss");
		rig_stop(&rig);
	}
	assert_true(loss[0] == loss[1]);
	trained(conf, train_args(NULL, "r", 2, 0), NULL, read);
	assert_string_equal(held, read);
}

/* An image that goes meanwhile costs itself in a training, and fails a score of all. */
static void test_image_gone(void **state)
{
	enum { N = 40, GONE = 11 };
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	struct worker_ready ready;
	struct err err = {0};
	char first[ERR_TEXT_MAX];
	assert_int_equal(file_remove(at("pictures"), &err), 0);
	json_free(draw_pictures(N));
	snprintf(conf.data.path, sizeof(conf.data.path), "%s", at("pictures"));
	conf.data.validation_share = 0;
	conf.data.memory_max_bytes = 1;
	rig_start(&rig, &conf);
	assert_false(json_has(rig_do(&rig, "train", train_args(NULL, "g", 1, 0)), "replaced"));
	assert_int_equal(rig.ready.n[SPLIT_TRAIN], N - 1);
	assert_int_equal(unlink(picture(GONE)), 0);
	const struct json *t = rig_do(&rig, "train", train_args(NULL, "g", 1, 0));
	assert_true(num(t, "replaced") >= 1);
	assert_int_equal(json_get_str(t, "replaced_first", first, sizeof(first), NULL), 0);
	assert_non_null(strstr(first, "1/11.png: No such file"));
	struct rig_request *q = rig_ask(&rig, "evaluate", evaluate_args("g", "train"));
	assert_int_equal(q->code, -ESTALE);
	assert_non_null(strstr(q->error, "1/11.png: No such file"));
	assert_int_equal(worker_ready_parse(rig_do(&rig, "rescan", NULL), &ready, &err), 0);
	assert_true(ready.changed);
	const struct json *e = rig_do(&rig, "evaluate", evaluate_args("g", "train"));
	assert_int_equal((int)num(e, "n"), N - 2);
	assert_int_equal(file_remove(at("pictures"), &err), 0);
	q = rig_ask(&rig, "train", train_args(NULL, "g", 1, 0));
	assert_int_equal(q->code, -ESTALE);
	rig_stop(&rig);
}

/* Images that are never shared train what is asked to stay, and leave nothing behind for others. */
static void test_stay(void **state)
{
	enum { N_STAY = 30 };
	char plain[HASH_SIZE], stays[HASH_SIZE], after[HASH_SIZE];
	struct worker_conf conf = conf_of("model.cfg");
	struct err err = {0};
	struct rig rig;
	assert_int_equal(digits_write(at("stay"), N_STAY, 77, NULL, &err), 0);
	trained(conf, train_args(NULL, "s0", 1, 0), NULL, plain);
	trained(conf, train_args("s0", "s1", 2, 1), NULL, plain);
	snprintf(conf.data.stay_path, sizeof(conf.data.stay_path), "%s", at("stay"));
	rig_start(&rig, &conf);
	struct json *args = train_args("s0", "s2", 2, 1);
	json_set_bool(args, "stay", true);
	const struct json *t = rig_do(&rig, "train", args);
	uint32_t n = rig.ready.n[SPLIT_TRAIN];
	assert_int_equal(rig.ready.n_stay, N_STAY);
	assert_int_equal((int)num(t, "steps"), 2 * ((n + N_STAY + 15) / 16));
	id_of(t, stays);
	t = rig_do(&rig, "train", train_args("s0", "s3", 2, 1));
	assert_int_equal((int)num(t, "steps"), 2 * ((n + 15) / 16));
	id_of(t, after);
	assert_string_equal(after, plain);
	assert_string_not_equal(stays, plain);
	assert_int_equal(rig_ask(&rig, "evaluate", evaluate_args("s2", "stay"))->code, -EINVAL);
	/* New ones are noticed. */
	struct worker_ready ready;
	assert_int_equal(digits_write(at("stay"), N_STAY + 5, 78, NULL, &err), 0);
	assert_int_equal(worker_ready_parse(rig_do(&rig, "rescan", NULL), &ready, &err), 0);
	assert_true(ready.changed);
	assert_int_equal(ready.n_stay, N_STAY + 5);
	assert_string_equal(ready.snapshot[SPLIT_TRAIN], rig.ready.snapshot[SPLIT_TRAIN]);
	rig_stop(&rig);
}

static void open_refused(const struct worker_conf *conf, const char *why)
{
	struct rig rig;
	rig_start(&rig, conf);
	RIG_WAIT(&rig, rig.n_died);
	assert_true(rig.failed_open);
	if (!strstr(rig.why, why))
		fail_msg("'%s' does not say '%s'", rig.why, why);
	rig_stop(&rig);
}

/* Names of the outputs after the public list's: they count in data and scores, not in the model. */
static void test_private_classes(void **state)
{
	enum { N = 40 };
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	struct err err = {0};
	char public_model[HASH_SIZE];
	const struct json *classes;
	const char *name;
	file_remove(at("pictures"), NULL);
	json_free(draw_pictures(N));
	assert_int_equal(file_write(at("public.txt"), "0\n1\n2\n3\n4\n5\n6\n", 14, &err), 0);
	assert_int_equal(file_write(at("private.txt"), "9\n8\n7\n", 6, &err), 0);
	snprintf(conf.data.path, sizeof(conf.data.path), "%s", at("pictures"));
	snprintf(conf.classes, sizeof(conf.classes), "%s", at("public.txt"));
	open_refused(&conf, "pictures/7: class folder is not in the class list");
	snprintf(conf.private_classes, sizeof(conf.private_classes), "%s", at("private.txt"));
	rig_start(&rig, &conf);
	rig_do(&rig, "train", train_args(NULL, "p", 1, 0));
	assert_int_equal(rig.ready.classes, 10);
	memcpy(public_model, rig.ready.model, HASH_SIZE);
	const struct json *e = rig_do(&rig, "evaluate", evaluate_args("p", "train"));
	assert_int_equal(json_get_arr(e, "per_class", 10, &classes, NULL), 0);
	assert_int_equal(json_len(classes), 10);
	assert_int_equal(json_get_text(json_at(classes, 7), "name", 9, &name, NULL), 0);
	assert_string_equal(name, "9");
	rig_stop(&rig);
	/* The model is that of the public list. */
	conf.private_classes[0] = 0;
	conf.has_data = false;
	rig_start(&rig, &conf);
	RIG_WAIT(&rig, rig.n_ready);
	assert_string_equal(rig.ready.model, public_model);
	rig_stop(&rig);
	/* What does not fit is refused, by name. */
	snprintf(conf.private_classes, sizeof(conf.private_classes), "%s", at("none.txt"));
	open_refused(&conf, "none.txt");
	snprintf(conf.private_classes, sizeof(conf.private_classes), "%s", at("private.txt"));
	assert_int_equal(file_write(at("private.txt"), "9\n3\n", 4, &err), 0);
	open_refused(&conf, "private.txt: '3' is in the public class list, too");
	assert_int_equal(file_write(at("private.txt"), "a\nb\nc\nd\n", 8, &err), 0);
	open_refused(&conf, "private.txt: 4 names, but ");
	conf.classes[0] = 0;
	open_refused(&conf, "private.txt: names after those of a class list");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_maximum),
		cmocka_unit_test(test_learns),
		cmocka_unit_test(test_reproducible),
		cmocka_unit_test(test_evaluate_same_everywhere),
		cmocka_unit_test(test_in_the_middle),
		cmocka_unit_test(test_paused_within_a_batch),
		cmocka_unit_test(test_paced),
		cmocka_unit_test(test_middle_changes_nothing),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_classify),
		cmocka_unit_test(test_not_finite),
		cmocka_unit_test(test_end_of_schedule),
		cmocka_unit_test(test_rescan),
		cmocka_unit_test(test_memory_limit),
		cmocka_unit_test(test_image_gone),
		cmocka_unit_test(test_stay),
		cmocka_unit_test(test_private_classes),
	};
	return cmocka_run_group_tests_name("worker", tests, set_up, tear_down);
}

/* absent = mask, through the worker: classes without training images, spare outputs, and images
 * that come and go. The device has pictures of digits 0 to 6; the class list has nine names, 0 to
 * 8; the network has ten outputs. */
#include "worker_rig.h"

#include <errno.h>

#include "common/dataset/image.h"

static const char *const engines[] = {"darknet", "auto"};

static void draw_in(const char *folder, int digit, int n)
{
	uint8_t pixels[DIGITS_SIDE * DIGITS_SIDE];
	char name[48];
	snprintf(name, sizeof(name), "%s/%d", folder, digit);
	assert_int_equal(file_mkdirs(at(name), NULL), 0);
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s/%d/%d.png", folder, digit, i);
		digits_draw(7, (uint64_t)(10 * i), digit, pixels);
		assert_int_equal(
			image_write_png(at(name), pixels, DIGITS_SIDE, DIGITS_SIDE, 1, NULL), 0);
	}
}

static void draw(int digit, int n)
{
	draw_in("pictures", digit, n);
}

static int set_up_pictures(void **state)
{
	static const char names[] = "0\n1\n2\n3\n4\n5\n6\n7\n8\n";
	if (set_up(state) < 0 || file_write(at("classes.txt"), names, strlen(names), NULL) < 0)
		return -1;
	for (int digit = 0; digit < 7; digit++)
		draw(digit, 20);
	return 0;
}

static struct worker_conf masked(const char *engine, const char *absent)
{
	struct worker_conf c = conf_of("model.cfg");
	snprintf(c.data.path, sizeof(c.data.path), "%s", at("pictures"));
	snprintf(c.classes, sizeof(c.classes), "%s", at("classes.txt"));
	snprintf(c.engine, sizeof(c.engine), "%s", engine);
	snprintf(c.absent, sizeof(c.absent), "%s", absent);
	return c;
}

/* The outputs whose rows of the last layer, a connected one, are alike in both files: an x each. */
static const char *same_rows(const char *a, const char *b)
{
	static char same[11];
	_cleanup_(model_freep) struct model *m = NULL;
	_cleanup_free_ char *x = NULL, *y = NULL;
	size_t n;
	assert_int_equal(model_load(at("model.cfg"), NULL, 0, &m, NULL), 0);
	assert_int_equal(file_read(at(a), m->file_bytes, &x, &n, NULL), 0);
	assert_int_equal(file_read(at(b), m->file_bytes, &y, &n, NULL), 0);
	strcpy(same, "xxxxxxxxxx");
	for (size_t t = m->n_tensors - 2; t < m->n_tensors; t++) {
		size_t row = 4 * m->tensors[t].count / 10;
		for (size_t i = 0; i < 10; i++) {
			size_t from = WEIGHTS_HEADER_SIZE + 4 * m->tensors[t].offset + i * row;
			if (memcmp(x + from, y + from, row) != 0)
				same[i] = '-';
		}
	}
	return same;
}

/* Weights whose outputs 7 to 9 are sure of every image. */
static void make_loud(const char *from, const char *to)
{
	_cleanup_(model_freep) struct model *m = NULL;
	_cleanup_free_ char *x = NULL;
	size_t n;
	const float loud[] = {20, 20, 40};
	assert_int_equal(model_load(at("model.cfg"), NULL, 0, &m, NULL), 0);
	assert_int_equal(file_read(at(from), m->file_bytes, &x, &n, NULL), 0);
	memcpy(x + WEIGHTS_HEADER_SIZE + 4 * (m->tensors[m->n_tensors - 2].offset + 7), loud,
	       sizeof(loud));
	assert_int_equal(file_write(at(to), x, n, NULL), 0);
}

static void test_training(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(engines); i++) {
		struct rig rig;
		struct worker_conf conf = masked(engines[i], "mask");
		rig_start(&rig, &conf);
		rig_do(&rig, "train", train_args(NULL, "first", 1, 0));
		make_loud("first", "base");
		const struct json *t = rig_do(&rig, "train", train_args("base", "out", 5, 0));
		/* Nobody else is loud: it learns as if there were no such outputs. */
		assert_true(num(t, "loss") < 2);
		assert_string_equal(same_rows("base", "out"), "-------xxx");
		/* On with the live network, and in another process: the same. */
		char live[HASH_SIZE], anew[HASH_SIZE], path[FILE_PATH_MAX];
		struct json *args = train_args("base", "half", 2, 0);
		json_set_str(args, "momentum", at("half.momentum"));
		rig_do(&rig, "train", args);
		snprintf(path, sizeof(path), "%s", at("half.momentum"));
		id_of(rig_do(&rig, "train", train_args("half", "live", 2, 2)), live);
		assert_string_equal(same_rows("base", "live"), "-------xxx");
		rig_stop(&rig);
		rig_start(&rig, &conf);
		args = train_args("half", "anew", 2, 2);
		json_set_str(args, "momentum", path);
		id_of(rig_do(&rig, "train", args), anew);
		assert_string_equal(live, anew);
		/* A new network's rows are as they were drawn, whatever it was trained for. */
		rig_do(&rig, "train", train_args(NULL, "short", 1, 0));
		rig_do(&rig, "train", train_args(NULL, "longer", 4, 0));
		assert_string_equal(same_rows("short", "longer"), "-------xxx");
		rig_stop(&rig);
		/* As Darknet does: what has no image is unlearned. */
		conf = masked(engines[i], "train");
		rig_start(&rig, &conf);
		rig_do(&rig, "train", train_args("base", "plain", 1, 0));
		assert_string_equal(same_rows("base", "plain"), "----------");
		rig_stop(&rig);
	}
}

static int classified(struct rig *rig, const char *weights)
{
	struct json *args = json_new_obj(), *images = json_new_arr();
	const struct json *results;
	json_push_str(images, at("pictures/3/0.png"));
	json_set_str(args, "weights", at(weights));
	json_set(args, "images", images);
	const struct json *r = rig_do(rig, "classify", args);
	assert_int_equal(json_get_arr(r, "results", 1, &results, NULL), 0);
	return (int)num(json_at(results, 0), "class");
}

/* In use, what has a name takes part, with images or without, and nothing else does. */
static void test_evaluation(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(engines) * 2; i++) {
		bool mask = i % 2;
		struct rig rig;
		struct worker_conf conf = masked(engines[i / 2], mask ? "mask" : "");
		rig_start(&rig, &conf);
		int class = classified(&rig, "base");
		assert_int_equal(rig.ready.classes, 9);
		assert_true(mask ? class == 7 || class == 8 : class == 9);
		const struct json *e = rig_do(&rig, "evaluate", evaluate_args("base", "train"));
		/* The one without a name is 20 louder than the loudest with one. */
		assert_true(mask ? num(e, "loss") < 25 : num(e, "loss") > 27);
		rig_stop(&rig);
	}
}

/* Images come while it trains: their output goes on from where it was. They go: it stays there. */
static void test_images_change(void **state)
{
	struct rig rig;
	struct worker_conf conf = masked("auto", "mask");
	conf.data.validation_share = 0;
	conf.step_ms = 30; /* it shall not be over before it is paused */
	rig_start(&rig, &conf);
	uint64_t t = 0;
	for (int come = 1; come >= 0; come--) {
		RIG_WAIT(&rig, worker_is_ready(rig.worker));
		t = rig_send(&rig, "train",
			     train_args(come ? "first" : "come", come ? "come" : "gone", 12, 0));
		RIG_WAIT(&rig, rig.requests[t].n_progress && rig.requests[t].progress.step > 2);
		/* However long it takes to draw them. */
		rig_do(&rig, "pause", NULL);
		if (come)
			draw(8, 20);
		else
			assert_int_equal(file_remove(at("pictures/8"), NULL), 0);
		rig_do(&rig, "rescan", NULL);
		assert_false(rig.requests[t].answered);
		rig_do(&rig, "resume", NULL);
		RIG_WAIT(&rig, rig.requests[t].answered);
		if (rig.requests[t].code)
			fail_msg("%s", rig.requests[t].error);
	}
	assert_string_equal(same_rows("first", "come"), "-------x-x");
	assert_string_equal(same_rows("first", "gone"), "-------x-x");
	assert_string_equal(same_rows("come", "gone"),
			    "-------x-x"); /* it learned some steps more */
	rig_stop(&rig);
}

/* Said when it is opened, with what is wrong. */
static void test_refused(void **state)
{
	static const struct {
		const char *absent, *end, *text;
	} cases[] = {
		{"masked", "[connected]\noutput=10\n[softmax]\n",
		 "absent: found 'masked', expected train or mask"},
		{"mask", "[convolutional]\nfilters=2\nsize=1\n[softmax]\n",
		 "no layer whose weights have one row for each of the 1568 outputs"},
		{"mask", "[connected]\noutput=10\n[softmax]\ngroups=2\n", "in groups"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[1024];
		struct rig rig;
		struct worker_conf conf = masked("auto", cases[i].absent);
		int n = snprintf(text, sizeof(text), cfg_head, "0.02");
		snprintf(text + n, sizeof(text) - (size_t)n, "%s", cases[i].end);
		assert_int_equal(file_write(at("end.cfg"), text, strlen(text), NULL), 0);
		snprintf(conf.cfg, sizeof(conf.cfg), "%s", at("end.cfg"));
		rig_start(&rig, &conf);
		RIG_WAIT(&rig, rig.n_died == 1);
		if (!rig.failed_open || !strstr(rig.why, cases[i].text))
			fail_msg("found '%s', expected '%s'", rig.why, cases[i].text);
		assert_int_equal(rig.category, ERR_CONF);
		rig_stop(&rig);
	}
}

/* A class that only images have that are never shared: there for the trainings that visit them. */
static void test_stay(void **state)
{
	draw_in("stay", 7, 20);
	for (size_t i = 0; i < ARRAY_LEN(engines); i++) {
		struct rig rig;
		struct worker_conf conf = masked(engines[i], "mask");
		snprintf(conf.data.stay_path, sizeof(conf.data.stay_path), "%s", at("stay"));
		rig_start(&rig, &conf);
		rig_do(&rig, "train", train_args(NULL, "base", 1, 0));
		struct json *args = train_args("base", "stays", 2, 0);
		json_set_bool(args, "stay", true);
		rig_do(&rig, "train", args);
		assert_string_equal(same_rows("base", "stays"), "--------xx");
		rig_do(&rig, "train", train_args("base", "out", 2, 0));
		assert_string_equal(same_rows("base", "out"), "-------xxx");
		rig_stop(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_training),
		cmocka_unit_test(test_evaluation),
		cmocka_unit_test(test_images_change),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_stay),
	};
	return cmocka_run_group_tests_name("worker_absent", tests, set_up_pictures, tear_down);
}

/* What tasuki-worker makes of other weights: blends, merges; and settled ones. */
#include "worker_rig.h"

#include <errno.h>

static const char deep_cfg[] =
	"[net]\nbatch=16\nsubdivisions=1\nwidth=28\nheight=28\nchannels=1\n"
	"learning_rate=0.05\npolicy=constant\nmomentum=0.9\ndecay=0.0005\n"
	"[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
	"[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\nstride=2\npad=1\nactivation="
	"leaky\n"
	"[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\nstride=2\npad=1\nactivation="
	"leaky\n"
	"[dropout]\nprobability=.1\n"
	"[connected]\noutput=30\nbatch_normalize=1\nactivation=leaky\n"
	"[connected]\noutput=10\nactivation=linear\n[softmax]\n";

static const char plain_cfg[] = "[net]\nbatch=16\nsubdivisions=1\nwidth=28\nheight=28\nchannels=1\n"
				"[connected]\noutput=10\nactivation=linear\n[softmax]\n";

static int set_up_deep(void **state)
{
	return set_up(state) < 0 ||
			       file_write(at("deep.cfg"), deep_cfg, strlen(deep_cfg), NULL) < 0 ||
			       file_write(at("plain.cfg"), plain_cfg, strlen(plain_cfg), NULL) < 0
		       ? -1
		       : 0;
}

static struct json *blend_args(double alpha, bool settle)
{
	struct json *j = json_new_obj();
	json_set_str(j, "a", at("a"));
	json_set_str(j, "b", at("b"));
	json_set_num(j, "alpha", alpha);
	json_set_bool(j, "settle", settle);
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
		id_of(rig_do(&rig, "blend", blend_args(alphas[i], false)), id);
		check_weights("model.cfg", "ab", seen, id);
		loss[i] = num(rig_do(&rig, "evaluate", evaluate_args("ab", "train")), "loss");
	}
	assert_true(loss[0] == a && loss[1] == b && loss[2] != a && loss[2] != b);
	assert_int_equal(rig_ask(&rig, "blend", blend_args(1.5, false))->code, -ERANGE);
	rig_stop(&rig);
}

static struct json *merge_args(const char *const *names, const double *shares, size_t n)
{
	struct json *j = json_new_obj(), *list = json_new_arr();
	for (size_t i = 0; i < n; i++) {
		struct json *one = json_new_obj();
		json_set_str(one, "weights", at(names[i]));
		json_set_num(one, "share", shares[i]);
		json_push(list, one);
	}
	json_set(j, "inputs", list);
	json_set_str(j, "out", at("merged"));
	return j;
}

static struct json *noise_args(double clip, double noise, int64_t first_row)
{
	struct json *j = json_new_obj();
	json_set_str(j, "weights", at("a"));
	json_set_str(j, "base", at("b"));
	json_set_str(j, "out", at("ab"));
	json_set_num(j, "clip", clip);
	json_set_num(j, "noise", noise);
	if (first_row >= 0)
		json_set_int(j, "first_row", first_row);
	return j;
}

/* The mechanism is tested in test_weights_noise.c; here what the request makes of it. */
static void test_noise(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	char whole[HASH_SIZE], id[HASH_SIZE], again[HASH_SIZE];
	rig_start(&rig, &conf);
	rig_do(&rig, "train", train_args(NULL, "b", 1, 0));
	const struct json *r = rig_do(&rig, "train", train_args("b", "a", 1, 1));
	uint64_t seen = (uint64_t)num(r, "seen");
	id_of(r, whole);
	r = rig_do(&rig, "noise", noise_args(1e9, 0, -1));
	double norm = num(r, "norm");
	assert_true(norm > 0);
	id_of(r, id);
	assert_string_equal(id, whole);
	id_of(rig_do(&rig, "noise", noise_args(norm, 0.001, 9)), id);
	check_weights("model.cfg", "ab", seen, id);
	id_of(rig_do(&rig, "noise", noise_args(norm, 0.001, 9)), again);
	assert_string_not_equal(id, again);
	rig_do(&rig, "evaluate", evaluate_args("ab", "train"));
	assert_int_equal(rig_ask(&rig, "noise", noise_args(0, 1, -1))->code, -ERANGE);
	assert_int_equal(rig_ask(&rig, "noise", noise_args(1, -1, -1))->code, -ERANGE);
	assert_int_equal(rig_ask(&rig, "noise", noise_args(1, 1e-5, -1))->code, -EINVAL);
	assert_int_equal(rig_ask(&rig, "noise", noise_args(1, 1, 11))->code, -ERANGE);
	rig_stop(&rig);
}

static void test_merge(void **state)
{
	static const char *const names[] = {"a", "b", "nowhere"};
	const double shares[] = {3, 1, 1}, wrong[] = {1, -1};
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	char id[HASH_SIZE];
	rig_start(&rig, &conf);
	uint64_t seen = (uint64_t)num(rig_do(&rig, "train", train_args(NULL, "a", 1, 0)), "seen");
	rig_do(&rig, "train", train_args("a", "b", 4, 1));
	id_of(rig_do(&rig, "merge", merge_args(names, shares, 2)), id);
	check_weights("model.cfg", "merged", seen, id);
	const double others[] = {1, 3};
	char other[HASH_SIZE];
	id_of(rig_do(&rig, "merge", merge_args(names, others, 2)), other);
	assert_string_not_equal(id, other); /* the shares count */
	assert_int_equal(rig_ask(&rig, "merge", merge_args(names, shares, 3))->code, -ENOENT);
	assert_int_equal(rig_ask(&rig, "merge", merge_args(names, shares, 1))->code, -EINVAL);
	assert_int_equal(rig_ask(&rig, "merge", merge_args(names, wrong, 2))->code, -ERANGE);
	struct json *args = json_new_obj();
	json_set_str(args, "out", at("merged"));
	assert_int_equal(rig_ask(&rig, "merge", args)->code, -ENOENT);
	rig_stop(&rig);
}

static double accuracy(struct rig *rig, const char *weights)
{
	return num(rig_do(rig, "evaluate", evaluate_args(weights, "test")), "accuracy");
}

static struct json *settled_blend(const char *out)
{
	struct json *j = blend_args(.5, true);
	json_set_str(j, "out", at(out));
	return j;
}

/* Rolling statistics of two files are so far apart, relative to their size; all else is alike to
 * the bit. */
static double statistics_apart(const char *a, const char *b)
{
	_cleanup_(model_freep) struct model *m = NULL;
	_cleanup_free_ char *x = NULL, *y = NULL;
	size_t n, i = 0;
	double difference = 0, size = 0;
	assert_int_equal(model_load(at("deep.cfg"), NULL, 0, &m, NULL), 0);
	assert_int_equal(file_read(at(a), m->file_bytes, &x, &n, NULL), 0);
	assert_int_equal(file_read(at(b), m->file_bytes, &y, &n, NULL), 0);
	assert_memory_equal(x, y, WEIGHTS_HEADER_SIZE);
	for (const struct tensor *t = m->tensors; t < m->tensors + m->n_tensors; t++) {
		bool statistic = t->kind == TENSOR_MEAN || t->kind == TENSOR_VARIANCE;
		const char *p = x + WEIGHTS_HEADER_SIZE + 4 * t->offset, *q = y + (p - x);
		if (!statistic)
			assert_memory_equal(p, q, 4 * t->count);
		for (i = 0; statistic && i < t->count; i++) {
			float f, g;
			memcpy(&f, p + 4 * i, 4);
			memcpy(&g, q + 4 * i, 4);
			difference += fabs((double)f - (double)g);
			size += fabs((double)f);
		}
	}
	return difference / size;
}

/* Of two networks whose statistics are behind their weights (Darknet's functions leave them so)
 * nothing good can be blended; measured anew, with either engine, they are those of the blend. */
static void test_settle(void **state)
{
	static const char *const engines[] = {"darknet", "auto"};
	for (size_t i = 0; i < ARRAY_LEN(engines); i++) {
		struct rig rig;
		struct worker_conf conf = conf_of("deep.cfg");
		snprintf(conf.engine, sizeof(conf.engine), "%s", engines[i]);
		conf.fold = 2;
		rig_start(&rig, &conf);
		if (i == 0) {
			rig_do(&rig, "train", train_args(NULL, "base", 1, 0));
			rig_do(&rig, "train", train_args("base", "a", 2, 1));
			struct json *other = train_args("base", "b", 2, 1);
			json_set_int(other, "seed", 77);
			rig_do(&rig, "train", other);
		}
		rig_do(&rig, "blend", blend_args(.5, false));
		double before = accuracy(&rig, "ab");
		uint64_t id = rig_send(&rig, "blend", settled_blend(engines[i]));
		RIG_WAIT(&rig, rig.requests[id].answered);
		assert_int_equal(rig.requests[id].code, 0);
		double after = accuracy(&rig, engines[i]);
		print_message("%s: accuracy %.3f, settled %.3f\n", rig.ready.engine, before, after);
		assert_true(after > before + .1);
		rig_stop(&rig);
	}
	assert_false(file_exists(at("darknet.unsettled")));
	assert_true(statistics_apart("darknet", "ab") > .1);
	assert_true(statistics_apart("darknet", "auto") < 1e-3);
}

/* A merge is settled like a blend of the same. */
static void test_settle_merge(void **state)
{
	static const char *const names[] = {"a", "b"};
	const double shares[] = {1, 1};
	struct rig rig;
	struct worker_conf conf = conf_of("deep.cfg");
	char a[HASH_SIZE], b[HASH_SIZE];
	rig_start(&rig, &conf);
	struct json *args = merge_args(names, shares, 2);
	json_set_bool(args, "settle", true);
	id_of(rig_do(&rig, "blend", blend_args(.5, true)), a);
	id_of(rig_do(&rig, "merge", args), b);
	assert_string_equal(a, b);
	assert_int_equal(rig_ask(&rig, "blend", blend_args(1.5, true))->code, -ERANGE);
	rig_stop(&rig);
	/* Nothing to measure on. */
	conf.has_data = false;
	rig_start(&rig, &conf);
	struct rig_request *q = rig_ask(&rig, "blend", blend_args(.5, true));
	assert_int_equal(q->code, -ENODATA);
	assert_non_null(strstr(q->error, "settle: "));
	rig_stop(&rig);
}

/* A training goes on as if nothing had been, dropout included; a job that is stopped leaves
 * nothing. */
static void test_settle_in_the_middle(void **state)
{
	static const char *const engines[] = {"darknet", "auto"};
	for (size_t i = 0; i < ARRAY_LEN(engines); i++) {
		struct rig rig;
		struct worker_conf conf = conf_of("deep.cfg");
		char alone[HASH_SIZE], disturbed[HASH_SIZE];
		snprintf(conf.engine, sizeof(conf.engine), "%s", engines[i]);
		/* Long enough to say how far it is, however late the thread that says so. */
		conf.step_ms = 50;
		rig_start(&rig, &conf);
		id_of(rig_do(&rig, "train", train_args(NULL, "alone", 8, 0)), alone);
		uint64_t t = rig_send(&rig, "train", train_args(NULL, "disturbed", 8, 0));
		RIG_WAIT(&rig, rig.requests[t].n_progress);
		rig_do(&rig, "blend", settled_blend("x"));
		assert_false(rig.requests[t].answered);
		uint64_t blend = rig_send(&rig, "blend", settled_blend("y"));
		rig_do(&rig, "stop", target(blend));
		assert_true(rig.requests[blend].answered);
		if (rig.requests[blend].code == -ECANCELED)
			assert_false(file_exists(at("y")));
		assert_false(file_exists(at("y.unsettled")));
		RIG_WAIT(&rig, rig.requests[t].answered);
		id_of(rig.requests[t].result, disturbed);
		assert_string_equal(alone, disturbed);
		assert_int_equal(rig.n_died, 0);
		rig_stop(&rig);
		unlink(at("y"));
	}
}

/* The last one: its weights are of another model. */
static void test_nothing_to_settle(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("plain.cfg");
	char a[HASH_SIZE], b[HASH_SIZE];
	rig_start(&rig, &conf);
	rig_do(&rig, "train", train_args(NULL, "a", 1, 0));
	rig_do(&rig, "train", train_args("a", "b", 1, 1));
	id_of(rig_do(&rig, "blend", blend_args(.5, true)), a);
	id_of(rig_do(&rig, "blend", blend_args(.5, false)), b);
	assert_string_equal(a, b);
	rig_stop(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blend),
		cmocka_unit_test(test_noise),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_settle),
		cmocka_unit_test(test_settle_merge),
		cmocka_unit_test(test_settle_in_the_middle),
		cmocka_unit_test(test_nothing_to_settle),
	};
	return cmocka_run_group_tests_name("worker_combine", tests, set_up_deep, tear_down);
}

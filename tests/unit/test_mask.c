/* Outputs that are left out: with either engine, and either kind of end, they learn nothing, change
 * nothing, and are saved as they were; the others learn what they would learn without them. */
#include "ckpt_util.h"

#include <errno.h>
#include <math.h>
#include <unistd.h>

#include "common/checkpoint/weights.h"
#include "common/engine/gemm.h"
#include "common/engine/network.h"

#define OUTPUTS   7
#define TOLERANCE 2e-4

/* %d: outputs. */
#define CONVOLUTION "[convolutional]\nfilters=%d\nsize=1\n"
static const char *const ends[] = {
	"[connected]\noutput=%d\nactivation=linear\n[softmax]\n",
	"[connected]\noutput=%d\nactivation=leaky\nbatch_normalize=1\n[softmax]\n[cost]\n",
	CONVOLUTION "activation=linear\n[avgpool]\n[softmax]\n",
	CONVOLUTION "activation=leaky\nbatch_normalize=1\n[avgpool]\n[softmax]\n",
	/* Its gradient is one of what it puts out, and not finite for what a mask puts there. */
	"[connected]\noutput=%d\nactivation=logistic\n[softmax]\n",
};

static const enum dnet_engine engines[] = {DNET_DARKNET, DNET_AUTO};

static char path_a[FILE_PATH_MAX], path_b[FILE_PATH_MAX];

static int set_up(void **state)
{
	return util_dir(state) | file_path(path_a, sizeof(path_a), "%s/a", (char *)*state) |
	       file_path(path_b, sizeof(path_b), "%s/b", (char *)*state);
}

struct net {
	struct model *m;
	struct dnet *d;
};

static struct net net_of(const char *end, int outputs, enum dnet_engine engine,
			 enum dnet_precision precision, bool training)
{
	struct net n = {0};
	struct err err = {0};
	char cfg[1024], tail[256];
	const struct dnet_conf conf = {
		.engine = engine, .precision = precision, .threads = 1, .training = training};
	snprintf(tail, sizeof(tail), end, outputs);
	snprintf(cfg, sizeof(cfg),
		 "[net]\nbatch=6\nsubdivisions=2\nwidth=8\nheight=8\nchannels=3\n"
		 "learning_rate=0.1\nmomentum=0.9\ndecay=0.01\npolicy=constant\n"
		 "[convolutional]\nbatch_normalize=1\nfilters=16\nsize=3\nstride=2\npad=1\n"
		 "activation=leaky\n%s",
		 tail);
	n.m = util_model(cfg, 0);
	if (dnet_new(n.m, cfg, strlen(cfg), &conf, &n.d, &err) < 0)
		fail_msg("%s", err.text);
	return n;
}

static struct net net_new(const char *end, int outputs, enum dnet_engine engine, bool training)
{
	return net_of(end, outputs, engine, DNET_F32, training);
}

static void net_free(struct net *n)
{
	dnet_free(n->d);
	model_free(n->m);
}

static void load(struct net *n, const char *path)
{
	char id[HASH_SIZE];
	uint64_t seen;
	struct err err = {0};
	if (dnet_load(n->d, path, &seen, id, &err) < 0)
		fail_msg("%s", err.text);
	dnet_schedule(n->d, 0);
}

static void leave_out(struct net *n, const char *outputs)
{
	bool left_out[OUTPUTS];
	struct err err = {0};
	for (size_t i = 0; i < OUTPUTS; i++)
		left_out[i] = outputs[i] == 'x';
	if (dnet_leave_out(n->d, left_out, &err) < 0)
		fail_msg("%s", err.text);
}

/* Labels from..to. */
static void train(struct net *n, int steps, uint32_t from, uint32_t to)
{
	struct rng r;
	double loss;
	rng_init(&r, 5);
	for (int i = 0; i < 2 * steps; i++) {
		for (uint32_t slot = 0; slot < dnet_batch(n->d); slot++) {
			float *x = dnet_input(n->d, slot);
			uint32_t label = from + (uint32_t)(rng_u64(&r) % (to - from + 1));
			for (int k = 0; k < 8 * 8 * 3; k++)
				x[k] = (float)(rng_unit(&r) * .5 + .1 * label);
			dnet_label(n->d, slot, label);
		}
		dnet_train(n->d, &loss);
		assert_true(isfinite(loss));
	}
}

static uint8_t *saved(struct net *n)
{
	char id[HASH_SIZE], *data = NULL;
	struct err err = {0};
	size_t len;
	if (dnet_save(n->d, path_b, 1, id, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(file_read(path_b, n->m->file_bytes, &data, &len, NULL), 0);
	return (uint8_t *)data;
}

/* Rows of the last layer that are alike in both files, as an x each; a row is of all the
 * layer's tensors. */
static void same_rows(const struct model *m, const uint8_t *a, const uint8_t *b, char *out)
{
	int last = m->tensors[m->n_tensors - 1].layer;
	memset(out, 'x', OUTPUTS);
	out[OUTPUTS] = 0;
	for (size_t t = 0; t < m->n_tensors; t++) {
		const struct tensor *x = &m->tensors[t];
		size_t row = 4 * x->count / x->rows;
		for (size_t i = 0; x->layer == last && i < OUTPUTS; i++) {
			size_t at = WEIGHTS_HEADER_SIZE + 4 * x->offset + i * row;
			if (memcmp(a + at, b + at, row) != 0)
				out[i] = '-';
		}
	}
}

/* Momentum of the last layer: of which outputs there is none at all. */
static void still_rows(const struct net *n, char *out)
{
	size_t floats = dnet_momentum_floats(n->d), own = 0, at;
	_cleanup_free_ float *m = calloc(floats, sizeof(*m));
	dnet_momentum_get(n->d, m);
	memset(out, 'x', OUTPUTS);
	out[OUTPUTS] = 0;
	for (size_t t = 0; t < n->m->n_tensors; t++) {
		const struct tensor *x = &n->m->tensors[t];
		if (x->layer == n->m->tensors[n->m->n_tensors - 1].layer &&
		    x->kind != TENSOR_MEAN && x->kind != TENSOR_VARIANCE)
			own += x->count;
	}
	/* Biases, scales if there are any, weights: each in rows. */
	size_t row = own / OUTPUTS, single = 1;
	bool norm = n->m->tensors[n->m->n_tensors - 1].kind == TENSOR_VARIANCE ||
		    n->m->tensors[n->m->n_tensors - 2].kind == TENSOR_VARIANCE;
	single += norm;
	at = floats - own;
	for (size_t i = 0; i < own; i++) {
		size_t output = i < single * OUTPUTS ? i % OUTPUTS
						     : (i - single * OUTPUTS) / (row - single);
		if (m[at + i] != 0)
			out[output] = '-';
	}
}

static void rows_stay(enum dnet_engine engine, enum dnet_precision precision)
{
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		struct net n = net_of(ends[i], OUTPUTS, engine, precision, true);
		_cleanup_free_ uint8_t *base = util_weights(n.m, 3, 5);
		char same[OUTPUTS + 1];
		util_write(path_a, base, n.m->file_bytes);
		load(&n, path_a);
		leave_out(&n, "-----xx");
		train(&n, 4, 0, 4);
		_cleanup_free_ uint8_t *out = saved(&n);
		same_rows(n.m, base, out, same);
		assert_string_equal(same, "-----xx");
		still_rows(&n, same);
		assert_string_equal(same, "-----xx");
		/* Another training of the same network, from where it is. */
		train(&n, 2, 0, 4);
		_cleanup_free_ uint8_t *more = saved(&n);
		same_rows(n.m, base, more, same);
		assert_string_equal(same, "-----xx");
		same_rows(n.m, out, more, same);
		assert_string_equal(same, "-----xx");
		net_free(&n);
	}
}

static void test_rows_stay(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(engines); i++)
		rows_stay(engines[i], DNET_F32);
}

static void test_rows_stay_bf16(void **state)
{
	if (!dnet_has_bf16())
		skip();
	rows_stay(DNET_AUTO, DNET_BF16);
}

/* One that comes back goes on from where it was; one that goes stays where it is then. */
static void test_changes(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(ends) * ARRAY_LEN(engines); i++) {
		struct net n = net_new(ends[i / 2], OUTPUTS, engines[i % 2], true);
		_cleanup_free_ uint8_t *base = util_weights(n.m, 3, 5);
		char same[OUTPUTS + 1];
		util_write(path_a, base, n.m->file_bytes);
		load(&n, path_a);
		leave_out(&n, "----xxx");
		train(&n, 3, 0, 3);
		leave_out(&n, "x----xx");
		_cleanup_free_ uint8_t *then = saved(&n);
		same_rows(n.m, base, then, same);
		assert_string_equal(same, "----xxx");
		train(&n, 3, 1, 4);
		_cleanup_free_ uint8_t *out = saved(&n);
		same_rows(n.m, base, out, same);
		assert_string_equal(same, "-----xx");
		same_rows(n.m, then, out, same);
		assert_string_equal(same, "x----xx");
		net_free(&n);
	}
}

/* The first rows of each tensor of the larger model, as a file of the smaller one. */
static uint8_t *first_rows(const struct model *large, const uint8_t *file,
			   const struct model *small)
{
	uint8_t *out = calloc(1, small->file_bytes);
	assert_non_null(out);
	assert_int_equal(large->n_tensors, small->n_tensors);
	memcpy(out, file, WEIGHTS_HEADER_SIZE);
	for (size_t t = 0; t < small->n_tensors; t++)
		memcpy(out + WEIGHTS_HEADER_SIZE + 4 * small->tensors[t].offset,
		       file + WEIGHTS_HEADER_SIZE + 4 * large->tensors[t].offset,
		       4 * small->tensors[t].count);
	return out;
}

static void test_as_without_them(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(ends) * ARRAY_LEN(engines); i++) {
		struct net n = net_new(ends[i / 2], OUTPUTS, engines[i % 2], true);
		struct net without = net_new(ends[i / 2], 5, engines[i % 2], true);
		_cleanup_free_ uint8_t *base = util_weights(n.m, 3, 5);
		_cleanup_free_ uint8_t *start = first_rows(n.m, base, without.m);
		util_write(path_a, base, n.m->file_bytes);
		load(&n, path_a);
		util_write(path_a, start, without.m->file_bytes);
		load(&without, path_a);
		leave_out(&n, "-----xx");
		train(&n, 4, 0, 4);
		train(&without, 4, 0, 4);
		_cleanup_free_ uint8_t *all = saved(&n), *ours = first_rows(n.m, all, without.m);
		_cleanup_free_ uint8_t *theirs = saved(&without);
		double apart = 0, moved = 0;
		for (size_t k = WEIGHTS_HEADER_SIZE; k < without.m->file_bytes; k += 4) {
			float a, b, c;
			memcpy(&a, ours + k, 4);
			memcpy(&b, theirs + k, 4);
			memcpy(&c, start + k, 4);
			apart += fabs((double)a - (double)b);
			moved += fabs((double)c - (double)b);
		}
		if (!(apart <= TOLERANCE * moved))
			fail_msg("%s: %g apart, %g moved", ends[i / 2], apart, moved);
		assert_true(moved > 1);
		net_free(&n);
		net_free(&without);
	}
}

/* In evaluation; what is left is as if there were no other. */
static void test_predict(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(ends) * ARRAY_LEN(engines); i++) {
		struct net n = net_new(ends[i / 2], OUTPUTS, engines[i % 2], false);
		float plain[OUTPUTS];
		double rest = 0;
		util_write_weights(n.m, path_a, 3, 5);
		load(&n, path_a);
		for (int k = 0; k < 8 * 8 * 3; k++)
			dnet_input(n.d, 0)[k] = (float)(k % 7) / 7;
		memcpy(plain, dnet_predict(n.d), sizeof(plain));
		leave_out(&n, "-x-x---");
		load(&n, path_a);
		const float *p = dnet_predict(n.d);
		for (int c = 0; c < OUTPUTS; c++)
			rest += c == 1 || c == 3 ? 0 : (double)plain[c];
		for (int c = 0; c < OUTPUTS; c++) {
			double want = c == 1 || c == 3 ? 0 : (double)plain[c] / rest;
			assert_true(plain[c] > 0 && fabs((double)p[c] - want) < 1e-5);
		}
		leave_out(&n, "-------");
		assert_memory_equal(dnet_predict(n.d), plain, sizeof(plain));
		net_free(&n);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *end, *text;
	} cases[] = {
		{"[convolutional]\nfilters=%d\nsize=1\n[softmax]\n", "no layer whose weights"},
		{"[connected]\noutput=%d\n[softmax]\ngroups=7\n", "in groups"},
		{"[connected]\noutput=%d\n[softmax]\n[softmax]\n", "another [softmax]"},
	};
	const bool none[1024] = {false};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = {0};
		struct net n = net_new(cases[i].end, OUTPUTS, DNET_DARKNET, true);
		assert_int_equal(dnet_leave_out(n.d, none, &err), -EOPNOTSUPP);
		if (!strstr(err.text, cases[i].text) || !strstr(err.text, "test.cfg: "))
			fail_msg("neither '%s' nor the cfg is in: %s", cases[i].text, err.text);
		net_free(&n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rows_stay, set_up, util_dir_done),
		cmocka_unit_test_setup_teardown(test_rows_stay_bf16, set_up, util_dir_done),
		cmocka_unit_test_setup_teardown(test_changes, set_up, util_dir_done),
		cmocka_unit_test_setup_teardown(test_as_without_them, set_up, util_dir_done),
		cmocka_unit_test_setup_teardown(test_predict, set_up, util_dir_done),
		cmocka_unit_test(test_refused),
	};
	if (gemm_init(1, NULL) < 0)
		return 1;
	return cmocka_run_group_tests_name("mask", tests, NULL, NULL);
}

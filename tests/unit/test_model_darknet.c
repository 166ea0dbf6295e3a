/* Our reading of a cfg against Darknet's own: a child parses it with libdarknet, fills every array
 * with a number that tells layer and kind, and saves the weights into a pipe. Each layer's shape,
 * the length of the file and each float's place must be what model_load() says.
 *
 *   test_model_darknet [CFG...]      these instead of the built-in list
 *
 * The child ends by _exit(), so that what libdarknet never frees is nobody's leak. */
#include "ckpt_util.h"

#include <darknet.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/engine/memory.h"
#include "own_memory.h"

#define CFG_DIR "/usr/share/darknet/cfg/"

struct shape {
	int w, h, c, outputs;
};

static void put(int fd, const void *data, size_t len)
{
	if (file_write_all(fd, data, len) < 0)
		_exit(3);
}

static float code(int layer, enum tensor_kind kind)
{
	return (float)(8 * layer + (int)kind + 1);
}

static void fill(float *p, size_t n, int layer, enum tensor_kind kind)
{
	for (size_t i = 0; i < n; i++)
		p[i] = code(layer, kind);
}

static void fill_layer(const layer *l, int i)
{
	size_t n = (size_t)(l->type == CONVOLUTIONAL ? l->n : l->outputs);
	size_t local = (size_t)l->size * l->size * l->c * l->n * l->out_w * l->out_h;
	bool weighted = l->type == CONVOLUTIONAL || l->type == CONNECTED || l->type == LOCAL;
	if (weighted) {
		fill(l->biases, n, i, TENSOR_BIAS);
		fill(l->weights,
		     l->type == CONVOLUTIONAL ? (size_t)l->nweights
		     : l->type == LOCAL       ? local
					      : (size_t)l->inputs * n,
		     i, TENSOR_WEIGHT);
	}
	if (weighted && l->batch_normalize) {
		fill(l->scales, n, i, TENSOR_SCALE);
		fill(l->rolling_mean, n, i, TENSOR_MEAN);
		fill(l->rolling_variance, n, i, TENSOR_VARIANCE);
	}
}

static void child(const char *cfg_path, int out)
{
	char cfg[FILE_PATH_MAX], save[64];
	int null = open("/dev/null", O_WRONLY);
	if (null < 0 || dup2(null, 2) < 0 || dup2(null, 1) < 0)
		_exit(3);
	alarm(120);
	snprintf(cfg, sizeof(cfg), "%s", cfg_path);
	network *net = parse_network_cfg(cfg);
	put(out, &net->n, sizeof(net->n));
	put(out, &net->outputs, sizeof(net->outputs));
	for (int i = 0; i < net->n; i++) {
		const layer *l = &net->layers[i];
		struct shape s = {l->out_w, l->out_h, l->out_c, l->outputs};
		put(out, &s, sizeof(s));
		fill_layer(l, i);
	}
	snprintf(save, sizeof(save), "/proc/self/fd/%d", out);
	save_weights(net, save);
	_exit(0);
}

static void get(FILE *f, const char *cfg, void *data, size_t len)
{
	if (fread(data, 1, len, f) != len)
		fail_msg("%s: Darknet ended early", cfg);
}

static void compare_tensor(const char *cfg, const struct tensor *t, FILE *f)
{
	float v[4096], expected = code(t->layer, t->kind);
	for (uint64_t left = t->count; left;) {
		size_t n = (size_t)MIN_OF(left, (uint64_t)ARRAY_LEN(v));
		get(f, cfg, v, n * sizeof(float));
		for (size_t i = 0; i < n; i++)
			if (v[i] != expected)
				fail_msg("%s: layer %d %s: found %g at %llu, expected %g", cfg,
					 t->layer, tensor_kind_name(t->kind), (double)v[i],
					 (unsigned long long)(t->count - left + i),
					 (double)expected);
		left -= n;
	}
}

static void compare(const char *cfg, const struct model *m, FILE *f)
{
	int n, outputs;
	uint8_t header[WEIGHTS_HEADER_SIZE];
	get(f, cfg, &n, sizeof(n));
	get(f, cfg, &outputs, sizeof(outputs));
	assert_int_equal(n, m->n_layers);
	assert_int_equal(outputs, m->outputs);
	for (int i = 0; i < n; i++) {
		struct shape s;
		const struct model_layer *l = &m->layers[i];
		get(f, cfg, &s, sizeof(s));
		if (s.w != (int)l->out_w || s.h != (int)l->out_h || s.c != (int)l->out_c ||
		    s.outputs != (int)l->outputs)
			fail_msg("%s: layer %d [%s]: Darknet %d x %d x %d (%d), we %u x %u x %u "
				 "(%u)",
				 cfg, i, l->type, s.w, s.h, s.c, s.outputs, l->out_w, l->out_h,
				 l->out_c, l->outputs);
	}
	get(f, cfg, header, sizeof(header));
	static const uint8_t want[WEIGHTS_HEADER_SIZE] = {[4] = 2};
	assert_memory_equal(header, want, sizeof(want));
	for (size_t t = 0; t < m->n_tensors; t++)
		compare_tensor(cfg, &m->tensors[t], f);
	if (fgetc(f) != EOF)
		fail_msg("%s: Darknet's file is longer than %llu", cfg,
			 (unsigned long long)m->file_bytes);
}

static void check(const char *cfg)
{
	struct model *m = NULL;
	struct err err = {0};
	if (model_load(cfg, NULL, 0, &m, &err) < 0)
		fail_msg("%s", err.text);
	int fds[2];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child(cfg, fds[1]);
	close(fds[1]);
	FILE *f = fdopen(fds[0], "rb");
	assert_non_null(f);
	compare(cfg, m, f);
	fclose(f);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	model_free(m);
}

static void check_text(const char *dir, const char *text)
{
	char path[FILE_PATH_MAX];
	assert_int_equal(file_path(path, sizeof(path), "%s/test.cfg", dir), 0);
	util_write(path, text, strlen(text));
	check(path);
}

#define CONV(keys) "[convolutional]\nactivation=leaky\n" keys
#define CONV_3     CONV("filters=3\n")
#define FC(keys)   "[connected]\nactivation=linear\n" keys

/* Every layer type and every key that moves a shape, small. */
static const char *const layers[] = {
	SMALL_CFG,
	NET CONV("filters=6\nsize=5\nstride=2\npadding=1\n"),
	NET CONV("filters=6\nsize=4\nstride=3\npad=1\n"),
	NET CONV("filters=6\nsize=3\npad=1\ngroups=3\nbatch_normalize=1\n"),
	NET CONV("filters=6\n") "[conv]\nsize=2\n",
	NET FC("output=7\nbatch_normalize=1\n") FC("output=2\n"),
	NET CONV_3 "[maxpool]\n[maxpool]\nstride=2\n[maxpool]\nsize=3\nstride=2\n",
	NET CONV_3 "[maxpool]\nsize=3\nstride=1\npadding=0\n[maxpool]\nsize=3\nstride=2\n"
		   "padding=1\n",
	NET CONV_3 "[max]\nstride=3\nsize=2\npadding=1\n[avg]\n[dropout]\n" FC("output=2\n"),
	NET CONV_3 "[lrn]\n[normalization]\nsize=3\n[l2norm]\n[activation]\n"
		   "activation=selu\n[logistic]\n",
	NET CONV("filters=3\nsize=7\npad=1\n") "[local]\nfilters=2\nsize=3\nstride=2\n"
					       "pad=1\n[local]\nfilters=3\nsize=2\n",
	NET CONV("filters=8\nsize=3\npad=1\n") "[crop]\ncrop_width=4\ncrop_height=6\n" CONV(
		"filters=8\n") "[reorg]\nstride=2\n[reorg]\nstride=2\n"
			       "reverse=1\n[upsample]\n[upsample]\n"
			       "stride=-4\n[upsample]\nstride=3\n",
	NET CONV("filters=4\nsize=3\nstride=2\npad=1\n") "[shortcut]\nfrom=0\n" CONV(
		"filters=8\nsize=3\nstride=2\npad=1\n") "[shortcut]\nfrom=-2\n"
							"activation=relu\n[route]\n"
							"layers=-1,2\n[route]\n"
							"layers=0\n[shortcut]\nfrom=-2\n",
	NET FC("output=10\n") "[softmax]\ngroups=5\n[cost]\ntype=sse\n",
};

static void each_layer(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(layers); i++)
		check_text(*state, layers[i]);
}

static void train_child(const char *cfg_path)
{
	char cfg[FILE_PATH_MAX];
	int null = open("/dev/null", O_WRONLY);
	if (null < 0 || dup2(null, 2) < 0 || dup2(null, 1) < 0)
		_exit(3);
	alarm(120);
	snprintf(cfg, sizeof(cfg), "%s", cfg_path);
	network *net = parse_network_cfg(cfg);
	for (int i = 0; i < net->inputs * net->batch; i++)
		net->input[i] = (float)(i % 7) / 7;
	for (int i = 0; i < net->batch; i++)
		net->truth[i * net->truths + i % net->truths] = 1;
	for (int i = 0; i < 4; i++)
		train_network_datum(net);
	_exit(0);
}

/* What is taken does not only open: Darknet trains it, made a classifier. */
static void trains(void **state)
{
	char path[FILE_PATH_MAX], text[4096];
	for (size_t i = 0; i < ARRAY_LEN(layers); i++) {
		struct model *m = NULL;
		struct err err = {0};
		assert_int_equal(file_path(path, sizeof(path), "%s/test.cfg", (char *)*state), 0);
		m = util_model(layers[i], 0);
		int n = snprintf(text, sizeof(text), "%s" FC("output=%u\n") "[softmax]\n[cost]\n",
				 layers[i], m->outputs);
		model_free(m);
		util_write(path, text, (size_t)n);
		if (model_load(path, NULL, 0, &m, &err) < 0 || model_check_classifier(m, &err) < 0)
			fail_msg("%s", err.text);
		model_free(m);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			train_child(path);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (status)
			fail_msg("status %d: %s", status, text);
	}
}

static uint64_t data_bytes(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	if (!f || fscanf(f, "%*u %*u %*u %*u %*u %llu", &pages) != 1)
		_exit(3);
	fclose(f);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void memory_child(const char *cfg_path, int out)
{
	char cfg[FILE_PATH_MAX];
	int null = open("/dev/null", O_WRONLY);
	if (null < 0 || dup2(null, 2) < 0)
		_exit(3);
	alarm(120);
	snprintf(cfg, sizeof(cfg), "%s", cfg_path);
	uint64_t before = data_bytes();
	network *net = parse_network_cfg(cfg);
	uint64_t bytes = data_bytes() - before;
	put(out, &bytes, sizeof(bytes));
	_exit(net ? 0 : 1);
}

static void compare_memory(const char *cfg)
{
	struct model *m = NULL;
	struct err err = {0};
	uint64_t bytes = 0;
	int fds[2];
	if (model_load(cfg, NULL, 0, &m, &err) < 0)
		fail_msg("%s", err.text);
	uint64_t said = network_bytes(m, DNET_DARKNET, m->batch / m->subdivisions, true);
	model_free(m);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		memory_child(cfg, fds[1]);
	close(fds[1]);
	ssize_t n = read(fds[0], &bytes, sizeof(bytes));
	close(fds[0]);
	waitpid(pid, NULL, 0);
	assert_int_equal(n, sizeof(bytes));
	uint64_t slack = 1024 * 1024 + bytes / 100; /* the allocator's */
	if (said + slack < bytes || said > bytes + slack)
		fail_msg("%s: found %llu bytes, said %llu", cfg, (unsigned long long)bytes,
			 (unsigned long long)said);
}

/* What network_bytes() says of Darknet is what Darknet takes. */
static void memory(void **state)
{
	static const char *const names[] = {TASUKI_SOURCE "/deploy/models/digits.cfg",
					    TASUKI_SOURCE "/deploy/models/faces.cfg",
					    CFG_DIR "cifar.cfg", CFG_DIR "resnet18.cfg"};
	if (!own_memory())
		skip();
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (file_exists(names[i]))
			compare_memory(names[i]);
}

/* By hand: so many copies of each weight, so many floats an image, and the workspace. */
static void memory_by_hand(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(SMALL_CFG, 0);
	uint64_t weights = 2 * (4 + 4 + 108) + 3 * (4 + 4) + 2 * (5 + 320);
	uint64_t image = 192 + 5 + 4 * 256 + 3 * 64 + 2 * 5 + 3 * 5;
	uint64_t workspace = 8 * 8 * 27 * 4;
	assert_int_equal(network_bytes(m, DNET_DARKNET, 2, true),
			 4 * (weights + 2 * image) + workspace);
	assert_int_equal(network_bytes(m, DNET_DARKNET, 64, false),
			 4 * (weights + 64 * image) + workspace);
	/* Adam keeps two more of weights, biases and scales. */
	_cleanup_(model_freep) struct model *adam =
		util_model(NET "adam=1\n[connected]\noutput=5\nactivation=linear\n[softmax]\n", 0);
	assert_int_equal(network_bytes(adam, DNET_DARKNET, 1, true),
			 4 * (4 * (5 + 5 * 192) + 192 + 5 + 2 * 5 + 3 * 5));
	/* Whatever computes, no less than a sensible part of it. */
	assert_true(network_bytes(m, DNET_ONEDNN, 2, true) > 4 * (weights + image));
	assert_true(network_bytes(m, DNET_AUTO, 2, true) >=
		    network_bytes(m, DNET_DARKNET, 2, true));
}

/* The classifiers that come with the package and do not take long. */
static void packaged(void **state)
{
	static const char *const names[] = {"tiny",     "cifar",     "cifar.test", "darknet",
					    "resnet18", "darknet19", "resnext50"};
	char path[FILE_PATH_MAX];
	size_t found = 0;
	/* Minutes of drawing random weights there, and none of it is our code. */
	if (under_valgrind())
		skip();
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(file_path(path, sizeof(path), CFG_DIR "%s.cfg", names[i]), 0);
		if (!file_exists(path))
			continue;
		found++;
		check(path);
	}
	if (!found)
		skip();
}

/* All of the package: each is either refused for a layer type or key we do not support, or read. */
static void refused_packaged(void **state)
{
	static const struct {
		const char *name, *text;
	} cases[] = {
		{"yolov3", "[yolo]"},      {"yolov2", "[region]"},
		{"yolov1", "[detection]"}, {"gru", "[gru]"},
		{"go", "extra"},           {"rnn", "[rnn]"},
		{"darknet9000", "9418"},   {"extraction22k", "21842"},
	};
	char path[FILE_PATH_MAX];
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct model *m = NULL;
		struct err err = {0};
		assert_int_equal(file_path(path, sizeof(path), CFG_DIR "%s.cfg", cases[i].name), 0);
		if (!file_exists(path))
			continue;
		assert_true(model_load(path, NULL, 0, &m, &err) < 0);
		if (!strstr(err.text, cases[i].text))
			fail_msg("%s is not in: %s", cases[i].text, err.text);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_layer, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(trains, util_dir, util_dir_done),
		cmocka_unit_test(memory),
		cmocka_unit_test(memory_by_hand),
		cmocka_unit_test(packaged),
		cmocka_unit_test(refused_packaged),
	};
	for (int i = 1; i < argc; i++) {
		check(argv[i]);
		printf("%s: the same\n", argv[i]);
	}
	return argc > 1 ? 0 : cmocka_run_group_tests(tests, NULL, NULL);
}

/* tasuki train, evaluate, classify: one request each to a worker of their own. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/follow.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/engine/worker_conf.h"
#include "common/engine/worker_protocol.h"

/* Paths of up to a kilobyte each, and their answers, must fit into a line of WORKER_LINE_MAX. */
#define CLASSIFY_AT_ONCE 400

#define CLI_ENGINE_HELP                                                                         \
	"  --engine NAME         auto, onednn or darknet (auto: the fastest there is)\n"        \
	"  --precision NAME      auto, f32 or bf16 (auto: f32, which scores better on small sets)\n" \
	"  --threads N           (one a processor)\n"                                           \
	"  --sandbox HOW         on, require or off: whether the worker is confined (on)\n"     \
	"  --readable DIR        that the worker may read, too: where links in --data lead\n"

static const char train_help[] =
	"usage: tasuki train --cfg FILE --data DIR --epochs N --out FILE [OPTION ...]\n\n"
	"  --cfg FILE            Darknet cfg of the network\n"
	"  --epochs N            or --steps N: how long\n"
	"  --weights FILE        go on from this checkpoint (default: new weights from --seed)\n"
	"  --out FILE            the checkpoint, a Darknet .weights file\n"
	"  --seed N              of new weights, order and augmentation (1)\n"
	"  --epoch N             number of the first epoch: each has an order of its own (1)\n"
	"  --momentum FILE       go on with this file's momentum if it is of --weights; written with --out\n"
	CLI_ENGINE_HELP
	"  --fold N              visits of each image an epoch, further ones augmented (1)\n"
	"  --shift PX, --flip, --blur PX, --brightness X   augmentation\n"
	CLI_DATA_HELP
	"  --json\n";

static const char evaluate_help[] =
	"usage: tasuki evaluate --cfg FILE --weights FILE --data DIR [OPTION ...]\n\n"
	"  --cfg FILE            Darknet cfg of the network\n"
	"  --weights FILE        the checkpoint\n"
	"  --split NAME          train, validation or test (test)\n"
	CLI_ENGINE_HELP
	"  --confusion           also the confusion matrix (with --json)\n"
	CLI_DATA_HELP
	"  --json\n";

static const char classify_help[] =
	"usage: tasuki classify --cfg FILE --weights FILE [--classes FILE] IMAGE ...\n"
	"       tasuki classify --follow STATE [OPTION ...]: see tasuki classify --follow STATE --help\n\n"
	"  --cfg FILE            Darknet cfg of the network\n"
	"  --weights FILE        the checkpoint\n"
	"  --classes FILE        names of the outputs (default: their numbers)\n"
	"  --center-crop PX      square around the middle of each image (default: all of it)\n"
	CLI_ENGINE_HELP
	"  --json\n";

/* Everything that any of the three commands can be told. */
struct options {
	const char *name, *cfg, *weights, *out, *momentum, *readable;
	struct worker_conf worker;
	int64_t epochs, steps, seed, epoch;
	enum split split;
	bool json, confusion, help;
};

enum { OPT_CFG = 256, OPT_WEIGHTS, OPT_OUT, OPT_EPOCHS, OPT_STEPS, OPT_SEED, OPT_EPOCH, OPT_MOMENTUM, OPT_THREADS, OPT_ENGINE,
       OPT_PRECISION, OPT_SPLIT, OPT_FOLD, OPT_SHIFT, OPT_FLIP, OPT_BLUR, OPT_BRIGHTNESS, OPT_JSON, OPT_CONFUSION, OPT_SANDBOX, OPT_READABLE,
       OPT_HELP };

static const struct option long_options[] = {
	CLI_DATA_OPTIONS,
	{"cfg", required_argument, NULL, OPT_CFG},
	{"weights", required_argument, NULL, OPT_WEIGHTS},
	{"out", required_argument, NULL, OPT_OUT},
	{"epochs", required_argument, NULL, OPT_EPOCHS},
	{"steps", required_argument, NULL, OPT_STEPS},
	{"seed", required_argument, NULL, OPT_SEED},
	{"epoch", required_argument, NULL, OPT_EPOCH},
	{"momentum", required_argument, NULL, OPT_MOMENTUM},
	{"threads", required_argument, NULL, OPT_THREADS},
	{"engine", required_argument, NULL, OPT_ENGINE},
	{"precision", required_argument, NULL, OPT_PRECISION},
	{"split", required_argument, NULL, OPT_SPLIT},
	{"fold", required_argument, NULL, OPT_FOLD},
	{"shift", required_argument, NULL, OPT_SHIFT},
	{"flip", no_argument, NULL, OPT_FLIP},
	{"blur", required_argument, NULL, OPT_BLUR},
	{"brightness", required_argument, NULL, OPT_BRIGHTNESS},
	{"sandbox", required_argument, NULL, OPT_SANDBOX},
	{"readable", required_argument, NULL, OPT_READABLE},
	{"json", no_argument, NULL, OPT_JSON},
	{"confusion", no_argument, NULL, OPT_CONFUSION},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

static bool set_int(struct options *o, const char *option, const char *text, int64_t max, int *ret)
{
	int64_t v;
	if (!cli_int(o->name, option, text, 0, max, &v))
		return false;
	*ret = (int)v;
	return true;
}

/* One of three words. */
static bool set_word(struct options *o, const char *option, const char *text,
		     const char *const *words, char *ret)
{
	for (int i = 0; words[i]; i++) {
		if (strcmp(text, words[i]) == 0) {
			strcpy(ret, text);
			return true;
		}
	}
	cli_usage(o->name, "%s: found '%s', expected %s, %s or %s", option, text, words[0],
		  words[1], words[2]);
	return false;
}

static bool set_option(struct options *o, int option, const char *v)
{
	struct worker_conf *w = &o->worker;
	switch (option) {
	case OPT_CFG:
		o->cfg = v;
		return true;
	case OPT_WEIGHTS:
		o->weights = v;
		return true;
	case OPT_OUT:
		o->out = v;
		return true;
	case OPT_EPOCHS:
		return cli_int(o->name, "--epochs", v, 1, 1000000, &o->epochs);
	case OPT_STEPS:
		return cli_int(o->name, "--steps", v, 1, 1000000000, &o->steps);
	case OPT_SEED:
		return cli_int(o->name, "--seed", v, 0, JSON_INT_MAX, &o->seed);
	case OPT_EPOCH:
		return cli_int(o->name, "--epoch", v, 1, 1000000, &o->epoch);
	case OPT_MOMENTUM:
		o->momentum = v;
		return true;
	case OPT_THREADS:
		return set_int(o, "--threads", v, WORKER_THREADS_MAX, &w->threads);
	case OPT_ENGINE:
		return set_word(o, "--engine", v, worker_engines, w->engine);
	case OPT_PRECISION:
		return set_word(o, "--precision", v, worker_precisions, w->precision);
	case OPT_SANDBOX:
		return set_word(o, "--sandbox", v, worker_sandboxes, w->sandbox);
	case OPT_READABLE:
		o->readable = v;
		return true;
	case OPT_SPLIT:
		if (split_parse(v, &o->split) == 0)
			return true;
		cli_usage(o->name, "--split: found '%s', expected train, validation or test", v);
		return false;
	case OPT_FOLD:
		return set_int(o, "--fold", v, 100, &w->fold);
	case OPT_SHIFT:
		return set_int(o, "--shift", v, 64, &w->augment.shift_px);
	case OPT_BLUR:
		return cli_num(o->name, "--blur", v, 0, 10, &w->augment.blur);
	case OPT_BRIGHTNESS:
		return cli_num(o->name, "--brightness", v, 0, 1, &w->augment.brightness);
	default:
		return false;
	}
}

static int parse(struct options *o, int argc, char **argv)
{
	int c;
	optind = 1;
	o->name = argv[0];
	cli_worker_defaults(&o->worker);
	while ((c = cli_getopt(argc, argv, long_options)) != -1) {
		int r = cli_data_option(o->name, c, optarg, &o->worker);
		if (r < 0)
			return -r;
		if (r > 0)
			continue;
		if (c == '?')
			return CLI_USAGE;
		if (c == OPT_HELP)
			o->help = true;
		else if (c == OPT_JSON)
			o->json = true;
		else if (c == OPT_FLIP)
			o->worker.augment.flip = true;
		else if (c == OPT_CONFUSION)
			o->confusion = true;
		else if (!set_option(o, c, optarg))
			return CLI_USAGE;
	}
	if (o->worker.data.validation_share + o->worker.data.test_share >= 1)
		return cli_usage(o->name, "--validation-share and --test-share must stay below 1 together");
	return CLI_OK;
}

static int put_path(const char *given, char *buf, size_t size, struct err *err)
{
	_cleanup_free_ char *whole = realpath(given, NULL);
	if (!whole)
		return err_errno(err, -errno, "%s", given);
	return file_path(buf, size, "%s", whole) < 0 ? err_set(err, -ENAMETOOLONG, "%s: path too long", given)
						     : 0;
}

static void show_progress(void *user, const struct worker_progress *p)
{
	char detail[96] = "";
	if (isfinite(p->loss))
		snprintf(detail, sizeof(detail), "step %lld of %lld, loss %.3f, %.0f images/s",
			 (long long)p->step, (long long)p->steps, p->loss, p->images_per_second);
	else
		snprintf(detail, sizeof(detail), "%.0f images/s", p->images_per_second);
	cli_progress(user, p->steps ? (double)p->step / (double)p->steps : 0, detail);
}

/* Sends the request; `args` is taken. The result tells, too, what computed it. */
static int call(struct options *o, const char *op, struct json *args, struct json **ret)
{
	struct worker_ready ready = {0};
	struct err err = {0};
	int r = put_path(o->cfg, o->worker.cfg, sizeof(o->worker.cfg), &err);
	if (r == 0 && o->weights) {
		char *path = o->worker.readable[0];
		r = put_path(o->weights, path, sizeof(o->worker.readable[0]), &err);
		json_set_str(args, "weights", path);
	}
	if (r == 0 && o->readable)
		r = put_path(o->readable, o->worker.readable[1], sizeof(o->worker.readable[1]), &err);
	if (r < 0)
		json_free(args);
	else
		r = worker_call(&o->worker, op, args, show_progress, (void *)op, &ready, ret, &err);
	cli_progress_end();
	if (r < 0)
		return cli_fail(o->name, &err);
	json_set_str(*ret, "engine", ready.engine);
	json_set_str(*ret, "precision", ready.precision);
	json_set_int(*ret, "threads", ready.threads);
	if (*ready.cage_missing && strcmp(o->worker.sandbox, "off") != 0)
		fprintf(stderr, "tasuki %s: the worker is not confined by: %s\n", o->name, ready.cage_missing);
	return CLI_OK;
}

/* The daemon's working folder is not the worker's business: OUT is made absolute. */
static int out_path(const char *given, char *buf, size_t size, struct err *err)
{
	char dir[FILE_PATH_MAX];
	const char *slash = strrchr(given, '/');
	const char *base = slash ? slash + 1 : given;
	if (!*base)
		return err_set(err, -EISDIR, "--out %s: is a folder, expected a file name", given);
	int r = slash ? file_path(dir, sizeof(dir), "%.*s", (int)(slash - given + 1), given)
		      : file_path(dir, sizeof(dir), ".");
	char whole[FILE_PATH_MAX];
	if (r == 0)
		r = put_path(dir, whole, sizeof(whole), err);
	if (r < 0)
		return r;
	if (file_path(buf, size, "%s/%s", whole, base) < 0)
		return err_set(err, -ENAMETOOLONG, "--out %s: path too long", given);
	struct stat st;
	if (stat(buf, &st) == 0 && S_ISDIR(st.st_mode))
		return err_set(err, -EISDIR, "--out %s: is a folder, expected a file name", given);
	return 0;
}

/* The folder of what the worker is to write. */
static void may_write(struct worker_conf *w, unsigned i, const char *path)
{
	const char *slash = strrchr(path, '/');
	file_path(w->writable[i], sizeof(w->writable[i]), "%.*s", slash ? (int)MAX_OF(slash - path, 1) : 0, path);
}

/* The momentum is written last: not over a checkpoint. */
static bool is_checkpoint(const struct options *o, const char *out, const char *momentum)
{
	_cleanup_free_ char *weights = o->weights ? realpath(o->weights, NULL) : NULL;
	return *momentum && (strcmp(momentum, out) == 0 || (weights && strcmp(momentum, weights) == 0));
}

static double get_num(const struct json *j, const char *key)
{
	double v = NAN;
	json_get_num(j, key, -INFINITY, INFINITY, &v, NULL);
	return v;
}

int cmd_train(int argc, char **argv)
{
	struct options o = {.seed = 1, .epoch = 1};
	int r = parse(&o, argc, argv);
	if (r != CLI_OK)
		return r;
	if (o.help)
		return fputs(train_help, stdout) < 0 ? CLI_FAIL : CLI_OK;
	if (!o.cfg || !o.worker.has_data || !o.out || !(o.epochs || o.steps) || optind < argc)
		return cli_usage("train", "--cfg, --data, --out and --epochs (or --steps) are required");
	struct err err = {0};
	char out[FILE_PATH_MAX], momentum[FILE_PATH_MAX] = "";
	if (out_path(o.out, out, sizeof(out), &err) < 0 ||
	    (o.momentum && out_path(o.momentum, momentum, sizeof(momentum), &err) < 0))
		return cli_fail("train", &err);
	if (is_checkpoint(&o, out, momentum))
		return cli_usage("train", "--momentum %s: is --out or --weights, expected a file of its own", o.momentum);
	may_write(&o.worker, 0, out);
	may_write(&o.worker, 1, momentum);
	struct json *args = json_new_obj();
	json_set_str(args, "out", out);
	json_set_int(args, o.steps ? "steps" : "epochs", o.steps ? o.steps : o.epochs);
	json_set_int(args, "seed", o.seed);
	json_set_int(args, "epoch", o.epoch);
	if (*momentum)
		json_set_str(args, "momentum", momentum);
	struct json *result = NULL;
	r = call(&o, "train", args, &result);
	if (r != CLI_OK)
		return r;
	cli_share_modes(out);
	if (o.json) {
		json_set_str(result, "out", o.out);
		return cli_print_json(result);
	}
	char id[HASH_SIZE] = "";
	json_get_str(result, "checkpoint", id, sizeof(id), NULL);
	printf("%s: %.0f images in %.1f s (%.0f images/s), loss %.4f\ncheckpoint %s\n", o.out,
	       get_num(result, "images"), get_num(result, "seconds"),
	       get_num(result, "images_per_second"), get_num(result, "loss"), id);
	json_free(result);
	return CLI_OK;
}

static void print_scores(const struct json *result)
{
	printf("accuracy %.2f %% (%.0f of %.0f), loss %.4f, %.0f images/s\n",
	       100 * get_num(result, "accuracy"), get_num(result, "correct"), get_num(result, "n"),
	       get_num(result, "loss"), get_num(result, "images_per_second"));
	const struct json *classes = NULL;
	if (json_get_arr(result, "per_class", DATASET_CLASSES_MAX, &classes, NULL) < 0)
		return;
	for (const struct json *c = json_first(classes); c; c = json_next(c)) {
		char name[DATASET_CLASS_NAME_MAX + 1] = "";
		json_get_str(c, "name", name, sizeof(name), NULL);
		double n = get_num(c, "n"), correct = get_num(c, "correct");
		if (n > 0)
			printf("  %-24s %6.2f %% (%.0f of %.0f)\n", name, 100 * correct / n, correct, n);
	}
}

int cmd_evaluate(int argc, char **argv)
{
	struct options o = {.split = SPLIT_TEST};
	int r = parse(&o, argc, argv);
	if (r != CLI_OK)
		return r;
	if (o.help)
		return fputs(evaluate_help, stdout) < 0 ? CLI_FAIL : CLI_OK;
	if (!o.cfg || !o.weights || !o.worker.has_data || optind < argc)
		return cli_usage("evaluate", "--cfg, --weights and --data are required");
	struct json *args = json_new_obj();
	json_set_str(args, "split", split_name(o.split));
	json_set_bool(args, "confusion", o.confusion);
	struct json *result = NULL;
	r = call(&o, "evaluate", args, &result);
	if (r != CLI_OK)
		return r;
	if (o.json)
		return cli_print_json(result);
	print_scores(result);
	json_free(result);
	return CLI_OK;
}

/* 1 when an image could not be read, after naming it. */
static int print_classes(const struct json *result, bool json)
{
	const struct json *list = NULL;
	int failed = 0;
	json_get_arr(result, "results", WORKER_CLASSIFY_MAX, &list, NULL);
	for (const struct json *one = json_first(list); one; one = json_next(one)) {
		const char *image = "", *name = "", *error;
		json_get_text(one, "image", FILE_PATH_MAX, &image, NULL);
		if (json_get_text(one, "error", ERR_TEXT_MAX, &error, NULL) == 0) {
			cli_warn("tasuki classify: %s", error);
			failed = 1;
			continue;
		}
		json_get_text(one, "name", DATASET_CLASS_NAME_MAX, &name, NULL);
		if (!json)
			printf("%s: %s (%.1f %%)\n", image, name, 100 * get_num(one, "score"));
	}
	return failed;
}

/* One request's worth of images; its results are appended to `all`. */
static int classify_some(struct options *o, char **paths, int n, struct json *all)
{
	struct json *args = json_new_obj(), *images = json_new_arr(), *result = NULL;
	for (int i = 0; i < n; i++) {
		/* A missing file is the worker's to name: then the others are classified all the same. */
		_cleanup_free_ char *whole = realpath(paths[i], NULL);
		json_push_str(images, whole ? whole : paths[i]);
	}
	json_set(args, "images", images);
	json_set_int(args, "center_crop", o->worker.data.center_crop);
	o->worker.images = (const char *const *)paths;
	o->worker.n_images = (size_t)n;
	int r = call(o, "classify", args, &result);
	const struct json *list = NULL;
	if (r == CLI_OK)
		json_get_arr(result, "results", WORKER_CLASSIFY_MAX, &list, NULL);
	for (const struct json *e = json_first(list); e; e = json_next(e))
		json_push(all, json_dup(e));
	json_free(result);
	return r;
}

int cmd_classify(int argc, char **argv)
{
	if (follow_is_asked(argc, argv))
		return cmd_follow(argc, argv);
	struct options o = {0};
	int r = parse(&o, argc, argv);
	if (r != CLI_OK)
		return r;
	if (o.help)
		return fputs(classify_help, stdout) < 0 ? CLI_FAIL : CLI_OK;
	if (!o.cfg || !o.weights || optind >= argc || o.worker.has_data)
		return cli_usage("classify", "--cfg, --weights and images are required");
	if (argc - optind > WORKER_CLASSIFY_MAX)
		return cli_usage("classify", "%d images, at most %d expected", argc - optind,
				 WORKER_CLASSIFY_MAX);
	struct json *result = json_new_obj(), *all = json_new_arr();
	for (int i = optind; r == CLI_OK && i < argc; i += CLASSIFY_AT_ONCE)
		r = classify_some(&o, argv + i, MIN_OF(argc - i, CLASSIFY_AT_ONCE), all);
	json_set(result, "results", all);
	if (r != CLI_OK) {
		json_free(result);
		return r;
	}
	int failed = print_classes(result, o.json);
	if (o.json)
		r = cli_print_json(result);
	else
		json_free(result);
	return failed ? CLI_FAIL : r;
}

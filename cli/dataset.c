/* tasuki dataset digits|share|sheet|count: data sets made, dealt out and looked at. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/dataset/digits.h"
#include "common/dataset/share.h"

enum { OPT_OUT = 256, OPT_N, OPT_SEED, OPT_MIX, OPT_PART, OPT_SKEW, OPT_COLUMNS, OPT_ROWS, OPT_SIDE, OPT_SPLIT };

static const struct cli_option options[] = {
	CLI_DATA_OPTIONS,
	{"out", "PATH", "what is written: a folder, of sheet a PNG file", OPT_OUT},
	{"n", "N", "digits: training images; test images are a fifth of it", OPT_N},
	{"seed", "S", "of what is drawn, or dealt out (share: 1)", OPT_SEED},
	{"mix", "W0,...,W9", "digits: weights of the classes", OPT_MIX},
	{"part", "NAME=WEIGHT[:CLASSES]", "share: a part gets WEIGHT / all weights of the images, and more of CLASSES (0-4,7)", OPT_PART},
	{"skew", "X", "share: so many times more of them (4)", OPT_SKEW},
	{"columns", "N", "sheet: images side by side (20)", OPT_COLUMNS},
	{"rows", "N", "sheet: rows of images (10)", OPT_ROWS},
	{"side", "PX", "sheet: of each image (64)", OPT_SIDE},
	{"split", "NAME", "sheet: train, validation or test (train)", OPT_SPLIT},
	CLI_JSON,
	{0},
};
const struct cli_spec spec_dataset = {
	"digits --out DIR --n N --seed S [--mix W0,...,W9]\n"
	"share --data DIR --out DIR --part NAME=WEIGHT[:CLASSES] ... [OPTION ...]\n"
	"sheet --data DIR --out FILE.png [OPTION ...]\n"
	"count --data DIR [OPTION ...]",
	"digits  writes handwriting-like digits as the four IDX files of MNIST\n"
	"share   deals a data set out to parts, and OUT/test beside them; photos become links:\n"
	"        [worker] readable (--readable) must name where they lead\n"
	"sheet   draws a contact sheet\n"
	"count   images per class and split\n",
	options,
	"tasuki dataset digits --out digits --n 2000 --seed 1",
};

struct options {
	const char *out;
	struct worker_conf data; /* its data and classes */
	int64_t n, seed, columns, rows, side;
	double mix[10], skew;
	bool has_mix, json;
	enum split split;
	struct share_part *parts;
	size_t n_parts;
};

static bool set_mix(struct options *o, const char *text)
{
	_cleanup_free_ char *copy = strdup(text);
	char *save, *word = copy ? strtok_r(copy, ",", &save) : NULL;
	size_t n = 0;
	for (; word; word = strtok_r(NULL, ",", &save), n++)
		if (n == ARRAY_LEN(o->mix) || !cli_num("dataset", "--mix", word, 0, 1e6, &o->mix[n]))
			break;
	if (word || n != ARRAY_LEN(o->mix)) {
		cli_usage("dataset", "--mix: found '%s', expected ten weights", text);
		return false;
	}
	return o->has_mix = true;
}

/* "0-4,7" */
static bool set_classes(struct share_part *p, char *text)
{
	char *save;
	for (char *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		char *dash = strchr(word, '-');
		int64_t from, to;
		if (dash)
			*dash = 0;
		if (!cli_int("dataset", "--part", word, 0, DATASET_CLASSES_MAX - 1, &from))
			return false;
		to = from;
		if (dash && !cli_int("dataset", "--part", dash + 1, from, DATASET_CLASSES_MAX - 1, &to))
			return false;
		for (; from <= to; from++)
			p->favours[from] = true;
	}
	return true;
}

static bool add_part(struct options *o, const char *text)
{
	_cleanup_free_ char *copy = strdup(text);
	char *eq = copy ? strchr(copy, '=') : NULL, *colon = eq ? strchr(eq, ':') : NULL;
	struct share_part *grown = realloc(o->parts, (o->n_parts + 1) * sizeof(*grown));
	if (!grown || !copy)
		return false;
	o->parts = grown;
	struct share_part *p = &grown[o->n_parts];
	memset(p, 0, sizeof(*p));
	if (eq)
		*eq = 0;
	if (colon)
		*colon = 0;
	if (!eq || !id_valid(copy) || !strcmp(copy, "test") || o->n_parts == SHARE_PARTS_MAX) {
		cli_usage("dataset", "--part: found '%s', expected NAME=WEIGHT[:CLASSES], at most %d", text,
			  SHARE_PARTS_MAX);
		return false;
	}
	strcpy(p->name, copy);
	if (!cli_num("dataset", "--part", eq + 1, 1e-6, 1e6, &p->weight) ||
	    (colon && !set_classes(p, colon + 1)))
		return false;
	o->n_parts++;
	return true;
}

static bool set_option(struct options *o, int c, const char *v)
{
	switch (c) {
	case OPT_OUT:
		o->out = v;
		return true;
	case OPT_N:
		return cli_int("dataset", "--n", v, 1, DIGITS_MAX, &o->n);
	case OPT_SEED:
		return cli_int("dataset", "--seed", v, 0, JSON_INT_MAX, &o->seed);
	case OPT_MIX:
		return set_mix(o, v);
	case OPT_PART:
		return add_part(o, v);
	case OPT_SKEW:
		return cli_num("dataset", "--skew", v, 1, 1000, &o->skew);
	case OPT_COLUMNS:
		return cli_int("dataset", "--columns", v, 1, 200, &o->columns);
	case OPT_ROWS:
		return cli_int("dataset", "--rows", v, 1, 200, &o->rows);
	case OPT_SIDE:
		return cli_int("dataset", "--side", v, 8, 1024, &o->side);
	case OPT_SPLIT:
		if (split_parse(v, &o->split) == 0)
			return true;
		cli_usage("dataset", "--split: found '%s', expected train, validation or test", v);
		return false;
	case CLI_OPT_JSON:
		return o->json = true;
	default:
		return false;
	}
}

/* A folder that was there may hold other files, which are not ours to change. */
static void share_digits(const char *out, bool is_new)
{
	static const char *const names[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
					    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};
	char path[FILE_PATH_MAX];
	if (is_new)
		cli_share_modes(out);
	for (size_t i = 0; !is_new && i < ARRAY_LEN(names); i++)
		if (file_path(path, sizeof(path), "%s/%s", out, names[i]) == 0)
			cli_share_modes(path);
}

static int digits(const struct options *o)
{
	struct err err = {0};
	if (!o->out || o->n < 1 || o->seed < 0)
		return cli_usage("dataset", "digits: --out, --n and --seed are required");
	bool is_new = !file_exists(o->out);
	if (digits_write(o->out, (uint32_t)o->n, (uint64_t)o->seed, o->has_mix ? o->mix : NULL, &err) < 0)
		return cli_fail("dataset", &err);
	share_digits(o->out, is_new);
	if (!o->json) {
		printf("%s: %lld training and %lld test images\n", o->out, (long long)o->n,
		       (long long)o->n / 5);
		return CLI_OK;
	}
	struct json *j = json_new_obj();
	json_set_str(j, "out", o->out);
	json_set_int(j, "train", o->n);
	json_set_int(j, "test", o->n / 5);
	return cli_print_json(j);
}

static int share(const struct options *o)
{
	struct err err = {0};
	if (!o->out || !o->data.has_data || !o->n_parts)
		return cli_usage("dataset", "share: --data, --out and --part are required");
	struct share_conf conf = {.parts = o->parts, .n_parts = o->n_parts, .skew = o->skew,
				  .test_share = o->data.data.test_share,
				  .seed = o->seed < 0 ? 1 : (uint64_t)o->seed};
	if (share_write(o->data.data.path, o->out, &conf, &err) < 0)
		return cli_fail("dataset", &err);
	cli_share_modes(o->out);
	if (o->json) {
		struct json *j = json_new_obj();
		json_set_str(j, "out", o->out);
		return cli_print_json(j);
	}
	printf("%s: %zu parts and test\n", o->out, o->n_parts);
	return CLI_OK;
}

static int open_data(struct options *o, struct dataset **ret)
{
	struct err err = {0};
	struct classes classes = {0};
	struct dataset_conf *d = &o->data.data;
	d->width = d->height = (uint32_t)o->side;
	d->channels = 3;
	int r = o->data.classes[0] ? classes_load(o->data.classes, &classes, &err)
				   : classes_from_data(d->path, &classes, &err);
	if (r == 0)
		r = dataset_open(d, &classes, ret, &err);
	classes_done(&classes);
	return r < 0 ? cli_fail("dataset", &err) : CLI_OK;
}

static int sheet(struct options *o)
{
	struct dataset *d = NULL;
	struct err err = {0};
	if (!o->out || !o->data.has_data)
		return cli_usage("dataset", "sheet: --data and --out are required");
	int r = open_data(o, &d);
	if (r == CLI_OK && dataset_sheet(d, o->split, (uint32_t)o->columns, (uint32_t)o->rows, o->out, &err) < 0)
		r = cli_fail("dataset", &err);
	dataset_free(d);
	if (r != CLI_OK || !o->json)
		return r;
	struct json *j = json_new_obj();
	json_set_str(j, "out", o->out);
	return cli_print_json(j);
}

static void count_classes(const struct dataset *d, uint32_t *counts)
{
	for (int s = 0; s < SPLIT_N; s++)
		for (uint32_t i = 0; i < dataset_count(d, (enum split)s); i++)
			counts[dataset_label(d, (enum split)s, i) * SPLIT_N + (uint32_t)s]++;
}

static struct json *count_json(const struct dataset *d, const uint32_t *counts)
{
	struct json *j = json_new_obj(), *list = json_new_arr();
	for (int s = 0; s < SPLIT_N; s++)
		json_set_int(j, split_name((enum split)s), dataset_count(d, (enum split)s));
	json_set_int(j, "skipped", dataset_skipped(d));
	for (uint32_t c = 0; c < dataset_classes(d); c++) {
		struct json *one = json_new_obj();
		json_set_str(one, "name", dataset_class_name(d, c));
		for (int s = 0; s < SPLIT_N; s++)
			json_set_int(one, split_name((enum split)s), counts[c * SPLIT_N + (uint32_t)s]);
		json_push(list, one);
	}
	json_set(j, "classes", list);
	return j;
}

static int count(struct options *o)
{
	struct dataset *d = NULL;
	if (!o->data.has_data)
		return cli_usage("dataset", "count: --data is required");
	int r = open_data(o, &d);
	if (r != CLI_OK)
		return r;
	_cleanup_free_ uint32_t *counts = calloc(dataset_classes(d) + 1, SPLIT_N * sizeof(*counts));
	if (!counts) {
		dataset_free(d);
		return CLI_FAIL;
	}
	count_classes(d, counts);
	if (o->json) {
		r = cli_print_json(count_json(d, counts));
	} else {
		printf("%-24s %8s %10s %8s\n", "CLASS", "TRAIN", "VALIDATION", "TEST");
		for (uint32_t c = 0; c < dataset_classes(d); c++)
			printf("%-24s %8u %10u %8u\n", dataset_class_name(d, c), counts[c * SPLIT_N],
			       counts[c * SPLIT_N + 1], counts[c * SPLIT_N + 2]);
		for (uint32_t i = 0; i < dataset_skipped(d) && dataset_skipped_name(d, i); i++)
			cli_warn("skipped, not readable: %s", dataset_skipped_name(d, i));
	}
	dataset_free(d);
	return r;
}

int cmd_dataset(int argc, char **argv)
{
	struct options o = {.seed = -1, .skew = 4, .columns = 20, .rows = 10, .side = 64};
	int c, r = CLI_OK;
	optind = 1;
	cli_worker_defaults(&o.data);
	while (r == CLI_OK && (c = cli_next(&spec_dataset, argc, argv)) != CLI_END) {
		int handled = c == CLI_WRONG ? 0 : cli_data_option("dataset", c, optarg, &o.data);
		if (handled < 0)
			r = -handled;
		else if (c == CLI_WRONG || (handled == 0 && !set_option(&o, c, optarg)))
			r = CLI_USAGE;
	}
	static const char *const words[] = {"digits", "share", "sheet", "count"};
	const char *what = optind < argc ? argv[optind] : "";
	if (r != CLI_OK)
		;
	else if (optind >= argc)
		r = cli_usage("dataset", "digits, share, sheet or count is expected");
	else if (optind + 1 < argc)
		r = cli_usage("dataset", "found '%s', no further argument expected", argv[optind + 1]);
	else if (!strcmp(what, "digits"))
		r = digits(&o);
	else if (!strcmp(what, "share"))
		r = share(&o);
	else if (!strcmp(what, "sheet"))
		r = sheet(&o);
	else if (!strcmp(what, "count"))
		r = count(&o);
	else
		r = cli_usage("dataset", "found '%s', expected digits, share, sheet or count%s", what,
			      cli_did_you_mean(cli_nearest(what, words, ARRAY_LEN(words))));
	free(o.parts);
	return r;
}

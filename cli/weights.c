/* tasuki blend and inspect: checkpoints as files, without a worker. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"

enum { OPT_CFG = 256, OPT_CLASSES, OPT_ALPHA, OPT_OUT };

static const struct cli_option blend_options[] = {
	{"cfg", "FILE", "Darknet cfg of the network", OPT_CFG},
	{"alpha", "X", "share of B, 0 to 1", OPT_ALPHA},
	{"out", "FILE", "the blend, a Darknet .weights file", OPT_OUT},
	CLI_JSON,
	{0},
};
const struct cli_spec spec_blend = {
	"--cfg FILE A B --alpha X --out FILE [OPTION ...]",
	"Writes (1-X) A + X B, weight by weight. Batch-norm statistics are blended too: what they\n"
	"ought to be for the blend only images can tell.\n",
	blend_options,
	"tasuki blend --cfg model.cfg mine.weights theirs.weights --alpha 0.5 --out both.weights",
};

static const struct cli_option inspect_options[] = {
	{"cfg", "FILE", "Darknet cfg of the network", OPT_CFG},
	{"classes", "FILE", "class list of a fleet: then the model id is the fleet's", OPT_CLASSES},
	CLI_JSON,
	{0},
};
const struct cli_spec spec_inspect = {
	"WEIGHTS --cfg FILE [--classes FILE] [OPTION ...]",
	"Header, layers, parameters and norms; exit 1 with the reason when it is not well-formed.\n",
	inspect_options,
	"tasuki inspect state/active.weights --cfg model.cfg --classes classes.txt",
};

struct options {
	const char *cfg, *classes, *out;
	double alpha;
	bool json;
};

static int parse(struct options *o, const struct cli_spec *spec, int argc, char **argv)
{
	int c;
	optind = 1;
	while ((c = cli_next(spec, argc, argv)) != CLI_END) {
		if (c == OPT_CFG)
			o->cfg = optarg;
		else if (c == OPT_CLASSES)
			o->classes = optarg;
		else if (c == OPT_OUT)
			o->out = optarg;
		else if (c == CLI_OPT_JSON)
			o->json = true;
		else if (c != OPT_ALPHA || !cli_num(argv[0], "--alpha", optarg, 0, 1, &o->alpha))
			return CLI_USAGE;
	}
	return CLI_OK;
}

int cmd_blend(int argc, char **argv)
{
	struct options o = {.alpha = -1};
	struct err err = {0};
	int r = parse(&o, &spec_blend, argc, argv);
	if (r != CLI_OK)
		return r;
	if (!o.cfg || !o.out || o.alpha < 0 || argc - optind != 2)
		return cli_usage("blend", "--cfg, --alpha, --out and two checkpoints are required");
	_cleanup_(model_freep) struct model *m = NULL;
	char id[HASH_SIZE];
	if ((model_load(o.cfg, NULL, 0, &m, &err) < 0 && cli_near_file(o.cfg, &err)) ||
	    weights_blend(m, argv[optind], argv[optind + 1], o.alpha, o.out, &err) < 0 ||
	    hash_file(o.out, id, &err) < 0)
		return cli_fail("blend", &err);
	cli_share_modes(o.out);
	if (!o.json) {
		printf("%s\ncheckpoint %s\n", o.out, id);
		return CLI_OK;
	}
	struct json *j = json_new_obj();
	json_set_str(j, "out", o.out);
	json_set_num(j, "alpha", o.alpha);
	json_set_str(j, "checkpoint", id);
	return cli_print_json(j);
}

static const char *const kinds[] = {"biases", "scales", "means", "variances", "weights"};

static struct json *tensors_json(const struct model *m, const struct weights_stat *stats)
{
	struct json *arr = json_new_arr();
	for (size_t i = 0; i < m->n_tensors; i++) {
		struct json *t = json_new_obj();
		json_set_int(t, "layer", m->tensors[i].layer);
		json_set_str(t, "kind", kinds[m->tensors[i].kind]);
		json_set_int(t, "count", (int64_t)m->tensors[i].count);
		json_set_num(t, "norm", stats[i].l2);
		json_set_num(t, "mean", stats[i].mean);
		json_set_num(t, "min", stats[i].min);
		json_set_num(t, "max", stats[i].max);
		json_push(arr, t);
	}
	return arr;
}

static struct json *layers_json(const struct model *m)
{
	struct json *arr = json_new_arr();
	for (size_t i = 0; i < m->n_layers; i++) {
		const struct model_layer *l = &m->layers[i];
		struct json *j = json_new_obj();
		json_set_str(j, "type", l->type);
		json_set_int(j, "width", l->out_w);
		json_set_int(j, "height", l->out_h);
		json_set_int(j, "channels", l->out_c);
		json_set_int(j, "outputs", l->outputs);
		json_set_int(j, "multiply_adds", (int64_t)l->macs);
		json_push(arr, j);
	}
	return arr;
}

static void inspect_text(const char *path, const struct model *m, const struct weights_header *h,
			 const char *id, const struct weights_stat *stats)
{
	printf("%s: well-formed, %llu bytes\ncheckpoint %s\nmodel      %s\n", path,
	       (unsigned long long)m->file_bytes, id, m->id);
	printf("version %d.%d.%d, %llu images seen, %llu parameters in %zu layers\n\n", h->major, h->minor,
	       h->revision, (unsigned long long)h->seen, (unsigned long long)m->n_floats, m->n_layers);
	size_t t = 0;
	for (size_t i = 0; i < m->n_layers; i++) {
		const struct model_layer *l = &m->layers[i];
		if (l->out_c)
			printf("%3zu %-14s -> %u x %u x %u\n", i, l->type, l->out_c, l->out_h, l->out_w);
		else
			printf("%3zu %-14s -> %u\n", i, l->type, l->outputs);
		for (; t < m->n_tensors && m->tensors[t].layer == (int)i; t++)
			printf("      %-10s %9llu  norm %10.4g  mean %10.4g  from %10.4g to %10.4g\n",
			       kinds[m->tensors[t].kind], (unsigned long long)m->tensors[t].count,
			       stats[t].l2, stats[t].mean, stats[t].min, stats[t].max);
	}
}

static int load(const struct options *o, struct model **ret, struct err *err)
{
	struct classes classes = {0};
	int r = o->classes ? classes_load(o->classes, &classes, err) : 0;
	if (r == 0)
		r = model_load(o->cfg, (const char *const *)classes.names, classes.n, ret, err);
	classes_done(&classes);
	return r;
}

int cmd_inspect(int argc, char **argv)
{
	struct options o = {.alpha = -1};
	struct err err = {0};
	int r = parse(&o, &spec_inspect, argc, argv);
	if (r != CLI_OK)
		return r;
	if (!o.cfg || argc - optind != 1)
		return cli_usage("inspect", "--cfg and one checkpoint are required");
	const char *path = argv[optind];
	_cleanup_(model_freep) struct model *m = NULL;
	struct weights_header h;
	char id[HASH_SIZE];
	if ((load(&o, &m, &err) < 0 && cli_near_file(o.cfg, &err)) || weights_check(m, path, &h, id, &err) < 0)
		return cli_fail("inspect", &err);
	_cleanup_free_ struct weights_stat *stats = calloc(m->n_tensors + 1, sizeof(*stats));
	if (!stats || weights_stats(m, path, stats, &err) < 0)
		return cli_fail("inspect", &err);
	if (!o.json) {
		inspect_text(path, m, &h, id, stats);
		return CLI_OK;
	}
	struct json *j = json_new_obj(), *header = json_new_obj();
	char version[48];
	snprintf(version, sizeof(version), "%d.%d.%d", h.major, h.minor, h.revision);
	json_set_str(header, "version", version);
	json_set_int(header, "seen", (int64_t)h.seen);
	json_set_bool(j, "well_formed", true);
	json_set_str(j, "checkpoint", id);
	json_set_str(j, "model", m->id);
	json_set_int(j, "bytes", (int64_t)m->file_bytes);
	json_set_int(j, "parameters", (int64_t)m->n_floats);
	json_set(j, "header", header);
	json_set(j, "layers", layers_json(m));
	json_set(j, "tensors", tensors_json(m, stats));
	return cli_print_json(j);
}

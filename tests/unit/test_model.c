/* What a cfg gives, and what is refused, with which words. */
#include "ckpt_util.h"

#include <errno.h>

#include "common/checkpoint/cfg.h"
#include "common/crypto/hash.h"

static void shapes_and_tensors(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(SMALL_CFG, 3);
	static const struct tensor want[] = {
		{0, TENSOR_BIAS, 0, 4, 4},       {0, TENSOR_SCALE, 4, 4, 4},
		{0, TENSOR_MEAN, 8, 4, 4},       {0, TENSOR_VARIANCE, 12, 4, 4},
		{0, TENSOR_WEIGHT, 16, 108, 4},  {2, TENSOR_BIAS, 124, 5, 5},
		{2, TENSOR_WEIGHT, 129, 320, 5},
	};
	assert_int_equal(m->n_layers, 4);
	assert_string_equal(m->layers[0].type, "convolutional");
	assert_int_equal(m->layers[0].line, 7);
	assert_int_equal(m->layers[0].out_w, 8);
	assert_int_equal(m->layers[0].out_c, 4);
	assert_int_equal(m->layers[0].macs, 8 * 8 * 4 * 27);
	assert_int_equal(m->layers[1].out_w, 4);
	assert_int_equal(m->layers[1].outputs, 64);
	assert_int_equal(m->layers[2].macs, 320);
	assert_int_equal(m->layers[3].out_w, 0);
	assert_int_equal(m->layers[3].outputs, 5);
	assert_int_equal(m->n_tensors, ARRAY_LEN(want));
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		assert_int_equal(m->tensors[i].layer, want[i].layer);
		assert_int_equal(m->tensors[i].kind, want[i].kind);
		assert_int_equal(m->tensors[i].offset, want[i].offset);
		assert_int_equal(m->tensors[i].count, want[i].count);
		assert_int_equal(m->tensors[i].rows, want[i].rows);
	}
	assert_int_equal(m->n_floats, 449);
	assert_int_equal(m->file_bytes, 20 + 4 * 449);
	assert_int_equal(m->outputs, 5);
	assert_int_equal(m->n_classes, 3);
	assert_int_equal(m->batch, 4);
	assert_int_equal(m->subdivisions, 2);
	assert_true(m->layers[3].has_loss && !m->layers[2].has_loss);
	assert_int_equal(model_check_classifier(m, NULL), 0);
}

static void canonical_form(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(SMALL_CFG, 2);
	assert_string_equal(
		m->canonical,
		"tasuki-model 1\ninput width=8 height=8 channels=3\n"
		"convolutional filters=4 size=3 stride=1 padding=1 groups=1 batch_normalize=1 "
		"activation=leaky\nmaxpool size=2 stride=2 padding=1\n"
		"connected output=5 batch_normalize=0 activation=linear\n"
		"softmax groups=1 temperature=1\nclasses 2\nclass zero\nclass one\n");
	char id[HASH_SIZE];
	assert_int_equal(hash_bytes(m->canonical, strlen(m->canonical), id), 0);
	assert_string_equal(m->id, id);
}

/* Same function, same id; another function or class list, another id. */
static void identity(void **state)
{
	static const char *const same[] = {
		"# comment\n; another\n\n[network]\nbatch=64\nsubdivisions=1\nchannels=3\n"
		"width = 8\n\theight=8\nlearning_rate=7\npolicy=steps\nsteps=1,2\nscales=.1,.1\n"
		"unknown_to_darknet=yes\n"
		"[conv]\nactivation = leaky\npadding=1\nsize=3\nfilters=4\nbatch_normalize=9\n"
		"stride=1\n[max]\nstride=2\n[conn]\noutput=5\nactivation=linear\n[soft]\n",
		NET "[convolutional]\nbatch_normalize=1\nfilters=4\nfilters=8\nsize=3\npad=1\n"
		    "activation=leaky\n[maxpool]\nsize=2\nstride=2\npadding=1\n[connected]\n"
		    "output=5\nactivation=linear\n[softmax]\ngroups=1",
	};
	static const char *const other[] = {
		NET "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\npad=1\n"
		    "activation=relu\n[maxpool]\nsize=2\nstride=2\n[connected]\noutput=5\n"
		    "activation=linear\n[softmax]\n",
		NET "[convolutional]\nbatch_normalize=0\nfilters=4\nsize=3\npad=1\n"
		    "activation=leaky\n[maxpool]\nsize=2\nstride=2\n[connected]\noutput=5\n"
		    "activation=linear\n[softmax]\n",
		SMALL_CFG "[cost]\n",
	};
	_cleanup_(model_freep) struct model *m = util_model(SMALL_CFG, 3);
	for (size_t i = 0; i < ARRAY_LEN(same); i++) {
		_cleanup_(model_freep) struct model *n = util_model(same[i], 3);
		assert_string_equal(n->canonical, m->canonical);
		assert_string_equal(n->id, m->id);
	}
	for (size_t i = 0; i < ARRAY_LEN(other); i++) {
		_cleanup_(model_freep) struct model *n = util_model(other[i], 3);
		assert_string_not_equal(n->id, m->id);
	}
	_cleanup_(model_freep) struct model *fewer = util_model(SMALL_CFG, 2);
	assert_string_not_equal(fewer->id, m->id);
	_cleanup_(model_freep) struct model *none = util_model(SMALL_CFG, 0);
	assert_string_not_equal(none->id, m->id);
}

#define CONV    "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"
#define CROP    "[crop]\ncrop_width=8\ncrop_height=8\n"
#define HEAD(s) "[net]\nbatch=4\nsubdivisions=2\nwidth=8\nheight=8\nchannels=3\n" s "\n" CONV

static const struct {
	const char *cfg;
	int code;
	const char *text; /* all of these, between '|', are in the error */
} refused[] = {
	{"", -EINVAL, "test.cfg|[net]"},
	{CONV, -EINVAL, "test.cfg:1|[net]"},
	{"a=1\n[net]\n", -EINVAL, "test.cfg:1|before any section"},
	{NET, -EINVAL, "no layer"},
	{NET CONV NET, -EINVAL, "test.cfg:12|[net]|second time"},
	{"[net]\nsubdivisions=1\nwidth=8\nheight=8\nchannels=3\n" CONV, -EINVAL, "batch|none"},
	{"[net]\nbatch=0\nsubdivisions=1\nwidth=8\nheight=8\nchannels=3\n" CONV, -EINVAL,
	 "test.cfg:2|batch|'0'"},
	{"[net]\nbatch=4\nwidth=8\nheight=8\nchannels=3\n" CONV, -EINVAL, "subdivisions"},
	{"[net]\nbatch=4\nsubdivisions=0\nwidth=8\nheight=8\nchannels=3\n" CONV, -EINVAL,
	 "subdivisions"},
	{"[net]\nbatch=4\nsubdivisions=3\nwidth=8\nheight=8\nchannels=3\n" CONV, -EINVAL,
	 "divisor|3|4"},
	{"[net]\nbatch=4\nsubdivisions=2\nwidth=0\nheight=8\nchannels=3\n" CONV, -EINVAL, "width"},
	{"[net]\nbatch=4\nsubdivisions=2\nwidth=8\nchannels=3\n" CONV, -EINVAL, "height"},
	{"[net]\nbatch=4\nsubdivisions=2\nwidth=8\nheight=8\nchannels=-3\n" CONV, -EINVAL,
	 "channels|'-3'"},
	{"[net]\nbatch=4\nsubdivisions=2\nwidth=8\nheight=8\nchannels=99999\n" CONV, -EINVAL,
	 "channels"},
	{"[net]\nbatch=4\nsubdivisions=2\nwidth=8192\nheight=8192\nchannels=64\n" CONV, -E2BIG,
	 "width"},
	{HEAD("policy=steps"), -EINVAL, "policy=steps|0 steps"},
	{HEAD("policy=steps\nsteps=1,2"), -EINVAL, "2 steps and 0 scales"},
	{HEAD("policy=steps\nscales=1,2"), -EINVAL, "0 steps and 2 scales"},
	{HEAD("policy=steps\nsteps=1,2\nscales=.1"), -EINVAL, "2 steps and 1 scales"},
	{HEAD("policy=steps\nsteps=1,\nscales=.1,.1"), -EINVAL, "steps|'1,'"},
	{HEAD("policy=steps\nsteps=1.5\nscales=.1"), -EINVAL, "steps|1.5"},
	{HEAD("policy=steps\nsteps=1,2e1\nscales=.1,.1"), -EINVAL, "steps|'1,2e1'|integers"},
	{HEAD("policy=steps\nsteps=1,x\nscales=.1,.1"), -EINVAL, "steps|'1,x'"},
	{HEAD("policy=sometimes"), -EINVAL, "policy|'sometimes'"},
	{HEAD("policy=poly"), -EINVAL, "max_batches|poly"},
	{HEAD("policy=step\nstep=0"), -EINVAL, "step|'0'"},
	{HEAD("learning_rate=fast"), -EINVAL, "learning_rate|'fast'"},
	{HEAD("learning_rate=-1"), -EINVAL, "learning_rate"},
	{HEAD("learning_rate=nan"), -EINVAL, "learning_rate"},
	{HEAD("momentum=0x10"), -EINVAL, "momentum"},
	{HEAD("momentum=1e999"), -EINVAL, "momentum"},
	{HEAD("decay=inf"), -EINVAL, "decay"},
	{HEAD("burn_in=1.5"), -EINVAL, "burn_in"},
	{HEAD("time_steps=3"), -EOPNOTSUPP, "time_steps"},
	{HEAD("inputs=10"), -EINVAL, "inputs"},
	{HEAD("key"), -EINVAL, "test.cfg:7|key=value"},
	{HEAD("key="), -EINVAL, "test.cfg:7|key=value"},
	{HEAD("=1"), -EINVAL, "key=value"},
	{HEAD("x=1\r"), -EINVAL, "test.cfg:7|carriage return"},
	{HEAD("[convolutional] # text"), -EINVAL, "test.cfg:7|[section]"},
	{HEAD("[]"), -EINVAL, "[section]"},
	{NET "[convolutional]\nfilters=4 # four\n", -EINVAL, "filters|'4#four'"},
	{NET "[convolutional]\nfilters=0\n", -EINVAL, "test.cfg:8|[convolutional]|filters"},
	{NET "[convolutional]\nfilters=9999\n", -EINVAL, "filters"},
	{NET "[convolutional]\nfilters=99999999999999999999\n", -EINVAL, "filters"},
	{NET "[convolutional]\nsize=9\n", -EINVAL, "size|9|8 x 8"},
	{NET "[convolutional]\nstride=0\n", -EINVAL, "stride"},
	{NET "[convolutional]\nfilters=4\ngroups=2\n", -EINVAL, "groups"},
	{NET "[convolutional]\nfilters=4\ngroups=3\n", -EINVAL, "groups"},
	{NET "[convolutional]\nsize=1\nstride=2\n", -EOPNOTSUPP, "size|stride 2"},
	{NET "[convolutional]\nsize=1\npadding=1\n", -EOPNOTSUPP, "size"},
	{NET "[convolutional]\nactivation=mish\n", -EINVAL, "activation|'mish'"},
	{NET "[convolutional]\nbatch_normalize=yes\n", -EINVAL, "batch_normalize|'yes'"},
	{NET "[convolutional]\npadding=-1\n", -EINVAL, "padding"},
	{NET "[convolutional]\nsize=3\npadding=8192\n", -EINVAL, "output"},
	{NET "[convolutional]\nsize=3\nbinary=1\n", -EOPNOTSUPP, "binary"},
	{NET "[convolutional]\nsize=3\nflipped=1\n", -EOPNOTSUPP, "flipped"},
	{NET "[convolutional]\nsize=3\ndontload=1\n", -EOPNOTSUPP, "dontload"},
	{NET "[convolutional]\nsize=3\nlearning_rate=x\n", -EINVAL, "learning_rate"},
	{NET "[connected]\noutput=0\n", -EINVAL, "output"},
	{NET CONV "[maxpool]\nstride=2\nsize=2\npadding=4\n", -EINVAL, "padding"},
	{NET CONV "[maxpool]\nstride=1\nsize=1\npadding=9\n", -EINVAL, "padding"},
	{NET CONV "[maxpool]\nstride=1\nsize=2\npadding=3\n", -EINVAL, "padding"},
	{NET CONV "[maxpool]\nsize=20\nstride=1\npadding=0\n", -EINVAL, "size"},
	{NET CONV "[softmax]\nnoloss=1\n" CONV, -EINVAL, "test.cfg:14|no image"},
	{NET CONV "[softmax]\ngroups=7\n", -EINVAL, "groups"},
	{NET CONV "[softmax]\ntemperature=0\n", -EINVAL, "temperature"},
	{NET CONV "[softmax]\ntree=data/9k.tree\n", -EOPNOTSUPP, "tree"},
	{NET "[dropout]\n", -EINVAL, "first layer"},
	{NET CONV "[dropout]\nprobability=1\n", -EINVAL, "probability"},
	{NET "[crop]\ncrop_width=8\ncrop_height=8\n[cost]\n", -EOPNOTSUPP,
	 "test.cfg:10|[cost]|[crop]"},
	{NET CONV "[cost]\ntype=huber\n", -EINVAL, "type|'huber'"},
	{NET CONV "[shortcut]\n", -EINVAL, "from|none"},
	{NET CONV "[shortcut]\nfrom=1\n", -EINVAL, "from"},
	{NET CONV "[shortcut]\nfrom=-2\n", -EINVAL, "from"},
	{NET CONV "[shortcut]\nfrom=-99999999999\n", -EINVAL, "from"},
	{NET CONV "[convolutional]\nsize=3\n[convolutional]\nsize=3\n[shortcut]\nfrom=-3\n", 0, ""},
	{NET CONV "[crop]\ncrop_width=2\ncrop_height=4\n" CONV "[shortcut]\nfrom=0\n", -EINVAL,
	 "layer 0|8 x 8|2 x 4"},
	{NET CONV "[route]\n", -EINVAL, "layers|none"},
	{NET CONV "[route]\nlayers=0,\n", -EINVAL, "layers"},
	{NET CONV "[route]\nlayers=0,1\n", -EINVAL, "layers|layer 1"},
	{NET CONV "[route]\nlayers=-1,-5\n", -EINVAL, "layers"},
	{NET CONV CONV CONV "[route]\nlayers=20e-1\n", -EINVAL, "layers|'20e-1'|integers"},
	{NET CONV CONV CONV "[route]\nlayers=0,1.0\n", -EINVAL, "layers|'0,1.0'|integers"},
	{NET CONV "[route]\nlayers=0.5\n", -EINVAL, "layers"},
	{NET CONV "[route]\nlayers=-9223372036854775807000\n", -EINVAL, "layers|-9.22337e+21"},
	{NET CONV "[maxpool]\nstride=2\n[route]\nlayers=0,1\n", -EINVAL, "4 x 4|8 x 8"},
	{NET CONV "[softmax]\n[route]\nlayers=1\n", -EINVAL, "layer 1|no image"},
	{NET CONV "[upsample]\nstride=0\n", -EINVAL, "stride"},
	{NET CONV "[upsample]\nstride=-3\n", -EINVAL, "stride"},
	{NET CONV "[upsample]\nstride=8000\n", -EINVAL, "output"},
	{NET "[convolutional]\nfilters=3\n[reorg]\nstride=2\n", -EINVAL, "stride"},
	{NET CONV "[reorg]\nstride=0\n", -EINVAL, "stride"},
	{NET CONV "[crop]\ncrop_width=8\ncrop_height=7\n" CONV "[reorg]\nstride=2\n", -EINVAL,
	 "width and height"},
	{NET CONV "[crop]\ncrop_width=7\ncrop_height=8\n" CONV "[reorg]\nstride=2\n", -EINVAL,
	 "width and height"},
	{NET CONV "[reorg]\nstride=2\nextra=3\n", -EOPNOTSUPP, "extra"},
	{NET "[crop]\ncrop_width=9\ncrop_height=8\n", -EINVAL, "crop"},
	{NET CONV "[lrn]\nsize=10\n", -EINVAL, "size"},
	{NET "[local]\nfilters=2\nsize=3\npad=2\n", -EOPNOTSUPP, "pad"},
	{NET "[local]\nfilters=2\nsize=3\npad=1\n", -EOPNOTSUPP, "workspace"},
	{NET "[local]\nfilters=2\nsize=9\n", -EINVAL, "size"},
	/* Types that are not taken, by name, whatever else is wrong. */
	{NET CONV "[batchnorm]\n", -EOPNOTSUPP, "test.cfg:12|[batchnorm]|batch_normalize=1"},
	{NET "[deconvolutional]\n", -EOPNOTSUPP, "test.cfg:7|[deconvolutional]|weights"},
	{NET "[deconv]\n", -EOPNOTSUPP, "[deconv]|weights"},
	{"[net]\ninputs=256\n[rnn]\n", -EOPNOTSUPP, "test.cfg:3|[rnn]|sequences"},
	{"[net]\ninputs=256\n[gru]\n", -EOPNOTSUPP, "test.cfg:3|[gru]|sequences"},
	{NET "[lstm]\n", -EOPNOTSUPP, "[lstm]|sequences"},
	{NET "[crnn]\n", -EOPNOTSUPP, "[crnn]|sequences"},
	{NET CONV "[yolo]\n", -EOPNOTSUPP, "test.cfg:12|[yolo]|objects"},
	{NET CONV "[region]\n", -EOPNOTSUPP, "[region]|objects"},
	{NET CONV "[detection]\n", -EOPNOTSUPP, "[detection]|objects"},
	{NET CONV "[iseg]\n", -EOPNOTSUPP, "[iseg]|objects"},
	{NET CONV "[convolution]\n", -EOPNOTSUPP, "test.cfg:12|[convolution]|not known"},
	{NET "[nonsense\x01]\n", -EOPNOTSUPP, "[nonsense?]"},
	/* Darknet's backward pass would write to address 0. */
	{NET "[maxpool]\nsize=2\nstride=2\n" CONV, -EOPNOTSUPP, "test.cfg:7|[maxpool]|first layer"},
	{NET "[avgpool]\n" CONV, -EOPNOTSUPP, "[avgpool]|first layer"},
	{NET "[activation]\n" CONV, -EOPNOTSUPP, "[activation]|first layer"},
	{NET "[l2norm]\n" CONV, -EOPNOTSUPP, "[l2norm]|first layer"},
	{NET "[lrn]\n" CONV, -EOPNOTSUPP, "[lrn]|first layer"},
	{NET "[upsample]\n" CONV, -EOPNOTSUPP, "[upsample]|first layer"},
	{NET "[reorg]\n" CONV, -EOPNOTSUPP, "[reorg]|first layer"},
	{NET "[softmax]\n", -EOPNOTSUPP, "[softmax]|first layer"},
	{NET "[logistic]\n", -EOPNOTSUPP, "[logistic]|first layer"},
	{NET "[cost]\n", -EOPNOTSUPP, "[cost]|first layer"},
	{NET "[shortcut]\nfrom=-1\n", -EOPNOTSUPP, "[shortcut]|first layer"},
	{NET CROP "[maxpool]\n", -EOPNOTSUPP, "test.cfg:10|[maxpool]|[crop]"},
	{NET CROP "[dropout]\n[avgpool]\n", -EOPNOTSUPP, "test.cfg:11|[avgpool]|[crop]"},
	{NET CROP "[dropout]\n" CONV, 0, ""},
	{NET CROP CONV "[shortcut]\nfrom=0\n", -EOPNOTSUPP, "from|[crop]|no gradient"},
	{NET CROP CONV "[route]\nlayers=0,1\n", -EOPNOTSUPP, "layers|[crop]|no gradient"},
	{NET CROP "[dropout]\n" CONV "[route]\nlayers=1,2\n", -EOPNOTSUPP, "[dropout]|no gradient"},
	/* It would read past the truth. */
	{NET CONV "[softmax]\n[connected]\noutput=5\n[softmax]\n", -EINVAL,
	 "test.cfg:12|[softmax]|256 numbers|expected 5|noloss"},
	{NET CONV "[logistic]\n[connected]\noutput=5\n[softmax]\n", -EINVAL,
	 "test.cfg:12|[logistic]|256"},
	{NET CONV "[cost]\n[connected]\noutput=5\n[softmax]\n", -EINVAL, "test.cfg:12|[cost]|256"},
	{NET CONV "[softmax]\nnoloss=1\n[connected]\noutput=5\n[softmax]\n[cost]\n", 0, ""},
	/* Rates. */
	{HEAD("momentum=1"), -EINVAL, "test.cfg:7|[net]|momentum|less than 1"},
	{HEAD("momentum=-0.5"), -EINVAL, "momentum|-0.5"},
	{HEAD("decay=-1"), -EINVAL, "decay|-1"},
	{HEAD("learning_rate=1e39"), -EINVAL, "learning_rate|finite"},
	{HEAD("learning_rate=inf"), -EINVAL, "learning_rate|'inf'"},
	{HEAD("burn_in=-5"), -EINVAL, "burn_in|'-5'"},
	{HEAD("burn_in=5\npower=-1"), -EINVAL, "test.cfg:8|power|-1"},
	{HEAD("policy=step\nstep=5\nscale=-1"), -EINVAL, "scale|-1"},
	{HEAD("policy=exp\ngamma=-0.9"), -EINVAL, "gamma|-0.9"},
	{HEAD("policy=exp\ngamma=nan"), -EINVAL, "gamma|'nan'"},
	{HEAD("policy=steps\nsteps=1,2\nscales=.1,-.1"), -EINVAL, "test.cfg:9|scales|-0.1"},
	{HEAD("policy=steps\nsteps=1,2\nscales=.1,nan"), -EINVAL, "scales|nan"},
	{HEAD("policy=steps\nsteps=-1,2\nscales=.1,.1"), -EINVAL, "steps|-1"},
	{NET "[convolutional]\nlearning_rate=-1\n", -EINVAL, "test.cfg:8|learning_rate|-1"},
	{NET CONV "[upsample]\nstride=512\n[connected]\noutput=8192\n[connected]\noutput=8192\n",
	 -E2BIG, ""},
};

static void refusals(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		struct model *m = NULL;
		struct err err = {0};
		int r = model_parse(refused[i].cfg, strlen(refused[i].cfg), "test.cfg", NULL, 0, &m,
				    &err);
		if (r != refused[i].code)
			fail_msg("case %zu: got %d (%s) for:\n%s", i, r, err.text, refused[i].cfg);
		if (r == 0) {
			model_free(m);
			continue;
		}
		assert_null(m);
		assert_int_equal(err.code, r);
		char words[256];
		snprintf(words, sizeof(words), "%s", refused[i].text);
		for (char *save, *w = strtok_r(words, "|", &save); w;
		     w = strtok_r(NULL, "|", &save))
			if (!strstr(err.text, w))
				fail_msg("case %zu: '%s' is not in: %s", i, w, err.text);
	}
}

/* What can be read, but not trained as a classifier. */
static void classifiers(void **state)
{
	static const struct {
		const char *cfg, *text; /* NULL: fine */
	} cases[] = {
		{SMALL_CFG, NULL},
		{SMALL_CFG "[cost]\n", NULL},
		{NET CONV "[avg]\n[soft]\n", NULL},
		{NET CONV "[softmax]\nnoloss=1\n[cost]\n", NULL},
		{NET CONV, "test.cfg:7: [convolutional]"},
		{SMALL_CFG "[dropout]\n", "test.cfg:20: [dropout]"},
		{NET CONV "[logistic]\n", "test.cfg:12: [logistic]"},
		{NET CONV "[cost]\n", "test.cfg:7: [convolutional]"},
		{NET CONV "[softmax]\nnoloss=1\n", "test.cfg:12: [softmax] noloss"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(model_freep) struct model *m = util_model(cases[i].cfg, 0);
		struct err err = {0};
		int r = model_check_classifier(m, &err);
		assert_int_equal(r, cases[i].text ? -EOPNOTSUPP : 0);
		if (cases[i].text && !strstr(err.text, cases[i].text))
			fail_msg("case %zu: '%s' is not in: %s", i, cases[i].text, err.text);
	}
}

/* Out of whose softmax outputs can be left. */
static void absent_outputs(void **state)
{
	static const struct {
		const char *cfg, *text; /* NULL: fine */
	} cases[] = {
		{SMALL_CFG, NULL},
		{NET CONV "[avg]\n[soft]\n", NULL},
		{NET CONV "[connected]\noutput=4\n[softmax]\ngroups=2\n",
		 "test.cfg:14: found a [softmax]"},
		{NET CONV "[softmax]\nnoloss=1\n[connected]\noutput=5\n[softmax]\n[cost]\n",
		 "test.cfg:16: found another [softmax]"},
		{NET CONV "[maxpool]\n[softmax]\n", "found no layer"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(model_freep) struct model *m = util_model(cases[i].cfg, 0);
		struct err err = {0};
		int r = model_check_absent(m, &err);
		if (r != (cases[i].text ? -EOPNOTSUPP : 0) ||
		    (cases[i].text && !strstr(err.text, cases[i].text)))
			fail_msg("case %zu: %d, '%s' is not in: %s", i, r, cases[i].text, err.text);
	}
}

static void limits(void **state)
{
	struct model *m = NULL;
	struct err err = {0};
	_cleanup_free_ char *big = malloc(2 * MODEL_CFG_MAX);
	assert_non_null(big);
	int n = sprintf(big, "%s%s#", NET, CONV);
	memset(big + n, 'x', CFG_LINE_MAX);
	assert_int_equal(model_parse(big, (size_t)n + CFG_LINE_MAX - 1, "t", NULL, 0, &m, &err), 0);
	model_free(m);
	assert_int_equal(model_parse(big, (size_t)n + CFG_LINE_MAX, "t", NULL, 0, &m, &err),
			 -E2BIG);
	assert_non_null(strstr(err.text, "t:12"));
	memset(big, '\n', MODEL_CFG_MAX + 1);
	assert_int_equal(model_parse(big, MODEL_CFG_MAX + 1, "t", NULL, 0, &m, &err), -E2BIG);
	/* One layer too many. */
	n = sprintf(big, "%s[conv]\n", NET);
	for (int i = 1; i <= MODEL_LAYERS_MAX; i++)
		n += sprintf(big + n, "[avgpool]\n");
	assert_int_equal(model_parse(big, (size_t)n, "t", NULL, 0, &m, &err), -E2BIG);
	assert_int_equal(model_parse(big, (size_t)n - 10, "t", NULL, 0, &m, &err), 0);
	assert_int_equal(m->n_layers, MODEL_LAYERS_MAX);
	model_free(m);
	static const char nul[] = NET "fil\0ters=1\n" CONV;
	assert_int_equal(model_parse(nul, sizeof(nul) - 1, "t", NULL, 0, &m, &err), -EINVAL);
	assert_non_null(strstr(err.text, "NUL"));
}

static void class_lists(void **state)
{
	static const char *const six[] = {"a", "b", "c", "d", "e", "f"};
	static const char *const bad[] = {"a", "b\n"}, *const empty[] = {""};
	struct model *m = NULL;
	struct err err = {0};
	assert_int_equal(model_parse(SMALL_CFG, strlen(SMALL_CFG), "t", six, 6, &m, &err), -EINVAL);
	assert_non_null(strstr(err.text, "5 outputs"));
	assert_int_equal(model_parse(SMALL_CFG, strlen(SMALL_CFG), "t", bad, 2, &m, &err), -EINVAL);
	assert_int_equal(model_parse(SMALL_CFG, strlen(SMALL_CFG), "t", empty, 1, &m, &err),
			 -EINVAL);
	assert_int_equal(model_parse(SMALL_CFG, strlen(SMALL_CFG), "t", six, 5, &m, &err), 0);
	model_free(m);
}

static void files(void **state)
{
	char path[FILE_PATH_MAX];
	struct model *m = NULL;
	struct err err = {0};
	assert_int_equal(file_path(path, sizeof(path), "%s/none.cfg", (char *)*state), 0);
	assert_int_equal(model_load(path, NULL, 0, &m, &err), -ENOENT);
	assert_non_null(strstr(err.text, "none.cfg"));
	assert_int_equal(model_load(*state, NULL, 0, &m, &err), -EINVAL);
	util_write(path, SMALL_CFG, strlen(SMALL_CFG));
	assert_int_equal(model_load(path, NULL, 0, &m, &err), 0);
	assert_string_equal(m->cfg_path, path);
	model_free(m);
}

/* Every cut and many changed bytes of a cfg with all layer types: refused or sane, never worse. */
static void damaged(void **state)
{
	static const char cfg[] = NET
		"policy=steps\nsteps=3,5\nscales=.1,.1\n" CONV
		"[convolutional]\nfilters=8\nsize=3\nstride=2\npad=1\ngroups=4\nactivation=relu\n"
		"[lrn]\nsize=5\n[l2norm]\n[local]\nfilters=2\nsize=1\n"
		"[activation]\nactivation=tanh\n[crop]\ncrop_width=2\ncrop_height=2\n" CONV
		"[upsample]\nstride=2\n[shortcut]\nfrom=-2\n[route]\nlayers=-1,-6\n"
		"[maxpool]\nsize=2\nstride=2\n[reorg]\nstride=1\n[avgpool]\n[dropout]\n"
		"[connected]\noutput=3\n[logistic]\n[softmax]\n[cost]\ntype=L1\n";
	_cleanup_free_ char *copy = malloc(sizeof(cfg));
	assert_non_null(copy);
	struct rng rng;
	rng_init(&rng, 7);
	unsigned accepted = 0;
	for (size_t i = 0; i < 4 * sizeof(cfg); i++) {
		struct model *m = NULL;
		size_t len = i < sizeof(cfg) ? i : sizeof(cfg) - 1;
		memcpy(copy, cfg, sizeof(cfg));
		for (int k = 0; i >= sizeof(cfg) && k < 2; k++)
			copy[rng_below(&rng, (uint32_t)len)] =
				"0123456789-=[]\n\0x,"[rng_below(&rng, 18)];
		if (model_parse(copy, len, "t", NULL, 0, &m, NULL) < 0)
			continue;
		accepted++;
		assert_true(m->outputs > 0);
		assert_true(m->file_bytes == 20 + 4 * m->n_floats &&
			    m->n_floats <= MODEL_FLOATS_MAX);
		uint64_t at = 0;
		for (size_t t = 0; t < m->n_tensors; t++) {
			assert_int_equal(m->tensors[t].offset, at);
			assert_int_equal(m->tensors[t].count % m->tensors[t].rows, 0);
			at += m->tensors[t].count;
		}
		assert_int_equal(at, m->n_floats);
		model_free(m);
	}
	assert_true(accepted > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shapes_and_tensors),
		cmocka_unit_test(canonical_form),
		cmocka_unit_test(identity),
		cmocka_unit_test(refusals),
		cmocka_unit_test(classifiers),
		cmocka_unit_test(absent_outputs),
		cmocka_unit_test(limits),
		cmocka_unit_test(class_lists),
		cmocka_unit_test_setup_teardown(files, util_dir, util_dir_done),
		cmocka_unit_test(damaged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

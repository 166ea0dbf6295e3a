/* Payloads for a tiny model, after a byte that names the encoding: what is decoded is a sound
 * weights file with the id of its bytes, and nothing else is left. The corpus is made by
 * make_payloads.py, which has the encoder do it. */
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"
#include "common/encoding/encoding.h"
#include "tests/fuzz/fuzz.h"

static const char cfg[] = "[net]\nwidth=4\nheight=4\nchannels=1\nbatch=1\nsubdivisions=1\n"
			  "[convolutional]\nbatch_normalize=1\nfilters=2\nsize=3\nstride=1\npad=1\n"
			  "activation=leaky\n"
			  "[connected]\noutput=3\nactivation=linear\n"
			  "[softmax]\n";

static struct model *m;
static char dir[] = "/tmp/fuzz-encoding-XXXXXX";
static char base[FILE_PATH_MAX], in[FILE_PATH_MAX], out[FILE_PATH_MAX], tmp[FILE_PATH_MAX];

static void done(void)
{
	file_remove(dir, NULL);
}

/* The base: every weight 0.5. */
static void begin(void)
{
	struct err err = {0};
	FUZZ_CHECK(model_parse(cfg, strlen(cfg), "tiny.cfg", NULL, 0, &m, &err) == 0);
	FUZZ_CHECK(mkdtemp(dir));
	atexit(done);
	file_path(base, sizeof(base), "%s/base", dir);
	file_path(in, sizeof(in), "%s/in", dir);
	file_path(out, sizeof(out), "%s/out", dir);
	file_path(tmp, sizeof(tmp), "%s/out.tmp", dir);
	float *weights = calloc(1, m->file_bytes);
	FUZZ_CHECK(weights);
	((int32_t *)(void *)weights)[1] = 2;
	for (uint64_t i = 0; i < m->n_floats; i++)
		weights[WEIGHTS_HEADER_SIZE / sizeof(float) + i] = 0.5f;
	FUZZ_CHECK(file_write(base, weights, m->file_bytes, &err) == 0);
	free(weights);
}

static void put(const void *data, size_t size)
{
	FILE *f = fopen(in, "wb");
	FUZZ_CHECK(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char id[HASH_SIZE], found[HASH_SIZE];
	struct err err = {0};
	if (!m)
		begin();
	if (size == 0)
		return 0;
	enum encoding e = (enum encoding)(1 + data[0] % (ENCODING_N - 1));
	put(data + 1, size - 1);
	if (encoding_decode(m, e, in, base, out, id, &err) < 0) {
		FUZZ_CHECK(*err.text && !file_exists(out) && !file_exists(tmp));
		return 0;
	}
	fuzz_taken++;
	FUZZ_CHECK(weights_check(m, out, NULL, found, &err) == 0 && strcmp(found, id) == 0);
	FUZZ_CHECK(!file_exists(tmp) && unlink(out) == 0);
	return 0;
}

/* All message decoders: the first byte chooses one, the rest is the payload. What is taken is
 * printed, and what is printed must be taken and print the same. Built with ONLY, an enum
 * codec_kind, the whole input is a payload of that kind. */
#include "tests/codecs.h"
#include "tests/fuzz/fuzz.h"

/* A command's id goes into an answer and a file, also where the command is refused. */
static void check_command(const void *p, size_t len)
{
	struct msg_cmd m;
	struct err err = {0};
	char id[ID_SIZE];
	memset(id, 'x', sizeof(id));
	int r = msg_cmd_parse(p, len, &m, id, &err);
	FUZZ_CHECK(!*id || id_valid(id));
	if (r == 0) {
		FUZZ_CHECK(strcmp(id, m.id) == 0);
	} else {
		_cleanup_free_ char *reply = msg_reply_print(id, err.text, NULL);
		FUZZ_CHECK(reply);
	}
}

static void check(enum codec_kind k, const uint8_t *data, size_t size)
{
	_cleanup_free_ char *one = NULL, *two = NULL;
	struct err err = {0};
	if (k == CMD)
		check_command(data, size);
	int r = codecs[k].again(data, size, &one, &err);
	if (r < 0) {
		FUZZ_CHECK(err.code == r && *err.text);
		return;
	}
	fuzz_taken++;
	FUZZ_CHECK(one && size <= codecs[k].max);
	r = codecs[k].again(one, strlen(one), &two, &err);
	if (r < 0)
		fprintf(stderr, "%s\n%s\n", err.text, one);
	FUZZ_CHECK(r == 0);
	FUZZ_CHECK(two && strcmp(one, two) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
#ifdef ONLY
	check(ONLY, data, size);
#else
	/* The byte is a letter, so that a corpus can be read. */
	if (size > 0)
		check((uint8_t)(data[0] - 'a') % ARRAY_LEN(codecs), data + 1, size - 1);
#endif
	return 0;
}

/* All message decoders: the first byte chooses one, the rest is the payload. What is taken is
 * printed, and what is printed must be taken and print the same. */
#include <string.h>

#include "common/base/mem.h"
#include "common/protocol/message.h"
#include "tests/fuzz/fuzz.h"

#define AGAIN(name)                                                                     \
	static int again_##name(const void *p, size_t len, char **ret, struct err *err) \
	{                                                                               \
		struct msg_##name m;                                                    \
		int r = msg_##name##_parse(p, len, &m, err);                            \
		if (r == 0)                                                             \
			*ret = msg_##name##_print(&m);                                  \
		return r;                                                               \
	}
AGAIN(presence)
AGAIN(status)
AGAIN(offer)
AGAIN(claim)
AGAIN(grant)
AGAIN(result)
AGAIN(want)
AGAIN(ack)
AGAIN(trainer_status)
AGAIN(job)

static int again_report(const void *p, size_t len, char **ret, struct err *err)
{
	struct msg_report m;
	int r = msg_report_parse(p, len, &m, err);
	if (r == 0) {
		*ret = msg_report_print(&m);
		msg_report_done(&m);
	}
	return r;
}

static int again_cmd(const void *p, size_t len, char **ret, struct err *err)
{
	struct msg_cmd m;
	char id[ID_SIZE];
	memset(id, 'x', sizeof(id));
	int r = msg_cmd_parse(p, len, &m, id, err);
	FUZZ_CHECK(!*id || id_valid(id)); /* goes into an answer and a file */
	if (r == 0) {
		FUZZ_CHECK(strcmp(id, m.id) == 0);
		*ret = msg_cmd_print(&m);
	} else {
		_cleanup_free_ char *reply = msg_reply_print(id, err->text, NULL);
		FUZZ_CHECK(reply);
	}
	return r;
}

/* The byte is a letter, so that a corpus can be read. */
static int (*const decoders[])(const void *p, size_t len, char **ret, struct err *err) = {
	again_presence, again_status, again_report, again_offer,          again_claim, again_grant,
	again_result,   again_want,   again_ack,    again_trainer_status, again_job,   again_cmd,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	unsigned k = (unsigned)(uint8_t)(data[0] - 'a') % ARRAY_LEN(decoders);
	_cleanup_free_ char *one = NULL, *two = NULL;
	struct err err = {0};
	int r = decoders[k](data + 1, size - 1, &one, &err);
	if (r < 0) {
		FUZZ_CHECK(err.code == r && *err.text);
		return 0;
	}
	fuzz_taken++;
	FUZZ_CHECK(one);
	r = decoders[k](one, strlen(one), &two, &err);
	if (r < 0)
		fprintf(stderr, "%s\n%s\n", err.text, one);
	FUZZ_CHECK(r == 0);
	FUZZ_CHECK(two && strcmp(one, two) == 0);
	return 0;
}

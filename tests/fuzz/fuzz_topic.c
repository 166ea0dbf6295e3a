/* The input as a topic, and as an id in topics. A topic that is taken is the one its parts make
 * (but for what follows a reply's client), and an id that is taken is read back. */
#include <string.h>

#include "common/base/mem.h"
#include "common/protocol/topic.h"
#include "tests/fuzz/fuzz.h"

static void as_topic(const char *text)
{
	struct topic t;
	char back[TOPIC_SIZE];
	if (topic_parse(text, "site", &t) < 0)
		return;
	fuzz_taken++;
	FUZZ_CHECK(topic_format(back, "site", &t) == 0);
	if (t.kind == TOPIC_REPLY) {
		size_t n = strlen(back);
		FUZZ_CHECK(strncmp(back, text, n) == 0 && (!text[n] || text[n] == '/'));
		FUZZ_CHECK(!strpbrk(text, "+# "));
	} else {
		FUZZ_CHECK(strcmp(back, text) == 0);
	}
}

static void as_id(const char *text, size_t size)
{
	struct topic t = {.kind = TOPIC_TRAINER_JOB, .trainer = "t"}, back;
	char topic[TOPIC_SIZE], filter[TOPIC_SIZE];
	if (size >= ID_SIZE)
		return;
	memcpy(t.device, text, size + 1);
	if (topic_format(topic, "site", &t) < 0) {
		FUZZ_CHECK(!id_valid(t.device));
		return;
	}
	FUZZ_CHECK(topic_parse(topic, "site", &back) == 0);
	FUZZ_CHECK(back.kind == t.kind && strcmp(back.device, t.device) == 0);
	FUZZ_CHECK(topic_filter(filter, "site", &t, NULL) == 0 && strcmp(filter, topic) == 0);
	FUZZ_CHECK(topic_format(topic, t.device, &t) == 0);
	FUZZ_CHECK(topic_parse(topic, t.device, &back) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = malloc(size + 1);
	FUZZ_CHECK(text);
	memcpy(text, data, size);
	text[size] = 0;
	as_topic(text);
	as_id(text, strlen(text));
	return 0;
}

/* The agent's configuration. */
#include <string.h>

#include "common/base/mem.h"
#include "device-agent/conf.h"
#include "tests/fuzz/fuzz.h"

static int load(const char *path, void *ret, struct err *err)
{
	return agent_conf_load(path, ret, err);
}

/* Two texts from outside as a setting, and as classes. */
static void check_uses(struct agent_conf *a)
{
	static const char *const names[] = {"a", "b b", "c"};
	static const char *const keys[] = {"every_epochs", "lease_s", "min_epochs"};
	struct err err = {0};
	FUZZ_CHECK(agent_conf_classes(a, names, ARRAY_LEN(names), &err) == 0 || *err.text);
	for (size_t i = 0; i < a->select.n_protect; i++)
		FUZZ_CHECK(a->select.protect[i] >= 0 && a->select.protect[i] < 3);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		err = (struct err){0};
		int r = agent_live_set(&a->live, keys[i], a->select.protect_names, &err);
		FUZZ_CHECK(r == 0 || *err.text);
	}
	FUZZ_CHECK(a->live.lease_s >= 5 && a->live.every_epochs >= 0 && a->live.min_epochs >= 0);
}

/* Words of [hook], each with its NUL, the first a program's path. */
static void check_hook(const struct hook_conf *h)
{
	const char *word = h->words;
	FUZZ_CHECK(h->n <= AGENT_HOOK_WORDS_MAX && (!h->n || *word == '/'));
	FUZZ_CHECK(h->timeout_s >= 1 && h->timeout_s <= 3600);
	for (size_t i = 0; i < h->n; i++, word += strlen(word) + 1)
		FUZZ_CHECK(*word && word < h->words + sizeof(h->words) && !strpbrk(word, " \t"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct agent_conf c;
	if (!fuzz_conf("agent.conf", "data", data, size, load, &c, sizeof(c)))
		return 0;
	FUZZ_CHECK(id_valid(c.site) && id_valid(c.id) && *c.state);
	FUZZ_CHECK(c.port >= 1 && c.port <= 65535);
	check_uses(&c);
	check_hook(&c.hook);
	return 0;
}

/* The agent's state.json: what is taken is written again, and read back the same; what is refused
 * leaves the state that was there. */
#include <string.h>

#include "common/base/mem.h"
#include "device-agent/state.h"
#include "tests/fuzz/fuzz.h"

static char path[FILE_PATH_MAX];

/* As text, which shows all that is kept. */
static char *saved(const struct state *s)
{
	char *text;
	size_t len;
	struct err err = {0};
	FUZZ_CHECK(state_save(path, s, &err) == 0);
	FUZZ_CHECK(file_read(path, STATE_BYTES_MAX, &text, &len, &err) == 0);
	return text;
}

static void check_bounds(const struct state *s)
{
	FUZZ_CHECK(s->n_undecided <= STATE_UNDECIDED_MAX && s->n_scores <= STATE_SCORES_MAX);
	FUZZ_CHECK(s->n_commands <= STATE_COMMANDS_MAX && s->judgement.n <= CANDIDATES_MAX);
	FUZZ_CHECK(s->n_spent <= STATE_SPENT_MAX);
	FUZZ_CHECK(s->handover.n_decided <= HANDOVER_DECIDED_MAX);
	FUZZ_CHECK(s->handover.phase < HANDOVER_PHASE_N && s->report_seq >= 0);
}

/* Their own decoders take some members that say nothing, and so are not printed again. */
static void leave_messages_out(struct state *s)
{
	memset(&s->fleet.offer, 0, sizeof(s->fleet.offer));
	memset(&s->handover.result, 0, sizeof(s->handover.result));
	memset(&s->handover.decided, 0, sizeof(s->handover.decided));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct state s, again, as_it_was;
	_cleanup_free_ char *one = NULL, *two = NULL;
	struct err err = {0};
	if (!*path)
		fuzz_path("state.json", path);
	fuzz_put(path, data, size);
	memset(&s, 0x5a, sizeof(s));
	if (state_load(path, &s, &err) < 0) {
		memset(&as_it_was, 0x5a, sizeof(as_it_was));
		FUZZ_CHECK(*err.text && memcmp(&s, &as_it_was, sizeof(s)) == 0);
		return 0;
	}
	fuzz_taken++;
	check_bounds(&s);
	one = saved(&s);
	if (state_load(path, &again, &err) < 0) {
		fprintf(stderr, "%s\n%s\n", err.text, one);
		abort();
	}
	two = saved(&again);
	FUZZ_CHECK(strcmp(one, two) == 0);
	leave_messages_out(&s);
	leave_messages_out(&again);
	FUZZ_CHECK(memcmp(&s, &again, sizeof(s)) == 0);
	return 0;
}

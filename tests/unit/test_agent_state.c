/* state.json: everything comes back, a bad file is named, scores and answers are bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "device-agent/state.h"

#define COPY(to, from) snprintf(to, sizeof(to), "%s", from)

static char dir[64], path[FILE_PATH_MAX];
static struct state *s, *t;
static struct err err;

static int setup(void **state)
{
	err = (struct err){0};
	s = calloc(1, sizeof(*s));
	t = calloc(1, sizeof(*t));
	strcpy(dir, "/tmp/tasuki-test-XXXXXX");
	if (!s || !t || !mkdtemp(dir))
		return -1;
	return file_path(path, sizeof(path), "%s/state.json", dir);
}

static int teardown(void **state)
{
	free(s);
	free(t);
	return file_remove(dir, NULL);
}

static const char *hash(char letter)
{
	static char text[8][HASH_SIZE];
	static size_t next;
	char *h = text[next++ % 8];
	memset(h, letter, HASH_HEX);
	h[HASH_HEX] = 0;
	return h;
}

static void fill_result(struct msg_result *r)
{
	struct manifest *m = &r->manifest;
	COPY(m->id, hash('e'));
	COPY(m->parents[0], hash('c'));
	m->n_parents = 1;
	COPY(m->model, hash('a'));
	m->origin = ORIGIN_EDGE;
	COPY(m->device, "cam-1");
	COPY(m->trainer, "edge-1");
	m->epoch = 12;
	m->images_seen = 3000;
	m->classes = 10;
	m->size = 44764;
	m->block_size = 131072;
	m->created_ms = 1790000000000;
	m->encoding = ENCODING_RAW;
	r->fence = 4;
	r->before = (struct score){400, 300, 0.5};
	r->after = (struct score){400, 350, 0.25};
	COPY(r->snapshot, hash('f'));
	r->images_trained = 8000;
	r->duration_ms = 5000;
}

static void fill(void)
{
	COPY(s->model, hash('a'));
	s->boot = 3;
	s->report_seq = 17;
	s->paused = s->pinned = true;
	s->n_private = 2;
	COPY(s->local, hash('b'));
	state_undecided_push(s, hash('b'));
	state_undecided_push(s, hash('c'));
	s->rounds = (struct rounds){.epoch = 9,
				    .images_seen = 900,
				    .rounds_done = 2,
				    .round_epoch = 1,
				    .round_wanted = 4,
				    .offer_epoch = 6,
				    .offer_ordered = true,
				    .best = {100, 70, 0.875},
				    .best_epoch = 8,
				    .adopted_epoch = 5,
				    .top = {90, 80, 0.5}};
	COPY(s->rounds.best_snapshot, hash('d'));
	COPY(s->rounds.train_snapshot, hash('e'));
	s->link = (struct meter_day){20717, 12345};
	s->sequence = 1790000000001;
	state_taken_put(s, "edge-1", 77, hash('c'));
	state_taken_put(s, "edge-2", 78, hash('d'));
	s->taken[0].last.over = true;
	s->fleet.sequence = 1790000000;
	COPY(s->fleet.id, hash('8'));
	s->privacy.spent = 0.1 + 0.2; /* to the last bit */
	s->privacy.handovers = 2;
	COPY(s->privacy.counted, hash('1'));
	COPY(s->privacy.whole, hash('2'));
	COPY(s->privacy.noised, hash('3'));
	struct handover *h = &s->handover;
	h->phase = HANDOVER_JUDGING;
	COPY(h->checkpoint, hash('c'));
	h->fence = 4;
	COPY(h->trainer, "edge-1");
	COPY(h->granted, hash('c'));
	h->open = true;
	fill_result(&h->result);
	COPY(s->seal.secret, hash('1'));
	COPY(s->seal.theirs, hash('2'));
	COPY(h->decided[0].trainer, "edge-2");
	struct msg_ack *ack = &h->decided[0].ack;
	COPY(ack->checkpoint, hash('9'));
	ack->fence = 3;
	ack->has_decision = true;
	ack->decision = DECISION_REFUSED;
	COPY(ack->reason, "size: \"found\" 1");
	h->n_decided = 1;
	struct select_conf select = {.blends = {25, 75}, .n_blends = 2, .tune_steps = 1};
	candidates_begin(&s->judgement, &select, hash('e'), hash('c'), "", false);
	s->judgement.at[1].out = true;
	COPY(s->judgement.at[2].checkpoint, hash('7'));
	struct state_score score = {.split = SPLIT_TEST, .score = {50, 40, 0.125}};
	COPY(score.checkpoint, hash('b'));
	COPY(score.snapshot, hash('d'));
	state_score_put(s, &score);
	state_command_put(s, "a1", "{\"id\":\"a1\",\"ok\":true}");
	COPY(s->pending.activate, hash('b'));
	s->pending.seq = 17;
	COPY(s->pending.report, "{\"seq\":17}");
}

static void test_all_comes_back(void **state)
{
	fill();
	if (state_save(path, s, &err) < 0)
		fail_msg("%s", err.text);
	if (state_load(path, t, &err) < 0)
		fail_msg("%s", err.text);
	assert_memory_equal(&s->rounds, &t->rounds, sizeof(s->rounds));
	assert_int_equal(t->sequence, s->sequence);
	assert_int_equal(t->n_taken, 2);
	assert_memory_equal(&s->taken, &t->taken, sizeof(s->taken));
	assert_int_equal(t->fleet.sequence, s->fleet.sequence);
	assert_string_equal(t->fleet.id, s->fleet.id);
	assert_memory_equal(&s->handover.decided, &t->handover.decided,
			    sizeof(t->handover.decided));
	assert_string_equal(t->handover.result.manifest.id, hash('e'));
	assert_int_equal(t->handover.result.after.correct, 350);
	assert_memory_equal(s, t, sizeof(*s));
}

static mode_t mode(void)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 0777;
}

/* While a secret is in it. */
static void test_secrets_are_the_owners(void **state)
{
	fill();
	assert_int_equal(state_save(path, s, &err), 0);
	assert_int_equal(mode(), 0600);
	s->seal = (struct sealed){0};
	assert_int_equal(state_save(path, s, &err), 0);
	assert_int_not_equal(mode(), 0600);
	assert_int_equal(state_load(path, t, &err), 0);
	assert_string_equal(t->seal.secret, "");
}

static void test_missing(void **state)
{
	s->boot = 5;
	assert_int_equal(state_load(path, s, &err), 0);
	assert_memory_equal(s, t, sizeof(*s));
}

static void assert_bad(const char *from, const char *to, const char *named)
{
	_cleanup_free_ char *found = strdup(from); /* fill() makes hashes, too */
	char *text = NULL, *at;
	size_t len;
	fill();
	assert_int_equal(state_save(path, s, &err), 0);
	assert_int_equal(file_read(path, STATE_BYTES_MAX, &text, &len, NULL), 0);
	at = strstr(text, found);
	assert_non_null(at);
	_cleanup_free_ char *bad = calloc(1, len + strlen(to) + 1);
	snprintf(bad, len + strlen(to) + 1, "%.*s%s%s", (int)(at - text), text, to,
		 at + strlen(found));
	free(text);
	assert_int_equal(file_write(path, bad, strlen(bad), NULL), 0);
	t->boot = 99;
	if (state_load(path, t, &err) >= 0)
		fail_msg("'%s' for '%s' was read", to, from);
	assert_non_null(strstr(err.text, "state.json"));
	if (!strstr(err.text, named))
		fail_msg("'%s' does not name '%s'", err.text, named);
	assert_int_equal(t->boot, 99);
	memset(s, 0, sizeof(*s));
}

static void test_bad_files(void **state)
{
	assert_bad("{\"version\":1", "{\"version\":2", "version");
	assert_bad("\"boot\":3", "\"boot\":\"3\"", "boot");
	assert_bad("\"boot\":3,", "", "boot");
	assert_bad("\"phase\":4", "\"phase\":5", "phase");
	assert_bad("\"fence\":4", "\"fence\":-4", "fence");
	assert_bad("\"bytes\":12345", "\"bytes\":-1", "bytes");
	assert_bad("\"spent\":0.3", "\"spent\":-0.3", "spent");
	assert_bad("\"handovers\":2", "\"handovers\":-2", "handovers");
	assert_bad("\"noised\":\"33", "\"noised\":\"", "noised");
	assert_bad("\"epoch\":9", "\"epoch\":9.5", "epoch");
	assert_bad("\"split\":\"test\"", "\"split\":\"tset\"", "split");
	assert_bad("\"trainer\":\"edge-1\"", "\"trainer\":\"../x\"", "trainer");
	assert_bad("\\\"fence\\\":3", "\\\"fence\\\":\\\"x\\\"", "decided[0]");
	assert_bad(hash('d'), "dd", "expected 64 hex digits");
	assert_bad("\"secret\":\"1", "\"secret\":\"X", "secret");
	assert_bad("\"theirs\":\"2", "\"theirs\":\"X", "theirs");
	assert_bad("\"commands\":[{", "\"commands\":[7,{", "commands[0]");
	assert_bad("\"kind\":\"tuned\"", "\"kind\":\"tune\"", "candidates[4]: kind");
	assert_bad("\"percent\":75", "\"percent\":101", "percent");
	assert_bad("\"out\":true", "\"out\":1", "out");
	assert_bad("\"top\":{\"n\":90", "\"top\":{\"n\":-90", "n");
	assert_bad("{\"version\"", "{{\"version\"", "state.json");
}

/* Of an agent that judged two checkpoints only. */
static void test_older_file(void **state)
{
	char *text = NULL;
	size_t len;
	fill();
	assert_int_equal(state_save(path, s, &err), 0);
	assert_int_equal(file_read(path, STATE_BYTES_MAX, &text, &len, NULL), 0);
	char *at = strstr(text, ",\"adopted_epoch\""), *end = strstr(text, "},\"handover\"");
	assert_true(at && end);
	memmove(at, end, strlen(end) + 1);
	at = strstr(text, "\"judgement\"");
	end = strstr(text, "\"scores\"");
	assert_true(at && end);
	memmove(at, end, strlen(end) + 1);
	assert_int_equal(file_write(path, text, strlen(text), NULL), 0);
	free(text);
	if (state_load(path, t, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(t->judgement.result, ""); /* it begins anew */
	assert_int_equal(t->rounds.adopted_epoch, 0);
	assert_int_equal(t->link.bytes, 0);
	assert_int_equal(t->rounds.top.correct, 70); /* the best it knows of */
}

/* What came back is always among what is judged. */
static void test_judges_nothing(void **state)
{
	char *text = NULL;
	size_t len;
	fill();
	assert_int_equal(state_save(path, s, &err), 0);
	assert_int_equal(file_read(path, STATE_BYTES_MAX, &text, &len, NULL), 0);
	char *at = strstr(text, "\"returned\"");
	assert_non_null(at);
	memcpy(at, "\"previous\"", 10);
	assert_int_equal(file_write(path, text, strlen(text), NULL), 0);
	free(text);
	assert_int_equal(state_load(path, t, &err), -EINVAL);
	assert_non_null(strstr(err.text, "candidates"));
}

static void test_scores(void **state)
{
	struct state_score p = {.split = SPLIT_VALIDATION, .score = {10, 1, 0}};
	COPY(p.checkpoint, hash('a'));
	COPY(p.snapshot, hash('b'));
	state_score_put(s, &p);
	p.score.correct = 2;
	state_score_put(s, &p); /* in its place */
	assert_int_equal(s->n_scores, 1);
	assert_int_equal(state_score_find(s, hash('a'), SPLIT_VALIDATION, hash('b'))->score.correct,
			 2);
	assert_null(state_score_find(s, hash('a'), SPLIT_TEST, hash('b')));
	assert_null(state_score_find(s, hash('a'), SPLIT_VALIDATION, hash('c')));
	COPY(p.snapshot, hash('c'));
	p.score.correct = 3;
	state_score_put(s, &p);
	assert_int_equal(state_score_find(s, hash('a'), SPLIT_VALIDATION, NULL)->score.correct, 3);
	for (int i = 0; i < STATE_SCORES_MAX; i++) {
		snprintf(p.checkpoint, sizeof(p.checkpoint), "%064d", i);
		state_score_put(s, &p);
	}
	assert_int_equal(s->n_scores, STATE_SCORES_MAX);
	assert_null(state_score_find(s, hash('a'), SPLIT_VALIDATION, NULL));
	state_score_drop(s, p.checkpoint, p.split, p.snapshot);
	assert_null(state_score_find(s, p.checkpoint, SPLIT_VALIDATION, NULL));
	assert_int_equal(s->n_scores, STATE_SCORES_MAX - 1);
}

static void test_undecided(void **state)
{
	for (char c = 'a'; c <= 'e'; c++)
		state_undecided_push(s, hash(c));
	assert_int_equal(s->n_undecided, STATE_UNDECIDED_MAX);
	assert_string_equal(s->undecided[0], hash('b'));
	state_undecided_push(s, hash('c')); /* once, at the end */
	assert_int_equal(s->n_undecided, STATE_UNDECIDED_MAX);
	assert_string_equal(s->undecided[3], hash('c'));
	state_undecided_drop(s, hash('d'));
	state_undecided_drop(s, hash('d'));
	assert_int_equal(s->n_undecided, 3);
	assert_string_equal(s->undecided[1], hash('e'));
}

/* One entry a trainer; whose result is the oldest goes first. */
static void test_taken(void **state)
{
	char trainer[ID_SIZE];
	for (int i = 0; i < STATE_TAKEN_MAX + 3; i++) {
		snprintf(trainer, sizeof(trainer), "edge-%d", i);
		state_taken_put(s, trainer, 100 + i, hash('a'));
		state_taken_put(s, "edge-0", 200 + i, hash('b'));
	}
	assert_int_equal(s->n_taken, STATE_TAKEN_MAX);
	assert_null(state_taken_find(s, "edge-3"));
	assert_int_equal(state_taken_find(s, "edge-4")->last.sequence, 104);
	assert_int_equal(state_taken_find(s, "edge-0")->last.sequence, 200 + STATE_TAKEN_MAX + 2);
	assert_string_equal(state_taken_find(s, "edge-0")->last.id, hash('b'));
}

static void test_commands(void **state)
{
	char id[ID_SIZE];
	for (int i = 0; i < STATE_COMMANDS_MAX + 1; i++) {
		snprintf(id, sizeof(id), "c%d", i);
		state_command_put(s, id, id);
	}
	assert_int_equal(s->n_commands, STATE_COMMANDS_MAX);
	assert_null(state_command_find(s, "c0"));
	assert_string_equal(state_command_find(s, "c1"), "c1");
	assert_string_equal(state_command_find(s, id), id);
	_cleanup_free_ char *big = malloc(MESSAGE_SMALL_MAX + 2);
	memset(big, 'x', MESSAGE_SMALL_MAX + 1);
	big[MESSAGE_SMALL_MAX + 1] = 0;
	state_command_put(s, "big", big);
	assert_null(state_command_find(s, "big"));
}

static void test_spent(void **state)
{
	char id[ID_SIZE];
	for (int i = 0; i < STATE_SPENT_MAX; i++) {
		snprintf(id, sizeof(id), "c%d", i);
		state_spent_put(s, id, 1000 + (i + 7) % STATE_SPENT_MAX);
	}
	assert_int_equal(s->n_spent, STATE_SPENT_MAX);
	assert_true(state_is_spent(s, "c0"));
	state_spent_put(s, "one more", 5000);
	assert_int_equal(s->n_spent, STATE_SPENT_MAX);
	assert_true(state_is_spent(s, "one more") && state_is_spent(s, "c0"));
	snprintf(id, sizeof(id), "c%d", STATE_SPENT_MAX - 7);
	assert_false(state_is_spent(s, id)); /* its time was over first */
}

static void test_full_state_is_read(void **state)
{
	/* Everything at its limit still fits the limit of the file. */
	fill();
	memset(s->pending.report, 'r', MESSAGE_LARGE_MAX);
	while (s->n_commands < STATE_COMMANDS_MAX) {
		struct state_command *c = &s->commands[s->n_commands++];
		COPY(c->id, "x");
		memset(c->reply, '"', MESSAGE_SMALL_MAX);
	}
	while (s->n_spent < STATE_SPENT_MAX) { /* not as a whole: its padding is compared, too */
		struct state_spent *c = &s->spent[s->n_spent++];
		COPY(c->id, "x");
		c->until_ms = JSON_INT_MAX;
	}
	assert_int_equal(state_save(path, s, &err), 0);
	if (state_load(path, t, &err) < 0)
		fail_msg("%s", err.text);
	assert_memory_equal(s, t, sizeof(*s));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_all_comes_back), T(test_secrets_are_the_owners), T(test_missing),    T(test_bad_files),
		T(test_judges_nothing), T(test_older_file), T(test_scores),
		T(test_undecided),      T(test_taken), T(test_commands), T(test_spent),   T(test_full_state_is_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What is made or scored next when a result is judged, step by step, until it can be decided. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "device-agent/candidates.h"

static struct select_conf c;
static struct judgement j;
static struct candidates_view v;
/* Scores that are known: validation of "x" is an entry "x/v", test "x/t". */
static struct {
	char name[HASH_SIZE + 2];
	struct score score;
} known[64];
static size_t n_known;

static const struct score *score(const void *user, const char *checkpoint, enum split split)
{
	char name[HASH_SIZE + 2];
	snprintf(name, sizeof(name), "%s/%c", checkpoint, split_name(split)[0]);
	for (size_t i = 0; i < n_known; i++)
		if (strcmp(known[i].name, name) == 0)
			return &known[i].score;
	return NULL;
}

static void know(const char *name, int64_t correct, double loss)
{
	snprintf(known[n_known].name, sizeof(known[0].name), "%.60s", name);
	known[n_known++].score = (struct score){100, correct, loss};
}

static int setup(void **state)
{
	c = (struct select_conf){
		.blends = {25, 75}, .n_blends = 2, .previous = true, .tune_steps = 60};
	v = (struct candidates_view){
		.active = "A", .has_split = {true, true, true}, .can_train = true, .score = score};
	n_known = 0;
	return 0;
}

/* As text: what is to be done next. */
static const char *next(void)
{
	static char text[60];
	struct candidates_step s = candidates_next(&j, &v);
	const struct candidate_entry *e = &j.at[s.entry];
	switch (s.todo) {
	case CANDIDATES_SCORE:
		snprintf(text, sizeof(text), "%.40s/%c", s.checkpoint, split_name(s.split)[0]);
		return text;
	case CANDIDATES_GRAFT:
		snprintf(text, sizeof(text), "graft %.40s", s.checkpoint);
		return text;
	case CANDIDATES_BLEND:
		snprintf(text, sizeof(text), "blend %d", (int)e->percent);
		return text;
	case CANDIDATES_TUNE:
		snprintf(text, sizeof(text), "tune %.40s", s.checkpoint);
		return text;
	case CANDIDATES_EARLY:
		assert_string_equal(s.checkpoint, e->checkpoint);
		return "early";
	case CANDIDATES_DECIDE:
		return "decide";
	}
	return "?";
}

static struct candidate_entry *entry(enum candidate_kind kind, int64_t percent)
{
	for (size_t i = 0; i < j.n; i++)
		if (j.at[i].kind == kind && j.at[i].percent == percent)
			return &j.at[i];
	fail_msg("no %s of %d", candidate_kind_name(kind), (int)percent);
	return NULL;
}

/* Does what is to be done, which must be `steps` in this order; what is made is called by what it
 * was made by, and scores 50. */
static void walk(const char *const *steps)
{
	for (; *steps; steps++) {
		struct candidates_step s = candidates_next(&j, &v);
		char is[60];
		snprintf(is, sizeof(is), "%.59s", next());
		if (strcmp(is, *steps) != 0)
			fail_msg("next is '%s', expected '%s'", is, *steps);
		if (s.todo == CANDIDATES_SCORE)
			know(is, 50, 1);
		else if (s.todo == CANDIDATES_EARLY)
			j.at[s.entry].early = true;
		else if (s.todo != CANDIDATES_DECIDE)
			snprintf(j.at[s.entry].checkpoint, HASH_SIZE, "%.60s", is);
	}
}
#define WALK(...) walk((const char *const[]){__VA_ARGS__, NULL})

static void test_all(void **state)
{
	candidates_begin(&j, &c, "R", "L", "P", false);
	WALK("A/v", "L/t", "L/v", "R/t", "R/v", "early", "blend 25", "blend 25/v", "blend 75",
	     "blend 75/v", "P/v", "tune R", "tune R/v", "decide");
	assert_true(candidate_descends(entry(CANDIDATE_TUNED, 0)));
	assert_true(candidate_descends(entry(CANDIDATE_BLEND, 75)));
	assert_true(candidate_descends(entry(CANDIDATE_RETURNED, 0)));
	assert_false(candidate_descends(entry(CANDIDATE_LOCAL, 0)));
	assert_false(candidate_descends(entry(CANDIDATE_PREVIOUS, 0)));
}

/* The returned one is not decided on by itself where nothing more is to be waited for, or where it
 * is what is active. */
static void test_early(void **state)
{
	c.n_blends = 0;
	c.tune_steps = 0;
	candidates_begin(&j, &c, "R", "L", "P", false);
	WALK("A/v", "L/t", "L/v", "R/t", "R/v", "early", "P/v", "decide");
	know("P/v", 50, 1);
	candidates_begin(&j, &c, "R", "L", "P", false);
	WALK("decide");
	c.tune_steps = 60;
	candidates_begin(&j, &c, "R", "L", "P", false);
	v.active = "R";
	WALK("tune R");
}

/* The paper's way. */
static void test_two_alone(void **state)
{
	c = (struct select_conf){0};
	candidates_begin(&j, &c, "R", "L", "P", false);
	WALK("A/v", "L/t", "L/v", "R/t", "R/v", "decide");
}

static void test_grafted(void **state)
{
	c.n_blends = 1;
	candidates_begin(&j, &c, "R", "L", "", true);
	v.over = true; /* also then */
	WALK("graft R");
	v.over = false;
	WALK("A/v", "L/t", "L/v", "graft R/t", "graft R/v", "early", "blend 25", "blend 25/v",
	     "tune graft R", "tune graft R/v", "decide");
	/* The result itself is not among them. */
	assert_null(candidates_find(&j, "R"));
	candidates_begin(&j, &c, "R", "L", "", true);
	entry(CANDIDATE_RETURNED, 0)->out = true;
	WALK("decide"); /* nothing can be made of it */
}

/* The returned one is tuned, whatever blends score: trained on, it came out best in every
 * experiment (docs/experiments.md). */
static void test_what_is_tuned(void **state)
{
	candidates_begin(&j, &c, "R", "L", "", false);
	WALK("A/v", "L/t", "L/v", "R/t", "R/v", "early", "blend 25");
	know("blend 25/v", 90, 0.1);
	WALK("blend 75", "blend 75/v", "tune R");
	c.n_blends = 0;
	candidates_begin(&j, &c, "R", "L", "", true);
	strcpy(entry(CANDIDATE_RETURNED, 0)->checkpoint, "G");
	WALK("G/t", "G/v", "early", "tune G", "tune G/v");
	/* What cannot be scored is not trained on either. */
	entry(CANDIDATE_TUNED, 0)->checkpoint[0] = 0;
	entry(CANDIDATE_RETURNED, 0)->out = true;
	WALK("decide");
}

static void test_left_out(void **state)
{
	candidates_begin(&j, &c, "R", "L", "P", false);
	WALK("A/v", "L/t", "L/v", "R/t", "R/v", "early");
	entry(CANDIDATE_BLEND, 25)->out = true;
	WALK("blend 75");
	entry(CANDIDATE_BLEND, 75)->out = true; /* could not be scored */
	WALK("P/v");
	entry(CANDIDATE_TUNED, 0)->out = true;
	WALK("decide");
	/* Without a local one there is nothing to blend with. */
	candidates_begin(&j, &c, "R", "L", "P", false);
	entry(CANDIDATE_LOCAL, 0)->out = true;
	WALK("early", "tune R");
	candidates_begin(&j, &c, "R", "", "", false);
	assert_int_equal(j.n, 2);
}

static void test_time_is_up(void **state)
{
	candidates_begin(&j, &c, "R", "L", "P", false);
	v.over = true;
	WALK("A/v", "L/t", "L/v", "R/t", "R/v", "decide"); /* that much is always waited for */
	v.over = false;
	WALK("early", "blend 25", "blend 25/v", "blend 75");
	v.over = true;
	WALK("decide");
	assert_false(candidates_tuning(&j, &v));
}

static void test_training_waits_for_tuning(void **state)
{
	candidates_begin(&j, &c, "R", "L", "P", false);
	assert_true(candidates_tuning(&j, &v));
	v.can_train = false;
	assert_false(candidates_tuning(&j, &v));
	WALK("A/v", "L/t", "L/v", "R/t", "R/v", "early", "blend 25", "blend 25/v", "blend 75",
	     "blend 75/v", "P/v", "decide");
	v.can_train = true;
	WALK("tune R");
	assert_true(candidates_tuning(&j, &v)); /* it is there, */
	WALK("tune R/v");
	assert_false(candidates_tuning(&j, &v)); /* and scored */
	c.tune_steps = 0;
	candidates_begin(&j, &c, "R", "L", "P", false);
	assert_false(candidates_tuning(&j, &v));
}

static void test_no_images_to_score_on(void **state)
{
	candidates_begin(&j, &c, "R", "L", "P", false);
	v.has_split[SPLIT_VALIDATION] = false;
	WALK("L/t", "R/t", "decide"); /* nothing can be chosen: nothing is made */
	assert_false(candidates_tuning(&j, &v));
	v.has_split[SPLIT_TEST] = false;
	n_known = 0;
	WALK("decide");
	v.has_split[SPLIT_VALIDATION] = true;
	v.active = "";
	c = (struct select_conf){0};
	candidates_begin(&j, &c, "R", "L", "P", false);
	WALK("L/v", "R/v", "decide");
}

/* Scores on other images are none: all are asked for again, what was made is not made again. */
static void test_images_change(void **state)
{
	candidates_begin(&j, &c, "R", "L", "", false);
	WALK("A/v", "L/t", "L/v", "R/t", "R/v", "early", "blend 25", "blend 25/v", "blend 75",
	     "blend 75/v", "tune R");
	n_known = 0;
	WALK("A/v", "L/t", "L/v", "R/t", "R/v", "blend 25/v", "blend 75/v", "tune R/v", "decide");
}

static void test_what_they_have_in_common(void **state)
{
	/* Nothing was trained at the edge: nothing to blend. */
	candidates_begin(&j, &c, "L", "L", "L", false);
	assert_int_equal(j.n, 2);
	assert_string_equal(j.at[0].checkpoint, "L");
	assert_int_equal(j.at[0].kind, CANDIDATE_RETURNED);
	assert_int_equal(j.at[1].kind, CANDIDATE_TUNED);
	candidates_begin(&j, &c, "R", "L", "L", false);
	assert_null(candidates_kind(&j, CANDIDATE_PREVIOUS));
	candidates_begin(&j, &c, "R", "L", "R", false);
	assert_null(candidates_kind(&j, CANDIDATE_PREVIOUS));
	c.n_blends = SELECT_BLENDS_MAX;
	candidates_begin(&j, &c, "R", "L", "P", false);
	assert_int_equal(j.n, CANDIDATES_MAX); /* there is room for all */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = {
		T(test_all),
		T(test_early),
		T(test_two_alone),
		T(test_grafted),
		T(test_what_is_tuned),
		T(test_left_out),
		T(test_time_is_up),
		T(test_training_waits_for_tuning),
		T(test_no_images_to_score_on),
		T(test_images_change),
		T(test_what_they_have_in_common),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

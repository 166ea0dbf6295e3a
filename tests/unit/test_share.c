/* Data dealt to parts, and what a part is when it is opened afterwards. */
#include "dataset_util.h"

#include <math.h>

#include "common/dataset/share.h"

#define N	3000 /* images, a third of each class */
#define CLASSES 3

struct tally {
	uint32_t n, of[CLASSES];
};

static void setup_data(const char *dir)
{
	put_idx(at(dir, "all"), "train", N, 0);
}

static void share_ok(const char *dir, const char *out, const struct share_conf *c)
{
	struct err err = {0};
	if (share_write(at(dir, "all"), at(dir, out), c, &err) < 0)
		fail_msg("%s", err.text);
}

static void tally_split(const struct dataset *d, enum split s, struct tally *t)
{
	for (uint32_t i = 0; i < dataset_count(d, s); i++) {
		t->n++;
		t->of[dataset_label(d, s, i)]++;
	}
}

/* All of a part's images. */
static struct tally part_tally(const char *dir, const char *part)
{
	struct dataset_conf c = conf_of(at(dir, part));
	struct dataset *d = open_ok(&c);
	struct tally t = {0};
	for (enum split s = 0; s < SPLIT_N; s++)
		tally_split(d, s, &t);
	dataset_free(d);
	return t;
}

/* Within five standard deviations of a binomial: never by chance. */
static void assert_share(uint32_t k, uint32_t n, double p)
{
	double bound = 5 * sqrt(n * p * (1 - p));
	if (fabs(k - n * p) > bound)
		fail_msg("%u of %u, expected %.0f +- %.0f", k, n, n * p, bound);
}

static const struct share_part even[] = {
	{.name = "a", .weight = 1}, {.name = "b", .weight = 1}, {.name = "c", .weight = 1}};
static const struct share_part skewed[] = {{.name = "edge", .weight = 3},
					   {.name = "cam", .weight = 1, .favours = {true}}};

static void test_split_of_a_part(void **state)
{
	static const char *const names[] = {"out/a", "out/b", "out/c"};
	/* The seed that conf_of() splits with: sharing must not know how that falls. */
	struct share_conf c = {.parts = even, .n_parts = 3, .test_share = 0.3, .skew = 1, .seed = 1};
	setup_data(*state);
	share_ok(*state, "out", &c);
	for (size_t i = 0; i < 3; i++) {
		struct tally whole = part_tally(*state, names[i]), v = {0};
		assert_share(whole.n, N, 0.7 / 3);
		struct dataset_conf open = conf_of(at(*state, names[i]));
		open.validation_share = 0.4;
		struct dataset *d = open_ok(&open);
		tally_split(d, SPLIT_VALIDATION, &v);
		dataset_free(d);
		assert_share(v.n, whole.n, 0.4);
		for (size_t k = 0; k < CLASSES; k++)
			assert_share(v.of[k], v.n, (double)whole.of[k] / whole.n);
	}
}

/* A limit takes the lowest ranks: were a part's ranks chosen with the part, they would be of the
 * classes that it favours only at that end. */
static void test_limit_of_a_part(void **state)
{
	struct share_conf c = {.parts = skewed, .n_parts = 2, .test_share = 0.2, .skew = 4, .seed = 1};
	static const char *const names[] = {"out/edge", "out/cam"};
	setup_data(*state);
	share_ok(*state, "out", &c);
	for (size_t i = 0; i < 2; i++) {
		struct tally whole = part_tally(*state, names[i]), some = {0}, v = {0};
		struct dataset_conf open = conf_of(at(*state, names[i]));
		open.limit = whole.n / 3;
		open.validation_share = 0.4;
		struct dataset *d = open_ok(&open);
		tally_split(d, SPLIT_VALIDATION, &v);
		some = v;
		tally_split(d, SPLIT_TRAIN, &some);
		dataset_free(d);
		assert_int_equal(some.n, open.limit);
		assert_share(v.n, some.n, 0.4);
		for (size_t k = 0; k < CLASSES; k++)
			assert_share(some.of[k], some.n, (double)whole.of[k] / whole.n);
	}
}

/* 3 : 1 is asked for, and is what comes, whatever is favoured and however much. */
static void test_shares_are_as_asked(void **state)
{
	static const double skews[] = {1, 4, 1000};
	setup_data(*state);
	for (size_t i = 0; i < ARRAY_LEN(skews); i++) {
		char out[16], edge[24], cam[24];
		struct share_conf c = {.parts = skewed, .n_parts = 2, .skew = skews[i], .seed = 5};
		c.test_share = 0.2;
		snprintf(out, sizeof(out), "out%zu", i);
		snprintf(edge, sizeof(edge), "%s/edge", out);
		snprintf(cam, sizeof(cam), "%s/cam", out);
		share_ok(*state, out, &c);
		struct tally e = part_tally(*state, edge), k = part_tally(*state, cam);
		assert_share(k.n, e.n + k.n, 0.25);
		assert_share(e.n + k.n, N, 0.8);
		/* Odds of the favoured class between the parts, over those of the others. */
		double odds = (double)k.of[0] / (e.of[0] + 1) * (e.of[1] + e.of[2]) /
			      (k.of[1] + k.of[2] + 1);
		if (skews[i] < 100)
			assert_true(odds > skews[i] * 0.6 && odds < skews[i] * 1.6);
		else
			assert_true(odds > 100);
	}
}

/* The folders' way deals like that of IDX files, and every image is somewhere, once. */
static void test_folders(void **state)
{
	struct share_conf c = {.parts = skewed, .n_parts = 2, .test_share = 0.2, .skew = 4, .seed = 1};
	char all[FILE_PATH_MAX];
	snprintf(all, sizeof(all), "%s", at(*state, "all"));
	put_classes(all, 400);
	share_ok(*state, "out", &c);
	struct tally e = part_tally(*state, "out/edge"), k = part_tally(*state, "out/cam"),
		     t = part_tally(*state, "out/test");
	assert_int_equal(e.n + k.n + t.n, 1200);
	assert_share(t.n, 1200, 0.2);
	assert_share(k.n, e.n + k.n, 0.25);
	assert_true(k.of[0] > k.of[1] && k.of[0] > k.of[2]);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)
	const struct CMUnitTest tests[] = {
		T(test_split_of_a_part),
		T(test_limit_of_a_part),
		T(test_shares_are_as_asked),
		T(test_folders),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

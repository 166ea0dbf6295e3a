/* Which outputs stand for names that only the device knows: the list grows at its end only. */
#include "ckpt_util.h"

#include <errno.h>

#include "device-agent/private_names.h"

/* Two public classes, three outputs to spare. */
static struct agent_conf conf;
static struct model *model;
static char listed[FILE_PATH_MAX], kept[FILE_PATH_MAX];
static struct private_names p;
static struct err err;

static void put(const char *path, const char *text)
{
	util_write(path, text, strlen(text));
}

static int setup(void **state)
{
	if (util_dir(state))
		return -1;
	const char *dir = *state;
	conf = (struct agent_conf){0};
	p = (struct private_names){0};
	snprintf(conf.state, sizeof(conf.state), "%s", dir);
	snprintf(conf.worker.classes, sizeof(conf.worker.classes), "%s/classes.txt", dir);
	snprintf(conf.private_classes, sizeof(conf.private_classes), "%s/mine.txt", dir);
	snprintf(listed, sizeof(listed), "%s/mine.txt", dir);
	snprintf(kept, sizeof(kept), "%s/private-classes.txt", dir);
	put(conf.worker.classes, "zero\none\n");
	model = util_model(SMALL_CFG, 2);
	return 0;
}

static int teardown(void **state)
{
	private_names_done(&p);
	model_free(model);
	return util_dir_done(state);
}

/* Reads and keeps, as a start does. */
static void start(int64_t n_expected)
{
	private_names_done(&p);
	if (private_names_read(&conf, model, n_expected, &p, &err) < 0 ||
	    private_names_keep(&p, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(p.n_new, 0);
}

static void assert_kept(const char *text)
{
	char *is = NULL;
	size_t len;
	assert_int_equal(file_read(kept, 4096, &is, &len, NULL), 0);
	assert_string_equal(is, text);
	free(is);
}

static void assert_refused(int64_t n_expected, int code, const char *part)
{
	struct private_names none = {0};
	assert_int_equal(private_names_read(&conf, model, n_expected, &none, &err), code);
	if (!strstr(err.text, part))
		fail_msg("'%s' does not say '%s'", err.text, part);
	assert_null(none.all.names);
}

static void grows_at_its_end(void **state)
{
	put(listed, "cellar\nattic\n");
	assert_int_equal(private_names_read(&conf, model, 0, &p, &err), 0);
	assert_int_equal(p.n_new, 2);
	assert_false(file_exists(kept)); /* reading makes nothing */
	start(0);
	assert_kept("cellar\nattic\n");
	assert_int_equal(p.n, 2);
	assert_int_equal(p.all.n, 4);
	assert_string_equal(p.all.names[2], "cellar");
	/* Another order, one gone, one new: who has an output keeps it. */
	put(listed, "attic\nroof");
	start(2);
	assert_kept("cellar\nattic\nroof\n");
	assert_int_equal(p.n, 3);
	assert_string_equal(p.all.names[4], "roof");
	/* None is listed any more. */
	conf.private_classes[0] = 0;
	start(3);
	assert_int_equal(p.n, 3);
	assert_kept("cellar\nattic\nroof\n");
}

static void none_is_the_rule(void **state)
{
	conf.private_classes[0] = 0;
	conf.worker.classes[0] = 0; /* not even looked at */
	start(0);
	assert_int_equal(p.n, 0);
	assert_false(file_exists(kept));
}

static void more_than_spare_outputs(void **state)
{
	put(listed, "a\nb\nc\nd\n");
	assert_refused(0, -E2BIG,
		       "mine.txt: 4 private names, with those that had an output before, "
		       "but test.cfg has 5 outputs for the 2 public ones and 3 to spare");
	put(listed, "a\nb\nc\n");
	start(0);
	put(listed, "d\n"); /* those that are gone count */
	assert_refused(3, -E2BIG, "mine.txt: 4 private names");
	assert_kept("a\nb\nc\n");
}

static void hostile_lists(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"", "no class in it"},
		{"a\n\nb\n", ":2: class name is empty"},
		{"a\na\n", "'a' is listed twice"},
		{"../etc\n", "holds '/'"},
		{"..\n", "is not a name"},
		{"\x1b[2J\n", "control character"},
		{"\xff\xfe\n", "is not UTF-8"},
		{"one\n", "'one' is in the public class list, too"},
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		put(listed, bad[i].text);
		assert_refused(0, -EINVAL, bad[i].why);
		assert_non_null(strstr(err.text, "mine.txt"));
		/* The same in the state folder, where nobody ought to write. */
		put(listed, "fine\n");
		put(kept, bad[i].text);
		assert_refused(0, -EINVAL, bad[i].why);
		assert_non_null(strstr(err.text, "private-classes.txt"));
		file_remove(kept, NULL);
	}
	file_remove(listed, NULL);
	assert_refused(0, -ENOENT, "mine.txt");
}

/* Without it, names would get outputs anew, of which the weights say something else. */
static void list_that_was_lost(void **state)
{
	put(listed, "a\nb\n");
	start(0);
	file_remove(kept, NULL);
	assert_refused(2, -EINVAL,
		       "private-classes.txt: found 0 names, expected the 2 that it had");
	put(kept, "a\n");
	assert_refused(2, -EINVAL, "private-classes.txt: found 1 names, expected the 2");
	/* After a crash between its writing and the state's it knows more than the state says. */
	put(kept, "a\nb\n");
	start(0);
	assert_int_equal(p.n, 2);
}

static void network_without_rows_of_outputs(void **state)
{
	static const char connected[] =
		NET "[connected]\noutput=10\nactivation=linear\n[softmax]\n";
	static const char conv[] = NET "[convolutional]\nfilters=5\nsize=1\nactivation=linear\n"
				       "[avgpool]\n[softmax]\n";
	static const char pixels[] = NET "[convolutional]\nfilters=1\nsize=1\nactivation=linear\n"
					 "[softmax]\n";
	static const struct {
		const char *cfg;
		int code;
	} cases[] = {{connected, 0}, {conv, 0}, {pixels, -EOPNOTSUPP}};
	put(listed, "a\n");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		model_free(model);
		model = util_model(cases[i].cfg, 1);
		put(conf.worker.classes, "zero\n");
		if (cases[i].code == 0) {
			start(0);
			assert_int_equal(p.n, 1);
		} else {
			assert_refused(0, cases[i].code, "mine.txt: test.cfg: ");
		}
		file_remove(kept, NULL);
	}
}

/* A full disk: nothing is half written. */
static void not_kept(void **state)
{
	put(listed, "a\n");
	assert_int_equal(private_names_read(&conf, model, 0, &p, &err), 0);
	snprintf(p.path, sizeof(p.path), "%s/none/there.txt", (const char *)*state);
	assert_true(private_names_keep(&p, &err) < 0);
	assert_non_null(strstr(err.text, "none/there.txt"));
	assert_int_equal(p.n_new, 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(grows_at_its_end), T(none_is_the_rule),   T(more_than_spare_outputs),
		T(hostile_lists),    T(list_that_was_lost), T(network_without_rows_of_outputs),
		T(not_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

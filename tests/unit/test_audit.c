/* The audit log: what is written can be checked, whatever is changed in it is found, and neither a
 * crash nor a full disk ends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "common/audit/audit.h"
#include "common/base/mem.h"

#define NOW ((int64_t)1795000000000)

static char folder[64], path[128];

static int set_up(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/test_audit_XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/audit.log", folder);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return file_remove(folder, NULL);
}

static struct audit *open_log(int64_t now_ms)
{
	struct audit *a;
	assert_int_equal(audit_open(folder, now_ms, &a, NULL), 0);
	return a;
}

static void write_file(const char *data, size_t len)
{
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

/* 0: all that is in the folder is right, and ends with *head (NULL: whatever it is). */
static int check(const struct audit_head *head, struct audit_chain *ret)
{
	struct audit_chain c = {0};
	struct err err = {0};
	int r = audit_check_folder(folder, &c, NULL, NULL, &err);
	if (ret)
		*ret = c;
	if (r == 0 && head && (c.head.seq != head->seq || strcmp(c.head.hash, head->hash) != 0))
		return -EBADMSG;
	return r;
}

/* Of every kind of member. */
static void write_some(struct audit_head *ret)
{
	struct audit *a = open_log(NOW);
	const struct audit_head told = {7, AUDIT_NONE};
	audit_say(a, NOW, &(struct audit_event){.event = "started", .who = "cam-1", .number = 3});
	audit_say(a, NOW + 5,
		  &(struct audit_event){.event = "granted",
					.who = "cam-1",
					.peer = "edge-1",
					.checkpoint = AUDIT_NONE,
					.parent = AUDIT_NONE,
					.fence = 12,
					.signer = "edge-1",
					.message = AUDIT_NONE});
	audit_say(a, NOW + 5,
		  &(struct audit_event){.event = "command",
					.who = "ann",
					.command = "set",
					.id = "x1",
					.key = "rounds",
					.value = "3",
					.decision = "done",
					.reason = "\"quoted\" and \n"});
	audit_say(a, NOW + 9, &(struct audit_event){.event = "head", .peer = "cam-1", .head = &told, .until_ms = NOW});
	audit_head(a, ret);
	assert_null(audit_fault(a));
	audit_free(a);
	assert_int_equal(ret->seq, 4);
}

static void test_goes_on(void **state)
{
	struct audit_head head, again;
	struct audit_chain c;
	(void)state;
	write_some(&head);
	struct audit *a = open_log(NOW + 10);
	audit_head(a, &again);
	assert_memory_equal(&head, &again, sizeof(head));
	audit_say(a, NOW + 11, &(struct audit_event){.event = "started"});
	audit_head(a, &again);
	audit_free(a);
	assert_int_equal(check(&again, &c), 0);
	assert_int_equal(c.first, 1);
	assert_int_equal(c.lines, 5);
	assert_int_not_equal(check(&head, NULL), 0);
}

static void test_every_byte(void **state)
{
	struct audit_head head;
	char *data;
	size_t len, last;
	(void)state;
	write_some(&head);
	assert_int_equal(file_read(path, 65536, &data, &len, NULL), 0);
	last = (size_t)((char *)memrchr(data, '\n', len - 1) - data) + 1;
	for (size_t i = 0; i < len; i++)
		for (int bit = 0; bit < 8; bit++) {
			data[i] = (char)(data[i] ^ 1 << bit);
			write_file(data, len);
			if (check(&head, NULL) == 0)
				fail_msg("byte %zu, bit %d is not found", i, bit);
			if (i < last && check(NULL, NULL) == 0)
				fail_msg("byte %zu, bit %d is not found without the head", i, bit);
			data[i] = (char)(data[i] ^ 1 << bit);
		}
	for (size_t i = 0; i < len; i++) {
		write_file(data, i);
		assert_int_not_equal(check(&head, NULL), 0);
	}
	write_file(data, len);
	assert_int_equal(check(&head, NULL), 0);
	free(data);
}

/* Lines by their order; 9: one that is put in, and would be right but for its chain. */
static void test_every_order(void **state)
{
	static const char *const orders[] = {"1234", "234",  "134",  "124",   "123",   "2134", "1324",
					     "1243", "11234", "12234", "12334", "12344", "91234", "19234",
					     "12934", "12394", "12349", "", "4321"};
	struct audit_head head;
	char *data, *line[10] = {0}, text[8192];
	size_t len, n = 0;
	(void)state;
	write_some(&head);
	assert_int_equal(file_read(path, 65536, &data, &len, NULL), 0);
	for (char *l = strtok(data, "\n"); l; l = strtok(NULL, "\n"))
		line[++n] = l;
	assert_int_equal(n, 4);
	line[9] = (char *)"{\"seq\":3,\"at\":\"2026-11-26T04:00:00.000Z\",\"event\":\"x\",\"prev\":\"" AUDIT_NONE "\"}";
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		text[0] = 0;
		for (const char *o = orders[i]; *o; o++)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s\n", line[*o - '0']);
		write_file(text, strlen(text));
		if ((check(&head, NULL) == 0) != (i == 0))
			fail_msg("order %s", orders[i]);
	}
	free(data);
}

static int first_event(const char *want)
{
	char line[AUDIT_LINE_MAX + 2], found[64];
	FILE *f = fopen(path, "re");
	int n = 0, at = 0;
	snprintf(found, sizeof(found), "\"event\":\"%s\"", want);
	while (fgets(line, sizeof(line), f)) {
		n++;
		if (!at && strstr(line, found))
			at = n;
	}
	fclose(f);
	return at;
}

static void test_torn(void **state)
{
	struct audit_head head, mended;
	struct audit_chain c;
	char *data;
	size_t len, last;
	(void)state;
	write_some(&head);
	assert_int_equal(file_read(path, 65536, &data, &len, NULL), 0);
	last = (size_t)((char *)memrchr(data, '\n', len - 1) - data) + 1;
	for (size_t i = last; i < len; i++) {
		write_file(data, i);
		audit_free(open_log(NOW + 20));
		assert_int_equal(check(NULL, &c), 0);
		assert_int_equal(c.head.seq, i == last ? 3 : 4);
		assert_int_equal(first_event("mended"), i == last ? 0 : 4);
	}
	/* Where nothing can be read, or too much is no line, it is kept aside. */
	write_file(data, last - 5);
	data[1] = '#';
	write_file(data, 40);
	struct audit *a = open_log(NOW + 20);
	audit_say(a, NOW + 21, &(struct audit_event){.event = "started"});
	audit_head(a, &mended);
	audit_free(a);
	assert_int_equal(mended.seq, 2);
	assert_int_equal(first_event("began"), 1);
	assert_int_equal(check(&mended, NULL), 0);
	strcat(path, ".bad");
	assert_true(file_exists(path));
	free(data);
}

static void test_clock(void **state)
{
	struct audit *a = open_log(NOW);
	(void)state;
	audit_say(a, NOW, &(struct audit_event){.event = "started"});
	audit_say(a, NOW - 1000, &(struct audit_event){.event = "offered"});
	audit_free(a);
	a = open_log(NOW - 5000);
	audit_say(a, NOW - 5000, &(struct audit_event){.event = "started"});
	audit_free(a);
	assert_int_equal(first_event("clock"), 2);
	assert_int_equal(check(NULL, NULL), 0);
}

static void test_rate(void **state)
{
	struct audit *a = open_log(NOW);
	struct audit_head head;
	(void)state;
	for (int i = 0; i < 2 * AUDIT_COMMON_BURST; i++)
		audit_say(a, NOW, &(struct audit_event){.event = "claimed", .common = true});
	audit_head(a, &head);
	assert_int_equal(head.seq, AUDIT_COMMON_BURST);
	/* What counts is written all the same, after what says that some are left out. */
	audit_say(a, NOW, &(struct audit_event){.event = "granted"});
	audit_head(a, &head);
	audit_free(a);
	assert_int_equal(head.seq, AUDIT_COMMON_BURST + 2);
	assert_int_equal(first_event("missing"), AUDIT_COMMON_BURST + 1);
	assert_int_equal(check(&head, NULL), 0);
}

static void test_full_disk(void **state)
{
	struct audit_head head, full;
	struct rlimit was, none;
	(void)state;
	write_some(&head);
	struct audit *a = open_log(NOW + 10);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	none = was;
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	none.rlim_cur = (rlim_t)st.st_size + 20; /* a part of a line is let through */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	audit_say(a, NOW + 11, &(struct audit_event){.event = "activated"});
	audit_say(a, NOW + 12, &(struct audit_event){.event = "offered"});
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	audit_head(a, &full);
	assert_int_equal(full.seq, head.seq);
	assert_string_equal(full.hash, head.hash);
	assert_non_null(audit_fault(a));
	audit_say(a, NOW + 13, &(struct audit_event){.event = "granted"});
	assert_null(audit_fault(a));
	audit_head(a, &head);
	audit_free(a);
	assert_int_equal(head.seq, full.seq + 2);
	assert_int_equal(first_event("missing"), 5);
	assert_int_equal(check(&head, NULL), 0);
}

/* The chain goes on over files, and no more are kept than is said. */
static void test_files(void **state)
{
	_cleanup_free_ char(*files)[FILE_PATH_MAX] = NULL;
	char text[AUDIT_TEXT_MAX + 1] = "";
	struct audit_head head = {0};
	struct audit_chain c;
	size_t n;
	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	const struct audit_event e = {.event = "offered", .who = text, .peer = text, .reason = text,
				      .checkpoint = text, .parent = text, .decision = text, .key = text,
				      .value = text, .id = text, .command = text, .signer = text};
	struct audit *a = open_log(NOW);
	for (int i = 0; head.seq * 3000 < (int64_t)AUDIT_FILE_BYTES * (AUDIT_FILES_KEPT + 3); i++) {
		audit_say(a, NOW + i, &e);
		audit_head(a, &head);
		if (i % 5000 == 4999) { /* over restarts */
			audit_free(a);
			a = open_log(NOW + i);
		}
	}
	audit_free(a);
	assert_int_equal(audit_files(folder, &files, &n, NULL), 0);
	assert_int_equal(n, AUDIT_FILES_KEPT + 1);
	assert_int_equal(check(&head, &c), 0);
	assert_true(c.first > 1);
	assert_int_equal(c.head.seq - c.first + 1, c.lines);
	/* One of them lost: the rest does not go on from what was before it. */
	assert_int_equal(file_remove(files[2], NULL), 0);
	assert_int_not_equal(check(&head, NULL), 0);
	/* The last one lost: the chain goes on from the one before. */
	assert_int_equal(file_remove(path, NULL), 0);
	a = open_log(NOW * 2);
	audit_say(a, NOW * 2, &e);
	audit_head(a, &head);
	audit_free(a);
	assert_true(head.seq > 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_goes_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_every_byte, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_every_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_torn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_clock, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_rate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("test_audit", tests, NULL, NULL);
}

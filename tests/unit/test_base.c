/* Errors, log lines, time, names, random numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it. */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/bucket.h"
#include "common/base/clock.h"
#include "common/base/err.h"
#include "common/base/hex.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/notify.h"
#include "common/base/rng.h"

/* ---- err ---- */

static void err_formats_and_returns_its_code(void **state)
{
	struct err err = {0};
	assert_int_equal(err_set(&err, -EINVAL, "%s: found %d", "key", 7), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	assert_string_equal(err.text, "key: found 7");
	assert_int_equal(err_prefix(&err, "file %d", 3), -EINVAL);
	assert_string_equal(err.text, "file 3: key: found 7");
	assert_int_equal(err_errno(&err, -ENOENT, "x"), -ENOENT);
	assert_string_equal(err.text, "x: No such file or directory");
}

static void err_allows_null(void **state)
{
	assert_int_equal(err_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_errno(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_prefix(NULL, "x"), 0);
}

static void err_keeps_within_its_size(void **state)
{
	char big[2000];
	memset(big, 'b', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	struct err err = {0};
	err_set(&err, -EINVAL, "%s", big);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	err_prefix(&err, "%s", big);
	assert_int_equal(strlen(err.text), 200 + 2 + 300);
	err_errno(&err, -EIO, "%s", big);
	assert_non_null(strstr(err.text, "Input/output error"));
}

static void err_tells_its_category(void **state)
{
	static const struct {
		int code;
		enum err_category expected;
	} cases[] = {{-ENOSPC, ERR_DISK_FULL}, {-EDQUOT, ERR_DISK_FULL}, {-ENOMEM, ERR_MEMORY},
		     {-EIO, ERR_FILE},	       {-ENOENT, ERR_FILE},	 {-EBADMSG, ERR_CHECKPOINT},
		     {-ENODATA, ERR_DATA},     {-ESTALE, ERR_DATA},
		     {-EDOM, ERR_DIVERGED},	 {-EINVAL, ERR_OTHER}};
	struct err err = {0};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		err_set(&err, cases[i].code, "x");
		assert_int_equal(err.category, cases[i].expected);
	}
	err_set(&err, -ENOENT, "x");
	err_categorize(&err, ERR_DATA);
	err_prefix(&err, "y");
	assert_int_equal(err.category, ERR_DATA); /* kept by a prefix, */
	assert_int_equal(err.code, -ENOENT);
	err_set(&err, -ENOSPC, "x");
	err_categorize(&err, ERR_DATA);
	assert_int_equal(err.category, ERR_DISK_FULL); /* and a full disk is one anywhere. */
	err_categorize(NULL, ERR_DATA);
	for (enum err_category c = ERR_OTHER; c < ERR_CATEGORY_N; c++) {
		assert_true(*err_category_text(c));
		assert_int_equal(err_category_parse(err_category_name(c)), c);
	}
	assert_int_equal(err_category_parse("news"), ERR_OTHER);
	assert_string_equal(err_category_name(ERR_CATEGORY_N), "other");
}

static void err_may_quote_itself(void **state)
{
	struct err err = {0};
	err_set(&err, -EINVAL, "inner");
	err_set(&err, -EIO, "outer (%s)", err.text);
	assert_string_equal(err.text, "outer (inner)");
}

/* ---- log ---- */

static int count(const char *text, const char *part)
{
	int n = 0;
	for (const char *p = text; (p = strstr(p, part)); p++)
		n++;
	return n;
}

/* A flood is cut, and what was cut is counted; errors get through it. */
static void log_flood_is_cut(void **state)
{
	static char text[1 << 20];
	FILE *f = tmpfile();
	int saved = dup(STDERR_FILENO), infos = 0, left_out = 0;
	int64_t begun = clock_mono_ms();
	assert_non_null(f);
	dup2(fileno(f), STDERR_FILENO);
	log_init("prog", LOG_P_DEBUG);
	for (int i = 0; i < 3 * LOG_BURST; i++)
		log_info("flood");
	for (int i = 0; i < LOG_ERRORS / 2; i++)
		log_error("trouble");
	for (int i = 0; i < 2 * LOG_BURST; i++)
		log_debug("asked for");
	usleep(100000);
	for (int i = 0; i < LOG_BURST; i++)
		log_info("flood");
	int64_t took_ms = clock_mono_ms() - begun; /* on a slow machine more get through */
	usleep((LOG_ERRORS + 10) * 1000000 / LOG_PER_S); /* until what errors took is given back */
	log_info("end");
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fclose(f);
	infos = count(text, "prog: flood\n");
	assert_in_range(infos, LOG_BURST - LOG_ERRORS,
			LOG_BURST - LOG_ERRORS + took_ms * LOG_PER_S / 1000 + 1);
	assert_int_equal(count(text, "error: trouble\n"), LOG_ERRORS / 2);
	assert_int_equal(count(text, "prog: asked for\n"), 2 * LOG_BURST);
	assert_int_equal(count(text, "prog: end\n"), 1);
	for (const char *p = text; (p = strstr(p, " lines left out")); p++) {
		const char *from = p;
		while (from[-1] >= '0' && from[-1] <= '9')
			from--;
		left_out += atoi(from);
	}
	assert_int_equal(infos + left_out, 4 * LOG_BURST);
}

enum journal { JOURNAL_NONE, JOURNAL_THIS, JOURNAL_OTHER, JOURNAL_JUNK };

static char captured[8192];

/* What JOURNAL_STREAM says of standard error. */
static void set_journal(enum journal journal)
{
	struct stat st;
	char stream[64] = "junk";
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	if (journal != JOURNAL_JUNK)
		snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
			 (unsigned long long)st.st_ino + (journal == JOURNAL_OTHER));
	if (journal == JOURNAL_NONE)
		unsetenv("JOURNAL_STREAM");
	else
		setenv("JOURNAL_STREAM", stream, 1);
}

/* Runs log_write with standard error in a pipe; what came out is in `captured`. */
static void capture_in(enum journal journal, enum log_priority max, enum log_priority p,
		       const char *text)
{
	int pipe_fd[2], saved = dup(STDERR_FILENO);
	assert_int_equal(pipe2(pipe_fd, O_NONBLOCK), 0);
	dup2(pipe_fd[1], STDERR_FILENO);
	set_journal(journal);
	log_init("prog", max);
	errno = EXDEV;
	log_write(p, "%s", text);
	int after = errno;
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(pipe_fd[1]);
	ssize_t n = read(pipe_fd[0], captured, sizeof(captured) - 1);
	captured[n > 0 ? n : 0] = 0;
	close(pipe_fd[0]);
	assert_int_equal(after, EXDEV);
	unsetenv("JOURNAL_STREAM");
}

static void capture(enum log_priority max, enum log_priority p, const char *text)
{
	capture_in(JOURNAL_THIS, max, p, text);
}

static void log_line_outside_the_journal_has_time_and_level(void **state)
{
	static const struct {
		enum log_priority p;
		const char *rest;
	} rows[] = {
		{LOG_P_ERROR, " prog: error: a <3>b\n"},
		{LOG_P_WARNING, " prog: warning: a <3>b\n"},
		{LOG_P_INFO, " prog: a <3>b\n"},
		{LOG_P_DEBUG, " prog: a <3>b\n"},
	};
	static const enum journal elsewhere[] = {JOURNAL_NONE, JOURNAL_OTHER, JOURNAL_JUNK};
	for (size_t i = 0; i < ARRAY_LEN(rows) * ARRAY_LEN(elsewhere); i++) {
		int64_t before = clock_real_ms(), at = 0;
		capture_in(elsewhere[i % ARRAY_LEN(elsewhere)], LOG_P_DEBUG,
			   rows[i / ARRAY_LEN(elsewhere)].p, "a\n<3>b");
		char *rest = strchr(captured, ' ');
		assert_non_null(rest);
		assert_string_equal(rest, rows[i / ARRAY_LEN(elsewhere)].rest);
		*rest = 0;
		assert_int_equal(strlen(captured), strlen("2026-11-23T05:58:00.123Z"));
		assert_int_equal(clock_parse(captured, &at), 0);
		assert_true(at >= before && at <= clock_real_ms());
	}
}

static void log_line_has_priority_and_name(void **state)
{
	capture(LOG_P_INFO, LOG_P_WARNING, "text key=1");
	assert_string_equal(captured, "<4>prog: text key=1\n");
}

static void log_drops_what_is_less_important(void **state)
{
	capture(LOG_P_INFO, LOG_P_DEBUG, "x");
	assert_string_equal(captured, "");
	capture(LOG_P_DEBUG, LOG_P_DEBUG, "x");
	assert_string_equal(captured, "<7>prog: x\n");
}

static void log_line_cannot_be_forged(void **state)
{
	capture(LOG_P_INFO, LOG_P_INFO,
		"a\n<3>prog: forged\r\x1b[2J\x7f\xc2\x9b"
		"31m");
	assert_string_equal(captured, "<6>prog: a <3>prog: forged  [2J   31m\n");
	/* Other UTF-8 passes, also one whose second byte looks like a control. */
	capture(LOG_P_INFO, LOG_P_INFO, "é 襷 \xc3\x9b");
	assert_string_equal(captured, "<6>prog: é 襷 \xc3\x9b\n");
}

static void log_line_is_cut_but_ended(void **state)
{
	static char big[4000];
	memset(big, 'x', sizeof(big) - 1);
	capture(LOG_P_INFO, LOG_P_INFO, big);
	size_t n = strlen(captured);
	assert_in_range(n, 1000, 2048);
	assert_int_equal(captured[n - 1], '\n');
	assert_int_equal(captured[n - 2], 'x');
	assert_ptr_equal(strchr(captured, '\n'), captured + n - 1);
	capture_in(JOURNAL_NONE, LOG_P_INFO, LOG_P_INFO, big);
	assert_int_equal(strlen(captured), n);
	assert_int_equal(captured[n - 1], '\n');
	assert_int_equal(captured[n - 2], 'x');
}

static void notify_check(struct sockaddr_un *sa, socklen_t len, const char *env)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)sa, len), 0);
	setenv("NOTIFY_SOCKET", env, 1);
	notify_send("READY=1");
	unsetenv("NOTIFY_SOCKET");
	char got[32] = "";
	assert_int_equal(recv(fd, got, sizeof(got), 0), 7);
	assert_string_equal(got, "READY=1");
}

static void notify_reaches_the_socket(void **state)
{
	char dir[] = "/tmp/tasuki-test-XXXXXX", path[64], name[64];
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/n", dir);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	strcpy(sa.sun_path, path);
	notify_check(&sa, sizeof(sa), path);
	unlink(path);
	rmdir(dir);

	snprintf(name, sizeof(name), "@tasuki-test-%ld", (long)getpid());
	memset(&sa, 0, sizeof(sa));
	sa.sun_family = AF_UNIX;
	strcpy(sa.sun_path + 1, name + 1);
	notify_check(&sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name)), name);
}

static void notify_ignores_bad_sockets(void **state)
{
	char big[300];
	memset(big, '/', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	unsetenv("NOTIFY_SOCKET");
	notify_send("READY=1");
	const char *const bad[] = {"", big, "/nonexistent/socket"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		setenv("NOTIFY_SOCKET", bad[i], 1);
		notify_send("READY=1");
	}
	unsetenv("NOTIFY_SOCKET");
}

static void notify_tells_status_and_reload(void **state)
{
	char dir[] = "/tmp/tasuki-test-XXXXXX", path[64], got[512], text[NOTIFY_STATUS_MAX + 50];
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/n", dir);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	strcpy(sa.sun_path, path);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	setenv("NOTIFY_SOCKET", path, 1);

	/* One line, whatever a broker had to say. */
	notify_status("no\nREADY=1");
	ssize_t n = recv(fd, got, sizeof(got) - 1, 0);
	assert_true(n > 0);
	got[n] = 0;
	assert_string_equal(got, "STATUS=no READY=1");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	notify_status(text);
	assert_int_equal(recv(fd, got, sizeof(got), 0), NOTIFY_STATUS_MAX - 1);

	long long usec;
	notify_reloading();
	n = recv(fd, got, sizeof(got) - 1, 0);
	assert_true(n > 0);
	got[n] = 0;
	assert_int_equal(sscanf(got, "RELOADING=1\nMONOTONIC_USEC=%lld", &usec), 1);
	assert_true(usec / 1000 <= clock_awake_ms() && usec / 1000 > clock_awake_ms() - 60000);
	unsetenv("NOTIFY_SOCKET");
	unlink(path);
	rmdir(dir);
}

static void watchdog_is_for_whom_it_names(void **state)
{
	char me[24], other[24];
	snprintf(me, sizeof(me), "%ld", (long)getpid());
	snprintf(other, sizeof(other), "%ld", (long)getpid() + 1);
	const struct {
		const char *usec, *pid;
		int64_t every_ms; /* 0: none */
	} table[] = {
		{NULL, NULL, 0},       {NULL, me, 0},	     {"3000000", NULL, 1000},
		{"3000000", me, 1000}, {"3000000", other, 0}, {"3000000", "", 0},
		{"1", me, 1},	       {"0", me, 0},	     {"-5", me, 0},
		{"x", me, 0},	       {"99999999999999999999", me, 0},
	};
	struct loop *l;
	assert_int_equal(loop_new(&l), 0);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct watchdog w = {0};
		unsetenv("WATCHDOG_USEC");
		unsetenv("WATCHDOG_PID");
		if (table[i].usec)
			setenv("WATCHDOG_USEC", table[i].usec, 1);
		if (table[i].pid)
			setenv("WATCHDOG_PID", table[i].pid, 1);
		assert_int_equal(watchdog_start(&w, l), 0);
		assert_int_equal(w.timer ? w.every_ms : 0, table[i].every_ms);
		watchdog_stop(&w);
	}
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	loop_free(l);
}

/* ---- clock ---- */

static void clock_parses_rfc3339(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} good[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"1969-12-31T23:59:59.999Z", -1},
		{"2026-11-23T05:58:00.123Z", 1795413480123},
		{"2026-11-23t05:58:00z", 1795413480000},
		{"2026-11-23T05:58:00.1Z", 1795413480100},
		{"2026-11-23T05:58:00.123999999Z", 1795413480123},
		{"2026-11-23T14:58:00+09:00", 1795413480000},
		{"2026-11-22T23:28:00.5-06:30", 1795413480500},
		{"2024-02-29T00:00:00Z", 1709164800000},
		{"2000-02-29T00:00:00Z", 951782400000},
		{"2016-12-31T23:59:60Z", 1483228800000},
		{"9999-12-31T23:59:59.999Z", 253402300799999},
	};
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		int64_t ms = 42;
		if (clock_parse(good[i].text, &ms) || ms != good[i].ms)
			fail_msg("%s: got %lld", good[i].text, (long long)ms);
	}
}

static void clock_refuses_the_rest(void **state)
{
	static const char *const bad[] = {
		"",
		"now",
		"2026-11-23",
		"2026-11-23T05:58:00",
		"2026-11-23 05:58:00Z",
		"2026-11-23T05:58:00ZZ",
		"2026-11-23T05:58:00.Z",
		"2026-11-23T05:58:00.12",
		"2026-11-23T05:58:00+0900",
		"2026-11-23T05:58:00+24:00",
		"2026-11-23T05:58:00+09:60",
		"2026-11-23T05:58:00+09:0",
		"2026-13-23T05:58:00Z",
		"2026-00-23T05:58:00Z",
		"2026-11-00T05:58:00Z",
		"2026-11-31T05:58:00Z",
		"2026-02-29T05:58:00Z",
		"1900-02-29T05:58:00Z",
		"2026-11-23T24:00:00Z",
		"2026-11-23T05:60:00Z",
		"2026-11-23T05:58:61Z",
		"-026-11-23T05:58:00Z",
		"2026-+1-23T05:58:00Z",
		"2026-11-23T05:58:00.1234567890123456789012Z",
		"2026/11/23T05:58:00Z",
		"2026-11-23T05-58-00Z",
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int64_t ms = 42;
		int r = clock_parse(bad[i], &ms);
		if (r != -EINVAL || ms != 42)
			fail_msg("'%s': got %d, %lld", bad[i], r, (long long)ms);
	}
}

static void clock_formats_what_it_parses(void **state)
{
	static const int64_t times[] = {
		0, -1, 1795413480123, 951782400000, 253402300799999, -30610224000000};
	char text[CLOCK_TEXT_MAX];
	clock_format(1795413480123, text);
	assert_string_equal(text, "2026-11-23T05:58:00.123Z");
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		int64_t back = 42;
		clock_format(times[i], text);
		assert_int_equal(clock_parse(text, &back), 0);
		assert_int_equal(back, times[i]);
	}
	static const int64_t beyond[] = {253402300800000, -30610224000001, INT64_MAX, INT64_MIN};
	for (size_t i = 0; i < ARRAY_LEN(beyond); i++) {
		clock_format(beyond[i], text);
		assert_string_equal(text, "1970-01-01T00:00:00.000Z");
	}
}

static void clock_runs(void **state)
{
	int64_t mono = clock_mono_ms(), real = clock_real_ms();
	assert_true(real > 1600000000000);
	usleep(3000);
	assert_true(clock_mono_ms() >= mono + 3);
}

/* ---- id ---- */

static void id_checks_its_alphabet(void **state)
{
	char longest[ID_SIZE], longer[ID_SIZE + 1];
	memset(longest, 'a', ID_MAX);
	longest[ID_MAX] = 0;
	memset(longer, 'a', ID_MAX + 1);
	longer[ID_MAX + 1] = 0;
	const char *const good[] = {"a", "...", "A.b_c-9", "-", "_", longest};
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (!id_valid(good[i]))
			fail_msg("refused '%s'", good[i]);
	const char *const bad[] = {"",    ".",   "..", "a/b",  "+",  "#",   "a b",
				   "a\n", "a\t", "ä",  "../x", "$x", longer};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (id_valid(bad[i]))
			fail_msg("accepted '%s'", bad[i]);
	assert_false(id_valid(NULL));
}

static void hash_names_are_64_digits(void **state)
{
	char h[HASH_SIZE + 1] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	char shown[13];
	assert_true(hash_valid(h));
	assert_string_equal(hash_short(h, shown), "0123456789ab");
	assert_string_equal(hash_short("abc", shown), "abc");
	h[5] = 'A';
	assert_false(hash_valid(h));
	h[5] = 'g';
	assert_false(hash_valid(h));
	h[5] = 'a';
	h[64] = '0';
	assert_false(hash_valid(h));
	h[63] = 0;
	assert_false(hash_valid(h));
	assert_false(hash_valid(""));
	assert_false(hash_valid(NULL));
}

static void log_names_are_8_to_32_letters_and_digits(void **state)
{
	static const char *const good[] = {"abcdEFG8", "12345678901234567890123456789012"};
	static const char *const bad[] = {"", "abcdEFG", "123456789012345678901234567890123",
					  "abcd-EFG8", "abcd.EFG8", "abcd EFG8", "abcd/EFG8"};
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(logid_valid(good[i]));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(logid_valid(bad[i]));
	assert_false(logid_valid(NULL));
}

/* ---- rng ---- */

static void rng_is_splitmix64(void **state)
{
	/* First outputs for seed 1234567, as in Vigna's reference implementation. */
	struct rng r;
	rng_init(&r, 1234567);
	assert_true(rng_u64(&r) == 6457827717110365317u);
	assert_true(rng_u64(&r) == 3203168211198807973u);
	assert_true(rng_u64(&r) == 9817491932198370423u);
}

static void rng_keeps_its_ranges(void **state)
{
	struct rng r;
	rng_init(&r, 7);
	unsigned seen[10] = {0};
	double sum = 0;
	for (int i = 0; i < 10000; i++) {
		uint32_t n = rng_below(&r, 10);
		double u = rng_unit(&r), b = rng_between(&r, -3, 5);
		assert_true(n < 10);
		assert_true(u >= 0 && u < 1);
		assert_true(b >= -3 && b < 5);
		seen[n]++;
		sum += u;
	}
	for (int i = 0; i < 10; i++)
		assert_in_range(seen[i], 850, 1150);
	assert_true(sum > 4800 && sum < 5200);
	assert_int_equal(rng_below(&r, 1), 0);
	assert_true(rng_entropy() != rng_entropy());
}

static void backoff_doubles_up_to_its_cap(void **state)
{
	struct rng r;
	rng_init(&r, 9);
	static const struct {
		unsigned attempt;
		int64_t first, cap, full;
	} rows[] = {
		{0, 1000, 60000, 1000},   {1, 1000, 60000, 2000},  {5, 1000, 60000, 32000},
		{6, 1000, 60000, 60000},  {7, 1000, 60000, 60000}, {UINT32_MAX, 1000, 60000, 60000},
		{UINT32_MAX, 0, 1000, 0}, {0, 5000, 1000, 1000},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t lo = INT64_MAX, hi = 0;
		for (int k = 0; k < 200; k++) {
			int64_t d = rng_backoff_ms(&r, rows[i].attempt, rows[i].first, rows[i].cap);
			lo = MIN_OF(lo, d);
			hi = MAX_OF(hi, d);
		}
		assert_true(lo >= rows[i].full / 2 && hi <= rows[i].full);
		/* It spreads over that half. */
		assert_true(hi - lo >= rows[i].full / 4);
	}
}

static void bucket_lets_a_burst_and_a_rate(void **state)
{
	static const struct bucket_limit l = {3, 2}; /* every 500 ms */
	struct bucket b = {0};
	int64_t wait_ms = -1;
	for (int i = 0; i < 3; i++)
		assert_true(bucket_take(&b, &l, 1000000, NULL));
	assert_false(bucket_take(&b, &l, 1000000, &wait_ms));
	assert_in_range(wait_ms, 500, 501);
	assert_false(bucket_take(&b, &l, 1000499, NULL));
	assert_true(bucket_take(&b, &l, 1000000 + wait_ms, NULL));
	assert_false(bucket_take(&b, &l, 1000000 + wait_ms, NULL));
	/* A clock that goes back gives nothing; a long rest no more than the burst. */
	assert_false(bucket_take(&b, &l, 5, NULL));
	int n = 0;
	while (bucket_take(&b, &l, INT64_MAX, NULL))
		n++;
	assert_int_equal(n, 3);
	/* In the long run it is the rate. */
	b = (struct bucket){0};
	n = 0;
	for (int64_t now = 1; now <= 100000; now += 7)
		n += bucket_take(&b, &l, now, NULL);
	assert_in_range(n, 202, 204);
}

static void test_hex(void **state)
{
	static const char *const bad[] = {"", "0", "000", "0g", "0A", "00 ", " 00", "0000", "0x"};
	uint8_t b;
	char text[5];
	for (unsigned i = 0; i < 256; i++) {
		hex_print((const uint8_t[]){(uint8_t)i, 0xa5}, 2, text);
		assert_string_equal(text + 2, "a5");
		text[2] = 0;
		assert_int_equal(hex_parse(text, &b, 1), 0);
		assert_int_equal(b, i);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(hex_parse(bad[i], &b, 1), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hex),
		cmocka_unit_test(err_formats_and_returns_its_code),
		cmocka_unit_test(err_allows_null),
		cmocka_unit_test(err_keeps_within_its_size),
		cmocka_unit_test(err_tells_its_category),
		cmocka_unit_test(err_may_quote_itself),
		cmocka_unit_test(log_line_has_priority_and_name),
		cmocka_unit_test(log_line_outside_the_journal_has_time_and_level),
		cmocka_unit_test(log_drops_what_is_less_important),
		cmocka_unit_test(log_line_cannot_be_forged),
		cmocka_unit_test(log_line_is_cut_but_ended),
		cmocka_unit_test(log_flood_is_cut),
		cmocka_unit_test(notify_reaches_the_socket),
		cmocka_unit_test(notify_ignores_bad_sockets),
		cmocka_unit_test(notify_tells_status_and_reload),
		cmocka_unit_test(watchdog_is_for_whom_it_names),
		cmocka_unit_test(clock_parses_rfc3339),
		cmocka_unit_test(clock_refuses_the_rest),
		cmocka_unit_test(clock_formats_what_it_parses),
		cmocka_unit_test(clock_runs),
		cmocka_unit_test(id_checks_its_alphabet),
		cmocka_unit_test(hash_names_are_64_digits),
		cmocka_unit_test(log_names_are_8_to_32_letters_and_digits),
		cmocka_unit_test(rng_is_splitmix64),
		cmocka_unit_test(rng_keeps_its_ranges),
		cmocka_unit_test(backoff_doubles_up_to_its_cap),
		cmocka_unit_test(bucket_lets_a_burst_and_a_rate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The command after a swap, with real processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "device-agent/hook_run.h"

#define WAIT_MS 20000

static struct {
	char dir[64], script[128], out[128], log[128];
	struct agent_conf conf;
	struct loop *loop;
	struct hook_run *hook;
	int ended;
	char failure[128];
} t;

static void on_ended(void *user, const char *failure)
{
	t.ended++;
	snprintf(t.failure, sizeof(t.failure), "%s", failure);
}

static void script(const char *text)
{
	FILE *f = fopen(t.script, "we");
	assert_non_null(f);
	fprintf(f, "#!/bin/sh\n%s", text);
	fclose(f);
	assert_int_equal(chmod(t.script, 0755), 0);
}

static void start(void)
{
	struct err err = {0};
	if (hook_run_new(t.loop, &t.conf, on_ended, NULL, &t.hook, &err) < 0)
		fail_msg("%s", err.text);
}

static int set_up(void **state)
{
	memset(&t, 0, sizeof(t));
	strcpy(t.dir, "/tmp/tasuki-hook-XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	snprintf(t.script, sizeof(t.script), "%s/hook.sh", t.dir);
	snprintf(t.out, sizeof(t.out), "%s/out", t.dir);
	snprintf(t.log, sizeof(t.log), "%s/log", t.dir);
	snprintf(t.conf.state, sizeof(t.conf.state), "%s", t.dir);
	snprintf(t.conf.worker.cfg, sizeof(t.conf.worker.cfg), "%s", t.dir);
	snprintf(t.conf.id, sizeof(t.conf.id), "cam-1");
	snprintf(t.conf.site, sizeof(t.conf.site), "home");
	int n = snprintf(t.conf.hook.words, sizeof(t.conf.hook.words), "%s", t.script) + 1;
	snprintf(t.conf.hook.words + n, sizeof(t.conf.hook.words) - (size_t)n, "$HOME;x");
	t.conf.hook.n = 2;
	t.conf.hook.timeout_s = 30;
	assert_int_equal(loop_new(&t.loop), 0);
	return 0;
}

static int tear_down(void **state)
{
	hook_run_free(t.hook);
	loop_free(t.loop);
	assert_int_equal(file_remove(t.dir, NULL), 0);
	return 0;
}

static void swap(char digit)
{
	struct agent_swap s = {.origin = "edge", .n = 80, .correct = 60};
	memset(s.checkpoint, digit, HASH_HEX);
	hook_run_swap(t.hook, &s);
}

static void await(int ended)
{
	for (int64_t end = clock_mono_ms() + WAIT_MS; t.ended < ended && clock_mono_ms() < end;)
		loop_once(t.loop, 100);
	assert_int_equal(t.ended, ended);
}

static void read_out(const char *path, char *buf, size_t size)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	buf[0] = 0;
	if (file_read(path, 1 << 20, &text, &len, NULL) == 0)
		snprintf(buf, size, "%s", text);
}

static void facts_and_no_shell(void **state)
{
	char got[2048], expected[2048], id[2][HASH_SIZE] = {{0}};
	setenv("NOTIFY_SOCKET", "/nowhere", 1);
	script("echo \"$# $1 $TASUKI_CHECKPOINT $TASUKI_PREVIOUS $TASUKI_ORIGIN $TASUKI_ACCURACY "
	       "$TASUKI_N "
	       "$TASUKI_CORRECT $TASUKI_DEVICE $TASUKI_SITE $TASUKI_WEIGHTS $NOTIFY_SOCKET\" "
	       ">>${0%/*}/out\n");
	start();
	swap('a');
	await(1);
	assert_string_equal(t.failure, "");
	swap('b');
	await(2);
	unsetenv("NOTIFY_SOCKET");
	memset(id[0], 'a', HASH_HEX);
	memset(id[1], 'b', HASH_HEX);
	int n = 0;
	for (int i = 0; i < 2; i++)
		n += snprintf(expected + n, sizeof(expected) - (size_t)n,
			      "1 $HOME;x %s %s edge 0.750000 80 60 cam-1 home "
			      "%s/checkpoints/%s/weights \n",
			      id[i], i ? id[0] : "", t.dir, id[i]);
	read_out(t.out, got, sizeof(got));
	assert_string_equal(got, expected);
}

static void told_once_also_after_a_restart(void **state)
{
	char got[64];
	script("echo x >>${0%/*}/out\n");
	start();
	swap('a');
	await(1);
	hook_run_free(t.hook);
	start();
	swap('a'); /* at the start */
	loop_once(t.loop, 200);
	assert_int_equal(t.ended, 1);
	swap('b');
	await(2);
	read_out(t.out, got, sizeof(got));
	assert_string_equal(got, "x\nx\n");
}

static void latest_wins_and_one_at_a_time(void **state)
{
	char got[4096], id[HASH_SIZE] = {0};
	/* A second one beside it would find the folder. */
	script("mkdir ${0%/*}/running || exit 9\nsleep 0.2\necho $TASUKI_CHECKPOINT >>${0%/*}/out\n"
	       "rmdir ${0%/*}/running\n");
	start();
	for (char c = 'a'; c <= 'f'; c++)
		swap(c);
	await(2);
	assert_string_equal(t.failure, "");
	read_out(t.out, got, sizeof(got));
	memset(id, 'f', HASH_HEX);
	assert_int_equal(strlen(got), 2 * (HASH_HEX + 1));
	assert_memory_equal(got + HASH_HEX + 1, id, HASH_HEX);
}

static void a_failure_has_a_name(void **state)
{
	script("exit 3\n");
	start();
	swap('a');
	await(1);
	assert_string_equal(t.failure, "on_swap: exit status 3");
	script("kill -SEGV $$\n");
	swap('b');
	await(2);
	assert_string_equal(t.failure, "on_swap: ended by SIGSEGV");
	assert_int_equal(unlink(t.script), 0);
	swap('c');
	await(3);
	assert_string_equal(t.failure, "on_swap: exit status 127");
}

/* Reaped, or, where there is no init that does so, waiting for it. */
static bool is_over(pid_t pid)
{
	char path[64], text[512] = "";
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	_cleanup_file_ FILE *f = fopen(path, "re");
	return !f || !fgets(text, sizeof(text), f) || strstr(text, ") Z");
}

/* It does not listen to SIGTERM, nor does what it has started. */
static void all_of_it_is_ended(void **state)
{
	char got[64];
	t.conf.hook.timeout_s = 3; /* until then it has written its child's number */
	script("trap '' TERM\n(sleep 60; echo late >${0%/*}/late) &\necho $! >${0%/*}/out\nsleep "
	       "60\n");
	start();
	swap('a');
	await(1);
	assert_string_equal(t.failure, "on_swap: not done within 3 s, ended");
	read_out(t.out, got, sizeof(got));
	pid_t left = (pid_t)atoi(got);
	assert_true(left > 1);
	for (int64_t end = clock_mono_ms() + WAIT_MS; !is_over(left) && clock_mono_ms() < end;)
		usleep(10000);
	assert_true(is_over(left));
}

/* A shut down does not wait for it, and tells it again. */
static void the_agent_ends_first(void **state)
{
	char path[128];
	script("trap '' TERM\nsleep 60\n");
	start();
	swap('a');
	loop_once(t.loop, 100);
	int64_t begun = clock_mono_ms();
	hook_run_free(t.hook);
	t.hook = NULL;
	assert_true(clock_mono_ms() - begun < 10000);
	assert_int_equal(t.ended, 0);
	snprintf(path, sizeof(path), "%s/on_swap.told", t.dir);
	assert_false(file_exists(path));
}

static void its_output_is_bounded(void **state)
{
	char got[65536];
	script("yes 'a line' | head -1000\nprintf 'forged\\033[2J\\n'\nhead -c 10000 /dev/zero | "
	       "tr '\\0' x\n");
	int before = dup(2);
	FILE *log = freopen(t.log, "we", stderr);
	assert_non_null(log);
	start();
	swap('a');
	await(1);
	fflush(stderr);
	dup2(before, 2);
	close(before);
	read_out(t.log, got, sizeof(got));
	int lines = 0;
	for (char *at = got; (at = strstr(at, "on_swap: a line")); at++)
		lines++;
	assert_int_equal(lines, 40);
	assert_non_null(strstr(got, "more lines are left out"));
	assert_null(strchr(got, '\033'));
	assert_true(strlen(got) < 20000);
}

int main(void)
{
	log_init("test_hook_run", LOG_P_INFO);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(facts_and_no_shell),
		TEST(told_once_also_after_a_restart),
		TEST(latest_wins_and_one_at_a_time),
		TEST(a_failure_has_a_name),
		TEST(all_of_it_is_ended),
		TEST(the_agent_ends_first),
		TEST(its_output_is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

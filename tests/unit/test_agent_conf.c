/* The agent's configuration: the example is complete and says the defaults, mistakes are refused,
 * `set` changes only what it may. */
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
#include "device-agent/conf.h"

#define MINIMAL                                                                                  \
	"[device]\nid = cam-1\n[model]\ncfg = model.cfg\nclasses = classes.txt\n[data]\npath = " \
	"data\n"

static char dir[64], path[FILE_PATH_MAX];
static struct agent_conf conf;
static struct err err;

static int setup(void **state)
{
	err = (struct err){0};
	memset(&conf, 0, sizeof(conf));
	strcpy(dir, "/tmp/tasuki-test-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	char at[FILE_PATH_MAX];
	file_path(at, sizeof(at), "%s/data", dir);
	if (mkdir(at, 0755) < 0)
		return -1;
	file_path(at, sizeof(at), "%s/mine", dir);
	if (mkdir(at, 0755) < 0)
		return -1;
	file_path(at, sizeof(at), "%s/w", dir);
	if (file_write(at, "#!", 2, NULL) < 0 || chmod(at, 0755) < 0)
		return -1;
	return file_path(path, sizeof(path), "%s/agent.conf", dir);
}

static int teardown(void **state)
{
	return file_remove(dir, NULL);
}

static int load(const char *text)
{
	assert_int_equal(file_write(path, text, strlen(text), NULL), 0);
	return agent_conf_load(path, &conf, &err);
}

static void assert_refused(const char *more, int code, const char *part)
{
	char text[2048];
	snprintf(text, sizeof(text), "%s%s", MINIMAL, more);
	conf.port = 77;
	assert_int_equal(load(text), code);
	if (!strstr(err.text, part))
		fail_msg("'%s' does not name '%s'", err.text, part);
	assert_int_equal(conf.port, 77); /* untouched */
}

static void test_example_says_the_defaults(void **state)
{
	struct agent_conf example;
	char *text = NULL;
	size_t len;
	assert_int_equal(load(MINIMAL), 0);
	assert_int_equal(
		file_read(TASUKI_SOURCE "/deploy/examples/agent.conf", 65536, &text, &len, NULL),
		0);
	example = conf;
	memset(&conf, 0, sizeof(conf));
	if (load(text) < 0)
		fail_msg("%s", err.text);
	free(text);
	assert_memory_equal(&conf.live, &example.live, sizeof(conf.live));
	assert_string_equal(conf.site, example.site);
	assert_string_equal(conf.state, example.state);
	assert_int_equal(conf.port, example.port);
	assert_int_equal(conf.keepalive_s, example.keepalive_s);
	assert_int_equal(conf.reconnect_first_ms, example.reconnect_first_ms);
	assert_int_equal(conf.reconnect_cap_ms, example.reconnect_cap_ms);
	assert_int_equal(conf.seed, example.seed);
	assert_int_equal(conf.block_size, example.block_size);
	assert_int_equal(conf.share_never, example.share_never);
	assert_int_equal(conf.private_rows, example.private_rows);
	assert_string_equal(conf.private_classes, example.private_classes);
	assert_memory_equal(&conf.worker, &example.worker, sizeof(conf.worker));
	assert_memory_equal(&conf.link, &example.link, sizeof(conf.link));
	assert_memory_equal(&conf.when, &example.when, sizeof(conf.when));
	assert_false(when_any(&conf.when));
	assert_memory_equal(&conf.privacy, &example.privacy, sizeof(conf.privacy));
	assert_memory_equal(&conf.select, &example.select, sizeof(conf.select));
	assert_int_equal(conf.select.n_blends, 0);
	assert_int_equal(conf.select.tune_steps, 120);
	assert_true(conf.select.confidence == 0.95);
}

static void test_values(void **state)
{
	char expected[FILE_PATH_MAX];
	assert_int_equal(
		load("[device]\nid = d\nsite = s\nstate = /var/x\n[model]\ncfg = a/m.cfg\n"
		     "classes = c\nprivate_classes = mine.txt\n[data]\npath = data\n"
		     "validation_share = 0.3\nlimit = 9\nshare = never\nnever_shared = mine\n"
		     "[augment]\nflip = yes\nfold = 9\n[train]\nround_epochs = 4\nstall_s = 7\n"
		     "memory_max_mb = 3\nengine = onednn\nprecision = bf16\nthreads = 3\n"
		     "nice = 12\ncpus = 0\nstep_ms = 3500\n[model]\nabsent_classes = mask\n"
		     "[transfer]\nencoding = int8\ntolerance_points = 2\n"
		     "[handover]\nlease_s = 33\nmin_epochs = 6\nprivate_rows = send\n"
		     "min_accuracy_percent = 43\n[select]\nselector = best\nlineage = keep\n"
		     "blends =\ntune_steps = 0\nprevious = yes\nbudget_s = 0\n"
		     "[link]\nrate_bytes = 20000\nbytes_a_day = 9000000\n"
		     "[privacy]\nnoise = 2.5\nclip = 0.25\ndelta = 1e-6\nbudget = 4\n"
		     "[worker]\nprogram = w\nsandbox = require\nreadable = data\n"),
		0);
	file_path(expected, sizeof(expected), "%s/a/m.cfg", dir);
	assert_string_equal(conf.worker.cfg, expected);
	assert_string_equal(conf.worker.log_path, "/var/x/worker.log");
	assert_string_equal(conf.worker.sandbox, "require");
	file_path(expected, sizeof(expected), "%s/data", dir);
	assert_string_equal(conf.worker.readable[0], expected);
	assert_string_equal(conf.worker.readable[1], "/var/x/checkpoints");
	assert_string_equal(conf.worker.writable[0], "/var/x/.store-tmp/out");
	assert_string_equal(conf.worker.writable[1], "/var/x/worker");
	assert_true(conf.worker.has_data);
	assert_true(conf.worker.data.validation_share == 0.3);
	assert_int_equal(conf.worker.data.limit, 9);
	assert_true(conf.worker.augment.flip);
	assert_int_equal(conf.worker.fold, 9);
	assert_int_equal(conf.worker.stall_ms, 7000);
	assert_int_equal(conf.worker.memory_max_bytes, 3 * 1024 * 1024);
	assert_string_equal(conf.worker.engine, "onednn");
	assert_string_equal(conf.worker.precision, "bf16");
	assert_int_equal(conf.worker.threads, 3);
	assert_int_equal(conf.worker.nice, 12);
	assert_int_equal(conf.worker.step_ms, 3500);
	assert_string_equal(conf.worker.absent, "mask");
	assert_int_equal(CPU_COUNT(&conf.worker.cpus), 1);
	assert_true(CPU_ISSET(0, &conf.worker.cpus));
	assert_int_equal(conf.live.round_epochs, 4);
	assert_int_equal(conf.live.lease_s, 33);
	assert_int_equal(conf.link.rate_bytes, 20000);
	assert_int_equal(conf.link.bytes_a_day, 9000000);
	assert_true(conf.privacy.noise == 2.5 && conf.privacy.clip == 0.25);
	assert_true(conf.privacy.delta == 1e-6 && conf.privacy.budget == 4);
	assert_int_equal(conf.live.min_epochs, 6);
	file_path(expected, sizeof(expected), "%s/mine.txt", dir);
	assert_string_equal(conf.private_classes, expected);
	assert_string_equal(conf.worker.private_classes,
			    ""); /* the state folder's, once it is there */
	assert_true(conf.share_never);
	file_path(expected, sizeof(expected), "%s/mine", dir);
	assert_string_equal(conf.worker.data.stay_path, expected);
	assert_int_equal(conf.private_rows, PRIVATE_ROWS_SEND);
	assert_int_equal(conf.live.min_accuracy_percent, 43);
	assert_int_equal(conf.select.selector, SELECTOR_BEST);
	assert_int_equal(conf.select.lineage, LINEAGE_KEEP);
	assert_int_equal(conf.select.n_blends, 0);
	assert_int_equal(conf.select.tune_steps, 0);
	assert_true(conf.select.previous);
	assert_int_equal(conf.select.budget_s, 0);
}

static void test_blends(void **state)
{
	assert_int_equal(load(MINIMAL "[select]\nblends = 25 , 50\n"), 0);
	assert_int_equal(conf.select.n_blends, 2);
	assert_int_equal(conf.select.blends[0], 25);
	assert_int_equal(conf.select.blends[1], 50);
}

static void test_protected_classes(void **state)
{
	static const char *const names[] = {"cat", "tabby cat", "dog"};
	static const struct {
		const char *protect;
		int code;
		size_t n;
		int32_t first, last;
	} table[] = {
		{"", 0, 0, 0, 0},
		{"dog", 0, 1, 2, 2},
		{"tabby cat , cat", 0, 2, 1, 0},
		{"cat,,dog", -EINVAL, 0, 0, 0},
		{"cat,", -EINVAL, 0, 0, 0},
		{",cat", -EINVAL, 0, 0, 0},
		{",", -EINVAL, 0, 0, 0},
		{"bird", -EINVAL, 0, 0, 0},
	};
	char text[256];
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		snprintf(text, sizeof(text), "%s[select]\nprotect = %s\n", MINIMAL,
			 table[i].protect);
		assert_int_equal(load(text), 0);
		if (agent_conf_classes(&conf, names, ARRAY_LEN(names), &err) != table[i].code)
			fail_msg("'%s': %s", table[i].protect, err.text);
		if (table[i].code < 0)
			continue;
		assert_int_equal(conf.select.n_protect, table[i].n);
		if (table[i].n) {
			assert_int_equal(conf.select.protect[0], table[i].first);
			assert_int_equal(conf.select.protect[table[i].n - 1], table[i].last);
		}
	}
	assert_non_null(strstr(err.text, "[select] protect: found 'bird'"));
	assert_non_null(strstr(err.text, "classes.txt"));
}

static void test_refused(void **state)
{
	assert_refused("[nonsense]\nx = 1\n", -EINVAL, "nonsense");
	assert_refused("validation = nowhere\n", -ENOENT, "agent.conf:8: [data] validation");
	assert_refused("test = w\n", -ENOTDIR, "agent.conf:8: [data] test");
	assert_refused("share = no\n", -EINVAL, "agent.conf:8: [data] share");
	assert_refused("never_shared = nowhere\n", -ENOENT, "agent.conf:8: [data] never_shared");
	assert_refused("never_shared = ./data/\n", -EINVAL, "agent.conf:8: [data] never_shared");
	assert_refused("[handover]\nprivate_rows = drop\n", -EINVAL,
		       "agent.conf:9: [handover] private_rows");
	assert_refused("[when]\nhours = 22-6\n", -EINVAL, "agent.conf:9: [when] hours: found '22-6'");
	assert_refused("[when]\npower = solar\n", -EINVAL, "agent.conf:9: [when] power");
	assert_refused("[when]\nbattery_min_percent = 101\n", -ERANGE,
		       "agent.conf:9: [when] battery_min_percent");
	assert_refused("[when]\ntemperature_max_c = hot\n", -EINVAL,
		       "agent.conf:9: [when] temperature_max_c");
	assert_refused("[when]\nload_max = -1\n", -ERANGE, "agent.conf:9: [when] load_max");
	assert_refused("[when]\ndisk_free_min_mb = -1\n", -ERANGE,
		       "agent.conf:9: [when] disk_free_min_mb");
	assert_refused("[when]\nmetered_link = yes\n", -EINVAL, "agent.conf:9: [when] metered_link");
	assert_refused("[when]\nroot = nowhere\n", -ENOENT, "agent.conf:9: [when] root");
	assert_refused("[worker]\nprogram = nope\n", -ENOENT, "agent.conf:9: [worker] program");
	assert_refused("[worker]\nprogram = agent.conf\n", -EACCES, "[worker] program");
	assert_refused("[device]\ncommands = signed\n", -EINVAL,
		       "agent.conf:9: [device] commands: found signed, expected broker without");
	assert_refused("[device]\ncommands = all\n", -EINVAL, "[device] commands");
	assert_refused("[worker]\nsandbox = yes\n", -EINVAL, "agent.conf:9: [worker] sandbox");
	assert_refused("[worker]\nreadable = nowhere\n", -ENOENT, "agent.conf:9: [worker] readable");
	assert_refused("[broker]\nhost =\n", -EINVAL, "agent.conf:9: [broker] host");
	assert_refused("[device]\nstate = w/state\n", -ENOTDIR, "agent.conf:9: [device] state");
	assert_refused("[device]\nstate =\n", -ENOENT, "agent.conf:9: [device] state");
	assert_refused("[train]\nepoch = 1\n", -EINVAL, "epoch");
	assert_refused("[link]\nbytes_a_day = -1\n", -ERANGE, "[link] bytes_a_day");
	assert_refused("[link]\nrate_bytes = 4368\n", -ERANGE,
		       "agent.conf:9: [link] rate_bytes: found 4368, expected 0 or at least 4369");
	assert_refused("[privacy]\nnoise = -1\n", -ERANGE, "[privacy] noise");
	assert_refused("[privacy]\nnoise = 0.00005\n", -ERANGE,
		       "agent.conf:9: [privacy] noise: found 5e-05, expected 0 or at least 0.0001");
	assert_refused("[privacy]\nclip = 0\n", -ERANGE, "[privacy] clip");
	assert_refused("[privacy]\ndelta = 0\n", -ERANGE, "[privacy] delta");
	assert_refused("[privacy]\ndelta = 0.2\n", -ERANGE, "[privacy] delta");
	assert_refused("[privacy]\nbudget = -1\n", -ERANGE, "[privacy] budget");
	assert_refused("[privacy]\nepsilon = 1\n", -EINVAL, "epsilon");
	assert_refused("[train]\nround_epochs = 0\n", -ERANGE, "round_epochs");
	assert_refused("[train]\nengine = onednn2\n", -EINVAL, "[train] engine");
	assert_refused("[train]\nprecision = f16\n", -EINVAL, "[train] precision");
	assert_refused("[train]\nthreads = 257\n", -ERANGE, "[train] threads");
	assert_refused("[model]\nabsent_classes = no\n", -EINVAL, "[model] absent_classes");
	assert_refused("[train]\nstep_ms = 60001\n", -ERANGE, "[train] step_ms");
	assert_refused("[train]\nstep_ms = 3501\nstall_s = 7\n", -ERANGE,
		       "agent.conf:9: [train] step_ms: found 3501, expected at most half of "
		       "stall_s (7 s)");
	assert_refused("[train]\nnice = -1\n", -ERANGE, "[train] nice");
	assert_refused("[train]\ncpus = 0-\n", -EINVAL, "agent.conf:9: [train] cpus");
	assert_refused("[train]\ncpus = 1023\n", -ERANGE, "[train] cpus");
	assert_refused("[train]\nmemory_max_mb = 9999999\n", -ERANGE, "[train] memory_max_mb");
	assert_refused("[transfer]\nencoding = zip\n", -EINVAL,
		       "agent.conf:9: [transfer] encoding");
	assert_refused("[transfer]\ntolerance_points = -1\n", -ERANGE, "tolerance_points");
	assert_refused("[handover]\nlease_s = 1\n", -ERANGE, "lease_s");
	assert_refused("[handover]\nblock_size = 200000\n", -ERANGE, "block_size");
	assert_refused("[handover]\nmin_accuracy_percent = 101\n", -ERANGE, "min_accuracy_percent");
	assert_refused("[select]\nselector = good\n", -EINVAL, "agent.conf:9: [select] selector");
	assert_refused("[select]\nlineage = both\n", -EINVAL, "[select] lineage");
	assert_refused("[select]\nconfidence_percent = 49\n", -ERANGE, "confidence_percent");
	assert_refused("[select]\nconfidence_percent = 100\n", -ERANGE, "confidence_percent");
	assert_refused("[select]\nprotect_points = -1\n", -ERANGE, "protect_points");
	assert_refused("[select]\nselector = best\nprotect = cat\n", -EINVAL,
		       "agent.conf:10: [select] protect: found 'cat' with selector = best");
	assert_refused("[select]\ntune_steps = -1\n", -ERANGE, "tune_steps");
	assert_refused("[select]\ntune_rate_percent = 0\n", -ERANGE, "tune_rate_percent");
	assert_refused("[select]\nbudget_s = -1\n", -ERANGE, "budget_s");
	static const char *const blends[] = {"0", "100",   "50,25", "50,50",   "25,", ",25",
					     "x", "25;50", "-5",    "25,, 50", "0x10"};
	for (size_t i = 0; i < ARRAY_LEN(blends); i++) {
		char more[64];
		snprintf(more, sizeof(more), "[select]\nblends = %s\n", blends[i]);
		assert_refused(more, -EINVAL, "agent.conf:9: [select] blends");
	}
	assert_refused("[select]\nblends = 1,2,3,4,5,6\n", -E2BIG, "[select] blends");
	assert_refused("[broker]\nreconnect_first_ms = 500\nreconnect_cap_ms = 400\n", -ERANGE,
		       "reconnect_cap_ms");
	assert_refused("[augment]\nblur = -1\n", -ERANGE, "blur");
	char text[512], id[121];
	memset(id, 'x', 60);
	id[60] = 0;
	snprintf(
		text, sizeof(text),
		"[device]\nid = %s-1\nsite = %s\n[model]\ncfg = m\nclasses = c\n[data]\npath = d\n",
		id, id);
	assert_int_equal(load(text), -ERANGE); /* too long together for a client id */
	assert_int_equal(load("[device]\nid = a/b\n[model]\ncfg=m\nclasses=c\n[data]\npath=d\n"),
			 -EINVAL);
	assert_int_equal(load("[model]\ncfg=m\nclasses=c\n[data]\npath=d\n"), -ENOENT);
	assert_non_null(strstr(err.text, "[device] id"));
	assert_int_equal(load("[device]\nid=d\n[model]\ncfg=m\nclasses=c\n[data]\npath=nowhere\n"),
			 -ENOENT);
	assert_non_null(strstr(err.text, "agent.conf:7: [data] path: found '"));
	/* The mistyped section rather than what is missing because of it. */
	assert_int_equal(load("[device]\nid=d\n[model]\ncfg=m\nclasses=c\n[dta]\npath=data\n"),
			 -EINVAL);
	assert_non_null(strstr(err.text, "agent.conf:6: [dta]"));
	assert_non_null(strstr(err.text, "[data]"));
	assert_int_equal(load("[device]\nid=d\n[model]\ncfg=m\nclasses=c\n[data]\npath=d\n"
			      "validation_share=0.6\ntest_share=0.5\n"),
			 -ERANGE);
}

static void test_set(void **state)
{
	struct agent_live l = {0}, none = {0};
	static const char *const keys[] = {"every_epochs", "plateau_epochs", "round_epochs",
					   "rounds",       "round_pause_s",  "rescan_s",
					   "lease_s"};
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		assert_int_equal(agent_live_set(&l, keys[i], "42", &err), 0);
	assert_int_equal(l.every_epochs, 42);
	assert_int_equal(l.plateau_epochs, 42);
	assert_int_equal(l.round_epochs, 42);
	assert_int_equal(l.rounds, 42);
	assert_int_equal(l.round_pause_s, 42);
	assert_int_equal(l.rescan_s, 42);
	assert_int_equal(l.lease_s, 42);
	l = none;
	assert_int_equal(agent_live_set(&l, "min_epochs", "4", &err), -ENOENT);
	assert_int_equal(agent_live_set(&l, "seed", "4", &err), -ENOENT);
	assert_int_equal(agent_live_set(&l, "lease_s", "1", &err), -ERANGE);
	assert_int_equal(agent_live_set(&l, "lease_s", "99999999", &err), -ERANGE);
	static const char *const bad[] = {"",    "-1", "1.5", " 5", "5x", "99999999999999999999",
					  "0x10"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(agent_live_set(&l, "rounds", bad[i], &err), -EINVAL);
	assert_memory_equal(&l, &none, sizeof(l));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_example_says_the_defaults), T(test_values), T(test_refused), T(test_blends),
		T(test_protected_classes),         T(test_set),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

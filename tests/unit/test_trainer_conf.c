/* tasuki-trainer's configuration: defaults, every key, and what is refused with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "edge-trainer/conf.h"

#define HEAD                                                                                       \
	"[trainer]\nid = edge-1\n[model]\ncfg = m.cfg\nclasses = c.txt\n[data]\npath = data\n"

static char dir[64];

static int set_up(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/tasuki-conf-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	char path[128];
	snprintf(path, sizeof(path), "%s/data", dir);
	if (mkdir(path, 0755) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/w", dir);
	return file_write(path, "#!", 2, NULL) < 0 ? -1 : chmod(path, 0755);
}

static int tear_down(void **state)
{
	(void)state;
	return file_remove(dir, NULL);
}

static int load(const char *text, struct trainer_conf *c, struct err *err)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/trainer.conf", dir);
	assert_int_equal(file_write(path, text, strlen(text), err), 0);
	return trainer_conf_load(path, c, err);
}

static void test_defaults(void **state)
{
	struct trainer_conf c;
	struct err err = {0};
	char path[128];

	(void)state;
	assert_int_equal(load(HEAD, &c, &err), 0);
	assert_string_equal(c.site, "home");
	assert_string_equal(c.id, "edge-1");
	snprintf(path, sizeof(path), "%s/state", dir);
	assert_string_equal(c.state, path);
	snprintf(path, sizeof(path), "%s/m.cfg", dir);
	assert_string_equal(c.worker.cfg, path);
	assert_string_equal(c.host, "127.0.0.1");
	assert_int_equal(c.port, 1883);
	assert_int_equal(c.keepalive_s, 30);
	assert_int_equal(c.reconnect_first_ms, 500);
	assert_int_equal(c.reconnect_cap_ms, 30000);
	assert_true(c.worker.has_data);
	assert_true(c.worker.data.test_share == 0.2);
	assert_true(c.worker.data.validation_share == 0);
	assert_string_equal(c.worker.data.test_path, "");
	assert_int_equal(c.worker.data.seed, 1);
	assert_int_equal(c.rescan_s, 60);
	assert_int_equal(c.worker.augment.shift_px, 2);
	assert_false(c.worker.augment.flip);
	assert_int_equal(c.worker.fold, 1);
	assert_string_equal(c.worker.absent, "mask");
	assert_int_equal(c.worker.step_ms, 0);
	assert_int_equal(c.epochs, 10);
	assert_int_equal(c.slots, 1);
	assert_int_equal(c.strategy, STRATEGY_RESUME);
	assert_int_equal(c.window.window_ms, 60000);
	assert_int_equal(c.window.devices, 0);
	assert_true(c.lineage_share == 0.5);
	assert_true(c.final_share == 0);
	assert_true(c.mixture.eta == 4);
	assert_true(c.mixture.floor == 0.25);
	assert_string_equal(c.worker.engine, "auto");
	assert_string_equal(c.worker.precision, "auto");
	assert_int_equal(c.worker.threads, 0);
	assert_int_equal(c.worker.nice, 0);
	assert_int_equal(CPU_COUNT(&c.worker.cpus), 0);
	assert_int_equal(c.worker.memory_max_bytes, 0);
	assert_int_equal(c.worker.stall_ms, 120000);
	assert_int_equal(c.capacity, 16);
	assert_int_equal(c.device_per_hour, 60);
	assert_int_equal(c.keep_days, 30);
	assert_int_equal(c.history_days, 365);
	assert_int_equal(c.disk_max_bytes, (int64_t)16 << 30);
	assert_int_equal(c.lease_ms, 120000);
	assert_int_equal(c.block_size, 131072);
	assert_string_equal(c.worker.program, "");
}

static void test_given(void **state)
{
	struct trainer_conf c;
	struct err err = {0};
	char path[128];

	(void)state;
	assert_int_equal(load("[trainer]\nsite=a\nid=b\nstate=/x/y\n[broker]\nhost=h\nport=2\n"
			      "keepalive_s=3\nreconnect_first_ms=4\nreconnect_cap_ms=5\n[model]\n"
			      "cfg=/c\nclasses=/l\n[data]\npath=/\nvalidation=/tmp\ntest=data\n"
			      "validation_share=0.1\ntest_share=0.3\nseed=7\ncenter_crop=8\nlimit=9\n"
			      "rescan_s=0\n[augment]\nshift_px=1\nflip=yes\nblur=0\nbrightness=0.5\n"
			      "fold=9\n[train]\nepochs=20\nseed=11\nthreads=2\nnice=19\n"
			      "engine=darknet\nprecision=f32\ncpus=0\nmemory_max_mb=64\nstall_s=5\njobs=3\n"
			      "step_ms=2500\nstrategy=agnostic\n[merge]\nwindow_s=2\ndevices=3\nlineage_percent=95\n"
			      "final_percent=7\neta=1.5\nfloor_percent=100\n[model]\nabsent_classes=train\n[queue]\n"
			      "capacity=4\ndevice_per_hour=6\nkeep_days=2\nlease_s=10\n"
			      "history_days=3\ndisk_max_mb=5\n"
			      "block_size=4096\n[worker]\nprogram=w\nsandbox=off\nreadable=/tmp\n",
			      &c, &err),
			 0);
	assert_string_equal(c.state, "/x/y");
	assert_int_equal(c.port, 2);
	assert_string_equal(c.worker.data.validation_path, "/tmp");
	snprintf(path, sizeof(path), "%s/data", dir);
	assert_string_equal(c.worker.data.test_path, path);
	assert_int_equal(c.worker.data.seed, 7);
	assert_int_equal(c.worker.data.center_crop, 8);
	assert_int_equal(c.worker.data.limit, 9);
	assert_int_equal(c.rescan_s, 0);
	assert_true(c.worker.augment.flip);
	assert_int_equal(c.worker.fold, 9);
	assert_int_equal(c.epochs, 20);
	assert_int_equal(c.seed, 11);
	assert_int_equal(c.worker.memory_max_bytes, 64 << 20);
	assert_string_equal(c.worker.engine, "darknet");
	assert_string_equal(c.worker.precision, "f32");
	assert_int_equal(c.worker.threads, 2);
	assert_int_equal(c.worker.nice, 19);
	assert_int_equal(c.worker.step_ms, 2500);
	assert_string_equal(c.worker.absent, "train");
	assert_string_equal(c.worker.sandbox, "off");
	assert_string_equal(c.worker.readable[0], "/tmp");
	assert_string_equal(c.worker.readable[1], "/x/y/store/checkpoints");
	assert_string_equal(c.worker.readable[2], "/x/y/incoming");
	assert_string_equal(c.worker.writable[0], "/x/y/store/.store-tmp/out");
	assert_int_equal(CPU_COUNT(&c.worker.cpus), 1);
	assert_int_equal(c.worker.stall_ms, 5000);
	assert_int_equal(c.slots, 3);
	assert_int_equal(c.strategy, STRATEGY_AGNOSTIC);
	assert_int_equal(c.window.window_ms, 2000);
	assert_int_equal(c.window.devices, 3);
	assert_true(c.lineage_share == 0.95);
	assert_true(c.final_share == 0.07);
	assert_true(c.mixture.eta == 1.5);
	assert_true(c.mixture.floor == 1);
	assert_int_equal(c.lease_ms, 10000);
	assert_int_equal(c.keep_days, 2);
	assert_int_equal(c.history_days, 3);
	assert_int_equal(c.disk_max_bytes, 5 << 20);
	assert_int_equal(c.block_size, 4096);
	snprintf(path, sizeof(path), "%s/w", dir);
	assert_string_equal(c.worker.program, path);
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *named;
	} cases[] = {
		{"[trainer]\nsite = home\n", "[trainer] id"},
		{"[trainer]\nsite = a/b\nid = e\n", "site"},
		{"[trainer]\nsite = home\nid = ..\n", "id"},
		{HEAD "[broker]\nport = 0\n", "port"},
		{HEAD "[broker]\nport = 99999\n", "port"},
		{HEAD "[broker]\nreconnect_first_ms = 9\nreconnect_cap_ms = 8\n", "reconnect_cap_ms"},
		{HEAD "[broker]\nprot = 1883\n", "prot"},
		{HEAD "[train]\nengine = onednn2\n", "engine"},
		{HEAD "[train]\nprecision = f64\n", "precision"},
		{HEAD "[model]\nabsent_classes = both\n", "[model] absent_classes"},
		{HEAD "[train]\nstep_ms = -1\n", "[train] step_ms"},
		{HEAD "[train]\nstep_ms = 30001\nstall_s = 60\n", "[train] step_ms"},
		{HEAD "[train]\ncpus = one\n", "trainer.conf:9: [train] cpus"},
		{HEAD "[train]\nthreads = 257\n", "threads"},
		{HEAD "[train]\nepochs = 0\n", "epochs"},
		{HEAD "[train]\njobs = 17\n", "jobs"},
		{HEAD "[train]\nstrategy = average\n", "[train] strategy"},
		{HEAD "[merge]\nwindow_s = 0\n", "window_s"},
		{HEAD "[merge]\ndevices = 64\n", "devices"},
		{HEAD "[train]\nstrategy = merge\n[merge]\ndevices = 13\n",
		 "trainer.conf:11: [merge] devices: found 13, expected at most 12"},
		{HEAD "[merge]\nlineage_percent = 96\n", "lineage_percent"},
		{HEAD "[merge]\nfinal_percent = -1\n", "final_percent"},
		{HEAD "[merge]\neta = 21\n", "eta"},
		{HEAD "[merge]\nfloor_percent = 101\n", "floor_percent"},
		{HEAD "[queue]\ncapacity = 0\n", "capacity"},
		{HEAD "[queue]\nlease_s = 4\n", "lease_s"},
		{HEAD "[queue]\nkeep_days = 9\nhistory_days = 8\n", "history_days"},
		{HEAD "[queue]\ndisk_max_mb = 0\n", "disk_max_mb"},
		{HEAD "[queue]\nblock_size = 131073\n", "block_size"},
		{HEAD "test_share = 0.6\nvalidation_share = 0.5\n", "test_share"},
		{HEAD "[augment]\nflip = maybe\n", "flip"},
		{HEAD "[wrker]\nprogram = x\n", "wrker"},
		{HEAD "no equals sign\n", "trainer.conf:8"},
		{"", "[trainer] id"},
		{"[trainer]\nid = e\n[model]\ncfg = m\nclasses = c\n[dta]\npath = data\n",
		 "trainer.conf:6: [dta]: found an unknown section, expected perhaps [data]"},
		{"[trainer]\nid = e\n[model]\ncfg = m\nclasses = c\n[data]\npath = nowhere\n",
		 "trainer.conf:7: [data] path: found '"},
		{HEAD "validation = nowhere\n", "trainer.conf:8: [data] validation"},
		{HEAD "test = w\n", "trainer.conf:8: [data] test"},
		{HEAD "[worker]\nprogram = nope\n", "trainer.conf:9: [worker] program"},
		{HEAD "[worker]\nsandbox = no\n", "trainer.conf:9: [worker] sandbox"},
		{HEAD "[worker]\nreadable = nope\n", "trainer.conf:9: [worker] readable"},
		{HEAD "[broker]\nhost =\n", "trainer.conf:9: [broker] host"},
		{HEAD "[trainer]\nstate = w/state\n", "trainer.conf:9: [trainer] state"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct trainer_conf c = {.port = 77};
		struct err err = {0};

		assert_true(load(cases[i].text, &c, &err) < 0);
		if (!strstr(err.text, cases[i].named))
			fail_msg("case %zu: '%s' does not name '%s'", i, err.text, cases[i].named);
		assert_int_equal(c.port, 77); /* untouched */
	}
}

/* The file that documents every key is a valid one, and says the true defaults. */
static void test_example(void **state)
{
	struct trainer_conf example, plain;
	struct err err = {0};
	char *text = NULL;
	size_t len;

	(void)state;
	if (file_read(TASUKI_SOURCE "/deploy/examples/trainer.conf", 65536, &text, &len, &err) <
		    0 ||
	    load(text, &example, &err) < 0)
		fail_msg("%s", err.text);
	free(text);
	assert_int_equal(load("[trainer]\nid = edge-1\n[model]\ncfg = model.cfg\n"
			      "classes = classes.txt\n[data]\npath = data\n",
			      &plain, &err),
			 0);
	assert_string_equal(example.site, plain.site);
	assert_string_equal(example.state, plain.state);
	assert_int_equal(example.capacity, plain.capacity);
	assert_int_equal(example.slots, plain.slots);
	assert_int_equal(example.lease_ms, plain.lease_ms);
	assert_int_equal(example.epochs, plain.epochs);
	assert_int_equal(example.rescan_s, plain.rescan_s);
	assert_int_equal(example.worker.fold, plain.worker.fold);
	assert_true(example.worker.data.test_share == plain.worker.data.test_share);
	assert_true(example.worker.augment.blur == plain.worker.augment.blur);
	assert_true(example.worker.augment.brightness == plain.worker.augment.brightness);
	assert_int_equal(example.block_size, plain.block_size);
	assert_int_equal(example.keep_days, plain.keep_days);
	assert_int_equal(example.history_days, plain.history_days);
	assert_int_equal(example.disk_max_bytes, plain.disk_max_bytes);
	assert_int_equal(example.device_per_hour, plain.device_per_hour);
	assert_int_equal(example.strategy, plain.strategy);
	assert_int_equal(example.window.window_ms, plain.window.window_ms);
	assert_int_equal(example.window.devices, plain.window.devices);
	assert_true(example.lineage_share == plain.lineage_share);
	assert_true(example.final_share == plain.final_share);
	assert_true(example.mixture.eta == plain.mixture.eta);
	assert_true(example.mixture.floor == plain.mixture.floor);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_given),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_example),
	};
	return cmocka_run_group_tests_name("trainer_conf", tests, set_up, tear_down);
}

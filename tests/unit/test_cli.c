/* What `tasuki` says to people: what was perhaps meant, columns that fit, which devices, charts,
 * lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/chart.h"
#include "cli/filter.h"
#include "cli/lines.h"
#include "cli/table.h"
#include "cli/takeup.h"
#include "cli/view.h"
#include "common/base/mem.h"

static void test_nearest(void **state)
{
	static const char *const words[] = {"train", "evaluate", "devices", "show",
					    "cmd",   "cam-1",    "cam-10"};
	static const struct {
		const char *typed, *meant;
	} rows[] = {
		{"trian", "train"},
		{"tarin", "train"},
		{"evalute", "evaluate"},
		{"device", "devices"},
		{"shwo", "show"},
		{"cmd", "cmd"},
		{"cdm", "cmd"},
		{"cam-l", "cam-1"},
		{"cam-01", "cam-1"},
		{"xyz", NULL},
		{"a", NULL},
		{"rollout", NULL},
		{"evalxate", "evaluate"},
		{"", NULL},
		{"xxevaluatexx", NULL},
		{"0123456789012345678901234567890123456789012345678901234567890123456789", NULL},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *near = cli_nearest(rows[i].typed, words, ARRAY_LEN(words));
		if (!rows[i].meant)
			assert_null(near);
		else
			assert_string_equal(near, rows[i].meant);
	}
	assert_string_equal(cli_did_you_mean("train"), "; did you mean 'train'?");
	assert_string_equal(cli_did_you_mean(NULL), "");
}

static void test_json_text(void **state)
{
	struct json *j = json_new_obj();
	json_set_str(j, "\x7f", "a\xc2\x9b" "31m\x1b[2J \xc3\xa9\xc2\xa0");
	_cleanup_free_ char *text = cli_json_text(j);
	assert_string_equal(text, "{\"\\u007f\":\"a\\u009b31m\\u001b[2J \xc3\xa9\xc2\xa0\"}");
	json_free(j);
}

static const struct table_column columns[] = {
	{"NAME", false, 0}, {"N", true, 2}, {"TEXT", false, 1}};

static char *print_table(int width, bool colour, size_t max_rows)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	_cleanup_(table_freep) struct table *t = table_new(columns, ARRAY_LEN(columns));
	table_add(t, TERM_GREEN, "a");
	table_add(t, TERM_PLAIN, "%d", 1);
	table_add(t, TERM_PLAIN, "früh");
	table_add(t, TERM_PLAIN, "longer");
	table_add(t, TERM_PLAIN, "%d", 1000);
	table_add(t, TERM_PLAIN, "%s", "");
	assert_int_equal(table_rows(t), 2);
	table_print(t, f, width, colour, max_rows);
	fclose(f);
	return text;
}

static void test_table(void **state)
{
	static const struct {
		int width;
		bool colour;
		size_t rows;
		const char *expected;
	} rows[] = {
		{0, false, 9, "NAME       N  TEXT\na          1  früh\nlonger  1000\n"},
		{18, false, 9, "NAME       N  TEXT\na          1  früh\nlonger  1000\n"},
		{17, false, 9,
		 "NAME    TEXT\na       früh\nlonger\n"}, /* the highest rank goes first */
		{11, false, 9, "NAME\na\nlonger\n"},
		{1, false, 9, "NAME\na\nlonger\n"}, /* rank 0 stays */
		{0, true, 1, "NAME  N  TEXT\n\033[32ma\033[0m     1  früh\n"},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_free_ char *text =
			print_table(rows[i].width, rows[i].colour, rows[i].rows);
		assert_string_equal(text, rows[i].expected);
	}
}

static void test_bytes(void **state)
{
	static const struct {
		int64_t bytes;
		const char *text;
	} rows[] = {
		{-1, "-"},        {0, "0 B"},          {999, "999 B"},         {1000, "1.0 kB"},
		{9949, "9.9 kB"}, {12345678, "12 MB"}, {1500000000, "1.5 GB"}, {999600, "1.0 MB"}};
	char buf[VIEW_BYTES_MAX];
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		view_bytes(buf, rows[i].bytes);
		assert_string_equal(buf, rows[i].text);
	}
	term_bar(buf, sizeof(buf), 4, 0.5);
	assert_string_equal(buf, "##..");
	term_bar(buf, sizeof(buf), 4, -1);
	assert_string_equal(buf, "");
	term_bar(buf, sizeof(buf), 4, 7);
	assert_string_equal(buf, "####");
}

static struct online_device device(const char *id, bool online, enum phase phase,
				   enum origin origin, double accuracy, const char *handover,
				   int64_t at_ms)
{
	struct online_device d = {.has_presence = true, .online = online, .has_status = true};
	snprintf(d.id, sizeof(d.id), "%s", id);
	d.status.phase = phase;
	d.status.has_active = accuracy > -2;
	d.status.active.origin = origin;
	d.status.active.accuracy = accuracy;
	snprintf(d.status.handover, sizeof(d.status.handover), "%s", handover);
	d.status.at_ms = at_ms;
	return d;
}

static const struct {
	const char *option, *value, *pattern, *taken; /* ids, in order */
} filters[] = {
	{NULL, NULL, NULL, "cam-1 cam-2 cam-3 door new"},
	{NULL, NULL, "cam-*", "cam-1 cam-2 cam-3"},
	{NULL, NULL, "*[o1]*", "cam-1 door"},
	{"p", "training", NULL, "cam-1"}, /* cam-3 is away: that was long ago */
	{"p", "idle", NULL, "cam-2"},
	{"o", "edge", NULL, "cam-1 cam-3"},
	{"n", NULL, NULL, "cam-1 cam-2 door"},
	{"f", NULL, NULL, "cam-3"}, /* of `new` it is not known */
	{"h", NULL, NULL, "cam-1"},
	{"l", "90", NULL, "cam-1 cam-3"}, /* door's is not known */
	{"l", "90", "cam-1", "cam-1"},
	{"r", "accuracy", NULL, "cam-3 cam-1 cam-2 door new"},
	{"r", "seen", NULL, "cam-2 cam-1 cam-3 door new"},
	{"r", "phase", "cam-*", "cam-2 cam-1 cam-3"},
};

static void test_filter(void **state)
{
	struct online_device devices[] = {
		device("cam-1", true, PHASE_TRAINING, ORIGIN_EDGE, 0.8, "pulling", 200),
		device("cam-2", true, PHASE_IDLE, ORIGIN_LOCAL, 0.95, "", 100),
		device("cam-3", false, PHASE_TRAINING, ORIGIN_EDGE, 0.5, "", 300),
		device("door", true, PHASE_PAUSED, ORIGIN_LOCAL, -1, "", 400),
		{.id = "new"},
	};
	struct online_device *rows[ARRAY_LEN(devices)];
	struct online o = {.devices = rows, .n_devices = ARRAY_LEN(rows)};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		rows[i] = &devices[i];
	for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
		struct filter f = FILTER_NONE;
		char *pattern = (char *)filters[i].pattern, text[256] = "";
		size_t n;
		if (filters[i].option)
			assert_int_equal(filter_option(&f, "devices", filters[i].option[0],
						       filters[i].value),
					 1);
		f.patterns = &pattern;
		f.n_patterns = pattern ? 1 : 0;
		_cleanup_free_ const struct online_device **found = filter_devices(&f, &o, &n);
		for (size_t k = 0; k < n; k++)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s",
				 k ? " " : "", found[k]->id);
		assert_string_equal(text, filters[i].taken);
	}
	struct filter f = FILTER_NONE;
	assert_int_equal(filter_option(&f, "devices", 'p', "sleeping"), -1);
	assert_int_equal(filter_option(&f, "devices", 'o', "egde"), -1);
	assert_int_equal(filter_option(&f, "devices", 'l', "101"), -1);
	assert_int_equal(filter_option(&f, "devices", 'r', "name"), -1);
	assert_int_equal(filter_option(&f, "devices", 'z', NULL), 0);
}

#define T0 1790000000 /* 2026-09-21 14:13:20 UTC */

static struct msg_history *history(void)
{
	static struct msg_history h;
	static const struct history_point points[] = {
		{T0, 1, ORIGIN_LOCAL, 100, 50, true, "aaaaaaaaaaaa"},
		{T0 + 600, 2, ORIGIN_LOCAL, 100, 48, false, "bbbbbbbbbbbb"},
		{T0 + 1200, 2, ORIGIN_EDGE, 100, 80, true, "cccccccccccc"},
		{T0 + 1800, 3, ORIGIN_FLEET, 100, 90, true, "dddddddddddd"},
		{T0 + 2400, 3, ORIGIN_TUNED, 100, 70, false, "eeeeeeeeeeee"},
	};
	memset(&h, 0, sizeof(h));
	memcpy(h.points, points, sizeof(points));
	h.n_points = ARRAY_LEN(points);
	return &h;
}

static void test_chart_scale(void **state)
{
	struct chart_scale s = chart_scale(history());
	assert_int_equal((int)(100 * s.low + 0.5), 40);
	assert_int_equal((int)(100 * s.high + 0.5), 90);
	assert_int_equal(s.from, T0);
	assert_int_equal(s.to, T0 + 2400);
	assert_int_equal(s.tick, 300);
	/* One point: there are axes all the same. */
	struct msg_history *h = history();
	h->n_points = 1;
	s = chart_scale(h);
	assert_true(s.high > s.low && s.to > s.from && s.tick > 0);
	h->points[0].correct = 100;
	s = chart_scale(h);
	assert_true(s.high > s.low && s.high <= 1);
	h->points[0].correct = 0;
	s = chart_scale(h);
	assert_true(s.high > s.low && s.low >= 0);
	/* Years. */
	h = history();
	h->points[0].at_s = 0;
	s = chart_scale(h);
	assert_int_equal(s.tick % 86400, 0);
	assert_true((s.to - s.from) / s.tick <= CHART_TICKS_MAX);
	char label[CHART_LABEL_MAX];
	chart_label(label, T0, 60);
	assert_string_equal(label, "14:13");
	chart_label(label, T0, 30);
	assert_string_equal(label, "14:13:20");
	chart_label(label, T0, 86400);
	assert_string_equal(label, "09-21");
}

static void test_chart_text(void **state)
{
	static const char expected[] = " 90 % |                         F--------\n"
				       " 80 % |                 E-------\n"
				       " 70 % |                                 t\n"
				       " 50 % |L-------l--------\n"
				       " 40 % |\n"
				       "      +----------------------------------\n"
				       "        14:15        14:30       14:45\n";
	_cleanup_free_ char *text = chart_text(history(), 41, 5, false);
	assert_non_null(text);
	assert_string_equal(text, expected);
	_cleanup_free_ char *colours = chart_text(history(), 41, 5, true);
	assert_non_null(strstr(colours, "\033[1;31mE\033[0m"));
	assert_non_null(strstr(colours, "\033[34ml\033[0m"));
}

struct heard {
	char text[2048];
};

static void hear(void *user, const char *what, const char *text)
{
	struct heard *h = user;
	size_t n = strlen(h->text);
	snprintf(h->text + n, sizeof(h->text) - n, "%s: %s\n", what, text);
}

static void test_lines(void **state)
{
	struct heard h = {0};
	struct msg_presence off = {false, 3}, on = {true, 3};
	lines_presence(NULL, &on, hear, &h);
	lines_presence(&on, &on, hear, &h);
	lines_presence(&on, &off, hear, &h);
	assert_string_equal(h.text, "presence: online, boot 3\npresence: offline\n");

	memset(&h, 0, sizeof(h));
	struct msg_status s = {.phase = PHASE_TRAINING, .epoch = 4, .has_active = true}, before;
	memset(s.active.checkpoint, 'a', 64);
	s.active.accuracy = 0.975;
	before = s;
	lines_status(&before, &s, hear, &h);
	assert_string_equal(h.text, ""); /* another step of the same is no news */
	s.phase = PHASE_WAITING;
	strcpy(s.reason, "no bytes left");
	strcpy(s.handover, "pulling");
	strcpy(s.trainer, "edge-1");
	memset(s.active.checkpoint, 'b', 64);
	lines_status(&before, &s, hear, &h);
	lines_status(&s, &before, hear, &h);
	assert_string_equal(
		h.text,
		"phase: waiting, epoch 4: no bytes left\nhandover: handover pulling at edge-1\n"
		"active: active bbbbbbbbbbbb (local), 97.50 %\n"
		"phase: training, epoch 4\nhandover: handover over\nactive: active aaaaaaaaaaaa "
		"(local), 97.50 %\n");

	memset(&h, 0, sizeof(h));
	struct msg_report r = {.seq = 7,
			       .split = SPLIT_VALIDATION,
			       .origin = ORIGIN_EDGE,
			       .score = {200, 190, 0.1},
			       .has_decision = true,
			       .activated = true,
			       .has_against = true,
			       .against_accuracy = 0.9};
	memset(r.checkpoint, 'c', 64);
	memset(r.against, 'd', 64);
	lines_report(&r, hear, &h);
	assert_string_equal(h.text, "report: report 7: cccccccccccc (edge) 95.00 %, 190 of 200 "
				    "validation images; activated against "
				    "dddddddddddd, 90.00 %\n");

	memset(&h, 0, sizeof(h));
	struct msg_job j = {.device = "cam-1",
			    .fence = 2,
			    .phase = "training",
			    .epoch = 1,
			    .epochs = 2,
			    .before = {100, 80, 0}},
		       j2 = j;
	lines_job(NULL, &j, hear, &h);
	j2.progress = 0.7;
	lines_job(&j, &j2, hear, &h);
	strcpy(j2.phase, "offering");
	j2.after = (struct score){100, 95, 0};
	memset(j2.checkpoint, 'e', 64);
	lines_job(&j, &j2, hear, &h);
	assert_string_equal(h.text,
			    "job: job of cam-1: training, epoch 1 of 2, came with 80.00 %\n"
			    "job: job of cam-1: offering, eeeeeeeeeeee, from 80.00 % to 95.00 %\n");

	memset(&h, 0, sizeof(h));
	struct msg_trainer_status t = {.active = 1, .queued = 2, .capacity = 4, .handovers = 9},
				  t2 = t;
	lines_trainer(&t, &t2, hear, &h);
	t2.refused = 1;
	t2.quarantined = 1;
	lines_trainer(&t, &t2, hear, &h);
	lines_trainer(NULL, &t, hear, &h);
	assert_string_equal(
		h.text,
		"refused: 1 checkpoints screened out, in all\nquarantine: 1 devices in quarantine\n"
		"load: 1 active, 2 queued of 4; 9 handovers done\n");

	memset(&h, 0, sizeof(h));
	struct msg_fleet f = {.share = 10};
	memset(f.manifest.id, 'f', 64);
	lines_fleet(&f, hear, &h);
	f.halted = true;
	strcpy(f.reason, "by an operator");
	lines_fleet(&f, hear, &h);
	assert_string_equal(
		h.text, "rollout: for everyone: ffffffffffff, to the first 10 % of the devices\n"
			"rollout: for everyone: ffffffffffff halted: by an operator\n");
}

static void test_takeup(void **state)
{
	struct msg_fleet f = {.share = 100,
			      .manifest = {.sequence = 1, .created_ms = (T0 + 1500) * 1000LL}};
	struct online_device d = device("cam-1", true, PHASE_IDLE, ORIGIN_LOCAL, 0.8, "", 1);
	struct msg_history *h = history();
	memset(f.manifest.id, '1', 64); /* another id: with rows of its own */
	struct takeup t = takeup_of(&f, &d, h);
	assert_int_equal(t.state, TAKEUP_IN_USE);
	assert_true(t.accuracy > 0.899 && t.accuracy < 0.901 && t.before > 0.799 &&
		    t.before < 0.801);
	h->points[3].swap = false;
	assert_int_equal(takeup_of(&f, &d, h).state, TAKEUP_KEPT);
	/* Of an offer before this one. */
	f.manifest.created_ms = (T0 + 2000) * 1000LL;
	assert_int_equal(takeup_of(&f, &d, h).state, TAKEUP_WAITS);
	memset(f.manifest.id, 'd', 64); /* the very one, by a device whose clock is behind */
	assert_int_equal(takeup_of(&f, &d, h).state, TAKEUP_KEPT);
	assert_int_equal(takeup_of(&f, &d, NULL).state, TAKEUP_WAITS);
	d.online = false;
	assert_int_equal(takeup_of(&f, &d, NULL).state, TAKEUP_OFFLINE);
	f.share = 0;
	assert_int_equal(takeup_of(&f, &d, NULL).state, TAKEUP_LATER);
	memset(d.status.active.checkpoint, 'd', 64);
	assert_int_equal(takeup_of(&f, &d, NULL).state, TAKEUP_IN_USE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nearest),     cmocka_unit_test(test_table),
		cmocka_unit_test(test_json_text),
		cmocka_unit_test(test_bytes),       cmocka_unit_test(test_filter),
		cmocka_unit_test(test_chart_scale), cmocka_unit_test(test_chart_text),
		cmocka_unit_test(test_lines),       cmocka_unit_test(test_takeup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Handovers that are merged, through the whole trainer, with the devices played by the test. */
#include <unistd.h>

#include "edge-trainer/job.h"
#include "tests/unit/failure.h"
#include "tests/unit/trainer_fixture.h"

#define WINDOW 60000

/* Weights of a usual size, that differ between devices by one byte. */
static void weights_of(char mark, float scale)
{
	for (uint64_t i = 0; i < f.model->n_floats; i++) {
		float v = i < 10 ? 0 : 0.1f * scale;

		memcpy(f.weights + WEIGHTS_HEADER_SIZE + 4 * i, &v, sizeof(v));
	}
	other_weights(mark);
}

static int set_up_merge(void **state)
{
	int r = set_up(state);

	if (r < 0)
		return r;
	close_trainer();
	f.conf.strategy = STRATEGY_MERGE;
	f.conf.capacity = 8;
	f.conf.window = (struct window_conf){WINDOW, 2};
	f.conf.lineage_share = 0.5;
	f.conf.mixture = (struct mixture_conf){4, 0.25};
	open_trainer();
	weights_of(1, 1);
	return 0;
}

/* Its checkpoint comes whole, and is scored. */
static void bring(const char *device, int64_t fence, char mark, int correct, float scale)
{
	weights_of(mark, scale);
	offer(device);
	claimed(device);
	grant_claim(device, fence, f.claim, LEASE);
	give_blocks(device, 1000);
	evaluated(asked("evaluate"), correct);
	tick(1);
}

/* The window's work from its merge on. */
static void work_off(char mark, char result[HASH_SIZE])
{
	char id[HASH_SIZE];

	merged(asked("merge"), mark, id);
	evaluated(asked("evaluate"), 50);
	trained(asked("train"), (char)(mark + 1), id);
	trained(asked("train"), (char)(mark + 2), result);
	evaluated(asked("evaluate"), 70);
	tick(1);
}

static struct msg_result returned(const char *device)
{
	const struct sent *s = next(TOPIC_DEVICE_RESULT);
	struct msg_result r;

	assert_non_null(s);
	assert_string_equal(s->topic.device, device);
	assert_int_equal(msg_result_parse(s->payload, s->len, &r, NULL), 0);
	return r;
}

static struct msg_trainer_status said(void)
{
	const struct sent *s, *last = NULL;
	struct msg_trainer_status st;

	f.read = 0;
	while ((s = next(TOPIC_TRAINER_STATUS)))
		last = s;
	assert_non_null(last);
	assert_int_equal(msg_trainer_status_parse(last->payload, last->len, &st, NULL), 0);
	return st;
}

/* What comes of a window is offered to everyone, if so configured: not whose it was made of. */
static void test_to_the_fleet(void **state)
{
	char result[HASH_SIZE], base[HASH_SIZE];
	const struct sent *s, *offer = NULL;
	struct msg_fleet o;

	(void)state;
	f.conf.fleet_merged = true;
	f.conf.rollout = (struct rollout_conf){.share = 100, .reports = 1, .wait_ms = WINDOW};
	bring("cam-1", 3, 1, 44, 1);
	bring("cam-2", 7, 2, 46, 1);
	merged(asked("merge"), 20, base);
	evaluated(asked("evaluate"), 50);
	trained(asked("train"), 21, result);
	trained(asked("train"), 22, result);
	f.read = 0;
	assert_null(next(TOPIC_FLEET_OFFER));
	evaluated(asked("evaluate"), 70);
	tick(1);
	f.read = 0;
	while ((s = next(TOPIC_FLEET_OFFER)))
		offer = s;
	assert_non_null(offer);
	assert_int_equal(msg_fleet_parse(offer->payload, offer->len, &o, NULL), 0);
	assert_string_equal(o.manifest.id, result);
	assert_int_equal(o.manifest.n_parents, 0);
	assert_int_equal(o.manifest.epoch, 2);
	assert_int_equal(o.test.correct, 70);
	f.read = 0;
	returned("cam-2"); /* and to its members as ever */
}

static void test_two(void **state)
{
	char base[HASH_SIZE], result[HASH_SIZE], first[HASH_SIZE], second[HASH_SIZE];
	const struct work *w;
	struct msg_result r;
	struct msg_trainer_status st;

	(void)state;
	bring("cam-1", 3, 1, 44, 1);
	strcpy(first, f.id);
	assert_int_equal(f.n_work, f.worked); /* the second is awaited */
	tick(1000);
	st = said();
	assert_string_equal(st.strategy, "merge");
	assert_int_equal(st.members, 1);
	assert_string_equal(st.window[0], "cam-1");
	bring("cam-2", 7, 2, 46, 1);
	strcpy(second, f.id);
	w = asked("merge");
	assert_int_equal(w->n_inputs, 2);
	assert_true(fabs(w->shares[0] - 0.5) < 1e-9);
	assert_false(w->settle);
	merged(w, 20, base);
	w = asked("evaluate");
	assert_non_null(strstr(w->weights, base));
	evaluated(w, 50);
	w = asked("train");
	assert_non_null(strstr(w->weights, base));
	assert_int_equal(w->epoch, 0); /* of the trainer's own lineage */
	trained(w, 21, result);
	trained(asked("train"), 22, result);
	evaluated(asked("evaluate"), 70);
	f.read = 0;
	tick(1);
	r = returned("cam-2");
	assert_string_equal(r.manifest.id, result);
	assert_string_equal(r.manifest.device, "cam-2");
	assert_int_equal(r.manifest.n_parents, 2);
	assert_string_equal(r.manifest.parents[0], second);
	assert_string_equal(r.manifest.parents[1], base);
	assert_int_equal(r.manifest.epoch, 9);
	assert_int_equal(r.fence, 7);
	assert_int_equal(r.before.correct, 46);
	assert_int_equal(r.after.correct, 70);
	assert_int_equal(r.images_trained, 1200);
	r = returned("cam-1");
	assert_string_equal(r.manifest.parents[0], first);
	assert_int_equal(r.fence, 3);
	assert_int_equal(r.before.correct, 44);
	ack("cam-1", result, 3, DECISION_ACTIVATED);
	ack("cam-2", result, 7, DECISION_KEPT);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'merged' AND device = ''"
			       " AND fence = 1"),
			 1);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE window = 1 AND device <> '' AND"
			       " state = 'done'"),
			 2);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'finished'"), 1);
	assert_int_equal(query("SELECT handovers FROM devices WHERE id = 'cam-1'"),
			 0); /* not yet */
	tick(2000);
	assert_int_equal(query("SELECT sum(handovers) FROM devices"), 2);
	tick(1000);
	assert_int_equal(said().members, 0);
}

/* A straggler is welcome: in the next window, with what came of the last. */
static void test_straggler(void **state)
{
	char result[HASH_SIZE], path[FILE_PATH_MAX];
	const struct work *w;

	(void)state;
	f.conf.window = (struct window_conf){WINDOW / 2, 0};
	bring("cam-1", 1, 1, 44, 1);
	tick(WINDOW / 2 - 2);
	assert_int_equal(f.n_work, f.worked);
	claimed("cam-1"); /* renewed, as queued */
	f.read = f.n_sent;
	grant_claim("cam-1", 1, f.claim, LEASE);
	tick(2);
	/* Alone, and nothing was before it: there is nothing to merge. */
	w = asked("evaluate");
	assert_non_null(strstr(w->weights, f.id));
	/* It comes while the others' is worked on: it is scored afterwards, and waits its time. */
	weights_of(5, 1);
	offer("cam-2");
	claimed("cam-2");
	grant_claim("cam-2", 1, f.claim, LEASE);
	give_blocks("cam-2", 1000);
	evaluated(w, 44);
	trained(asked("train"), 11, result);
	trained(asked("train"), 12, result);
	evaluated(asked("evaluate"), 70);
	tick(1);
	evaluated(asked("evaluate"), 41);
	f.conf.window.devices = 1;
	tick(1);
	w = asked("merge");
	assert_int_equal(w->n_inputs, 2);
	assert_string_equal(w->inputs[0], f.id);
	assert_string_equal(w->inputs[1], result);
	assert_true(fabs(w->shares[1] - 0.5) < 1e-9);
	/* The last result stays, whatever became of the handovers that it was of. */
	ack("cam-1", result, 1, DECISION_KEPT);
	tick(3000);
	snprintf(path, sizeof(path), "%s/store/checkpoints/%s", f.dir, result);
	assert_true(file_exists(path));
	/* Also over a restart: after two epochs more, its own counting goes on. */
	kill_and_reopen();
	claimed("cam-2");
	grant_claim("cam-2", 1, f.claim, LEASE);
	tick(1);
	w = asked("merge");
	assert_int_equal(w->n_inputs, 2);
	assert_string_equal(w->inputs[1], result);
	merged(w, 30, result);
	evaluated(asked("evaluate"), 50);
	assert_int_equal(asked("train")->epoch, 2);
}

/* Its time is over and nobody is scored yet: nothing is due before that, and nobody asks all the
 * time. */
static void test_nobody_scored(void **state)
{
	(void)state;
	f.conf.window = (struct window_conf){WINDOW / 4, 0};
	offer("cam-1");
	claimed("cam-1");
	grant_claim("cam-1", 1, f.claim, LEASE);
	give_blocks("cam-1", 1000);
	tick(1);
	assert_true(trainer_tick(f.t) > f.now_ms);
	tick(WINDOW / 4);
	assert_true(trainer_tick(f.t) > f.now_ms);
	evaluated(asked("evaluate"), 44);
	asked("evaluate"); /* alone, it is what it would be merged to */
}

/* One member's lease ends in mid-training: the others' goes on, and what came of it is its own,
 * too, when it offers again. */
static void test_member_lapses(void **state)
{
	char id[HASH_SIZE], result[HASH_SIZE];
	const struct work *train;
	struct msg_result r;

	(void)state;
	bring("cam-1", 1, 1, 44, 1);
	bring("cam-2", 2, 2, 46, 1);
	merged(asked("merge"), 20, id);
	evaluated(asked("evaluate"), 50);
	train = asked("train");
	assert_true(train->until_ms >= f.now_ms + LEASE - 3000 - 10);
	tick(30000);
	f.read = 0;
	while (strcmp(next(TOPIC_DEVICE_CLAIM)->topic.device, "cam-2") != 0)
		;
	/* cam-2 renews, cam-1 is silent. */
	weights_of(2, 1);
	grant("cam-2", f.id, true, 2);
	for (int i = 0; i < 30; i++)
		tick(1000);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE device = 'cam-1' AND state ="
			       " 'lapsed'"),
			 1);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE device = 'cam-2' AND state ="
			       " 'gathered'"),
			 1);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE ended_ms IS NULL"), 1);
	trained(train, 21, id);
	trained(asked("train"), 22, result);
	f.read = f.n_sent;
	evaluated(asked("evaluate"), 70);
	assert_string_equal(returned("cam-2").manifest.id, result);
	assert_null(next(TOPIC_DEVICE_RESULT));
	weights_of(1, 1);
	f.read = f.n_sent;
	offer("cam-1");
	claimed("cam-1");
	grant_claim("cam-1", 9, f.claim, LEASE);
	r = returned("cam-1");
	assert_string_equal(r.manifest.id, result);
	assert_int_equal(r.fence, 9);
	assert_int_equal(r.before.correct, 44);
}

/* All leases end: the work stops, and goes on from the last epoch with the first that is granted
 * again. */
static void test_all_lapse(void **state)
{
	char id[HASH_SIZE];
	const struct work *w;

	(void)state;
	bring("cam-1", 1, 1, 44, 1);
	bring("cam-2", 2, 2, 46, 1);
	merged(asked("merge"), 20, id);
	evaluated(asked("evaluate"), 50);
	trained(asked("train"), 21, id);
	w = asked("train");
	for (int i = 0; i < 61; i++)
		tick(1000);
	assert_int_equal(asked("stop")->target, w->id);
	trainer_worker_reply(f.t, 0, w->id, NULL, failure(-ECANCELED, ERR_OTHER, "stopped"));
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'lapsed'"), 3);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE ended_mono_ms > until_mono_ms"), 0);
	f.read = f.n_sent;
	offer("cam-2");
	claimed("cam-2");
	grant_claim("cam-2", 5, f.claim, LEASE);
	tick(1);
	w = asked("train");
	assert_non_null(strstr(w->weights, id));
	assert_int_equal(w->epoch, 1);
}

/* All members of a window at work go, and do not come back: the next one does not wait for them. */
static void test_left_behind(void **state)
{
	char result[HASH_SIZE];
	const struct work *w;

	(void)state;
	f.conf.window.devices = 1;
	bring("cam-1", 1, 1, 44, 1);
	w = asked("evaluate"); /* of the window, of one checkpoint alone */
	for (int i = 0; i < 61; i++)
		tick(1000);
	assert_int_equal(asked("stop")->target, w->id);
	trainer_worker_reply(f.t, 0, w->id, NULL, failure(-ECANCELED, ERR_OTHER, "stopped"));
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'lapsed'"), 2);
	f.read = f.n_sent;
	bring("cam-2", 2, 2, 46, 1);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE window = 2 AND device = 'cam-2'"),
			 1);
	evaluated(asked("evaluate"), 46);
	trained(asked("train"), 21, result);
	trained(asked("train"), 22, result);
	f.read = f.n_sent;
	evaluated(asked("evaluate"), 70);
	assert_string_equal(returned("cam-2").manifest.id, result);
	/* Who comes back at last is gathered anew. */
	weights_of(1, 1);
	f.read = f.n_sent;
	offer("cam-1");
	claimed("cam-1");
	grant_claim("cam-1", 9, f.claim, LEASE);
	tick(1);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE window = 3 AND device = 'cam-1'"),
			 1);
}

/* A window of one checkpoint, or of one that two devices have: no manifest names itself or one
 * parent twice, or the device could not read the result, and nobody here the database. */
static void test_same_weights(void **state)
{
	char id[HASH_SIZE], result[HASH_SIZE];
	struct msg_result r;

	(void)state;
	f.conf.window.devices = 1;
	bring("cam-1", 1, 1, 44, 1);
	asked("evaluate");
	kill_and_reopen();
	claimed("cam-1");
	grant_claim("cam-1", 1, f.claim, LEASE);
	tick(1);
	evaluated(asked("evaluate"), 44);
	trained(asked("train"), 11, result);
	trained(asked("train"), 12, result);
	f.read = f.n_sent;
	evaluated(asked("evaluate"), 70);
	r = returned("cam-1");
	assert_int_equal(r.manifest.n_parents, 1);
	ack("cam-1", result, 1, DECISION_KEPT);
	f.conf.window.devices = 2;
	bring("cam-2", 1, 2, 44, 1);
	bring("cam-3", 1, 2, 44, 1);
	merged(asked("merge"), 20, id);
	kill_and_reopen();
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE device = '' AND state = 'lapsed'"
			       " OR state = 'before'"),
			 1);
}

/* A checkpoint whose file is damaged by the time it is looked at is given back. */
static void test_unreadable(void **state)
{
	const struct work *w;

	(void)state;
	offer("cam-1");
	claimed("cam-1");
	grant_claim("cam-1", 1, f.claim, LEASE);
	give_blocks("cam-1", 1000);
	w = asked("evaluate");
	assert_int_equal(truncate(w->weights, 100), 0);
	evaluated(w, 44);
	f.read = f.n_sent;
	bring("cam-2", 2, 2, 46, 1);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped' AND device ="
			       " 'cam-1'"),
			 1);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE window = 1 AND device = 'cam-2'"),
			 1);
}

/* As bring(), under a long lease; path: of the checkpoint in the store. */
static void bring_for_long(const char *device, int64_t fence, char mark, char path[FILE_PATH_MAX])
{
	const struct work *w;

	weights_of(mark, 1);
	f.read = f.n_sent;
	offer(device);
	claimed(device);
	grant_claim(device, fence, f.claim, 10 * LEASE);
	give_blocks(device, 1000);
	w = asked("evaluate");
	strcpy(path, w->weights);
	evaluated(w, 44);
	tick(1);
}

/* As often as it is tried. */
static void merge_fails(void)
{
	for (int i = 0; i <= JOB_FAILURES_MAX; i++) {
		for (int s = 0; s < 60 && f.worked == f.n_work; s++)
			tick(1000);
		trainer_worker_reply(f.t, 0, asked("merge")->id, NULL,
				     failure(-EBADMSG, ERR_CHECKPOINT, "size: 100"));
	}
	tick(1);
}

/* One checkpoint of a window is damaged after it was looked at: the other waits for the next. */
static void test_damaged_in_the_window(void **state)
{
	char path[FILE_PATH_MAX], other[FILE_PATH_MAX];

	(void)state;
	bring_for_long("cam-1", 1, 1, path);
	bring_for_long("cam-2", 2, 2, other);
	assert_int_equal(truncate(path, 100), 0);
	merge_fails();
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped' AND device ="
			       " 'cam-1'"),
			 1);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'gathered' AND device ="
			       " 'cam-2'"),
			 1);
	bring_for_long("cam-3", 3, 3, other);
	assert_int_equal(asked("merge")->n_inputs, 2);
}

/* What the last window made is damaged: the next one does without, and no device is to blame. */
static void test_damaged_lineage(void **state)
{
	char path[FILE_PATH_MAX], other[FILE_PATH_MAX], result[HASH_SIZE];
	const struct work *w;

	(void)state;
	bring("cam-1", 1, 1, 44, 1);
	bring("cam-2", 2, 2, 46, 1);
	merged(asked("merge"), 20, result);
	evaluated(asked("evaluate"), 50);
	trained(asked("train"), 21, result);
	trained(asked("train"), 22, result);
	w = asked("evaluate");
	strcpy(path, w->weights);
	evaluated(w, 70);
	tick(1);
	ack("cam-1", result, 1, DECISION_KEPT);
	ack("cam-2", result, 2, DECISION_KEPT);
	assert_int_equal(truncate(path, 100), 0);
	bring_for_long("cam-1", 3, 5, other);
	bring_for_long("cam-2", 4, 6, other);
	merge_fails();
	w = asked("merge");
	assert_int_equal(w->n_inputs, 2);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped' AND device <>"
			       " ''"),
			 0);
}

/* Killed while the window is open, while it is merged, and in training. */
static void test_restarts(void **state)
{
	char id[HASH_SIZE];
	const struct work *w;

	(void)state;
	bring("cam-1", 1, 1, 44, 1);
	kill_and_reopen();
	claimed("cam-1");
	grant_claim("cam-1", 1, f.claim, LEASE);
	tick(1);
	assert_int_equal(f.n_work, 0); /* it is scored already, and waits for the second */
	bring("cam-2", 2, 2, 46, 1);
	asked("merge");
	kill_and_reopen();
	for (char mark = 2; mark > 0; mark--) {
		weights_of(mark, 1);
		f.read = 0;
		grant(mark == 1 ? "cam-1" : "cam-2", f.id, true, mark);
	}
	tick(1);
	w = asked("merge");
	assert_int_equal(w->n_inputs, 2);
	merged(w, 20, id);
	evaluated(asked("evaluate"), 50);
	trained(asked("train"), 21, id);
	asked("train");
	kill_and_reopen();
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'killed'"), 1);
	tick(1);
	assert_int_equal(f.n_work, 0); /* no grant is confirmed yet */
	weights_of(2, 1);
	grant("cam-2", f.id, true, 2);
	tick(1);
	w = asked("train");
	assert_non_null(strstr(w->weights, id));
	trained(w, 22, id);
	f.read = f.n_sent;
	evaluated(asked("evaluate"), 70);
	assert_string_equal(returned("cam-2").manifest.id, id);
	/* cam-1 was not heard of meanwhile. */
	weights_of(1, 1);
	grant("cam-1", f.id, true, 1);
	assert_string_equal(returned("cam-1").manifest.id, id);
}

/* The strategy was changed: each goes on for itself. */
static void test_strategy_changed(void **state)
{
	char id[HASH_SIZE];

	(void)state;
	bring("cam-1", 1, 1, 44, 1);
	bring("cam-2", 2, 2, 46, 1);
	merged(asked("merge"), 20, id);
	close_trainer();
	f.conf.strategy = STRATEGY_RESUME;
	open_trainer();
	assert_int_equal(
		query("SELECT count(*) FROM jobs WHERE device = '' AND outcome = 'dropped'"), 1);
	grant("cam-2", f.id, true, 2);
	assert_non_null(strstr(asked("train")->weights, f.id));
}

/* Weights times ten, and labels flipped: left out; the others do not notice. */
static void test_poisoned(void **state)
{
	char poisoned[2][HASH_SIZE], result[HASH_SIZE];
	const struct sent *s;
	const struct work *w;
	int busy = 0;

	(void)state;
	f.conf.window.devices = 4; /* without the one that never comes so far */
	bring("cam-1", 1, 1, 44, 1);
	weights_of(2, 10);
	offer("cam-2");
	claimed("cam-2");
	grant_claim("cam-2", 2, f.claim, LEASE);
	give_blocks("cam-2", 1000); /* no worker ever loads it */
	strcpy(poisoned[0], f.id);
	bring("cam-3", 3, 3, 46, 1.1f);
	bring("cam-4", 4, 4, 3, 1);
	strcpy(poisoned[1], f.id);
	bring("cam-5", 5, 5, 40, 0.9f);
	w = asked("merge");
	assert_int_equal(w->n_inputs, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_string_not_equal(w->inputs[i], poisoned[0]);
		assert_string_not_equal(w->inputs[i], poisoned[1]);
	}
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'screened' AND device IN"
			       " ('cam-2', 'cam-4')"),
			 2);
	f.read = 0;
	while ((s = next(TOPIC_DEVICE_CLAIM))) {
		struct msg_claim c;

		assert_int_equal(msg_claim_parse(s->payload, s->len, &c, NULL), 0);
		if (!c.busy)
			continue;
		busy++;
		assert_string_equal(c.reason, strcmp(s->topic.device, "cam-2") == 0 ?
						      "screened out: norm out of line" :
						      "screened out: accuracy collapsed");
		assert_true(strcmp(s->topic.device, "cam-2") == 0 ||
			    strcmp(s->topic.device, "cam-4") == 0);
		assert_int_equal(c.fence, s->topic.device[4] - '0');
	}
	assert_int_equal(busy, 2);
	tick(1000);
	assert_int_equal(said().refused, 2);
	/* The same is not taken again; another is, and judged by itself. */
	f.read = f.n_sent;
	strcpy(f.id, poisoned[0]);
	offer("cam-2");
	assert_true(claimed("cam-2").busy);
	weights_of(9, 1);
	offer("cam-2");
	assert_false(claimed("cam-2").busy);
	f.worked--;
	f.read = f.n_sent;
	work_off(20, result);
	for (int i = 0; i < 3; i++)
		assert_non_null(next(TOPIC_DEVICE_RESULT));
	assert_null(next(TOPIC_DEVICE_RESULT));
	kill_and_reopen();
	tick(1000);
	assert_int_equal(said().refused, 2);
}

/* What nobody can train from: its members hear of it. */
static void test_diverges(void **state)
{
	struct msg_claim c;
	char id[HASH_SIZE];
	const struct sent *s;
	int busy = 0;

	(void)state;
	bring("cam-1", 1, 1, 44, 1);
	bring("cam-2", 2, 2, 46, 1);
	merged(asked("merge"), 20, id);
	evaluated(asked("evaluate"), 50);
	f.read = f.n_sent;
	trainer_worker_reply(f.t, 0, asked("train")->id, NULL,
			     failure(-EDOM, ERR_DIVERGED, "step 7: nan"));
	tick(1);
	while ((s = next(TOPIC_DEVICE_CLAIM))) {
		assert_int_equal(msg_claim_parse(s->payload, s->len, &c, NULL), 0);
		assert_string_equal(c.reason, err_category_text(ERR_DIVERGED));
		busy += c.busy;
	}
	assert_int_equal(busy, 2);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state <> 'done'"), 0);
}

static void test_agnostic(void **state)
{
	char result[HASH_SIZE], base[HASH_SIZE];
	const struct work *w;
	struct msg_ack a = {.has_decision = true, .decision = DECISION_KEPT};

	(void)state;
	close_trainer();
	f.conf.strategy = STRATEGY_AGNOSTIC;
	f.conf.final_share = 0.3;
	f.conf.lineage_share = 0;
	open_trainer();
	bring("cam-1", 1, 1, 44, 1);
	bring("cam-2", 2, 2, 46, 1);
	w = asked("merge");
	assert_true(fabs(w->shares[0] - 0.5) < 1e-9);
	merged(w, 20, base);
	evaluated(asked("evaluate"), 50);
	trained(asked("train"), 21, result);
	trained(asked("train"), 22, result);
	/* What was trained, and what it was trained from. */
	w = asked("merge");
	assert_int_equal(w->n_inputs, 2);
	assert_string_equal(w->inputs[0], result);
	assert_true(fabs(w->shares[0] - 0.7) < 1e-9);
	assert_string_equal(w->inputs[1], base);
	assert_true(w->settle);
	merged(w, 23, result);
	w = asked("evaluate");
	assert_non_null(strstr(w->weights, result));
	evaluated(w, 70);
	tick(1);
	strcpy(a.checkpoint, result);
	a.fence = 1;
	a.validation = (struct score){20, 20, 0.1};
	say(TOPIC_TRAINER_ACK, "cam-1", msg_ack_print(&a));
	a.fence = 2;
	a.validation = (struct score){20, 10, 0.9};
	say(TOPIC_TRAINER_ACK, "cam-2", msg_ack_print(&a));
	tick(2000);
	assert_int_equal(query("SELECT count(*) FROM devices WHERE error = 0.5 AND id = 'cam-2'"),
			 1);
	kill_and_reopen();
	f.read = f.n_sent;
	bring("cam-1", 3, 5, 44, 1);
	bring("cam-2", 4, 6, 46, 1);
	w = asked("merge");
	assert_string_equal(w->inputs[0], f.id);        /* cam-2's */
	assert_true(fabs(w->shares[0] - 0.875) < 1e-6); /* the other one has its floor */
	tick(2000);
	assert_int_equal(
		query("SELECT count(*) FROM devices WHERE error IS NULL AND weight > 1.74 AND"
		      " id = 'cam-2'"),
		1);
}

#undef TEST
#define TEST(x) cmocka_unit_test_setup_teardown(x, set_up_merge, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_two),
		TEST(test_to_the_fleet),
		TEST(test_straggler),
		TEST(test_member_lapses),
		TEST(test_nobody_scored),
		TEST(test_all_lapse),
		TEST(test_left_behind),
		TEST(test_unreadable),
		TEST(test_damaged_in_the_window),
		TEST(test_damaged_lineage),
		TEST(test_same_weights),
		TEST(test_restarts),
		TEST(test_strategy_changed),
		TEST(test_poisoned),
		TEST(test_diverges),
		TEST(test_agnostic),
	};

	log_init("test_trainer_merge", LOG_P_ERROR);
	return cmocka_run_group_tests_name("test_trainer_merge", tests, NULL, NULL);
}

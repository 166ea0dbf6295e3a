/* Handovers through the whole trainer, with the device played by the test. */
#include "tests/unit/failure.h"
#include "tests/unit/trainer_fixture.h"

#include "edge-trainer/trainer_priv.h"

static void test_whole(void **state)
{
	struct msg_result r;
	struct msg_want w = {.blocks = {2, 0, 1, 99}, .n_blocks = 4};
	char id[HASH_SIZE];
	const struct sent *s;
	struct msg_ack over;
	char path[FILE_PATH_MAX];

	(void)state;
	r = to_offering("cam-1", 5, id);
	assert_string_equal(r.manifest.id, id);
	assert_string_equal(r.manifest.parents[0], f.id);
	assert_string_equal(r.manifest.trainer, "edge-1");
	assert_string_equal(r.manifest.device, "cam-1");
	assert_int_equal(r.manifest.origin, ORIGIN_EDGE);
	assert_int_equal(r.manifest.epoch, 9);
	assert_int_equal(r.manifest.images_seen, 1900);
	assert_int_equal(r.fence, 5);
	assert_int_equal(r.before.correct, 44);
	assert_int_equal(r.after.correct, 65);
	assert_int_equal(r.images_trained, 1200);
	assert_int_equal(r.duration_ms, 1200);
	/* Its blocks, and not one that there is not. */
	strcpy(w.checkpoint, id);
	say(TOPIC_TRAINER_WANT, "cam-1", msg_want_print(&w));
	for (int i = 0; i < 3; i++) {
		size_t at, len;

		s = next(TOPIC_DEVICE_BLOCK);
		assert_non_null(s);
		assert_int_equal(s->topic.block, w.blocks[i]);
		assert_int_equal(s->qos, 0);
		at = (size_t)s->topic.block * BLOCK;
		len = MIN_OF((size_t)BLOCK, f.model->file_bytes - at);
		assert_int_equal(s->len, len);
		if (at > 0)
			assert_memory_equal(s->payload, f.weights + at, len);
	}
	assert_null(next(TOPIC_DEVICE_BLOCK));
	ack("cam-1", id, 4, DECISION_KEPT); /* an old fence: nothing */
	assert_null(next(TOPIC_DEVICE_ACK));
	ack("cam-1", id, 5, DECISION_ACTIVATED);
	s = next(TOPIC_DEVICE_ACK);
	assert_non_null(s);
	assert_int_equal(msg_ack_parse(s->payload, s->len, &over, NULL), 0);
	assert_string_equal(over.checkpoint, id);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'done' AND outcome ="
			       " 'activated' AND validation_correct = 15 AND"
			       " local_validation_correct = 12 AND before_correct = 44"),
			 1);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'finished'"), 1);
	/* The part file is gone; the checkpoint stays for keep_days, the half-way one does not. */
	snprintf(path, sizeof(path), "%s/incoming/cam-1", f.dir);
	assert_false(file_exists(path));
	tick(2000);
	snprintf(path, sizeof(path), "%s/store/checkpoints/%s/weights", f.dir, id);
	assert_true(file_exists(path));
	f.now_ms += (int64_t)2 * 86400 * 1000;
	tick(70000);
	assert_false(file_exists(path));
	assert_int_equal(query("SELECT count(*) FROM checkpoints"), 0);
}

/* Every epoch goes on from the one before, and its learning rate from our own count. */
static void test_training_requests(void **state)
{
	const struct work *w;
	char id[HASH_SIZE], path[FILE_PATH_MAX];

	(void)state;
	to_training("cam-1", 1);
	w = asked("train");
	snprintf(path, sizeof(path), "%s/store/checkpoints/%s/weights", f.dir, f.id);
	assert_string_equal(w->weights, path);
	assert_int_equal(w->epoch, 7);
	assert_int_equal(w->schedule_seen, 0);
	trained(w, 2, id);
	w = asked("train");
	snprintf(path, sizeof(path), "%s/store/checkpoints/%s/weights", f.dir, id);
	assert_string_equal(w->weights, path);
	assert_int_equal(w->epoch, 8);
	assert_int_equal(w->schedule_seen, 600);
}

/* The device is told why, in words without paths, and later each time. */
static int64_t refused_because(const struct msg_offer *o, const char *why)
{
	struct msg_claim c;

	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(o));
	c = claimed("cam-1");
	assert_true(c.busy);
	assert_int_equal(c.fence, 0);
	if (!strstr(c.reason, why) || strchr(c.reason, '/'))
		fail_msg("reason: '%s', expected '%s'", c.reason, why);
	return c.retry_ms;
}

static void test_refused_offers(void **state)
{
	struct msg_offer o = offer_of("cam-1");
	int64_t first, last = 0;

	(void)state;
	strcpy(o.manifest.model, OTHER);
	first = refused_because(&o, "another model: found cccccccccccc, expected ");
	assert_in_range(first, 30000, 60000);
	for (int i = 0; i < 6; i++)
		last = refused_because(&o, "another model");
	assert_in_range(last, 300000, 600000);
	o = offer_of("cam-1");
	o.manifest.size--;
	refused_because(&o, "size or classes");
	o = offer_of("cam-1");
	o.manifest.expires_ms = 1700000000500; /* past */
	refused_because(&o, "expired");
	/* Those are nobody's to answer. */
	o = offer_of("cam-2"); /* speaks for another */
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	say_raw(TOPIC_DEVICE_OFFER, "cam-1", NULL, 0, "{\"id\":", 6, false);
	say_raw(TOPIC_DEVICE_OFFER, "cam-1", NULL, 0, "", 0, false);
	/* A leftover that somebody retained. */
	o = offer_of("cam-1");
	{
		char *text = msg_offer_print(&o);

		say_raw(TOPIC_DEVICE_OFFER, "cam-1", NULL, 0, text, strlen(text), true);
		free(text);
	}
	assert_null(next(TOPIC_DEVICE_CLAIM));
}

static void test_busy(void **state)
{
	struct msg_claim c;

	(void)state;
	offer("cam-1");
	offer("cam-2");
	claimed("cam-1");
	claimed("cam-2");
	offer("cam-3");
	c = claimed("cam-3");
	assert_true(c.busy);
	assert_in_range(c.retry_ms, 1000, 600000);
	/* The one that was refused elsewhere makes room. */
	grant("cam-1", f.id, false, 0);
	offer("cam-3");
	assert_false(claimed("cam-3").busy);
}

static void test_no_worker(void **state)
{
	const struct sent *s, *last = NULL;

	(void)state;
	trainer_worker_died(f.t, 0, failure(-ENOENT, ERR_DATA, "/data/Alice: no images"), true, 1000);
	offer("cam-1");
	assert_true(claimed("cam-1").busy);
	tick(1000);
	while ((s = next(TOPIC_TRAINER_STATUS)))
		last = s;
	assert_non_null(last);
	assert_non_null(strstr(last->payload, "\"reason\":\"the images are not usable\""));
	ready(100);
	offer("cam-1");
	assert_false(claimed("cam-1").busy);
}

/* Blocks that were lost are asked for again; a restart keeps those that came. */
static void test_pull_resumed(void **state)
{
	unsigned n_blocks = (unsigned)((f.model->file_bytes + BLOCK - 1) / BLOCK);

	(void)state;
	assert_true(n_blocks > 2);
	offer("cam-1");
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	assert_int_equal(give_blocks("cam-1", 1), 1);
	kill_and_reopen();
	assert_int_equal(claimed("cam-1").fence, 1); /* confirms its lease first */
	assert_null(next(TOPIC_DEVICE_WANT));
	grant("cam-1", f.id, true, 1);
	assert_int_equal(give_blocks("cam-1", 1), 1);
	tick(40000); /* stalled */
	assert_true(give_blocks("cam-1", 1000) >= n_blocks - 2);
	assert_int_equal(query("SELECT pulled FROM jobs"), 1);
	asked("evaluate");
}

static void test_bad_checkpoint(void **state)
{
	unsigned before = f.n_sent;
	struct msg_claim c;
	float nan = NAN;

	(void)state;
	memcpy(f.weights + WEIGHTS_HEADER_SIZE + 8, &nan, sizeof(nan));
	hash_bytes(f.weights, f.model->file_bytes, f.id);
	offer("cam-1");
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	give_blocks("cam-1", 1000);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped'"), 1);
	assert_int_equal(f.n_work, 0);
	/* It is told so, under its fence: it need not wait for the lease to end. */
	f.read = before;
	claimed("cam-1");
	c = claimed("cam-1");
	assert_true(c.busy);
	assert_int_equal(c.fence, 1);
	assert_string_equal(c.reason, err_category_text(ERR_CHECKPOINT));
	offer("cam-1"); /* not again */
	c = claimed("cam-1");
	assert_true(c.busy);
	assert_non_null(strstr(c.reason, "came before"));
}

static void test_flipped_bit(void **state)
{
	(void)state;
	offer("cam-1");
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	f.weights[f.model->file_bytes - 1] ^= 1;
	give_blocks("cam-1", 1000);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped'"), 1);
	f.weights[f.model->file_bytes - 1] ^= 1;
	offer("cam-1"); /* what the device has may be good all the same */
	claimed("cam-1");
}

/* Killed after the first epoch: goes on with the second, once the grant is confirmed. */
static void test_restart_in_training(void **state)
{
	const struct work *w;
	char id[HASH_SIZE], path[FILE_PATH_MAX];

	(void)state;
	to_training("cam-1", 3);
	trained(asked("train"), 2, id);
	asked("train");
	f.now_ms += 5000;
	kill_and_reopen();
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'killed' AND"
			       " ended_mono_ms - started_mono_ms = 5000"),
			 1);
	assert_int_equal(f.n_work, 0);
	assert_int_equal(claimed("cam-1").fence, 3);
	grant("cam-1", f.id, true, 3);
	w = asked("train");
	snprintf(path, sizeof(path), "%s/store/checkpoints/%s/weights", f.dir, id);
	assert_string_equal(w->weights, path);
	assert_int_equal(w->epoch, 8);
	assert_int_equal(w->schedule_seen, 600);
	trained(w, 3, id);
	evaluated(asked("evaluate"), 65);
	assert_non_null(next(TOPIC_DEVICE_RESULT));
}

static void test_restart_in_offering(void **state)
{
	struct msg_result r;
	char id[HASH_SIZE];
	const struct sent *s;

	(void)state;
	to_offering("cam-1", 3, id);
	kill_and_reopen();
	s = next(TOPIC_DEVICE_RESULT);
	assert_non_null(s);
	assert_int_equal(msg_result_parse(s->payload, s->len, &r, NULL), 0);
	assert_string_equal(r.manifest.id, id);
	assert_int_equal(r.before.correct, 44);
	ack("cam-1", id, 3, DECISION_KEPT);
	kill_and_reopen();
	assert_null(next(TOPIC_DEVICE_RESULT));
}

/* At the deadline the worker is stopped; what it still says is not taken; the slot is free again
 * only when it has answered; under a new fence the job goes on. */
static void test_lapse(void **state)
{
	const struct work *w, *stop;
	char id[HASH_SIZE];

	(void)state;
	to_training("cam-1", 3);
	w = asked("train");
	for (int i = 0; i < 61; i++)
		tick(1000);
	stop = asked("stop");
	assert_int_equal(stop->target, w->id);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'lease over'"), 1);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE ended_mono_ms > until_mono_ms"), 0);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'lapsed'"), 1);
	f.read = f.n_sent;
	offer("cam-1");
	assert_int_equal(claimed("cam-1").fence, 0);
	grant("cam-1", f.id, true, 4);
	assert_int_equal(f.n_work, f.worked); /* the slot is not free yet */
	trainer_worker_reply(f.t, 0, w->id, NULL, failure(-ECANCELED, ERR_OTHER, "stopped"));
	w = asked("train");
	trained(w, 2, id);
	trained(asked("train"), 3, id);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE fence = 4"), 1);
}

/* The worker knows the lease's end, and every later one; where it stopped there before we looked,
 * that is no failure of its. */
static void test_until(void **state)
{
	const struct work *w;

	(void)state;
	to_training("cam-1", 3);
	w = asked("train");
	assert_int_equal(w->until_ms, f.now_ms + LEASE - 3000);
	tick(20000);
	claimed("cam-1");
	grant_claim("cam-1", 3, f.claim, LEASE);
	assert_int_equal(asked("until")->until_ms, f.now_ms + LEASE - 3000);
	f.now_ms += LEASE;
	trainer_worker_reply(f.t, 0, w->id, NULL, failure(-ETIME, ERR_OTHER, "its time is over"));
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'lapsed'"), 1);
	assert_int_equal(query("SELECT ended_mono_ms - until_mono_ms FROM runs"), 0);
	assert_int_equal(
		query("SELECT ended_ms - started_ms - ended_mono_ms + started_mono_ms FROM runs"),
		0);
	/* Renewed just when it stopped: it is asked again. */
	f.read = f.n_sent;
	offer("cam-1");
	claimed("cam-1");
	grant_claim("cam-1", 4, f.claim, LEASE);
	w = asked("train");
	tick(20000);
	claimed("cam-1");
	grant_claim("cam-1", 4, f.claim, LEASE);
	trainer_worker_reply(f.t, 0, w->id, NULL, failure(-ETIME, ERR_OTHER, "its time is over"));
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'queued'"), 1);
	tick(1100);
	asked("train");
}

/* A worker that says it made weights, and did not. */
static void test_lying_worker(void **state)
{
	const struct work *w;
	struct json *j = json_new_obj();
	char id[HASH_SIZE];

	(void)state;
	to_training("cam-1", 3);
	w = asked("train");
	assert_int_equal(file_write(w->out, "short", 5, NULL), 0);
	json_set_str(j, "checkpoint", OTHER);
	json_set_int(j, "images", 600);
	json_set_num(j, "loss", 0.5);
	json_set_num(j, "seconds", 0.5);
	trainer_worker_reply(f.t, 0, w->id, j, NULL);
	json_free(j);
	assert_int_equal(query("SELECT epoch_done FROM jobs"), 0);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'failed'"), 1);
	tick(1100);
	w = asked("train");
	trained(w, 2, id);
	assert_int_equal(query("SELECT epoch_done FROM jobs"), 1);
}

/* The worker dies again and again: five times it is tried again, then the job is given up. */
static void test_dying_worker(void **state)
{
	int tries = 0;

	(void)state;
	to_training("cam-1", 3);
	while (query("SELECT count(*) FROM jobs WHERE state = 'done'") == 0) {
		const struct work *w = asked("train");

		trainer_worker_reply(f.t, 0, w->id, NULL, failure(-ECONNRESET, ERR_WORKER, "killed"));
		trainer_worker_died(f.t, 0, failure(-ECONNRESET, ERR_WORKER, "killed"), false, 500);
		ready(100);
		assert_true(++tries < 10);
		for (int i = 0; i < 40 && f.worked == f.n_work; i++) {
			tick(1000);
			if (i % 10 == 0)
				grant("cam-1", f.id, true, 3); /* answers renewals */
		}
	}
	assert_int_equal(tries, 6);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped' AND reason ="
			       " 'the worker died'"),
			 1);
}

/* The loss turns non-finite in the second epoch: the first is the result. In the first: the job is
 * over, and that checkpoint is not taken again. */
static void test_diverging(void **state)
{
	const struct work *w;
	char id[HASH_SIZE];
	struct msg_result r;
	struct msg_claim c;
	const struct sent *s;

	(void)state;
	to_training("cam-1", 3);
	trained(asked("train"), 2, id);
	w = asked("train");
	trainer_worker_reply(f.t, 0, w->id, NULL, failure(-EDOM, ERR_DIVERGED, "step 7: nan"));
	evaluated(asked("evaluate"), 50);
	s = next(TOPIC_DEVICE_RESULT);
	assert_non_null(s);
	assert_int_equal(msg_result_parse(s->payload, s->len, &r, NULL), 0);
	assert_string_equal(r.manifest.id, id);
	assert_int_equal(r.after.correct, 50);
	ack("cam-1", id, 3, DECISION_KEPT);
	/* Another device, whose first epoch it is. */
	to_training("cam-2", 4);
	w = asked("train");
	trainer_worker_reply(f.t, 0, w->id, NULL, failure(-EDOM, ERR_DIVERGED, "step 7: nan"));
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped' AND reason ="
			       " 'the loss is not finite'"),
			 1);
	assert_int_equal(f.worked, f.n_work); /* it is not tried again */
	c = claimed("cam-2"); /* it is given back, with the reason */
	assert_true(c.busy);
	assert_int_equal(c.fence, 4);
	assert_string_equal(c.reason, err_category_text(ERR_DIVERGED));
	tick(120000);
	assert_int_equal(f.worked, f.n_work);
	offer("cam-2");
	assert_true(claimed("cam-2").busy);
}

/* Two devices, one worker: the second waits, and has its turn. */
static void test_two_devices(void **state)
{
	char id[HASH_SIZE];

	(void)state;
	to_training("cam-1", 1);
	offer("cam-2");
	claimed("cam-2");
	grant("cam-2", f.id, true, 9);
	/* The very same weights are here already, but this device has shown none of them. */
	assert_int_equal(give_blocks("cam-2", 1000), 3);
	trained(asked("train"), 2, id);
	trained(asked("train"), 3, id);
	evaluated(asked("evaluate"), 65);
	evaluated(asked("evaluate"), 44); /* cam-2's */
	asked("train");
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE device = 'cam-2' AND"
			       " state = 'training'"),
			 1);
}

/* The device has granted another handover: with the old one it has done, and is asked what it
 * decided, once more; what was not finished is given up. */
static void test_superseded(void **state)
{
	char result[HASH_SIZE];

	(void)state;
	to_offering("cam-1", 1, result);
	other_weights(9);
	offer("cam-1");
	claimed("cam-1");
	grant("cam-1", f.id, true, 2);
	other_weights(10);
	offer("cam-1");
	claimed("cam-1");
	grant("cam-1", f.id, true, 3);
	assert_int_equal(query("SELECT fence FROM jobs WHERE outcome = 'dropped'"), 2);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'pulling'"), 1);
	assert_non_null(next(TOPIC_DEVICE_RESULT));
	ack("cam-1", result, 1, DECISION_KEPT);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'kept' AND fence = 1"), 1);
}

/* A connection that takes no more: the rest follows when it does, each block once. */
static void test_full_connection(void **state)
{
	struct msg_want w = {.blocks = {0, 1, 2}, .n_blocks = 3};
	char id[HASH_SIZE];
	unsigned got = 0;

	(void)state;
	to_offering("cam-1", 1, id);
	strcpy(w.checkpoint, id);
	f.full_after = 1;
	say(TOPIC_TRAINER_WANT, "cam-1", msg_want_print(&w));
	assert_non_null(next(TOPIC_DEVICE_BLOCK));
	assert_null(next(TOPIC_DEVICE_BLOCK));
	say(TOPIC_TRAINER_WANT, "cam-1", msg_want_print(&w)); /* impatient */
	f.full_after = -1;
	trainer_writable(f.t);
	while (next(TOPIC_DEVICE_BLOCK))
		got++;
	assert_int_equal(got, 3); /* 1, 2, and 0 that was asked for again */
}

/* A device that is known to be away is not sent results that only queue up, but one now and then:
 * word of its return may have been lost. */
static void test_device_away(void **state)
{
	struct msg_presence away = {.online = false, .boot = 4}, back = {.online = true, .boot = 5};
	char id[HASH_SIZE];

	(void)state;
	say(TOPIC_DEVICE_PRESENCE, "cam-1",
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 4}));
	to_offering("cam-1", 1, id);
	/* The Will of an older boot says nothing. */
	say(TOPIC_DEVICE_PRESENCE, "cam-1",
	    msg_presence_print(&(struct msg_presence){.online = false, .boot = 3}));
	tick(2500);
	assert_non_null(next(TOPIC_DEVICE_RESULT));
	say(TOPIC_DEVICE_PRESENCE, "cam-1", msg_presence_print(&away));
	for (int i = 1; i < RESULT_AWAY_PART; i++) {
		tick(70000);
		assert_null(next(TOPIC_DEVICE_RESULT));
	}
	tick(70000);
	assert_non_null(next(TOPIC_DEVICE_RESULT));
	tick(70000);
	assert_null(next(TOPIC_DEVICE_RESULT));
	say(TOPIC_DEVICE_PRESENCE, "cam-1", msg_presence_print(&back));
	assert_non_null(next(TOPIC_DEVICE_RESULT));
}

static void test_no_test_images(void **state)
{
	char id[HASH_SIZE];
	struct msg_result r;
	const struct sent *s;

	(void)state;
	ready(0);
	offer("cam-1");
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	give_blocks("cam-1", 1000);
	trained(asked("train"), 2, id);
	trained(asked("train"), 3, id);
	s = next(TOPIC_DEVICE_RESULT);
	assert_non_null(s);
	assert_int_equal(msg_result_parse(s->payload, s->len, &r, NULL), 0);
	assert_int_equal(r.before.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_whole),
		TEST(test_training_requests),
		TEST(test_refused_offers),
		TEST(test_busy),
		TEST(test_no_worker),
		TEST(test_pull_resumed),
		TEST(test_bad_checkpoint),
		TEST(test_flipped_bit),
		TEST(test_restart_in_training),
		TEST(test_restart_in_offering),
		TEST(test_lapse),
		TEST(test_until),
		TEST(test_lying_worker),
		TEST(test_dying_worker),
		TEST(test_diverging),
		TEST(test_two_devices),
		TEST(test_superseded),
		TEST(test_full_connection),
		TEST(test_device_away),
		TEST(test_no_test_images),
	};

	log_init("test_trainer", LOG_P_ERROR);
	return cmocka_run_group_tests_name("test_trainer", tests, NULL, NULL);
}

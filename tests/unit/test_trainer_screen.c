/* Screening under `resume`, quarantine, and what the audit log says of both. */
#include "tests/unit/trainer_fixture.h"

#include <math.h>

#include "common/audit/audit.h"
#include "edge-trainer/screen.h"
#include "edge-trainer/standing.h"
#include "tests/first_weights.h"

static void scaled(float scale, char mark)
{
	first_weights(f.model, f.weights, scale);
	other_weights(mark);
}

static void bring(const char *device, int64_t fence)
{
	f.read = f.n_sent;
	offer(device);
	assert_false(claimed(device).busy);
	grant_claim(device, fence, f.claim, LEASE);
	give_blocks(device, 1000);
	tick(1);
}

/* What it heard last under that fence. */
static void assert_given_back(const char *device, int64_t fence, const char *reason)
{
	const struct sent *s;
	struct msg_claim c, last = {0};

	f.read = 0;
	while ((s = next(TOPIC_DEVICE_CLAIM)))
		if (strcmp(s->topic.device, device) == 0 &&
		    msg_claim_parse(s->payload, s->len, &c, NULL) == 0 && c.busy)
			last = c;
	assert_int_equal(last.fence, fence);
	assert_string_equal(last.reason, reason);
}

static struct msg_trainer_status said(void)
{
	struct msg_trainer_status m = {0};
	const struct sent *s;

	tick(1000);
	f.read = 0;
	while ((s = next(TOPIC_TRAINER_STATUS)))
		assert_int_equal(msg_trainer_status_parse(s->payload, s->len, &m, NULL), 0);
	return m;
}

struct wanted {
	const char *event, *peer;
	int n;
};

static int count_event(void *user, const struct audit_head *head, const struct json *line,
		       struct err *err)
{
	struct wanted *w = user;
	char event[33], peer[ID_SIZE] = "";

	(void)head;
	assert_int_equal(json_get_str(line, "event", event, sizeof(event), err), 0);
	json_get_str(line, "peer", peer, sizeof(peer), NULL);
	w->n += strcmp(event, w->event) == 0 && strcmp(peer, w->peer) == 0;
	return 0;
}

static int logged(const char *event, const char *peer)
{
	struct audit_chain c = {0};
	struct wanted w = {event, peer, 0};
	struct err err = {0};

	if (audit_check_folder(f.conf.state, &c, count_event, &w, &err) < 0)
		fail_msg("%s", err.text);
	return w.n;
}

/* Whatever the strategy: before a worker loads it. */
static void test_out_of_line(void **state)
{
	(void)state;
	scaled(10, 1);
	bring("cam-1", 1);
	assert_int_equal(f.n_work, 0);
	assert_given_back("cam-1", 1, "screened out: norm out of line");
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'screened'"), 1);
	assert_int_equal(said().refused, 1);
	assert_int_equal(said().quarantined, 0);
	assert_int_equal(logged("refused", "cam-1"), 1);
	/* Others are not concerned, nor is its next one. */
	scaled(1, 2);
	bring("cam-2", 1);
	asked("evaluate");
}

/* Against what the device had last, not what first weights are. */
static void test_against_its_own(void **state)
{
	(void)state;
	scaled(3, 1);
	hand_over("cam-1", 1);
	scaled(9, 2); /* out of line for a first one; here 2 of its norm away */
	bring("cam-1", 2);
	asked("evaluate");
}

static void test_too_far(void **state)
{
	(void)state;
	hand_over("cam-1", 1);
	scaled(3.5f, 2); /* in line, but 2.5 of its norm away */
	bring("cam-1", 2);
	assert_given_back("cam-1", 2, "screened out: too far from what it began from");
	/* As a fresh device would: there is nothing that it is far from. */
	bring("cam-2", 1);
	asked("evaluate");
}

static void evaluated_with_rows(const struct work *w, int64_t n, int64_t right, int64_t turned)
{
	struct json *j = json_new_obj(), *rows = json_new_arr();
	int64_t k = f.model->outputs;

	for (int64_t i = 0; i < k; i++) {
		struct json *row = json_new_arr();

		for (int64_t o = 0; o < k; o++)
			json_push_int(row, o == i ? right : o == k - 1 - i ? turned : 0);
		json_push(rows, row);
	}
	json_set_int(j, "n", n);
	json_set_int(j, "correct", k * right);
	json_set_num(j, "loss", 1.5);
	json_set_num(j, "seconds", 0.1);
	json_set_str(j, "snapshot", SNAPSHOT);
	json_set(j, "confusion", rows);
	trainer_worker_reply(f.t, w->slot, w->id, j, NULL);
	json_free(j);
}

static void test_exchanged(void **state)
{
	(void)state;
	bring("cam-1", 1);
	evaluated_with_rows(asked("evaluate"), 100 * f.model->outputs, 2, 98);
	assert_given_back("cam-1", 1, "screened out: labels exchanged");
	assert_int_equal(query("SELECT before_correct FROM jobs WHERE outcome = 'screened'"),
			 2 * (int64_t)f.model->outputs);
	scaled(1, 3);
	bring("cam-2", 1);
	evaluated_with_rows(asked("evaluate"), 100 * f.model->outputs, 98, 2);
	asked("train");
}

static void be_refused(const char *device, int64_t fence)
{
	scaled(10, (char)(10 + fence));
	bring(device, fence);
}

static struct msg_claim busy(const char *device)
{
	f.read = f.n_sent;
	offer(device);
	return claimed(device);
}

static void release(const char *device)
{
	char path[FILE_PATH_MAX + ID_SIZE + 16];

	snprintf(path, sizeof(path), "%s/release/%s", f.conf.state, device);
	assert_int_equal(file_write(path, "", 0, NULL), 0);
	tick(1000);
	assert_false(file_exists(path));
}

static void test_quarantine(void **state)
{
	struct msg_trainer_status m;
	struct msg_claim c;

	(void)state;
	for (int64_t i = 1; i <= STANDING_REFUSALS; i++)
		be_refused("cam-1", i);
	assert_int_equal(logged("quarantined", "cam-1"), 1);
	scaled(1, 1);
	c = busy("cam-1");
	assert_true(c.busy);
	assert_non_null(strstr(c.reason, "in quarantine until "));
	assert_non_null(strstr(c.reason, "norm out of line"));
	/* Over restarts, and for it alone. */
	kill_and_reopen();
	ready(100);
	assert_true(busy("cam-1").busy);
	m = said();
	assert_int_equal(m.quarantined, 1);
	assert_string_equal(m.quarantine[0].device, "cam-1");
	assert_string_equal(m.quarantine[0].why, "norm out of line");
	assert_int_equal(m.quarantine[0].until_ms - m.quarantine[0].since_ms, STANDING_FIRST_MS);
	assert_false(busy("cam-2").busy);
	/* By an operator's hand; a second time there is nothing to do. */
	release("cam-1");
	release("cam-1");
	release("cam-7");
	assert_int_equal(logged("released", "cam-1"), 1);
	assert_int_equal(logged("released", "cam-7"), 0);
	assert_int_equal(said().quarantined, 0);
	assert_false(busy("cam-1").busy);
}

/* By its time; the next one is longer. */
static void test_quarantine_ends(void **state)
{
	struct msg_trainer_status m;

	(void)state;
	f.conf.device_per_hour = 100;
	for (int64_t i = 1; i <= STANDING_REFUSALS; i++)
		be_refused("cam-1", i);
	tick(STANDING_FIRST_MS - 10000);
	scaled(1, 1);
	assert_true(busy("cam-1").busy);
	tick(11000);
	for (int64_t i = 1; i <= STANDING_REFUSALS; i++)
		be_refused("cam-1", STANDING_REFUSALS + i);
	m = said();
	assert_int_equal(m.quarantine[0].until_ms - m.quarantine[0].since_ms, 2 * STANDING_FIRST_MS);
}

/* What others can do in a device's name: blocks that are not what its offer says. */
static void test_not_by_others(void **state)
{
	(void)state;
	for (int64_t i = 1; i <= 2 * STANDING_REFUSALS; i++) {
		scaled(1, (char)i);
		f.read = f.n_sent;
		offer("cam-1");
		assert_false(claimed("cam-1").busy);
		grant_claim("cam-1", i, f.claim, LEASE);
		f.weights[f.model->file_bytes - 1] ^= 1;
		give_blocks("cam-1", 1000);
		tick(3600 * 1000);
	}
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped'"),
			 2 * STANDING_REFUSALS);
	assert_int_equal(query("SELECT count(*) FROM standing"), 0);
	/* One that is as its offer says, and no weights, is. */
	float nan = NAN;
	scaled(1, 20);
	memcpy(f.weights + WEIGHTS_HEADER_SIZE + 8, &nan, sizeof(nan));
	hash_bytes(f.weights, f.model->file_bytes, f.id);
	bring("cam-1", 20);
	assert_int_equal(query("SELECT refusals FROM standing WHERE device = 'cam-1'"), 1);
}

/* A whole handover, and a head that a device tells: at both ends the same words. */
static void test_audit(void **state)
{
	struct msg_status s = {.boot = 1, .phase = PHASE_IDLE, .progress = -1, .audit_seq = 17,
			       .loss = NAN, .images_per_second = NAN};

	(void)state;
	hand_over("cam-1", 1);
	for (int i = 0; i < 5; i++) {
		memcpy(s.model, f.model->id, sizeof(s.model));
		memcpy(s.audit_head, OTHER, sizeof(s.audit_head));
		s.audit_seq++;
		say(TOPIC_DEVICE_STATUS, "cam-1", msg_status_print(&s));
	}
	assert_int_equal(logged("claimed", "cam-1"), 1);
	assert_int_equal(logged("granted", "cam-1"), 1);
	assert_int_equal(logged("received", "cam-1"), 1);
	assert_int_equal(logged("returned", "cam-1"), 1);
	assert_int_equal(logged("decided", "cam-1"), 1);
	assert_int_equal(logged("head", "cam-1"), 1); /* not each time */
	tick(600 * 1000);
	s.audit_seq++;
	say(TOPIC_DEVICE_STATUS, "cam-1", msg_status_print(&s));
	assert_int_equal(logged("head", "cam-1"), 2);
	assert_true(said().audit_seq > 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_out_of_line), TEST(test_against_its_own), TEST(test_too_far),
		TEST(test_exchanged),   TEST(test_quarantine),      TEST(test_quarantine_ends),
		TEST(test_not_by_others), TEST(test_audit),
	};

	return cmocka_run_group_tests_name("test_trainer_screen", tests, NULL, NULL);
}

/* The trainer where messages are signed: whom it believes, which offers it takes again, and that a
 * restart in between changes nothing of that. */
#include "tests/unit/trainer_sealed_rig.h"

#include "common/base/clock.h"
#include "common/trust/freshness.h"
#include "common/trust/trust.h"

#define OFFER_TOPIC "tasuki/v1/home/device/cam-1/offer"
#define FLEET_TOPIC "tasuki/v1/home/fleet/offer"

static struct signer *cam, *cam_2, *edge, *edge_2, *as_device;
static struct authority *authority;

static int64_t utc(void)
{
	return 1700000000000 + f.now_ms;
}

static struct signer *signer_of(enum role role, const char *name)
{
	struct identity_paths paths;
	struct signer *s = NULL;
	struct err err = {0};

	pki_issue(&pki, role, name, &paths);
	if (signer_read(&paths, &s, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

/* With the members that the device adds: `number` 0: none. */
static char *numbered(char *text, int64_t number, int64_t expires_ms)
{
	_cleanup_(json_freep) struct json *j = NULL;
	char at[CLOCK_TEXT_MAX];

	assert_int_equal(json_parse(text, strlen(text), MESSAGE_LARGE_MAX, &j, NULL), 0);
	free(text);
	if (number)
		json_set_int(j, "sequence", number);
	clock_format(expires_ms, at);
	if (expires_ms)
		json_set_str(j, "expires", at);
	json_set_str(j, "root", SNAPSHOT); /* of blocks; nothing here looks at them */
	return json_print(j);
}

static char *sign(enum topic_kind kind, const char *topic, char *text)
{
	if (kind == TOPIC_DEVICE_OFFER)
		text = numbered(text, end.sequence, utc() + FRESHNESS_HANDOVER_MS);
	return signed_print(as_device, topic, text);
}

static int set_up_signed(void **state)
{
	struct err err = {0};
	int r = set_up_sealed(state);

	f.sign = sign;
	end.sequence = utc();
	as_device = cam = end.signer;
	cam_2 = signer_of(ROLE_DEVICE, "cam-2");
	edge = signer_of(ROLE_TRAINER, "edge-1");
	edge_2 = signer_of(ROLE_TRAINER, "edge-2");
	assert_int_equal(authority_new(&f.conf.identity, &authority, &err), 0);
	return r;
}

static int tear_down_signed(void **state)
{
	signer_free(cam_2);
	signer_free(edge);
	signer_free(edge_2);
	authority_free(authority);
	authority = NULL;
	return tear_down_sealed(state);
}

#define SIGNED(x) cmocka_unit_test_setup_teardown(x, set_up_signed, tear_down_signed)

static char *offer_text(int64_t number, int64_t expires_ms)
{
	struct msg_offer o = offer_of("cam-1");

	return signed_print(cam, OFFER_TOPIC, numbered(msg_offer_print(&o), number, expires_ms));
}

/* Bytes as somebody has recorded them. */
static void play(enum topic_kind kind, const char *text)
{
	say_raw(kind, "cam-1", NULL, 0, text, strlen(text), false);
}

#define assert_refused_as(r, before)                                                          \
	do {                                                                                  \
		if (trainer_refused(f.t, r) != (before) + 1)                                  \
			fail_msg("%s: %llu, expected %llu", refusal_name(r),                  \
				 (unsigned long long)trainer_refused(f.t, r),                 \
				 (unsigned long long)(before) + 1);                           \
	} while (0)

/* The audit log is evidence: which message it was, and whose. */
static void the_log_names_them(void **state)
{
	_cleanup_free_ char *text = offer_text(utc(), utc() + FRESHNESS_HANDOVER_MS), *log = NULL;
	char path[FILE_PATH_MAX + 16], hash[HASH_SIZE], expected[2 * HASH_SIZE + 64];
	size_t len;

	(void)state;
	play(TOPIC_DEVICE_OFFER, text);
	hash_bytes(text, strlen(text), hash);
	snprintf(path, sizeof(path), "%s/audit.log", f.conf.state);
	assert_int_equal(file_read(path, 65536, &log, &len, NULL), 0);
	snprintf(expected, sizeof(expected), "\"signer\":\"cam-1\",\"message\":\"%s\"", hash);
	assert_non_null(strstr(log, "\"claimed\""));
	assert_non_null(strstr(strstr(log, "\"claimed\""), expected));
	/* What the trainer does by itself is nobody's message. */
	assert_null(strstr(strstr(log, expected) + strlen(expected), "signer"));
}

static size_t lines_of(const char *what)
{
	_cleanup_free_ char *log = NULL;
	char path[FILE_PATH_MAX + 16];
	size_t len, n = 0;

	snprintf(path, sizeof(path), "%s/audit.log", f.conf.state);
	assert_int_equal(file_read(path, 65536, &log, &len, NULL), 0);
	for (const char *at = log; (at = strstr(at, what)); at++)
		n++;
	return n;
}

static char *report_with_head(int64_t seq, char digit)
{
	struct msg_report r = {.seq = seq, .audit_seq = 100 + seq, .score = {.n = 10, .correct = 5}};

	memset(r.checkpoint, '1', HASH_HEX);
	memset(r.snapshot, '2', HASH_HEX);
	memset(r.audit_head, digit, HASH_HEX);
	return msg_report_print(&r);
}

/* Whoever says a false one in its name neither accuses it, nor keeps its own out of the log. */
static void a_head_is_the_devices_word(void **state)
{
	struct msg_status s = {.boot = 1, .phase = PHASE_IDLE, .progress = -1, .loss = NAN,
			       .images_per_second = NAN, .audit_seq = 7};
	_cleanup_free_ char *text = NULL;

	(void)state;
	memcpy(s.model, f.model->id, sizeof(s.model));
	memset(s.audit_head, 'f', HASH_HEX);
	text = msg_status_print(&s);
	play(TOPIC_DEVICE_STATUS, text);
	assert_int_equal(lines_of("\"head\""), 0);
	say(TOPIC_DEVICE_REPORT, "cam-1", report_with_head(1, 'a'));
	assert_int_equal(lines_of("\"event\":\"head\""), 1);
	assert_int_equal(lines_of("\"head_seq\":101,\"head\":\"aaaa"), 1);
	assert_int_equal(lines_of("\"signer\":\"cam-1\""), 1);
}

/* ---- what it says ---- */

static void what_it_says_is_signed(void **state)
{
	char topic[TOPIC_SIZE];
	struct msg_result r = until_offering();
	size_t n[TOPIC_N] = {0};

	(void)state;
	assert_true(r.manifest.sequence >= utc() - 60000);
	assert_int_equal(r.manifest.expires_ms, utc() + FRESHNESS_HANDOVER_MS);
	ack("cam-1", r.manifest.id, 1, DECISION_KEPT);
	for (unsigned i = 0; i < f.n_sent; i++) {
		const struct sent *s = &f.sent[i];
		enum role by;
		struct certificate c;

		assert_int_equal(topic_format(topic, "home", &s->topic), 0);
		assert_int_equal(signed_open(authority, ROLE_TRAINER, "edge-1", topic, s->payload,
					     s->len, utc(), &c, NULL),
				 trust_is_signed(s->topic.kind, &by) ? REFUSAL_NONE :
								       REFUSAL_UNSIGNED);
		n[s->topic.kind]++;
	}
	assert_true(n[TOPIC_DEVICE_CLAIM] && n[TOPIC_DEVICE_RESULT] && n[TOPIC_DEVICE_ACK]);
	assert_true(n[TOPIC_TRAINER_STATUS] && n[TOPIC_TRAINER_PRESENCE]);
}

static int64_t result_sequence(void)
{
	const struct sent *s = NULL, *last = NULL;
	struct msg_result r;

	while ((s = next(TOPIC_DEVICE_RESULT)))
		last = s;
	assert_non_null(last);
	assert_int_equal(msg_result_parse(last->payload, last->len, &r, NULL), 0);
	return r.manifest.sequence;
}

static void a_result_keeps_its_number_and_the_next_one_has_a_larger(void **state)
{
	int64_t number = until_offering().manifest.sequence;

	(void)state;
	tick(3000);
	assert_int_equal(result_sequence(), number);
	close_trainer();
	f.now_ms -= 500000; /* the clock is set back, and it starts anew */
	open_trainer();
	tick(3000);
	assert_int_equal(result_sequence(), number + 1);
}

/* ---- whom it believes ---- */

static void only_the_device_itself_is_heard(void **state)
{
	struct msg_offer o = offer_of("cam-1");

	(void)state;
	f.sign = NULL;
	offer("cam-1");
	assert_refused_as(REFUSAL_UNSIGNED, 0);
	say(TOPIC_TRAINER_GRANT, "cam-1", strdup("rubbish, not JSON"));
	assert_refused_as(REFUSAL_UNSIGNED, 1);
	f.sign = sign;
	as_device = cam_2; /* a good certificate, another one's */
	offer("cam-1");
	assert_refused_as(REFUSAL_DEVICE, 0);
	as_device = edge_2;
	offer("cam-1");
	assert_refused_as(REFUSAL_FOREIGN, 0);
	as_device = cam;
	/* What it said elsewhere: as a report, at another site. */
	_cleanup_free_ char *elsewhere =
		signed_print(cam, "tasuki/v1/mill/device/cam-1/offer",
			     numbered(msg_offer_print(&o), end.sequence, utc() + 1000));
	play(TOPIC_DEVICE_OFFER, elsewhere);
	assert_refused_as(REFUSAL_FORGED, 0);
	play(TOPIC_DEVICE_REPORT, elsewhere);
	assert_refused_as(REFUSAL_FORGED, 1);
	assert_null(next(TOPIC_DEVICE_CLAIM));
	assert_int_equal(query("SELECT count(*) FROM devices"), 0);
	offer("cam-1");
	claimed("cam-1");
	as_device = cam_2;
	grant("cam-1", f.id, true, 1);
	assert_refused_as(REFUSAL_DEVICE, 1);
	ack("cam-1", f.id, 1, DECISION_KEPT);
	assert_refused_as(REFUSAL_DEVICE, 2);
}

/* Another device speaks of it: a member is not who signed. */
static void it_speaks_for_itself_only(void **state)
{
	(void)state;
	as_device = cam_2;
	struct msg_offer o = offer_of("cam-1");

	say(TOPIC_DEVICE_OFFER, "cam-2", msg_offer_print(&o));
	assert_null(next(TOPIC_DEVICE_CLAIM));
}

/* Whoever forges in a device's name spends the device's patience, but for a moment, and no more of
 * the processor than there is for it. */
static void a_flood_of_forged_ones_is_cut(void **state)
{
	_cleanup_free_ char *forged = signed_print(cam, "another topic", strdup("{\"a\":1}"));
	char name[ID_SIZE];

	(void)state;
	offer("cam-1");
	for (int i = 0; i < 5000; i++)
		play(TOPIC_TRAINER_GRANT, forged);
	assert_true(trainer_refused(f.t, REFUSAL_FORGED) < 100);
	f.now_ms += 500;
	grant_sealed(1);
	assert_non_null(next(TOPIC_DEVICE_WANT));
	/* In many names. */
	for (int i = 0; i < 10000; i++) {
		snprintf(name, sizeof(name), "d-%d", i);
		say_raw(TOPIC_DEVICE_OFFER, name, NULL, 0, forged, strlen(forged), false);
	}
	assert_true(trainer_refused(f.t, REFUSAL_DEVICE) + trainer_refused(f.t, REFUSAL_FORGED) < 2500);
}

/* Nor does one insider, a device that nobody knows yet or a trainer, make the trainer deaf to all. */
static void a_flood_of_one_is_not_charged_to_all(void **state)
{
	static const char rubbish[] = "{\"a\":1}";

	(void)state;
	for (int i = 0; i < 5000; i++)
		say_raw(TOPIC_DEVICE_OFFER, "cam-2", NULL, 0, rubbish, sizeof(rubbish) - 1, false);
	assert_true(trainer_refused(f.t, REFUSAL_UNSIGNED) < 100);
	for (int i = 0; i < 5000; i++)
		play(TOPIC_FLEET_OFFER, rubbish);
	assert_true(trainer_refused(f.t, REFUSAL_UNSIGNED) < 200);
	offer("cam-1");
	claimed("cam-1");
}

static uint64_t verified_forged(int n)
{
	_cleanup_free_ char *forged = signed_print(cam, "another topic", strdup("{\"a\":1}"));
	uint64_t before = trainer_refused(f.t, REFUSAL_FORGED);

	for (int i = 0; i < n; i++)
		play(TOPIC_TRAINER_GRANT, forged);
	return trainer_refused(f.t, REFUSAL_FORGED) - before;
}

/* Nor does a device with a certificate, that nobody has heard of, have the processor by signing what
 * nobody understands: it is known then, and has its rate. */
static void a_flood_of_signed_rubbish_is_cut(void **state)
{
	_cleanup_free_ char *topic = strdup("tasuki/v1/home/trainer/edge-1/in/cam-1/grant");
	_cleanup_free_ char *rubbish = signed_print(cam, topic, strdup("{\"a\":1}"));

	(void)state;
	for (int i = 0; i < 5000; i++)
		play(TOPIC_TRAINER_GRANT, rubbish);
	/* Beyond the rate nothing is verified, so what is forged is not found out either. */
	assert_int_equal(verified_forged(40), 0);
	f.now_ms += 1000;
	assert_int_equal(verified_forged(40), 40);
}

/* A device that starts anew gives the offer on its way a later number: that one is over as well. */
static void an_offer_is_over_under_its_last_number(void **state)
{
	(void)state;
	struct msg_result r = until_offering();
	_cleanup_free_ char *later = offer_text(++end.sequence, utc() + FRESHNESS_HANDOVER_MS);

	play(TOPIC_DEVICE_OFFER, later);
	ack("cam-1", r.manifest.id, 1, DECISION_KEPT);
	tick(2000);
	f.read = f.n_sent;
	play(TOPIC_DEVICE_OFFER, later);
	assert_refused_as(REFUSAL_REPLAY, 0);
	assert_null(next(TOPIC_DEVICE_CLAIM));
}

static void a_chain_is_verified_once_a_device(void **state)
{
	(void)state;
	for (int i = 0; i < 15; i++) {
		end.sequence++;
		offer("cam-1");
		f.now_ms += 1000;
	}
	assert_int_equal(trainer_refused(f.t, REFUSAL_FOREIGN), 0);
	struct identity_paths stolen;
	long serial = pki_issue(&pki, ROLE_DEVICE, "cam-1", &stolen);
	struct signer *thief = NULL;
	assert_int_equal(signer_read(&stolen, &thief, NULL), 0);
	as_device = thief;
	end.sequence++;
	offer("cam-1");
	assert_int_equal(trainer_refused(f.t, REFUSAL_FOREIGN), 0);
	pki_revoke(&pki, ROLE_DEVICE, ROLE_DEVICE, &serial, 1, utc() - 1000, utc() + PKI_DAY_MS);
	offer("cam-1");
	assert_refused_as(REFUSAL_FOREIGN, 0);
	signer_free(thief);
}

/* ---- attacks by who has recorded messages ---- */

static void an_offer_that_is_over_cannot_be_played_again(void **state)
{
	(void)state;
	struct msg_result r = until_offering();
	int64_t first = end.sequence;

	ack("cam-1", r.manifest.id, 1, DECISION_KEPT);
	tick(2000);
	f.read = f.n_sent;
	_cleanup_free_ char *recorded = offer_text(first, utc() + FRESHNESS_HANDOVER_MS);
	play(TOPIC_DEVICE_OFFER, recorded);
	assert_refused_as(REFUSAL_REPLAY, 0);
	kill_and_reopen();
	play(TOPIC_DEVICE_OFFER, recorded);
	assert_refused_as(REFUSAL_REPLAY, 0);
	assert_null(next(TOPIC_DEVICE_CLAIM));
	/* The device itself offers the same again: under a new number. */
	end.sequence = first + 1;
	offer("cam-1");
	claimed("cam-1");
}

static void an_older_offer_is_not_taken(void **state)
{
	(void)state;
	_cleanup_free_ char *recorded = offer_text(end.sequence, utc() + FRESHNESS_HANDOVER_MS);
	play(TOPIC_DEVICE_OFFER, recorded);
	claimed("cam-1");
	other_weights(9);
	end.sequence++;
	offer("cam-1");
	claimed("cam-1");
	play(TOPIC_DEVICE_OFFER, recorded);
	assert_refused_as(REFUSAL_ROLLBACK, 0);
	tick(1000);
	kill_and_reopen();
	play(TOPIC_DEVICE_OFFER, recorded);
	assert_refused_as(REFUSAL_ROLLBACK, 0);
}

static void one_that_was_held_back_is_not_taken(void **state)
{
	(void)state;
	_cleanup_free_ char *recorded = offer_text(end.sequence, utc() + FRESHNESS_HANDOVER_MS);
	_cleanup_free_ char *endless = offer_text(end.sequence, 0);
	_cleanup_free_ char *long_one = offer_text(end.sequence, utc() + 3 * FRESHNESS_HANDOVER_MS);
	play(TOPIC_DEVICE_OFFER, endless);
	assert_refused_as(REFUSAL_FREEZE, 0);
	play(TOPIC_DEVICE_OFFER, long_one);
	assert_refused_as(REFUSAL_FREEZE, 1);
	f.now_ms += FRESHNESS_HANDOVER_MS + FRESHNESS_SKEW_MS + 1;
	play(TOPIC_DEVICE_OFFER, recorded);
	assert_refused_as(REFUSAL_FREEZE, 2);
	kill_and_reopen();
	play(TOPIC_DEVICE_OFFER, recorded);
	assert_refused_as(REFUSAL_FREEZE, 0);
	assert_null(next(TOPIC_DEVICE_CLAIM));
}

static int64_t claim_sequence(void)
{
	const struct sent *s = NULL, *last = NULL;
	struct msg_claim c;

	while ((s = next(TOPIC_DEVICE_CLAIM)))
		last = s;
	assert_non_null(last);
	assert_int_equal(msg_claim_parse(last->payload, last->len, &c, NULL), 0);
	f.claim = c.claim;
	return c.fence ? -1 : c.sequence;
}

/* Also one that the device gave a new number, or whose number only a refusal has told. */
static void a_claim_names_the_offer(void **state)
{
	struct msg_grant g = {.lease_ms = 0, .reason = "the lease ran out: claim it anew"};

	(void)state;
	offer("cam-1");
	assert_int_equal(claim_sequence(), end.sequence);
	end.sequence += 5;
	unsigned before = f.read;
	offer("cam-1");
	assert_int_equal(claim_sequence(), end.sequence);
	f.read = before;
	grant_sealed(1);
	strcpy(g.checkpoint, f.id);
	g.fence = 1;
	tick(LEASE / 3 + 1000);
	assert_int_equal(claim_sequence(), -1); /* a renewal */
	g.claim = f.claim;
	g.sequence = end.sequence + 3;
	say(TOPIC_TRAINER_GRANT, "cam-1", msg_grant_print(&g));
	assert_int_equal(claim_sequence(), end.sequence + 3);
}

static void a_number_is_of_one_checkpoint(void **state)
{
	(void)state;
	offer("cam-1");
	claimed("cam-1");
	other_weights(9);
	offer("cam-1"); /* under the same number */
	assert_refused_as(REFUSAL_MIXED, 0);
	tick(1000);
	kill_and_reopen();
	offer("cam-1");
	assert_refused_as(REFUSAL_MIXED, 0);
	assert_null(next(TOPIC_DEVICE_CLAIM));
}

static void another_models_is_named_and_answered(void **state)
{
	struct msg_offer o = offer_of("cam-1");
	struct msg_claim c;
	const struct sent *s;

	(void)state;
	memset(o.manifest.model, 'a', HASH_HEX);
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	assert_refused_as(REFUSAL_MODEL, 0);
	s = next(TOPIC_DEVICE_CLAIM);
	assert_non_null(s);
	assert_int_equal(msg_claim_parse(s->payload, s->len, &c, NULL), 0);
	assert_true(c.busy && strstr(c.reason, "another model"));
}

static void another_devices_is_not_taken(void **state)
{
	struct msg_offer o = offer_of("cam-2");

	(void)state;
	as_device = cam_2; /* recorded where cam-2 said it, played where cam-1 would */
	_cleanup_free_ char *recorded =
		signed_print(cam_2, "tasuki/v1/home/device/cam-2/offer",
			     numbered(msg_offer_print(&o), end.sequence, utc() + 1000));
	play(TOPIC_DEVICE_OFFER, recorded);
	assert_refused_as(REFUSAL_DEVICE, 0);
	kill_and_reopen();
	play(TOPIC_DEVICE_OFFER, recorded);
	assert_refused_as(REFUSAL_DEVICE, 0);
}

/* ---- honest ones ---- */

/* While nobody claims, after a restart of the device, after one of the trainer, after a lapse. */
static void repeated_offers_are_taken(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		offer("cam-1");
		tick(2000);
	}
	end.sequence++; /* the device has started anew */
	offer("cam-1");
	kill_and_reopen();
	offer("cam-1");
	f.read = f.n_sent;
	end.sequence += 1000; /* a device that lost its state, or has an older one: by its clock */
	offer("cam-1");
	claimed("cam-1");
	for (int r = 1; r < REFUSAL_N; r++)
		assert_int_equal(trainer_refused(f.t, (enum refusal)r), 0);
}

static void a_trainer_that_lost_its_database_takes_any(void **state)
{
	char path[FILE_PATH_MAX];

	(void)state;
	offer("cam-1");
	claimed("cam-1");
	close_trainer();
	for (int i = 0; i < 3; i++) {
		static const char *const ends[] = {"", "-wal", "-shm"};

		snprintf(path, sizeof(path), "%s/trainer.db%s", f.dir, ends[i]);
		unlink(path);
	}
	open_trainer();
	offer("cam-1");
	claimed("cam-1");
}

/* ---- the fleet ---- */

static char *fleet_text(const struct signer *by, const char *trainer, int64_t number,
			int64_t expires_ms)
{
	struct msg_fleet m = {.share = 100, .starts_in_ms = -1, .manifest = offer_of("x").manifest};

	strcpy(m.manifest.device, trainer);
	strcpy(m.manifest.trainer, trainer);
	m.manifest.origin = ORIGIN_FLEET;
	m.manifest.sequence = number;
	return signed_print(by, FLEET_TOPIC, numbered(msg_fleet_print(&m), number, expires_ms));
}

static void other_trainers_offers_are_theirs(void **state)
{
	_cleanup_free_ char *good = fleet_text(edge_2, "edge-2", 1700000001, utc() + 1000);
	_cleanup_free_ char *named = fleet_text(edge_2, "edge-3", 1700000002, utc() + 1000);
	_cleanup_free_ char *of_device = fleet_text(cam, "edge-2", 1700000003, utc() + 1000);
	_cleanup_free_ char *endless = fleet_text(edge_2, "edge-2", 1700000004, 0);
	_cleanup_free_ char *far = fleet_text(edge_2, "edge-2", 3000000000, utc() + 1000);

	(void)state;
	play(TOPIC_FLEET_OFFER, good);
	for (int r = 1; r < REFUSAL_N; r++)
		assert_int_equal(trainer_refused(f.t, (enum refusal)r), 0);
	play(TOPIC_FLEET_OFFER, named);
	assert_refused_as(REFUSAL_SIGNER, 0);
	play(TOPIC_FLEET_OFFER, of_device);
	assert_refused_as(REFUSAL_FOREIGN, 0);
	play(TOPIC_FLEET_OFFER, endless);
	assert_refused_as(REFUSAL_FREEZE, 0);
	play(TOPIC_FLEET_OFFER, far);
	assert_refused_as(REFUSAL_ROLLBACK, 0);
}

/* What it has on offer is said again before its time is over. */
static void an_offer_to_the_fleet_stays_valid(void **state)
{
	char path[FILE_PATH_MAX];
	struct msg_fleet m;
	const struct sent *s;

	(void)state;
	f.conf.rollout.share = 100;
	snprintf(path, sizeof(path), "%s/publish/x.weights", f.dir);
	assert_int_equal(file_write(path, f.weights, f.model->file_bytes, NULL), 0);
	for (int i = 0; i < 20 && !(s = next(TOPIC_FLEET_OFFER)); i++)
		tick(1000);
	assert_non_null(s);
	assert_int_equal(msg_fleet_parse(s->payload, s->len, &m, NULL), 0);
	assert_int_equal(m.manifest.expires_ms, utc() + FRESHNESS_FLEET_MS);
	while (next(TOPIC_FLEET_OFFER))
		;
	for (int i = 0; i < 2; i++) {
		tick(FRESHNESS_FLEET_MS / 4);
		tick(1000);
		s = next(TOPIC_FLEET_OFFER);
		assert_non_null(s);
		assert_int_equal(msg_fleet_parse(s->payload, s->len, &m, NULL), 0);
		assert_true(m.manifest.expires_ms >= utc() + FRESHNESS_FLEET_MS - 2000);
		while (next(TOPIC_FLEET_OFFER))
			;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SIGNED(the_log_names_them), SIGNED(a_head_is_the_devices_word), SIGNED(what_it_says_is_signed),
		SIGNED(a_result_keeps_its_number_and_the_next_one_has_a_larger),
		SIGNED(only_the_device_itself_is_heard),
		SIGNED(it_speaks_for_itself_only),
		SIGNED(a_flood_of_forged_ones_is_cut),
		SIGNED(a_flood_of_one_is_not_charged_to_all),
		SIGNED(a_flood_of_signed_rubbish_is_cut),
		SIGNED(an_offer_is_over_under_its_last_number),
		SIGNED(a_chain_is_verified_once_a_device),
		SIGNED(an_offer_that_is_over_cannot_be_played_again),
		SIGNED(an_older_offer_is_not_taken),
		SIGNED(one_that_was_held_back_is_not_taken),
		SIGNED(a_claim_names_the_offer),
		SIGNED(a_number_is_of_one_checkpoint),
		SIGNED(another_models_is_named_and_answered),
		SIGNED(another_devices_is_not_taken),
		SIGNED(repeated_offers_are_taken),
		SIGNED(a_trainer_that_lost_its_database_takes_any),
		SIGNED(other_trainers_offers_are_theirs),
		SIGNED(an_offer_to_the_fleet_stays_valid),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

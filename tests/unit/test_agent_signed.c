/* The agent where messages are signed: whom it believes, what it takes again, and that a restart in
 * between changes nothing of that. The worker, the broker and the clock are the test. */
#include "agent_rig.h"

#include "common/trust/freshness.h"
#include "common/trust/signed.h"
#include "pki_util.h"

#define FLEET "tasuki/v1/home/fleet/offer"

static struct pki pki;
static struct signer *edge, *edge_2, *other_device, *eve;
static struct authority *authority;
static char first[HASH_SIZE], offered[HASH_SIZE]; /* the device has them in its store */
static int64_t next_sequence;

static struct signer *signer_of(enum role role, const char *name)
{
	struct identity_paths paths;
	struct signer *s = NULL;
	pki_issue(&pki, role, name, &paths);
	if (signer_read(&paths, &s, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

static int64_t utc(void)
{
	return fake_real(NULL);
}

static int set_up_plain(void **state)
{
	int r = setup(state);
	pki_init(&pki, dir);
	pki_issue(&pki, ROLE_DEVICE, "cam-1", &conf.identity);
	edge = signer_of(ROLE_TRAINER, "edge-1");
	edge_2 = signer_of(ROLE_TRAINER, "edge-2");
	other_device = signer_of(ROLE_DEVICE, "cam-2");
	eve = signer_of(ROLE_OPERATOR, "eve");
	next_sequence = utc();
	return r < 0 ? r : authority_new(&conf.identity, &authority, &err);
}

/* Two epochs, the second one on offer. */
static int set_up(void **state)
{
	int r = set_up_plain(state);
	again();
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 10);
	trained(2, offered);
	evaluated(offered, SPLIT_VALIDATION, 12);
	evaluated(offered, SPLIT_TEST, 6);
	return r;
}

static int tear_down(void **state)
{
	struct signer *const all[] = {edge, edge_2, other_device, eve};
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		signer_free(all[i]);
	authority_free(authority);
	authority = NULL;
	pki_done(&pki);
	return teardown(state);
}

#define SIGNED(f)       cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define SIGNED_PLAIN(f) cmocka_unit_test_setup_teardown(f, set_up_plain, tear_down)

static void say_signed(const struct signer *s, const char *topic, char *text)
{
	say_text(topic, signed_print(s, topic, text));
}

/* With members that a sealed handover needs; nothing here is transferred. */
static char *with(char *text, const char *member)
{
	size_t len = strlen(text);
	char *longer = malloc(len + 100);
	assert_non_null(longer);
	sprintf(longer, "%.*s,\"%s\":\"%064d\"}", (int)len - 1, text, member, 9);
	free(text);
	return longer;
}

static void claim_by(const struct signer *s, const char *trainer, int64_t fence)
{
	struct msg_claim c = {.fence = fence, .sequence = fence ? 0 : offer_number};
	strcpy(c.trainer, trainer);
	strcpy(c.checkpoint, offered);
	say_signed(s, DEVICE "in/claim", with(msg_claim_print(&c), "seal"));
}

/* A result that needs no transfer: the device has those weights. */
static struct msg_result result(const char *id, int64_t fence)
{
	char path[FILE_PATH_MAX];
	struct msg_result r = result_of(offered, 9, fence, path);
	strcpy(r.manifest.id, id);
	r.manifest.sequence = next_sequence++;
	r.manifest.expires_ms = utc() + FRESHNESS_HANDOVER_MS;
	return r;
}

static char *result_text(const struct msg_result *r)
{
	return signed_print(edge, DEVICE "in/offer", with(msg_result_print(r), "root"));
}

static void say_result(const struct msg_result *r)
{
	say_text(DEVICE "in/offer", result_text(r));
}

/* Bytes as somebody has recorded them. */
static void play(const char *topic, const char *text)
{
	say(topic, text, strlen(text));
}

#define assert_refused_as(r, before)                                         \
	do {                                                                 \
		if (agent_refused(a, r) != (before) + 1)                     \
			fail_msg("%s: %llu, expected %llu", refusal_name(r), \
				 (unsigned long long)agent_refused(a, r),    \
				 (unsigned long long)(before) + 1);          \
	} while (0)

static uint64_t refused_in_all(void)
{
	uint64_t n = 0;
	for (int r = 1; r < REFUSAL_N; r++)
		n += agent_refused(a, (enum refusal)r);
	return n;
}

/* Answers all evaluations of that checkpoint, which turn out well. */
static void scored(const char *id)
{
	for (size_t i = 0; i < n_asked;) {
		char split[16] = "", weights[FILE_PATH_MAX] = "";
		json_get_str(asked[i].args, "split", split, sizeof(split), NULL);
		json_get_str(asked[i].args, "weights", weights, sizeof(weights), NULL);
		if (strcmp(asked[i].op, "evaluate") != 0 || !strstr(weights, id)) {
			i++;
			continue;
		}
		bool test = strcmp(split, "test") == 0;
		evaluated(id, test ? SPLIT_TEST : SPLIT_VALIDATION, test ? 8 : 18);
		i = 0;
	}
}

/* Whether the agent took up that result: a claim of its trainer is then answered so. */
static void assert_taken(const char *id)
{
	forget_sent();
	claim_by(edge, "edge-1", 1);
	assert_said(TRAINER "grant", "its result is here already");
	forget_sent();
	scored(id);
	assert_said(TRAINER "ack", id);
}

/* Its offer is granted, its result decided on, and the trainer knows. */
static char *whole_handover(const char *id)
{
	struct msg_result r = result(id, 1);
	struct msg_ack k = {.fence = 1};
	claim_by(edge, "edge-1", 0);
	assert_said(TRAINER "grant", "\"granted\":true");
	char *recorded = result_text(&r);
	play(DEVICE "in/offer", recorded);
	scored(id);
	assert_said(TRAINER "ack", id);
	strcpy(k.trainer, "edge-1");
	strcpy(k.checkpoint, id);
	say_signed(edge, DEVICE "in/ack", msg_ack_print(&k));
	forget_sent();
	return recorded;
}

/* ---- what it says ---- */

static void assert_is_signed(const char *topic, bool expected)
{
	const struct sent *s = last(topic);
	struct certificate c;
	assert_non_null(s);
	enum refusal r = signed_open(authority, ROLE_DEVICE, "cam-1", topic, s->payload, s->len,
				     utc(), &c, NULL);
	assert_int_equal(r, expected ? REFUSAL_NONE : REFUSAL_UNSIGNED);
}

static void what_it_says_is_signed(void **state)
{
	struct msg_offer m;
	assert_is_signed(DEVICE "offer", true);
	assert_is_signed(DEVICE "report", true);
	assert_non_null(strstr(last(DEVICE "report")->payload, "\"audit_head\":\""));
	assert_is_signed(DEVICE "status", false);
	assert_is_signed(DEVICE "presence", false);
	const struct sent *s = last(DEVICE "offer");
	assert_int_equal(msg_offer_parse(s->payload, s->len, &m, &err), 0);
	assert_int_equal(m.manifest.sequence, utc());
	assert_int_equal(m.manifest.expires_ms, utc() + FRESHNESS_HANDOVER_MS);
	claim_by(edge, "edge-1", 0);
	assert_is_signed(TRAINER "grant", true);
	struct msg_result r = result(first, 1);
	say_result(&r);
	scored(first);
	assert_is_signed(TRAINER "ack", true);
}

static int64_t sequence_offered(void)
{
	struct msg_offer m;
	const struct sent *s = last(DEVICE "offer");
	assert_non_null(s);
	assert_int_equal(msg_offer_parse(s->payload, s->len, &m, &err), 0);
	return m.manifest.sequence;
}

static void an_offer_keeps_its_number_and_the_next_one_has_a_larger(void **state)
{
	int64_t number = sequence_offered();
	forget_sent();
	now += 60000;
	agent_tick(a);
	assert_int_equal(sequence_offered(), number); /* repeated */
	now -= 500000; /* the clock is set back, and it starts anew */
	restart();
	assert_int_equal(sequence_offered(), number + 1);
	now += 500000;
	free(whole_handover(first));
	/* The same one again is another offer. */
	say_text(DEVICE "in/cmd", strdup("{\"cmd\":\"handover\",\"id\":\"h1\"}"));
	assert_said(DEVICE "offer", offered);
	assert_true(sequence_offered() > number + 1);
	claim_by(edge, "edge-1", 0);
	struct msg_result r = result(first, 2);
	say_result(&r);
	scored(first);
	number = r.manifest.sequence;
	forget_sent();
	for (uint64_t seed = 3; seed < 5; seed++) {
		trained(seed, offered);
		scored(offered);
	}
	scored(offered);
	assert_true(sequence_offered() > number);
}

/* ---- whom it believes ---- */

static void nobody_unsigned_is_heard(void **state)
{
	struct msg_result r = result(first, 1);
	forget_sent();
	claim(0, offered);
	assert_refused_as(REFUSAL_UNSIGNED, 0);
	assert_null(last(TRAINER "grant"));
	say_text(DEVICE "in/offer", msg_result_print(&r));
	assert_refused_as(REFUSAL_UNSIGNED, 1);
	say_text(FLEET, strdup("{\"sequence\":1}"));
	assert_refused_as(REFUSAL_UNSIGNED, 2);
	say_text(DEVICE "in/ack", strdup("{}"));
	assert_refused_as(REFUSAL_UNSIGNED, 3);
	/* Rubbish is not looked into either: it is refused for what it ends with. */
	say(DEVICE "in/claim", "\xff\xfe{", 3);
	assert_refused_as(REFUSAL_UNSIGNED, 4);
	assert_null(last(TRAINER "ack"));
	claim_by(edge, "edge-1", 0);
	assert_said(TRAINER "grant", "\"granted\":true");
}

static void only_trainers_are(void **state)
{
	forget_sent();
	claim_by(other_device, "edge-1", 0);
	assert_refused_as(REFUSAL_FOREIGN, 0);
	claim_by(eve, "edge-1", 0);
	assert_refused_as(REFUSAL_FOREIGN, 1);
	claim_by(edge_2, "edge-1", 0); /* a trainer in another one's name */
	assert_refused_as(REFUSAL_SIGNER, 0);
	assert_null(last(TRAINER "grant"));
	claim_by(edge, "edge-1", 0);
	struct msg_result r = result(first, 1);
	char *text = with(msg_result_print(&r), "root");
	say_signed(edge_2, DEVICE "in/offer", text);
	assert_refused_as(REFUSAL_SIGNER, 1);
	struct msg_ack k = {.trainer = "edge-1", .fence = 1};
	strcpy(k.checkpoint, offered);
	say_signed(edge_2, DEVICE "in/ack", msg_ack_print(&k));
	assert_refused_as(REFUSAL_SIGNER, 2);
}

static void one_who_was_revoked_is_not(void **state)
{
	struct identity_paths paths;
	long serial = pki_issue(&pki, ROLE_TRAINER, "edge-1", &paths);
	struct signer *stolen = NULL;
	assert_int_equal(signer_read(&paths, &stolen, &err), 0);
	forget_sent();
	claim_by(stolen, "edge-1", 0);
	assert_said(TRAINER "grant", "\"granted\":true");
	pki_revoke(&pki, ROLE_TRAINER, ROLE_TRAINER, &serial, 1, utc() - 1000, utc() + PKI_DAY_MS);
	forget_sent();
	claim_by(stolen, "edge-1", 1);
	assert_refused_as(REFUSAL_FOREIGN, 0);
	assert_null(last(TRAINER "grant"));
	claim_by(edge, "edge-1", 1); /* its new certificate */
	assert_said(TRAINER "grant", "\"granted\":true");
	signer_free(stolen);
}

/* 20,000 forged claims in a second: verified are no more than the limit, and honest ones are heard
 * again as soon as it is over. */
static void a_flood_of_forged_ones_is_cut(void **state)
{
	struct msg_claim c = {.trainer = "edge-1"};
	strcpy(c.checkpoint, offered);
	_cleanup_free_ char *text = signed_print(edge, "another topic", msg_claim_print(&c));
	for (int i = 0; i < 20000; i++) {
		play(DEVICE "in/claim", text);
		now += i % 20 == 0;
	}
	assert_true(agent_refused(a, REFUSAL_FORGED) < 1000);
	forget_sent();
	now += 100;
	claim_by(edge, "edge-1", 0);
	assert_said(TRAINER "grant", "\"granted\":true");
}

/* ---- attacks by who has recorded messages, or has a trainer's certificate ---- */

static void a_handover_that_is_over_cannot_be_played_again(void **state)
{
	_cleanup_free_ char *recorded = whole_handover(first);
	play(DEVICE "in/offer", recorded);
	assert_refused_as(REFUSAL_REPLAY, 0);
	restart();
	forget_sent();
	play(DEVICE "in/offer", recorded);
	assert_refused_as(REFUSAL_REPLAY, 0);
	assert_null(last(TRAINER "ack")); /* whoever plays it learns nothing */
}

/* Its checkpoint is on offer once more: a claim of before does not cost that offer a lease. */
static void a_claim_is_good_for_one_offer(void **state)
{
	struct msg_claim c = {.trainer = "edge-1", .sequence = offer_number};
	struct msg_grant g;
	strcpy(c.checkpoint, offered);
	_cleanup_free_ char *recorded =
		signed_print(edge, DEVICE "in/claim", with(msg_claim_print(&c), "seal"));
	c.sequence = 0;
	say_signed(edge, DEVICE "in/claim", with(msg_claim_print(&c), "seal"));
	assert_refused_as(REFUSAL_REPLAY, 0);
	for (int i = 0; i < 2; i++) {
		forget_sent();
		play(DEVICE "in/claim", recorded);
		assert_said(TRAINER "grant", "\"granted\":true,\"fence\":1");
	}
	now += 61000; /* the lease ends: offered again */
	agent_tick(a);
	assert_true(offer_number > 0 && last(DEVICE "offer"));
	forget_sent();
	play(DEVICE "in/claim", recorded);
	assert_refused_as(REFUSAL_REPLAY, 1);
	assert_null(last(TRAINER "grant"));
	/* Its trainer, which did not hear the new offer, is told of it. */
	claim_by(edge, "edge-1", 1);
	const struct sent *s = last(TRAINER "grant");
	assert_non_null(s);
	assert_int_equal(msg_grant_parse(s->payload, s->len, &g, &err), 0);
	assert_true(!g.granted && g.sequence == offer_number);
	restart();
	play(DEVICE "in/claim", recorded);
	assert_refused_as(REFUSAL_REPLAY, 0);
	claim_by(edge, "edge-1", 0);
	assert_said(TRAINER "grant", "\"granted\":true,\"fence\":2");
	/* Given back: what waits to be offered is another offer at once. */
	struct msg_claim busy = {.trainer = "edge-1", .busy = true, .fence = 2, .retry_ms = 60000};
	strcpy(busy.checkpoint, offered);
	c.sequence = offer_number;
	say_signed(edge, DEVICE "in/claim", msg_claim_print(&busy));
	forget_sent();
	say_signed(edge, DEVICE "in/claim", with(msg_claim_print(&c), "seal"));
	assert_refused_as(REFUSAL_REPLAY, 1);
	assert_null(last(TRAINER "grant"));
}

/* A trainer that has not heard the answer asks for it as often as it likes. */
static void an_honest_repetition_is_answered_again(void **state)
{
	struct msg_result r = result(first, 1);
	claim_by(edge, "edge-1", 0);
	say_result(&r);
	scored(first);
	for (int i = 0; i < 3; i++) {
		forget_sent();
		say_result(&r);
		assert_said(TRAINER "ack", "decision");
	}
	restart();
	forget_sent();
	r.manifest.sequence = next_sequence++; /* the trainer has started anew, too */
	say_result(&r);
	assert_said(TRAINER "ack", "decision");
	assert_int_equal(refused_in_all(), 0);
}

/* What was accepted is known before the swap: whatever happens in between. */
static void an_older_result_never_comes_back(void **state)
{
	struct msg_result old = result(first, 1), newer = result(first, 1);
	_cleanup_free_ char *recorded = result_text(&old);
	claim_by(edge, "edge-1", 0);
	memset(newer.manifest.id, 'e', HASH_HEX);
	say_result(&newer);
	play(DEVICE "in/offer", recorded);
	assert_refused_as(REFUSAL_ROLLBACK, 0);
	restart(); /* in the midst of it */
	play(DEVICE "in/offer", recorded);
	assert_refused_as(REFUSAL_ROLLBACK, 0);
	struct msg_result last_one = result(first, 1);
	say_result(&last_one);
	assert_taken(first);
	restart();
	play(DEVICE "in/offer", recorded);
	assert_true(agent_refused(a, REFUSAL_ROLLBACK) + agent_refused(a, REFUSAL_REPLAY) == 1);
}

static void one_that_was_held_back_is_not_taken(void **state)
{
	struct msg_result r = result(first, 1);
	_cleanup_free_ char *recorded = result_text(&r);
	claim_by(edge, "edge-1", 0);
	now += FRESHNESS_HANDOVER_MS + FRESHNESS_SKEW_MS + 1;
	forget_sent();
	play(DEVICE "in/offer", recorded);
	assert_refused_as(REFUSAL_FREEZE, 0);
	restart();
	forget_sent();
	play(DEVICE "in/offer", recorded);
	assert_refused_as(REFUSAL_FREEZE, 0);
	assert_null(last(TRAINER "ack")); /* nor does it end what goes on */
	r.manifest.expires_ms = 0;
	say_result(&r);
	assert_refused_as(REFUSAL_FREEZE, 1);
	r.manifest.expires_ms = utc() + 30 * FRESHNESS_HANDOVER_MS;
	say_result(&r);
	assert_refused_as(REFUSAL_FREEZE, 2);
}

static void parts_of_two_do_not_make_one(void **state)
{
	struct msg_result r = result(first, 1), other;
	claim_by(edge, "edge-1", 0);
	other = r;
	memset(other.manifest.parents[0], 'd', HASH_HEX); /* made of what was not handed over */
	say_result(&other);
	assert_refused_as(REFUSAL_MIXED, 0);
	memset(r.manifest.id, 'e', HASH_HEX);
	say_result(&r);
	other = r;
	strcpy(other.manifest.id, first); /* other weights under the number of these */
	say_result(&other);
	assert_refused_as(REFUSAL_MIXED, 1);
	restart();
	say_result(&other);
	assert_refused_as(REFUSAL_MIXED, 0);
}

static void what_is_another_devices_stays_there(void **state)
{
	struct msg_result r = result(first, 1);
	claim_by(edge, "edge-1", 0);
	strcpy(r.manifest.device, "cam-2");
	/* As it went to the other one: signed for its topic. */
	_cleanup_free_ char *recorded =
		signed_print(edge, "tasuki/v1/home/device/cam-2/in/offer", msg_result_print(&r));
	play(DEVICE "in/offer", recorded);
	assert_refused_as(REFUSAL_FORGED, 0);
	/* By a trainer that says it here. */
	say_result(&r);
	assert_refused_as(REFUSAL_DEVICE, 0);
	restart();
	say_result(&r);
	assert_refused_as(REFUSAL_DEVICE, 0);
	strcpy(r.manifest.device, "cam-1");
	say_result(&r);
	assert_taken(first);
}

static void what_is_another_models_is_not_taken(void **state)
{
	struct msg_result r = result(first, 1);
	claim_by(edge, "edge-1", 0);
	memset(r.manifest.model, 'a', HASH_HEX);
	say_result(&r);
	assert_refused_as(REFUSAL_MODEL, 0);
	restart();
	say_result(&r);
	assert_refused_as(REFUSAL_MODEL, 0);
	strcpy(r.manifest.model, model->id);
	say_result(&r);
	assert_taken(first);
}

/* A site is part of what is signed. */
static void what_is_another_sites_is_not_taken(void **state)
{
	struct msg_result r = result(first, 1);
	claim_by(edge, "edge-1", 0);
	_cleanup_free_ char *recorded =
		signed_print(edge, "tasuki/v1/mill/device/cam-1/in/offer", msg_result_print(&r));
	play(DEVICE "in/offer", recorded);
	assert_refused_as(REFUSAL_FORGED, 0);
}

/* ---- offers to the fleet ---- */

static struct msg_fleet fleet_of(const char *id, int64_t sequence)
{
	struct msg_fleet f = {.share = 100, .starts_in_ms = -1};
	f.manifest = result(id, 1).manifest;
	f.manifest.n_parents = 0;
	f.manifest.origin = ORIGIN_FLEET;
	strcpy(f.manifest.device, "edge-1");
	f.manifest.sequence = sequence;
	f.manifest.expires_ms = utc() + FRESHNESS_FLEET_MS;
	return f;
}

static char *fleet_text(const struct msg_fleet *f)
{
	return signed_print(edge, FLEET, with(msg_fleet_print(f), "root"));
}

static void offers_to_the_fleet_are_of_now(void **state)
{
	struct msg_fleet old = fleet_of(first, 100), f = fleet_of(first, 200);
	_cleanup_free_ char *recorded = fleet_text(&old);
	say_text(FLEET, fleet_text(&f));
	assert_int_equal(refused_in_all(), 0);
	say_text(FLEET, fleet_text(&f)); /* again, as it is retained */
	assert_int_equal(refused_in_all(), 0);
	play(FLEET, recorded);
	assert_true(agent_refused(a, REFUSAL_ROLLBACK) + agent_refused(a, REFUSAL_REPLAY) == 1);
	struct msg_fleet mixed = f;
	memset(mixed.manifest.id, 'e', HASH_HEX);
	say_text(FLEET, fleet_text(&mixed));
	assert_refused_as(REFUSAL_MIXED, 0);
	restart();
	say_text(FLEET, fleet_text(&mixed));
	assert_refused_as(REFUSAL_MIXED, 0);
	strcpy(old.manifest.id, offered);
	say_text(FLEET, fleet_text(&old));
	assert_refused_as(REFUSAL_ROLLBACK, 0);
	f = fleet_of(first, 300);
	f.manifest.expires_ms = 0;
	say_text(FLEET, fleet_text(&f));
	assert_refused_as(REFUSAL_FREEZE, 0);
	f = fleet_of(first, 300);
	_cleanup_free_ char *held = fleet_text(&f);
	now += FRESHNESS_FLEET_MS + FRESHNESS_SKEW_MS + 1;
	play(FLEET, held);
	assert_refused_as(REFUSAL_FREEZE, 1);
	f = fleet_of(first, 300);
	memset(f.manifest.model, 'a', HASH_HEX);
	say_text(FLEET, fleet_text(&f));
	assert_refused_as(REFUSAL_MODEL, 0);
	/* After it nobody's would be newer, also when its trainer has been revoked. */
	f = fleet_of(first, 50LL * 365 * 86400 + utc() / 1000);
	say_text(FLEET, fleet_text(&f));
	assert_true(agent_refused(a, REFUSAL_ROLLBACK) == 2);
	f = fleet_of(first, 300);
	strcpy(f.manifest.trainer, "edge-2");
	say_text(FLEET, fleet_text(&f));
	assert_refused_as(REFUSAL_SIGNER, 0);
}

/* ---- commands ---- */

static char *command(const char *id, int64_t expires_ms)
{
	struct msg_cmd c = {.cmd = CMD_PAUSE, .expires_ms = expires_ms};
	strcpy(c.id, id);
	return msg_cmd_print(&c);
}

static void commands_are_the_operators(void **state)
{
	static const char topic[] = DEVICE "in/cmd", reply[] = "tasuki/v1/home/reply/cam-1";
	conf.commands_signed = true;
	again();
	forget_sent();
	say_text(topic, command("c1", utc() + 1000));
	assert_refused_as(REFUSAL_UNSIGNED, 0);
	say_signed(edge, topic, command("c2", utc() + 1000));
	assert_refused_as(REFUSAL_FOREIGN, 0);
	assert_null(last(reply));
	say_signed(eve, topic, command("c3", 0));
	assert_refused_as(REFUSAL_FREEZE, 0);
	assert_said(reply, "expires");
	say_signed(eve, topic, command("c4", utc() + FRESHNESS_COMMAND_MS + FRESHNESS_SKEW_MS + 1));
	assert_refused_as(REFUSAL_FREEZE, 1);
	say_signed(eve, topic, command("c5", utc() - FRESHNESS_SKEW_MS - 1));
	assert_refused_as(REFUSAL_FREEZE, 2);
	say_signed(eve, topic, command("c6", utc() + 1000));
	assert_said(reply, "\"id\":\"c6\",\"ok\":true");
	/* Else the broker says who may, as ever. */
	conf.commands_signed = false;
	again();
	forget_sent();
	say_text(topic, command("c7", 0));
	assert_said(reply, "\"id\":\"c7\",\"ok\":true");
}

/* Its answer is forgotten with the 64th one after it; that it was carried out is not, while its
 * time lasts. */
static void a_recorded_command_is_not_carried_out_again(void **state)
{
	static const char topic[] = DEVICE "in/cmd", reply[] = "tasuki/v1/home/reply/cam-1";
	struct msg_cmd c = {.cmd = CMD_PAUSE, .id = "old", .expires_ms = utc() + 3600000};
	_cleanup_free_ char *recorded = signed_print(eve, topic, msg_cmd_print(&c));
	conf.commands_signed = true;
	again();
	play(topic, recorded);
	assert_said(reply, "\"id\":\"old\",\"ok\":true");
	c.cmd = CMD_RESUME;
	for (int i = 0; i < 64; i++) {
		snprintf(c.id, sizeof(c.id), "c%d", i);
		c.expires_ms = utc() + 1000;
		say_signed(eve, topic, msg_cmd_print(&c));
		now += 1000;
	}
	for (int i = 0; i < 2; i++) {
		forget_sent();
		play(topic, recorded);
		assert_said(reply, "\"ok\":false,\"error\":\"replay");
		assert_refused_as(REFUSAL_REPLAY, 0);
		restart();
		assert_said(DEVICE "status", "\"phase\":\"");
		assert_null(strstr(last(DEVICE "status")->payload, "paused"));
	}
}

/* ---- its own certificate ---- */

static int begin_with(const struct identity_paths *paths)
{
	agent_free(a);
	a = NULL;
	conf.identity = *paths;
	err = (struct err){0};
	return begin();
}

static void a_bad_certificate_of_its_own_ends_the_start(void **state)
{
	struct identity_paths good = conf.identity, bad;
	long serial;
	pki_issue_for(&pki, ROLE_DEVICE, "cam-1", utc() - 2 * PKI_DAY_MS, utc() - PKI_DAY_MS, &bad);
	assert_int_equal(begin_with(&bad), -EKEYEXPIRED);
	assert_non_null(strstr(err.text, bad.certificate));
	pki_issue(&pki, ROLE_TRAINER, "cam-1", &bad);
	assert_int_equal(begin_with(&bad), -EKEYREJECTED);
	assert_non_null(strstr(err.text, "device"));
	serial = pki_issue(&pki, ROLE_DEVICE, "cam-1", &bad);
	strcpy(bad.key, good.key);
	assert_int_equal(begin_with(&bad), -EINVAL);
	assert_non_null(strstr(err.text, good.key));
	pki_revoke(&pki, ROLE_DEVICE, ROLE_DEVICE, &serial, 1, utc() - 1000, utc() + PKI_DAY_MS);
	pki_issue(&pki, ROLE_DEVICE, "cam-1", &good);
	assert_int_equal(begin_with(&good), 0);
}

static void in_plain_mode_nothing_is_different(void **state)
{
	conf.identity = (struct identity_paths){0};
	again();
	until_offered(offered);
	assert_null(strstr(last(DEVICE "offer")->payload, "signature"));
	assert_null(strstr(last(DEVICE "offer")->payload, "sequence"));
	assert_null(strstr(last(DEVICE "offer")->payload, "expires"));
	claim(0, offered);
	assert_said(TRAINER "grant", "\"granted\":true");
	assert_int_equal(refused_in_all(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SIGNED(what_it_says_is_signed),
		SIGNED(an_offer_keeps_its_number_and_the_next_one_has_a_larger),
		SIGNED(nobody_unsigned_is_heard),
		SIGNED(only_trainers_are),
		SIGNED(one_who_was_revoked_is_not),
		SIGNED(a_flood_of_forged_ones_is_cut),
		SIGNED(a_handover_that_is_over_cannot_be_played_again),
		SIGNED(a_claim_is_good_for_one_offer),
		SIGNED(an_honest_repetition_is_answered_again),
		SIGNED(an_older_result_never_comes_back),
		SIGNED(one_that_was_held_back_is_not_taken),
		SIGNED(parts_of_two_do_not_make_one),
		SIGNED(what_is_another_devices_stays_there),
		SIGNED(what_is_another_models_is_not_taken),
		SIGNED(what_is_another_sites_is_not_taken),
		SIGNED(offers_to_the_fleet_are_of_now),
		SIGNED(commands_are_the_operators),
		SIGNED(a_recorded_command_is_not_carried_out_again),
		SIGNED_PLAIN(a_bad_certificate_of_its_own_ends_the_start),
		SIGNED_PLAIN(in_plain_mode_nothing_is_different),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A checkpoint for everyone that is sealed, on a device: the key asked for and given, what is not
 * its key, and what somebody who has the key can do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it, and the rig's names are not to be known in pki_util.h. */
#include <cmocka.h>

#include "tests/unit/pki_util.h"

#include "tests/unit/agent_rig.h"

#include <sys/stat.h>

#include "common/base/hex.h"
#include "common/transfer/sealing.h"
#include "common/trust/sitekey.h"
#include "device-agent/agent_impl.h"

#define FLEET "tasuki/v1/home/fleet/"

static const uint8_t key[SEAL_KEY] = "known to all devices of the site";
static const uint8_t other_key[SEAL_KEY] = "of the sequence before this one.";
static struct seal *sealer;
static struct proof proof;
static char weights[FILE_PATH_MAX];

static struct pki pki;
static struct signer *edge_1, *edge_2, *cam_2;

static struct signer *who(enum role role, const char *name)
{
	struct identity_paths paths;
	struct signer *s;
	pki_issue(&pki, role, name, &paths);
	assert_int_equal(signer_read(&paths, &s, &err), 0);
	return s;
}

static int setup_sealed(void **state)
{
	if (setup(state) < 0 || seal_new(&sealer) < 0)
		return -1;
	pki_init(&pki, dir);
	edge_1 = who(ROLE_TRAINER, "edge-1");
	edge_2 = who(ROLE_TRAINER, "edge-2");
	cam_2 = who(ROLE_DEVICE, "cam-2");
	pki_issue(&pki, ROLE_DEVICE, "cam-1", &conf.identity);
	again();
	return 0;
}

static int teardown_sealed(void **state)
{
	signer_free(edge_1);
	signer_free(edge_2);
	signer_free(cam_2);
	pki_done(&pki);
	proof_done(&proof);
	seal_free(sealer);
	return teardown(state);
}

static struct msg_fleet offer_of(uint64_t seed, int64_t sequence)
{
	struct msg_fleet f = fleet_offer_of(seed, sequence, weights);
	f.starts_in_ms = 13000;
	assert_int_equal(proof_root(&proof, weights, &f.manifest, NULL), 0);
	return f;
}

static void tell(const struct msg_fleet *f, bool retained)
{
	struct msg_fleet said = *f;
	said.manifest.expires_ms = fake_real(NULL) + 60000;
	char *text = signed_print(edge_1, FLEET "offer", msg_fleet_print(&said));
	struct mqtt_message m = {
		.topic = FLEET "offer", .payload = text, .len = strlen(text), .retained = retained};
	agent_message(a, &m);
	free(text);
}

static void later(int64_t ms)
{
	now += ms;
	agent_tick(a);
}

/* Block i as it travels, under that key. */
static uint32_t sealed(const struct msg_fleet *f, uint32_t i, const uint8_t *with, uint8_t *wire)
{
	uint32_t len = 0;
	assert_int_equal(sealing_read_block(sealer, with, &proof, weights, &f->manifest, i, wire,
					    &len, NULL),
			 0);
	return len;
}

static void say_block(const struct msg_fleet *f, uint32_t i, bool to_all, const void *p, size_t len)
{
	char topic[TOPIC_SIZE];
	snprintf(topic, sizeof(topic), "%s/%s/%u", to_all ? FLEET "block" : DEVICE "in/block",
		 f->manifest.id, i);
	say(topic, p, len);
}

static void block(const struct msg_fleet *f, uint32_t i, bool to_all, const uint8_t *with)
{
	static uint8_t wire[SEALING_BLOCK_MAX];
	say_block(f, i, to_all, wire, sealed(f, i, with, wire));
}

/* The last wish for a key. */
static struct msg_key wish(void)
{
	struct msg_key m;
	const struct sent *s = last(TRAINER "key");
	assert_non_null(s);
	assert_int_equal(msg_key_parse(s->payload, s->len, &m, &err), 0);
	assert_string_equal(m.trainer, "edge-1");
	assert_string_equal(m.key, "");
	return m;
}

static struct msg_key answer_to(const struct msg_key *w, const char *device, const char *trainer,
				int64_t sequence, const uint8_t *with)
{
	const struct sitekey_way way = {"home", device, trainer, sequence};
	struct msg_key m = {.sequence = sequence};
	snprintf(m.trainer, sizeof(m.trainer), "%s", trainer);
	assert_int_equal(sitekey_wrap(&way, w->seal, with, m.seal, m.key), 0);
	return m;
}

static void say_key(const struct signer *by, const struct msg_key *m)
{
	say_text(DEVICE "in/key", signed_print(by, DEVICE "in/key", msg_key_print(m)));
}

static void answer_key(const struct msg_key *w, int64_t sequence)
{
	struct msg_key m = answer_to(w, "cam-1", "edge-1", sequence, key);
	say_key(edge_1, &m);
}

static void assert_subscribed(const char *id)
{
	char filter[TOPIC_SIZE] = "";
	if (*id)
		snprintf(filter, sizeof(filter), FLEET "block/%s/+", id);
	assert_string_equal(subscribed, filter);
}

/* Whether a text is in the state file, and that it is nobody else's to read then. */
static bool in_state(const uint8_t *k)
{
	char path[FILE_PATH_MAX], hex[2 * SEAL_KEY + 1];
	_cleanup_free_ char *text = NULL;
	size_t len;
	struct stat st;
	hex_print(k, SEAL_KEY, hex);
	file_path(path, sizeof(path), "%s/state.json", conf.state);
	assert_int_equal(file_read(path, STATE_BYTES_MAX, &text, &len, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	bool there = strstr(text, hex);
	assert_true(!there || (st.st_mode & 07777) == 0600);
	return there;
}

/* Takes an offer up, asks for its key and gets it. */
static struct msg_fleet with_key(uint64_t seed, int64_t sequence)
{
	struct msg_fleet f = offer_of(seed, sequence);
	tell(&f, false);
	later(13000);
	struct msg_key w = wish();
	answer_key(&w, sequence);
	assert_subscribed(f.manifest.id);
	return f;
}

/* Asked for before the blocks come, kept until all of them are here. */
static void test_asked_kept_and_forgotten(void **state)
{
	struct msg_fleet f = offer_of(50, 9);
	int64_t asked_after_ms = 0;
	tell(&f, false);
	assert_subscribed("");
	for (; !last(TRAINER "key"); asked_after_ms += 100)
		later(100);
	assert_true(asked_after_ms <= 10100); /* of 13 s, the last three left for the answer */
	struct msg_key w = wish();
	assert_int_equal(w.sequence, 9);
	assert_subscribed("");
	answer_key(&w, 9);
	assert_subscribed(f.manifest.id);
	assert_true(in_state(key));
	forget_sent();
	answer_key(&w, 9); /* once more: no news */
	block(&f, 0, true, key);
	block(&f, 1, true, key);
	assert_subscribed("");
	assert_false(in_state(key));
	assert_null(last(TRAINER "key"));
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(f.manifest.id);
	assert_int_equal(a->n_refused, 0);
}

/* Until it is there, with back-off; an answer to any of the wishes is good. */
static void test_asked_again(void **state)
{
	struct msg_fleet f = offer_of(50, 9);
	unsigned n = 0;
	tell(&f, false);
	later(13000);
	struct msg_key first = wish();
	for (int i = 0; i < 600; i++) {
		forget_sent();
		later(1000);
		if (last(TRAINER "key")) {
			n++;
			assert_string_equal(wish().seal, first.seal);
		}
		assert_null(last(TRAINER "want"));
	}
	assert_in_range(n, 10, 20); /* ten minutes, a minute at most between two */
	answer_key(&first, 9);
	assert_subscribed(f.manifest.id);
	later(20000); /* what was sent meanwhile is pulled */
	assert_non_null(last(TRAINER "want"));
	block(&f, 0, false, key);
	block(&f, 1, false, key);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(f.manifest.id);
}

/* An offer that the broker had kept: its blocks have been sent, so there is time. */
static void test_asked_at_random(void **state)
{
	unsigned early = 0;
	for (int i = 0; i < 40; i++) {
		struct msg_fleet f = offer_of(50, 9 + i);
		f.spread_ms = 23000;
		forget_sent();
		tell(&f, true);
		later(10000);
		early += last(TRAINER "key") != NULL;
		later(10100);
		assert_non_null(last(TRAINER "key"));
	}
	assert_in_range(early, 5, 35);
}

static void refused(const struct signer *by, const struct msg_key *m, uint64_t *n)
{
	say_key(by, m);
	assert_subscribed("");
	assert_int_equal(a->n_refused, ++*n);
}

static void test_what_is_not_its_key(void **state)
{
	struct msg_fleet f = offer_of(50, 9);
	uint64_t n = 0;
	tell(&f, false);
	later(13000);
	struct msg_key w = wish(), m;
	m = answer_to(&w, "cam-1", "edge-2", 9, key); /* another trainer's than the offer's */
	refused(edge_2, &m, &n);
	refused(edge_1, &m, &n); /* in whose name it does not sign */
	assert_int_equal(trust_refused(a->trust, REFUSAL_SIGNER), 1);
	m = answer_to(&w, "cam-1", "edge-1", 9, key);
	refused(cam_2, &m, &n); /* a device's signature is no trainer's */
	assert_int_equal(trust_refused(a->trust, REFUSAL_FOREIGN), 1);
	say_text(DEVICE "in/key", msg_key_print(&m)); /* nobody's */
	assert_int_equal(a->n_refused, ++n);
	assert_int_equal(trust_refused(a->trust, REFUSAL_UNSIGNED), 1);
	m = answer_to(&w, "cam-1", "edge-1", 8, key); /* another sequence's */
	refused(edge_1, &m, &n);
	strcpy(m.key, "");
	m.sequence = 9;
	refused(edge_1, &m, &n);
	m = answer_to(&w, "cam-2", "edge-1", 9, key); /* another device's */
	refused(edge_1, &m, &n);
	m = answer_to(&w, "cam-1", "edge-1", 9, key);
	m.key[50] = m.key[50] == '0' ? '1' : '0';
	refused(edge_1, &m, &n);
	struct seal_pair another;
	assert_int_equal(seal_pair_new(&another), 0);
	struct msg_key theirs = w;
	hex_print(another.public, SEAL_KEY, theirs.seal);
	m = answer_to(&theirs, "cam-1", "edge-1", 9, key); /* to another wish */
	refused(edge_1, &m, &n);
	assert_false(in_state(key));
	answer_key(&w, 9);
	assert_subscribed(f.manifest.id);
	/* Nothing is on offer. */
	f.halted = true;
	tell(&f, false);
	m = answer_to(&w, "cam-1", "edge-1", 10, key);
	refused(edge_1, &m, &n);
}

static void test_killed(void **state)
{
	char filter[MQTT_TOPIC_MAX];
	struct msg_fleet f = offer_of(50, 9);
	bool retained;
	int qos;
	tell(&f, false);
	later(13000);
	struct msg_key before = wish();
	restart(); /* with the wish, its pair is gone */
	assert_int_equal(agent_filter(a, AGENT_FILTERS - 1, filter, &qos, &retained), -ENOENT);
	later(10000);
	struct msg_key w = wish();
	assert_string_not_equal(w.seal, before.seal);
	answer_key(&before, 9);
	assert_subscribed("");
	answer_key(&w, 9);
	assert_subscribed(f.manifest.id);
	block(&f, 1, true, key);
	restart(); /* with the key */
	assert_int_equal(agent_filter(a, AGENT_FILTERS - 1, filter, &qos, &retained), 0);
	later(60000);
	assert_null(last(TRAINER "key"));
	block(&f, 0, false, key);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(f.manifest.id);
	assert_false(in_state(key));
}

/* Any device has the key, and without an ACL may write there: what it makes is refused, counted,
 * and holds nothing up. */
static void test_forged_with_the_key(void **state)
{
	static uint8_t wire[SEALING_BLOCK_MAX], forged[SEALING_BLOCK_MAX];
	char own[HASH_SIZE];
	trained(1, own);
	evaluated(own, SPLIT_VALIDATION, 1);
	struct msg_fleet f = with_key(50, 9);
	uint8_t aad[HASH_HEX + 4] = {0};
	memcpy(aad, f.manifest.id, HASH_HEX);
	uint32_t len = sealed(&f, 0, key, wire) - SEAL_OVERHEAD;
	assert_int_equal(open_block(sealer, key, aad, sizeof(aad), wire, len + SEAL_OVERHEAD,
				    forged + SEAL_NONCE),
			 0);
	block(&f, 1, true, key);
	for (unsigned i = 0; i < 20; i++) { /* whichever bit of path or data */
		forged[SEAL_NONCE + i * (len - 1) / 19] ^= 0x10;
		memcpy(wire, forged, sizeof(wire));
		assert_int_equal(
			seal_block(sealer, key, aad, sizeof(aad), wire + SEAL_NONCE, len, wire), 0);
		say_block(&f, 0, true, wire, len + SEAL_OVERHEAD);
		assert_int_equal(a->n_refused, i + 1);
		assert_int_equal(trust_refused(a->trust, REFUSAL_BLOCK), i + 1);
		assert_int_equal(a->fleet.part.xfer.n_held, 1);
	}
	/* While that goes on, and what came before comes again, the rest is asked for. */
	forget_sent();
	for (int i = 0; i < 20; i++) {
		later(1000);
		say_block(&f, 0, true, wire, len + SEAL_OVERHEAD);
		block(&f, 1, true, key);
	}
	assert_non_null(last(TRAINER "want"));
	block(&f, 0, false, key);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(f.manifest.id);
}

static void test_forged_without_it(void **state)
{
	static uint8_t wire[SEALING_BLOCK_MAX];
	struct msg_fleet f = with_key(50, 9);
	uint8_t plain[1024];
	uint32_t len, n = 0;
	assert_int_equal(
		part_read_block(weights, (uint64_t)f.manifest.size, 1024, 0, plain, &len, NULL), 0);
	say_block(&f, 0, true, plain, len);
	block(&f, 0, true, other_key);
	n = 2;
	len = sealed(&f, 0, key, wire);
	say_block(&f, 1, true, wire, len); /* another's place */
	n++;
	for (uint32_t i = 0; i < len; i += 13, n++) {
		wire[i] ^= 1;
		say_block(&f, 0, true, wire, len);
		wire[i] ^= 1;
	}
	assert_int_equal(a->n_refused, n);
	assert_int_equal(trust_refused(a->trust, REFUSAL_UNSEALED), 1);
	assert_int_equal(trust_refused(a->trust, REFUSAL_BLOCK), n - 1);
	assert_int_equal(a->fleet.part.xfer.n_held, 0);
	block(&f, 0, true, key);
	block(&f, 1, true, key);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(f.manifest.id);
}

/* The key goes with what it is for. */
static void test_over(void **state)
{
	struct msg_fleet f = with_key(50, 9);
	assert_true(in_state(key));
	struct msg_fleet g = offer_of(51, 10);
	tell(&g, false);
	assert_false(in_state(key));
	later(13000);
	struct msg_key w = wish();
	assert_int_equal(w.sequence, 10);
	answer_key(&w, 10);
	assert_true(in_state(key));
	g.halted = true;
	tell(&g, false);
	assert_false(in_state(key));
	assert_subscribed("");
	forget_sent();
	later(60000);
	assert_null(last(TRAINER "key"));
	/* What is here already needs none. */
	f = with_key(52, 11);
	block(&f, 0, true, key);
	block(&f, 1, true, key);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	forget_sent();
	f.manifest.sequence = 12;
	tell(&f, false);
	later(60000);
	assert_null(last(TRAINER "key"));
}

/* Nothing would prove its blocks. */
static void test_no_root(void **state)
{
	struct msg_fleet f = offer_of(50, 9);
	f.manifest.root[0] = 0;
	tell(&f, false);
	assert_int_equal(a->n_refused, 1);
	later(60000);
	assert_null(last(TRAINER "key"));
	assert_subscribed("");
}

static void test_no_disk_for_the_key(void **state)
{
	struct msg_fleet f = offer_of(50, 9);
	tell(&f, false);
	later(13000);
	struct msg_key w = wish();
	limit_files(10);
	answer_key(&w, 9);
	limit_files(RLIM_INFINITY);
	assert_subscribed("");
	forget_sent();
	later(60000);
	w = wish();
	answer_key(&w, 9);
	assert_subscribed(f.manifest.id);
}

#define S(f) cmocka_unit_test_setup_teardown(f, setup_sealed, teardown_sealed)

int main(void)
{
	const struct CMUnitTest tests[] = {
		S(test_asked_kept_and_forgotten), S(test_asked_again), S(test_asked_at_random),
		S(test_what_is_not_its_key),      S(test_killed),      S(test_forged_with_the_key),
		S(test_forged_without_it),        S(test_over),        S(test_no_root),
		S(test_no_disk_for_the_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

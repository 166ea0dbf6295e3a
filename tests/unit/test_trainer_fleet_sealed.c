/* A checkpoint for everyone that is sealed, at the trainer: its key, who gets it and how often, and
 * that each block proves itself. The devices are played by the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it, and the rig's names are not to be known in pki_util.h. */
#include <cmocka.h>

#include "tests/unit/pki_util.h"

#include "tests/unit/trainer_fixture.h"

#include <sys/stat.h>

#include "common/base/hex.h"
#include "common/crypto/merkle.h"
#include "common/transfer/sealing.h"
#include "common/trust/signed.h"
#include "common/trust/sitekey.h"

#define N_BLOCKS  ((uint32_t)((f.model->file_bytes + BLOCK - 1) / BLOCK))
#define CENSUS_MS 3000 /* fleet.c */
#define KEYS_MAX  400  /* site_key.c: at once, and a second */

static struct seal *opener;
static struct pki pki;
static struct identity_paths identity; /* the trainer's */

static struct signer *who(enum role role, const char *name, long *ret_serial)
{
	struct identity_paths paths;
	struct signer *s;
	long serial = pki_issue(&pki, role, name, &paths);

	assert_int_equal(signer_read(&paths, &s, NULL), 0);
	if (ret_serial)
		*ret_serial = serial;
	return s;
}

static char *signed_by(const struct signer *s, enum topic_kind kind, const char *device, char *text)
{
	struct topic t = {.kind = kind, .trainer = "edge-1"};
	char topic[TOPIC_SIZE];

	strcpy(t.device, device);
	assert_int_equal(topic_format(topic, "home", &t), 0);
	return signed_print(s, topic, text);
}

static void say_wish_of(const struct signer *s, const char *device, char *text)
{
	say(TOPIC_TRAINER_KEY, device, signed_by(s, TOPIC_TRAINER_KEY, device, text));
}

static void say_wish(const char *device, char *text)
{
	struct signer *s = who(ROLE_DEVICE, device, NULL);

	say_wish_of(s, device, text);
	signer_free(s);
}

static void publish(char mark, char id[HASH_SIZE])
{
	char path[FILE_PATH_MAX];

	other_weights(mark);
	strcpy(id, f.id);
	snprintf(path, sizeof(path), "%s/publish", f.dir);
	assert_int_equal(file_mkdirs(path, NULL), 0);
	snprintf(path, sizeof(path), "%s/publish/%s.weights", f.dir, f.id);
	assert_int_equal(file_write(path, f.weights, f.model->file_bytes, NULL), 0);
	tick(CENSUS_MS);
}

static void known(int i)
{
	char name[16];

	snprintf(name, sizeof(name), "cam-%d", i);
	say(TOPIC_DEVICE_PRESENCE, name,
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
}

static struct msg_fleet last_offer(void)
{
	const struct sent *s, *last = NULL;
	struct msg_fleet o = {0};

	f.read = 0;
	while ((s = next(TOPIC_FLEET_OFFER)))
		last = s;
	if (last)
		assert_int_equal(msg_fleet_parse(last->payload, last->len, &o, NULL), 0);
	return o;
}

static void forget_sent(void)
{
	while (f.n_sent)
		free(f.sent[--f.n_sent].payload);
	f.read = 0;
}

static struct msg_key wish_of(const struct seal_pair *pair, int64_t sequence)
{
	struct msg_key w = {.sequence = sequence};

	strcpy(w.trainer, f.conf.id);
	hex_print(pair->public, SEAL_KEY, w.seal);
	return w;
}

static unsigned answers(void)
{
	unsigned n = 0;

	f.read = 0;
	while (next(TOPIC_DEVICE_KEY))
		n++;
	return n;
}

/* Asks as a device does; whether it gets the key. */
static bool ask(const char *device, int64_t sequence, uint8_t key[SEAL_KEY])
{
	const struct sitekey_way way = {"home", device, f.conf.id, sequence};
	struct seal_pair pair;
	struct msg_key w, k;
	const struct sent *s;

	assert_int_equal(seal_pair_new(&pair), 0);
	w = wish_of(&pair, sequence);
	forget_sent();
	say_wish(device, msg_key_print(&w));
	s = next(TOPIC_DEVICE_KEY);
	if (!s)
		return false;
	assert_string_equal(s->topic.device, device);
	assert_int_equal(msg_key_parse(s->payload, s->len, &k, NULL), 0);
	assert_string_equal(k.trainer, f.conf.id);
	assert_int_equal(k.sequence, sequence);
	assert_int_equal(sitekey_unwrap(&way, &pair, k.seal, k.key, key), 0);
	return true;
}

/* Opens and proves what was sent of that kind; returns how many blocks. */
static unsigned opened(enum topic_kind kind, const struct msg_fleet *o, const uint8_t *key)
{
	static uint8_t plain[SEALING_BLOCK_MAX];
	const struct manifest *m = &o->manifest;
	const struct sent *s;
	unsigned n = 0;

	f.read = 0;
	for (; (s = next(kind)); n++) {
		uint32_t i = s->topic.block;
		uint8_t aad[HASH_HEX + 4] = {0};
		size_t path = merkle_path_len(i, N_BLOCKS), len = s->len - SEAL_OVERHEAD - path;

		assert_string_equal(s->topic.checkpoint, m->id);
		memcpy(aad, m->id, HASH_HEX);
		aad[HASH_HEX + 3] = (uint8_t)i;
		assert_int_equal(open_block(opener, key, aad, sizeof(aad), (void *)s->payload,
					    s->len, plain),
				 0);
		assert_int_equal(merkle_verify(m->root, i, N_BLOCKS, plain, plain + path, len), 0);
		assert_memory_equal(plain + path, f.weights + (size_t)i * BLOCK, len);
	}
	return n;
}

/* Whether fleet.json has that key, and that it is nobody else's to read then. */
static bool in_file(const uint8_t *key)
{
	char path[FILE_PATH_MAX], hex[2 * SEAL_KEY + 1];
	_cleanup_free_ char *text = NULL;
	struct stat st;
	size_t len;
	bool there;

	hex_print(key, SEAL_KEY, hex);
	snprintf(path, sizeof(path), "%s/fleet.json", f.dir);
	assert_int_equal(file_read(path, 1 << 20, &text, &len, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	there = strstr(text, hex);
	assert_true(!there || (st.st_mode & 07777) == 0600);
	return there;
}

static int set_up_sealed(void **state)
{
	if (set_up(state) < 0 || seal_new(&opener) < 0)
		return -1;
	f.conf.rollout = (struct rollout_conf){.share = 100, .reports = 1, .wait_ms = 3600000};
	f.conf.fleet_spread_ms = 5000;
	pki_init(&pki, f.dir);
	pki_issue(&pki, ROLE_TRAINER, "edge-1", &identity);
	f.conf.identity = identity;
	kill_and_reopen();
	return 0;
}

static int tear_down_sealed(void **state)
{
	seal_free(opener);
	pki_done(&pki);
	return tear_down(state);
}

static void test_sealed(void **state)
{
	uint8_t key[SEAL_KEY];
	char id[HASH_SIZE];
	struct msg_fleet o;

	(void)state;
	publish(1, id);
	o = last_offer();
	assert_true(hash_valid(o.manifest.root));
	assert_true(ask("cam-1", o.manifest.sequence, key));
	assert_true(in_file(key));
	tick(o.starts_in_ms);
	assert_int_equal(opened(TOPIC_FLEET_BLOCK, &o, key), N_BLOCKS);
	forget_sent();
	known(1);
	struct msg_want w = {.n_blocks = 2, .blocks = {1, 0}};
	strcpy(w.checkpoint, id);
	say(TOPIC_TRAINER_WANT, "cam-1", msg_want_print(&w));
	assert_int_equal(opened(TOPIC_DEVICE_BLOCK, &o, key), 2);
}

/* A key for each sequence, the same until then. */
static void test_a_key_a_sequence(void **state)
{
	uint8_t first[SEAL_KEY], again[SEAL_KEY], second[SEAL_KEY];
	char id[HASH_SIZE];
	struct msg_fleet o, p;

	(void)state;
	publish(1, id);
	o = last_offer();
	assert_true(ask("cam-1", o.manifest.sequence, first));
	kill_and_reopen();
	p = last_offer();
	assert_int_equal(p.manifest.sequence, o.manifest.sequence);
	assert_string_equal(p.manifest.root, o.manifest.root);
	assert_true(ask("cam-2", o.manifest.sequence, again));
	assert_memory_equal(first, again, SEAL_KEY);
	tick(p.starts_in_ms);
	assert_int_equal(opened(TOPIC_FLEET_BLOCK, &o, first), N_BLOCKS);
	publish(2, id);
	p = last_offer();
	assert_true(p.manifest.sequence > o.manifest.sequence);
	assert_false(ask("cam-1", o.manifest.sequence, again));
	assert_true(ask("cam-1", p.manifest.sequence, second));
	assert_memory_not_equal(first, second, SEAL_KEY);
	assert_false(in_file(first));
	assert_true(in_file(second));
}

static void test_who_gets_none(void **state)
{
	struct seal_pair pair;
	uint8_t key[SEAL_KEY];
	char id[HASH_SIZE];
	struct msg_key w;

	(void)state;
	assert_false(ask("cam-1", 7, key)); /* nothing is on offer */
	publish(1, id);
	assert_int_equal(seal_pair_new(&pair), 0);
	int64_t sequence = last_offer().manifest.sequence;
	forget_sent();
	w = wish_of(&pair, sequence + 1);
	say_wish("cam-1", msg_key_print(&w));
	w = wish_of(&pair, sequence);
	strcpy(w.trainer, "edge-9");
	say_wish("cam-1", msg_key_print(&w));
	w = wish_of(&pair, sequence);
	memset(w.key, '0', sizeof(w.key) - 1);
	say_wish("cam-1", msg_key_print(&w));
	w = wish_of(&pair, sequence);
	memset(w.seal, '0', HASH_HEX); /* a point of small order */
	say_wish("cam-1", msg_key_print(&w));
	say_wish("cam-1", strdup("{\"trainer\":\"edge-1\"}"));
	assert_int_equal(answers(), 0);
	assert_true(ask("cam-1", sequence, key));
}

/* Whoever is not who he says, and who is not one of us any more. */
static void test_signatures(void **state)
{
	struct seal_pair pair;
	uint8_t key[SEAL_KEY];
	char id[HASH_SIZE];
	long serial;
	struct signer *cam_1 = who(ROLE_DEVICE, "cam-1", &serial);
	struct signer *cam_2 = who(ROLE_DEVICE, "cam-2", NULL);
	struct signer *edge_2 = who(ROLE_TRAINER, "edge-2", NULL);

	(void)state;
	publish(1, id);
	assert_int_equal(seal_pair_new(&pair), 0);
	struct msg_key w = wish_of(&pair, last_offer().manifest.sequence);
	forget_sent();
	say(TOPIC_TRAINER_KEY, "cam-1", msg_key_print(&w)); /* nobody */
	say_wish_of(cam_2, "cam-1", msg_key_print(&w));
	say_wish_of(edge_2, "cam-1", msg_key_print(&w));
	say(TOPIC_TRAINER_KEY, "cam-2", /* of another's topic */
	    signed_by(cam_1, TOPIC_TRAINER_KEY, "cam-1", msg_key_print(&w)));
	assert_int_equal(answers(), 0);
	say_wish_of(cam_1, "cam-1", msg_key_print(&w));
	assert_int_equal(answers(), 1);
	pki_revoke(&pki, ROLE_DEVICE, ROLE_DEVICE, &serial, 1, 1700000000000, 4102444800000);
	forget_sent();
	say_wish_of(cam_1, "cam-1", msg_key_print(&w));
	assert_int_equal(answers(), 0);
	assert_true(ask("cam-2", w.sequence, key));
	signer_free(cam_1);
	signer_free(cam_2);
	signer_free(edge_2);
}

/* A fleet that asks at once: some are answered, the others ask again. */
static void test_flood(void **state)
{
	struct seal_pair pair;
	char id[HASH_SIZE], name[16];
	struct msg_fleet o;
	struct msg_key w;

	(void)state;
	publish(1, id);
	o = last_offer();
	forget_sent();
	assert_int_equal(seal_pair_new(&pair), 0);
	w = wish_of(&pair, o.manifest.sequence);
	for (int i = 0; i < KEYS_MAX + 50; i++) {
		snprintf(name, sizeof(name), "cam-%d", i);
		say_wish(name, msg_key_print(&w));
	}
	assert_int_equal(answers(), KEYS_MAX);
	tick(500);
	for (int k = 0; k < 4; k++) {
		snprintf(name, sizeof(name), "cam-%d", k);
		struct signer *s = who(ROLE_DEVICE, name, NULL);
		for (int i = 0; i < KEYS_MAX; i++)
			say_wish_of(s, name, msg_key_print(&w));
		signer_free(s);
		if (k == 0) /* one has what its rate allows, and leaves the rest to the others */
			assert_true(answers() < KEYS_MAX + 120);
	}
	assert_int_equal(answers(), KEYS_MAX + KEYS_MAX / 2);
}

/* Where there are many to ask, they are told earlier. */
static void test_time_to_ask(void **state)
{
	char id[HASH_SIZE];
	struct msg_fleet o;

	(void)state;
	publish(1, id);
	o = last_offer();
	assert_int_equal(o.starts_in_ms, 3000);
	for (int i = 0; i < 2000; i++)
		known(i);
	publish(2, id);
	o = last_offer();
	assert_int_equal(o.starts_in_ms, 3000 + 2000 * 1000 / (KEYS_MAX / 2));
	forget_sent();
	tick(o.starts_in_ms - 1);
	f.read = 0;
	assert_null(next(TOPIC_FLEET_BLOCK));
	tick(1);
	f.read = 0;
	assert_non_null(next(TOPIC_FLEET_BLOCK));
}

static void test_over(void **state)
{
	uint8_t key[SEAL_KEY];
	char id[HASH_SIZE];
	struct msg_fleet o;

	(void)state;
	f.conf.rollout = (struct rollout_conf){10, 3, 3600000, 0.01};
	for (int i = 0; i < 200; i++)
		known(i);
	publish(1, id);
	o = last_offer();
	assert_true(ask("cam-1", o.manifest.sequence, key));
	tick(3600001); /* nobody reports: halted */
	assert_true(last_offer().halted);
	assert_false(in_file(key));
	assert_false(ask("cam-1", o.manifest.sequence, key));
	/* Another trainer's newer one. */
	publish(2, id);
	o = last_offer();
	assert_true(ask("cam-1", o.manifest.sequence, key));
	o.manifest.sequence++;
	o.manifest.expires_ms = 1700000000000 + f.now_ms + 60000;
	strcpy(o.manifest.trainer, "edge-2");
	struct signer *other = who(ROLE_TRAINER, "edge-2", NULL);
	say(TOPIC_FLEET_OFFER, "",
	    signed_print(other, "tasuki/v1/home/fleet/offer", msg_fleet_print(&o)));
	signer_free(other);
	assert_false(in_file(key));
	assert_false(ask("cam-1", o.manifest.sequence - 1, key));
}

/* With an identity nothing goes out that was made without one. */
static void test_not_made_to_be_sealed(void **state)
{
	char id[HASH_SIZE];

	(void)state;
	f.conf.identity = (struct identity_paths){0};
	kill_and_reopen();
	publish(1, id);
	assert_string_equal(last_offer().manifest.root, "");
	f.conf.identity = identity;
	forget_sent();
	kill_and_reopen();
	tick(60000);
	assert_int_equal(last_offer().manifest.sequence, 0);
	assert_null(next(TOPIC_FLEET_BLOCK));
	publish(1, id);
	assert_true(*last_offer().manifest.root);
}

static int64_t some_time(void *user)
{
	(void)user;
	return 1700000000000;
}

static void test_damaged_file(void **state)
{
	static const char bad[] = "\"key\":\"00\"";
	char id[HASH_SIZE], path[FILE_PATH_MAX];
	char *text;
	size_t len;
	struct trainer_ports none = {.mono_ms = some_time, .real_ms = some_time};
	struct err err = {0};

	(void)state;
	publish(1, id);
	close_trainer();
	snprintf(path, sizeof(path), "%s/fleet.json", f.dir);
	assert_int_equal(file_read(path, 1 << 20, &text, &len, NULL), 0);
	char *at = strstr(text, "\"key\":\"");
	assert_non_null(at);
	memmove(at + strlen(bad), at + 7 + 2 * SEAL_KEY + 1, strlen(at + 7 + 2 * SEAL_KEY + 1) + 1);
	memcpy(at, bad, strlen(bad));
	assert_int_equal(file_write(path, text, strlen(text), NULL), 0);
	free(text);
	assert_true(trainer_new(&f.conf, f.model, &none, &f.t, &err) < 0);
	assert_non_null(strstr(err.text, path));
	assert_non_null(strstr(err.text, "key"));
	assert_int_equal(file_remove(path, NULL), 0);
	open_trainer();
}

#define S(x) cmocka_unit_test_setup_teardown(x, set_up_sealed, tear_down_sealed)

int main(void)
{
	const struct CMUnitTest tests[] = {
		S(test_sealed),        S(test_a_key_a_sequence),
		S(test_who_gets_none), S(test_signatures),
		S(test_flood),         S(test_time_to_ask),
		S(test_over),          S(test_damaged_file),
		S(test_not_made_to_be_sealed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Handovers of a device with an identity: keys are made with the grant, blocks go out and come in
 * sealed, whatever else comes in is refused by name, and when it is over nothing of the keys is
 * left. The trainer is played with keys of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it, and the rig's names are not to be known in pki_util.h. */
#include <cmocka.h>

#include "tests/unit/pki_util.h"

#include "tests/unit/agent_rig.h"

#include <sys/stat.h>

#include "common/transfer/sealing.h"
#include "common/trust/sealed.h"
#include "device-agent/agent_impl.h"

static struct pki pki;
static struct identity_paths identity; /* the device's */

/* The trainer's end. */
static struct signer *signer, *another; /* edge-1, edge-2 */
static int64_t sequence;
static struct sealed keys;
static struct sealed_memo memo;
static struct seal *seal;
static struct proof proof;
static int64_t fence;
static uint8_t wire[SEALING_BLOCK_MAX + 1], opened[SEALING_BLOCK_MAX];

static int setup_sealed(void **state)
{
	int r = setup(state);
	keys = (struct sealed){0};
	fence = 1;
	sequence = 0;
	struct identity_paths paths;
	pki_init(&pki, dir);
	pki_issue(&pki, ROLE_TRAINER, "edge-1", &paths);
	assert_int_equal(signer_read(&paths, &signer, &err), 0);
	pki_issue(&pki, ROLE_TRAINER, "edge-2", &paths);
	assert_int_equal(signer_read(&paths, &another, &err), 0);
	pki_issue(&pki, ROLE_DEVICE, "cam-1", &identity);
	conf.identity = identity;
	again();
	if (r == 0)
		r = sealed_begin(&keys);
	return r < 0 ? r : seal_new(&seal);
}

static int teardown_sealed(void **state)
{
	seal_free(seal);
	proof_done(&proof);
	signer_free(signer);
	signer_free(another);
	pki_done(&pki);
	return teardown(state);
}

static void say_signed(const struct signer *by, const char *topic, char *text)
{
	say_text(topic, signed_print(by, topic, text));
}

static const uint8_t *key(const char *payload, bool to_device)
{
	const struct sealed_transfer t = {"home",  "cam-1",   "edge-1", fence,
					  payload, to_device, false};
	return sealed_key(&memo, &keys, &t);
}

static void say_claim(int64_t with, const char *checkpoint, const char *own)
{
	struct msg_claim c = {.trainer = "edge-1", .fence = with, .phase = "training",
			      .sequence = with ? 0 : offer_number};
	COPY(c.checkpoint, checkpoint);
	COPY(c.seal, own);
	say_signed(signer, DEVICE "in/claim", msg_claim_print(&c));
}

/* Claims with its own key; what the device answers must be a grant, with the device's. */
static void claim_sealed(int64_t with, const char *checkpoint)
{
	char own[HASH_SIZE];
	struct msg_grant g;
	assert_int_equal(sealed_public(&keys, own), 0);
	say_claim(with, checkpoint, own);
	const struct sent *s = last(TRAINER "grant");
	assert_non_null(s);
	assert_int_equal(msg_grant_parse(s->payload, s->len, &g, NULL), 0);
	assert_true(g.granted);
	assert_true(hash_valid(g.seal));
	COPY(keys.theirs, g.seal);
	fence = g.fence;
}

static void say_want(const char *payload, uint32_t block)
{
	struct msg_want w = {.trainer = "edge-1", .blocks = {block}, .n_blocks = 1};
	COPY(w.checkpoint, payload);
	say_text(DEVICE "in/want", msg_want_print(&w));
}

/* The manifest of what is on offer. */
static struct manifest offer_said(void)
{
	struct msg_offer o;
	const struct sent *s = last(DEVICE "offer");
	assert_non_null(s);
	assert_int_equal(msg_offer_parse(s->payload, s->len, &o, NULL), 0);
	return o.manifest;
}

static const struct sent *block_sent(const char *payload, uint32_t block)
{
	char topic[TOPIC_SIZE];
	snprintf(topic, sizeof(topic), TRAINER "block/%s/%u", payload, block);
	return last(topic);
}

/* Pulls all of it, twice each, as the trainer would. */
static void pull(const struct manifest *m)
{
	static uint8_t nonces[256][SEAL_NONCE];
	struct part p;
	char path[FILE_PATH_MAX], in[FILE_PATH_MAX];
	size_t n = 0;
	file_path(in, sizeof(in), "%s/trainer", dir);
	assert_int_equal(file_mkdirs(in, NULL), 0);
	assert_int_equal(part_open(&p, in, m, 0, NULL), 0);
	p.xfer.any = true;
	for (uint32_t i = 0; i < 2 * p.xfer.n_blocks; i++) {
		uint32_t block = i % p.xfer.n_blocks;
		say_want(m->id, block);
		const struct sent *s = block_sent(m->id, block);
		assert_non_null(s);
		for (size_t k = 0; k < n; k++)
			assert_memory_not_equal(nonces[k], s->payload, SEAL_NONCE);
		memcpy(nonces[n++], s->payload, SEAL_NONCE);
		assert_int_equal(sealing_take_block(seal, key(m->id, false), &p, block, s->payload,
						    s->len, opened, 0, NULL),
				 i < p.xfer.n_blocks ? XFER_OK : XFER_E_TWICE);
		forget_sent();
	}
	assert_int_equal(part_finish(&p, path, NULL), 0);
	part_discard(in, m->id);
}

static void state_file(char path[FILE_PATH_MAX])
{
	file_path(path, FILE_PATH_MAX, "%s/state.json", conf.state);
}

/* The device's own secret, as the file has it; false: it has none. */
static bool secret_kept(char ret[HASH_SIZE])
{
	_cleanup_free_ char *text = NULL;
	char path[FILE_PATH_MAX];
	struct stat st;
	size_t len;
	state_file(path);
	assert_int_equal(file_read(path, 1 << 22, &text, &len, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	const char *at = strstr(text, "\"secret\":\"");
	assert_int_equal((st.st_mode & 077) == 0, at != NULL);
	if (at)
		snprintf(ret, HASH_SIZE, "%s", at + strlen("\"secret\":\""));
	return at != NULL;
}

static void test_claims_without_a_seal_are_refused(void **state)
{
	char offered[HASH_SIZE], zeros[HASH_SIZE];
	until_offered(offered);
	say_claim(0, offered, "");
	memset(zeros, '0', HASH_HEX);
	zeros[HASH_HEX] = 0;
	say_claim(0, offered, zeros);
	assert_null(last(TRAINER "grant"));
	assert_int_equal(trust_refused(a->trust, REFUSAL_UNSEALED), 1);
	assert_int_equal(trust_refused(a->trust, REFUSAL_WEAK), 1);
	assert_false(secret_kept(zeros));
	/* To be busy needs none. */
	struct msg_claim busy = {.trainer = "edge-1", .busy = true, .retry_ms = 5000};
	COPY(busy.checkpoint, offered);
	COPY(busy.reason, "no room");
	say_signed(signer, DEVICE "in/claim", msg_claim_print(&busy));
	agent_tick(a);
	claim_sealed(0, offered);
	assert_int_equal(fence, 1);
}

static void test_blocks_go_out_sealed(void **state)
{
	char offered[HASH_SIZE], secret[HASH_SIZE];
	until_offered(offered);
	struct manifest m = offer_said();
	assert_true(hash_valid(m.root));
	claim_sealed(0, offered);
	assert_true(secret_kept(secret));
	forget_sent();
	pull(&m);
}

/* Of either end, in the middle of a transfer. */
static void test_restarts(void **state)
{
	char offered[HASH_SIZE], before[HASH_SIZE], after[HASH_SIZE];
	until_offered(offered);
	struct manifest m = offer_said();
	claim_sealed(0, offered);
	assert_true(secret_kept(before));
	struct sealed granted = keys;
	restart(); /* the device: same fence, same keys */
	say_want(m.id, 0);
	assert_non_null(block_sent(m.id, 0));
	claim_sealed(1, offered);
	assert_memory_equal(&granted, &keys, sizeof(keys));
	assert_int_equal(fence, 1);
	pull(&m);
	/* The trainer, which has lost its keys: same fence, others. */
	assert_int_equal(sealed_begin(&keys), 0);
	claim_sealed(0, offered);
	assert_int_equal(fence, 1);
	assert_true(secret_kept(after));
	pull(&m);
	restart(); /* and the device has stored that */
	say_want(m.id, 0);
	forget_sent();
	pull(&m);
}

/* Another trainer's claim changes nothing, granted to nobody. */
static void test_others_change_no_key(void **state)
{
	char offered[HASH_SIZE], own[HASH_SIZE];
	struct sealed other;
	until_offered(offered);
	struct manifest m = offer_said();
	claim_sealed(0, offered);
	assert_int_equal(sealed_begin(&other), 0);
	assert_int_equal(sealed_public(&other, own), 0);
	struct msg_claim c = {.trainer = "edge-2", .sequence = offer_number};
	COPY(c.checkpoint, offered);
	COPY(c.seal, own);
	forget_sent();
	say_signed(another, DEVICE "in/claim", msg_claim_print(&c));
	const struct sent *s = last("tasuki/v1/home/trainer/edge-2/in/cam-1/grant");
	assert_non_null(s);
	assert_null(strstr(s->payload, "seal"));
	forget_sent();
	pull(&m);
}

static void test_a_new_fence_has_new_keys(void **state)
{
	char offered[HASH_SIZE], before[HASH_SIZE], after[HASH_SIZE];
	until_offered(offered);
	struct manifest m = offer_said();
	claim_sealed(0, offered);
	assert_true(secret_kept(before));
	now += 61000;
	agent_tick(a);
	assert_true(secret_kept(after)); /* its result would still be taken */
	assert_string_equal(before, after);
	claim_sealed(0, offered);
	assert_int_equal(fence, 2);
	assert_true(secret_kept(after));
	assert_string_not_equal(before, after);
	forget_sent();
	pull(&m);
	/* Given back: it is over. */
	struct msg_claim busy = {.trainer = "edge-1", .busy = true, .fence = 2, .retry_ms = 5000};
	COPY(busy.checkpoint, offered);
	say_signed(signer, DEVICE "in/claim", msg_claim_print(&busy));
	assert_false(secret_kept(after));
}

/* ---- the way back ---- */

/* Block i of the result, sealed, in `wire`. */
static uint32_t seal_it(const struct manifest *m, const char *path, uint32_t i)
{
	uint32_t len;
	assert_int_equal(
		sealing_read_block(seal, key(m->id, true), &proof, path, m, i, wire, &len, NULL),
		0);
	return len;
}

static void say_block(const struct manifest *m, uint32_t i, size_t len)
{
	char topic[TOPIC_SIZE];
	snprintf(topic, sizeof(topic), DEVICE "in/block/%s/%u", m->id, i);
	say(topic, wire, len);
}

static struct msg_result offer_result(const char *offered, char path[FILE_PATH_MAX])
{
	struct msg_result r = result_of(offered, 77, fence, path);
	assert_int_equal(proof_root(&proof, path, &r.manifest, NULL), 0);
	r.manifest.sequence = ++sequence;
	r.manifest.expires_ms = fake_real(NULL) + 3600000;
	say_signed(signer, DEVICE "in/offer", msg_result_print(&r));
	return r;
}

static void send_sealed(const struct manifest *m, const char *path)
{
	for (const struct sent *s; (s = last(TRAINER "want"));) {
		struct msg_want w;
		assert_int_equal(msg_want_parse(s->payload, s->len, &w, &err), 0);
		forget_sent();
		for (size_t i = 0; i < w.n_blocks; i++)
			say_block(m, w.blocks[i], seal_it(m, path, w.blocks[i]));
	}
}

static bool has_part(const struct manifest *m)
{
	char in[FILE_PATH_MAX];
	file_path(in, sizeof(in), "%s/incoming", conf.state);
	return part_there(in, m->id);
}

static void test_results_come_in_sealed(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX], secret[HASH_SIZE];
	until_offered(offered);
	claim_sealed(0, offered);
	struct msg_result r = offer_result(offered, path);
	send_sealed(&r.manifest, path);
	evaluated(r.manifest.id, SPLIT_TEST, 8);
	assert_true(secret_kept(secret));
	evaluated(r.manifest.id, SPLIT_VALIDATION, 15);
	assert_active(r.manifest.id);
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
	assert_false(secret_kept(secret)); /* it is over */
}

/* Nothing could be proven of its blocks. */
static void test_results_without_a_root_are_refused(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim_sealed(0, offered);
	struct msg_result r = result_of(offered, 77, fence, path);
	r.manifest.sequence = ++sequence;
	r.manifest.expires_ms = fake_real(NULL) + 3600000;
	say_signed(signer, DEVICE "in/offer", msg_result_print(&r));
	assert_said(TRAINER "ack", "\"decision\":\"refused\",\"reason\":\"root");
	assert_null(last(TRAINER "want"));
}

/* Each block: in plain, with one bit flipped, cut, in another's place, under other keys. All
 * refused, none stored; and then, asked for again, the transfer completes. */
static void test_nothing_else_is_taken(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	struct rng rng;
	until_offered(offered);
	claim_sealed(0, offered);
	struct msg_result r = offer_result(offered, path);
	struct manifest *m = &r.manifest;
	uint32_t n = (uint32_t)((m->size + 1023) / 1024);
	rng_init(&rng, 5);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t len = seal_it(m, path, i), plain;
		const size_t cut[] = {0, 1, 27, 28, len - 1, len + 1};
		for (size_t k = 0; k < ARRAY_LEN(cut); k++)
			say_block(m, i, cut[k]);
		say_block(m, (i + 1) % n, len);
		size_t bit = rng_below(&rng, 8 * len);
		wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
		say_block(m, i, len);
		fence++;
		say_block(m, i, seal_it(m, path, i));
		fence--;
		assert_int_equal(
			part_read_block(path, (uint64_t)m->size, 1024, i, wire, &plain, NULL), 0);
		say_block(m, i, plain);
	}
	assert_false(has_part(m));
	assert_int_equal(trust_refused(a->trust, REFUSAL_UNSEALED), n);
	assert_int_equal(trust_refused(a->trust, REFUSAL_BLOCK), 8 * n); /* no bytes: no message */
	assert_null(last(TRAINER "ack"));
	forget_sent();
	now += 4000;
	agent_tick(a);
	send_sealed(m, path);
	assert_true(is_asked("evaluate"));
}

static void test_restart_while_pulling(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim_sealed(0, offered);
	struct msg_result r = offer_result(offered, path);
	say_block(&r.manifest, 0, seal_it(&r.manifest, path, 0));
	assert_true(has_part(&r.manifest));
	restart();
	agent_tick(a);
	send_sealed(&r.manifest, path);
	assert_true(is_asked("evaluate"));
}

static void test_new_keys_while_pulling(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim_sealed(0, offered);
	struct msg_result r = offer_result(offered, path);
	say_block(&r.manifest, 0, seal_it(&r.manifest, path, 0));
	assert_int_equal(sealed_begin(&keys), 0);
	claim_sealed(1, offered);
	forget_sent();
	now += 4000;
	agent_tick(a);
	send_sealed(&r.manifest, path);
	assert_true(is_asked("evaluate"));
}

/* A handover that began before there was an identity. */
static void test_an_identity_later(void **state)
{
	char offered[HASH_SIZE], secret[HASH_SIZE];
	conf.identity = (struct identity_paths){0};
	again();
	until_offered(offered);
	claim(0, offered);
	assert_false(secret_kept(secret));
	struct manifest m = offer_said();
	conf.identity = identity;
	again();
	say_want(m.id, 0);
	assert_null(block_sent(m.id, 0)); /* nothing leaves in plain */
	claim_sealed(1, offered);
	assert_int_equal(fence, 1);
	assert_true(secret_kept(secret));
	say_want(m.id, 0);
	assert_non_null(block_sent(m.id, 0));
}

#define SEALED(x) cmocka_unit_test_setup_teardown(x, setup_sealed, teardown_sealed)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SEALED(test_claims_without_a_seal_are_refused),
		SEALED(test_blocks_go_out_sealed),
		SEALED(test_restarts),
		SEALED(test_others_change_no_key),
		SEALED(test_a_new_fence_has_new_keys),
		SEALED(test_results_come_in_sealed),
		SEALED(test_results_without_a_root_are_refused),
		SEALED(test_nothing_else_is_taken),
		SEALED(test_restart_while_pulling),
		SEALED(test_new_keys_while_pulling),
		SEALED(test_an_identity_later),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

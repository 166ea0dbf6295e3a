/* Handovers of a trainer with an identity: its keys, blocks that come in and go out sealed, and what
 * a hostile broker can make of them. The device is played with the same keys. */
#include "tests/unit/trainer_sealed_rig.h"

#include <sys/stat.h>

#include "common/base/rng.h"
#include "edge-trainer/trainer_priv.h"

static uint8_t opened[SEALING_BLOCK_MAX];

static uint32_t n_blocks(void)
{
	return (uint32_t)((f.model->file_bytes + BLOCK - 1) / BLOCK);
}

static bool is_pulled(void)
{
	return query("SELECT count(*) FROM jobs WHERE pulled = 1") == 1;
}

static bool has_part(void)
{
	char dir[FILE_PATH_MAX];

	snprintf(dir, sizeof(dir), "%s/incoming/cam-1", f.dir);
	return part_there(dir, f.id);
}

static void test_claims_have_a_seal(void **state)
{
	struct msg_claim first, second;

	(void)state;
	offer_sealed();
	first = claimed(end.device);
	tick(1500);
	second = claimed(end.device);
	assert_true(hash_valid(first.seal));
	assert_string_equal(first.seal, second.seal); /* of the handover, not of the message */
	other_weights(77);
	offer_sealed();
	second = claimed(end.device);
	assert_string_not_equal(first.seal, second.seal);
}

/* By name, and nothing follows from them. */
static void test_grants_without_a_seal_are_refused(void **state)
{
	char zeros[HASH_SIZE];

	(void)state;
	offer_sealed();
	claimed(end.device);
	end.fence = 1;
	say_grant("");
	memset(zeros, '0', HASH_HEX);
	zeros[HASH_HEX] = '\0';
	say_grant(zeros);
	assert_null(next(TOPIC_DEVICE_WANT));
	assert_int_equal(trust_refused(f.t->trust, REFUSAL_UNSEALED), 1);
	assert_int_equal(trust_refused(f.t->trust, REFUSAL_WEAK), 1);
	assert_int_equal(query("SELECT count(*) FROM jobs"), 0);
	tick(8000);
	end.fence = 0;
	grant_sealed(1);
	assert_int_equal(give_sealed(1000), n_blocks());
	assert_true(is_pulled());
}

static void test_blocks_come_in_sealed(void **state)
{
	(void)state;
	offer_sealed();
	grant_sealed(1);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE length(seal_secret) = 64"
			       " AND length(seal_theirs) = 64"),
			 1);
	assert_int_equal(give_sealed(1000), n_blocks());
	assert_true(is_pulled());
	assert_string_equal(asked("evaluate")->op, "evaluate");
}

/* Each block: in plain, with one bit flipped, cut, in another's place. All refused, none stored; and
 * then, asked for again, the transfer completes. */
static void test_nothing_else_is_taken(void **state)
{
	struct rng rng;
	uint32_t len, n = n_blocks();
	size_t at, plain;

	(void)state;
	rng_init(&rng, 3);
	offer_sealed();
	grant_sealed(1);
	for (uint32_t i = 0; i < n; i++) {
		len = seal_it(i);
		const size_t cut[] = {0, 1, 27, 28, len - 1, len + 1};

		for (size_t k = 0; k < ARRAY_LEN(cut); k++)
			say_block(i, cut[k]);
		say_block((i + 1) % n, len);
		at = rng_below(&rng, 8 * len);
		wire[at / 8] ^= (uint8_t)(1u << at % 8);
		say_block(i, len);
		plain = MIN_OF((size_t)BLOCK, f.model->file_bytes - (size_t)i * BLOCK);
		say_raw(TOPIC_TRAINER_BLOCK, "cam-1", f.id, i, f.weights + (size_t)i * BLOCK, plain,
			false);
		end.fence = 2; /* of another handover */
		say_block(i, seal_it(i));
		end.fence = 1;
	}
	assert_false(has_part());
	assert_int_equal(trust_refused(f.t->trust, REFUSAL_UNSEALED), n);
	assert_int_equal(trust_refused(f.t->trust, REFUSAL_BLOCK), 9 * n);
	/* What was asked for is asked for again. */
	assert_true(want().n_blocks > 0);
	f.read = f.n_sent;
	tick(4000);
	assert_int_equal(give_sealed(1000), n);
	assert_true(is_pulled());
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome <> 'none'"), 0);
}

/* In the middle of a transfer: the same keys, and only what is missing. */
static void test_restart_while_pulling(void **state)
{
	struct msg_claim c;

	(void)state;
	assert_true(n_blocks() > 2);
	offer_sealed();
	grant_sealed(1);
	assert_int_equal(give_sealed(1), 1);
	kill_and_reopen();
	f.read = f.n_sent - 10;
	f.read = 0;
	while (next(TOPIC_DEVICE_CLAIM))
		;
	f.read = 0;
	do
		c = claimed(end.device);
	while (c.fence != 1);
	assert_string_equal(c.seal, end.keys.theirs);
	f.read--;
	grant_sealed(1);
	assert_int_equal(give_sealed(1000), n_blocks() - 1);
	assert_true(is_pulled());
}

/* The device ran its lease out and grants anew: another fence, another pair, other keys. */
static void test_a_new_fence_has_new_keys(void **state)
{
	struct sealed old;
	struct msg_want w;
	uint32_t len;

	(void)state;
	offer_sealed();
	grant_sealed(1);
	assert_int_equal(give_sealed(1), 1);
	old = end.keys;
	tick(LEASE);
	f.read = f.n_sent;
	offer_sealed();
	grant_sealed(2);
	assert_string_not_equal(old.secret, end.keys.secret);
	assert_string_equal(old.theirs, end.keys.theirs); /* ours are the job's */
	w = want();
	assert_true(w.n_blocks > 0);
	f.read--;
	/* One under the old keys is not taken. */
	struct sealed fresh = end.keys;
	end.keys = old;
	end.fence = 1;
	len = seal_it(w.blocks[0]);
	say_block(w.blocks[0], len);
	end.keys = fresh;
	end.fence = 2;
	assert_int_equal(give_sealed(1000), n_blocks() - 1);
	assert_true(is_pulled());
}

/* The same fence, but the device made its keys anew. */
static void test_a_device_may_make_new_keys(void **state)
{
	char own[HASH_SIZE];

	(void)state;
	offer_sealed();
	grant_sealed(1);
	assert_int_equal(give_sealed(1), 1);
	strcpy(own, end.keys.theirs);
	assert_int_equal(sealed_begin(&end.keys), 0);
	strcpy(end.keys.theirs, own);
	assert_int_equal(sealed_public(&end.keys, own), 0);
	tick(LEASE / 3 + 1000);
	assert_int_equal(claimed(end.device).fence, 1);
	say_grant(own);
	f.read = f.n_sent;
	tick(4000);
	assert_int_equal(give_sealed(1000), n_blocks() - 1);
	assert_true(is_pulled());
}

/* --- the way back --- */

static void say_want(const char *payload, const uint32_t *blocks, size_t n)
{
	struct msg_want w = {.n_blocks = n};

	strcpy(w.checkpoint, payload);
	memcpy(w.blocks, blocks, n * sizeof(*blocks));
	say(TOPIC_TRAINER_WANT, end.device, msg_want_print(&w));
}

static int open_it(const struct sent *s)
{
	const uint8_t *k = key(s->topic.checkpoint, true);
	uint8_t aad[HASH_HEX + 4];

	memcpy(aad, s->topic.checkpoint, HASH_HEX);
	memset(aad + HASH_HEX, 0, 4); /* block 0 */
	return open_block(end.seal, k, aad, sizeof(aad), (const uint8_t *)s->payload, s->len,
			  opened);
}

/* Asks for all blocks of the result twice and puts them together. */
static void take_result(const struct msg_result *r)
{
	static uint8_t nonces[256][SEAL_NONCE];
	struct part p;
	char path[FILE_PATH_MAX], dir[FILE_PATH_MAX];
	const struct sent *s;
	size_t n = 0;

	snprintf(dir, sizeof(dir), "%s/device", f.dir);
	assert_int_equal(file_mkdirs(dir, NULL), 0);
	assert_int_equal(part_open(&p, dir, &r->manifest, 0, NULL), 0);
	p.xfer.any = true;
	for (uint32_t i = 0; i < 2 * p.xfer.n_blocks; i++) {
		uint32_t block = i % p.xfer.n_blocks;

		say_want(r->manifest.id, &block, 1);
		s = next(TOPIC_DEVICE_BLOCK);
		assert_non_null(s);
		assert_int_equal(s->topic.block, block);
		for (size_t k = 0; k < n; k++)
			assert_memory_not_equal(nonces[k], s->payload, SEAL_NONCE);
		memcpy(nonces[n++], s->payload, SEAL_NONCE);
		assert_int_equal(sealing_take_block(end.seal, key(r->manifest.id, true), &p, block,
						    s->payload, s->len, opened, 0, NULL),
				 i < p.xfer.n_blocks ? XFER_OK : XFER_E_TWICE);
	}
	assert_int_equal(part_finish(&p, path, NULL), 0);
	part_discard(dir, r->manifest.id);
}

static void test_results_go_out_sealed(void **state)
{
	struct msg_result r = until_offering();

	(void)state;
	take_result(&r);
	struct msg_ack kept = {.fence = 1, .has_decision = true, .decision = DECISION_KEPT};

	strcpy(kept.checkpoint, r.manifest.id);
	say_signed(TOPIC_TRAINER_ACK, msg_ack_print(&kept));
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'done' AND"
			       " seal_secret IS NULL AND seal_theirs IS NULL"),
			 1);
}

static void test_restart_while_offering(void **state)
{
	struct msg_result r = until_offering();

	(void)state;
	kill_and_reopen();
	f.read = f.n_sent - 1;
	take_result(&r);
}

/* Of a window: one result, for each member under keys of its own. */
static void test_members_have_their_own_keys(void **state)
{
	struct msg_result first, second;
	char id[HASH_SIZE];
	uint32_t block = 0;
	const struct sent *s;

	(void)state;
	close_trainer();
	f.conf.strategy = STRATEGY_MERGE;
	f.conf.capacity = 8;
	f.conf.window = (struct window_conf){LEASE, 2};
	f.conf.mixture = (struct mixture_conf){4, 0.25};
	open_trainer();
	for (uint64_t i = 10; i < f.model->n_floats; i++) /* of a usual size, lest they be screened */
		memcpy(f.weights + WEIGHTS_HEADER_SIZE + 4 * i, &(float){0.1f}, sizeof(float));
	memset(f.weights + WEIGHTS_HEADER_SIZE, 0, 40);
	for (int i = 0; i < 2; i++, next_device()) {
		other_weights((char)(11 + i));
		offer_sealed();
		grant_sealed(1);
		give_sealed(1000);
		evaluated(asked("evaluate"), 44 + i);
		tick(1);
	}
	merged(asked("merge"), 20, id);
	evaluated(asked("evaluate"), 50);
	trained(asked("train"), 21, id);
	trained(asked("train"), 22, id);
	evaluated(asked("evaluate"), 70);
	tick(1);
	first = result();
	second = result();
	assert_string_equal(first.manifest.id, second.manifest.id);
	say_want(first.manifest.id, &block, 1);
	s = next(TOPIC_DEVICE_BLOCK);
	assert_non_null(s);
	next_device(); /* not for this one */
	assert_int_equal(open_it(s), -EBADMSG);
	next_device();
	assert_int_equal(open_it(s), 0);
	take_result(&first);
	next_device();
	take_result(&second);
}

static void test_offers_without_a_root_are_refused(void **state)
{
	struct msg_claim c;

	(void)state;
	offer_with(false);
	c = claimed(end.device);
	assert_true(c.busy);
	assert_non_null(strstr(c.reason, "root"));
}

static void test_nobody_else_reads_the_database(void **state)
{
	char path[FILE_PATH_MAX];
	struct stat st;

	(void)state;
	offer_sealed();
	grant_sealed(1);
	for (int i = 0; i < 3; i++) {
		static const char *const ends[] = {"", "-wal", "-shm"};

		snprintf(path, sizeof(path), "%s/trainer.db%s", f.dir, ends[i]);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
	}
}

/* A job of before there was an identity. */
static void test_an_identity_later(void **state)
{
	(void)state;
	f.conf.identity = (struct identity_paths){0};
	kill_and_reopen();
	f.read = f.n_sent;
	offer("cam-1");
	assert_string_equal(claimed(end.device).seal, "");
	grant("cam-1", f.id, true, 1);
	give_blocks("cam-1", 1);
	f.conf.identity = identity;
	f.read = f.n_sent;
	kill_and_reopen();
	assert_true(hash_valid(claimed(end.device).seal));
}

#define SEALED(x) cmocka_unit_test_setup_teardown(x, set_up_sealed, tear_down_sealed)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SEALED(test_claims_have_a_seal),
		SEALED(test_grants_without_a_seal_are_refused),
		SEALED(test_blocks_come_in_sealed),
		SEALED(test_nothing_else_is_taken),
		SEALED(test_restart_while_pulling),
		SEALED(test_a_new_fence_has_new_keys),
		SEALED(test_a_device_may_make_new_keys),
		SEALED(test_results_go_out_sealed),
		SEALED(test_restart_while_offering),
		SEALED(test_members_have_their_own_keys),
		SEALED(test_offers_without_a_root_are_refused),
		SEALED(test_nobody_else_reads_the_database),
		SEALED(test_an_identity_later),
	};
	log_init("test_trainer_sealed", LOG_P_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

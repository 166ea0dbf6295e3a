/* A trainer with an identity, and devices that hand over to it, signed and sealed: what the tests of
 * signatures and those of seals share. One device speaks at a time. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it, and the rig's names are not to be known in pki_util.h. */
#include <cmocka.h>

#include "tests/unit/pki_util.h"

#include "tests/unit/trainer_fixture.h"

#include "common/transfer/sealing.h"
#include "common/trust/sealed.h"
#include "common/trust/signed.h"

/* One device's end. */
static struct end {
	char device[ID_SIZE];
	struct sealed keys;
	struct sealed_memo memo;
	int64_t fence;
	int64_t sequence;
	struct signer *signer;
	struct seal *seal;
	struct proof proof;
	char path[FILE_PATH_MAX];
} end;
static struct end other; /* cam-2's, while it is not its turn */
static struct pki pki;
static struct identity_paths identity; /* the trainer's */
static uint8_t wire[SEALING_BLOCK_MAX + 1];

static inline void begin_end(struct end *e, const char *device)
{
	struct identity_paths paths;

	memset(e, 0, sizeof(*e));
	strcpy(e->device, device);
	snprintf(e->path, sizeof(e->path), "%s/%s-offered", f.dir, device);
	pki_issue(&pki, ROLE_DEVICE, device, &paths);
	assert_int_equal(signer_read(&paths, &e->signer, NULL), 0);
	assert_int_equal(seal_new(&e->seal), 0);
}

static inline void end_end(struct end *e)
{
	seal_free(e->seal);
	signer_free(e->signer);
	proof_done(&e->proof);
}

static inline void next_device(void)
{
	struct end was = end;

	end = other;
	other = was;
}

static inline int set_up_sealed(void **state)
{
	int r = set_up(state);

	pki_init(&pki, f.dir);
	begin_end(&other, "cam-2");
	begin_end(&end, "cam-1");
	pki_issue(&pki, ROLE_TRAINER, "edge-1", &identity);
	f.conf.identity = identity;
	f.weights[WEIGHTS_HEADER_SIZE + 41] = 3; /* no two blocks are alike */
	for (size_t i = WEIGHTS_HEADER_SIZE; i < f.model->file_bytes; i += 4)
		f.weights[i] = (char)(i / 4);
	hash_bytes(f.weights, f.model->file_bytes, f.id);
	kill_and_reopen();
	f.read = f.n_sent;
	return r;
}

static inline int tear_down_sealed(void **state)
{
	end_end(&end);
	end_end(&other);
	pki_done(&pki);
	return tear_down(state);
}

static inline void say_signed(enum topic_kind kind, char *text)
{
	struct topic t = {.kind = kind, .trainer = "edge-1"};
	char topic[TOPIC_SIZE];

	strcpy(t.device, end.device);
	assert_int_equal(topic_format(topic, "home", &t), 0);
	text = signed_print(end.signer, topic, text);
	assert_non_null(text);
	say_raw(kind, end.device, NULL, 0, text, strlen(text), false);
	free(text);
}

static inline const uint8_t *key(const char *payload, bool to_device)
{
	const struct sealed_transfer t = {"home",  end.device, "edge-1", end.fence,
					  payload, to_device, true};

	return sealed_key(&end.memo, &end.keys, &t);
}

static inline void offer_with(bool root)
{
	struct msg_offer o = offer_of(end.device);

	assert_int_equal(file_write(end.path, f.weights, f.model->file_bytes, NULL), 0);
	if (root)
		assert_int_equal(proof_root(&end.proof, end.path, &o.manifest, NULL), 0);
	o.manifest.sequence = ++end.sequence;
	o.manifest.expires_ms = 1700000000000 + f.now_ms + 3600000;
	say_signed(TOPIC_DEVICE_OFFER, msg_offer_print(&o));
}

static inline void offer_sealed(void)
{
	offer_with(true);
}

static inline void say_grant(const char *seal)
{
	struct msg_grant g = {.granted = true, .fence = end.fence, .lease_ms = LEASE,
			      .claim = f.claim};

	strcpy(g.checkpoint, f.id);
	strcpy(g.seal, seal);
	say_signed(TOPIC_TRAINER_GRANT, msg_grant_print(&g));
}

/* The device takes the last claim. */
static inline void grant_sealed(int64_t fence)
{
	struct msg_claim c = claimed(end.device);
	char own[HASH_SIZE];

	assert_true(hash_valid(c.seal));
	if (fence != end.fence)
		assert_int_equal(sealed_begin(&end.keys), 0);
	end.fence = fence;
	strcpy(end.keys.theirs, c.seal);
	assert_int_equal(sealed_public(&end.keys, own), 0);
	say_grant(own);
}

static inline struct manifest offered(void)
{
	struct manifest m = offer_of(end.device).manifest;

	return m;
}

/* A block of what is offered, sealed, in `wire`. */
static inline uint32_t seal_it(uint32_t i)
{
	struct manifest m = offered();
	uint32_t len;

	assert_int_equal(sealing_read_block(end.seal, key(f.id, false), &end.proof, end.path, &m, i,
					    wire, &len, NULL),
			 0);
	return len;
}

static inline void say_block(uint32_t i, size_t len)
{
	say_raw(TOPIC_TRAINER_BLOCK, end.device, f.id, i, wire, len, false);
}

static inline struct msg_want want(void)
{
	const struct sent *s = next(TOPIC_DEVICE_WANT);
	struct msg_want w = {0};

	if (s)
		assert_int_equal(msg_want_parse(s->payload, s->len, &w, NULL), 0);
	return w;
}

static inline unsigned give_sealed(unsigned most)
{
	struct msg_want w;
	unsigned given = 0;

	while (given < most && (w = want()).n_blocks)
		for (size_t i = 0; i < w.n_blocks && given < most; i++, given++)
			say_block(w.blocks[i], seal_it(w.blocks[i]));
	return given;
}

static inline struct msg_result result(void)
{
	const struct sent *s = next(TOPIC_DEVICE_RESULT);
	struct msg_result r;

	assert_non_null(s);
	assert_int_equal(msg_result_parse(s->payload, s->len, &r, NULL), 0);
	return r;
}

static inline struct msg_result until_offering(void)
{
	char id[HASH_SIZE];

	offer_sealed();
	grant_sealed(1);
	give_sealed(1000);
	evaluated(asked("evaluate"), 44);
	trained(asked("train"), 2, id);
	trained(asked("train"), 3, id);
	evaluated(asked("evaluate"), 65);
	return result();
}

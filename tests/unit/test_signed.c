/* Signed messages: what is signed is taken, and not one bit else, and nothing is decoded before. */
#include "ckpt_util.h"

#include <errno.h>

#include "common/protocol/message.h"
#include "common/trust/trust.h"
#include "pki_util.h"

#define NOW_MS  1790000000000LL
#define DEVICE  "tasuki/v1/home/device/cam-1/"
#define HASH(c) "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc" c c

static struct pki pki;
static struct identity_paths paths[ROLE_N];
static struct authority *a;
static struct signer *signer[ROLE_N];
static struct err err;

static int set_up(void **state)
{
	static const char *const names[ROLE_N] = {"cam-1", "edge-1", "eve", "wall", "localhost"};
	if (util_dir(state))
		return -1;
	pki_init(&pki, *state);
	for (int i = 0; i < ROLE_N; i++) {
		pki_issue(&pki, (enum role)i, names[i], &paths[i]);
		if (signer_read(&paths[i], &signer[i], &err) < 0)
			fail_msg("%s", err.text);
	}
	return authority_new(&paths[0], &a, &err);
}

static int tear_down(void **state)
{
	for (int i = 0; i < ROLE_N; i++) {
		signer_free(signer[i]);
		signer[i] = NULL;
	}
	authority_free(a);
	a = NULL;
	pki_done(&pki);
	return util_dir_done(state);
}

static enum refusal open_bytes(enum role role, const char *name, const char *topic, const void *p,
			       size_t len)
{
	struct certificate c = {0};
	err = (struct err){0};
	enum refusal r = signed_open(a, role, name, topic, p, len, NOW_MS, &c, &err);
	assert_int_equal(r != REFUSAL_NONE, err.code != 0);
	assert_int_equal(r == REFUSAL_NONE, *c.name != 0);
	return r;
}

static enum refusal open_text(enum role role, const char *name, const char *topic, const char *text)
{
	return open_bytes(role, name, topic, text, strlen(text));
}

/* ---- messages as they are, small ones ---- */

static struct manifest manifest_of(enum origin origin)
{
	struct manifest m = {.origin = origin,
			     .epoch = 3,
			     .classes = 5,
			     .size = 1764,
			     .block_size = 1024,
			     .created_ms = NOW_MS,
			     .expires_ms = NOW_MS + 1000};
	strcpy(m.id, HASH("a"));
	strcpy(m.model, HASH("b"));
	strcpy(m.device, "cam-1");
	if (origin != ORIGIN_LOCAL)
		strcpy(m.trainer, "edge-1");
	return m;
}

static char *offer_text(void)
{
	struct msg_offer m = {.manifest = manifest_of(ORIGIN_LOCAL)};
	return msg_offer_print(&m);
}

static char *result_text(void)
{
	struct msg_result m = {.manifest = manifest_of(ORIGIN_EDGE), .fence = 7};
	manifest_add_parent(&m.manifest, HASH("d"));
	strcpy(m.snapshot, HASH("e"));
	return msg_result_print(&m);
}

static char *fleet_text(void)
{
	struct msg_fleet m = {.manifest = manifest_of(ORIGIN_FLEET), .share = 10};
	m.manifest.sequence = 1790000000;
	return msg_fleet_print(&m);
}

static char *claim_text(void)
{
	struct msg_claim m = {.fence = 7, .claim = 12};
	strcpy(m.trainer, "edge-1");
	strcpy(m.checkpoint, HASH("a"));
	return msg_claim_print(&m);
}

static const struct {
	const char *topic;
	enum role role;
	char *(*print)(void);
} messages[] = {
	{DEVICE "offer", ROLE_DEVICE, offer_text},
	{DEVICE "in/offer", ROLE_TRAINER, result_text},
	{"tasuki/v1/home/fleet/offer", ROLE_TRAINER, fleet_text},
	{DEVICE "in/claim", ROLE_TRAINER, claim_text},
};

static char *signed_message(size_t i)
{
	char *text = signed_print(signer[messages[i].role], messages[i].topic, messages[i].print());
	assert_non_null(text);
	return text;
}

static void what_is_signed_is_believed_and_decodes(void **state)
{
	struct msg_offer offer;
	struct msg_result result;
	struct msg_fleet fleet;
	struct msg_claim claim;
	for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
		_cleanup_free_ char *text = signed_message(i), *plain = messages[i].print();
		size_t len = strlen(text), body = strlen(plain) - 1;
		assert_int_equal(open_text(messages[i].role, "", messages[i].topic, text), 0);
		assert_memory_equal(text, plain, body);
		assert_true(len - body <= SIGNED_TAIL_MAX);
		int r = i == 0   ? msg_offer_parse(text, len, &offer, &err)
			: i == 1 ? msg_result_parse(text, len, &result, &err)
			: i == 2 ? msg_fleet_parse(text, len, &fleet, &err)
				 : msg_claim_parse(text, len, &claim, &err);
		if (r < 0)
			fail_msg("%s", err.text);
	}
}

static void not_one_bit_may_differ(void **state)
{
	size_t n[REFUSAL_N] = {0}, bits = 0;
	for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
		_cleanup_free_ char *text = signed_message(i);
		size_t len = strlen(text);
		for (size_t bit = 0; bit < 8 * len; bit++, bits++) {
			text[bit / 8] ^= (char)(1 << bit % 8);
			enum refusal r =
				open_bytes(messages[i].role, "", messages[i].topic, text, len);
			if (r == REFUSAL_NONE)
				fail_msg("%s: bit %zu of byte %zu may be another",
					 messages[i].topic, bit % 8, bit / 8);
			n[r]++;
			text[bit / 8] ^= (char)(1 << bit % 8);
		}
		assert_int_equal(open_text(messages[i].role, "", messages[i].topic, text), 0);
	}
	assert_int_equal(n[REFUSAL_UNSIGNED] + n[REFUSAL_FOREIGN] + n[REFUSAL_FORGED], bits);
	assert_true(n[REFUSAL_UNSIGNED] && n[REFUSAL_FOREIGN] && n[REFUSAL_FORGED]);
}

static void nothing_may_be_cut_off_or_put_on(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
		_cleanup_free_ char *text = signed_message(i);
		size_t len = strlen(text);
		_cleanup_free_ char *longer = calloc(1, 2 * len + 2);
		for (size_t n = 0; n < len; n++) {
			_cleanup_free_ char *cut = malloc(n ? n : 1); /* no byte more is there */
			memcpy(cut, text, n);
			assert_int_equal(
				open_bytes(messages[i].role, "", messages[i].topic, cut, n),
				REFUSAL_UNSIGNED);
			memcpy(cut, text + len - n, n);
			assert_int_not_equal(
				open_bytes(messages[i].role, "", messages[i].topic, cut, n), 0);
		}
		sprintf(longer, "%s\n", text);
		assert_int_equal(open_text(messages[i].role, "", messages[i].topic, longer),
				 REFUSAL_UNSIGNED);
		sprintf(longer, " %s", text);
		assert_int_equal(open_text(messages[i].role, "", messages[i].topic, longer),
				 REFUSAL_FORGED);
		sprintf(longer, "%s%s", text, text);
		assert_int_equal(open_text(messages[i].role, "", messages[i].topic, longer),
				 REFUSAL_FORGED);
	}
}

static void it_is_for_one_topic(void **state)
{
	static const char *const others[] = {
		"tasuki/v1/home/device/cam-2/in/offer",
		"tasuki/v1/mill/device/cam-1/in/offer",
		"tasuki/v1/home/device/cam-1/in/claim",
		"tasuki/v1/home/device/cam-1/offer",
		"",
		"tasuki/v1/home/device/cam-1/in/offe",
	};
	_cleanup_free_ char *text = signed_message(1);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		assert_int_equal(open_text(ROLE_TRAINER, "", others[i], text), REFUSAL_FORGED);
}

static void it_is_of_one_signer(void **state)
{
	_cleanup_free_ char *text = signed_message(1);
	assert_int_equal(open_text(ROLE_TRAINER, "edge-1", messages[1].topic, text), 0);
	assert_int_equal(open_text(ROLE_TRAINER, "edge-2", messages[1].topic, text),
			 REFUSAL_SIGNER);
	for (int role = 0; role < ROLE_N; role++)
		if (role != ROLE_TRAINER)
			assert_int_equal(open_text((enum role)role, "", messages[1].topic, text),
					 REFUSAL_FOREIGN);
	/* Who is trusted as a device signs as if it were a trainer. */
	_cleanup_free_ char *other =
		signed_print(signer[ROLE_DEVICE], messages[1].topic, result_text());
	assert_int_equal(open_text(ROLE_TRAINER, "", messages[1].topic, other), REFUSAL_FOREIGN);
	/* With the trainer's certificate, and its own signature. */
	memcpy(strstr(other, "\"certificate\""), strstr(text, "\"certificate\""),
	       (size_t)(strstr(text, "\"signature\"") - strstr(text, "\"certificate\"")));
	assert_int_not_equal(open_text(ROLE_TRAINER, "", messages[1].topic, other), 0);
}

static void what_is_not_signed_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"}",
		"{}",
		"{\"a\":1}",
		"{\"a\":1,\"signature\":\"\"}",
		"{\"a\":1,\"certificate\":\"\",\"signature\":\"\"}",
		"{\"a\":1,\"signature\":"
		"\"00000000000000000000000000000000000000000000000000000000000000"
		"000000000000000000000000000000000000000000000000000000000000000000\"}",
		(",\"signature\":\"00000000000000000000000000000000000000000000000000000000000000"
		"000000000000000000000000000000000000000000000000000000000000000000\"}"),
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(open_text(ROLE_TRAINER, "", "t", bad[i]), REFUSAL_UNSIGNED);
	_cleanup_free_ char *plain = offer_text();
	assert_int_equal(open_text(ROLE_DEVICE, "", DEVICE "offer", plain), REFUSAL_UNSIGNED);
	/* Members in another order, blanks between them, the digits in capitals. */
	_cleanup_free_ char *text = signed_message(0), *other = calloc(1, strlen(text) + 8);
	char *signature = strstr(text, ",\"signature\"");
	sprintf(other, "%.*s %s", (int)(signature - text), text, signature);
	assert_int_equal(open_text(ROLE_DEVICE, "", DEVICE "offer", other), REFUSAL_UNSIGNED);
	strcpy(other, text);
	for (char *c = strstr(other, ",\"signature\":\"") + 14; *c != '"'; c++)
		*c = (char)(*c >= 'a' ? *c - 32 : *c);
	assert_int_equal(open_text(ROLE_DEVICE, "", DEVICE "offer", other), REFUSAL_UNSIGNED);
	/* A tail in a member's text is no tail. */
	sprintf(other, "%.*s\"}", (int)(signature - text), text);
	assert_int_equal(open_text(ROLE_DEVICE, "", DEVICE "offer", other), REFUSAL_UNSIGNED);
}

static void a_key_belongs_to_its_certificate(void **state)
{
	struct identity_paths mixed = paths[ROLE_DEVICE];
	struct signer *none = NULL;
	strcpy(mixed.key, paths[ROLE_TRAINER].key);
	assert_int_equal(signer_read(&mixed, &none, &err), -EINVAL);
	assert_non_null(strstr(err.text, mixed.key));
	assert_null(none);
	assert_null(signed_print(signer[0], "t", NULL));
	assert_null(signed_print(signer[0], "t", strdup("{}")));
	assert_null(signed_print(signer[0], "t", strdup("[1,2]")));
}

/* With an id of 64 characters the tail has room, too, and the longest messages keep their limits.
 */
static void the_largest_messages_fit_with_their_tail(void **state)
{
	char name[ID_SIZE], quotes[MESSAGE_TEXT_MAX];
	struct identity_paths longest;
	struct signer *s;
	memset(name, 'x', ID_MAX);
	name[ID_MAX] = 0;
	memset(quotes, '"', sizeof(quotes) - 1); /* two bytes each, as JSON */
	quotes[sizeof(quotes) - 1] = 0;
	pki_issue(&pki, ROLE_TRAINER, name, &longest);
	assert_int_equal(signer_read(&longest, &s, &err), 0);
	struct msg_claim claim = {.fence = JSON_INT_MAX,
				  .claim = JSON_INT_MAX,
				  .busy = true,
				  .retry_ms = 86400000,
				  .progress = 1.0 / 3};
	strcpy(claim.trainer, name);
	strcpy(claim.checkpoint, HASH("a"));
	strcpy(claim.lacks, HASH("b"));
	strcpy(claim.reason, quotes);
	memset(claim.phase, '"', sizeof(claim.phase) - 1);
	_cleanup_free_ char *text = signed_print(s, DEVICE "in/claim", msg_claim_print(&claim));
	assert_true(strlen(text) < MESSAGE_SMALL_MAX - 512); /* room for what others add */
	assert_int_equal(msg_claim_parse(text, strlen(text), &claim, &err), 0);
	struct score score = {JSON_INT_MAX, JSON_INT_MAX / 3, 1.0 / 3};
	struct msg_ack ack = {.fence = JSON_INT_MAX,
			      .has_decision = true,
			      .validation = score,
			      .test = score,
			      .local_validation = score,
			      .local_test = score};
	strcpy(ack.trainer, name);
	strcpy(ack.checkpoint, HASH("a"));
	strcpy(ack.reason, quotes);
	_cleanup_free_ char *text_ack = signed_print(s, DEVICE "in/ack", msg_ack_print(&ack));
	assert_true(strlen(text_ack) < MESSAGE_SMALL_MAX - 512);
	struct msg_report report = {
		.seq = JSON_INT_MAX, .score = score, .n_per_class = MESSAGE_CLASSES_MAX};
	struct class_score classes[MESSAGE_CLASSES_MAX];
	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		classes[i] = (struct class_score){511, JSON_INT_MAX, JSON_INT_MAX};
	report.per_class = classes;
	strcpy(report.checkpoint, HASH("a"));
	strcpy(report.snapshot, HASH("a"));
	strcpy(report.reason, quotes);
	_cleanup_free_ char *text_report =
		signed_print(s, DEVICE "report", msg_report_print(&report));
	assert_true(strlen(text_report) < MESSAGE_LARGE_MAX - 4096);
	signer_free(s);
}

/* Told from 30 days ahead, once a day, and when it has ended. */
static void its_own_end_is_told_in_time(void **state)
{
	struct identity_paths own;
	struct trust *t = NULL;
	int days = 0, ended = 0;
	pki_issue_for(&pki, ROLE_DEVICE, "cam-1", NOW_MS - PKI_DAY_MS, NOW_MS + 40 * PKI_DAY_MS, &own);
	assert_int_equal(trust_new(&own, ROLE_DEVICE, NOW_MS, &t, &err), 0);
	for (int64_t at = NOW_MS; at < NOW_MS + 43 * PKI_DAY_MS; at += PKI_DAY_MS / 24) {
		int r = trust_watch(t, at, &err);
		if (r == 0)
			continue;
		assert_non_null(strstr(err.text, own.certificate));
		assert_true(at > NOW_MS + 10 * PKI_DAY_MS);
		assert_int_equal(r, at < NOW_MS + 40 * PKI_DAY_MS ? -EAGAIN : -ETIME);
		days += r == -EAGAIN;
		ended += r == -ETIME;
	}
	assert_in_range(days, 29, 31);
	assert_in_range(ended, 3, 4);
	trust_free(t);
	assert_int_equal(trust_new(&own, ROLE_TRAINER, NOW_MS, &t, &err), -EKEYREJECTED);
	assert_int_equal(trust_new(&own, ROLE_DEVICE, NOW_MS + 41 * PKI_DAY_MS, &t, &err), -EKEYEXPIRED);
	assert_int_equal(trust_new(&own, ROLE_DEVICE, NOW_MS - 2 * PKI_DAY_MS, &t, &err), -EKEYEXPIRED);
	assert_null(t);
	/* Without an identity there is nothing to end, and nothing is signed. */
	assert_int_equal(trust_new(&(struct identity_paths){0}, ROLE_DEVICE, NOW_MS, &t, &err), 0);
	assert_null(t);
	assert_int_equal(trust_watch(t, NOW_MS, &err), 0);
	char *text = strdup("{}");
	assert_ptr_equal(trust_sign(t, &(struct topic){.kind = TOPIC_DEVICE_OFFER}, "t", text), text);
	free(text);
}

#define TEST(x) cmocka_unit_test_setup_teardown(x, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_signed_is_believed_and_decodes),
		TEST(not_one_bit_may_differ),
		TEST(nothing_may_be_cut_off_or_put_on),
		TEST(it_is_for_one_topic),
		TEST(it_is_of_one_signer),
		TEST(what_is_not_signed_is_refused),
		TEST(a_key_belongs_to_its_certificate),
		TEST(the_largest_messages_fit_with_their_tail),
		TEST(its_own_end_is_told_in_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

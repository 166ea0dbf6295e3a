/* Signed messages. The first byte says what the rest is (bits 0 and 1):
 *
 *   0   a payload as it comes from the broker
 *   1   changes (changes.h) and a text, which is signed and then changed: it opens only if nothing
 *       was
 *   2   changes of the signer's certificate, which is then signed with its message
 *
 * and who reads it: bit 2 for another role, bit 3 for another topic, bit 4 from another device. */
#include <stdbool.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/crypto/base64.h"
#include "common/trust/signed.h"
#include "tests/fuzz/changes.h"
#include "tests/fuzz/fuzz.h"

#define assert_true(what)      FUZZ_CHECK(what)
#define assert_non_null(what)  FUZZ_CHECK(what)
#define assert_int_equal(a, b) FUZZ_CHECK((a) == (b))
#include "tests/unit/pki_util.h"

#define NOW_MS       1790000000000LL
#define TOPIC        "tasuki/v1/home/device/cam-1/offer"
#define NAME         "cam-1"
#define BYTES_MAX    4096
#define OTHER_ROLE   4
#define OTHER_TOPIC  8
#define OTHER_DEVICE 16

static struct authority *authority;
static struct signer *signer;
static struct ed25519 *key;
static struct certificate own;

static void begin(void)
{
	struct identity_paths paths;
	struct pki pki;
	struct err err = {0};
	char dir[FILE_PATH_MAX];
	size_t len;
	fuzz_path("", dir);
	pki_init(&pki, dir);
	pki_issue(&pki, ROLE_DEVICE, NAME, &paths);
	pki_done(&pki);
	FUZZ_CHECK(authority_new(&paths, &authority, &err) == 0);
	FUZZ_CHECK(signer_read(&paths, &signer, &err) == 0);
	FUZZ_CHECK(ed25519_read(paths.key, &key, &err) == 0);
	const unsigned char *der = signer_der(signer, &len);
	FUZZ_CHECK(certificate_parse(der, len, &own, &err) == 0);
}

/* Whether it was believed. */
static bool opens(uint8_t how, const void *payload, size_t len)
{
	struct certificate c = {.name = "untouched"};
	struct err err = {0};
	/* Exactly as large as it says, so that a read beyond is seen. */
	_cleanup_free_ uint8_t *copy = malloc(len ? len : 1);
	FUZZ_CHECK(copy);
	memcpy(copy, payload, len);
	enum refusal r =
		signed_open(authority, how & OTHER_ROLE ? ROLE_TRAINER : ROLE_DEVICE,
			    how & OTHER_DEVICE ? "cam-2" : NAME,
			    how & OTHER_TOPIC ? TOPIC "x" : TOPIC, copy, len, NOW_MS, &c, &err);
	FUZZ_CHECK(r < REFUSAL_N && (r == REFUSAL_NONE) == !*err.text);
	if (r != REFUSAL_NONE) {
		FUZZ_CHECK(strcmp(c.name, "untouched") == 0);
		return false;
	}
	fuzz_taken++;
	/* Whatever it is, it is of the one who has the key. */
	FUZZ_CHECK(strcmp(c.name, NAME) == 0 && memcmp(c.key, own.key, sizeof(c.key)) == 0);
	FUZZ_CHECK(!(how & (OTHER_ROLE | OTHER_TOPIC | OTHER_DEVICE)));
	return true;
}

static void run_text(uint8_t how, const uint8_t *data, size_t size)
{
	struct changes c = changes_take(&data, &size);
	char *text = strndup((const char *)data, size);
	FUZZ_CHECK(text);
	_cleanup_free_ char *whole = signed_print(signer, TOPIC, text);
	if (!whole)
		return;
	size_t len = strlen(whole);
	_cleanup_free_ uint8_t *changed = malloc(len);
	FUZZ_CHECK(changed);
	memcpy(changed, whole, len);
	size_t n = changes_make(&c, changed, len);
	bool same = n == len && memcmp(changed, whole, len) == 0;
	FUZZ_CHECK(opens(how, changed, n) == (same && how < OTHER_ROLE));
}

static void run_certificate(uint8_t how, const uint8_t *data, size_t size)
{
	static const char context[] = "tasuki/1 message\0" TOPIC;
	struct changes c = changes_take(&data, &size);
	uint8_t der[CERTIFICATE_MAX], signature[ED25519_SIGNATURE];
	char base64[BASE64_LEN(CERTIFICATE_MAX) + 1], text[BYTES_MAX];
	size_t n, at = sizeof(context);
	struct certificate found = {.name = "untouched"};
	struct err err = {0};
	const unsigned char *own_der = signer_der(signer, &n);
	memcpy(der, own_der, n);
	n = changes_make(&c, der, n);
	bool taken = certificate_parse(der, n, &found, &err) == 0;
	FUZZ_CHECK(taken ? id_valid(found.name)
			 : *err.text && strcmp(found.name, "untouched") == 0);
	base64_encode(der, n, base64);
	memcpy(text, context, at);
	at += (size_t)snprintf(text + at, sizeof(text) - at, "{\"a\":1,\"certificate\":\"%s\"",
			       base64);
	FUZZ_CHECK(ed25519_sign(key, text, at, signature) == 0);
	at += (size_t)snprintf(text + at, sizeof(text) - at, ",\"signature\":\"");
	for (size_t i = 0; i < sizeof(signature); i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%02x", signature[i]);
	at += (size_t)snprintf(text + at, sizeof(text) - at, "\"}");
	FUZZ_CHECK(opens(how, text + sizeof(context), at - sizeof(context)) || c.n > 0 ||
		   how >= OTHER_ROLE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!authority)
		begin();
	if (size == 0)
		return 0;
	uint8_t how = data[0] & (OTHER_ROLE | OTHER_TOPIC | OTHER_DEVICE);
	switch (data[0] & 3) {
	case 0:
		opens(how, data + 1, size - 1);
		break;
	case 1:
		run_text(how, data + 1, size - 1);
		break;
	case 2:
		run_certificate(how, data + 1, size - 1);
		break;
	}
	return 0;
}

/* Certificates and authorities: whom a program believes, and for how long. */
#include "ckpt_util.h"

#include <errno.h>
#include <utime.h>

#include "common/trust/authority.h"
#include "pki_util.h"

#define NOW_MS 1790000000000LL

static struct pki pki;
static struct identity_paths cam;
static struct authority *a;
static struct err err;

static int set_up(void **state)
{
	if (util_dir(state))
		return -1;
	err = (struct err){0};
	pki_init(&pki, *state);
	pki_issue(&pki, ROLE_DEVICE, "cam-1", &cam);
	if (authority_new(&cam, &a, &err) < 0)
		fail_msg("%s", err.text);
	return 0;
}

static int tear_down(void **state)
{
	authority_free(a);
	a = NULL;
	pki_done(&pki);
	return util_dir_done(state);
}

static void reopen(void)
{
	authority_free(a);
	a = NULL;
	if (authority_new(&cam, &a, &err) < 0)
		fail_msg("%s", err.text);
}

static int check(const struct identity_paths *who, enum role role, int64_t now_ms, char *ret_name)
{
	unsigned char der[CERTIFICATE_MAX];
	struct certificate c = {0};
	size_t len;
	assert_int_equal(certificate_read(who->certificate, der, &len, &err), 0);
	err = (struct err){0};
	int r = authority_check(a, role, der, len, now_ms, &c, &err);
	assert_int_equal(r < 0, err.code != 0);
	if (ret_name)
		strcpy(ret_name, c.name);
	return r;
}

static void only_the_roles_own_authority_counts(void **state)
{
	char name[ID_SIZE];
	assert_int_equal(check(&cam, ROLE_DEVICE, NOW_MS, name), 0);
	assert_string_equal(name, "cam-1");
	for (int role = 0; role < ROLE_N; role++)
		if (role != ROLE_DEVICE)
			assert_int_equal(check(&cam, (enum role)role, NOW_MS, NULL), -EKEYREJECTED);
	/* Not even one of the same name. */
	struct pki other;
	struct identity_paths stranger;
	char dir[FILE_PATH_MAX];
	snprintf(dir, sizeof(dir), "%s/other", (char *)*state);
	pki_init(&other, dir);
	pki_issue(&other, ROLE_DEVICE, "cam-1", &stranger);
	assert_int_equal(check(&stranger, ROLE_DEVICE, NOW_MS, NULL), -EKEYREJECTED);
	assert_non_null(strstr(err.text, "cam-1"));
	pki_done(&other);
}

static void nobody_in_between_signs(void **state)
{
	/* cam-1's own key signs a certificate, and an authority signs one that may not be one. */
	unsigned char der[CERTIFICATE_MAX], *p = der;
	struct certificate c;
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	FILE *f = fopen(cam.certificate, "r");
	X509 *issuer = PEM_read_X509(f, NULL, NULL, NULL);
	fclose(f);
	f = fopen(cam.key, "r");
	EVP_PKEY *by = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	fclose(f);
	X509 *x = pki_certificate(&pki, "cam-2", key, issuer, by, false, 0, NOW_MS + PKI_DAY_MS);
	int len = i2d_X509(x, &p);
	assert_int_equal(authority_check(a, ROLE_DEVICE, der, (size_t)len, NOW_MS, &c, &err),
			 -EKEYREJECTED);
	X509_free(x);
	p = der;
	x = pki_certificate(&pki, "cam-2", key, pki.ca[ROLE_DEVICE], pki.key[ROLE_DEVICE], true, 0,
			    NOW_MS + PKI_DAY_MS);
	len = i2d_X509(x, &p);
	assert_int_equal(authority_check(a, ROLE_DEVICE, der, (size_t)len, NOW_MS, &c, &err),
			 -EINVAL);
	X509_free(x);
	X509_free(issuer);
	EVP_PKEY_free(by);
	EVP_PKEY_free(key);
}

static void a_certificate_has_its_time(void **state)
{
	struct identity_paths old, future;
	pki_issue_for(&pki, ROLE_DEVICE, "old", NOW_MS - 10 * PKI_DAY_MS, NOW_MS + 1000, &old);
	pki_issue_for(&pki, ROLE_DEVICE, "new", NOW_MS + PKI_DAY_MS, NOW_MS + 2 * PKI_DAY_MS,
		      &future);
	assert_int_equal(check(&old, ROLE_DEVICE, NOW_MS, NULL), 0);
	/* Remembered, but no longer than it is valid. */
	assert_int_equal(check(&old, ROLE_DEVICE, NOW_MS + 3000, NULL), -EKEYEXPIRED);
	assert_int_equal(check(&old, ROLE_DEVICE, NOW_MS - 11 * PKI_DAY_MS, NULL), -EKEYEXPIRED);
	assert_int_equal(check(&future, ROLE_DEVICE, NOW_MS, NULL), -EKEYEXPIRED);
	assert_int_equal(check(&future, ROLE_DEVICE, NOW_MS + PKI_DAY_MS, NULL), 0);
}

static void names_must_be_ids(void **state)
{
	static const char *const bad[] = {"",   ".", "..",     "a/b",        "a b",
					  "a+", "#", "cam\n1", "k\xc3\xb6ln"};
	char longest[ID_SIZE];
	struct identity_paths who;
	memset(longest, 'x', ID_MAX);
	longest[ID_MAX] = 0;
	pki_issue(&pki, ROLE_DEVICE, longest, &who);
	assert_int_equal(check(&who, ROLE_DEVICE, NOW_MS, NULL), 0);
	for (size_t i = 1; i < ARRAY_LEN(bad); i++) {
		pki_issue(&pki, ROLE_DEVICE, bad[i], &who);
		assert_int_equal(check(&who, ROLE_DEVICE, NOW_MS, NULL), -EINVAL);
		assert_non_null(strstr(err.text, "common name"));
	}
}

static void what_is_no_certificate_is_refused(void **state)
{
	unsigned char der[CERTIFICATE_MAX + 1];
	struct certificate c;
	size_t len;
	assert_int_equal(certificate_read(cam.certificate, der, &len, &err), 0);
	for (size_t n = 0; n < len; n++)
		assert_true(authority_check(a, ROLE_DEVICE, der, n, NOW_MS, &c, NULL) < 0);
	der[len] = 0;
	assert_int_equal(authority_check(a, ROLE_DEVICE, der, len + 1, NOW_MS, &c, NULL), -EINVAL);
	assert_int_equal(certificate_read(cam.key, der, &len, &err), -EINVAL);
	assert_non_null(strstr(err.text, cam.key));
}

static void the_list_of_revoked_ones_is_read_again(void **state)
{
	struct identity_paths bad, crl = cam;
	long serial = pki_issue(&pki, ROLE_DEVICE, "stolen", &bad);
	char path[FILE_PATH_MAX];
	assert_int_equal(identity_authority(&crl, ROLE_DEVICE, "crl", path), 0);
	assert_int_equal(check(&bad, ROLE_DEVICE, NOW_MS, NULL), 0);
	pki_revoke(&pki, ROLE_DEVICE, ROLE_DEVICE, &serial, 1, NOW_MS - 1000, NOW_MS + PKI_DAY_MS);
	assert_int_equal(check(&bad, ROLE_DEVICE, NOW_MS, NULL), -EKEYREVOKED);
	assert_int_equal(check(&cam, ROLE_DEVICE, NOW_MS, NULL), 0);
	/* Outdated: nobody is believed, also not who was remembered. */
	assert_int_equal(check(&cam, ROLE_DEVICE, NOW_MS + 2 * PKI_DAY_MS, NULL), -EKEYREJECTED);
	/* Broken, of another authority, gone: neither. */
	util_write(path, "rubbish", 7);
	assert_true(check(&cam, ROLE_DEVICE, NOW_MS, NULL) < 0);
	assert_non_null(strstr(err.text, path));
	assert_true(check(&cam, ROLE_DEVICE, NOW_MS, NULL) < 0);
	assert_non_null(strstr(err.text, path));
	pki_revoke(&pki, ROLE_DEVICE, ROLE_TRAINER, NULL, 0, NOW_MS - 1000, NOW_MS + PKI_DAY_MS);
	assert_true(check(&cam, ROLE_DEVICE, NOW_MS, NULL) < 0);
	unlink(path);
	assert_int_equal(check(&cam, ROLE_DEVICE, NOW_MS, NULL), -EKEYREJECTED);
	assert_non_null(strstr(err.text, "found no list"));
	pki_revoke(&pki, ROLE_DEVICE, ROLE_DEVICE, NULL, 0, NOW_MS - 1000, NOW_MS + PKI_DAY_MS);
	assert_int_equal(check(&cam, ROLE_DEVICE, NOW_MS, NULL), 0);
	assert_int_equal(check(&bad, ROLE_DEVICE, NOW_MS, NULL), 0);
}

static void a_chain_is_verified_once(void **state)
{
	uint64_t before = authority_verified(a);
	struct identity_paths many[50];
	for (int i = 0; i < 50; i++) {
		char name[16];
		snprintf(name, sizeof(name), "d-%d", i);
		pki_issue(&pki, ROLE_DEVICE, name, &many[i]);
	}
	for (int k = 0; k < 10; k++)
		for (int i = 0; i < 50; i++)
			assert_int_equal(check(&many[i], ROLE_DEVICE, NOW_MS, NULL), 0);
	assert_true(authority_verified(a) - before <= 50);
	/* Of another role it is not remembered. */
	assert_int_equal(check(&many[0], ROLE_TRAINER, NOW_MS, NULL), -EKEYREJECTED);
	reopen();
	assert_int_equal(authority_verified(a), 0);
}

static void broken_files_end_the_start(void **state)
{
	char path[FILE_PATH_MAX];
	struct authority *none = NULL;
	assert_int_equal(identity_authority(&cam, ROLE_OPERATOR, "crt", path), 0);
	util_write(path, "-----BEGIN CERTIFICATE-----\n", 28);
	assert_int_equal(authority_new(&cam, &none, &err), -EINVAL);
	assert_non_null(strstr(err.text, path));
	unlink(path);
	assert_int_equal(authority_new(&cam, &none, &err), -ENOENT);
	assert_non_null(strstr(err.text, path));
	/* A certificate that is no authority's. */
	assert_int_equal(rename(cam.certificate, path), 0);
	assert_int_equal(authority_new(&cam, &none, &err), -EINVAL);
	/* Without its list nobody would be shut out. */
	assert_int_equal(identity_authority(&cam, ROLE_DEVICE, "crl", path), 0);
	unlink(path);
	assert_int_equal(authority_new(&cam, &none, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.text, path));
	assert_null(none);
}

#define TEST(x) cmocka_unit_test_setup_teardown(x, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(only_the_roles_own_authority_counts),
		TEST(nobody_in_between_signs),
		TEST(a_certificate_has_its_time),
		TEST(names_must_be_ids),
		TEST(what_is_no_certificate_is_refused),
		TEST(the_list_of_revoked_ones_is_read_again),
		TEST(a_chain_is_verified_once),
		TEST(broken_files_end_the_start),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

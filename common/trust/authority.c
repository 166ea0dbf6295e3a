#include "common/trust/authority.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/crypto/hash.h"

#define WAYS 4
#define SETS (AUTHORITY_CACHE_MAX / WAYS)

struct entry {
	char hash[HASH_SIZE];
	enum role role;
	uint64_t reading; /* of the role's authority that it stands on */
	int64_t until_ms;
	struct certificate certificate;
};

struct one {
	char crt[FILE_PATH_MAX], crl[FILE_PATH_MAX];
	struct certifier *certifier; /* NULL: the list cannot be read */
	struct err broken;
	struct stat seen; /* the list as it was read */
	uint64_t reading; /* counts */
};

struct authority {
	struct one of[ROLE_N];
	struct entry *cache[SETS][WAYS];
	unsigned next[SETS];
	uint64_t n_verified;
};

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Reads the authority where it was not yet, or its list has changed. */
static int refresh(struct one *o, struct err *err)
{
	struct stat st;
	if (stat(o->crl, &st) < 0)
		return err_set(err, -EKEYREJECTED,
			       "%s: found no list of revoked certificates (%s), expected one, empty "
			       "or not: nobody is believed without it",
			       o->crl, strerror(errno));
	if (o->reading && same_file(&st, &o->seen)) {
		if (!o->certifier)
			*err = o->broken;
		return o->certifier ? 0 : o->broken.code;
	}
	certifier_free(o->certifier);
	o->certifier = NULL;
	o->seen = st;
	o->reading++;
	int r = certifier_read(o->crt, o->crl, &o->certifier, &o->broken);
	if (r < 0)
		*err = o->broken;
	return r;
}

int authority_new(const struct identity_paths *paths, struct authority **ret, struct err *err)
{
	struct err why = {0};
	struct authority *a = calloc(1, sizeof(*a));
	int r = a ? 0 : err_errno(&why, -ENOMEM, "%s", paths->authorities);
	for (int i = 0; r == 0 && i < ROLE_N; i++) {
		r = identity_authority(paths, (enum role)i, "crt", a->of[i].crt);
		if (r == 0)
			r = identity_authority(paths, (enum role)i, "crl", a->of[i].crl);
		if (r < 0)
			err_errno(&why, r, "%.200s", paths->authorities);
		else
			r = refresh(&a->of[i], &why);
	}
	if (r < 0) {
		authority_free(a);
		if (err)
			*err = why;
		return r;
	}
	*ret = a;
	return 0;
}

void authority_free(struct authority *a)
{
	if (!a)
		return;
	for (int i = 0; i < ROLE_N; i++)
		certifier_free(a->of[i].certifier);
	for (size_t i = 0; i < SETS; i++)
		for (size_t k = 0; k < WAYS; k++)
			free(a->cache[i][k]);
	free(a);
}

static size_t set_of(const char *hash)
{
	char digits[9];
	memcpy(digits, hash, 8);
	digits[8] = 0;
	return strtoul(digits, NULL, 16) % SETS;
}

static const struct entry *remembered(const struct authority *a, enum role role, const char *hash,
				      int64_t now_ms)
{
	struct entry *const *set = a->cache[set_of(hash)];
	for (size_t k = 0; k < WAYS; k++) {
		const struct entry *e = set[k];
		if (e && strcmp(e->hash, hash) == 0 && e->role == role &&
		    e->reading == a->of[role].reading && now_ms <= e->until_ms &&
		    now_ms >= e->certificate.from_ms)
			return e;
	}
	return NULL;
}

/* In place of the oldest of its set; without memory it is not remembered. */
static void remember(struct authority *a, enum role role, const char *hash,
		     const struct certificate *c)
{
	size_t set = set_of(hash);
	struct entry **at = &a->cache[set][a->next[set]++ % WAYS];
	if (!*at)
		*at = malloc(sizeof(**at));
	if (!*at)
		return;
	**at = (struct entry){
		.role = role,
		.reading = a->of[role].reading,
		.until_ms = MIN_OF(c->until_ms, certifier_until_ms(a->of[role].certifier)),
		.certificate = *c};
	memcpy((*at)->hash, hash, HASH_SIZE);
}

int authority_check(struct authority *a, enum role role, const void *der, size_t len,
		    int64_t now_ms, struct certificate *ret, struct err *err)
{
	struct err why = {0};
	char hash[HASH_SIZE];
	int r = hash_bytes(der, len, hash);
	if (r < 0)
		err_errno(&why, r, "sha256");
	else
		r = refresh(&a->of[role], &why);
	const struct entry *e = r == 0 ? remembered(a, role, hash, now_ms) : NULL;
	if (e) {
		*ret = e->certificate;
		return 0;
	}
	if (r == 0) {
		a->n_verified++;
		r = certifier_verify(a->of[role].certifier, der, len, now_ms, ret, &why);
	}
	if (r == 0)
		remember(a, role, hash, ret);
	else if (err)
		*err = why;
	return r;
}

uint64_t authority_verified(const struct authority *a)
{
	return a->n_verified;
}

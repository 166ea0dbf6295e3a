#include "common/trust/identity.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/crypto/x509.h"

/* In the order of the enum. */
static const char *const roles[ROLE_N] = {"device", "trainer", "operator", "dashboard", "broker"};

const char *role_name(enum role role)
{
	return roles[role];
}

int identity_authority(const struct identity_paths *p, enum role role, const char *suffix,
		       char ret[FILE_PATH_MAX])
{
	return file_path(ret, FILE_PATH_MAX, "%s/%s.%s", p->authorities, roles[role], suffix);
}

const char *identity_mode(const struct identity_paths *p)
{
	return *p->certificate ? "with certificates" : "without certificates: all is in the clear";
}

static int check_file(const char *path, const char *expected, struct stat *ret, struct err *err)
{
	int r = stat(path, ret) < 0 || access(path, R_OK) < 0 ? -errno : 0;
	if (r == 0 && !S_ISREG(ret->st_mode))
		r = S_ISDIR(ret->st_mode) ? -EISDIR : -EINVAL;
	if (r < 0)
		return err_set(err, r, "found '%.200s' (%s), expected %s", path, strerror(-r),
			       expected);
	return 0;
}

int identity_check(const struct identity_paths *p, const char **ret_key, struct err *err)
{
	char path[FILE_PATH_MAX];
	struct stat st;
	*ret_key = "certificate";
	int r = check_file(p->certificate, "a certificate (PEM)", &st, err);
	if (r < 0)
		return r;
	*ret_key = "key";
	r = check_file(p->key, "a private key (PEM)", &st, err);
	if (r < 0)
		return r;
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		return err_set(err, -EACCES,
			       "found '%.200s' with mode %04o, expected a file that only its owner "
			       "can read (0600)",
			       p->key, (unsigned)st.st_mode & 07777);
	*ret_key = "authorities";
	for (int i = 0; i < ROLE_N; i++) {
		r = identity_authority(p, (enum role)i, "crt", path);
		if (r < 0)
			return err_errno(err, r, "%.200s", p->authorities);
		r = check_file(path, "the certificate of an authority (PEM)", &st, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int identity_conf_read(struct conf *c, struct identity_paths *ret, struct err *err)
{
	struct identity_paths p = {0};
	int r;
	if (!conf_has_section(c, "identity")) {
		*ret = p;
		return 0;
	}
	if ((r = conf_file(c, "identity", "certificate", NULL, p.certificate, sizeof(p.certificate),
			   err)) < 0 ||
	    (r = conf_file(c, "identity", "key", NULL, p.key, sizeof(p.key), err)) < 0 ||
	    (r = conf_file(c, "identity", "authorities", NULL, p.authorities, sizeof(p.authorities),
			   err)) < 0)
		return r;
	*ret = p;
	return 0;
}

int identity_conf(struct conf *c, struct identity_paths *ret, struct err *err)
{
	struct identity_paths p;
	const char *key;
	struct err why = {0};
	int r = identity_conf_read(c, &p, err);
	if (r == 0 && *p.certificate && (r = identity_check(&p, &key, &why)) < 0)
		return conf_fail(c, "identity", key, r, err, "%s", why.text);
	if (r == 0)
		*ret = p;
	return r;
}

int identity_name(const struct identity_paths *p, char ret[ID_SIZE], struct err *err)
{
	unsigned char der[CERTIFICATE_MAX];
	struct certificate c;
	size_t len;
	int r = certificate_read(p->certificate, der, &len, err);
	if (r == 0) {
		r = certificate_parse(der, len, &c, err);
		if (r < 0)
			err_prefix(err, "%.200s", p->certificate);
	}
	if (r == 0)
		memcpy(ret, c.name, ID_SIZE);
	return r;
}

int identity_conf_name(const struct conf *c, const struct identity_paths *p, const char *id,
		       struct err *err)
{
	char name[ID_SIZE];
	struct err why = {0};
	if (!*p->certificate)
		return 0;
	int r = identity_name(p, name, &why);
	if (r < 0)
		return conf_fail(c, "identity", "certificate", r, err, "%s", why.text);
	if (strcmp(name, id) != 0)
		return conf_fail(c, "identity", "certificate", -EINVAL, err,
				 "found the certificate of '%s', expected that of '%s'", name, id);
	return 0;
}

int identity_tls(const struct identity_paths *p, struct mqtt_tls *ret, struct err *err)
{
	*ret = (struct mqtt_tls){0};
	if (!*p->certificate)
		return 0;
	memcpy(ret->certificate, p->certificate, sizeof(ret->certificate));
	memcpy(ret->key, p->key, sizeof(ret->key));
	int r = identity_authority(p, ROLE_BROKER, "crt", ret->authority);
	return r < 0 ? err_errno(err, r, "%.200s", p->authorities) : 0;
}

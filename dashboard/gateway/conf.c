#include "dashboard/gateway/conf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/address.h"
#include "common/base/mem.h"
#include "common/conf/check.h"
#include "common/conf/conf.h"
#include "dashboard/gateway/password.h"

#define CONNECTIONS_MAX 4096

static void conf_freep(struct conf **c)
{
	conf_free(*c);
}

/* `file` is what `key` of `section` named. */
static int check_file(const struct conf *c, const char *section, const char *key, const char *file,
		      bool secret, struct err *err)
{
	struct stat st;
	if (!*file)
		return 0;
	int r = stat(file, &st) < 0 || access(file, R_OK) < 0 ? -errno : 0;
	if (r == 0 && !S_ISREG(st.st_mode))
		r = -EINVAL;
	if (r < 0)
		return conf_fail(c, section, key, r, err,
				 "found '%.200s' (%s), expected a file that can be read", file,
				 strerror(-r));
	if (secret && st.st_mode & (S_IRWXG | S_IRWXO))
		return conf_fail(c, section, key, -EACCES, err,
				 "found '%.200s' with mode %04o, expected a file that only its "
				 "owner can read (0600)",
				 file, (unsigned)st.st_mode & 07777);
	return 0;
}

/* Plain HTTP shows a password and a session to the whole way. */
static int read_listen(struct conf *c, struct gateway_conf *g, struct err *err)
{
	char listen[GATEWAY_HOST_SIZE + 16];
	struct address at;
	int r;
	if ((r = conf_str(c, "dashboard", "listen", "127.0.0.1:8080", listen, sizeof(listen),
			  err)) < 0 ||
	    (r = conf_str(c, "dashboard", "host", "", g->host_name, sizeof(g->host_name), err)) <
		    0 ||
	    (r = conf_bool(c, "dashboard", "insecure", false, &g->insecure, err)) < 0 ||
	    (r = conf_file(c, "tls", "certificate", conf_has_section(c, "tls") ? NULL : "",
			   g->certificate, sizeof(g->certificate), err)) < 0 ||
	    (r = conf_file(c, "tls", "key", conf_has_section(c, "tls") ? NULL : "", g->key,
			   sizeof(g->key), err)) < 0 ||
	    (r = check_file(c, "tls", "certificate", g->certificate, false, err)) < 0 ||
	    (r = check_file(c, "tls", "key", g->key, true, err)) < 0)
		return r;
	if (address_parse(listen, &at) < 0)
		return conf_fail(
			c, "dashboard", "listen", -EINVAL, err,
			"found '%.200s', expected ADDRESS:PORT, as 127.0.0.1:8080 or [::1]:8080",
			listen);
	strcpy(g->listen, at.host);
	g->listen_port = at.port;
	if (!at.loopback && !*g->certificate && !g->insecure)
		return conf_fail(c, "dashboard", "listen", -EACCES, err,
				 "found %s, which others reach, without a section [tls]; expected "
				 "a loopback "
				 "address, a certificate for browsers, or insecure = yes",
				 listen);
	return 0;
}

static int read_dashboard(struct conf *c, struct gateway_conf *g, struct err *err)
{
	int r;
	if ((r = conf_id(c, "dashboard", "site", "home", g->site, sizeof(g->site), err)) < 0 ||
	    (r = conf_file(c, "dashboard", "page", NULL, g->page, sizeof(g->page), err)) < 0 ||
	    (r = conf_check_folder(c, "dashboard", "page", g->page, err)) < 0 ||
	    (r = conf_file(c, "dashboard", "classes", "", g->classes, sizeof(g->classes), err)) <
		    0 ||
	    (r = check_file(c, "dashboard", "classes", g->classes, false, err)) < 0 ||
	    (r = conf_int(c, "dashboard", "connections", 8, CONNECTIONS_MAX, 256, &g->connections,
			  err)) < 0 ||
	    (r = conf_int(c, "dashboard", "connections_per_address", 4, CONNECTIONS_MAX, 64,
			  &g->connections_per_address, err)) < 0)
		return r;
	return read_listen(c, g, err);
}

static int read_broker(struct conf *c, struct gateway_conf *g, struct err *err)
{
	bool secure = conf_has_section(c, "identity");
	int r;
	if ((r = conf_str(c, "broker", "host", "127.0.0.1", g->host, sizeof(g->host), err)) < 0 ||
	    (r = conf_check_host(c, "broker", "host", g->host, err)) < 0 ||
	    (r = conf_int(c, "broker", "port", 1, 65535, secure ? ROLE_PORT(ROLE_DASHBOARD) : 1883,
			  &g->port, err)) < 0)
		return r;
	return identity_conf(c, &g->identity, err);
}

/* Who commands: with [identity] an operator by certificate, too. */
static int read_operator(struct conf *c, struct gateway_conf *g, struct err *err)
{
	bool secure = *g->identity.certificate;
	struct identity_paths *o = &g->operator;
	const char *key;
	struct err why = {0};
	int r;
	if (!conf_has_section(c, "operator"))
		return 0;
	if ((r = conf_file(c, "operator", "password_file", NULL, g->password_file,
			   sizeof(g->password_file), err)) < 0 ||
	    (r = check_file(c, "operator", "password_file", g->password_file, true, err)) < 0 ||
	    (r = conf_file(c, "operator", "certificate", secure ? NULL : "", o->certificate,
			   sizeof(o->certificate), err)) < 0 ||
	    (r = conf_file(c, "operator", "key", secure ? NULL : "", o->key, sizeof(o->key), err)) <
		    0 ||
	    (r = conf_int(c, "operator", "port", 1, 65535,
			  secure ? ROLE_PORT(ROLE_OPERATOR) : g->port, &g->operator_port, err)) < 0)
		return r;
	if (password_check_file(g->password_file, &why) < 0)
		return conf_fail(c, "operator", "password_file", -EINVAL, err, "%s", why.text);
	if (!secure)
		return *o->certificate || *o->key
			       ? conf_fail(c, "operator", *o->certificate ? "certificate" : "key",
					   -EINVAL, err,
					   "found one, expected none without a section [identity]")
			       : 0;
	memcpy(o->authorities, g->identity.authorities, sizeof(o->authorities));
	r = identity_check(o, &key, &why);
	return r < 0 ? conf_fail(c, "operator", key, r, err, "%s", why.text) : 0;
}

int gateway_conf_load(const char *path, struct gateway_conf *ret, struct err *err)
{
	static const char *const sections[] = {"dashboard", "broker", "identity",
					       "operator",  "tls",    NULL};
	_cleanup_(conf_freep) struct conf *c = NULL;
	_cleanup_free_ struct gateway_conf *g = calloc(1, sizeof(*g));
	int r;
	if (!g)
		return err_set(err, -ENOMEM, "%s: out of memory", path);
	if ((r = conf_load(path, &c, err)) < 0 || (r = conf_sections(c, sections, err)) < 0 ||
	    (r = read_dashboard(c, g, err)) < 0 || (r = read_broker(c, g, err)) < 0 ||
	    (r = read_operator(c, g, err)) < 0 || (r = conf_finish(c, err)) < 0)
		return r;
	*ret = *g;
	return 0;
}

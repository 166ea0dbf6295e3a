/* Who this program is: its certificate, its key, and the authorities that it believes. The section
 * [identity] of a configuration file; without it a program runs in the plain mode of development:
 * no TLS, nothing signed, nothing sealed. With it all of that is on; there are no switches for
 * parts.
 *
 * There are five roles, and each has an authority (a self-signed root) of its own, so that the
 * authority which signed a certificate says the role, and its common name the id. The folder of
 * authorities has ROLE.crt for each role and, where something was revoked, ROLE.crl, all PEM.
 * deploy/pki makes them. */
#pragma once

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/id.h"
#include "common/conf/conf.h"
#include "common/mqtt/mqtt.h"

enum role { ROLE_DEVICE, ROLE_TRAINER, ROLE_OPERATOR, ROLE_DASHBOARD, ROLE_BROKER, ROLE_N };

/* The broker's, for a role other than its own, unless one is configured: a listener for each
 * (broker-config/production.conf). */
#define ROLE_PORT(role) (8883 + (int)(role))

struct identity_paths {
	char certificate[FILE_PATH_MAX]; /* PEM; "": plain mode, and the others are "", too */
	char key[FILE_PATH_MAX];         /* PEM, Ed25519, only its owner may read it */
	char authorities[FILE_PATH_MAX]; /* folder */
};

/* "device": also the name of its files. */
const char *role_name(enum role role);

/* Whether there is one, for the log's first line. */
const char *identity_mode(const struct identity_paths *p);

/* The section [identity]; each of its keys is required where it stands. Errors as conf_fail()'s. */
int identity_conf_read(struct conf *c, struct identity_paths *ret, struct err *err);
/* The same, and that the files are what they should be: identity_check(). */
int identity_conf(struct conf *c, struct identity_paths *ret, struct err *err);
/* That the files are there, and the key is nobody else's to read. *ret_key is the name of the key
 * of [identity] that is wrong, and err says what was found and expected. */
int identity_check(const struct identity_paths *p, const char **ret_key, struct err *err);
/* The name in the certificate. Errors name the file. */
int identity_name(const struct identity_paths *p, char ret[ID_SIZE], struct err *err);
/* That it is this one: else the broker would let us do nothing that we try. Errors as
 * conf_fail()'s; passes in plain mode. */
int identity_conf_name(const struct conf *c, const struct identity_paths *p, const char *id,
		       struct err *err);
/* FOLDER/ROLE.crt or, with `suffix` "crl", its list of revoked ones. -ENAMETOOLONG. */
int identity_authority(const struct identity_paths *p, enum role role, const char *suffix,
		       char ret[FILE_PATH_MAX]);
/* What a connection to the broker needs; nothing in plain mode. Where it fails (the path of the
 * authority is too long) *ret is one by which no broker is believed, never a plain one. */
int identity_tls(const struct identity_paths *p, struct mqtt_tls *ret, struct err *err);

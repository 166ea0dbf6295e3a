/* The authorities that this program believes, one a role, and what they stand for now.
 *
 * Model: a certificate that was found good is remembered, by the sha256 of its bytes, until it or
 * its authority's word ends, or the list of revoked ones changes; so a trainer of thousands of
 * devices verifies each chain once. What was found bad is not remembered: whoever sends rubbish
 * pays for nobody's memory. The list is looked at with each question and read again when the file
 * has changed; one that cannot be read, or is not there, lets nobody in: who forgot to copy it would
 * let revoked ones in without a word. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/crypto/x509.h"
#include "common/trust/identity.h"

#define AUTHORITY_CACHE_MAX 8192 /* certificates that are remembered */

struct authority;

/* Reads all of them; a broken or missing file is an error that names it. */
int authority_new(const struct identity_paths *paths, struct authority **ret, struct err *err);
void authority_free(struct authority *a); /* NULL allowed */
/* That the role's authority stands for this certificate at that time (UTC). Errors as
 * certifier_verify()'s. */
int authority_check(struct authority *a, enum role role, const void *der, size_t len,
		    int64_t now_ms, struct certificate *ret, struct err *err);
/* How often a chain was verified, not remembered. */
uint64_t authority_verified(const struct authority *a);

/* Names that become parts of topics and paths. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ID_MAX     64 /* bytes of a device, trainer, site or command id */
#define ID_SIZE    (ID_MAX + 1)
#define HASH_HEX   64 /* sha256 in lower-case hex */
#define HASH_SIZE  (HASH_HEX + 1)
#define LOGID_MIN  8 /* of a device's log of reports, made at random with its state folder */
#define LOGID_MAX  32
#define LOGID_SIZE (LOGID_MAX + 1)

/* [A-Za-z0-9._-]{1,64}, and neither "." nor "..". */
bool id_valid(const char *s);
/* Exactly 64 lower-case hex digits. */
bool hash_valid(const char *s);
/* [A-Za-z0-9]{8,32}. */
bool logid_valid(const char *s);
/* The first 12 digits, for people; static storage per call site is avoided: the caller gives it. */
const char *hash_short(const char *hash, char out[13]);

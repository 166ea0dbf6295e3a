/* Who may command from the page: sessions, each a random number that a browser keeps as a cookie,
 * and how often passwords may be tried. Pure: the caller brings time and randomness. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/bucket.h"
#include "dashboard/gateway/peers.h"

#define ACCESS_TOKEN         32 /* bytes */
#define ACCESS_SESSIONS_MAX  32 /* one more ends the one that was used longest ago */
#define ACCESS_LIFE_MS       (12LL * 3600 * 1000)
#define ACCESS_IDLE_MS       (30LL * 60 * 1000) /* without a command */
#define ACCESS_ADDRESSES_MAX 256

/* Of passwords, and of commands of a session. An attempt costs a hash of some 20 ms. */
#define ACCESS_TRIES_ADDRESS ((struct bucket_limit){.burst = 5, .per_s = 1.0 / 30})
#define ACCESS_TRIES_ALL     ((struct bucket_limit){.burst = 20, .per_s = 0.5})
#define ACCESS_COMMANDS      ((struct bucket_limit){.burst = 30, .per_s = 2})

struct access_session {
	bool open;
	uint8_t token[ACCESS_TOKEN];
	int64_t opened_ms, used_ms;
	struct bucket commands;
};

/* Zeroed: nobody is there. */
struct access {
	struct access_session sessions[ACCESS_SESSIONS_MAX];
	struct bucket tries;
	struct {
		char address[PEER_SIZE];
		struct bucket tries;
	} addresses[ACCESS_ADDRESSES_MAX];
};

/* Whether a password may be tried from there; it is counted then. If not, *ret_wait_ms (above 0) is
 * how long to wait. */
bool access_may_try(struct access *a, const char *address, int64_t now_ms, int64_t *ret_wait_ms);
/* `token`: random, and nobody else's. */
void access_open(struct access *a, const uint8_t token[ACCESS_TOKEN], int64_t now_ms);
/* The session of that token, NULL: there is none, or not any more. Takes as long whatever the token
 * is. */
struct access_session *access_find(struct access *a, const uint8_t token[ACCESS_TOKEN],
				   int64_t now_ms);
/* It commands: it is used, and counted. False: too often. */
bool access_command(struct access_session *s, int64_t now_ms);
void access_close(struct access_session *s);

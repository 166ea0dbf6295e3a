/* How many connections there are, in all and from each address. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_SIZE 64   /* an address as text */
#define PEERS_MAX 4096 /* connections */

struct peers {
	uint32_t n, n_addresses;
	struct {
		char address[PEER_SIZE];
		uint32_t n;
	} addresses[PEERS_MAX];
};

/* Whether one more from there is within both limits (in all at most PEERS_MAX); it is counted then.
 */
bool peers_enter(struct peers *p, const char *address, uint32_t max, uint32_t max_per_address);
void peers_leave(struct peers *p, const char *address);

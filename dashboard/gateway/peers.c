#include "dashboard/gateway/peers.h"

#include <stdio.h>
#include <string.h>

static uint32_t find(const struct peers *p, const char *address)
{
	uint32_t i = 0;
	while (i < p->n_addresses && strcmp(p->addresses[i].address, address) != 0)
		i++;
	return i;
}

bool peers_enter(struct peers *p, const char *address, uint32_t max, uint32_t max_per_address)
{
	uint32_t i = find(p, address);
	if (p->n >= max || p->n >= PEERS_MAX)
		return false;
	if (i == p->n_addresses) { /* there is room: each has at least one connection */
		p->addresses[i].n = 0;
		snprintf(p->addresses[i].address, PEER_SIZE, "%s", address);
		p->n_addresses++;
	}
	if (p->addresses[i].n >= max_per_address)
		return false;
	p->addresses[i].n++;
	p->n++;
	return true;
}

void peers_leave(struct peers *p, const char *address)
{
	uint32_t i = find(p, address);
	if (i == p->n_addresses)
		return;
	p->n--;
	if (--p->addresses[i].n == 0)
		p->addresses[i] = p->addresses[--p->n_addresses];
}

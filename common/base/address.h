/* ADDRESS:PORT, where a server listens: numeric, an IPv6 address in brackets. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>

struct address {
	char host[INET6_ADDRSTRLEN]; /* without brackets */
	int port;                    /* 1 to 65535 */
	bool loopback;               /* of 127.0.0.0/8, or ::1 */
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} socket;
};

/* -EINVAL: it is none, and *ret is as it was. */
int address_parse(const char *text, struct address *ret);

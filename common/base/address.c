#include "common/base/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool parse_port(const char *s, int *ret)
{
	size_t n = strspn(s, "0123456789");
	long v = strtol(s, NULL, 10);
	if (n == 0 || n > 5 || s[n] || *s == '0' || v > 65535)
		return false;
	*ret = (int)v;
	return true;
}

static bool parse_host(struct address *a, bool six)
{
	in_port_t port = htons((in_port_t)a->port);
	if (six) {
		struct sockaddr_in6 *s = &a->socket.in6;
		*s = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port};
		bool ok = inet_pton(AF_INET6, a->host, &s->sin6_addr) == 1;
		a->loopback = ok && IN6_IS_ADDR_LOOPBACK(&s->sin6_addr);
		return ok;
	}
	struct sockaddr_in *s = &a->socket.in;
	*s = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
	bool ok = inet_pton(AF_INET, a->host, &s->sin_addr) == 1;
	a->loopback = ok && ntohl(s->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return ok;
}

int address_parse(const char *text, struct address *ret)
{
	struct address a = {0};
	const char *colon = strrchr(text, ':');
	if (!colon || colon == text || !parse_port(colon + 1, &a.port))
		return -EINVAL;
	bool six = text[0] == '[' && colon[-1] == ']';
	const char *begin = text + six, *end = colon - six;
	if (end <= begin || (size_t)(end - begin) >= sizeof(a.host))
		return -EINVAL;
	memcpy(a.host, begin, (size_t)(end - begin));
	if (!parse_host(&a, six))
		return -EINVAL;
	*ret = a;
	return 0;
}

#include "common/metrics/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool parse_port(const char *s, in_port_t *ret)
{
	size_t n = strspn(s, "0123456789");
	long v = strtol(s, NULL, 10);
	if (n == 0 || n > 5 || s[n] || *s == '0' || v > 65535)
		return false;
	*ret = htons((in_port_t)v);
	return true;
}

int metrics_listen_parse(const char *text, struct metrics_conf *ret)
{
	struct metrics_conf c = {0};
	char host[sizeof(c.listen)];
	const char *colon = strrchr(text, ':');
	in_port_t port;
	if (strlen(text) >= sizeof(c.listen))
		return -EINVAL;
	strcpy(c.listen, text);
	if (*text) {
		if (!colon || !parse_port(colon + 1, &port))
			return -EINVAL;
		memcpy(host, text, (size_t)(colon - text));
		host[colon - text] = 0;
		if (strcmp(host, "[::1]") == 0) {
			c.address.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6,
							      .sin6_port = port,
							      .sin6_addr = in6addr_loopback};
		} else {
			c.address.in =
				(struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
			if (inet_pton(AF_INET, host, &c.address.in.sin_addr) != 1 ||
			    ntohl(c.address.in.sin_addr.s_addr) >> 24 != IN_LOOPBACKNET)
				return -EINVAL;
		}
	}
	*ret = c;
	return 0;
}

int metrics_conf(struct conf *c, struct metrics_conf *ret, struct err *err)
{
	char text[CONF_VALUE_MAX + 1];
	int r = conf_str(c, "metrics", "listen", "", text, sizeof(text), err);
	if (r < 0)
		return r;
	r = metrics_listen_parse(text, ret);
	return r < 0 ? conf_fail(c, "metrics", "listen", r, err,
				 "found '%.64s', expected nothing, or a loopback address and a "
				 "port such as "
				 "127.0.0.1:9464 or [::1]:9464",
				 text)
		     : 0;
}

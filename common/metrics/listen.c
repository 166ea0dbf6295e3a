#include "common/metrics/listen.h"

#include <errno.h>
#include <string.h>

int metrics_listen_parse(const char *text, struct metrics_conf *ret)
{
	struct metrics_conf c = {0};
	if (strlen(text) >= sizeof(c.listen))
		return -EINVAL;
	strcpy(c.listen, text);
	if (*text && (address_parse(text, &c.address) < 0 || !c.address.loopback))
		return -EINVAL;
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

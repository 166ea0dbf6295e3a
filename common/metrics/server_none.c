/* In a build without libmicrohttpd. */
#include <errno.h>

#include "common/metrics/server.h"

int metrics_server_new(struct loop *loop, const struct metrics_conf *conf,
		       void (*fill)(void *user, FILE *to), void *user, struct metrics_server **ret,
		       struct err *err)
{
	*ret = NULL;
	return *conf->listen
		       ? err_set(err, -EOPNOTSUPP,
				 "[metrics] listen = %s: this program was built without "
				 "libmicrohttpd (package libmicrohttpd-dev), and tells no figures",
				 conf->listen)
		       : 0;
}

void metrics_server_free(struct metrics_server *s)
{
}

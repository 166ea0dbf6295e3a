/* tasuki-dashboard: arguments. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/arguments.h"
#include "common/base/log.h"
#include "common/base/notify.h"
#include "dashboard/gateway/gateway.h"

static int run(const struct gateway_conf *conf)
{
	static struct gateway g;
	struct err err = {0};
	int r = gateway_start(&g, conf, &err);
	if (r == 0) {
		log_info("started version=%s site=%s at=%s:%d %s", TASUKI_VERSION, conf->site,
			 conf->listen, conf->listen_port, identity_mode(&conf->identity));
		notify_send("READY=1");
		r = gateway_run(&g);
		notify_send("STOPPING=1");
		if (r < 0)
			err_errno(&err, r, "event loop");
	}
	if (r < 0)
		log_error("%s", err.text);
	gateway_stop(&g);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static struct gateway_conf conf;
	struct arguments a = {
		"tasuki-dashboard",
		"Serves the dashboard's page to browsers, and shows them what the broker says.",
		"dashboard.conf",
		"",
	};
	struct err err = {0};
	int code = arguments_read(&a, argc, argv);
	if (code >= 0)
		return code;
	if (gateway_conf_load(a.conf, &conf, &err) < 0) {
		log_error("%s", err.text);
		return EXIT_FAILURE;
	}
	if (!a.check)
		return run(&conf);
	printf("%s: fine: site=%s at=%s:%d\n", a.conf, conf.site, conf.listen, conf.listen_port);
	return EXIT_SUCCESS;
}

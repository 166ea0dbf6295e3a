/* tasuki-dashboard: arguments. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "dashboard/gateway/gateway.h"

#define EXIT_USAGE 2

static void usage(FILE *f)
{
	fputs("Usage: tasuki-dashboard [--check-config] [--verbose] [--version] CONFIG\n"
	      "Serves the dashboard's page to browsers, and shows them what the broker says.\n"
	      "  --check-config  check CONFIG and what it names, make nothing, then exit\n"
	      "  --verbose       log every step\n"
	      "  --version       print the version, then exit\n"
	      "  --help          print this, then exit\n"
	      "CONFIG: see dashboard.conf among the examples, which has every key and its "
	      "default.\n",
	      f);
}

static int run(const struct gateway_conf *conf)
{
	static struct gateway g;
	struct err err = {0};
	int r = gateway_start(&g, conf, &err);
	if (r == 0) {
		log_info("started version=%s site=%s at=%s:%d %s", TASUKI_VERSION, conf->site,
			 conf->listen, conf->listen_port, identity_mode(&conf->identity));
		log_notify("READY=1");
		r = gateway_run(&g);
		log_notify("STOPPING=1");
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
	static const struct option options[] = {
		{"check-config", no_argument, NULL, 'c'},
		{"verbose", no_argument, NULL, 'v'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	static struct gateway_conf conf;
	bool check = false, verbose = false;
	struct err err = {0};
	int c;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h') {
			usage(stdout);
			return EXIT_SUCCESS;
		}
		if (c == 'V') {
			printf("tasuki-dashboard %s\n", TASUKI_VERSION);
			return EXIT_SUCCESS;
		}
		if (c == '?') {
			usage(stderr);
			return EXIT_USAGE;
		}
		check |= c == 'c';
		verbose |= c == 'v';
	}
	if (optind != argc - 1) {
		usage(stderr);
		return EXIT_USAGE;
	}
	log_init("tasuki-dashboard", verbose ? LOG_P_DEBUG : LOG_P_INFO);
	if (gateway_conf_load(argv[optind], &conf, &err) < 0) {
		log_error("%s", err.text);
		return EXIT_FAILURE;
	}
	if (!check)
		return run(&conf);
	printf("%s: fine: site=%s at=%s:%d\n", argv[optind], conf.site, conf.listen,
	       conf.listen_port);
	return EXIT_SUCCESS;
}

/* tasuki privacy: what so many handovers with so much noise give away, before any is made. */
#include <stdio.h>

#include "cli/cli.h"
#include "common/checkpoint/weights.h"
#include "common/privacy/accountant.h"

#define HANDOVERS_MAX 1000000

static const char privacy_help[] =
	"usage: tasuki privacy --noise X --handovers N [--delta X] [--json]\n\n"
	"Epsilon after N handovers of a device with `noise = X` and this delta (1e-5) in "
	"[privacy]\n"
	"of its agent.conf: any two sets of images that it may have are as hard to tell apart by\n"
	"all that it handed over. The clip does not matter to it. See docs/security.md.\n";

enum { OPT_NOISE = 256, OPT_HANDOVERS, OPT_DELTA, OPT_JSON, OPT_HELP };

static const struct option long_options[] = {
	{"noise", required_argument, NULL, OPT_NOISE},
	{"handovers", required_argument, NULL, OPT_HANDOVERS},
	{"delta", required_argument, NULL, OPT_DELTA},
	{"json", no_argument, NULL, OPT_JSON},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

struct plan {
	double noise, delta;
	int64_t handovers;
	bool json, help;
};

static bool take(struct plan *p, int c)
{
	switch (c) {
	case OPT_NOISE:
		return cli_num("privacy", "--noise", optarg, WEIGHTS_NOISE_MIN, WEIGHTS_NOISE_MAX,
			       &p->noise);
	case OPT_HANDOVERS:
		return cli_int("privacy", "--handovers", optarg, 1, HANDOVERS_MAX, &p->handovers);
	case OPT_DELTA:
		return cli_num("privacy", "--delta", optarg, ACCOUNTANT_DELTA_MIN,
			       ACCOUNTANT_DELTA_MAX, &p->delta);
	case OPT_JSON:
		return p->json = true;
	case OPT_HELP:
		return p->help = true;
	default:
		return false;
	}
}

int cmd_privacy(int argc, char **argv)
{
	struct plan p = {.delta = 1e-5};
	int c;
	optind = 1;
	while ((c = cli_getopt(argc, argv, long_options)) != -1)
		if (!take(&p, c))
			return CLI_USAGE;
	if (p.help)
		return fputs(privacy_help, stdout) < 0 ? CLI_FAIL : CLI_OK;
	if (optind < argc)
		return cli_usage("privacy", "found '%s', expected options only", argv[optind]);
	if (p.noise <= 0 || p.handovers == 0)
		return cli_usage("privacy", "--noise and --handovers are required");
	double epsilon =
		accountant_epsilon((double)p.handovers * accountant_handover(p.noise), p.delta);
	if (!p.json) {
		printf("epsilon %.4g at delta %g after %lld handover%s with noise %g\n", epsilon,
		       p.delta, (long long)p.handovers, p.handovers == 1 ? "" : "s", p.noise);
		return CLI_OK;
	}
	struct json *j = json_new_obj();
	json_set_num(j, "epsilon", epsilon);
	json_set_num(j, "delta", p.delta);
	json_set_int(j, "handovers", p.handovers);
	json_set_num(j, "noise", p.noise);
	return cli_print_json(j);
}

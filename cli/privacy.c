/* tasuki privacy: what so many handovers with so much noise give away, before any is made. */
#include <stdio.h>

#include "cli/cli.h"
#include "common/checkpoint/weights.h"
#include "common/privacy/accountant.h"

#define HANDOVERS_MAX 1000000

enum { OPT_NOISE = 256, OPT_HANDOVERS, OPT_DELTA };

static const struct cli_option options[] = {
	{"noise", "X", "of each weight, in clips, as in agent.conf", OPT_NOISE},
	{"handovers", "N", "so many", OPT_HANDOVERS},
	{"delta", "X", "as in agent.conf (1e-5)", OPT_DELTA},
	CLI_JSON,
	{0},
};
const struct cli_spec spec_privacy = {
	"--noise X --handovers N [OPTION ...]",
	"Epsilon after N handovers of a device with `noise = X` and this delta in [privacy] of its\n"
	"agent.conf: any two sets of images that it may have are as hard to tell apart by all that\n"
	"it handed over. The clip does not matter to it. See docs/security.md.\n",
	options,
	"tasuki privacy --noise 4 --handovers 10",
};

struct plan {
	double noise, delta;
	int64_t handovers;
	bool json;
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
	case CLI_OPT_JSON:
		return p->json = true;
	default:
		return false;
	}
}

int cmd_privacy(int argc, char **argv)
{
	struct plan p = {.delta = 1e-5};
	int c;
	optind = 1;
	while ((c = cli_next(&spec_privacy, argc, argv)) != CLI_END)
		if (!take(&p, c))
			return CLI_USAGE;
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

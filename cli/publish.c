/* tasuki publish: weights for the whole fleet. MQTT carries what a trainer has; so they are laid
 * into the trainer's state folder, on its machine, and it takes them from there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"

enum { OPT_CFG = 256, OPT_STATE };

static const struct cli_option options[] = {
	{"cfg", "FILE", "Darknet cfg of the network", OPT_CFG},
	{"state", "DIR", "state folder of a trainer on this machine", OPT_STATE},
	CLI_JSON,
	{0},
};
const struct cli_spec spec_publish = {
	"WEIGHTS --cfg FILE --state DIR [OPTION ...]",
	"Offers a checkpoint to all devices: a share of them first, the rest when these are no\n"
	"worse. Each takes it into use only if it scores better there.\n\n"
	"The trainer takes the file from DIR/publish within a second; if it is away, when it is\n"
	"back and has heard which devices there are. One that it cannot use becomes\n"
	"DIR/publish/*.refused; its log says why. `tasuki rollout` shows how far it is.\n",
	options,
	"tasuki publish new.weights --cfg model.cfg --state /var/lib/tasuki-trainer",
};

static int lay_down(const struct model *m, const char *from, const char *state, char id[HASH_SIZE],
		    char to[FILE_PATH_MAX], struct err *err)
{
	_cleanup_free_ char *data = NULL;
	size_t len;
	int r = file_path(to, FILE_PATH_MAX, "%s/publish", state);
	if (r < 0)
		return err_errno(err, r, "%s", state);
	if (!file_exists(to))
		return err_set(err, -ENOENT,
			       "--state: found no %s, expected the state folder of a trainer", to);
	r = weights_check(m, from, NULL, id, err);
	if (r == 0)
		r = file_read(from, m->file_bytes, &data, &len, err);
	if (r < 0)
		return r;
	r = file_path(to, FILE_PATH_MAX, "%s/publish/%s.weights", state, id);
	return r < 0 ? err_errno(err, r, "%s", state) : file_write(to, data, len, err);
}

int cmd_publish(int argc, char **argv)
{
	const char *cfg = NULL, *state = NULL;
	bool json = false;
	_cleanup_(model_freep) struct model *m = NULL;
	char id[HASH_SIZE], to[FILE_PATH_MAX];
	struct err err = {0};
	int c;
	optind = 1;
	while ((c = cli_next(&spec_publish, argc, argv)) != CLI_END) {
		if (c == OPT_CFG)
			cfg = optarg;
		else if (c == OPT_STATE)
			state = optarg;
		else if (c == CLI_OPT_JSON)
			json = true;
		else
			return CLI_USAGE;
	}
	if (!cfg || !state || argc - optind != 1)
		return cli_usage("publish", "--cfg, --state and one checkpoint are required");
	if ((model_load(cfg, NULL, 0, &m, &err) < 0 && cli_near_file(cfg, &err)) ||
	    lay_down(m, argv[optind], state, id, to, &err) < 0)
		return cli_fail("publish", &err);
	cli_share_modes(to);
	if (!json) {
		printf("checkpoint %s\n%s: the trainer takes it from there\n", id, to);
		return CLI_OK;
	}
	struct json *j = json_new_obj();
	json_set_str(j, "checkpoint", id);
	json_set_str(j, "file", to);
	return cli_print_json(j);
}

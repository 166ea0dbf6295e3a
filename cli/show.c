/* tasuki show: one device in full. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/view.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

static const struct cli_option options[] = {ONLINE_OPTIONS, CLI_JSON, {0}};
const struct cli_spec spec_show = {
	"DEVICE [OPTION ...]",
	"One device in full, from what it last said.\n",
	options,
	"tasuki show cam-1",
};

static void show_handover(const struct online_device *d)
{
	const struct msg_status *s = &d->status;
	if (s->handover[0])
		printf("handover   %s %s\n", s->handover, s->trainer);
	if (d->has_job)
		printf("job        %s at %s, %.0f %%, epoch %lld of %lld%s\n", d->job.phase,
		       d->trainer, 100 * d->job.progress, (long long)d->job.epoch,
		       (long long)d->job.epochs, d->job.window ? ", merged with others" : "");
}

static void show_amounts(const struct msg_status *s)
{
	char moved[VIEW_BYTES_MAX], data[VIEW_BYTES_MAX], left[VIEW_BYTES_MAX];
	view_bytes(moved, s->moved_bytes);
	view_bytes(data, s->data_bytes);
	view_bytes(left, s->disk_free_bytes);
	if (s->moved_bytes >= 0)
		printf("moved      %s of blocks, in and out; its images have %s\n", moved, data);
	if (s->disk_free_bytes >= 0)
		printf("disk       %s free\n", left);
	if (s->skipped_images)
		printf("images     %lld skipped: not readable\n", (long long)s->skipped_images);
}

static void show_text(const struct online_device *d)
{
	const struct msg_status *s = &d->status;
	char at[CLOCK_TEXT_MAX], accuracy[16] = "not known";
	bool away = d->has_presence && !d->online;
	clock_format(s->at_ms, at);
	printf("device     %s (%s)\n", d->id, view_presence(d));
	if (!d->has_status)
		return;
	/* A Will has no time: the last status is the last that is known of it. */
	if (away)
		printf("offline    since %s, its last word, or later; what follows was so then\n",
		       at);
	printf("agent      %s, boot %lld\nmodel      %s\n", s->agent, (long long)s->boot, s->model);
	printf("phase      %s%s%s%s, epoch %lld\n", away ? "offline, was " : "",
	       phase_name(s->phase), s->reason[0] ? ": " : "", s->reason, (long long)s->epoch);
	if (s->has_active && s->active.accuracy >= 0)
		snprintf(accuracy, sizeof(accuracy), "%.2f %%", 100 * s->active.accuracy);
	if (s->has_active)
		printf("active     %s (%s%s), accuracy %s\n", s->active.checkpoint,
		       origin_name(s->active.origin), s->active.pinned ? ", pinned" : "", accuracy);
	else
		printf("active     none yet\n");
	show_handover(d);
	show_amounts(s);
	if (s->audit_seq)
		printf("audit log  line %lld, sha256 %s\n", (long long)s->audit_seq, s->audit_head);
	printf("reports    %lld (tasuki history %s)\nsaid at    %s\n", (long long)s->report_seq,
	       d->id, at);
}

int cmd_show(int argc, char **argv)
{
	struct online o;
	struct err err = {0};
	bool json = false;
	const struct online_device *d;
	int c, r = CLI_OK;
	optind = 1;
	if (!online_init(&o, argv[0]))
		return CLI_USAGE;
	while ((c = cli_next(&spec_show, argc, argv)) != CLI_END) {
		if (c == CLI_WRONG || online_option(&o, c, optarg) < 0)
			return CLI_USAGE;
		json |= c == CLI_OPT_JSON;
	}
	if (argc - optind != 1 || !id_valid(argv[optind]))
		return cli_usage("show", "the id of one device is expected");
	if (online_open(&o, argv[optind], &err) < 0 || online_get(&o, argv[optind], &d, &err) < 0)
		r = cli_fail("show", &err);
	else if (json)
		r = cli_print_json(view_device_json(d));
	else
		show_text(d);
	online_done(&o);
	return r;
}

/* tasuki audit: whether an audit log is what was written; what it says (audit_show.c). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/audit_show.h"
#include "cli/cli.h"
#include "common/audit/audit.h"
#include "common/base/mem.h"

#define HEADS_MAX 100000 /* that are compared: of --head, and of a trainer's log */

enum { OPT_HEAD = 256, OPT_AGAINST, OPT_DEVICE, OPT_EVENT, OPT_PEER, OPT_LAST };

static const struct cli_option options[] = {
	{"head", "SEQ:HASH", "verify: a head that was told before (a status has audit_seq, audit_head): that line must be there, and have that hash. Without any, nothing shows that a whole file was made anew, or its end is missing", OPT_HEAD},
	{"against", "FILE|FOLDER", "verify: the same of all heads of --device in a trainer's audit log", OPT_AGAINST},
	{"device", "ID", "verify: whose log this is", OPT_DEVICE},
	{"event", "NAME", "show: only lines of this event (activated, command, refused, ...)", OPT_EVENT},
	{"peer", "ID", "show: only lines about this device or trainer", OPT_PEER},
	{"last", "N", "show: only the last so many of them", OPT_LAST},
	CLI_JSON,
	{0},
};
const struct cli_spec spec_audit = {
	"verify [--head SEQ:HASH ...] [--device ID --against FILE|FOLDER] FOLDER | FILE ...\n"
	"show [--event NAME] [--peer ID] [--last N] FOLDER | FILE ...",
	"verify checks an audit log: each line, its number and time, and the chain of hashes. FOLDER\n"
	"is the state folder of an agent or a trainer, with all its files; of single FILEs the oldest\n"
	"comes first. Says the first line that is wrong, and the head: the last line's number and\n"
	"hash. show prints the lines for people, checked as they are read; with --json as they are.\n",
	options,
	"tasuki audit verify state\ntasuki audit show --event command --last 20 state",
};

struct heads {
	struct audit_head *at;
	size_t n, room, n_found, n_older;
	const char *device; /* whose are collected */
};

static int add_head(struct heads *h, const struct audit_head *head, struct err *err)
{
	if (h->n == HEADS_MAX)
		return err_set(err, -E2BIG, "more than %d heads", HEADS_MAX);
	if (h->n == h->room) {
		h->room = h->room ? 2 * h->room : 64;
		void *more = realloc(h->at, h->room * sizeof(*h->at));
		if (!more)
			return err_errno(err, -ENOMEM, "heads");
		h->at = more;
	}
	h->at[h->n++] = *head;
	return 0;
}

static int by_seq(const void *one, const void *other)
{
	const struct audit_head *a = one, *b = other;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static bool parse_head(const char *text, struct audit_head *ret)
{
	char *end;
	errno = 0;
	ret->seq = strtoll(text, &end, 10);
	if (errno || end == text || *end != ':' || ret->seq < 1 || !hash_valid(end + 1))
		return false;
	memcpy(ret->hash, end + 1, HASH_SIZE);
	return true;
}

/* A line of the trainer's log. */
static int collect(void *user, const struct audit_head *ignored, const struct json *line,
		   struct err *err)
{
	struct heads *h = user;
	struct audit_head head;
	char event[33], peer[ID_SIZE];
	if (json_get_str(line, "event", event, sizeof(event), NULL) < 0 ||
	    strcmp(event, "head") != 0 || json_get_str(line, "peer", peer, sizeof(peer), NULL) < 0 ||
	    strcmp(peer, h->device) != 0 ||
	    json_get_int(line, "head_seq", 1, JSON_INT_MAX, &head.seq, NULL) < 0 ||
	    json_get_str(line, "head", head.hash, sizeof(head.hash), NULL) < 0)
		return 0;
	return add_head(h, &head, err);
}

/* A line of the log that is checked. */
static int compare(void *user, const struct audit_head *is, const struct json *line, struct err *err)
{
	struct heads *h = user;
	for (; h->n_found < h->n && h->at[h->n_found].seq <= is->seq; h->n_found++) {
		const struct audit_head *told = &h->at[h->n_found];
		if (told->seq < is->seq)
			h->n_older++; /* its line is no longer kept */
		else if (strcmp(told->hash, is->hash) != 0)
			return err_set(err, -EBADMSG, "found sha256 %.12s, told before was %lld:%.12s",
				       is->hash, (long long)told->seq, told->hash);
	}
	return 0;
}

static int verify(char *const *paths, int n, struct heads *h, struct audit_chain *c, struct err *err)
{
	int r = 0;
	if (h->n)
		qsort(h->at, h->n, sizeof(*h->at), by_seq);
	for (int i = 0; i < n && r == 0; i++)
		r = audit_check_path(paths[i], c, compare, h, err);
	if (r == 0 && h->n_found < h->n)
		r = err_set(err, -EBADMSG, "%s: ends with line %lld; told before was %lld:%.12s",
			    paths[n - 1], (long long)c->head.seq,
			    (long long)h->at[h->n_found].seq, h->at[h->n_found].hash);
	return r;
}

static int tell(const struct heads *h, const struct audit_chain *c, const struct err *err, bool json)
{
	if (err->code)
		return cli_fail("audit verify", err);
	if (!json) {
		printf("%llu lines, from %lld, are as they were written; head %lld:%s\n",
		       (unsigned long long)c->lines, (long long)c->first, (long long)c->head.seq,
		       c->lines ? c->head.hash : AUDIT_NONE);
		printf("%zu heads that were told before agree%s\n", h->n_found - h->n_older,
		       h->n ? "" : ": that nothing was made anew is not shown");
		return CLI_OK;
	}
	struct json *j = json_new_obj();
	json_set_int(j, "lines", (int64_t)c->lines);
	json_set_int(j, "first", c->first);
	json_set_int(j, "last", c->head.seq);
	if (c->lines)
		json_set_str(j, "hash", c->head.hash);
	json_set_int(j, "heads", (int64_t)(h->n_found - h->n_older));
	json_set_int(j, "heads_older", (int64_t)h->n_older);
	return cli_print_json(j);
}

struct options {
	const char *against;
	bool show, json;
	struct audit_view view;
};

static bool take(struct options *o, struct heads *h, int c)
{
	struct audit_head head;
	int64_t last;
	switch (c) {
	case OPT_HEAD:
		if (parse_head(optarg, &head))
			return add_head(h, &head, NULL) == 0;
		cli_usage("audit", "--head: found '%s', expected SEQ:HASH", optarg);
		return false;
	case OPT_AGAINST:
		o->against = optarg;
		return true;
	case OPT_DEVICE:
		h->device = optarg;
		return true;
	case OPT_EVENT:
		o->view.event = optarg;
		return true;
	case OPT_PEER:
		o->view.peer = optarg;
		return true;
	case OPT_LAST:
		if (!cli_int("audit", "--last", optarg, 1, AUDIT_SHOW_MAX, &last))
			return false;
		o->view.last = (size_t)last;
		return true;
	case CLI_OPT_JSON:
		return o->json = o->view.json = true;
	default:
		return false;
	}
}

static int parse(struct options *o, struct heads *h, int argc, char **argv)
{
	static const char *const words[] = {"verify", "show"};
	int c;
	optind = 1;
	while ((c = cli_next(&spec_audit, argc, argv)) != CLI_END)
		if (!take(o, h, c))
			return CLI_USAGE;
	if (optind >= argc)
		return cli_usage("audit", "verify or show is expected");
	const char *what = argv[optind];
	o->show = !strcmp(what, "show");
	if (!o->show && strcmp(what, "verify") != 0)
		return cli_usage("audit", "found '%s', expected verify or show%s", what,
				 cli_did_you_mean(cli_nearest(what, words, ARRAY_LEN(words))));
	if (++optind >= argc)
		return cli_usage("audit", "a state folder, or files, are expected");
	if (!o->against != !h->device)
		return cli_usage("audit", "--against and --device go together");
	if (o->show ? h->n || o->against : o->view.event || o->view.peer || o->view.last)
		return cli_usage("audit", "%s takes no such option", what);
	return CLI_OK;
}

int cmd_audit(int argc, char **argv)
{
	struct heads h = {0};
	struct audit_chain theirs = {0}, c = {0};
	struct options o = {0};
	struct err err = {0};
	int r = parse(&o, &h, argc, argv);
	if (r == CLI_OK && o.show) {
		if (audit_show(argv + optind, argc - optind, &o.view, &err) < 0)
			r = cli_fail("audit show", &err);
	} else if (r == CLI_OK) {
		if (!o.against || audit_check_path(o.against, &theirs, collect, &h, &err) == 0)
			verify(argv + optind, argc - optind, &h, &c, &err);
		r = tell(&h, &c, &err, o.json);
	}
	free(h.at);
	return r;
}

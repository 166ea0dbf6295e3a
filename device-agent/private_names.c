#include "device-agent/private_names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/checkpoint/weights.h"

void private_names_done(struct private_names *p)
{
	classes_done(&p->all);
	*p = (struct private_names){0};
}

static bool is_known(const struct private_names *p, const char *name)
{
	for (size_t i = p->n_public; i < p->n_public + p->n; i++)
		if (strcmp(p->all.names[i], name) == 0)
			return true;
	return false;
}

static int read_known(struct private_names *p, int64_t n_expected, struct err *err)
{
	_cleanup_(classes_done) struct classes known = {0};
	int r = file_exists(p->path) ? classes_load(p->path, &known, err) : 0;
	if (r == 0 && (int64_t)known.n < n_expected)
		r = err_set(err, -EINVAL,
			    "%s: found %zu names, expected the %lld that it had: their outputs are "
			    "in the weights. Put it back, or give the device a state folder of its "
			    "own",
			    p->path, known.n, (long long)n_expected);
	if (r == 0)
		r = classes_append(&p->all, &known, p->path, err);
	p->n = known.n;
	return r;
}

static int read_listed(struct private_names *p, const char *path, struct err *err)
{
	_cleanup_(classes_done) struct classes listed = {0};
	int r = classes_load(path, &listed, err);
	struct classes more = {.names = calloc(listed.n + 1, sizeof(*more.names))};
	if (!more.names)
		return err_errno(err, -ENOMEM, "%s", path);
	for (size_t i = 0; i < listed.n; i++)
		if (!is_known(p, listed.names[i]))
			more.names[more.n++] = listed.names[i]; /* borrowed */
	if (r == 0)
		r = classes_append(&p->all, &more, path, err);
	p->n += more.n;
	p->n_new = more.n;
	free(more.names);
	return r;
}

/* That the network has an output for each, whose weights can be told from the others'. */
static int check(const struct private_names *p, const char *listed, const struct model *m,
		 struct err *err)
{
	const char *path = *listed ? listed : p->path;
	if (p->all.n > m->outputs)
		return err_set(err, -E2BIG,
			       "%s: %zu private names, with those that had an output before, but "
			       "%s has %u outputs for the %zu public ones and %u to spare",
			       path, p->n, m->cfg_path, m->outputs, p->n_public,
			       m->outputs - m->n_classes);
	int r = model_output_layer(m, err);
	return r < 0 ? err_prefix(err, "%s", path), r : 0;
}

static int read_all(const struct agent_conf *conf, const struct model *model, int64_t n_expected,
		    struct private_names *p, struct err *err)
{
	const char *listed = conf->private_classes;
	int r = file_path(p->path, sizeof(p->path), "%s/" PRIVATE_NAMES_FILE, conf->state);
	if (r < 0)
		return err_errno(err, r, "%s", conf->state);
	if (!*listed && !n_expected && !file_exists(p->path))
		return 0;
	r = classes_load(conf->worker.classes, &p->all, err);
	p->n_public = p->all.n;
	if (r == 0)
		r = read_known(p, n_expected, err);
	if (r == 0 && *listed)
		r = read_listed(p, listed, err);
	return r < 0 ? r : check(p, listed, model, err);
}

int private_names_read(const struct agent_conf *conf, const struct model *model, int64_t n_expected,
		       struct private_names *ret, struct err *err)
{
	struct private_names p = {0};
	int r = read_all(conf, model, n_expected, &p, err);
	if (r < 0) {
		private_names_done(&p);
		return r;
	}
	*ret = p;
	return 0;
}

int private_names_keep(struct private_names *p, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	if (!p->n_new)
		return 0;
	FILE *f = open_memstream(&text, &len);
	for (size_t i = p->n_public; f && i < p->all.n; i++)
		fprintf(f, "%s\n", p->all.names[i]);
	if (!f || fclose(f) != 0)
		return err_errno(err, -ENOMEM, "%s", p->path);
	int r = file_write(p->path, text, len, err);
	if (r == 0)
		p->n_new = 0;
	return r;
}

int agent_model_load(struct agent_conf *c, struct classes *ret_classes, struct model **ret,
		     struct private_names *ret_names, struct err *err)
{
	struct private_names names = {0};
	int r = classes_load(c->worker.classes, ret_classes, err);
	if (r == 0)
		r = model_load(c->worker.cfg, (const char *const *)ret_classes->names,
			       ret_classes->n, ret, err);
	if (r == 0)
		r = model_check_classifier(*ret, err);
	if (r == 0 && strcmp(c->worker.absent, "mask") == 0)
		r = model_check_absent(*ret, err);
	if (r == 0)
		r = private_names_read(c, *ret, 0, &names, err);
	const struct classes *all = names.n ? &names.all : ret_classes;
	if (r == 0)
		r = agent_conf_classes(c, (const char *const *)all->names, all->n, err);
	if (ret_names)
		*ret_names = names;
	else
		private_names_done(&names);
	return r;
}

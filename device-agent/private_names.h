/* Names of classes that only this device knows, and the outputs that stand for them.
 *
 * The person who runs the device lists them in a file ([model] private_classes). Which output
 * stands for which name is kept in the state folder's private-classes.txt: line k is output
 * n_public + k. It only grows: a name that is listed no longer keeps its output, and what is known
 * is never renumbered, for the weights of that output are about that name. Nothing of it is ever
 * sent. */
#pragma once

#include "common/checkpoint/model.h"
#include "common/dataset/dataset.h"
#include "device-agent/conf.h"

#define PRIVATE_NAMES_FILE "private-classes.txt"

struct private_names {
	struct classes all; /* the public list's, then the private ones in the order of outputs */
	size_t n_public;
	size_t n;                 /* private ones */
	size_t n_new;             /* the last so many of them, not in the state folder yet */
	char path[FILE_PATH_MAX]; /* in the state folder */
};

/* What is known and what is listed, together; makes nothing. No names are listed and none is known:
 * n is 0. n_expected: as many the state folder had. -EINVAL, -E2BIG (more names than spare
 * outputs), -EOPNOTSUPP (the cfg does not end with one row of weights an output), -ENOENT, each
 * with the file. */
int private_names_read(const struct agent_conf *conf, const struct model *model, int64_t n_expected,
		       struct private_names *ret, struct err *err);
/* The new ones into the state folder, atomically; n_new is 0 then. */
int private_names_keep(struct private_names *p, struct err *err);
void private_names_done(struct private_names *p);

/* Class list, network, private and protected classes ([select] protect, in c) of a configuration,
 * checked as an agent needs them; makes nothing. ret_names may be NULL. All are the caller's, also of
 * a failure. */
int agent_model_load(struct agent_conf *c, struct classes *ret_classes, struct model **ret,
		     struct private_names *ret_names, struct err *err);

/* An operator's hand on what is offered to everyone. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "edge-trainer/fleet_priv.h"

static int folder_name(const struct trainer *t, char dir[FILE_PATH_MAX])
{
	return file_path(dir, FILE_PATH_MAX, "%s/rollout", t->conf->state);
}

int fleet_orders_open(const struct trainer *t, struct err *err)
{
	char dir[FILE_PATH_MAX];
	int r = folder_name(t, dir);

	return r < 0 ? err_errno(err, r, "%s", t->conf->state) : file_mkdirs(dir, err);
}

static void carry_out(struct trainer *t, const char *order)
{
	static const struct {
		const char *word;
		enum rollout_event_kind kind;
	} orders[] = {{"halt", ROLLOUT_EV_HALT}, {"next", ROLLOUT_EV_NEXT}};
	char named[40];

	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		snprintf(named, sizeof(named), "%s.%lld", orders[i].word,
			 (long long)t->fleet->offer.manifest.sequence);
		if (strcmp(order, named) == 0 &&
		    fleet_advance(t, &(struct rollout_event){.kind = orders[i].kind}))
			return;
	}
	log_warning("fleet sequence=%lld: an order that does not fit what is offered is left out: %.40s",
		    (long long)t->fleet->offer.manifest.sequence, order);
}

void fleet_orders_look(struct trainer *t)
{
	char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
	struct dirent *e;
	DIR *folder = folder_name(t, dir) == 0 ? opendir(dir) : NULL;

	while (folder && (e = readdir(folder)))
		if (e->d_name[0] != '.' &&
		    file_path(path, sizeof(path), "%s/%s", dir, e->d_name) == 0 &&
		    file_remove(path, NULL) == 0)
			carry_out(t, e->d_name);
	if (folder)
		closedir(folder);
}

#include <errno.h>

#include "cli/chart.h"

int chart_file(const struct msg_history *h, const char *title, enum chart_form form,
	       const char *path, struct err *err)
{
	return err_set(
		err, -EOPNOTSUPP,
		"%s: this tasuki was built without cairo, and draws no pictures (libcairo2-dev)",
		path);
}

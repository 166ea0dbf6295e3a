#include "common/engine/worker_conf.h"

#include <errno.h>
#include <string.h>

#include "common/conf/check.h"
#include "common/engine/cpus.h"
#include "common/engine/worker_protocol.h"

const char *const worker_engines[] = WORKER_ENGINES;
const char *const worker_precisions[] = WORKER_PRECISIONS;

/* Those that this program may run on: the worker can have no others. */
static int check_cpus(struct conf *c, const char *text, const cpu_set_t *wanted, struct err *err)
{
	cpu_set_t may, both;
	char may_text[CPUS_TEXT_MAX];
	if (sched_getaffinity(0, sizeof(may), &may) < 0)
		return 0; /* more processors than a cpu_set_t holds: nothing to compare with */
	CPU_AND(&both, &may, wanted);
	if (CPU_EQUAL(&both, wanted))
		return 0;
	cpus_print(&may, may_text, sizeof(may_text));
	return conf_fail(c, "train", "cpus", -ERANGE, err, "found %.40s, expected some of %s", text,
			 may_text);
}

static int read_cpus(struct conf *c, struct worker_conf *w, struct err *err)
{
	char text[CPUS_TEXT_MAX];
	struct err why = {0};
	int r = conf_str(c, "train", "cpus", "", text, sizeof(text), err);
	if (r < 0 || !*text)
		return r;
	r = cpus_parse(text, &w->cpus, &why);
	return r < 0 ? conf_fail(c, "train", "cpus", r, err, "%s", why.text)
		     : check_cpus(c, text, &w->cpus, err);
}

int worker_conf_read(struct conf *c, struct worker_conf *w, struct err *err)
{
	int64_t threads, nice_level, memory_mb, stall_s;
	int r, engine, precision;
	if ((r = conf_choice(c, "train", "engine", worker_engines, worker_engines[0], &engine,
			     err)) < 0 ||
	    (r = conf_choice(c, "train", "precision", worker_precisions, worker_precisions[0],
			     &precision, err)) < 0 ||
	    (r = conf_int(c, "train", "threads", 0, WORKER_THREADS_MAX, 0, &threads, err)) < 0 ||
	    (r = conf_int(c, "train", "nice", 0, 19, 0, &nice_level, err)) < 0 ||
	    (r = read_cpus(c, w, err)) < 0 ||
	    (r = conf_int(c, "train", "memory_max_mb", 0, WORKER_MEMORY_MAX_MB, 0, &memory_mb,
			  err)) < 0 ||
	    (r = conf_int(c, "train", "stall_s", 1, 86400, WORKER_STALL_MS / 1000, &stall_s, err)) <
		    0 ||
	    (r = conf_file(c, "worker", "program", "", w->program, sizeof(w->program), err)) < 0)
		return r;
	strcpy(w->engine, worker_engines[engine]);
	strcpy(w->precision, worker_precisions[precision]);
	w->threads = (int)threads;
	w->nice = (int)nice_level;
	w->memory_max_bytes = (uint64_t)memory_mb * 1024 * 1024;
	w->stall_ms = stall_s * 1000;
	return 0;
}

#include "common/engine/worker_conf.h"

#include <errno.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/checkpoint/store.h"
#include "common/conf/check.h"
#include "common/engine/cpus.h"
#include "common/engine/worker_protocol.h"

const char *const worker_engines[] = WORKER_ENGINES;
const char *const worker_precisions[] = WORKER_PRECISIONS;
const char *const worker_absents[] = WORKER_ABSENTS;
const char *const worker_sandboxes[] = WORKER_SANDBOXES;

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

/* Half of the time after which a step is taken for a hung one: the other half is for computing. */
static int read_step(struct conf *c, struct worker_conf *w, struct err *err)
{
	int64_t step_ms;
	int r = conf_int(c, "train", "step_ms", 0, WORKER_STEP_MS_MAX, 0, &step_ms, err);
	if (r == 0 && step_ms > w->stall_ms / 2)
		return conf_fail(c, "train", "step_ms", -ERANGE, err,
				 "found %lld, expected at most half of stall_s (%lld s)",
				 (long long)step_ms, (long long)w->stall_ms / 1000);
	w->step_ms = (int)step_ms;
	return r;
}

int worker_conf_read(struct conf *c, const char *absent, struct worker_conf *w, struct err *err)
{
	int64_t threads, nice_level, memory_mb, stall_s;
	int r, engine, precision, absents, sandbox;
	if ((r = conf_choice(c, "model", "absent_classes", worker_absents, absent, &absents, err)) <
		    0 ||
	    (r = conf_choice(c, "train", "engine", worker_engines, worker_engines[0], &engine,
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
	    (r = conf_file(c, "worker", "program", "", w->program, sizeof(w->program), err)) < 0 ||
	    (r = conf_choice(c, "worker", "sandbox", worker_sandboxes, worker_sandboxes[0],
			     &sandbox, err)) < 0 ||
	    (r = conf_file(c, "worker", "readable", "", w->readable[0], sizeof(w->readable[0]),
			   err)) < 0)
		return r;
	strcpy(w->engine, worker_engines[engine]);
	strcpy(w->precision, worker_precisions[precision]);
	strcpy(w->absent, worker_absents[absents]);
	strcpy(w->sandbox, worker_sandboxes[sandbox]);
	w->threads = (int)threads;
	w->nice = (int)nice_level;
	w->memory_max_bytes = (uint64_t)memory_mb * 1024 * 1024;
	w->stall_ms = stall_s * 1000;
	return read_step(c, w, err);
}

int worker_conf_state(struct worker_conf *w, const char *state, const char *store)
{
	const struct {
		char *ret;
		const char *in, *name;
	} folders[] = {
		{w->readable[1], store, STORE_CHECKPOINTS}, {w->readable[2], state, "incoming"},
		{w->readable[3], state, "fleet"},	    {w->writable[0], store, STORE_OUT},
		{w->writable[1], state, WORKER_KEEPS},
	};
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(folders); i++)
		r = file_path(folders[i].ret, sizeof(w->readable[0]), "%s/%s", folders[i].in,
			      folders[i].name);
	return r;
}

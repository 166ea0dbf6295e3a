/* What states, outcomes and actions are called in logs, in the database and in tests. */
#include <stdio.h>

#include "common/base/mem.h"
#include "edge-trainer/job.h"

const char *job_state_name(enum job_state s)
{
	static const char *const names[JOB_STATE_N] = {
		[JOB_CLAIMING] = "claiming", [JOB_PULLING] = "pulling",   [JOB_QUEUED] = "queued",
		[JOB_BEFORE] = "before",     [JOB_TRAINING] = "training", [JOB_AFTER] = "after",
		[JOB_GATHERED] = "gathered", [JOB_MERGING] = "merging",	  [JOB_MIXING] = "mixing",
		[JOB_OFFERING] = "offering", [JOB_LAPSED] = "lapsed",     [JOB_DONE] = "done",
	};
	return (unsigned)s < JOB_STATE_N ? names[s] : "?";
}

const char *job_outcome_name(enum job_outcome o)
{
	static const char *const names[JOB_O_N] = {"none", "activated", "kept", "refused",
						   "dropped", "screened", "merged"};
	return (unsigned)o < JOB_O_N ? names[o] : "?";
}

const char *job_action_name(enum job_action_kind k)
{
	static const char *const names[] = {
		[JOB_A_CLAIM] = "claim",
		[JOB_A_PULL] = "pull",
		[JOB_A_HELD] = "held",
		[JOB_A_ENQUEUE] = "enqueue",
		[JOB_A_EVALUATE] = "evaluate",
		[JOB_A_MERGE] = "merge",
		[JOB_A_TRAIN] = "train",
		[JOB_A_RELEASE] = "release",
		[JOB_A_RUN_OPEN] = "run-open",
		[JOB_A_RUN_EXTEND] = "run-extend",
		[JOB_A_RUN_CLOSE] = "run-close",
		[JOB_A_PERSIST] = "persist",
		[JOB_A_RESULT] = "result",
		[JOB_A_OVER] = "over",
		[JOB_A_REPORT] = "report",
		[JOB_A_GRANTED] = "granted",
		[JOB_A_BAR] = "bar",
		[JOB_A_GIVE_BACK] = "give-back",
	};
	return (unsigned)k < ARRAY_LEN(names) ? names[k] : "?";
}

const char *job_whose(const struct job *j, char ret[JOB_WHOSE_SIZE])
{
	if (job_is_merged(j))
		snprintf(ret, JOB_WHOSE_SIZE, "window=%lld", (long long)j->fence);
	else
		snprintf(ret, JOB_WHOSE_SIZE, "device=%s fence=%lld", j->device,
			 (long long)j->fence);
	return ret;
}

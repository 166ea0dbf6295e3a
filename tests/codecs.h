/* Every message's codec, for tests that do the same with each: parse, then print again. The order
 * is that of the fuzz corpus, whose first byte chooses one: a, b, c ... */
#pragma once

#include <string.h>

#include "common/base/mem.h"
#include "common/protocol/history.h"
#include "common/protocol/message.h"

enum codec_kind {
	PRESENCE,
	STATUS,
	REPORT,
	OFFER,
	CLAIM,
	GRANT,
	RESULT,
	WANT,
	ACK,
	TRAINER,
	JOB,
	CMD,
	FLEET,
	KEY,
	HISTORY
};

struct codec {
	const char *name; /* as in errors */
	size_t max;       /* bytes taken */
	/* *ret: the caller's, only where 0 is returned. */
	int (*again)(const void *p, size_t len, char **ret, struct err *err);
};

/* What a decoder leaves as it was would show in the text. */
#define CODEC_AGAIN(name)                                                               \
	static int again_##name(const void *p, size_t len, char **ret, struct err *err) \
	{                                                                               \
		struct msg_##name m;                                                    \
		memset(&m, 0x5a, sizeof(m));                                            \
		int r = msg_##name##_parse(p, len, &m, err);                            \
		if (r == 0)                                                             \
			*ret = msg_##name##_print(&m);                                  \
		return r;                                                               \
	}
CODEC_AGAIN(presence)
CODEC_AGAIN(status)
CODEC_AGAIN(offer)
CODEC_AGAIN(claim)
CODEC_AGAIN(grant)
CODEC_AGAIN(result)
CODEC_AGAIN(want)
CODEC_AGAIN(ack)
CODEC_AGAIN(trainer_status)
CODEC_AGAIN(job)
CODEC_AGAIN(fleet)
CODEC_AGAIN(key)
CODEC_AGAIN(history)

static int again_report(const void *p, size_t len, char **ret, struct err *err)
{
	struct msg_report m;
	memset(&m, 0x5a, sizeof(m));
	int r = msg_report_parse(p, len, &m, err);
	if (r == 0) {
		*ret = msg_report_print(&m);
		msg_report_done(&m);
	}
	return r;
}

static int again_cmd(const void *p, size_t len, char **ret, struct err *err)
{
	struct msg_cmd m;
	char id[ID_SIZE];
	memset(&m, 0x5a, sizeof(m));
	int r = msg_cmd_parse(p, len, &m, id, err);
	if (r == 0)
		*ret = msg_cmd_print(&m);
	return r;
}

static const struct codec codecs[] = {
	[PRESENCE] = {"presence", MESSAGE_SMALL_MAX, again_presence},
	[STATUS] = {"status", MESSAGE_SMALL_MAX, again_status},
	[REPORT] = {"report", MESSAGE_LARGE_MAX, again_report},
	[OFFER] = {"offer", MESSAGE_LARGE_MAX, again_offer},
	[CLAIM] = {"claim", MESSAGE_SMALL_MAX, again_claim},
	[GRANT] = {"grant", MESSAGE_SMALL_MAX, again_grant},
	[RESULT] = {"result", MESSAGE_LARGE_MAX, again_result},
	[WANT] = {"want", MESSAGE_SMALL_MAX, again_want},
	[ACK] = {"ack", MESSAGE_SMALL_MAX, again_ack},
	[TRAINER] = {"trainer status", MESSAGE_SMALL_MAX, again_trainer_status},
	[JOB] = {"job", MESSAGE_SMALL_MAX, again_job},
	[CMD] = {"command", MESSAGE_SMALL_MAX, again_cmd},
	[FLEET] = {"fleet offer", MESSAGE_LARGE_MAX, again_fleet},
	[KEY] = {"key", MESSAGE_SMALL_MAX, again_key},
	[HISTORY] = {"history", MESSAGE_LARGE_MAX, again_history},
};

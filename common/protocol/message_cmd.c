/* Commands of operators and the answers to them. */
#include "common/protocol/message.h"

#include <errno.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/protocol/field.h"

#define EPOCHS_MAX 1000000

static const char *const cmds[CMD_N] = {
	[CMD_PING] = "ping",         [CMD_STATUS] = "status", [CMD_TRAIN] = "train",
	[CMD_HANDOVER] = "handover", [CMD_PAUSE] = "pause",   [CMD_RESUME] = "resume",
	[CMD_PIN] = "pin",           [CMD_UNPIN] = "unpin",   [CMD_ROLLBACK] = "rollback",
	[CMD_EVALUATE] = "evaluate", [CMD_SET] = "set",
};

const char *cmd_name(enum cmd c)
{
	return c < CMD_N ? cmds[c] : "unknown";
}

char *msg_cmd_print(const struct msg_cmd *m)
{
	struct json *obj = json_new_obj();
	json_set_str(obj, "cmd", cmd_name(m->cmd));
	json_set_str(obj, "id", m->id);
	if (m->expires_ms)
		put_time(obj, "expires", m->expires_ms);
	if (m->cmd == CMD_TRAIN && m->epochs)
		json_set_int(obj, "epochs", m->epochs);
	if (m->cmd == CMD_PIN || m->cmd == CMD_EVALUATE)
		put_optional(obj, "checkpoint", m->checkpoint, sizeof(m->checkpoint) - 1);
	if (m->cmd == CMD_EVALUATE)
		json_set_str(obj, "split", split_name(m->split));
	if (m->cmd == CMD_SET) {
		put_text(obj, "key", m->key, sizeof(m->key) - 1);
		put_text(obj, "value", m->value, sizeof(m->value) - 1);
	}
	return put_print(obj);
}

static void parse_arguments(struct fields *f, struct msg_cmd *m)
{
	switch (m->cmd) {
	case CMD_TRAIN:
		field_int(f, "epochs", OPTIONAL, 1, EPOCHS_MAX, &m->epochs);
		break;
	case CMD_PIN:
		field_hash(f, "checkpoint", REQUIRED, m->checkpoint);
		break;
	case CMD_EVALUATE:
		field_hash(f, "checkpoint", OPTIONAL, m->checkpoint);
		field_split(f, "split", OPTIONAL, &m->split);
		break;
	case CMD_SET:
		field_text(f, "key", REQUIRED, m->key, sizeof(m->key));
		field_text(f, "value", REQUIRED, m->value, sizeof(m->value));
		if (f->r == 0 && !*m->key)
			f->r = err_set(f->err, -EINVAL, "key: found \"\", expected a name");
		break;
	default:
		break;
	}
}

int msg_cmd_parse(const void *p, size_t len, struct msg_cmd *ret, char ret_id[ID_SIZE],
		  struct err *err)
{
	struct msg_cmd m = {.split = SPLIT_VALIDATION};
	int cmd = CMD_N;
	int64_t expires_ms = -1;
	_cleanup_(fields_done) struct fields f;
	ret_id[0] = 0;
	fields_begin(&f, "command", p, len, MESSAGE_SMALL_MAX, err);
	field_id(&f, "id", REQUIRED, m.id); /* first: a refusal of the rest can then be answered */
	memcpy(ret_id, m.id, ID_SIZE);
	field_word(&f, "cmd", REQUIRED, cmds, CMD_N, &cmd);
	m.cmd = (enum cmd)cmd;
	field_time(&f, "expires", OPTIONAL, &expires_ms);
	parse_arguments(&f, &m);
	if (fields_end(&f) < 0)
		return f.r;
	if (expires_ms >= 0)
		m.expires_ms = MAX_OF(expires_ms, 1); /* 0 stands for never; both lie long ago */
	*ret = m;
	return 0;
}

/* ---- answers ---- */

/* Copies the members of `extra` that are not ours. */
static void merge(struct json *obj, const struct json *extra)
{
	for (const struct json *e = json_first(extra); e; e = json_next(e))
		if (!json_has(obj, json_name(e)))
			json_set(obj, json_name(e), json_dup(e));
}

char *msg_reply_print(const char *id, const char *error, struct json *extra)
{
	_cleanup_(json_freep) struct json *owned = extra;
	if (owned) {
		_cleanup_free_ char *whole = json_print(owned); /* NULL: making it failed */
		if (!whole)
			return NULL;
	}
	struct json *obj = json_new_obj();
	if (id && *id)
		json_set_str(obj, "id", id);
	else
		json_set_null(obj, "id"); /* the request had none that can be named */
	json_set_bool(obj, "ok", !error);
	if (error)
		put_text(obj, "error", error, ERR_TEXT_MAX);
	merge(obj, owned);
	return put_print(obj);
}

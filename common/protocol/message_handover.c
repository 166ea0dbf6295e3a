/* The handover between a device and a trainer: offer, claim, grant, result, want, ack. */
#include "common/protocol/message.h"

#include <errno.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/protocol/field.h"
#include "common/transfer/xfer.h"

/* ---- offer ---- */

static const char *const offer_names[] = {"last_trainer", "bases", "validation", "test", NULL};

char *msg_offer_print(const struct msg_offer *m)
{
	struct json *obj = json_new_obj();
	manifest_to_json(&m->manifest, obj);
	put_optional(obj, "last_trainer", m->trainer, sizeof(m->trainer) - 1);
	if (m->n_bases) {
		struct json *bases = json_new_arr();
		for (size_t i = 0; i < m->n_bases && i < MESSAGE_BASES_MAX; i++)
			json_push_str(bases, m->bases[i]);
		json_set(obj, "bases", bases);
	}
	put_score(obj, "validation", OPTIONAL, &m->validation);
	put_score(obj, "test", OPTIONAL, &m->test);
	return put_print(obj);
}

static void parse_bases(struct fields *f, struct msg_offer *m)
{
	const struct json *arr;
	if (!field_there(f, "bases", OPTIONAL))
		return;
	f->r = json_get_arr(f->obj, "bases", MESSAGE_BASES_MAX, &arr, f->err);
	const struct json *e = f->r == 0 ? json_first(arr) : NULL;
	for (; f->r == 0 && e; e = json_next(e)) {
		const char *id = json_str(e);
		if (id && hash_valid(id))
			memcpy(m->bases[m->n_bases++], id, HASH_SIZE);
		else
			f->r = err_set(
				f->err, -EINVAL,
				"bases: found an element that is not %d lower-case hex digits",
				HASH_HEX);
	}
}

int msg_offer_parse(const void *p, size_t len, struct msg_offer *ret, struct err *err)
{
	struct msg_offer m = {0};
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "offer", p, len, MESSAGE_LARGE_MAX, err);
	if (f.r == 0)
		f.r = manifest_from_json(f.obj, offer_names, &m.manifest, f.err);
	field_id(&f, "last_trainer", OPTIONAL, m.trainer);
	parse_bases(&f, &m);
	field_score(&f, "validation", OPTIONAL, &m.validation);
	field_score(&f, "test", OPTIONAL, &m.test);
	if (fields_end_plain(&f) < 0)
		return f.r;
	*ret = m;
	return 0;
}

/* ---- claim ---- */

char *msg_claim_print(const struct msg_claim *m)
{
	struct json *obj = json_new_obj();
	json_set_str(obj, "trainer", m->trainer);
	json_set_str(obj, "checkpoint", m->checkpoint);
	json_set_int(obj, "fence", m->fence);
	if (m->claim)
		json_set_int(obj, "claim", m->claim);
	if (m->busy) {
		json_set_bool(obj, "busy", true);
		json_set_int(obj, "retry_ms", m->retry_ms);
		put_optional(obj, "reason", m->reason, sizeof(m->reason) - 1);
		put_optional(obj, "lacks", m->lacks, sizeof(m->lacks) - 1);
	}
	put_optional(obj, "phase", m->phase, sizeof(m->phase) - 1);
	put_within(obj, "progress", m->progress, 0, 1);
	put_optional(obj, "seal", m->seal, sizeof(m->seal) - 1);
	if (m->sequence)
		json_set_int(obj, "sequence", m->sequence);
	return put_print(obj);
}

int msg_claim_parse(const void *p, size_t len, struct msg_claim *ret, struct err *err)
{
	struct msg_claim m = {0};
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "claim", p, len, MESSAGE_SMALL_MAX, err);
	field_id(&f, "trainer", REQUIRED, m.trainer);
	field_hash(&f, "checkpoint", REQUIRED, m.checkpoint);
	field_count(&f, "fence", REQUIRED, &m.fence);
	field_int(&f, "claim", OPTIONAL, 1, JSON_INT_MAX, &m.claim);
	field_bool(&f, "busy", OPTIONAL, &m.busy);
	field_int(&f, "retry_ms", OPTIONAL, 0, LEASE_MS_MAX, &m.retry_ms);
	field_text(&f, "reason", OPTIONAL, m.reason, sizeof(m.reason));
	field_hash(&f, "lacks", OPTIONAL, m.lacks);
	field_text(&f, "phase", OPTIONAL, m.phase, sizeof(m.phase));
	field_num(&f, "progress", OPTIONAL, 0, 1, &m.progress);
	field_hash(&f, "seal", OPTIONAL, m.seal);
	field_int(&f, "sequence", OPTIONAL, 1, JSON_INT_MAX, &m.sequence);
	if (fields_end(&f) < 0)
		return f.r;
	if (!m.busy) {
		m.retry_ms = 0;
		m.reason[0] = m.lacks[0] = '\0';
	}
	*ret = m;
	return 0;
}

/* ---- grant ---- */

char *msg_grant_print(const struct msg_grant *m)
{
	struct json *obj = json_new_obj();
	json_set_str(obj, "checkpoint", m->checkpoint);
	json_set_bool(obj, "granted", m->granted);
	json_set_int(obj, "fence", m->fence);
	if (m->claim)
		json_set_int(obj, "claim", m->claim);
	json_set_int(obj, "lease_ms", m->lease_ms);
	put_optional(obj, "reason", m->reason, sizeof(m->reason) - 1);
	put_optional(obj, "seal", m->seal, sizeof(m->seal) - 1);
	if (m->sequence)
		json_set_int(obj, "sequence", m->sequence);
	return put_print(obj);
}

int msg_grant_parse(const void *p, size_t len, struct msg_grant *ret, struct err *err)
{
	struct msg_grant m = {0};
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "grant", p, len, MESSAGE_SMALL_MAX, err);
	field_hash(&f, "checkpoint", REQUIRED, m.checkpoint);
	field_bool(&f, "granted", REQUIRED, &m.granted);
	/* A grant has a fence and a lease; a refusal may name the fence that it is about. */
	field_int(&f, "fence", REQUIRED, m.granted, JSON_INT_MAX, &m.fence);
	field_int(&f, "claim", OPTIONAL, 1, JSON_INT_MAX, &m.claim);
	field_int(&f, "lease_ms", REQUIRED, m.granted, LEASE_MS_MAX, &m.lease_ms);
	field_text(&f, "reason", OPTIONAL, m.reason, sizeof(m.reason));
	field_hash(&f, "seal", OPTIONAL, m.seal);
	field_int(&f, "sequence", OPTIONAL, 1, JSON_INT_MAX, &m.sequence);
	if (fields_end(&f) < 0)
		return f.r;
	*ret = m;
	return 0;
}

/* ---- result ---- */

static const char *const result_names[] = {"fence",          "before",      "after", "snapshot",
					   "images_trained", "duration_ms", NULL};

char *msg_result_print(const struct msg_result *m)
{
	struct json *obj = json_new_obj();
	manifest_to_json(&m->manifest, obj);
	json_set_int(obj, "fence", m->fence);
	put_score(obj, "before", REQUIRED, &m->before);
	put_score(obj, "after", REQUIRED, &m->after);
	json_set_str(obj, "snapshot", m->snapshot);
	json_set_int(obj, "images_trained", m->images_trained);
	json_set_int(obj, "duration_ms", m->duration_ms);
	return put_print(obj);
}

int msg_result_parse(const void *p, size_t len, struct msg_result *ret, struct err *err)
{
	struct msg_result m = {0};
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "result", p, len, MESSAGE_LARGE_MAX, err);
	if (f.r == 0)
		f.r = manifest_from_json(f.obj, result_names, &m.manifest, f.err);
	if (f.r == 0 && m.manifest.n_parents == 0)
		f.r = err_set(err, -EINVAL,
			      "parents: found none, expected the checkpoint that was handed over");
	if (f.r == 0 && !*m.manifest.trainer)
		f.r = err_set(err, -EINVAL, "trainer: found nothing, expected who made the result");
	field_int(&f, "fence", REQUIRED, 1, JSON_INT_MAX, &m.fence);
	field_score(&f, "before", REQUIRED, &m.before);
	field_score(&f, "after", REQUIRED, &m.after);
	field_hash(&f, "snapshot", REQUIRED, m.snapshot);
	field_count(&f, "images_trained", REQUIRED, &m.images_trained);
	field_count(&f, "duration_ms", REQUIRED, &m.duration_ms);
	if (fields_end_plain(&f) < 0)
		return f.r;
	*ret = m;
	return 0;
}

/* ---- want ---- */

char *msg_want_print(const struct msg_want *m)
{
	struct json *obj = json_new_obj();
	put_optional(obj, "trainer", m->trainer, sizeof(m->trainer) - 1);
	put_optional(obj, "checkpoint", m->checkpoint, sizeof(m->checkpoint) - 1);
	if (m->n_blocks) {
		struct json *blocks = json_new_arr();
		for (size_t i = 0; i < m->n_blocks && i < MESSAGE_WANT_MAX; i++)
			json_push_int(blocks, m->blocks[i]);
		json_set(obj, "blocks", blocks);
	}
	if (m->reports_from) {
		struct json *reports = json_new_obj();
		json_set_int(reports, "from", m->reports_from);
		json_set_int(reports, "to", m->reports_to);
		json_set(obj, "reports", reports);
	}
	return put_print(obj);
}

static void parse_blocks(struct fields *f, struct msg_want *m)
{
	const struct json *arr;
	if (!field_there(f, "blocks", OPTIONAL))
		return;
	f->r = json_get_arr(f->obj, "blocks", MESSAGE_WANT_MAX, &arr, f->err);
	const struct json *e = f->r == 0 ? json_first(arr) : NULL;
	for (size_t i = 0; f->r == 0 && e; i++, e = json_next(e)) {
		int64_t block;
		f->r = json_int(e, 0, XFER_BLOCKS_MAX - 1, &block);
		if (f->r < 0)
			err_set(f->err, f->r, "blocks: element %zu is not an integer from 0 to %d",
				i, XFER_BLOCKS_MAX - 1);
		else
			m->blocks[m->n_blocks++] = (uint32_t)block;
	}
}

static void parse_reports(struct fields *f, struct msg_want *m)
{
	struct fields inner;
	if (!fields_down(f, "reports", OPTIONAL, &inner))
		return;
	field_int(&inner, "from", REQUIRED, 1, JSON_INT_MAX, &m->reports_from);
	field_int(&inner, "to", REQUIRED, m->reports_from,
		  MIN_OF(m->reports_from + MESSAGE_REPORTS_MAX - 1, JSON_INT_MAX), &m->reports_to);
	fields_up(f, "reports", &inner);
}

int msg_want_parse(const void *p, size_t len, struct msg_want *ret, struct err *err)
{
	struct msg_want m = {0};
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "want", p, len, MESSAGE_SMALL_MAX, err);
	field_id(&f, "trainer", OPTIONAL, m.trainer);
	field_hash(&f, "checkpoint", OPTIONAL, m.checkpoint);
	parse_blocks(&f, &m);
	parse_reports(&f, &m);
	if (f.r == 0 && !*m.checkpoint != !m.n_blocks)
		f.r = err_set(err, -EINVAL,
			      "found only one of checkpoint and blocks, expected both");
	if (f.r == 0 && !m.n_blocks && !m.reports_from)
		f.r = err_set(err, -EINVAL,
			      "found neither blocks nor reports, expected one of them");
	if (fields_end(&f) < 0)
		return f.r;
	*ret = m;
	return 0;
}

/* ---- ack ---- */

static const char *const decisions[] = {[DECISION_ACTIVATED] = "activated",
					[DECISION_KEPT] = "kept",
					[DECISION_REFUSED] = "refused"};

const char *decision_name(enum decision d)
{
	return d <= DECISION_REFUSED ? decisions[d] : "unknown";
}

char *msg_ack_print(const struct msg_ack *m)
{
	struct json *obj = json_new_obj();
	put_optional(obj, "trainer", m->trainer, sizeof(m->trainer) - 1);
	json_set_str(obj, "checkpoint", m->checkpoint);
	json_set_int(obj, "fence", m->fence);
	if (m->has_decision)
		json_set_str(obj, "decision", decision_name(m->decision));
	put_optional(obj, "reason", m->reason, sizeof(m->reason) - 1);
	put_score(obj, "validation", OPTIONAL, &m->validation);
	put_score(obj, "test", OPTIONAL, &m->test);
	put_score(obj, "local_validation", OPTIONAL, &m->local_validation);
	put_score(obj, "local_test", OPTIONAL, &m->local_test);
	return put_print(obj);
}

int msg_ack_parse(const void *p, size_t len, struct msg_ack *ret, struct err *err)
{
	struct msg_ack m = {0};
	int decision = -1;
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "ack", p, len, MESSAGE_SMALL_MAX, err);
	field_id(&f, "trainer", OPTIONAL, m.trainer);
	field_hash(&f, "checkpoint", REQUIRED, m.checkpoint);
	field_count(&f, "fence", REQUIRED, &m.fence);
	field_word(&f, "decision", OPTIONAL, decisions, ARRAY_LEN(decisions), &decision);
	field_text(&f, "reason", OPTIONAL, m.reason, sizeof(m.reason));
	field_score(&f, "validation", OPTIONAL, &m.validation);
	field_score(&f, "test", OPTIONAL, &m.test);
	field_score(&f, "local_validation", OPTIONAL, &m.local_validation);
	field_score(&f, "local_test", OPTIONAL, &m.local_test);
	if (fields_end(&f) < 0)
		return f.r;
	m.has_decision = decision >= 0;
	if (m.has_decision)
		m.decision = (enum decision)decision;
	*ret = m;
	return 0;
}

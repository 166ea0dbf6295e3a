/* Noise on what is handed over, and the account of it (docs/security.md).
 *
 * Between what is to be offered (lineage.c, without private rows) and the form it travels in
 * (coding.c), where [privacy] noise is more than 0, the worker makes base + clip(weights - base) +
 * noise of it: a checkpoint of its own, whose `source` is the whole one. The base is the last
 * result that was decided on, else the first weights of the seed: both are there without this
 * device's images, but for what earlier handovers have given away, which is in the account already.
 * Nothing else decides which of the two it is.
 *
 * Its manifest (the one here, not the one that is sent) names the noised one that it is a form of,
 * and what handing it over costs. A grant counts that in the very save that gives out the fence,
 * once for each noised checkpoint: repetitions, other trainers and other forms of it are free, and
 * a crash after the save costs budget without need. A checkpoint without noise, or beyond the
 * budget, does not leave: privacy_may_leave() is asked wherever something does. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

#include "common/checkpoint/weights.h"
#include "common/privacy/accountant.h"

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

bool privacy_on(const struct agent *a)
{
	return a->conf.privacy.noise > 0;
}

static double epsilon(const struct agent *a, double rho)
{
	return accountant_epsilon(rho, a->conf.privacy.delta);
}

/* ---- the account ---- */

static int afford(const struct agent *a, double rho, struct err *err)
{
	const struct privacy_conf *c = &a->conf.privacy;
	double after = epsilon(a, a->state->privacy.spent + rho);
	if (after <= c->budget)
		return 0;
	return err_set(err, -EPERM,
		       "privacy budget: another handover would make epsilon %.4g, at most %.4g is "
		       "allowed (delta %g, after %lld handovers)",
		       after, c->budget, c->delta, (long long)a->state->privacy.handovers);
}

bool privacy_spent(const struct agent *a)
{
	return privacy_on(a) && afford(a, accountant_handover(a->conf.privacy.noise), NULL) < 0;
}

int privacy_may_leave(const struct agent *a, const struct manifest *m, struct err *err)
{
	int r = lineage_may_leave(a, m, err);
	if (r < 0 || !privacy_on(a) || (*m->noised && same(m->noised, a->state->privacy.counted)))
		return r;
	if (!*m->noised)
		return err_set(err, -EPERM, "checkpoint %.12s stays here: it is without noise",
			       m->id);
	return afford(a, m->noise_rho, err);
}

int privacy_granted(struct agent *a, struct state *next, const char *id)
{
	struct manifest m;
	struct err err = {0};
	int r = store_manifest(a->store, id, &m, &err);
	if (r < 0) {
		log_warning("device=%s not granted: %s", a->conf.id, err.text);
		guard_suspect(a, id);
		return r;
	}
	if (!*m.noised || same(m.noised, next->privacy.counted))
		return 0;
	COPY(next->privacy.counted, m.noised);
	next->privacy.spent += m.noise_rho;
	next->privacy.handovers++;
	return 0;
}

void privacy_log(const struct agent *a)
{
	const struct state *s = a->state;
	if (privacy_on(a))
		log_info("device=%s checkpoint=%.12s epsilon=%.4g delta=%g budget=%.4g "
			 "handovers=%lld with noise",
			 a->conf.id, s->privacy.counted, epsilon(a, s->privacy.spent),
			 a->conf.privacy.delta, a->conf.privacy.budget,
			 (long long)s->privacy.handovers);
}

void privacy_report(const struct agent *a, const struct state *s, struct msg_report *ret)
{
	ret->has_privacy = privacy_on(a);
	ret->privacy = (struct msg_privacy){.epsilon = epsilon(a, s->privacy.spent),
					    .delta = a->conf.privacy.delta,
					    .budget = a->conf.privacy.budget,
					    .handovers = s->privacy.handovers};
}

/* ---- the noise ---- */

static int ask_noise(struct agent *a, const char *base, struct err *err)
{
	char path[FILE_PATH_MAX], base_path[FILE_PATH_MAX];
	if (store_weights(a->store, a->noising.whole, path) < 0 ||
	    store_weights(a->store, base, base_path) < 0)
		return err_set(err, -ENOENT, "checkpoint %.12s or %.12s: not there",
			       a->noising.whole, base);
	struct json *args = json_new_obj();
	json_set_str(args, "weights", path);
	json_set_str(args, "base", base_path);
	json_set_str(args, "out", a->noising.out);
	json_set_num(args, "clip", a->conf.privacy.clip);
	json_set_num(args, "noise", a->conf.privacy.noise);
	if (lineage_takes_rows(a))
		json_set_int(args, "first_row", (int64_t)a->model->n_classes);
	a->noising.rho = accountant_handover(a->conf.privacy.noise);
	return work_request(a, "noise", args, &a->noising.id, err);
}

static void ask(struct agent *a, const char *whole)
{
	const struct state *s = a->state;
	struct err err = {0};
	COPY(a->noising.whole, whole);
	int r = store_tmp(a->store, "noised.weights", a->noising.out, &err);
	a->noising.first = !store_has(a->store, s->bases[0]) && !store_has(a->store, s->first);
	if (r == 0 && a->noising.first)
		r = coding_request_first(a, a->noising.out, &a->noising.id, &err);
	else if (r == 0)
		r = ask_noise(a, store_has(a->store, s->bases[0]) ? s->bases[0] : s->first, &err);
	if (r < 0)
		retry_failed(a, &a->noising.retry, "noise cannot be added", &err);
}

int privacy_offered(struct agent *a, const char *whole, char ret[HASH_SIZE], struct err *err)
{
	const struct state *s = a->state;
	double rho = accountant_handover(a->conf.privacy.noise);
	struct manifest m;
	if (!privacy_on(a)) {
		memmove(ret, whole, HASH_SIZE);
		return 0;
	}
	if (a->noising.id || retry_waits(a, &a->noising.retry))
		return -EAGAIN;
	/* Also after a restart: twice noised would be twice counted. */
	if (same(s->privacy.whole, whole) &&
	    store_manifest(a->store, s->privacy.noised, &m, NULL) == 0 &&
	    (m.noise_rho == rho || same(m.noised, s->privacy.counted))) {
		int r = privacy_may_leave(a, &m, err);
		if (r == 0)
			memcpy(ret, s->privacy.noised, HASH_SIZE);
		return r;
	}
	int r = afford(a, rho, err);
	if (r < 0)
		return r;
	if (a->worker_ready)
		ask(a, whole);
	return -EAGAIN;
}

static int keep_noised(struct agent *a, const struct json *result, struct err *err)
{
	struct manifest whole, m;
	double norm = -1;
	char id[HASH_SIZE];
	int r = store_manifest(a->store, a->noising.whole, &whole, err);
	if (r == 0)
		r = weights_check(a->model, a->noising.out, NULL, id, err);
	if (r == 0)
		r = json_get_num(result, "norm", 0, 1e300, &norm, err);
	if (r < 0)
		return r;
	lineage_copy(&whole, id, &m);
	COPY(m.noised, id);
	m.noise_rho = a->noising.rho;
	r = lineage_manifest(a, &m, err);
	if (r == 0)
		r = store_add(a->store, a->noising.out, &m, err);
	if (r < 0)
		return r;
	struct state *next = agent_draft(a);
	COPY(next->privacy.whole, a->noising.whole);
	COPY(next->privacy.noised, id);
	r = agent_commit(a);
	if (r < 0)
		return err_set(err, r, "cannot be saved");
	/* The norm is as private as the weights, and stays in this log. */
	log_info("device=%s checkpoint=%.12s noise added source=%.12s norm=%.4g clip=%.4g noise=%g",
		 a->conf.id, id, m.source, norm, a->conf.privacy.clip, a->conf.privacy.noise);
	return 0;
}

void privacy_made(struct agent *a, const struct json *result, const struct err *failed)
{
	struct err err = {0};
	a->noising.id = 0;
	if (!failed && (a->noising.first ? coding_keep_first(a, a->noising.out, &err)
					 : keep_noised(a, result, &err)) < 0)
		failed = &err;
	if (failed)
		retry_failed(a, &a->noising.retry, "noise cannot be added", failed);
	else
		retry_done(&a->noising.retry);
}

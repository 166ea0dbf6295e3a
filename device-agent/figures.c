/* What an agent tells Prometheus. Counters are since its start, but for those that its state keeps.
 */
#include <math.h>

#include "common/metrics/daemon.h"
#include "device-agent/agent_impl.h"

static double is(bool so)
{
	return so ? 1 : 0;
}

static void tell_work(struct metrics *m, struct agent *a)
{
	struct msg_status s;
	announce_status_fill(a, &s);
	metrics_family(m, "phase", METRIC_GAUGE,
		       "1 for the phase that it is in, as in its status.");
	for (enum phase p = 0; p < PHASE_N; p++)
		metrics_sample(m, is(s.phase == p), "phase", phase_name(p), NULL);
	struct announce_reason why[ANNOUNCE_REASONS_MAX];
	size_t n = announce_reasons(a, why), first = 0;
	while (first < n && !*why[first].text)
		first++;
	metrics_family(m, "waiting_reason", METRIC_GAUGE,
		       "1 for why it waits, pauses or failed, as its status says in words.");
	for (size_t i = 0; i < n; i++)
		metrics_sample(m, is(i == first), "reason", why[i].kind, NULL);
	metrics_gauge(m, "worker_ready", is(a->worker_ready),
		      "Whether the worker is there, with its images.");
	metrics_counter(m, "worker_deaths_total", (double)a->n_worker_deaths,
			"Workers that ended or hung.");
	metrics_counter(m, "epochs_total", (double)s.epoch, "Epochs of its local lineage.");
	metrics_counter(m, "trained_images_total", (double)a->state->rounds.images_seen,
			"Images that the local lineage was trained on, each as often as it was.");
	metrics_gauge(m, "training_images_per_second",
		      isnan(s.images_per_second) ? 0 : s.images_per_second,
		      "Speed of the training in hand; 0: none is.");
	metrics_family(m, "training_loss", METRIC_GAUGE, "Loss of the training in hand.");
	metrics_sample(m, s.loss, NULL);
}

static void tell_data(struct metrics *m, const struct agent *a)
{
	metrics_family(m, "images", METRIC_GAUGE, "Images by split.");
	for (enum split s = 0; s < SPLIT_N; s++)
		metrics_sample(m, a->data.n[s], "split", split_name(s), NULL);
	metrics_gauge(m, "skipped_images", a->data.skipped, "Images that cannot be read.");
	metrics_gauge(m, "data_bytes", (double)a->data.bytes, "Size of the files of images.");
}

/* By split and origin; what is not known is not told. */
static void tell_active(struct metrics *m, const struct agent *a)
{
	struct manifest manifest;
	bool there = *a->active && store_manifest(a->store, a->active, &manifest, NULL) == 0;
	metrics_gauge(m, "active", is(there), "Whether a checkpoint is in use.");
	metrics_gauge(m, "active_pinned", is(a->state->pinned), "Whether a person has pinned it.");
	metrics_family(m, "active_accuracy_ratio", METRIC_GAUGE,
		       "Accuracy of the checkpoint in use, by images and by where it comes from.");
	for (enum split s = 0; there && s < SPLIT_N; s++) {
		const struct score *score = learn_score(a, a->active, s);
		if (score)
			metrics_sample(m, score_accuracy(score), "split", split_name(s), "origin",
				       origin_name(manifest.origin), NULL);
	}
	metrics_counter(m, "swaps_total", (double)audit_count(a->audit, "activated", NULL),
			"Checkpoints that became active.");
}

static void tell_handovers(struct metrics *m, const struct agent *a)
{
	metrics_family(m, "handover_phase", METRIC_GAUGE, "1 for where the handover is.");
	for (enum handover_phase p = 0; p < HANDOVER_PHASE_N; p++)
		metrics_sample(m, is(a->state->handover.phase == p), "phase",
			       p == HANDOVER_IDLE ? "idle" : handover_phase_name(p), NULL);
	metrics_family(m, "handovers_total", METRIC_COUNTER,
		       "Results of trainers by what was decided of them.");
	for (enum decision d = DECISION_ACTIVATED; d <= DECISION_REFUSED; d++)
		metrics_sample(m, (double)audit_count(a->audit, "decided", decision_name(d)),
			       "outcome", decision_name(d), NULL);
	metrics_counter(m, "grants_total", (double)audit_count(a->audit, "granted", NULL),
			"Checkpoints granted to a trainer.");
	metrics_counter(m, "leases_run_out_total", (double)audit_count(a->audit, "lapsed", NULL),
			"Grants that ended without a result.");
	metrics_counter(m, "moved_bytes_total", (double)a->meter.total,
			"Bytes of blocks, both ways, since its state folder was made.");
}

static void tell_messages(struct metrics *m, const struct agent *a)
{
	metrics_refused(m, a->trust, a->n_refused);
	metrics_family(m, "flooded_messages_total", METRIC_COUNTER,
		       "Messages left out, as there were too many of their kind.");
	for (enum flood f = 0; f < FLOOD_N; f++)
		metrics_sample(m, (double)a->n_flooded[f], "kind", inbox_flood_name(f), NULL);
	metrics_family(m, "commands_total", METRIC_COUNTER, "Commands by what came of them.");
	metrics_sample(m, (double)audit_count(a->audit, "command", "done"), "result", "done", NULL);
	metrics_sample(m, (double)audit_count(a->audit, "command", "refused"), "result", "refused",
		       NULL);
	metrics_counter(m, "reports_total", (double)reports_last(a->reports), "Reports made.");
	metrics_gauge(m, "waiting_reports", (double)(reports_last(a->reports) - a->published_seq),
		      "Reports that are yet to be published.");
	metrics_gauge(m, "audit_log_writable", is(!a->audit_failed),
		      "Whether the audit log can be written.");
}

void agent_figures(struct agent *a, struct metrics *m)
{
	metrics_program(m, a->conf.site, a->conf.id, a->model->id);
	metrics_counter(m, "starts_total", (double)a->state->boot,
			"Starts, since its state folder was made.");
	tell_work(m, a);
	tell_data(m, a);
	tell_active(m, a);
	tell_handovers(m, a);
	tell_messages(m, a);
	metrics_gauge(m, "saving_failed", is(a->saving.failures),
		      "Whether its state cannot be written.");
	metrics_disk(m, a->conf.state);
	metrics_certificate(m, a->trust);
}

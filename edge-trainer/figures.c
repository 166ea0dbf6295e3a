/* What a trainer tells Prometheus. Counters are since its start, but for those that its database keeps.
 * Of single devices nothing: there may be 100,000, and anybody can invent some. */
#include "common/base/mem.h"
#include "common/metrics/daemon.h"
#include "edge-trainer/trainer_priv.h"

static double is(bool so)
{
	return so ? 1 : 0;
}

static double events(const struct trainer *t, const char *event, const char *decision)
{
	return (double)audit_count(t->audit, event, decision);
}

static void tell_queue(struct metrics *m, struct trainer *t, const struct msg_trainer_status *s)
{
	unsigned n[JOB_STATE_N] = {0};

	for (const struct entry *e = t->entries; e; e = e->next)
		n[e->job.state]++;
	metrics_gauge(m, "queue_jobs", (double)s->queued, "Jobs that have a place and wait for a worker.");
	metrics_gauge(m, "active_jobs", (double)s->active, "Jobs that a worker works on.");
	metrics_gauge(m, "queue_capacity", (double)s->capacity, "Places for jobs, waiting or worked on.");
	metrics_gauge(m, "waiting_offers", t->queue.offers.n, "Offers in line that found no place.");
	metrics_gauge(m, "waiting_offers_limit", QUEUE_WAITING_MAX, "Offers that can be in line.");
	metrics_counter(m, "busy_answers_total", (double)t->n_busy, "Offers that were told to come back later.");
	metrics_family(m, "jobs", METRIC_GAUGE, "Jobs by state.");
	for (enum job_state j = 0; j < JOB_DONE; j++)
		metrics_sample(m, n[j], "state", job_state_name(j), NULL);
}

static void tell_workers(struct metrics *m, const struct trainer *t)
{
	unsigned ready = 0;

	for (unsigned i = 0; i < t->conf->slots; i++)
		ready += t->slots[i].ready;
	metrics_gauge(m, "workers", t->conf->slots, "Workers that there should be.");
	metrics_gauge(m, "ready_workers", ready, "Workers that are there, with their images.");
	metrics_counter(m, "worker_deaths_total", (double)t->n_worker_deaths, "Workers that ended or hung.");
	metrics_counter(m, "epochs_total", (double)t->n_epochs, "Epochs trained.");
	metrics_counter(m, "trained_images_total", (double)t->n_images,
			"Images trained on, each as often as it was.");
	metrics_family(m, "images", METRIC_GAUGE, "Images of the first worker by split.");
	for (enum split i = 0; i < SPLIT_N; i++)
		metrics_sample(m, t->slots[0].data.n[i], "split", split_name(i), NULL);
	metrics_gauge(m, "skipped_images", t->slots[0].data.skipped, "Images that cannot be read.");
	metrics_gauge(m, "data_bytes", (double)t->slots[0].data.bytes, "Size of the files of images.");
}

static void tell_devices(struct metrics *m, const struct trainer *t, const struct msg_trainer_status *s)
{
	unsigned online = 0;

	for (int i = 0; i < 2; i++)
		for (const struct device *d = t->by_age[i].oldest; d; d = d->newer)
			online += d->presence_known && d->online;
	metrics_gauge(m, "devices", (double)s->devices, "Devices that it knows.");
	metrics_gauge(m, "devices_limit", (double)t->devices_max, "Devices that it can know.");
	metrics_gauge(m, "online_devices", online, "Devices that are said to be online.");
	metrics_gauge(m, "quarantined_devices", (double)s->quarantined, "Devices of which nothing is taken.");
	metrics_counter(m, "reports_total", (double)t->n_reports, "Reports of devices that were stored.");
}

static void tell_handovers(struct metrics *m, const struct trainer *t)
{
	static const struct {
		const char *event;
		enum job_outcome outcome;
	} ends[] = {
		{"decided", JOB_O_ACTIVATED}, {"decided", JOB_O_KEPT},	  {"decided", JOB_O_REFUSED},
		{"refused", JOB_O_SCREENED},  {"dropped", JOB_O_DROPPED},
	};

	metrics_family(m, "handovers_total", METRIC_COUNTER, "Handovers that have ended, by how.");
	for (size_t i = 0; i < ARRAY_LEN(ends); i++)
		metrics_sample(m, events(t, ends[i].event, job_outcome_name(ends[i].outcome)), "outcome",
			       job_outcome_name(ends[i].outcome), NULL);
	metrics_counter(m, "completed_handovers_total", (double)t->handovers,
			"Handovers that ended with a device's decision, since its database was made.");
	metrics_counter(m, "screened_out_total", (double)t->screened,
			"Checkpoints that were screened out, since its database was made.");
	metrics_counter(m, "grants_total", events(t, "granted", NULL), "Checkpoints granted to it.");
	metrics_counter(m, "leases_run_out_total", events(t, "lapsed", NULL),
			"Grants that ended before there was a result.");
	metrics_family(m, "moved_bytes_total", METRIC_COUNTER, "Bytes of blocks by direction.");
	metrics_sample(m, (double)t->moved_in_bytes, "direction", "in", NULL);
	metrics_sample(m, (double)t->moved_out_bytes, "direction", "out", NULL);
	metrics_family(m, "last_accuracy_ratio", METRIC_GAUGE,
		       "Accuracy on the test images of what was handed over last, before and after training.");
	if (t->last_before.n)
		metrics_sample(m, score_accuracy(&t->last_before), "when", "before", NULL);
	if (t->last_after.n)
		metrics_sample(m, score_accuracy(&t->last_after), "when", "after", NULL);
}

void trainer_figures(struct trainer *t, struct metrics *m)
{
	struct msg_trainer_status s;

	trainer_describe(t, &s);
	metrics_program(m, t->conf->site, t->conf->id, t->model->id);
	metrics_counter(m, "starts_total", (double)t->boot, "Starts, since its database was made.");
	tell_queue(m, t, &s);
	tell_workers(m, t);
	tell_devices(m, t, &s);
	tell_handovers(m, t);
	metrics_refused(m, t->trust, t->n_refused);
	metrics_gauge(m, "audit_log_writable", is(!t->audit_failed), "Whether the audit log can be written.");
	metrics_gauge(m, "saving_failed", is(t->reason), "Whether its database or store cannot be written.");
	metrics_gauge(m, "checkpoints_limit_reached", is(t->disk_full),
		      "Whether the last job found no room within disk_max_mb.");
	metrics_disk(m, t->conf->state);
	metrics_certificate(m, t->trust);
}

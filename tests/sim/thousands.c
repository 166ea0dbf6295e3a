/* Thousands of devices against one trainer in virtual time: does its memory stay bounded, does each
 * device get its turn, does a broker that restarts cause no storm.
 *
 *   thousands [--devices N] [--minutes M] [--seed S]
 *
 * The trainer is the real one (database and store in memory, fake workers). Of a device the pure
 * state machine of the handover runs, and what the agent does around it in its simplest form:
 * blocks on request, reports by number, statuses, and the product's waits where it spreads things.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/crypto/hash.h"
#include "device-agent/handover.h"
#include "edge-trainer/trainer_priv.h"
#include "tests/first_weights.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_worker.h"

#define SITE         "home"
#define SLOTS        16
#define STEP_MAX_MS  800
#define T0_MS        INT64_C(1000000)
#define BLOCK        1024
#define REPORT_MS    (5 * 60 * 1000)  /* a report and a status a device, on average */
#define EPOCH_MS     (15 * 60 * 1000) /* a checkpoint to hand over */
#define LOSS         0.01
#define OUTAGE_MS    15000
#define BACK_MS      120000 /* within which all are back after it */
#define UP_SPREAD_MS 3000   /* AGENT_UP_SPREAD_MS */
#define KEPT         100    /* reports that are sent by themselves after an outage */

struct dev {
	struct handover h;
	unsigned number;
	bool up;
	unsigned attempt;
	uint32_t made;      /* checkpoints */
	char id[HASH_SIZE]; /* of the newest */
	uint32_t offered;   /* its number, while it is on offer or out */
	int64_t seq, told;  /* reports; told up to */
	int64_t timer_ms;
	int64_t due_ms, waited_ms; /* since when one waits; longest wait for a grant */
	unsigned n_ended;
	bool back; /* its status came through since the outage */
};

static struct dev *devs;
static unsigned n_devs;
static struct trainer *t;
static struct trainer_conf conf;
static struct model *model;
static struct sim_worker workers[SLOTS];
static uint8_t *weights;
static bool broker_up = true, winding_up; /* winding_up: nothing new is made, nothing is lost */
static int64_t outage_at_ms, back_ms;
static const struct handover_conf handover_conf = {60000, 1200000};

/* --- what is counted --- */

struct rate {
	int64_t second;
	unsigned n, peak, peak_after; /* peak_after: in the BACK_MS after the outage */
	uint64_t total;
};
static struct rate in, out, connects;
static unsigned peak_entries, peak_line, peak_gaps;

static void count(struct rate *r)
{
	int64_t second = sim_now() / 1000;
	bool after = sim_now() >= outage_at_ms && sim_now() < outage_at_ms + OUTAGE_MS + BACK_MS;

	if (second != r->second)
		r->n = 0;
	r->second = second;
	r->n++;
	r->total++;
	if (after)
		r->peak_after = MAX_OF(r->peak_after, r->n);
	else
		r->peak = MAX_OF(r->peak, r->n);
}

static long rss_kb(void)
{
	long pages = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f && fscanf(f, "%ld %ld", &pages, &resident) != 2)
		resident = 0;
	if (f)
		fclose(f);
	return resident * 4;
}

/* --- the network: what reaches the trainer, what reaches a device --- */

struct passing {
	struct topic topic;
	bool retained;
	size_t len;
	char payload[];
};

static void reach_trainer(void *arg, uint64_t n)
{
	struct passing *p = arg;
	char topic[TOPIC_SIZE];
	struct mqtt_message m = {topic, p->payload, p->len, false, NULL, NULL, 0};

	(void)n;
	if (broker_up && (winding_up || !sim_chance(LOSS)) &&
	    topic_format(topic, SITE, &p->topic) == 0) {
		count(&in);
		trainer_message(t, &m);
	}
	free(p);
}

static void say(struct dev *d, enum topic_kind kind, const char *checkpoint, uint32_t block,
		const void *data, size_t len)
{
	struct passing *p;

	if (!d->up)
		return;
	p = calloc(1, sizeof(*p) + len);
	p->topic.kind = kind;
	p->topic.block = block;
	snprintf(p->topic.device, ID_SIZE, "cam-%u", d->number);
	if (kind >= TOPIC_TRAINER_GRANT && kind <= TOPIC_TRAINER_ACK)
		strcpy(p->topic.trainer, conf.id);
	if (checkpoint)
		memcpy(p->topic.checkpoint, checkpoint, HASH_SIZE);
	p->len = len;
	memcpy(p->payload, data, len);
	sim_at(sim_now() + sim_between(1, 50), reach_trainer, p, 0);
}

static void say_text(struct dev *d, enum topic_kind kind, char *text)
{
	say(d, kind, NULL, 0, text, strlen(text));
	free(text);
}

/* --- a device --- */

/* The weights of its checkpoint number n: like all others, but for two values. */
static void write_weights(const struct dev *d, uint32_t n)
{
	float mark[2] = {(float)d->number, (float)n};

	memcpy(weights + WEIGHTS_HEADER_SIZE, mark, sizeof(mark));
}

static void say_offer(struct dev *d)
{
	struct msg_offer o = {.manifest = {.origin = ORIGIN_LOCAL,
					   .epoch = d->offered,
					   .images_seen = d->offered * 100,
					   .classes = 5,
					   .size = (int64_t)model->file_bytes,
					   .block_size = BLOCK,
					   .created_ms = 1700000000000,
					   .encoding = ENCODING_RAW},
			      .validation = {100, d->number % 100, 1}};

	memcpy(o.manifest.id, d->h.checkpoint, HASH_SIZE);
	memcpy(o.manifest.model, model->id, HASH_SIZE);
	snprintf(o.manifest.device, ID_SIZE, "cam-%u", d->number);
	say_text(d, TOPIC_DEVICE_OFFER, msg_offer_print(&o));
}

static void say_status(void *arg, uint64_t n)
{
	struct dev *d = arg;
	struct msg_status s = {.boot = 1,
			       .phase = PHASE_TRAINING,
			       .report_seq = d->seq,
			       .report_first = 1,
			       .progress = -1,
			       .log = "0123456789abcdef"};

	(void)n;
	memcpy(s.model, model->id, HASH_SIZE);
	strcpy(s.agent, "sim");
	s.loss = s.images_per_second = 0;
	say_text(d, TOPIC_DEVICE_STATUS, msg_status_print(&s));
}

static void say_report(struct dev *d, int64_t seq)
{
	struct msg_report r = {.seq = seq,
			       .split = SPLIT_VALIDATION,
			       .score = {100, 50, 1},
			       .origin = ORIGIN_LOCAL,
			       .log = "0123456789abcdef"};

	memset(r.checkpoint, 'a', HASH_HEX);
	memset(r.snapshot, 'b', HASH_HEX);
	say_text(d, TOPIC_DEVICE_REPORT, msg_report_print(&r));
}

static void step(struct dev *d, const struct handover_event *ev);

static void on_timer(void *arg, uint64_t n)
{
	struct dev *d = arg;
	const struct handover_event ev = {.kind = HANDOVER_EV_TIMER};

	(void)n;
	if (d->timer_ms != sim_now())
		return;
	d->timer_ms = -1;
	step(d, &ev);
}

static void run_action(struct dev *d, const struct handover_action *a)
{
	switch (a->kind) {
	case HANDOVER_OFFER:
		say_offer(d);
		break;
	case HANDOVER_GRANT:
		say_text(d, TOPIC_TRAINER_GRANT, msg_grant_print(&a->grant));
		break;
	case HANDOVER_ACK:
		say_text(d, TOPIC_TRAINER_ACK, msg_ack_print(&a->ack));
		break;
	case HANDOVER_PERSIST:
	case HANDOVER_DROP:
		break;
	}
}

static void step(struct dev *d, const struct handover_event *ev)
{
	struct handover_actions acts;
	int64_t fence = d->h.fence, at_ms;

	handover_step(&d->h, ev, sim_now(), &acts);
	for (size_t i = 0; i < acts.n; i++)
		run_action(d, &acts.at[i]);
	if (d->h.fence != fence && d->due_ms > 0) {
		d->waited_ms = MAX_OF(d->waited_ms, sim_now() - d->due_ms);
		d->due_ms = 0;
	}
	at_ms = handover_deadline_ms(&d->h);
	if (at_ms >= 0 && at_ms != d->timer_ms) {
		d->timer_ms = MAX_OF(at_ms, sim_now());
		sim_at(d->timer_ms, on_timer, d, 0);
	}
}

static void judged(void *arg, uint64_t n)
{
	struct dev *d = arg;
	struct msg_ack ack = {.has_decision = true, .decision = DECISION_KEPT};
	const struct handover_event pulled = {.kind = HANDOVER_EV_PULLED},
				    ev = {.kind = HANDOVER_EV_JUDGED, .ack = &ack};

	(void)n;
	if (d->h.phase != HANDOVER_PULLING)
		return;
	step(d, &pulled);
	step(d, &ev);
	d->n_ended++;
}

static void serve(struct dev *d, const struct msg_want *w)
{
	for (int64_t seq = w->reports_from; seq > 0 && seq <= MIN_OF(w->reports_to, d->seq); seq++)
		say_report(d, seq);
	if (w->n_blocks == 0 || !handover_may_pull(&d->h, conf.id, w->checkpoint))
		return;
	write_weights(d, d->offered);
	for (size_t i = 0; i < w->n_blocks; i++) {
		size_t at = (size_t)w->blocks[i] * BLOCK;

		say(d, TOPIC_TRAINER_BLOCK, w->checkpoint, w->blocks[i], weights + at,
		    MIN_OF((size_t)BLOCK, model->file_bytes - at));
	}
}

static void reach_device(void *arg, uint64_t number)
{
	struct passing *p = arg;
	struct dev *d = &devs[number];
	struct msg_claim c;
	struct msg_result r;
	struct msg_want w;

	if (!d->up || !broker_up || (!winding_up && sim_chance(LOSS))) {
		free(p);
		return;
	}
	if (p->topic.kind == TOPIC_DEVICE_CLAIM &&
	    msg_claim_parse(p->payload, p->len, &c, NULL) == 0)
		step(d, &(struct handover_event){.kind = HANDOVER_EV_CLAIM, .claim = &c});
	else if (p->topic.kind == TOPIC_DEVICE_WANT &&
		 msg_want_parse(p->payload, p->len, &w, NULL) == 0)
		serve(d, &w);
	else if (p->topic.kind == TOPIC_DEVICE_RESULT &&
		 msg_result_parse(p->payload, p->len, &r, NULL) == 0) {
		step(d, &(struct handover_event){.kind = HANDOVER_EV_RESULT, .result = &r});
		sim_at(sim_now() + sim_between(100, 2000), judged, d, 0);
	}
	free(p);
}

static int publish(void *user, const struct mqtt_publish *m)
{
	struct passing *p;
	struct topic topic;

	(void)user;
	count(&out);
	if (topic_parse(m->topic, SITE, &topic) < 0 || topic.kind > TOPIC_DEVICE_ACK)
		return 0;
	p = malloc(sizeof(*p) + m->len);
	p->topic = topic;
	p->len = m->len;
	memcpy(p->payload, m->payload, m->len);
	sim_at(sim_now() + sim_between(1, 50), reach_device, p,
	       strtoul(topic.device + 4, NULL, 10));
	return 0;
}

static void train(void *arg, uint64_t n)
{
	struct dev *d = arg;

	(void)n;
	if (winding_up)
		return;
	d->made++;
	if (handover_may_offer(&d->h)) {
		d->offered = d->made;
		write_weights(d, d->offered);
		hash_bytes(weights, model->file_bytes, d->id);
		if (d->due_ms == 0)
			d->due_ms = sim_now();
		step(d, &(struct handover_event){.kind = HANDOVER_EV_DUE, .checkpoint = d->id});
	}
	sim_at(sim_now() + sim_between(EPOCH_MS / 2, EPOCH_MS * 3 / 2), train, d, 0);
}

static void report(void *arg, uint64_t n)
{
	struct dev *d = arg;

	(void)n;
	if (winding_up) {
		say_status(d, 0);
	} else if (++d->seq && d->up) {
		say_report(d, d->seq);
		d->told = d->seq;
		say_status(d, 0);
	}
	sim_at(sim_now() + sim_between(REPORT_MS / 2, REPORT_MS * 3 / 2), report, d, 0);
}

static void tell_late(void *arg, uint64_t n)
{
	struct dev *d = arg;

	say_status(d, n);
	for (d->told = MAX_OF(d->told, d->seq - KEPT); d->told < d->seq; d->told++)
		say_report(d, d->told + 1);
}

static void connect_device(void *arg, uint64_t again)
{
	struct dev *d = arg;

	count(&connects);
	if (!broker_up) {
		sim_at(sim_now() + mqtt_reconnect_ms(&sim_rng, ++d->attempt, false, 500, 30000),
		       connect_device, d, again);
		return;
	}
	d->up = true;
	say_text(d, TOPIC_DEVICE_PRESENCE,
		 msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
	sim_at(sim_now() + (again ? sim_between(0, UP_SPREAD_MS) : 0), tell_late, d, 0);
	step(d, &(struct handover_event){.kind = HANDOVER_EV_UP});
	if (again && !d->back) {
		d->back = true;
		back_ms = sim_now() - outage_at_ms;
	}
}

/* --- the trainer --- */

static int work(void *user, unsigned slot, const char *op, struct json *args, uint64_t *ret_id)
{
	(void)user;
	return sim_worker_request(&workers[slot], op, args, ret_id);
}

static unsigned slot_of(const void *owner)
{
	return (unsigned)((const struct sim_worker *)owner - workers);
}

static void on_ready(void *owner)
{
	struct worker_ready r = {.n = {100, 0, 10}, .classes = 5};

	memset(r.snapshot[SPLIT_TEST], 'c', HASH_HEX);
	memcpy(r.model, model->id, HASH_SIZE);
	trainer_worker_ready(t, slot_of(owner), &r);
}

static void on_progress(void *owner, uint64_t id)
{
	trainer_worker_progress(t, slot_of(owner), id,
				&(struct worker_progress){.step = 1, .steps = 2, .loss = 1});
}

static void on_reply(void *owner, uint64_t id, const struct json *result, const struct err *err)
{
	trainer_worker_reply(t, slot_of(owner), id, result, err);
}

static void on_died(void *owner, const struct err *why)
{
	trainer_worker_died(t, slot_of(owner), why, false, 1000);
}

static void made(const char *id)
{
	(void)id;
}

/* The trainer says when it wants to be called; here, ten times a second. */
static void tick(void *arg, uint64_t n)
{
	unsigned gaps = 0;

	(void)arg;
	trainer_tick(t);
	peak_entries = MAX_OF(peak_entries, t->n_entries);
	peak_line = MAX_OF(peak_line, t->queue.offers.n);
	if (n % 100 == 0) {
		for (const struct device *d = t->gaps; d; d = d->next_gap)
			gaps++;
		peak_gaps = MAX_OF(peak_gaps, gaps);
	}
	sim_at(sim_now() + 100, tick, NULL, n + 1);
}

static void open_trainer(const char *dir)
{
	const struct trainer_ports ports = {NULL, publish, work, sim_mono_ms, sim_real_ms};
	struct err err = {0};

	strcpy(conf.site, SITE);
	strcpy(conf.id, "edge-1");
	strcpy(conf.state, dir);
	conf.epochs = 1;
	conf.seed = 1;
	conf.slots = SLOTS;
	conf.capacity = 128;
	conf.device_per_hour = 60;
	conf.keep_days = 1;
	conf.history_days = 30;
	conf.disk_max_bytes = 2000 * (int64_t)model->file_bytes;
	conf.lease_ms = 60000;
	conf.block_size = BLOCK;
	if (trainer_new(&conf, model, &ports, &t, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	trainer_connected(t, true);
	sim_worker_made = made;
	for (unsigned i = 0; i < SLOTS; i++) {
		workers[i] = (struct sim_worker){.model = model,
						 .salt = 1,
						 .step_max_ms = STEP_MAX_MS,
						 .owner = &workers[i],
						 .ready = on_ready,
						 .progress = on_progress,
						 .reply = on_reply,
						 .died = on_died};
		sim_worker_start(&workers[i]);
	}
	sim_at(sim_now() + 100, tick, NULL, 0);
}

/* --- the run --- */

static void broker_back(void *arg, uint64_t n)
{
	(void)arg;
	(void)n;
	broker_up = true;
	trainer_connected(t, true);
}

static void broker_goes(void *arg, uint64_t n)
{
	(void)arg;
	(void)n;
	broker_up = false;
	trainer_connected(t, false);
	for (unsigned i = 0; i < n_devs; i++) {
		devs[i].up = false;
		devs[i].attempt = 0;
		step(&devs[i], &(struct handover_event){.kind = HANDOVER_EV_DOWN});
		sim_at(sim_now() + mqtt_reconnect_ms(&sim_rng, 0, true, 500, 30000), connect_device,
		       &devs[i], 1);
	}
	sim_at(sim_now() + OUTAGE_MS, broker_back, NULL, 0);
}

static void begin_devices(void)
{
	for (unsigned i = 0; i < n_devs; i++) {
		struct dev *d = &devs[i];

		d->number = i;
		d->timer_ms = -1;
		handover_restart(&d->h, &handover_conf, rng_u64(&sim_rng), sim_now());
		sim_at(sim_now() + sim_between(0, 60000), connect_device, d, 0);
		sim_at(sim_now() + sim_between(0, REPORT_MS), report, d, 0);
		sim_at(sim_now() + sim_between(0, EPOCH_MS), train, d, 0);
	}
}

static int64_t file_bytes(const char *dir, const char *name)
{
	char path[FILE_PATH_MAX];
	struct stat st;

	file_path(path, sizeof(path), "%s/%s", dir, name);
	return stat(path, &st) == 0 ? st.st_size : 0;
}

static bool expect(bool holds, const char *what)
{
	if (!holds)
		printf("FAILED: %s\n", what);
	return holds;
}

static bool check_back_and_bounds(void)
{
	unsigned n_back = 0;
	bool good;

	for (unsigned i = 0; i < n_devs; i++)
		n_back += devs[i].back;
	printf("after an outage of %d s all %u of %u are back in %.1f s\n", OUTAGE_MS / 1000,
	       n_back, n_devs, (double)(back_ms - OUTAGE_MS) / 1000);
	printf("peaks: %u jobs (limit %d), %u offers in line (limit %d), %u devices with gaps\n",
	       peak_entries, TRAINER_JOBS_MAX, peak_line, QUEUE_WAITING_MAX, peak_gaps);
	good = expect(n_back == n_devs && back_ms <= OUTAGE_MS + BACK_MS, "all are back in time");
	return expect(peak_line <= QUEUE_WAITING_MAX && peak_entries <= TRAINER_JOBS_MAX,
		      "queues are bounded") &&
	       good;
}

/* Who waits for how long, when all has been going on for that time. */
static bool check_waits(int64_t minutes)
{
	int64_t longest_ms = 0, ended = 0, sum_ms = 0, granted = 0;
	unsigned waiting = 0;

	for (unsigned i = 0; i < n_devs; i++) {
		const struct dev *d = &devs[i];
		int64_t ms = d->due_ms > 0 ? sim_now() - d->due_ms : 0;

		ended += d->n_ended;
		waiting += d->due_ms > 0;
		granted += d->waited_ms > 0;
		sum_ms += d->waited_ms;
		longest_ms = MAX_OF(longest_ms, MAX_OF(ms, d->waited_ms));
	}
	printf("handovers: %lld; longest wait for a grant %.1f min, a device's longest on average "
	       "%.1f min; %u wait\n",
	       (long long)ended, (double)longest_ms / 60000,
	       granted ? (double)sum_ms / (double)granted / 60000 : 0, waiting);
	/* By age nobody waits much longer than all must: the backlog, and what the gain is worth.
	 */
	return expect(longest_ms <= (int64_t)((double)waiting / (double)MAX_OF(ended, (int64_t)1) *
					      (double)minutes * 60000) +
					    3 * QUEUE_GAIN_MS,
		      "nobody starves");
}

static bool check_reports(void)
{
	int64_t lost = 0, n = 0;

	for (unsigned i = 0; i < n_devs; i++) {
		const struct device *seen;
		char id[ID_SIZE];

		snprintf(id, sizeof(id), "cam-%u", i);
		seen = device_find(t, id);
		n += devs[i].seq;
		lost += devs[i].seq - (seen ? seen->report_have : 0);
	}
	printf("reports: %lld, not there: %lld\n", (long long)n, (long long)lost);
	return expect(lost == 0, "no report is lost");
}

static void print_rates(const char *dir, long rss_devices, int64_t minutes)
{
	printf("%u devices, %lld minutes, one trainer with %d workers, capacity %u\n", n_devs,
	       (long long)minutes, SLOTS, conf.capacity);
	printf("messages in: %llu, peak %u/s, %u/s in the %d s after the broker's restart\n",
	       (unsigned long long)in.total, in.peak, in.peak_after, BACK_MS / 1000);
	printf("messages out: %llu, peak %u/s, after the restart %u/s; attempts to connect: peak "
	       "%u/s\n",
	       (unsigned long long)out.total, out.peak, out.peak_after, connects.peak_after);
	printf("database %.1f MB; memory of the trainer and the messages on their way: %.1f MB\n",
	       (double)file_bytes(dir, "trainer.db") / 1e6, (double)(rss_kb() - rss_devices) / 1e3);
}

int main(int argc, char **argv)
{
	static const char cfg[] = "[net]\nbatch=4\nsubdivisions=1\nwidth=8\nheight=8\nchannels=1\n"
				  "[connected]\noutput=5\nactivation=linear\n[softmax]\n";
	static const char *const names[] = {"zero", "one", "two", "three", "four"};
	char dir[SIM_DIR_SIZE];
	int64_t minutes = 10;
	uint64_t seed = 1;
	struct err err = {0};
	struct timespec began, now;
	long rss_devices;
	bool good;

	n_devs = 1000;
	for (int i = 1; i + 1 < argc; i += 2)
		if (strcmp(argv[i], "--devices") == 0)
			n_devs = (unsigned)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--minutes") == 0)
			minutes = strtoll(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[i + 1], NULL, 10);
	if (!sim_dir(dir) || model_parse(cfg, strlen(cfg), "net.cfg", names, 5, &model, &err) < 0)
		return fprintf(stderr, "%s %s\n", dir, err.text), 1;
	log_init("thousands", (enum log_priority)0);
	clock_gettime(CLOCK_MONOTONIC, &began);
	sim_begin(seed, T0_MS);
	weights = calloc(1, model->file_bytes);
	first_weights(model, weights, 1);
	devs = calloc(n_devs, sizeof(*devs));
	memset(devs, 1, n_devs * sizeof(*devs)); /* all of it is theirs from the start */
	memset(devs, 0, n_devs * sizeof(*devs));
	rss_devices = rss_kb();
	open_trainer(dir);
	begin_devices();
	outage_at_ms = T0_MS + minutes * 30000;
	sim_at(outage_at_ms, broker_goes, NULL, 0);
	sim_run(T0_MS + minutes * 60000, NULL);
	print_rates(dir, rss_devices, minutes);
	good = check_waits(minutes);
	good &= check_back_and_bounds();
	winding_up = true;
	sim_run(sim_now() + 4 * REPORT_MS, NULL);
	good &= check_reports();
	for (unsigned i = 0; i < n_devs; i++)
		devs[i].up = false;
	sim_run(sim_now() + 1000, NULL); /* what is on its way arrives */
	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("in %ld s\n", (long)(now.tv_sec - began.tv_sec));
	trainer_free(t);
	sim_end();
	for (unsigned i = 0; i < SLOTS; i++)
		sim_worker_kill(&workers[i]);
	free(devs);
	free(weights);
	model_free(model);
	file_remove(dir, NULL);
	return !good;
}

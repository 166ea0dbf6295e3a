#include "tests/sim/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"

#define RECONNECT_FIRST_MS 500
#define RECONNECT_CAP_MS   30000
#define WILL_MAX_MS        45000 /* a broken connection is noticed by its keepalive */

/* The product's seeds, too, follow from the simulation's. */
uint64_t __wrap_rng_entropy(void);
uint64_t __wrap_rng_entropy(void)
{
	return rng_u64(&sim_rng);
}

/* Noise, too, comes from the seed. */
int __wrap_seal_random(uint8_t *ret, size_t len);
int __wrap_seal_random(uint8_t *ret, size_t len)
{
	while (len-- > 0)
		*ret++ = (uint8_t)rng_u64(&sim_rng);
	return 0;
}

/* --- time: a heap by time, then by order of asking --- */

struct due {
	int64_t at_ms;
	uint64_t order;
	void (*fn)(void *, uint64_t);
	void *arg;
	uint64_t n;
};

struct rng sim_rng;
static int64_t now;
static struct due *heap;
static size_t n_heap, heap_size;
static uint64_t order;

int64_t sim_now(void)
{
	return now;
}

int64_t sim_mono_ms(void *user)
{
	(void)user;
	return sim_now();
}

int64_t sim_real_ms(void *user)
{
	(void)user;
	return 1790000000000 + sim_now();
}

static bool before(const struct due *a, const struct due *b)
{
	return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

void sim_at(int64_t at_ms, void (*fn)(void *, uint64_t), void *arg, uint64_t n)
{
	struct due d = {MAX_OF(at_ms, now), order++, fn, arg, n};
	size_t i = n_heap++;

	if (n_heap > heap_size) {
		heap_size = MAX_OF(heap_size * 2, (size_t)1024);
		heap = realloc(heap, heap_size * sizeof(*heap));
		if (!heap)
			abort();
	}
	for (; i > 0 && before(&d, &heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = d;
}

static struct due pop(void)
{
	struct due top = heap[0], last = heap[--n_heap];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < n_heap) {
		if (child + 1 < n_heap && before(&heap[child + 1], &heap[child]))
			child++;
		if (!before(&heap[child], &last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return top;
}

bool sim_run(int64_t until_ms, bool (*done)(void))
{
	while (n_heap > 0 && heap[0].at_ms <= until_ms) {
		struct due d = pop();

		now = d.at_ms;
		d.fn(d.arg, d.n);
		if (done && done())
			return true;
	}
	now = until_ms;
	return false;
}

bool sim_chance(double p)
{
	return p > 0 && rng_unit(&sim_rng) < p;
}

int64_t sim_between(int64_t lo, int64_t hi)
{
	return lo + (int64_t)(rng_unit(&sim_rng) * (double)(hi - lo + 1));
}

char *sim_dir(char ret[SIM_DIR_SIZE])
{
	strcpy(ret, access("/dev/shm", W_OK) == 0 ? "/dev/shm/tasuki-sim-XXXXXX"
						  : "/tmp/tasuki-sim-XXXXXX");
	return mkdtemp(ret);
}

/* --- messages --- */

struct message {
	unsigned refs;
	char topic[MQTT_TOPIC_MAX];
	size_t len;
	int qos;
	bool retain;
	int64_t until_ms; /* 0: does not expire */
	char payload[];
};

struct sim_kept {
	struct sim_kept *next;
	struct message *m;
};

/* On its way to a client. */
struct flight {
	struct sim_client *to;
	struct message *m;
	bool retained, flip;
};

struct sim_faults sim_faults;
static struct sim_client *clients;
static struct sim_kept *retained;
static uint64_t n_messages, n_connections;

uint64_t sim_n_messages(void)
{
	return n_messages;
}

static struct message *message_new(const struct mqtt_publish *p)
{
	struct message *m = malloc(sizeof(*m) + p->len + 1);

	if (!m)
		abort();
	*m = (struct message){.refs = 1,
			      .len = p->len,
			      .qos = p->qos,
			      .retain = p->retain,
			      .until_ms = p->expiry_s ? now + p->expiry_s * INT64_C(1000) : 0};
	snprintf(m->topic, sizeof(m->topic), "%s", p->topic);
	memcpy(m->payload, p->payload, p->len);
	m->payload[p->len] = '\0';
	return m;
}

static struct message *hold(struct message *m)
{
	m->refs++;
	return m;
}

static void drop(struct message *m)
{
	if (--m->refs == 0)
		free(m);
}

static void keep(struct sim_client *c, struct message *m)
{
	struct sim_kept *k;

	if (!c->durable || !c->session || m->qos == 0 || c->n_queued >= SIM_QUEUED_MAX)
		return;
	k = malloc(sizeof(*k));
	if (!k)
		abort();
	*k = (struct sim_kept){NULL, hold(m)};
	*c->queue_end = k;
	c->queue_end = &k->next;
	c->n_queued++;
}

static void forget(struct sim_client *c)
{
	for (struct sim_kept *k = c->queue, *next; k; k = next) {
		next = k->next;
		drop(k->m);
		free(k);
	}
	c->queue = NULL;
	c->queue_end = &c->queue;
	c->n_queued = 0;
}

static void give(const struct flight *f)
{
	struct mqtt_message m = {.topic = f->m->topic,
				 .payload = f->m->payload,
				 .len = f->m->len,
				 .retained = f->retained};
	char *copy = NULL;

	if (f->m->until_ms && now > f->m->until_ms)
		return;
	if (f->flip && m.len > 0) {
		copy = malloc(m.len);
		memcpy(copy, m.payload, m.len);
		copy[rng_below(&sim_rng, (uint32_t)m.len)] ^= (char)(1 << rng_below(&sim_rng, 8));
		m.payload = copy;
	}
	n_messages++;
	f->to->message(f->to->user, &m);
	free(copy);
}

static void arrive(void *arg, uint64_t connection)
{
	struct flight *f = arg;

	if (f->to->connection == connection && f->to->up)
		give(f);
	else if (!f->to->up && sim_chance(0.5)) /* unacknowledged: it is sent again */
		keep(f->to, f->m);
	drop(f->m);
	free(f);
}

/* Puts it on its way to a client that is connected. */
static void send_to(struct sim_client *c, struct message *m, bool was_retained)
{
	bool is_block = strstr(m->topic, "/block/") != NULL;
	int64_t at_ms = now + sim_between(1, MAX_OF(sim_faults.delay_max_ms, (int64_t)2));
	struct flight *f = malloc(sizeof(*f));

	if (!f)
		abort();
	if (!sim_faults.reorder)
		at_ms = MAX_OF(at_ms, c->last_ms);
	c->last_ms = MAX_OF(at_ms, c->last_ms);
	*f = (struct flight){c, hold(m), was_retained, is_block && sim_chance(sim_faults.flip)};
	sim_at(at_ms, arrive, f, c->connection);
}

/* --- subscriptions --- */

static bool matches(const char *filter, const char *topic)
{
	for (; *filter; filter++) {
		if (*filter == '#')
			return true;
		if (*filter == '+') {
			topic += strcspn(topic, "/");
		} else {
			if (*filter != *topic)
				return false;
			topic++;
		}
	}
	return *topic == '\0';
}

/* After "$share/NAME/", the filter; NULL: it is not shared. */
static const char *shared(const char *filter)
{
	const char *name = strncmp(filter, "$share/", 7) == 0 ? strchr(filter + 7, '/') : NULL;

	return name ? name + 1 : NULL;
}

static void deliver(struct sim_client *c, struct message *m)
{
	if (sim_chance(m->qos ? sim_faults.lose / 2 : sim_faults.lose))
		return;
	for (int n = sim_chance(sim_faults.twice) ? 2 : 1; n > 0; n--)
		if (c->up)
			send_to(c, m, false);
		else
			keep(c, m);
}

static void retain(struct message *m)
{
	struct sim_kept **p = &retained;

	while (*p && strcmp((*p)->m->topic, m->topic) != 0)
		p = &(*p)->next;
	if (*p) {
		drop((*p)->m);
		(*p)->m = hold(m);
		return;
	}
	*p = malloc(sizeof(**p));
	if (!*p)
		abort();
	**p = (struct sim_kept){NULL, hold(m)};
}

/* At the broker. */
static void route(struct message *m)
{
	struct sim_client *chosen = NULL;
	unsigned n = 0;

	if (m->retain)
		retain(m);
	for (struct sim_client *c = clients; c; c = c->next)
		for (unsigned i = 0; i < c->n_filters; i++) {
			const char *share = shared(c->filters[i]);

			if (!matches(share ? share : c->filters[i], m->topic))
				continue;
			if (!share)
				deliver(c, m);
			else if (c->up && rng_below(&sim_rng, ++n) == 0)
				chosen = c;
		}
	if (chosen)
		deliver(chosen, m);
}

struct passage {
	struct sim_client *from; /* NULL: it is past there */
	struct message *m;
};

static void reach_broker(void *arg, uint64_t connection)
{
	struct passage *p = arg;

	/* With its connection it may have been lost, or have come through. */
	if (!p->from || p->from->connection == connection || sim_chance(0.5))
		route(p->m);
	drop(p->m);
	free(p);
}

static void to_broker(struct sim_client *from, const struct mqtt_publish *p, int64_t at_ms)
{
	struct passage *pass = malloc(sizeof(*pass));

	if (!pass)
		abort();
	*pass = (struct passage){from, message_new(p)};
	sim_at(at_ms, reach_broker, pass, from ? from->connection : 0);
}

static void writable(void *arg, uint64_t connection)
{
	struct sim_client *c = arg;

	if (c->up && c->connection == connection && c->writable)
		c->writable(c->user);
}

int sim_publish(struct sim_client *c, const struct mqtt_publish *p)
{
	if (!c->up)
		return -ENOTCONN;
	if (sim_chance(sim_faults.full)) {
		sim_at(now + sim_between(1, 500), writable, c, c->connection);
		return -EAGAIN;
	}
	to_broker(c, p, now + 1);
	return 0;
}

/* --- connections --- */

static void send_will(void *arg, uint64_t connection)
{
	struct sim_client *c = arg;
	struct mqtt_publish p = {.topic = c->will_topic,
				 .payload = c->last_will,
				 .len = strlen(c->last_will),
				 .qos = 1,
				 .retain = true};
	struct message *m;

	if (!c->will_due || c->connection != connection)
		return;
	c->will_due = false;
	m = message_new(&p);
	route(m);
	drop(m);
}

static void connect_client(void *arg, uint64_t connection)
{
	struct sim_client *c = arg;

	if (!c->on || c->up || c->connection != connection)
		return;
	send_will(c, connection); /* of the connection that this one takes the place of */
	c->up = true;
	c->connection = ++n_connections;
	c->last_ms = now;
	if (!c->session || !c->durable)
		forget(c);
	c->session = true;
	c->link(c->user, true);
	for (struct sim_kept *k = retained; k && c->up; k = k->next)
		for (unsigned i = 0; i < c->n_filters; i++)
			if (c->retained[i] && matches(c->filters[i], k->m->topic))
				send_to(c, k->m, true);
	for (struct sim_kept *k = c->queue; k; k = k->next)
		send_to(c, k->m, false);
	forget(c);
}

static void lost(struct sim_client *c, bool with_will)
{
	if (!c->up)
		return;
	c->up = false;
	c->connection = ++n_connections;
	c->will_due = with_will && *c->will_topic;
	memcpy(c->last_will, c->will, sizeof(c->will));
	if (c->will_due)
		sim_at(now + sim_between(1, WILL_MAX_MS), send_will, c, c->connection);
}

static void come_back(struct sim_client *c)
{
	int64_t wait_ms = rng_backoff_ms(&sim_rng, rng_below(&sim_rng, 5), RECONNECT_FIRST_MS,
					 RECONNECT_CAP_MS);

	sim_at(now + wait_ms, connect_client, c, c->connection);
}

void sim_cut(struct sim_client *c)
{
	if (!c->up)
		return;
	lost(c, true);
	c->link(c->user, false);
	come_back(c);
}

void sim_join(struct sim_client *c)
{
	c->next = clients;
	clients = c;
	c->queue_end = &c->queue;
}

void sim_start(struct sim_client *c)
{
	c->on = true;
	sim_at(now + sim_between(5, 200), connect_client, c, c->connection);
}

void sim_stop(struct sim_client *c, bool killed)
{
	c->on = false;
	lost(c, killed);
}

void sim_broker_restart(bool forgets_retained)
{
	for (struct sim_client *c = clients; c; c = c->next) {
		forget(c);
		c->session = false;
		if (!c->up)
			continue;
		lost(c, false);
		c->link(c->user, false);
		come_back(c);
	}
	while (forgets_retained && retained) {
		struct sim_kept *k = retained;

		retained = k->next;
		drop(k->m);
		free(k);
	}
}

/* --- beginning and end --- */

void sim_begin(uint64_t seed, int64_t now_ms)
{
	rng_init(&sim_rng, seed);
	now = now_ms;
	order = n_messages = n_connections = 0;
	sim_faults = (struct sim_faults){0};
}

void sim_end(void)
{
	for (size_t i = 0; i < n_heap; i++) {
		if (heap[i].fn == arrive) {
			drop(((struct flight *)heap[i].arg)->m);
			free(heap[i].arg);
		} else if (heap[i].fn == reach_broker) {
			drop(((struct passage *)heap[i].arg)->m);
			free(heap[i].arg);
		}
	}
	free(heap);
	heap = NULL;
	n_heap = heap_size = 0;
	for (struct sim_client *c = clients; c; c = c->next)
		forget(c);
	clients = NULL;
	sim_broker_restart(true);
}

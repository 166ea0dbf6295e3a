/* One end of a transfer, by the product's own code: blocks, window, part file, check, store.
 *
 *   wire_end send PORT FILE BLOCK_SIZE [CERTIFICATE KEY AUTHORITIES]
 *       prints 'ID SIZE ROOT' once it is connected, and serves whoever wants, until killed
 *   wire_end take PORT CFG DIR ID SIZE ROOT BLOCK_SIZE [CERTIFICATE KEY AUTHORITIES]
 *       pulls it into the store in DIR; prints one JSON object
 *
 * With an identity the connection is TLS and the blocks are sealed; without one ROOT is -. The
 * sender is the device `cam`, the receiver the trainer `edge`. What a daemon does besides (its
 * database, the handover's messages, its key agreement and signatures) is not here.
 * tests/bench/wire and tests/integration/test_wire.py drive it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/checkpoint/model.h"
#include "common/checkpoint/store.h"
#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"
#include "common/mqtt/mqtt.h"
#include "common/protocol/message.h"
#include "common/protocol/topic.h"
#include "common/transfer/sealing.h"
#include "common/transfer/serve.h"
#include "common/trust/identity.h"

#define SITE         "bench"
#define RECONNECT_MS 50

struct end {
	struct loop *loop;
	struct loop_source *timer;
	struct mqtt *mqtt;
	const char *file; /* sender's */
	struct manifest manifest;
	struct serve serve;
	struct part part; /* receiver's */
	struct model *model;
	struct store *store;
	const char *dir;
	int64_t began_us, arrived_us;
	uint32_t window_max;
	struct seal *seal; /* NULL: plain */
	struct proof proof;
	struct identity_paths identity;
	char buf[SEALING_BLOCK_MAX];
};

/* What the two ends of a handover would have agreed on. */
static const uint8_t key[SEAL_KEY] = "the same at both ends of a bench";

static void die(const char *what, const struct err *err)
{
	fprintf(stderr, "wire_end: %s: %s\n", what, err ? err->text : "failed");
	exit(1);
}

static int64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Both kinds may be there at one broker. */
static const char *device(const struct end *e)
{
	return e->seal ? "cam-sealed" : "cam";
}

static struct topic topic_of(const struct end *e, enum topic_kind kind)
{
	struct topic t = {.kind = kind, .trainer = "edge"};
	snprintf(t.device, sizeof(t.device), "%s", device(e));
	return t;
}

static int publish(struct end *e, const struct topic *t, const void *payload, size_t len, int qos)
{
	char topic[TOPIC_SIZE];
	if (topic_format(topic, SITE, t) < 0)
		die("topic", NULL);
	struct mqtt_publish p = {.topic = topic, .payload = payload, .len = len, .qos = qos};
	return mqtt_publish(e->mqtt, &p);
}

/* ---- sender ---- */

static void serve(struct end *e)
{
	struct topic t = topic_of(e, TOPIC_TRAINER_BLOCK);
	struct err err = {0};
	size_t done = 0;
	memcpy(t.checkpoint, e->manifest.id, sizeof(t.checkpoint));
	for (; done < e->serve.n; done++) {
		uint32_t len;
		t.block = e->serve.blocks[done];
		if (sealing_read_block(e->seal, key, &e->proof, e->file, &e->manifest, t.block,
				       e->buf, &len, &err) < 0)
			die("block", &err);
		if (publish(e, &t, e->buf, len, 0) == -EAGAIN)
			break;
	}
	serve_sent(&e->serve, done);
}

static void on_want(struct end *e, const struct mqtt_message *m)
{
	struct err err = {0};
	struct msg_want w;
	if (msg_want_parse(m->payload, m->len, &w, &err) < 0)
		die("want", &err);
	serve_add(&e->serve, w.blocks, w.n_blocks);
	serve(e);
}

/* ---- receiver ---- */

static void ask(struct end *e)
{
	struct topic t = topic_of(e, TOPIC_DEVICE_WANT);
	struct msg_want w = {.trainer = "edge"};
	struct xfer *x = &e->part.xfer;
	int64_t now_ms = clock_mono_ms();
	memcpy(w.checkpoint, e->manifest.id, sizeof(w.checkpoint));
	if (!mqtt_is_up(e->mqtt))
		return;
	xfer_timeout(x, now_ms);
	while ((w.n_blocks = xfer_want(x, now_ms, w.blocks, MESSAGE_WANT_MAX)) > 0) {
		_cleanup_free_ char *text = msg_want_print(&w);
		publish(e, &t, text, strlen(text), 1);
	}
	e->window_max = MAX_OF(e->window_max, x->window);
	loop_timer_at(e->timer, xfer_deadline_ms(x));
}

static int on_timer(void *user)
{
	struct end *e = user;
	if (e->part.xfer.n_blocks)
		ask(e);
	return 0;
}

/* As the daemons do: verified by its hash, looked through, into the store. */
static void finish(struct end *e)
{
	char path[FILE_PATH_MAX];
	struct err err = {0};
	struct mqtt_stats s;
	struct xfer x = e->part.xfer; /* its numbers */
	e->arrived_us = now_us();
	if (part_finish(&e->part, path, &err) < 0 ||
	    weights_check(e->model, path, NULL, NULL, &err) < 0 ||
	    store_add_own(e->store, path, &e->manifest, &err) < 0)
		die("finish", &err);
	int64_t end_us = now_us();
	mqtt_get_stats(e->mqtt, &s);
	printf("{\"seconds\": %.6f, \"arrived\": %.6f, \"twice\": %" PRIu64
	       ", \"reasked\": %" PRIu64 ", \"window_max\": %u, \"round_min_ms\": %" PRId64
	       ", \"connects\": %" PRIu64 ", \"bytes\": %" PRIu64 "}\n",
	       (double)(end_us - e->began_us) / 1e6, (double)(e->arrived_us - e->began_us) / 1e6,
	       x.n_twice, x.n_reasked, e->window_max, x.round_min_ms, s.connects, s.in_bytes);
	loop_exit(e->loop, 0);
}

static void on_block(struct end *e, const struct topic *t, const struct mqtt_message *m)
{
	struct err err = {0};
	if (!e->part.xfer.n_blocks)
		return;
	int r = sealing_take_block(e->seal, key, &e->part, t->block, m->payload, m->len, e->buf,
				   clock_mono_ms(), &err);
	if (r > XFER_E_UNASKED)
		err_set(&err, -EBADMSG, "%s", xfer_result_text((enum xfer_result)r));
	if (err.code)
		die("block", &err);
	if (xfer_complete(&e->part.xfer))
		finish(e);
	else
		ask(e);
}

static void begin_or_go_on(struct end *e)
{
	char incoming[FILE_PATH_MAX];
	struct err err = {0};
	if (e->began_us) {
		xfer_restart(&e->part.xfer, clock_mono_ms());
		ask(e);
		return;
	}
	e->began_us = now_us();
	file_path(incoming, sizeof(incoming), "%s/incoming", e->dir);
	if (file_mkdirs(incoming, &err) < 0 ||
	    part_open(&e->part, incoming, &e->manifest, clock_mono_ms(), &err) < 0)
		die("part", &err);
	e->part.from_signer = true;
	ask(e);
}

/* ---- both ---- */

static void on_message(void *user, const struct mqtt_message *m)
{
	struct topic t;
	if (topic_parse(m->topic, SITE, &t) < 0)
		die(m->topic, NULL);
	if (t.kind == TOPIC_DEVICE_WANT)
		on_want(user, m);
	else
		on_block(user, &t, m);
}

static void on_state(void *user, enum mqtt_state state, const char *why)
{
	struct end *e = user;
	if (state != MQTT_UP) {
		e->serve.n = 0;
	} else if (e->dir) {
		begin_or_go_on(e);
	} else {
		printf("%s %lld %s\n", e->manifest.id, (long long)e->manifest.size,
		       e->seal ? e->manifest.root : "-");
		fflush(stdout);
	}
}

static void on_writable(void *user)
{
	serve(user);
}

static void connect_to(struct end *e, const char *port, enum topic_kind kind)
{
	struct mqtt_conf conf = {.host = "127.0.0.1",
				 .port = atoi(port),
				 .clean_start = true,
				 .reconnect_first_ms = RECONNECT_MS,
				 .reconnect_cap_ms = RECONNECT_MS};
	struct mqtt_handler handler = {on_message, on_state, on_writable, e};
	struct topic t = topic_of(e, kind);
	char filter[TOPIC_SIZE];
	struct err err = {0};
	identity_tls(&e->identity, &conf.tls, NULL);
	snprintf(conf.client_id, sizeof(conf.client_id), "%s", e->dir ? "edge" : device(e));
	if (topic_filter(filter, SITE, &t, NULL) < 0 || loop_new(&e->loop) < 0 ||
	    loop_add_timer(e->loop, on_timer, e, &e->timer) < 0 ||
	    mqtt_new(e->loop, &conf, &handler, &e->mqtt, &err) < 0 ||
	    mqtt_subscribe(e->mqtt, filter, kind == TOPIC_DEVICE_WANT, false) < 0 ||
	    mqtt_start(e->mqtt, &err) < 0)
		die("connect", &err);
}

static int run(struct end *e)
{
	int r = loop_run(e->loop);
	mqtt_free(e->mqtt, 100, false);
	loop_source_free(e->timer);
	loop_free(e->loop);
	model_free(e->model);
	store_free(e->store);
	proof_done(&e->proof);
	seal_free(e->seal);
	return r < 0;
}

/* a: CERTIFICATE KEY AUTHORITIES, or nothing. */
static void be(struct end *e, char **a)
{
	if (!*a)
		return;
	snprintf(e->identity.certificate, sizeof(e->identity.certificate), "%s", a[0]);
	snprintf(e->identity.key, sizeof(e->identity.key), "%s", a[1]);
	snprintf(e->identity.authorities, sizeof(e->identity.authorities), "%s", a[2]);
	if (seal_new(&e->seal) < 0)
		die("seal", NULL);
}

static int send_file(struct end *e, char **a)
{
	struct err err = {0};
	struct stat st;
	e->file = a[1];
	if (stat(e->file, &st) < 0 || hash_file(e->file, e->manifest.id, &err) < 0)
		die(e->file, &err);
	e->manifest.size = st.st_size;
	e->manifest.block_size = atoll(a[2]);
	be(e, a + 3);
	if (e->seal && proof_root(&e->proof, e->file, &e->manifest, &err) < 0)
		die(e->file, &err);
	connect_to(e, a[0], TOPIC_DEVICE_WANT);
	return run(e);
}

static int take_file(struct end *e, char **a)
{
	struct err err = {0};
	e->dir = a[2];
	if (model_load(a[1], NULL, 0, &e->model, &err) < 0 ||
	    store_open(e->dir, &e->store, &err) < 0)
		die(e->dir, &err);
	e->manifest = (struct manifest){.size = atoll(a[4]),
					.block_size = atoll(a[6]),
					.device = "cam",
					.encoding = ENCODING_RAW,
					.created_ms = 1};
	snprintf(e->manifest.id, sizeof(e->manifest.id), "%s", a[3]);
	memcpy(e->manifest.model, e->model->id, sizeof(e->manifest.model));
	be(e, a + 7);
	if (e->seal)
		snprintf(e->manifest.root, sizeof(e->manifest.root), "%s", a[5]);
	connect_to(e, a[0], TOPIC_TRAINER_BLOCK);
	return run(e);
}

int main(int argc, char **argv)
{
	static struct end e;
	if ((argc == 5 || argc == 8) && strcmp(argv[1], "send") == 0)
		return send_file(&e, argv + 2);
	if ((argc == 9 || argc == 12) && strcmp(argv[1], "take") == 0)
		return take_file(&e, argv + 2);
	fprintf(stderr, "usage: wire_end send PORT FILE BLOCK_SIZE [IDENTITY]\n"
			"       wire_end take PORT CFG DIR ID SIZE ROOT BLOCK_SIZE [IDENTITY]\n"
			"IDENTITY: CERTIFICATE KEY AUTHORITIES\n");
	return 2;
}

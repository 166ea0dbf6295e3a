/* Private classes: what is offered lacks the rows of their outputs, and what returns gets them
 * back. */
#include "agent_rig.h"
#include "failure.h"

#include <sys/syscall.h>

#include "device-agent/agent_impl.h"
#include "device-agent/private_names.h"

#define PUBLIC 4 /* of five outputs */
#define FIRST  WEIGHTS_HEADER_SIZE

static char local[HASH_SIZE], offered[HASH_SIZE];

/* Its last weights are a convolution of size 1 with batch normalization. */
#define CONVOLUTIONAL_CFG                                                                      \
	NET "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\npad=1\nactivation=leaky\n" \
	    "[convolutional]\nbatch_normalize=1\nfilters=5\nsize=1\nactivation=linear\n"       \
	    "[avgpool]\n[softmax]\n"

static int output_layer;
static size_t private_floats;

static bool disk_is_full; /* for weights, that is; what is small still finds a place */

/* In place of libc's. */
int fsync(int fd)
{
	char link[32], path[FILE_PATH_MAX] = "";
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (disk_is_full && readlink(link, path, sizeof(path) - 1) > 0 &&
	    (strstr(path, "grafted.weights") || strstr(path, "stripped.weights"))) {
		errno = ENOSPC;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

static int setup_with(void **state, const char *cfg)
{
	char mine[FILE_PATH_MAX];
	if (setup(state))
		return -1;
	agent_free(a);
	model_free(model);
	file_remove(conf.state, NULL);
	model = util_model(cfg, PUBLIC);
	output_layer = model_output_layer(model, &err);
	private_floats = 0;
	for (size_t t = 0; t < model->n_tensors; t++)
		if (model->tensors[t].layer == output_layer)
			private_floats += model->tensors[t].count / model->tensors[t].rows;
	file_path(conf.worker.classes, sizeof(conf.worker.classes), "%s/classes.txt", dir);
	util_write(conf.worker.classes, "zero\none\ntwo\nthree\n", 19);
	file_path(mine, sizeof(mine), "%s/mine.txt", dir);
	util_write(mine, "cellar\n", 7);
	strcpy(conf.private_classes, mine);
	forget_sent();
	if (begin() < 0)
		fail_msg("%s", err.text);
	agent_link(a, true);
	data_read();
	return 0;
}

static int private_setup(void **state)
{
	return setup_with(state, SMALL_CFG);
}

static int convolutional_setup(void **state)
{
	return setup_with(state, CONVOLUTIONAL_CFG);
}

static uint8_t *weights_of(const char *id)
{
	char path[FILE_PATH_MAX], *data = NULL;
	size_t len = 0;
	file_path(path, sizeof(path), "%s/checkpoints/%s/weights", conf.state, id);
	if (file_read(path, 1 << 20, &data, &len, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(len, model->file_bytes);
	return (uint8_t *)data;
}

static struct manifest manifest_of(const char *id)
{
	struct manifest m;
	struct store *s;
	assert_int_equal(store_open(conf.state, &s, &err), 0);
	if (store_manifest(s, id, &m, &err) < 0)
		fail_msg("%s", err.text);
	store_free(s);
	return m;
}

static bool in_store(const char *id)
{
	char path[FILE_PATH_MAX];
	file_path(path, sizeof(path), "%s/checkpoints/%s/weights", conf.state, id);
	return file_exists(path);
}

/* Whether byte i of a weights file belongs to the row of a private output. */
static bool is_private(size_t i)
{
	for (size_t t = 0; t < model->n_tensors; t++) {
		const struct tensor *x = &model->tensors[t];
		size_t from = FIRST + 4 * x->offset, row = 4 * x->count / x->rows;
		if (x->layer == output_layer && i >= from + PUBLIC * row && i < from + 4 * x->count)
			return true;
	}
	return false;
}

/* `id` is b, to the bit, but for the private rows: those are of `rows`; NULL: zeros. */
static void assert_grafted_onto(const char *id, const uint8_t *b, const char *rows)
{
	uint8_t *is = weights_of(id), *r = rows ? weights_of(rows) : NULL;
	size_t n = 0, differ = 0;
	for (size_t i = 0; i < model->file_bytes; i++) {
		bool private = is_private(i);
		n += private;
		differ += private && is[i] != b[i];
		assert_int_equal(is[i], !private ? b[i] : r ? r[i] : 0);
	}
	assert_int_equal(n, 4 * private_floats);
	assert_true(differ > 0);
	free(is);
	free(r);
}

static void assert_grafted(const char *id, const char *base, const char *rows)
{
	uint8_t *b = weights_of(base);
	assert_grafted_onto(id, b, rows);
	free(b);
}

static void epoch(uint64_t seed, int64_t correct, char id[HASH_SIZE])
{
	trained(seed, id);
	evaluated(id, SPLIT_VALIDATION, correct);
}

static void until_private_offered(void)
{
	char first[HASH_SIZE];
	epoch(1, 10, first);
	epoch(2, 12, local);
	evaluated(local, SPLIT_TEST, 6);
	memcpy(offered, last_offer().manifest.id, HASH_SIZE);
}

/* Asks for all blocks, and gives the file together that comes of it. */
static uint8_t *pull(int64_t fence)
{
	uint8_t *file = calloc(1, model->file_bytes);
	struct msg_want w = {.trainer = "edge-1"};
	char prefix[TOPIC_SIZE];
	memcpy(w.checkpoint, offered, HASH_SIZE);
	w.n_blocks = (model->file_bytes + 1023) / 1024;
	for (uint32_t i = 0; i < w.n_blocks; i++)
		w.blocks[i] = i;
	forget_sent();
	say_text(DEVICE "in/want", msg_want_print(&w));
	int n = snprintf(prefix, sizeof(prefix), TRAINER "block/%s/", offered);
	size_t got = 0;
	for (size_t i = 0; i < n_sent; i++)
		if (strncmp(sent[i].topic, prefix, (size_t)n) == 0) {
			memcpy(file + 1024 * atoi(sent[i].topic + n), sent[i].payload, sent[i].len);
			got += sent[i].len;
		}
	if (got != model->file_bytes) {
		free(file);
		return NULL;
	}
	return file;
}

static void pulled_whole(void)
{
	uint8_t *file = pull(1), *is = weights_of(offered);
	assert_non_null(file);
	assert_memory_equal(file, is, model->file_bytes);
	free(file);
	free(is);
}

/* The result of what was offered comes in; what is judged in its place. */
static struct msg_result come_back(uint64_t seed, int64_t fence)
{
	char path[FILE_PATH_MAX];
	struct msg_result r = result_of(offered, seed, fence, path);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	send_blocks(&r.manifest, path, false);
	return r;
}

static void judged_id(char id[HASH_SIZE])
{
	char weights[FILE_PATH_MAX];
	for (size_t i = 0; i < n_asked; i++)
		if (strcmp(asked[i].op, "evaluate") == 0) {
			assert_int_equal(json_get_str(asked[i].args, "weights", weights,
						      sizeof(weights), NULL),
					 0);
			*strrchr(weights, '/') = 0;
			snprintf(id, HASH_SIZE, "%s", strrchr(weights, '/') + 1);
			return;
		}
	fail_msg("nothing is evaluated");
}

/* ---- ---- */

static void test_offered_without_rows(void **state)
{
	struct worker_conf w;
	agent_worker_conf(a, &w);
	assert_non_null(strstr(w.private_classes, "state/" PRIVATE_NAMES_FILE));
	until_private_offered();
	struct manifest m = last_offer().manifest;
	assert_string_not_equal(offered, local);
	assert_string_equal(m.source, local);
	assert_int_equal(m.n_parents, 1);
	assert_string_equal(m.parents[0], local);
	assert_int_equal(m.origin, ORIGIN_LOCAL);
	assert_int_equal(m.epoch, 2);
	/* A score belongs to an id, and this one has none. */
	assert_null(strstr(last(DEVICE "offer")->payload, "\"validation\""));
	assert_null(strstr(last(DEVICE "offer")->payload, "\"test\""));
	assert_grafted(offered, local, NULL);
	assert_active(local);
	claim(0, local); /* what nobody offered */
	assert_said(TRAINER "grant", "\"granted\":false");
	claim(0, offered);
	assert_said(TRAINER "grant", "\"granted\":true,\"fence\":1");
	pulled_whole();
	for (size_t i = 0; i < n_sent; i++)
		assert_null(memmem(sent[i].payload, sent[i].len, "cellar", 6));
}

/* What is offered to everyone has no private rows: it gets this device's. */
static void test_fleet_gets_rows(void **state)
{
	char path[FILE_PATH_MAX], judged[HASH_SIZE], own[HASH_SIZE];
	struct msg_fleet f = {.share = 100, .starts_in_ms = -1};
	epoch(1, 10, own);
	f.manifest = result_of(own, 77, 1, path).manifest;
	f.manifest.sequence = 9;
	f.manifest.n_parents = 0;
	f.manifest.origin = ORIGIN_FLEET;
	say_text("tasuki/v1/home/fleet/offer", msg_fleet_print(&f));
	now += 10000;
	agent_tick(a);
	send_blocks(&f.manifest, path, false);
	judged_id(judged);
	uint8_t *sent_out = util_weights(model, 77, 4000);
	assert_grafted_onto(judged, sent_out, own);
	free(sent_out);
	assert_int_equal(manifest_of(judged).origin, ORIGIN_FLEET);
	evaluated(judged, SPLIT_VALIDATION, 15);
	assert_active(judged);
	assert_said(DEVICE "report", "\"origin\":\"fleet\"");
	assert_said(DEVICE "report", f.manifest.id);
}

static void test_rows_are_put_back(void **state)
{
	char third[HASH_SIZE], judged[HASH_SIZE];
	until_private_offered();
	claim(0, offered);
	epoch(3, 11,
	      third); /* local training has gone on: the rows are those of what was offered */
	struct msg_result r = come_back(77, 1);
	judged_id(judged);
	evaluated(third, SPLIT_TEST, 5);
	judged_id(judged);
	assert_grafted(judged, r.manifest.id, local);
	evaluated(judged, SPLIT_TEST, 8);
	evaluated(judged, SPLIT_VALIDATION, 15);
	assert_active(judged);
	struct manifest m = manifest_of(judged);
	assert_int_equal(m.origin, ORIGIN_EDGE);
	assert_int_equal(m.n_parents, 2);
	assert_string_equal(m.parents[0], r.manifest.id);
	assert_string_equal(m.parents[1], local);
	assert_string_equal(m.trainer, "edge-1");
	assert_false(m.stays);
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
	assert_said(TRAINER "ack", r.manifest.id);
	assert_said(TRAINER "ack", "\"validation\":{\"n\":20,\"correct\":15"); /* as it is here */
	assert_said(TRAINER "ack", "\"local_validation\":{\"n\":20,\"correct\":11");
	assert_said(DEVICE "report", judged);
	/* The result itself, the copy and what it was made of are of no use any more. */
	epoch(4, 3, third);
	evaluated(third, SPLIT_TEST, 3);
	assert_false(in_store(r.manifest.id));
	assert_true(in_store(judged));
	assert_true(in_store(last_offer().manifest.id));
	claim(0, last_offer().manifest.id);
	assert_false(in_store(offered));
}

static void test_restarts(void **state)
{
	char judged[HASH_SIZE], again[HASH_SIZE], path[FILE_PATH_MAX];
	until_private_offered();
	restart();
	assert_string_equal(last_offer().manifest.id, offered);
	claim(0, offered);
	restart();
	claim(1, offered);
	pulled_whole();
	struct msg_result r = come_back(77, 1);
	judged_id(judged);
	restart(); /* what was made of the result was not named anywhere */
	judged_id(again);
	assert_string_equal(again, judged);
	evaluated(judged, SPLIT_TEST, 8);
	/* Even gone it is made again. */
	file_path(path, sizeof(path), "%s/checkpoints/%s", conf.state, judged);
	file_remove(path, NULL);
	restart();
	judged_id(again);
	assert_string_equal(again, judged);
	assert_grafted(judged, r.manifest.id, local);
	evaluated(judged, SPLIT_VALIDATION, 15);
	assert_active(judged);
}

/* Bias, scale, mean, variance and four weights of the one spare output. */
static void test_convolutional(void **state)
{
	assert_int_equal(output_layer, 1);
	assert_int_equal(private_floats, 4 + 4);
	test_rows_are_put_back(state);
}

/* A copy that is damaged or gone is made anew. */
static void test_damaged_copy(void **state)
{
	char path[FILE_PATH_MAX];
	until_private_offered();
	file_path(path, sizeof(path), "%s/checkpoints/%s/weights", conf.state, offered);
	uint8_t *data = weights_of(offered);
	data[700] ^= 1;
	util_write(path, data, model->file_bytes);
	free(data);
	claim(0, offered);
	assert_null(pull(1)); /* found before the first block went */
	assert_said(DEVICE "offer", offered);
	assert_grafted(offered, local, NULL);
	claim(0, offered);
	assert_said(TRAINER "grant", "\"granted\":true,\"fence\":2");
	pulled_whole();
	/* Gone at a start. */
	file_path(path, sizeof(path), "%s/checkpoints/%s", conf.state, offered);
	file_remove(path, NULL);
	restart();
	assert_said(DEVICE "offer", offered);
	claim(0, offered);
	pulled_whole();
}

static void test_newer_takes_its_place(void **state)
{
	char first[HASH_SIZE], newer[HASH_SIZE];
	until_private_offered();
	memcpy(first, offered, HASH_SIZE);
	epoch(3, 1, newer);
	now += 5000;
	agent_tick(a);
	epoch(4, 1, newer);
	evaluated(newer, SPLIT_TEST, 1);
	now += 5000;
	agent_tick(a);
	struct manifest m = last_offer().manifest;
	assert_string_not_equal(m.id, first);
	assert_string_equal(m.source, newer);
	agent_tick(a);
	assert_false(in_store(first));
	assert_true(in_store(local)); /* it is active */
}

/* The rows of what was offered are damaged: the newest own ones will do. */
static void test_rows_are_damaged(void **state)
{
	char better[HASH_SIZE], newest[HASH_SIZE], judged[HASH_SIZE], path[FILE_PATH_MAX];
	until_private_offered();
	claim(0, offered);
	epoch(3, 13, better);
	epoch(4, 14, newest);
	file_path(path, sizeof(path), "%s/checkpoints/%s/weights", conf.state, local);
	assert_true(in_store(local)); /* kept for its rows */
	util_write(path, "x", 1);
	struct msg_result r = come_back(77, 1);
	for (int i = 0; i < 20 && !is_asked("evaluate"); i++) {
		now = wake > now ? wake : now + 1;
		agent_tick(a);
	}
	evaluated(newest, SPLIT_TEST, 6);
	judged_id(judged);
	assert_grafted(judged, r.manifest.id, newest);
	assert_false(in_store(local));
}

static void test_sent_whole(void **state)
{
	char judged[HASH_SIZE];
	conf.private_rows = PRIVATE_ROWS_SEND;
	restart();
	until_private_offered();
	assert_string_equal(offered, local);
	assert_said(DEVICE "offer", "\"validation\":{\"n\":20,\"correct\":12");
	claim(0, offered);
	pulled_whole();
	struct msg_result r = come_back(77, 1);
	judged_id(judged);
	assert_string_equal(judged, r.manifest.id);
}

/* What went out before the configuration said otherwise. */
static void test_changed_meanwhile(void **state)
{
	char judged[HASH_SIZE];
	conf.private_rows = PRIVATE_ROWS_SEND;
	restart();
	until_private_offered();
	conf.private_rows = PRIVATE_ROWS_KEEP;
	restart();
	assert_string_not_equal(last_offer().manifest.id, local);
	memcpy(offered, last_offer().manifest.id, HASH_SIZE);
	assert_grafted(offered, local, NULL);
	claim(0, local);
	assert_said(TRAINER "grant", "\"granted\":false");
	claim(0, offered);
	conf.private_rows = PRIVATE_ROWS_SEND;
	restart();
	struct msg_result r = come_back(77, 1);
	judged_id(judged);
	assert_grafted(judged, r.manifest.id, local);
}

/* Granted whole, and then kept: no block of it goes any more. */
static void test_kept_in_mid_handover(void **state)
{
	conf.private_rows = PRIVATE_ROWS_SEND;
	restart();
	until_private_offered();
	claim(0, offered);
	conf.private_rows = PRIVATE_ROWS_KEEP;
	restart();
	assert_string_not_equal(last_offer().manifest.id, local); /* something else */
	assert_null(pull(1));
}

/* A state file that says otherwise: no block of what has private rows goes out. */
static void test_written_into_the_state(void **state)
{
	until_private_offered();
	claim(0, offered);
	struct state *next = agent_draft(a);
	memcpy(next->handover.checkpoint, local, HASH_SIZE);
	memcpy(next->handover.granted, local, HASH_SIZE);
	assert_int_equal(agent_commit(a), 0);
	memcpy(offered, local, HASH_SIZE);
	assert_null(pull(1));
	assert_int_not_equal(a->state->handover.phase, HANDOVER_GRANTED);
	assert_string_not_equal(last_offer().manifest.id, local);
	memcpy(offered, last_offer().manifest.id, HASH_SIZE);
	claim(0, offered);
	pulled_whole();
}

/* Whether it has private rows cannot be looked at: nothing goes out until it can. */
static void test_cannot_be_looked_through(void **state)
{
	until_private_offered();
	claim(0, offered);
	disk_is_full = true;
	assert_null(pull(1));
	disk_is_full = false;
	pulled_whole();
}

/* A device that no longer lists the names keeps their rows all the same. */
static void test_no_longer_listed(void **state)
{
	conf.private_classes[0] = 0;
	restart();
	until_private_offered();
	assert_grafted(offered, local, NULL);
	/* Without the list there is no knowing. */
	char path[FILE_PATH_MAX];
	file_path(path, sizeof(path), "%s/" PRIVATE_NAMES_FILE, conf.state);
	file_remove(path, NULL);
	agent_free(a);
	a = NULL;
	assert_int_equal(begin(), -EINVAL);
	assert_non_null(strstr(err.text, PRIVATE_NAMES_FILE));
}

/* Whatever is in the way of the copy: it is tried again. */
static void test_copy_cannot_be_made(void **state)
{
	char first[HASH_SIZE], path[FILE_PATH_MAX];
	epoch(1, 10, first);
	epoch(2, 12, local);
	file_path(path, sizeof(path), "%s/.store-tmp/stripped.weights.tmp", conf.state);
	assert_int_equal(file_mkdirs(path, NULL), 0);
	evaluated(local, SPLIT_TEST, 6);
	assert_null(last(DEVICE "offer"));
	now += 1000;
	agent_tick(a);
	assert_said(DEVICE "status", "\"reason\":\"private rows cannot be taken out: ");
	file_remove(path, NULL);
	for (int i = 0; i < 20 && !last(DEVICE "offer"); i++) {
		now = wake > now ? wake : now + 1;
		agent_tick(a);
	}
	memcpy(offered, last_offer().manifest.id, HASH_SIZE);
	assert_grafted(offered, local, NULL);
}

/* The result of what was offered, of which only rows that are not the trainer's have changed. */
static void come_back_as_it_was(void)
{
	char path[FILE_PATH_MAX];
	struct msg_result r = result_of(offered, 77, 1, path);
	uint8_t *file = weights_of(offered);
	for (size_t i = 0; i < model->file_bytes; i++)
		file[i] = is_private(i) ? 0 : file[i];
	size_t at = model->file_bytes;
	while (!is_private(--at))
		;
	file[at] = 0x3f;
	util_write(path, file, model->file_bytes);
	free(file);
	assert_int_equal(hash_file(path, r.manifest.id, NULL), 0);
	bring_result(&r, path);
}

/* What is judged is the local one, and a blend of the two has one parent. */
static void test_comes_back_as_it_was(void **state)
{
	char path[FILE_PATH_MAX], id[HASH_SIZE];
	conf.select = (struct select_conf){.blends = {50}, .n_blends = 1};
	restart();
	until_private_offered();
	claim(0, offered);
	come_back_as_it_was();
	struct asked q = take("blend");
	assert_int_equal(json_get_str(q.args, "out", path, sizeof(path), NULL), 0);
	util_write_weights(model, path, 50, 90);
	assert_int_equal(hash_file(path, id, NULL), 0);
	struct json *done = json_new_obj();
	agent_worker_reply(a, q.id, done, NULL);
	json_free(done);
	json_free(q.args);
	struct manifest m = manifest_of(id);
	assert_int_equal(m.n_parents, 1);
	assert_string_equal(m.parents[0], local);
}

/* The local one and the returned one are the same, and cannot be scored on other images. */
static void test_as_it_was_cannot_be_scored(void **state)
{
	char first[HASH_SIZE];
	conf.select = (struct select_conf){0};
	restart();
	epoch(1, 12, first);
	epoch(2, 10, local);
	evaluated(local, SPLIT_TEST, 6);
	memcpy(offered, last_offer().manifest.id, HASH_SIZE);
	claim(0, offered);
	memset(snapshot[SPLIT_TEST], 'd', HASH_HEX);
	agent_worker_died(a, failure(-ECONNRESET, ERR_WORKER, "killed"));
	forget_asked();
	data_read();
	come_back_as_it_was();
	for (int i = 0; i < 40 && !last(TRAINER "ack"); i++) {
		now += 60000;
		agent_tick(a);
		if (!is_asked("evaluate"))
			continue;
		struct asked q = take("evaluate");
		json_free(q.args);
		agent_worker_reply(a, q.id, NULL, failure(-EIO, ERR_OTHER, "no luck"));
	}
	assert_said(TRAINER "ack", "\"decision\":\"refused\"");
	assert_active(first);
}

/* No place for what is made of the result: it is not lost, as long as there is time. */
static void test_disk_is_full(void **state)
{
	char judged[HASH_SIZE];
	conf.select.budget_s = 3600;
	restart();
	until_private_offered();
	claim(0, offered);
	disk_is_full = true;
	struct msg_result r = come_back(77, 1);
	for (int i = 0; i < 20; i++) {
		now += 60000;
		agent_tick(a);
	}
	assert_null(last(TRAINER "ack"));
	assert_false(is_asked("evaluate"));
	disk_is_full = false;
	now += 60000;
	agent_tick(a);
	judged_id(judged);
	assert_grafted(judged, r.manifest.id, local);
	evaluated(judged, SPLIT_TEST, 8);
	evaluated(judged, SPLIT_VALIDATION, 15);
	assert_active(judged);
}

/* It never gets any: it is decided without. */
static void test_disk_stays_full(void **state)
{
	conf.select.budget_s = 3600;
	restart();
	until_private_offered();
	claim(0, offered);
	disk_is_full = true;
	come_back(77, 1);
	for (int i = 0; i < 65; i++) {
		now += 60000;
		agent_tick(a);
	}
	disk_is_full = false;
	assert_said(TRAINER "ack", "\"decision\":\"kept\"");
	assert_active(local);
}

/* What the device alone knows is protected, without being named anywhere. */
static void test_is_protected(void **state)
{
	char first[HASH_SIZE], next[HASH_SIZE];
	conf.select.protect_points = 10;
	with_confidence();
	conf.select.confidence = 0.9;
	again();
	trained(1, first);
	evaluated_two(first, 0, 8);
	trained(2, next);
	evaluated_two(next, 10, 5); /* whatever the gain */
	assert_active(first);
	assert_said(DEVICE "report", "\"why\":\"floor\"");
	trained(3, next);
	evaluated_two(next, 10, 6); /* two images less: that may be chance */
	assert_active(next);
}

/* A worker that counts more images than there are. */
static void test_bad_counts(void **state)
{
	char first[HASH_SIZE], next[HASH_SIZE], text[20 * 4 + 1] = "";
	with_confidence();
	trained(1, first);
	evaluated_two(first, 0, 8);
	trained(2, next);
	struct asked q = take("evaluate");
	struct json *r = json_new_obj(), *classes = json_new_arr();
	for (int i = 0; i < DATASET_CLASSES_MAX; i++) {
		struct json *one = json_new_obj();
		json_set_int(one, "class", PUBLIC);
		json_set_int(one, "n", JSON_INT_MAX);
		json_set_int(one, "correct", JSON_INT_MAX);
		json_push(classes, one);
	}
	for (int i = 0; i < 20; i++)
		strcat(text, "8000");
	json_set(r, "per_class", classes);
	json_set_str(r, "checkpoint", next);
	json_set_str(r, "snapshot", snapshot[SPLIT_VALIDATION]);
	json_set_int(r, "n", 20);
	json_set_int(r, "correct", 20);
	json_set_num(r, "loss", 1);
	json_set_str(r, "outcomes", text);
	agent_worker_reply(a, q.id, r, NULL);
	json_free(r);
	json_free(q.args);
	assert_active(first);
}

#define C(f) cmocka_unit_test_setup_teardown(f, convolutional_setup, teardown)
#define P(f) cmocka_unit_test_setup_teardown(f, private_setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		P(test_offered_without_rows),
		C(test_convolutional),
		P(test_fleet_gets_rows),
		P(test_rows_are_put_back),
		P(test_restarts),
		P(test_damaged_copy),
		P(test_newer_takes_its_place),
		P(test_rows_are_damaged),
		P(test_sent_whole),
		P(test_changed_meanwhile),
		P(test_kept_in_mid_handover),
		P(test_written_into_the_state),
		P(test_cannot_be_looked_through),
		P(test_no_longer_listed),
		P(test_copy_cannot_be_made),
		P(test_comes_back_as_it_was),
		P(test_as_it_was_cannot_be_scored),
		P(test_disk_is_full),
		P(test_disk_stays_full),
		P(test_is_protected),
		P(test_bad_counts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

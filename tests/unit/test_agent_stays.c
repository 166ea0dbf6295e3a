/* share = never: nothing that descends from what such a folder has trained is offered, whatever
 * becomes of the lineage. */
#include "agent_rig.h"

#include "device-agent/agent_impl.h"

/* A crash of the machine is not what is tested here, and thousands of files are written. */
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	return 0;
}

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	return 0;
}

/* ---- what is known of each checkpoint, by other means than manifests ---- */

#define NODES_MAX 2000

static struct {
	char id[HASH_SIZE];
	bool seen; /* it, or something that it descends from, has seen the folder */
} nodes[NODES_MAX];
static size_t n_nodes;

static bool seen(const char *id)
{
	for (size_t i = 0; i < n_nodes; i++)
		if (strcmp(nodes[i].id, id) == 0)
			return nodes[i].seen;
	fail_msg("checkpoint %.12s came from nowhere", id);
	return true;
}

static void note(const char *id, bool is_seen)
{
	for (size_t i = 0; i < n_nodes; i++)
		if (strcmp(nodes[i].id, id) == 0)
			return; /* the same bytes */
	assert_true(n_nodes < NODES_MAX);
	memcpy(nodes[n_nodes].id, id, HASH_SIZE);
	nodes[n_nodes++].seen = is_seen;
}

static bool is_noted(const char *id)
{
	for (size_t i = 0; i < n_nodes; i++)
		if (strcmp(nodes[i].id, id) == 0)
			return true;
	return false;
}

/* What the agent has made by itself: copies without private rows, results with them. */
static void note_derived(void)
{
	char(*ids)[HASH_SIZE];
	size_t n;
	assert_int_equal(store_list(a->store, &ids, &n, &err), 0);
	for (size_t i = 0; i < n; i++) {
		struct manifest m;
		bool is_seen = false;
		if (is_noted(ids[i]))
			continue;
		assert_int_equal(store_manifest(a->store, ids[i], &m, &err), 0);
		assert_true(*m.source || m.n_parents == 2);
		for (size_t k = 0; k < m.n_parents; k++)
			is_seen |= seen(m.parents[k]);
		note(ids[i], is_seen);
	}
	free(ids);
}

static size_t n_offers, n_blocks;

/* All that was sent since the last time. */
static void check_sent(void)
{
	note_derived();
	for (size_t i = 0; i < n_sent; i++) {
		struct topic t;
		struct msg_offer m;
		assert_null(strstr(sent[i].payload, "\"stays\""));
		assert_int_equal(topic_parse(sent[i].topic, "home", &t), 0);
		if (t.kind == TOPIC_DEVICE_OFFER) {
			n_offers++;
			assert_int_equal(msg_offer_parse(sent[i].payload, sent[i].len, &m, &err),
					 0);
			if (seen(m.manifest.id))
				fail_msg("%.12s is offered", m.manifest.id);
		}
		if (t.kind == TOPIC_TRAINER_BLOCK) {
			n_blocks++;
			if (seen(t.checkpoint))
				fail_msg("a block of %.12s was sent", t.checkpoint);
		}
	}
	forget_sent();
}

/* ---- one thing that happens ---- */

static struct rng rng;

static size_t n_stayed;

/* A training or a blend: of what is asked for, not of what manifests say of it. */
static void answer_making(const char *op)
{
	static const char *const inputs[] = {"weights", "a", "b"};
	struct asked q = take(op);
	char out[FILE_PATH_MAX], path[FILE_PATH_MAX], id[HASH_SIZE];
	bool stay = false, is_seen = conf.share_never;
	for (size_t i = 0; i < ARRAY_LEN(inputs); i++) {
		if (!json_has(q.args, inputs[i]))
			continue;
		json_get_str(q.args, inputs[i], path, sizeof(path), NULL);
		*strrchr(path, '/') = 0;
		is_seen |= seen(strrchr(path, '/') + 1);
	}
	if (json_has(q.args, "stay"))
		json_get_bool(q.args, "stay", &stay, NULL);
	assert_false(stay && json_has(q.args, "momentum")); /* that is the lineage's */
	n_stayed += stay;
	assert_int_equal(json_get_str(q.args, "out", out, sizeof(out), NULL), 0);
	util_write_weights(model, out, rng_u64(&rng), rng_below(&rng, 1000));
	assert_int_equal(hash_file(out, id, NULL), 0);
	note(id, is_seen || stay);
	struct json *r = json_new_obj();
	json_set_num(r, "loss", 1);
	agent_worker_reply(a, q.id, r, NULL);
	json_free(r);
	json_free(q.args);
}

static void answer_evaluation(void)
{
	char weights[FILE_PATH_MAX], name[16], *id;
	enum split split;
	for (size_t i = 0; i < n_asked; i++) {
		if (strcmp(asked[i].op, "evaluate") != 0)
			continue;
		json_get_str(asked[i].args, "weights", weights, sizeof(weights), NULL);
		json_get_str(asked[i].args, "split", name, sizeof(name), NULL);
		*strrchr(weights, '/') = 0;
		id = strrchr(weights, '/') + 1;
		assert_int_equal(split_parse(name, &split), 0);
		evaluated(id, split, rng_below(&rng, 11));
		return;
	}
}

static bool any_checkpoint(char id[HASH_SIZE])
{
	char(*ids)[HASH_SIZE];
	size_t n;
	assert_int_equal(store_list(a->store, &ids, &n, &err), 0);
	if (n)
		memcpy(id, ids[rng_below(&rng, (uint32_t)n)], HASH_SIZE);
	free(ids);
	return n > 0;
}

/* A candidate as judging makes them: of up to three others, some with images that stay. */
static void make_candidate(void)
{
	struct manifest m = {.origin = ORIGIN_TUNED, .epoch = 1};
	char path[FILE_PATH_MAX];
	bool stay = rng_below(&rng, 3) == 0, is_seen = stay || conf.share_never;
	m.n_parents = 1 + rng_below(&rng, 3);
	for (size_t i = 0; i < m.n_parents; i++) {
		if (!any_checkpoint(m.parents[i]))
			return;
		is_seen |= seen(m.parents[i]);
		for (size_t k = 0; k < i; k++)
			if (strcmp(m.parents[i], m.parents[k]) == 0)
				m.n_parents = i;
	}
	assert_int_equal(store_tmp(a->store, "candidate", path, &err), 0);
	util_write_weights(model, path, rng_u64(&rng), 1);
	assert_int_equal(hash_file(path, m.id, NULL), 0);
	m.stays = stay;
	if (lineage_manifest(a, &m, &err) < 0 || store_add(a->store, path, &m, &err) < 0)
		fail_msg("%s", err.text);
	note(m.id, is_seen);
	assert_int_equal(lineage_stays(a, m.id), is_seen || conf.share_never);
	/* It is adopted or activated, rightly or not. */
	struct state *next = agent_draft(a);
	if (rng_below(&rng, 2))
		memcpy(next->local, m.id, HASH_SIZE);
	if (rng_below(&rng, 2))
		memcpy(next->pending.activate, m.id, HASH_SIZE);
	assert_int_equal(agent_commit(a), 0);
}

static void adopt_any(void)
{
	char id[HASH_SIZE];
	struct state *next = agent_draft(a);
	if (!any_checkpoint(id))
		return;
	memcpy(rng_below(&rng, 2) ? next->local : next->pending.activate, id, HASH_SIZE);
	assert_int_equal(agent_commit(a), 0);
}

/* As whoever reaches the broker may. */
static void ask_for_any(void)
{
	char id[HASH_SIZE];
	struct msg_want w = {.trainer = "edge-1", .blocks = {0, 1}, .n_blocks = 2};
	if (!any_checkpoint(id))
		return;
	if (*a->state->handover.checkpoint && rng_below(&rng, 2))
		memcpy(id, a->state->handover.checkpoint, HASH_SIZE);
	claim(0, id);
	memcpy(w.checkpoint, id, HASH_SIZE);
	say_text(DEVICE "in/want", msg_want_print(&w));
}

static void come_back(void)
{
	const struct handover *h = &a->state->handover;
	char path[FILE_PATH_MAX];
	if (h->phase != HANDOVER_GRANTED)
		return;
	struct msg_result r = result_of(h->granted, rng_u64(&rng), h->fence, path);
	note(r.manifest.id, seen(h->granted));
	check_sent();
	say_text(DEVICE "in/offer", msg_result_print(&r));
	if (last(TRAINER "want"))
		send_blocks(&r.manifest, path, false);
}

static void order(void)
{
	char text[128];
	snprintf(text, sizeof(text), "{\"cmd\":\"handover\",\"id\":\"h%u\"}",
		 rng_below(&rng, 1u << 30));
	say(DEVICE "in/cmd", text, strlen(text));
}

/* The active one, or the local one, is lost or damaged: something else takes its place. */
static void lose_one(void)
{
	char path[FILE_PATH_MAX];
	const char *id = rng_below(&rng, 2) ? a->active : a->state->local;
	if (!*id)
		return;
	file_path(path, sizeof(path), "%s/checkpoints/%s", conf.state, id);
	file_remove(path, NULL);
	restart();
}

static void happen(bool may_mark)
{
	static const char *const makings[] = {"blend"};
	switch (rng_below(&rng, 40)) {
	case 0:
	case 1:
		make_candidate();
		break;
	case 2:
		adopt_any();
		break;
	case 3:
	case 4:
		ask_for_any();
		break;
	case 5:
		come_back();
		break;
	case 6:
		order();
		break;
	case 7:
		if (rng_below(&rng, 4) == 0)
			lose_one();
		break;
	case 8:
		if (may_mark)
			conf.share_never = rng_below(&rng, 2);
		restart();
		break;
	case 9:
		now += 70000;
		agent_tick(a);
		break;
	default:
		for (size_t k = 0; k < ARRAY_LEN(makings); k++)
			if (is_asked(makings[k])) {
				answer_making(makings[k]);
				return;
			}
		if (is_asked("evaluate"))
			answer_evaluation();
		else if (is_asked("train"))
			answer_making("train");
	}
}

static void random_lineages(uint64_t seed, bool private, bool may_mark)
{
	rng_init(&rng, seed);
	n_nodes = 0;
	file_remove(conf.state, NULL);
	conf.share_never = false;
	conf.private_classes[0] = 0;
	if (private) {
		file_path(conf.private_classes, sizeof(conf.private_classes), "%s/mine.txt", dir);
		util_write(conf.private_classes, "cellar\n", 7);
	}
	restart();
	for (int i = 0; i < 300; i++) {
		happen(may_mark);
		check_sent();
	}
}

static void stays_setup_model(void)
{
	agent_free(a);
	a = NULL;
	model_free(model);
	model = util_model(SMALL_CFG, 4);
	file_path(conf.worker.classes, sizeof(conf.worker.classes), "%s/classes.txt", dir);
	util_write(conf.worker.classes, "zero\none\ntwo\nthree\n", 19);
	file_remove(conf.state, NULL);
	conf.live.every_epochs = 1;
	conf.select = (struct select_conf){.lineage = LINEAGE_ADOPT,
					   .blends = {50},
					   .n_blends = 1,
					   .tune_steps = 5,
					   .tune_rate_percent = 20};
	n_stay = 7;
}

static void test_random_lineages(void **state)
{
	stays_setup_model();
	n_offers = n_blocks = n_stayed = 0;
	for (uint64_t seed = 1; seed <= 6; seed++)
		random_lineages(seed, seed % 2, seed % 3 == 0);
	print_message("%zu offers, %zu blocks of what may leave; tuned on what stays: %zu\n",
		      n_offers, n_blocks, n_stayed);
	/* Else it proves nothing. */
	assert_true(n_offers > 30);
	assert_true(n_blocks > 10);
	assert_true(n_stayed > 3);
}

/* ---- one by one ---- */

static void epoch(uint64_t seed, int64_t correct, char id[HASH_SIZE])
{
	trained(seed, id);
	evaluated(id, SPLIT_VALIDATION, correct);
}

static void assert_stays(const char *id, bool stays)
{
	struct manifest m;
	char path[FILE_PATH_MAX], *text;
	size_t len;
	assert_int_equal(store_manifest(a->store, id, &m, &err), 0);
	assert_int_equal(m.stays, stays);
	file_path(path, sizeof(path), "%s/checkpoints/%s/manifest.json", conf.state, id);
	assert_int_equal(file_read(path, 65536, &text, &len, &err), 0);
	assert_int_equal(strstr(text, "\"stays\"") != NULL, stays);
	free(text);
}

static void test_marked_folder(void **state)
{
	static const char text[] = "{\"cmd\":\"handover\",\"id\":\"h1\"}";
	static const char again[] = "{\"cmd\":\"handover\",\"id\":\"h2\"}";
	char id[HASH_SIZE];
	conf.share_never = true;
	restart();
	for (uint64_t i = 1; i < 6; i++) {
		epoch(i, 10, id);
		assert_stays(id, true);
	}
	say(DEVICE "in/cmd", text, strlen(text));
	assert_said("tasuki/v1/home/reply/cam-1", "share = never");
	assert_false(is_asked("evaluate")); /* nor is it made ready to be offered */
	assert_null(last(DEVICE "offer"));
	/* The mark is taken away: what descends from it stays all the same. */
	conf.share_never = false;
	restart();
	for (uint64_t i = 6; i < 10; i++) {
		trained(i, id);
		assert_stays(id, true);
		while (is_asked("evaluate"))
			answer_evaluation();
	}
	say(DEVICE "in/cmd", again, strlen(again));
	assert_said("tasuki/v1/home/reply/cam-1", "share = never");
	assert_null(last(DEVICE "offer"));
}

/* Marked while a handover is under way. */
static void test_marked_meanwhile(void **state)
{
	char offered[HASH_SIZE];
	until_offered(offered);
	assert_stays(offered, false);
	claim(0, offered);
	conf.share_never = true;
	restart();
	struct msg_want w = {.trainer = "edge-1", .blocks = {0, 1}, .n_blocks = 2};
	memcpy(w.checkpoint, offered, HASH_SIZE);
	say_text(DEVICE "in/want", msg_want_print(&w));
	char topic[TOPIC_SIZE];
	snprintf(topic, sizeof(topic), TRAINER "block/%s/0", offered);
	assert_null(last(topic));
	claim(1, offered);
	assert_said(TRAINER "grant", "\"granted\":false");
	now += 100000;
	agent_tick(a);
	assert_null(last(DEVICE "offer"));
}

/* A state file that says otherwise: neither the offer nor a block goes out. */
static void test_written_into_the_state(void **state)
{
	char id[HASH_SIZE], topic[TOPIC_SIZE];
	conf.share_never = true;
	restart();
	epoch(1, 10, id);
	conf.share_never = false;
	restart();
	struct state *next = agent_draft(a);
	next->handover.phase = HANDOVER_OFFERING;
	memcpy(next->handover.checkpoint, id, HASH_SIZE);
	assert_int_equal(agent_commit(a), 0);
	now += 100000;
	agent_tick(a);
	assert_null(last(DEVICE "offer"));
	/* Somebody knows its id. */
	claim(0, id);
	struct msg_want w = {.trainer = "edge-1", .blocks = {0, 1}, .n_blocks = 2};
	memcpy(w.checkpoint, id, HASH_SIZE);
	say_text(DEVICE "in/want", msg_want_print(&w));
	snprintf(topic, sizeof(topic), TRAINER "block/%s/0", id);
	assert_null(last(topic));
	a->checked_fence = a->state->handover.fence; /* as if it had been looked through */
	say_text(DEVICE "in/want", msg_want_print(&w));
	assert_null(last(topic));
}

/* Others cannot mark anything. */
static void test_mark_from_outside(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	struct msg_result r = result_of(offered, 77, 1, path);
	_cleanup_free_ char *text = msg_result_print(&r), *marked = NULL, *critical = NULL;
	assert_true(asprintf(&critical, "{\"stays\":true,\"critical\":[\"stays\"],%s", text + 1) >
		    0);
	say(DEVICE "in/offer", critical, strlen(critical));
	assert_null(last(TRAINER "want"));
	assert_true(asprintf(&marked, "{\"stays\":true,%s", text + 1) > 0);
	say(DEVICE "in/offer", marked, strlen(marked));
	send_blocks(&r.manifest, path, false);
	evaluated(r.manifest.id, SPLIT_TEST, 8);
	evaluated(r.manifest.id, SPLIT_VALIDATION, 15);
	assert_active(r.manifest.id);
	assert_stays(r.manifest.id, false);
}

/* The local lineage does not go on from what stays when its newest checkpoint is lost. */
/* A tuned candidate that has seen the folder wins: the lineage goes on from what it was made of. */
static void test_not_adopted(void **state)
{
	char offered[HASH_SIZE], third[HASH_SIZE], tuned[HASH_SIZE], path[FILE_PATH_MAX];
	struct manifest m;
	bool stay;
	conf.select.lineage = LINEAGE_ADOPT;
	conf.select.tune_steps = 5;
	conf.select.tune_rate_percent = 20;
	n_stay = 7;
	restart();
	until_offered(offered);
	assert_false(json_has(asked[0].args, "stay")); /* an epoch does not visit it */
	claim(0, offered);
	struct msg_result r = result_of(offered, 77, 1, path);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	send_blocks(&r.manifest, path, false);
	evaluated(r.manifest.id, SPLIT_TEST, 8);
	evaluated(r.manifest.id, SPLIT_VALIDATION, 13);
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 11);
	struct asked q = take("train");
	assert_int_equal(json_get_bool(q.args, "stay", &stay, NULL), 0);
	assert_true(stay);
	assert_false(json_has(q.args, "momentum"));
	asked[n_asked++] = q;
	trained(50, tuned);
	assert_stays(tuned, true);
	evaluated(tuned, SPLIT_VALIDATION, 18);
	assert_active(tuned);
	assert_string_equal(a->state->local, r.manifest.id);
	assert_stays(r.manifest.id, false);
	/* What is trained from there may be offered again. */
	trained(4, third);
	assert_int_equal(store_manifest(a->store, third, &m, &err), 0);
	assert_string_equal(m.parents[0], r.manifest.id);
	assert_false(m.stays);
}

/* The trainer names what has to stay as its own result: nothing goes on from that either. */
static void test_named_as_result(void **state)
{
	char offered[HASH_SIZE], next[HASH_SIZE], tuned[HASH_SIZE], again[HASH_SIZE];
	test_not_adopted(state);
	memcpy(tuned, a->active, HASH_SIZE);
	memcpy(offered, a->state->local, HASH_SIZE);
	evaluated(offered, SPLIT_VALIDATION, 12);
	evaluated(offered, SPLIT_TEST, 6);
	assert_said(DEVICE "offer", offered);
	claim(0, offered);
	char path[FILE_PATH_MAX];
	struct msg_result r = result_of(offered, 78, 2, path);
	memcpy(r.manifest.id, tuned, HASH_SIZE);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	evaluated(tuned, SPLIT_TEST, 8);
	trained(6, next);
	evaluated(next, SPLIT_VALIDATION, 12);
	trained(7, again);
	assert_stays(again, true);
	evaluated(again, SPLIT_VALIDATION, 20);
	assert_active(again);
	assert_false(lineage_stays(a, a->state->local));
}

static void test_lost_lineage(void **state)
{
	char first[HASH_SIZE], second[HASH_SIZE], path[FILE_PATH_MAX];
	struct manifest m = {.origin = ORIGIN_TUNED, .n_parents = 1, .stays = true};
	epoch(1, 10, first);
	assert_int_equal(store_tmp(a->store, "tuned", path, &err), 0);
	util_write_weights(model, path, 50, 1);
	assert_int_equal(hash_file(path, m.id, NULL), 0);
	memcpy(m.parents[0], first, HASH_SIZE);
	assert_int_equal(lineage_manifest(a, &m, &err), 0);
	assert_int_equal(store_add(a->store, path, &m, &err), 0);
	struct state *next = agent_draft(a);
	memcpy(next->pending.activate, m.id, HASH_SIZE);
	assert_int_equal(agent_commit(a), 0);
	assert_active(m.id);
	trained(2, second);
	file_path(path, sizeof(path), "%s/checkpoints/%s", conf.state, second);
	file_remove(path, NULL);
	restart();
	assert_active(m.id);
	assert_string_equal(a->state->local, first); /* the previous one */
	/* Nothing is left that may be shared: new weights. */
	file_path(path, sizeof(path), "%s/checkpoints/%s", conf.state, first);
	file_remove(path, NULL);
	restart();
	assert_active(m.id);
	assert_string_equal(a->state->local, "");
	struct asked q = take("train");
	assert_false(json_has(q.args, "weights"));
	json_free(q.args);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_marked_folder),     T(test_marked_meanwhile), T(test_written_into_the_state),
		T(test_mark_from_outside), T(test_not_adopted),      T(test_lost_lineage),
		T(test_named_as_result),   T(test_random_lineages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A checkpoint for everyone, on a device: whether it is taken, how it comes in, what becomes of it.
 */
#include "agent_rig.h"

#define FLEET "tasuki/v1/home/fleet/"

static void tell(const struct msg_fleet *f, bool retained)
{
	char *text = msg_fleet_print(f);
	struct mqtt_message m = {
		.topic = FLEET "offer", .payload = text, .len = strlen(text), .retained = retained};
	agent_message(a, &m);
	free(text);
}

static void block(const struct msg_fleet *f, const char *path, uint32_t i, bool to_all,
		  uint8_t flip)
{
	char topic[TOPIC_SIZE];
	uint8_t buf[1024];
	uint32_t len;
	assert_int_equal(
		part_read_block(path, (uint64_t)f->manifest.size, 1024, i, buf, &len, NULL), 0);
	buf[100] ^= flip;
	snprintf(topic, sizeof(topic), "%s/%s/%u", to_all ? FLEET "block" : DEVICE "in/block",
		 f->manifest.id, i);
	say(topic, buf, len);
}

static void later(int64_t ms)
{
	now += ms;
	agent_tick(a);
}

static void assert_subscribed(const char *id)
{
	char filter[TOPIC_SIZE] = "";
	if (*id)
		snprintf(filter, sizeof(filter), FLEET "block/%s/+", id);
	assert_string_equal(subscribed, filter);
}

static void local(int64_t correct, char id[HASH_SIZE])
{
	trained(1, id);
	evaluated(id, SPLIT_VALIDATION, correct);
	assert_active(id);
}

static void test_better_one_takes_over(void **state)
{
	char own[HASH_SIZE], path[FILE_PATH_MAX];
	local(10, own);
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	tell(&f, false);
	assert_subscribed(f.manifest.id);
	block(&f, path, 0, true, 0);
	block(&f, path, 1, true, 0);
	assert_subscribed("");
	assert_null(last(TRAINER "want"));
	assert_active(own);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 15);
	assert_active(f.manifest.id);
	assert_said(DEVICE "report", "\"origin\":\"fleet\"");
	assert_said(DEVICE "report", "\"decision\":\"activated\"");
	assert_said(DEVICE "report", own); /* against */
	/* What was on its way is no news, and the offer, repeated, is none. */
	block(&f, path, 1, true, 0);
	tell(&f, true);
	assert_subscribed("");
	restart();
	tell(&f, true);
	assert_subscribed("");
	assert_active(f.manifest.id);
}

static void test_worse_one_does_not(void **state)
{
	char own[HASH_SIZE], path[FILE_PATH_MAX];
	local(10, own);
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	tell(&f, false);
	block(&f, path, 1, true, 0);
	block(&f, path, 0, true, 0);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 9);
	assert_active(own);
	assert_said(DEVICE "report", "\"origin\":\"fleet\"");
	assert_said(DEVICE "report", "\"decision\":\"kept\"");
}

static void test_first_of_all(void **state)
{
	char path[FILE_PATH_MAX];
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	tell(&f, false);
	block(&f, path, 0, true, 0);
	block(&f, path, 1, true, 0);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(f.manifest.id);
}

/* What was missed is asked for when no more comes by itself, and not by all at once. */
static void test_missed(void **state)
{
	char path[FILE_PATH_MAX];
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	struct msg_want w;
	tell(&f, false);
	later(6000);
	block(&f, path, 1, true, 0);
	later(4900);
	assert_null(last(TRAINER "want"));
	assert_true(wake > now);
	later(10200);
	const struct sent *s = last(TRAINER "want");
	assert_non_null(s);
	assert_int_equal(msg_want_parse(s->payload, s->len, &w, &err), 0);
	assert_string_equal(w.checkpoint, f.manifest.id);
	assert_int_equal(w.n_blocks, 1);
	assert_int_equal(w.blocks[0], 0);
	forget_sent();
	later(XFER_STALL_MS - 100);
	assert_null(last(TRAINER "want"));
	later(200);
	assert_non_null(last(TRAINER "want"));
	block(&f, path, 0, false, 0);
	assert_subscribed("");
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(f.manifest.id);
}

/* Retained, and not announced to be sent: after a quiet time all of it is asked for. */
static void test_heard_late(void **state)
{
	char path[FILE_PATH_MAX];
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	f.spread_ms = 0;
	tell(&f, true);
	later(4900);
	assert_null(last(TRAINER "want"));
	later(200);
	send_blocks(&f.manifest, path, false);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(f.manifest.id);
}

static void test_killed_in_the_middle(void **state)
{
	char path[FILE_PATH_MAX], filter[MQTT_TOPIC_MAX];
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	bool retained;
	int qos;
	tell(&f, false);
	block(&f, path, 0, true, 0);
	restart();
	assert_int_equal(agent_filter(a, AGENT_FILTERS - 1, filter, &qos, &retained), 0);
	assert_non_null(strstr(filter, f.manifest.id));
	assert_int_equal(qos, 1);
	tell(&f, true);
	block(&f, path, 1, true, 0); /* the other one is here */
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(f.manifest.id);
	/* Again, once it is in the store and not yet decided. */
	struct msg_fleet g = fleet_offer_of(51, 10, path);
	tell(&g, false);
	block(&g, path, 0, true, 0);
	block(&g, path, 1, true, 0);
	restart();
	evaluated(g.manifest.id, SPLIT_VALIDATION, 5);
	assert_active(g.manifest.id);
}

/* A block that was forged, or torn, costs one more pull; then it is refused. */
static void test_damaged(void **state)
{
	char own[HASH_SIZE], path[FILE_PATH_MAX];
	local(1, own);
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	f.spread_ms = 0;
	tell(&f, false);
	block(&f, path, 0, true, 1);
	block(&f, path, 1, true, 0);
	later(2000); /* begins anew */
	later(10000);
	send_blocks(&f.manifest, path, false);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(f.manifest.id);
	struct msg_fleet g = fleet_offer_of(51, 10, path);
	g.spread_ms = 0;
	tell(&g, false);
	block(&g, path, 0, true, 1);
	block(&g, path, 1, true, 0);
	later(2000);
	later(10000);
	send_blocks(&g.manifest, path, true);
	assert_subscribed("");
	later(60000);
	forget_sent();
	later(60000);
	assert_null(last(TRAINER "want"));
	assert_active(f.manifest.id);
}

static void test_groups(void **state)
{
	char path[FILE_PATH_MAX];
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	f.share = fleet_place("cam-1", 9); /* this device is the next one */
	if (f.share > 0)
		tell(&f, false);
	assert_subscribed("");
	f.share++;
	tell(&f, false);
	assert_subscribed(f.manifest.id);
}

static void test_halted(void **state)
{
	char own[HASH_SIZE], path[FILE_PATH_MAX];
	local(1, own);
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	tell(&f, false);
	block(&f, path, 0, true, 0);
	f.halted = true;
	f.starts_in_ms = -1;
	tell(&f, false);
	assert_subscribed("");
	char part[FILE_PATH_MAX];
	file_path(part, sizeof(part), "%s/fleet/%s.part", conf.state, f.manifest.id);
	assert_false(file_exists(part));
	block(&f, path, 1, true, 0);
	later(60000);
	assert_null(last(TRAINER "want"));
	assert_active(own);
	/* One that nobody takes any more is not taken up either. */
	struct msg_fleet g = fleet_offer_of(51, 10, path);
	g.halted = true;
	tell(&g, true);
	assert_subscribed("");
}

/* A newer one takes its place, whatever of it has come. */
static void test_newer(void **state)
{
	char path[FILE_PATH_MAX], second[FILE_PATH_MAX];
	struct msg_fleet f = fleet_offer_of(50, 9, path), g = fleet_offer_of(51, 10, second);
	tell(&f, false);
	block(&f, path, 0, true, 0);
	tell(&g, false);
	assert_subscribed(g.manifest.id);
	block(&f, path, 1, true, 0);
	block(&g, second, 1, true, 0);
	block(&g, second, 0, true, 0);
	evaluated(g.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(g.manifest.id);
	tell(&f, true); /* what the broker had kept is older */
	assert_subscribed("");
}

static void test_refused(void **state)
{
	char path[FILE_PATH_MAX];
	struct msg_fleet f = fleet_offer_of(50, 9, path), g = f;
	memset(g.manifest.model, 'd', HASH_HEX);
	tell(&g, false);
	g = f;
	g.manifest.sequence = JSON_INT_MAX; /* the last one for ever */
	tell(&g, false);
	g = f;
	g.manifest.size = 1 << 30;
	tell(&g, false);
	g = f;
	g.manifest.size++;
	tell(&g, false);
	g = f;
	g.manifest.origin = ORIGIN_EDGE;
	tell(&g, false);
	assert_subscribed("");
	block(&f, path, 0, true, 0); /* of nothing that is waited for */
	say(FLEET "offer", "{}", 2);
	tell(&f, false);
	assert_subscribed(f.manifest.id);
	/* No such block, and not its length. */
	char topic[TOPIC_SIZE];
	snprintf(topic, sizeof(topic), FLEET "block/%s/7", f.manifest.id);
	say(topic, "x", 1);
	snprintf(topic, sizeof(topic), FLEET "block/%s/0", f.manifest.id);
	say(topic, "x", 1);
	block(&f, path, 0, true, 0);
	block(&f, path, 1, true, 0);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(f.manifest.id);
}

static void test_full_disk(void **state)
{
	char path[FILE_PATH_MAX];
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	f.spread_ms = 0;
	limit_files(10);
	tell(&f, false);
	assert_subscribed(""); /* not before it is in the state */
	limit_files(RLIM_INFINITY);
	later(60000);
	tell(&f, true);
	assert_subscribed(f.manifest.id);
	limit_files(10);
	block(&f, path, 0, true, 0);
	limit_files(RLIM_INFINITY);
	later(60000);
	later(10000);
	send_blocks(&f.manifest, path, false);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 3);
	assert_active(f.manifest.id);
}

/* Both at once: neither is lost. */
static void test_beside_a_handover(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX], result[FILE_PATH_MAX];
	until_offered(offered);
	claim(0, offered);
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	tell(&f, false);
	block(&f, path, 0, true, 0);
	struct msg_result r = result_of(offered, 77, 1, result);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	block(&f, path, 1, true, 0);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 13);
	assert_active(f.manifest.id);
	send_blocks(&r.manifest, result, false);
	evaluated(r.manifest.id, SPLIT_TEST, 8);
	evaluated(r.manifest.id, SPLIT_VALIDATION, 15);
	assert_active(r.manifest.id);
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
}

static void test_pinned(void **state)
{
	static const char pin[] = "{\"cmd\":\"rollback\",\"id\":\"p1\"}";
	char own[HASH_SIZE], second[HASH_SIZE], path[FILE_PATH_MAX];
	local(5, own);
	trained(2, second);
	evaluated(second, SPLIT_VALIDATION, 6);
	evaluated(second, SPLIT_TEST, 3);
	say(DEVICE "in/cmd", pin, strlen(pin));
	assert_active(own);
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	tell(&f, false);
	block(&f, path, 0, true, 0);
	block(&f, path, 1, true, 0);
	evaluated(f.manifest.id, SPLIT_VALIDATION, 15);
	assert_active(own);
	assert_said(DEVICE "report", "\"origin\":\"fleet\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_better_one_takes_over),
		T(test_worse_one_does_not),
		T(test_first_of_all),
		T(test_missed),
		T(test_heard_late),
		T(test_killed_in_the_middle),
		T(test_damaged),
		T(test_groups),
		T(test_halted),
		T(test_newer),
		T(test_refused),
		T(test_full_disk),
		T(test_beside_a_handover),
		T(test_pinned),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Messages that come in. Each is judged in one order: is the topic one of ours and not a retained
 * leftover; did its writer sign it; does it decode; does it speak of us; then the state machine or
 * the command decides. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* ---- answers ---- */

static void send_reply(struct agent *a, const struct reply_to *to, const char *text)
{
	struct mqtt_publish p = {.topic = to->topic,
				 .payload = text,
				 .len = strlen(text),
				 .qos = 1,
				 .correlation = to->correlation_len ? to->correlation : NULL,
				 .correlation_len = to->correlation_len};
	int r = a->port.publish(a->port.user, &p);
	if (r < 0)
		log_debug("device=%s %s: answer not sent: %s", a->conf.id, to->topic, strerror(-r));
}

/* text is freed. */
void inbox_reply(struct agent *a, const struct reply_to *to, char *text)
{
	if (!text)
		return;
	if (to->at_ms > a->now_ms && a->n_replies < AGENT_REPLIES_MAX) {
		a->replies[a->n_replies].to = *to;
		a->replies[a->n_replies++].text = text;
		return;
	}
	send_reply(a, to, text);
	free(text);
}

void inbox_replies_due(struct agent *a)
{
	size_t kept = 0;
	for (size_t i = 0; i < a->n_replies; i++) {
		if (a->replies[i].to.at_ms > a->now_ms) {
			a->replies[kept++] = a->replies[i];
			continue;
		}
		send_reply(a, &a->replies[i].to, a->replies[i].text);
		free(a->replies[i].text);
	}
	a->n_replies = kept;
}

int64_t inbox_deadline_ms(const struct agent *a)
{
	int64_t at = -1;
	for (size_t i = 0; i < a->n_replies; i++)
		if (at < 0 || a->replies[i].to.at_ms < at)
			at = a->replies[i].to.at_ms;
	return at;
}

/* Every answer names the device: many may answer one command. `answer` is taken; NULL: nothing more
 * to say. */
static char *print_reply(const struct agent *a, const char *id, const char *error,
			 struct json *answer)
{
	if (!answer)
		answer = json_new_obj();
	json_set_str(answer, "device", a->conf.id);
	return msg_reply_print(id, error, answer);
}

static void refuse(struct agent *a, const struct reply_to *to, const char *id, const char *error)
{
	log_info("device=%s command id=%s refused: %s", a->conf.id, id, error);
	inbox_reply(a, to, print_reply(a, id, error, NULL));
}

static int fill_reply_to(struct agent *a, const struct mqtt_message *m, bool fleet,
			 struct reply_to *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (m->correlation && m->correlation_len <= sizeof(ret->correlation)) {
		memcpy(ret->correlation, m->correlation, m->correlation_len);
		ret->correlation_len = m->correlation_len;
	}
	/* So that a fleet does not answer at one moment. */
	ret->at_ms = fleet ? a->now_ms + rng_below(&a->rng, AGENT_REPLY_DELAY_MS) : 0;
	return commands_reply_topic(a->conf.site, a->conf.id, m->response_topic, ret->topic);
}

/* ---- floods ---- */

static const struct bucket_limit flood_limits[FLOOD_N] = {
	/* At once, and a second. A device that was away may find as many commands as it remembers.
	 */
	[FLOOD_COMMAND] = {STATE_COMMANDS_MAX, 4},
	[FLOOD_FLEET] = {STATE_COMMANDS_MAX, 4},
	[FLOOD_BUSY] = {16, 2},
	[FLOOD_CLAIM] = {64, 8},
	[FLOOD_RENEWAL] = {32, 4},
	[FLOOD_RESULT] = {32, 2},
	[FLOOD_OWN_RESULT] = {32, 2},
	[FLOOD_FLEET_OFFER] = {16, 1},
	[FLOOD_REPORTS] = {64, 8},
	/* At 100 us each, 2 % of a processor; all others together need a tenth of that. */
	[FLOOD_SIGNED] = {512, 200},
};

const char *inbox_flood_name(enum flood kind)
{
	static const char *const names[FLOOD_N] = {"commands",          "commands to the fleet",
						   "answers",           "claims",
						   "renewals",          "results",
						   "results of its own trainer", "offers to the fleet",
						   "wants for reports", "signed messages"};
	return names[kind];
}

bool inbox_flooded(struct agent *a, enum flood kind, int64_t *ret_wait_ms)
{
	if (bucket_take(&a->floods[kind], &flood_limits[kind], a->now_ms, ret_wait_ms))
		return false;
	if (a->n_flooded[kind]++ == 0 || a->now_ms >= a->flooded_logged_ms + AGENT_REFUSED_LOG_MS) {
		a->flooded_logged_ms = a->now_ms;
		log_warning("device=%s too many %s: %llu left out since the start", a->conf.id,
			    inbox_flood_name(kind), (unsigned long long)a->n_flooded[kind]);
	}
	return true;
}

static void answer_busy(struct agent *a, const struct reply_to *to, const char *id, int64_t wait_ms)
{
	struct json *j = json_new_obj();
	char error[64];
	snprintf(error, sizeof(error), "busy: too many commands, again in %lld ms",
		 (long long)wait_ms);
	json_set_int(j, "retry_ms", wait_ms);
	inbox_reply(a, to, print_reply(a, id, error, j));
}

/* ---- commands ---- */

static bool store_has_checkpoint(void *user, const char *checkpoint)
{
	return store_has(user, checkpoint);
}

static bool already_ordered(const struct agent *a, const char *id)
{
	if (a->evaluate_id && same(a->evaluation.command, id))
		return true;
	for (size_t i = 0; i < a->n_ordered; i++)
		if (same(a->ordered[i].command, id))
			return true;
	return false;
}

static void order_evaluation(struct agent *a, const struct msg_cmd *c, const struct reply_to *to)
{
	if (a->n_ordered == AGENT_ORDERED_MAX) {
		refuse(a, to, c->id, "evaluate: too many are waiting");
		ledger_command(a, c, c->id, false);
		return;
	}
	struct evaluation *e = &a->ordered[a->n_ordered++];
	memset(e, 0, sizeof(*e));
	COPY(e->checkpoint, *c->checkpoint ? c->checkpoint : a->active);
	e->split = c->split;
	COPY(e->command, c->id);
	e->to = *to;
	ledger_command(a, c, c->id, true);
}

void inbox_evaluated(struct agent *a, const struct evaluation *e, const struct score *score,
		     const char *snapshot, const char *error)
{
	if (!score) {
		refuse(a, &e->to, e->command, error);
		return;
	}
	struct json *j = json_new_obj();
	json_set_str(j, "checkpoint", e->checkpoint);
	json_set_str(j, "split", split_name(e->split));
	json_set_str(j, "snapshot", snapshot);
	json_set_int(j, "n", score->n);
	json_set_int(j, "correct", score->correct);
	json_set_num(j, "accuracy", score_accuracy(score));
	json_set_num(j, "loss", score->loss);
	char *text = print_reply(a, e->command, NULL, j);
	if (text)
		state_command_put(a->state, e->command, text);
	inbox_reply(a, &e->to, text);
}

/* Changes, saves, answers. What only looks, and what was refused, is remembered without a save of
 * its own: done once more after a crash, it does no harm. */
static void carry_out(struct agent *a, const struct msg_cmd *c, const struct reply_to *to)
{
	struct msg_status status;
	char previous[HASH_SIZE];
	struct agent_live live = a->live;
	struct err err = {0};
	announce_status_fill(a, &status);
	store_previous(a->store, previous);
	status.at_ms = a->port.real_ms(a->port.user);
	struct commands_view v = {.device = a->conf.id,
				  .active = a->active,
				  .previous = previous,
				  .status = &status,
				  .has = store_has_checkpoint,
				  .user = a->store};
	for (enum split s = 0; s < SPLIT_N; s++)
		v.has_split[s] = a->worker_ready && a->data.n[s];
	v.stays = *a->state->local && lineage_stays(a, a->state->local);
	v.spent = privacy_spent(a);
	struct json *answer = json_new_obj();
	struct state *next = agent_draft(a);
	int r = commands_apply(next, &live, &v, c, answer, &err);
	if (r == COMMANDS_LATER) {
		json_free(answer);
		order_evaluation(a, c, to);
		return;
	}
	if (r < 0) {
		json_free(answer);
		answer = NULL;
	}
	_cleanup_free_ char *text = print_reply(a, c->id, r < 0 ? err.text : NULL, answer);
	if (!text)
		return;
	if (r < 0 || commands_reads_only(c->cmd)) {
		state_command_put(a->state, c->id, text);
	} else {
		state_command_put(next, c->id, text);
		trusted_carried_out(a, next, c);
		if (agent_commit(a) < 0) {
			ledger_command(a, c, c->id, false);
			refuse(a, to, c->id, *a->saving.reason ? a->saving.reason : "cannot save");
			return;
		}
		a->live = live;
	}
	log_write(commands_reads_only(c->cmd) ? LOG_P_DEBUG : LOG_P_INFO,
		  "device=%s command=%s id=%s %s%s", a->conf.id, cmd_name(c->cmd), c->id,
		  r < 0 ? "refused: " : "done", r < 0 ? err.text : "");
	ledger_command(a, c, c->id, r >= 0);
	inbox_reply(a, to, TAKE_PTR(text));
}

static void on_command(struct agent *a, const struct mqtt_message *m, bool fleet)
{
	struct reply_to to;
	struct msg_cmd c;
	struct err err = {0};
	char id[ID_SIZE] = "";
	int64_t wait_ms;
	if (fill_reply_to(a, m, fleet, &to) < 0)
		return;
	int r = msg_cmd_parse(m->payload, m->len, &c, id, &err);
	if (inbox_flooded(a, fleet ? FLOOD_FLEET : FLOOD_COMMAND, &wait_ms)) {
		if (!inbox_flooded(a, FLOOD_BUSY, NULL))
			answer_busy(a, &to, id, wait_ms);
		return;
	}
	if (r < 0) {
		ledger_command(a, NULL, id, false);
		refuse(a, &to, id, err.text);
		return;
	}
	const char *known = state_command_find(a->state, c.id);
	if (known) {
		inbox_reply(a, &to, strdup(known));
		return;
	}
	if (already_ordered(a, c.id))
		return; /* its answer comes */
	if (!trusted_command(a, &c, &err)) {
		ledger_command(a, &c, c.id, false);
		refuse(a, &to, c.id, err.text);
		return;
	}
	carry_out(a, &c, &to);
}

/* ---- the others ---- */

static void on_claim(struct agent *a, const struct mqtt_message *m, const char *by, struct err *err)
{
	struct msg_claim c;
	struct handover_event ev = {.kind = HANDOVER_EV_CLAIM, .claim = &c};
	const struct handover *h = &a->state->handover;
	if (msg_claim_parse(m->payload, m->len, &c, err) < 0 ||
	    !trusted_is_by(a, by, c.trainer, err))
		return;
	bool renewal = h->open && c.fence == h->fence && same(c.trainer, h->trainer);
	if (inbox_flooded(a, renewal ? FLOOD_RENEWAL : FLOOD_CLAIM, NULL) ||
	    !trusted_claim(a, &c, err) || !sealing_claim(a, &c, err))
		return;
	exchange_event(a, &ev);
	coding_lacked(a, &c);
}

static void on_result(struct agent *a, const struct mqtt_message *m, const char *by,
		      struct err *err)
{
	struct msg_result r;
	const struct handover *h = &a->state->handover;
	if (msg_result_parse(m->payload, m->len, &r, err) < 0 ||
	    !trusted_is_by(a, by, r.manifest.trainer, err) || !trusted_result(a, &r, err))
		return;
	bool ours = r.fence == h->fence && same(r.manifest.trainer, h->trainer);
	if (!*r.manifest.trainer)
		err_set(err, -EINVAL, "trainer: missing");
	else if (!inbox_flooded(a, ours ? FLOOD_OWN_RESULT : FLOOD_RESULT, NULL))
		exchange_result(a, &r);
}

static void on_want(struct agent *a, const struct mqtt_message *m, struct err *err)
{
	struct msg_want w;
	if (msg_want_parse(m->payload, m->len, &w, err) < 0)
		return;
	if (!*w.trainer) {
		err_set(err, -EINVAL, "trainer: missing");
		return;
	}
	if (*w.checkpoint)
		exchange_want(a, &w, err);
	if (w.reports_from > 0 && !inbox_flooded(a, FLOOD_REPORTS, NULL))
		announce_reports_want(a, w.reports_from, w.reports_to);
}

static void on_ack(struct agent *a, const struct mqtt_message *m, const char *by, struct err *err)
{
	struct msg_ack k;
	const struct handover *h = &a->state->handover;
	if (msg_ack_parse(m->payload, m->len, &k, err) < 0 || !trusted_is_by(a, by, k.trainer, err))
		return;
	trusted_over(a, &k);
	if (h->phase == HANDOVER_GRANTED && k.fence == h->fence && same(k.trainer, h->trainer) &&
	    same(k.checkpoint, h->granted))
		log_info("device=%s fence=%lld trainer=%s checkpoint=%.12s is with the trainer",
			 a->conf.id, (long long)k.fence, k.trainer, k.checkpoint);
}

static void on_fleet_offer(struct agent *a, const struct mqtt_message *m, const char *by,
			   struct err *err)
{
	struct msg_fleet f;
	if (msg_fleet_parse(m->payload, m->len, &f, err) == 0 &&
	    trusted_is_by(a, by, f.manifest.trainer, err) && trusted_fleet(a, &f, err) &&
	    !inbox_flooded(a, FLOOD_FLEET_OFFER, NULL))
		fleet_offer(a, &f, m->retained, err);
}

static void on_key(struct agent *a, const struct mqtt_message *m, const char *by, struct err *err)
{
	struct msg_key k;
	if (msg_key_parse(m->payload, m->len, &k, err) == 0 && trusted_is_by(a, by, k.trainer, err))
		fleet_key_heard(a, &k, err);
}

/* Whether it is about no one device. */
static bool is_fleets(enum topic_kind k)
{
	return k == TOPIC_FLEET_CMD || k == TOPIC_FLEET_OFFER || k == TOPIC_FLEET_BLOCK;
}

/* Whoever sends rubbish must not fill the log with it. */
static void log_refused(struct agent *a, const char *topic, const char *why)
{
	bool quiet = !trust_has_news(a->trust) && a->n_refused &&
		     a->now_ms < a->refused_logged_ms + AGENT_REFUSED_LOG_MS;
	a->n_refused++;
	if (!quiet) {
		a->refused_logged_ms = a->now_ms;
		ledger_say(a, &(struct audit_event){
				      .event = "refused", .reason = why, .common = true});
	}
	log_write(quiet ? LOG_P_DEBUG : LOG_P_WARNING, "device=%s %s: %s (refused messages: %llu)",
		  a->conf.id, topic, why, (unsigned long long)a->n_refused);
}

void inbox_message(struct agent *a, const struct mqtt_message *m)
{
	struct topic t;
	struct err err = {0};
	char by[ID_SIZE];
	if (topic_parse(m->topic, a->conf.site, &t) < 0) {
		log_refused(a, m->topic, "no topic of the protocol");
		return;
	}
	if (!is_fleets(t.kind) && !same(t.device, a->conf.id))
		return;
	if (m->len == 0)
		return; /* somebody clears a retained one */
	if (m->retained && t.kind != TOPIC_FLEET_OFFER) {
		log_debug("device=%s %s: retained, ignored", a->conf.id, m->topic);
		return;
	}
	if (!trusted_open(a, &t, m, by, &err)) {
		if (err.code)
			log_refused(a, m->topic, err.text);
		return;
	}
	audit_heard(&a->heard, by, m->payload, m->len);
	switch (t.kind) {
	case TOPIC_DEVICE_CLAIM:
		on_claim(a, m, by, &err);
		break;
	case TOPIC_DEVICE_RESULT:
		on_result(a, m, by, &err);
		break;
	case TOPIC_DEVICE_WANT:
		on_want(a, m, &err);
		break;
	case TOPIC_DEVICE_BLOCK:
		exchange_block(a, &t, m->payload, m->len, &err);
		fleet_block(a, &t, m->payload, m->len, &err);
		break;
	case TOPIC_FLEET_OFFER:
		on_fleet_offer(a, m, by, &err);
		break;
	case TOPIC_FLEET_BLOCK:
		fleet_block(a, &t, m->payload, m->len, &err);
		break;
	case TOPIC_DEVICE_KEY:
		on_key(a, m, by, &err);
		break;
	case TOPIC_DEVICE_ACK:
		on_ack(a, m, by, &err);
		break;
	case TOPIC_DEVICE_CMD:
	case TOPIC_FLEET_CMD:
		on_command(a, m, t.kind == TOPIC_FLEET_CMD);
		break;
	default:
		break;
	}
	if (err.code)
		log_refused(a, m->topic, err.text);
	audit_heard(&a->heard, "", NULL, 0);
}

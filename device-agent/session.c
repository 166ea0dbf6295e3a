#include "device-agent/session.h"

#include <errno.h>

#include "common/base/clock.h"
#include "common/base/rng.h"
#include "common/metrics/daemon.h"
#include "device-agent/readings.h"

/* ---- the agent's ports ---- */

static int port_publish(void *user, const struct mqtt_publish *p)
{
	struct agent_session *s = user;
	int r = mqtt_publish(s->mqtt, p);
	if (r == 0 && s->ports.sent)
		s->ports.sent(s->ports.user, p);
	return r;
}

static int port_subscribe(void *user, const char *filter, int qos, bool on)
{
	struct mqtt *m = ((struct agent_session *)user)->mqtt;
	return on ? mqtt_subscribe(m, filter, qos, false) : mqtt_unsubscribe(m, filter);
}

static int port_request(void *user, const char *op, struct json *args, uint64_t *ret_id)
{
	struct agent_session *s = user;
	return s->ports.request(s->ports.user, op, args, ret_id);
}

static int64_t port_mono_ms(void *user)
{
	return clock_mono_ms();
}

static int64_t port_real_ms(void *user)
{
	return clock_real_ms();
}

static void port_readings(void *user, const struct when_conf *c, const char *state,
			  struct when_readings *ret)
{
	readings_read(c, state, clock_real_ms(), ret);
}

static void port_wake_at(void *user, int64_t at_ms)
{
	loop_timer_at(((struct agent_session *)user)->timer, at_ms);
}

static void port_swapped(void *user, const struct agent_swap *swap)
{
	struct agent_session *s = user;
	s->ports.swapped(s->ports.user, swap);
}

static const char *port_telling(void *user)
{
	struct agent_session *s = user;
	return s->ports.telling(s->ports.user);
}

/* ---- what happens ---- */

static int on_timer(void *user)
{
	agent_tick(((struct agent_session *)user)->agent);
	return 0;
}

static void on_message(void *user, const struct mqtt_message *m)
{
	struct agent_session *s = user;
	if (s->ports.came)
		s->ports.came(s->ports.user, m);
	agent_message(s->agent, m);
}

static void on_writable(void *user)
{
	agent_writable(((struct agent_session *)user)->agent);
}

static void on_state(void *user, enum mqtt_state state, const char *why)
{
	struct agent_session *s = user;
	s->ports.state(s->ports.user, state, why);
	if (state != MQTT_TAKEN_OVER)
		agent_link(s->agent, state == MQTT_UP);
}

/* ---- start and end ---- */

static int connect_broker(struct agent_session *s, struct loop *loop, struct err *err)
{
	const struct mqtt_handler handler = {
		.message = on_message, .state = on_state, .writable = on_writable, .user = s};
	struct mqtt_conf conf;
	agent_mqtt_conf(s->agent, &conf);
	int r = mqtt_new(loop, &conf, &handler, &s->mqtt, err);
	for (size_t i = 0; r == 0 && i < AGENT_FILTERS; i++) {
		char filter[MQTT_TOPIC_MAX];
		int qos;
		bool retained;
		r = agent_filter(s->agent, i, filter, &qos, &retained);
		if (r == 0)
			r = mqtt_subscribe(s->mqtt, filter, qos, retained);
		else if (r == -ENOENT)
			r = 0;
		if (r < 0)
			err_errno(err, r, "subscription %zu", i);
	}
	return r < 0 ? r : mqtt_start(s->mqtt, err);
}

int agent_session_init(struct agent_session *s, struct loop *loop, const struct agent_conf *conf,
		       const struct model *model, const struct agent_session_ports *ports,
		       struct err *err)
{
	const struct agent_ports agent = {.publish = port_publish,
					  .subscribe = port_subscribe,
					  .request = port_request,
					  .mono_ms = port_mono_ms,
					  .real_ms = port_real_ms,
					  .wake_at = port_wake_at,
					  .readings = port_readings,
					  .swapped = ports->swapped ? port_swapped : NULL,
					  .telling = ports->telling ? port_telling : NULL,
					  .user = s};
	*s = (struct agent_session){.ports = *ports};
	int r = loop_add_timer(loop, on_timer, s, &s->timer);
	if (r < 0)
		return err_errno(err, r, "event loop");
	r = agent_new(conf, model, &agent, rng_entropy(), &s->agent, err);
	return r < 0 ? r : connect_broker(s, loop, err);
}

void agent_session_figures(const struct agent_session *s, FILE *to)
{
	struct metrics m = {.to = to, .prefix = "tasuki_agent"};
	agent_figures(s->agent, &m);
	metrics_broker(&m, s->mqtt);
}

void agent_session_done(struct agent_session *s, int goodbye_ms)
{
	if (s->agent && s->mqtt)
		agent_stop(s->agent);
	mqtt_free(s->mqtt, goodbye_ms, false);
	agent_free(s->agent);
	loop_source_free(s->timer);
	*s = (struct agent_session){0};
}

#include "mqtt_fixture.h"

#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"

#if SANITIZED
/* Paho 1.3.12 keeps the message that was half written when a connection broke until the next one
 * breaks, and the last of them for ever. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libpaho-mqtt3as\n";
}
#endif

static const char *const mosquitto_paths[] = {"/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"};

static const char *mosquitto_path(void)
{
	for (size_t i = 0; i < ARRAY_LEN(mosquitto_paths); i++)
		if (access(mosquitto_paths[i], X_OK) == 0)
			return mosquitto_paths[i];
	return NULL;
}

bool broker_installed(void)
{
	return mosquitto_path() != NULL;
}

static int free_port(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	return ntohs(a.sin_port);
}

static bool accepts(int port)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((uint16_t)port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
}

void broker_start(struct broker *b)
{
	char conf[128];
	file_path(conf, sizeof(conf), "%s/mosquitto.conf", b->dir);
	b->pid = fork();
	if (b->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* not to outlive a test that dies */
		execl(mosquitto_path(), "mosquitto", "-c", conf, (char *)NULL);
		_exit(127);
	}
	int64_t until = clock_mono_ms() + WAIT_MS;
	while (!accepts(b->port) && clock_mono_ms() < until)
		usleep(10000);
	assert_true(accepts(b->port));
}

void broker_prepare(struct broker *b, const char *extra)
{
	snprintf(b->dir, sizeof(b->dir), "/tmp/test_mqtt.XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	b->port = free_port();
	char text[1024], path[128];
	struct passwd *pw = getpwuid(geteuid());
	int n = snprintf(text, sizeof(text),
			 "listener %d 127.0.0.1\nuser %s\npersistence false\nlog_dest file "
			 "%s/log\nmax_queued_messages 10000\n%s\n",
			 b->port, pw ? pw->pw_name : "nobody", b->dir,
			 extra ? extra : "allow_anonymous true");
	file_path(path, sizeof(path), "%s/mosquitto.conf", b->dir);
	assert_int_equal(file_write(path, text, (size_t)n, NULL), 0);
}

void broker_kill(struct broker *b)
{
	if (b->pid > 0) {
		kill(b->pid, SIGKILL);
		waitpid(b->pid, NULL, 0);
	}
	b->pid = 0;
}

int broker_setup(void **state)
{
	struct broker *b = calloc(1, sizeof(*b));
	broker_prepare(b, NULL);
	broker_start(b);
	*state = b;
	return 0;
}

int broker_teardown(void **state)
{
	struct broker *b = *state;
	broker_kill(b);
	file_remove(b->dir, NULL);
	free(b);
	return 0;
}

static void on_message(void *user, const struct mqtt_message *m)
{
	struct peer *p = user;
	p->n_messages++;
	p->n_bytes += m->len;
	snprintf(p->topic, sizeof(p->topic), "%s", m->topic);
	snprintf(p->response, sizeof(p->response), "%s",
		 m->response_topic ? m->response_topic : "");
	snprintf(p->correlation, sizeof(p->correlation), "%.*s", (int)m->correlation_len,
		 m->correlation ? (const char *)m->correlation : "");
	snprintf(p->payload, sizeof(p->payload), "%.*s", (int)MIN_OF(m->len, 60),
		 (const char *)m->payload);
	p->len = m->len;
	p->retained = m->retained;
}

static void on_state(void *user, enum mqtt_state state, const char *why)
{
	struct peer *p = user;
	p->n_repeated += state == MQTT_DOWN && p->is_down && strcmp(p->why, why) == 0;
	p->is_down = state == MQTT_DOWN;
	*(state == MQTT_UP ? &p->n_up : state == MQTT_DOWN ? &p->n_down : &p->n_taken_over) += 1;
	snprintf(p->why, sizeof(p->why), "%s", why);
	if (state == MQTT_UP && p->presence)
		assert_int_equal(mqtt_publish(p->mqtt, &(struct mqtt_publish){.topic = "presence",
									      .payload = "up",
									      .len = 2,
									      .qos = 1,
									      .retain = true}),
				 0);
}

static void on_writable(void *user)
{
	((struct peer *)user)->n_writable++;
}

void peer_new(struct peer *p, struct loop *loop, int port, const char *id)
{
	*p = (struct peer){.loop = loop};
	p->conf = (struct mqtt_conf){.host = "127.0.0.1",
				     .port = port,
				     .clean_start = true,
				     .keepalive_s = 10,
				     .reconnect_first_ms = 50,
				     .reconnect_cap_ms = 400};
	snprintf(p->conf.client_id, sizeof(p->conf.client_id), "%s", id);
}

void peer_start(struct peer *p, const char *filter, int qos, bool retained)
{
	struct mqtt_handler h = {on_message, on_state, on_writable, p};
	struct err err = {0};
	if (mqtt_new(p->loop, &p->conf, &h, &p->mqtt, &err) < 0)
		fail_msg("%s", err.text);
	if (filter)
		assert_int_equal(mqtt_subscribe(p->mqtt, filter, qos, retained), 0);
	if (mqtt_start(p->mqtt, &err) < 0)
		fail_msg("%s", err.text);
}

void spin(struct loop *loop, int ms)
{
	int64_t until = clock_mono_ms() + ms;
	for (int64_t left; (left = until - clock_mono_ms()) > 0;)
		assert_int_equal(loop_once(loop, (int)left), 0);
}

void peer_up(struct peer *p, struct loop *loop, int port, const char *id, const char *filter)
{
	peer_new(p, loop, port, id);
	peer_start(p, filter, 1, true);
	WAIT_FOR(loop, p->n_up == 1);
}

void two_up(struct loop *loop, int port, struct peer *a, const char *filter_a, struct peer *c,
	    const char *filter_c)
{
	peer_new(a, loop, port, "a");
	peer_new(c, loop, port, "c");
	peer_start(a, filter_a, 1, true);
	peer_start(c, filter_c, 1, true);
	WAIT_FOR(loop, a->n_up == 1 && c->n_up == 1);
}

int publish(struct peer *p, const char *topic, const char *text, int qos)
{
	return mqtt_publish(
		p->mqtt, &(struct mqtt_publish){
				 .topic = topic, .payload = text, .len = strlen(text), .qos = qos});
}

void peer_free(struct peer *p)
{
	mqtt_free(p->mqtt, 1000, false);
	p->mqtt = NULL;
}

pid_t run_self(const char *what, int port, const char *more)
{
	char text[16], path[512];
	snprintf(text, sizeof(text), "%d", port);
	/* By its name: under valgrind the link itself leads to valgrind. */
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	assert_true(n > 0);
	path[n] = '\0';
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(path, path, what, text, more, (char *)NULL);
		_exit(127);
	}
	return pid;
}

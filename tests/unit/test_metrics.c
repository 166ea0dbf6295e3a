/* Figures as text, the address that they can be read at, and the server in a daemon's loop. */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/metrics/server.h"
#include "common/metrics/text.h"

static void test_text(void **state)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	struct metrics m = {.to = open_memstream(&text, &len), .prefix = "tasuki_x"};
	metrics_gauge(&m, "free_bytes", 9007199254740991, "Free\\\nnow.");
	metrics_counter(&m, "seen_total", 0.5, "Seen.");
	metrics_family(&m, "kinds", METRIC_GAUGE, "Kinds.");
	metrics_sample(&m, 1, "kind", "a \"quoted\" \\ \n one", "other", "x", NULL);
	metrics_sample(&m, NAN, "kind", "none", NULL);
	fclose(m.to);
	assert_string_equal(
		text, "# HELP tasuki_x_free_bytes Free\\\\\\nnow.\n"
		      "# TYPE tasuki_x_free_bytes gauge\n"
		      "tasuki_x_free_bytes 9007199254740991\n"
		      "# HELP tasuki_x_seen_total Seen.\n"
		      "# TYPE tasuki_x_seen_total counter\n"
		      "tasuki_x_seen_total 0.5\n"
		      "# HELP tasuki_x_kinds Kinds.\n"
		      "# TYPE tasuki_x_kinds gauge\n"
		      "tasuki_x_kinds{kind=\"a \\\"quoted\\\" \\\\ \\n one\",other=\"x\"} 1\n");
}

static void test_listen(void **state)
{
	static const char *const good[] = {"", "127.0.0.1:1", "127.255.0.9:65535", "[::1]:9464"};
	static const char *const bad[] = {
		"127.0.0.1",
		"127.0.0.1:",
		"127.0.0.1:0",
		"127.0.0.1:65536",
		"127.0.0.1:123456",
		"127.0.0.1:09464",
		"127.0.0.1:+1",
		"127.0.0.1:1 ",
		"0.0.0.0:1",
		"10.0.0.1:1",
		"126.0.0.1:1",
		"128.0.0.1:1",
		"[::]:1",
		"[::2]:1",
		"::1:1",
		"localhost:1",
		":1",
		"1",
		"127.1:1",
		"[::1]",
		"[::ffff:127.0.0.1]:1",
		"127.0.0.1:1111111111111111111111111111111111111111111111111111111111111111111111",
	};
	struct metrics_conf c;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(metrics_listen_parse(good[i], &c), 0);
		assert_string_equal(c.listen, good[i]);
	}
	assert_int_equal(c.address.socket.in6.sin6_family, AF_INET6);
	assert_int_equal(ntohs(c.address.socket.in6.sin6_port), 9464);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (metrics_listen_parse(bad[i], &c) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
	assert_string_equal(c.listen, "[::1]:9464"); /* untouched */
}

/* ---- the server ---- */

static struct loop *loop;
static struct metrics_server *server;
static struct metrics_conf conf;
static unsigned n_filled;

static void fill(void *user, FILE *to)
{
	n_filled++;
	for (int i = 0; i < 20000; i++) /* more than a socket takes at once */
		fprintf(to, "tasuki_x_figure{n=\"%d\"} 1\n", i);
}

static int begin(void **state)
{
	struct err err = {0};
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	char text[32];
	int s = socket(AF_INET, SOCK_STREAM, 0); /* a port that is free */
	if (bind(s, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    getsockname(s, (struct sockaddr *)&at, &len) < 0)
		return -1;
	close(s);
	snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(at.sin_port));
	assert_int_equal(metrics_listen_parse(text, &conf), 0);
	assert_int_equal(loop_new(&loop), 0);
	int r = metrics_server_new(loop, &conf, fill, NULL, &server, &err);
	if (r < 0 && r != -EOPNOTSUPP)
		fail_msg("%s", err.text);
	n_filled = 0;
	return 0;
}

static int end(void **state)
{
	metrics_server_free(server);
	loop_free(loop);
	return 0;
}

/* In a build without libmicrohttpd. */
static void skip_without(void)
{
	if (!server)
		skip();
}

static int dial(void)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (connect(s, &conf.address.socket.any, sizeof(conf.address.socket.in)) < 0)
		assert_int_equal(errno, EINPROGRESS);
	struct pollfd up = {.fd = s, .events = POLLOUT}; /* by the kernel alone */
	assert_int_equal(poll(&up, 1, 20000), 1);
	loop_once(loop, 100);
	return s;
}

/* What comes, until the connection ends or `until` is in it; the caller's. */
static char *answer(int s, const char *until)
{
	size_t n = 0, size = 1 << 21;
	char *text = calloc(1, size);
	for (int i = 0; i < 20000; i++) {
		ssize_t got = recv(s, text + n, size - 1 - n, 0);
		if (got == 0 || (got > 0 && strstr(text, until)))
			break;
		n += got > 0 ? (size_t)got : 0;
		if (got < 0)
			loop_once(loop, 20);
	}
	return text;
}

static char *ask(const char *request, const char *until)
{
	int s = dial();
	assert_int_equal(send(s, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	char *text = answer(s, until);
	close(s);
	return text;
}

static void assert_answer(const char *request, const char *status)
{
	_cleanup_free_ char *text = ask(request, "\r\n\r\n");
	if (strncmp(text, status, strlen(status)) != 0)
		fail_msg("%s: found '%.60s', expected '%s'", request, text, status);
}

static void test_answers(void **state)
{
	skip_without();
	_cleanup_free_ char *all =
		ask("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9464\r\n\r\n", "{n=\"19999\"} 1\n");
	assert_non_null(strstr(all, "HTTP/1.1 200 "));
	assert_non_null(strstr(all, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
	assert_non_null(strstr(all, "Cache-Control: no-store\r\n"));
	assert_non_null(strstr(all, "tasuki_x_figure{n=\"19999\"} 1\n"));
	assert_int_equal(n_filled, 1);
	assert_answer("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 404 ");
	assert_answer("GET /metrics/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 404 ");
	assert_answer("GET /metrics HTTP/1.1\r\nHost: example.org\r\n\r\n", "HTTP/1.1 403 ");
	assert_answer("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.example.org:9464\r\n\r\n",
		      "HTTP/1.1 403 ");
	assert_answer("GET /metrics HTTP/1.1\r\nHost: localhost.example.org\r\n\r\n",
		      "HTTP/1.1 403 ");
	assert_answer("GET /metrics HTTP/1.0\r\n\r\n", "HTTP/1.1 403 ");
	assert_answer("POST /metrics HTTP/1.1\r\nHost: [::1]:9464\r\nContent-Length: 3\r\n\r\nabc",
		      "HTTP/1.1 405 ");
	assert_answer("DELETE /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 405 ");
	assert_int_equal(n_filled, 1);
}

/* Rubbish, a request without an end, one that is too long: it is there afterwards as before. */
static void test_rubbish(void **state)
{
	skip_without();
	_cleanup_free_ char *longest = malloc(100000);
	memset(longest, 'a', 99999);
	memcpy(longest, "GET /", 5);
	longest[99999] = 0;
	int s = dial();
	ssize_t sent = send(s, longest, strlen(longest), MSG_NOSIGNAL);
	assert_true(sent > 0);
	_cleanup_free_ char *text = answer(s, "\r\n\r\n");
	assert_null(strstr(text, "HTTP/1.1 200"));
	close(s);
	for (int i = 0; i < 3; i++) {
		static const char *const rubbish[] = {"\r\n\r\n\r\n", "\x16\x03\x01\x02",
						      "GET /metrics"};
		s = dial();
		assert_true(send(s, rubbish[i], strlen(rubbish[i]), MSG_NOSIGNAL) > 0);
		loop_once(loop, 50);
		close(s);
		loop_once(loop, 50);
	}
	assert_answer("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 ");
}

/* More connections than there may be, which all end at once: those that wait are heard then. */
static void test_crowd(void **state)
{
	int crowd[METRICS_CONNECTIONS_MAX + 4];
	skip_without();
	for (size_t i = 0; i < ARRAY_LEN(crowd); i++)
		crowd[i] = dial();
	for (int i = 0; i < 20; i++)
		loop_once(loop, 5);
	for (size_t i = 0; i < ARRAY_LEN(crowd); i++)
		close(crowd[i]);
	for (int i = 0; i < 20; i++)
		loop_once(loop, 5);
	assert_answer("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 ");
}

static void test_port_is_taken(void **state)
{
	struct metrics_server *second;
	struct err err = {0};
	skip_without();
	assert_int_equal(metrics_server_new(loop, &conf, fill, NULL, &second, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, conf.listen));
	assert_null(second);
	/* Off: none at all. */
	struct metrics_conf off = {0};
	assert_int_equal(metrics_server_new(loop, &off, fill, NULL, &second, &err), 0);
	assert_null(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_listen),
		cmocka_unit_test_setup_teardown(test_answers, begin, end),
		cmocka_unit_test_setup_teardown(test_rubbish, begin, end),
		cmocka_unit_test_setup_teardown(test_crowd, begin, end),
		cmocka_unit_test_setup_teardown(test_port_is_taken, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

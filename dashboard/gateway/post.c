/* What the page of an operator does: login, logout, command. Bodies are small JSON; a browser's
 * form of another site cannot send such a type without asking first. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/hex.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/base/text.h"
#include "dashboard/gateway/http.h"
#include "dashboard/gateway/password.h"

#define COOKIE_MAX 2048 /* bytes of all that a browser sends */

/* ---- cookies ---- */

/* Browsers do not tell servers of one host apart by their ports. */
static int cookie_name(const struct visitor *v, char ret[32])
{
	return snprintf(ret, 32, "tasuki-%d=", v->gateway->conf->listen_port);
}

/* Of the cookie; nothing is changed where there is none of ours. */
static void read_cookie(struct visitor *v, uint8_t ret_token[ACCESS_TOKEN])
{
	char all[COOKIE_MAX], name[32], text[2 * ACCESS_TOKEN + 1];
	uint8_t token[ACCESS_TOKEN];
	size_t n = (size_t)cookie_name(v, name);
	if (lws_hdr_copy(v->wsi, all, sizeof(all), WSI_TOKEN_HTTP_COOKIE) <= 0)
		return;
	for (const char *at = all; at; at = strchr(at, ';') ? strchr(at, ';') + 1 : NULL) {
		at += strspn(at, " ");
		if (strncmp(at, name, n) != 0 || strcspn(at + n, ";") != sizeof(text) - 1)
			continue;
		memcpy(text, at + n, sizeof(text) - 1);
		text[sizeof(text) - 1] = 0;
		if (hex_parse(text, token, ACCESS_TOKEN) == 0)
			memcpy(ret_token, token, ACCESS_TOKEN);
		return;
	}
}

static struct access_session *session_of(struct visitor *v)
{
	return access_find(&v->gateway->access, v->request->token, clock_mono_ms());
}

static void set_cookie(struct visitor *v, const char *value, int64_t max_age_s)
{
	char name[32];
	cookie_name(v, name);
	snprintf(v->request->cookie, sizeof(v->request->cookie),
		 "%s%s; Path=/; Max-Age=%lld; HttpOnly; SameSite=Strict%s", name, value,
		 (long long)max_age_s, *v->gateway->conf->certificate ? "; Secure" : "");
}

static void open_session(struct visitor *v)
{
	union {
		uint64_t parts[ACCESS_TOKEN / 8];
		uint8_t token[ACCESS_TOKEN];
	} random;
	char text[2 * ACCESS_TOKEN + 1];
	for (size_t i = 0; i < ARRAY_LEN(random.parts); i++)
		random.parts[i] = rng_entropy();
	access_open(&v->gateway->access, random.token, clock_mono_ms());
	hex_print(random.token, ACCESS_TOKEN, text);
	set_cookie(v, text, ACCESS_LIFE_MS / 1000);
}

/* ---- the three ---- */

static int login(struct visitor *v, const struct json *j)
{
	struct gateway *g = v->gateway;
	struct err err = {0};
	char password[PASSWORD_MAX + 1];
	int64_t wait_ms = 0;
	bool is = false;
	if (!access_may_try(&g->access, v->address, clock_mono_ms(), &wait_ms)) {
		log_warning("browser=%s login refused: too many attempts", v->address);
		snprintf(err.text, sizeof(err.text), "too many attempts; the next one in %lld s",
			 (long long)(wait_ms / 1000 + 1));
		return http_answer_error(v, 429, err.text);
	}
	if (json_get_str(j, "password", password, sizeof(password), &err) < 0)
		return http_answer_error(v, 400, err.text);
	int r = password_verify(g->conf->password_file, password, &is, &err);
	explicit_bzero(password, sizeof(password));
	if (r < 0) {
		log_error("[operator] password_file: %s", err.text);
		return http_answer_error(v, 500,
					 "the password cannot be checked; the log says why");
	}
	if (!is) {
		log_warning("browser=%s login refused: wrong password", v->address);
		return http_answer_error(v, 403, "wrong password");
	}
	log_info("browser=%s logged in", v->address);
	open_session(v);
	return http_answer(v, 204, NULL, NULL, 0);
}

static int logout(struct visitor *v)
{
	struct access_session *s = session_of(v);
	if (s)
		access_close(s);
	log_info("browser=%s logged out", v->address);
	set_cookie(v, "", 0);
	return http_answer(v, 204, NULL, NULL, 0);
}

static void on_answers(void *user, struct json *answers)
{
	struct visitor *v = user;
	struct request *q = v->request;
	q->command = 0;
	q->own = json_print(answers);
	json_free(answers);
	if (q->own)
		http_answer(v, 200, "application/json", q->own, strlen(q->own));
	else
		http_answer_text(v, 500, "out of memory");
}

static int command(struct visitor *v, const struct json *j)
{
	struct request *q = v->request;
	struct err err = {0};
	char device[ID_SIZE] = "", cmd[ID_SIZE] = "";
	struct access_session *s = session_of(v); /* it may have ended since the head */
	if (!s)
		return http_answer_error(v, 403, "log in first");
	if (!access_command(s, clock_mono_ms()))
		return http_answer_error(v, 429, "too many commands at once");
	json_get_str(j, "device", device, sizeof(device), NULL);
	json_get_str(j, "cmd", cmd, sizeof(cmd), NULL);
	text_blank_controls(device);
	text_blank_controls(cmd);
	int r = operator_command(v->gateway->operator, j, on_answers, v, &q->command, &err);
	log_info("browser=%s commands device=%s cmd=%s%s%s", v->address, device, cmd,
		 r < 0 ? " refused: " : "", r < 0 ? err.text : "");
	if (r == 0) {
		lws_set_timeout(v->wsi, PENDING_TIMEOUT_HTTP_CONTENT, 2 * OPERATOR_WAIT_S);
		return 0;
	}
	return http_answer_error(v,
				 r == -EINVAL                    ? 400
				 : r == -ENOTCONN || r == -EBUSY ? 503
								 : 500,
				 err.text);
}

/* ---- requests ---- */

static enum post post_of(const char *path)
{
	return strcmp(path, "/login") == 0     ? POST_LOGIN
	       : strcmp(path, "/logout") == 0  ? POST_LOGOUT
	       : strcmp(path, "/command") == 0 ? POST_COMMAND
					       : POST_NONE;
}

int post_begin(struct visitor *v, const char *path)
{
	struct request *q = v->request;
	char type[64], length[16];
	q->post = v->gateway->operator? post_of(path) : POST_NONE;
	if (q->post == POST_NONE)
		return http_answer_error(v, 404, "there is no such request");
	read_cookie(v, q->token);
	if (q->post == POST_COMMAND && !session_of(v))
		return http_answer_error(v, 403, "log in first");
	if (q->post == POST_LOGOUT)
		return logout(v);
	if (lws_hdr_copy(v->wsi, type, sizeof(type), WSI_TOKEN_HTTP_CONTENT_TYPE) <= 0 ||
	    strncasecmp(type, "application/json", 16) != 0)
		return http_answer_error(v, 415, "expected content of type application/json");
	if (lws_hdr_copy(v->wsi, length, sizeof(length), WSI_TOKEN_HTTP_CONTENT_LENGTH) <= 0)
		return http_answer_error(v, 411, "expected a content-length");
	if (strlen(length) > 9 || strspn(length, "0123456789") != strlen(length) ||
	    atoi(length) > GATEWAY_BODY_MAX)
		return http_answer_error(v, 413, "found too much, expected at most 4096 bytes");
	q->body = malloc(GATEWAY_BODY_MAX);
	return q->body ? 0 : -1;
}

int post_body(struct visitor *v, const void *data, size_t len)
{
	struct request *q = v->request;
	if (!q->body || q->body_len + len > GATEWAY_BODY_MAX)
		return -1;
	if (len)
		memcpy(q->body + q->body_len, data, len);
	q->body_len += len;
	return 0;
}

int post_end(struct visitor *v)
{
	struct request *q = v->request;
	_cleanup_(json_freep) struct json *j = NULL;
	struct err err = {0};
	if (!q->body)
		return -1;
	q->last = false; /* it has been read */
	int r = json_parse(q->body, q->body_len, GATEWAY_BODY_MAX, &j, &err);
	explicit_bzero(q->body, q->body_len);
	if (r < 0 || !json_is_obj(j))
		return http_answer_error(v, 400,
					 r < 0 ? err.text : "found no object, expected one");
	return q->post == POST_LOGIN ? login(v, j) : command(v, j);
}

void post_done(struct visitor *v)
{
	if (v->request->command)
		operator_forget(v->gateway->operator, v->request->command);
}

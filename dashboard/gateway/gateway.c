#include "dashboard/gateway/gateway.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/dataset/dataset.h"
#include "common/json/json.h"

/* lws's own lines, as ours; those of its daily work are not for a person. */
static void on_log(int level, const char *line)
{
	int len = (int)strcspn(line, "\n");
	if (level == LLL_ERR)
		log_warning("libwebsockets: %.*s", len, line);
	else
		log_debug("libwebsockets: %.*s", len, line);
}

/* ---- visitors ---- */

/* Before anything is read: a flood of connections costs no more than this. */
static bool may_enter(struct gateway *g, const char *address)
{
	if (peers_enter(&g->peers, address, (uint32_t)g->conf->connections,
			(uint32_t)g->conf->connections_per_address))
		return true;
	log_warning("browser=%s refused: found %u connections, expected at most %lld, and %lld "
		    "from an address",
		    address, g->peers.n, (long long)g->conf->connections,
		    (long long)g->conf->connections_per_address);
	return false;
}

static int visitor_new(struct gateway *g, struct lws *wsi)
{
	struct visitor *v = calloc(1, sizeof(*v));
	if (!v)
		return -1;
	v->gateway = g;
	v->wsi = wsi;
	lws_get_peer_simple(wsi, v->address, sizeof(v->address));
	if (!may_enter(g, v->address)) {
		free(v);
		return -1;
	}
	lws_set_opaque_user_data(wsi, v);
	return 0;
}

static void visitor_free(struct lws *wsi, struct visitor *v)
{
	if (v->pipe)
		pipe_browser_closed(v);
	http_done(v);
	peers_leave(&v->gateway->peers, v->address);
	lws_set_opaque_user_data(wsi, NULL);
	free(v);
}

/* 0: the WebSocket may be; else it is refused. What the callback is given of the request is not
 * looked at: where libwebsockets (4.1) has answered an upgrade that it does not know on a
 * connection that lives on, it has freed that already (CVE-2025-11677); its headers are found empty
 * then. */
static int confirm_upgrade(struct visitor *v)
{
	char path[64] = "", to[16] = "";
	if (!v)
		return -1;
	lws_hdr_copy(v->wsi, path, sizeof(path), WSI_TOKEN_GET_URI);
	lws_hdr_copy(v->wsi, to, sizeof(to), WSI_TOKEN_UPGRADE);
	if (strcasecmp(to, "websocket") != 0 || strcmp(path, "/mqtt") != 0)
		return -1;
	if (http_same_origin(v))
		return 0;
	log_warning("browser=%s refused: a page of another origin", v->address);
	return -1;
}

static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
		   size_t len)
{
	struct gateway *g = lws_context_user(lws_get_context(wsi));
	struct visitor *v = lws_get_opaque_user_data(wsi);
	switch (reason) {
	case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
		return visitor_new(g, wsi);
	case LWS_CALLBACK_WSI_DESTROY:
		if (v && lws_get_vhost(wsi) == g->vhost)
			visitor_free(wsi, v);
		return 0;
	case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
		return confirm_upgrade(v);
	case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
		return -1; /* a WebSocket without the subprotocol `mqtt` */
	case LWS_CALLBACK_HTTP:
		return v ? http_request(v, in) : -1;
	case LWS_CALLBACK_HTTP_BODY:
		return v ? http_body(v, in, len) : -1;
	case LWS_CALLBACK_HTTP_BODY_COMPLETION:
		return v ? http_body_end(v) : -1;
	case LWS_CALLBACK_HTTP_WRITEABLE:
		return v ? http_writeable(v) : -1;
	case LWS_CALLBACK_CLOSED_HTTP:
		if (v)
			http_done(v);
		return 0;
	default:
		return 0;
	}
}

static int on_websocket(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
			size_t len)
{
	struct visitor *v = lws_get_opaque_user_data(wsi);
	switch (reason) {
	case LWS_CALLBACK_ESTABLISHED:
		return v ? pipe_open(v) : -1;
	case LWS_CALLBACK_RECEIVE:
		if (!lws_frame_is_binary(wsi))
			return -1;
		return v && v->pipe ? pipe_from_browser(v, in, len) : -1;
	case LWS_CALLBACK_SERVER_WRITEABLE:
		return v && v->pipe ? pipe_browser_writeable(v) : -1;
	case LWS_CALLBACK_CLOSED:
		if (v && v->pipe)
			pipe_browser_closed(v);
		return 0;
	default:
		return 0;
	}
}

/* ---- our own loop within theirs ---- */

static int on_loop(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
		   size_t len)
{
	struct gateway *g = lws_context_user(lws_get_context(wsi));
	if (reason == LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION)
		return -1; /* no browser's */
	if (reason == LWS_CALLBACK_RAW_RX_FILE && loop_once(g->loop, 0) < 0)
		g->stopping = true;
	return 0;
}

static int on_signal(void *user, int signo)
{
	struct gateway *g = user;
	log_info("stopping: %s", strsignal(signo));
	g->stopping = true;
	return 0;
}

static const struct lws_protocols protocols[] = {
	{.name = "http", .callback = on_http},
	{.name = "mqtt", .callback = on_websocket, .rx_buffer_size = FILTER_PACKET_MAX},
	{.name = "loop", .callback = on_loop},
	{0},
};

/* ---- start and end ---- */

static int make_site_json(struct gateway *g, struct err *err)
{
	struct classes classes = {0};
	struct json *j = json_new_obj(), *names = json_new_arr();
	int r = *g->conf->classes ? classes_load(g->conf->classes, &classes, err) : 0;
	for (size_t i = 0; i < classes.n; i++)
		json_push_str(names, classes.names[i]);
	json_set_str(j, "site", g->conf->site);
	json_set(j, "classes", names);
	json_set_bool(j, "operator", *g->conf->password_file);
	json_set_str(j, "version", TASUKI_VERSION);
	g->site_json = r == 0 ? json_print(j) : NULL;
	json_free(j);
	classes_done(&classes);
	return r < 0 ? r : g->site_json ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int start_loop(struct gateway *g, struct err *err)
{
	lws_sock_file_fd_type fd;
	int r = loop_add_signal(g->loop, SIGTERM, on_signal, g, &g->sigterm);
	if (r == 0)
		r = loop_add_signal(g->loop, SIGINT, on_signal, g, &g->sigint);
	if (r == 0)
		r = watchdog_start(&g->watchdog, g->loop);
	if (r < 0)
		return err_errno(err, r, "signals");
	fd.filefd = fcntl(loop_fd(g->loop), F_DUPFD_CLOEXEC, 0); /* libwebsockets closes it */
	if (!lws_adopt_descriptor_vhost(g->vhost, LWS_ADOPT_RAW_FILE_DESC, fd, "loop", NULL))
		return err_set(err, -EIO, "event loop: libwebsockets did not take it");
	return 0;
}

static int start_lws(struct gateway *g, struct err *err)
{
	static const lws_retry_bo_t idle = {.secs_since_valid_ping = 60,
					    .secs_since_valid_hangup = 90};
	const struct gateway_conf *c = g->conf;
	struct lws_context_creation_info i = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.protocols = protocols,
		.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
		.user = g,
		.gid = -1,
		.uid = -1,
		.timeout_secs = GATEWAY_HEADER_S,
		.connect_timeout_secs = GATEWAY_CONNECT_S,
		.max_http_header_data = GATEWAY_HEADER_MAX,
		.max_http_header_pool = (unsigned short)c->connections,
		.pt_serv_buf_size = GATEWAY_CHUNK,
	};
	lws_set_log_level(LLL_ERR | LLL_WARN, on_log);
	g->lws = lws_create_context(&i);
	if (!g->lws)
		return err_set(err, -ENOMEM, "libwebsockets: no context");
	i.vhost_name = "browsers";
	i.port = c->listen_port;
	i.iface = c->listen;
	i.keepalive_timeout = GATEWAY_IDLE_S;
	i.retry_and_idle_policy = &idle;
	i.alpn = "http/1.1";
	if (!strchr(c->listen, ':'))
		i.options |= LWS_SERVER_OPTION_DISABLE_IPV6;
	if (*c->certificate) {
		i.ssl_cert_filepath = c->certificate;
		i.ssl_private_key_filepath = c->key;
	}
	g->vhost = lws_create_vhost(g->lws, &i);
	if (!g->vhost)
		return err_set(err, -EADDRNOTAVAIL, "[dashboard] listen: cannot listen at %s:%d",
			       c->listen, c->listen_port);
	return 0;
}

int gateway_start(struct gateway *g, const struct gateway_conf *conf, struct err *err)
{
	*g = (struct gateway){.conf = conf};
	int r = page_load(conf->page, &g->page, err);
	if (r == 0)
		r = make_site_json(g, err);
	if (r == 0) {
		r = loop_new(&g->loop);
		if (r < 0)
			return err_errno(err, r, "event loop");
		r = start_lws(g, err);
	}
	if (r == 0)
		r = start_loop(g, err);
	if (r == 0 && *conf->password_file)
		r = operator_new(g->loop, conf, &g->operator, err);
	return r;
}

int gateway_run(struct gateway *g)
{
	while (!g->stopping)
		if (lws_service(g->lws, 0) < 0)
			return -EIO;
	return 0;
}

void gateway_stop(struct gateway *g)
{
	if (g->lws)
		lws_context_destroy(g->lws);
	operator_free(g->operator);
	loop_source_free(g->sigterm);
	loop_source_free(g->sigint);
	watchdog_stop(&g->watchdog);
	loop_free(g->loop);
	page_free(g->page);
	free(g->site_json);
}

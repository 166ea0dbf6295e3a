#include "cli/classify_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/classify_client.h"
#include "cli/cli.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/notify.h"

#define CLIENTS_MAX 16
#define SOCKET_NAME "classify.sock" /* in the state folder */

/* What `classify` takes with --follow; its help is that of `classify`. */
enum { OPT_FOLLOW = 256, OPT_SOCKET, OPT_CFG, OPT_CLASSES, OPT_CROP, OPT_THREADS };
static const struct cli_option options[] = {
	{"follow", "STATE", "", OPT_FOLLOW},
	{"socket", "PATH", "", OPT_SOCKET},
	{"cfg", "FILE", "", OPT_CFG},
	{"classes", "FILE", "", OPT_CLASSES},
	{"center-crop", "PX", "", OPT_CROP},
	{"threads", "N", "", OPT_THREADS},
	CLI_JSON,
	{0},
};
static const struct cli_spec spec = {"", "", options, ""};

struct server {
	tasuki *t;
	const char *state;
	struct tasuki_options options;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	bool json;
	int listener, signals;
	pthread_mutex_t lock; /* of: */
	struct classify_client *clients[CLIENTS_MAX];
};

bool classify_socket_asked(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--follow") == 0 || strncmp(argv[i], "--follow=", 9) == 0)
			return true;
	return false;
}

/* ---- what is said on standard output and error ---- */

static void tell(const struct server *s, const char *event, const char *key, const char *value)
{
	if (s->json) {
		struct json *j = json_new_obj();
		json_set_str(j, "event", event);
		json_set_str(j, key, value);
		cli_print_json(j);
	} else {
		printf("%s %s=%s\n", event, key, value);
	}
	fflush(stdout);
}

/* On the library's thread. */
static void on_swap(void *user, const struct tasuki_checkpoint *now)
{
	struct server *s = user;
	uint64_t one = 1;
	tell(s, "swap", "checkpoint", now->id);
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < CLIENTS_MAX; i++)
		if (s->clients[i] && write(s->clients[i]->swap_fd, &one, sizeof(one)) < 0)
			errno = 0; /* it knows already */
	pthread_mutex_unlock(&s->lock);
}

static void on_trouble(void *user, const struct tasuki_error *what)
{
	cli_warn("tasuki classify: %s", what->text);
}

/* ---- clients ---- */

static void end_client(struct server *s, int i)
{
	struct classify_client *c = s->clients[i];
	pthread_mutex_lock(&s->lock);
	s->clients[i] = NULL;
	pthread_mutex_unlock(&s->lock);
	shutdown(c->fd, SHUT_RDWR);
	pthread_join(c->thread, NULL);
	close(c->fd);
	close(c->swap_fd);
	free(c);
}

static int free_place(struct server *s)
{
	int place = -1;
	for (int i = 0; i < CLIENTS_MAX; i++) {
		if (s->clients[i] && s->clients[i]->done)
			end_client(s, i);
		if (!s->clients[i])
			place = i;
	}
	return place;
}

static void refuse(int fd)
{
	static const char text[] =
		"{\"error\":\"too many clients: 16 at most\",\"code\":\"EBUSY\"}\n";
	if (send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		errno = 0; /* it is closed anyway */
	close(fd);
}

static void begin_client(struct server *s)
{
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC), place = free_place(s);
	if (fd < 0)
		return;
	struct classify_client *c = place < 0 ? NULL : calloc(1, sizeof(*c));
	if (!c) {
		refuse(fd);
		return;
	}
	*c = (struct classify_client){
		.t = s->t, .fd = fd, .swap_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (c->swap_fd < 0 || pthread_create(&c->thread, NULL, classify_client_run, c) != 0) {
		close(c->swap_fd);
		free(c);
		refuse(fd);
		return;
	}
	pthread_mutex_lock(&s->lock);
	s->clients[place] = c;
	pthread_mutex_unlock(&s->lock);
}

/* ---- the socket ---- */

/* A socket that a killed server left is replaced; one that somebody listens at, or any other file,
 * is not. */
static int clear_path(const struct sockaddr_un *a, struct err *err)
{
	struct stat st;
	if (lstat(a->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(err, -errno, "%s", a->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "%s: is there, and no socket", a->sun_path);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0)
		return err_set(err, -EADDRINUSE, "%s: somebody listens there already", a->sun_path);
	return unlink(a->sun_path) < 0 ? err_errno(err, -errno, "%s", a->sun_path) : 0;
}

static int listen_at(struct server *s, const char *path, struct err *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int r = path ? file_path(a.sun_path, sizeof(a.sun_path), "%s", path)
		     : file_path(a.sun_path, sizeof(a.sun_path), "%s/" SOCKET_NAME, s->state);
	if (r < 0)
		return err_set(err, r, "socket: found %s, expected at most %zu bytes",
			       path ? path : s->state, sizeof(a.sun_path) - 1);
	r = clear_path(&a, err);
	if (r < 0)
		return r;
	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	mode_t before = umask(0177);
	r = s->listener < 0 || bind(s->listener, (struct sockaddr *)&a, sizeof(a)) < 0 ||
			    listen(s->listener, CLIENTS_MAX) < 0
		    ? -errno
		    : 0;
	umask(before);
	if (r < 0)
		return err_errno(err, r, "%s", a.sun_path);
	memcpy(s->path, a.sun_path, sizeof(s->path));
	return 0;
}

/* Before any thread: they inherit the mask. */
static int take_signals(struct server *s, struct err *err)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC);
	return s->signals < 0 ? err_errno(err, -errno, "signalfd") : 0;
}

static void run(struct server *s)
{
	struct pollfd fds[] = {{.fd = s->signals, .events = POLLIN},
			       {.fd = s->listener, .events = POLLIN}};
	tell(s, "listening", "socket", s->path);
	notify_send("READY=1");
	while (!fds[0].revents) {
		if (poll(fds, 2, -1) > 0 && fds[1].revents)
			begin_client(s);
	}
	notify_send("STOPPING=1");
}

static int serve(struct server *s, const char *path, struct err *err)
{
	struct tasuki_error e;
	int r = take_signals(s, err);
	if (r == 0)
		r = listen_at(s, path, err);
	if (r == 0 && (r = tasuki_open(s->state, &s->options, &s->t, &e)) < 0)
		err_set(err, r, "%s", e.text);
	if (r == 0)
		run(s);
	for (int i = 0; i < CLIENTS_MAX; i++)
		if (s->clients[i])
			end_client(s, i);
	tasuki_close(s->t);
	if (*s->path)
		unlink(s->path);
	return r;
}

/* ---- arguments ---- */

static bool set_number(const char *option, const char *text, int64_t min, int64_t max, int *ret)
{
	int64_t v;
	if (!cli_int("classify", option, text, min, max, &v))
		return false;
	*ret = (int)v;
	return true;
}

/* CLI_OK or CLI_USAGE. */
static int read_options(struct server *s, int argc, char **argv, const char **ret_path)
{
	int c;
	optind = 1;
	while ((c = cli_next(&spec, argc, argv)) != CLI_END) {
		switch (c) {
		case OPT_FOLLOW:
			s->state = optarg;
			break;
		case OPT_SOCKET:
			*ret_path = optarg;
			break;
		case OPT_CFG:
			s->options.cfg = optarg;
			break;
		case OPT_CLASSES:
			s->options.classes = optarg;
			break;
		case OPT_CROP:
			if (!set_number("--center-crop", optarg, 0, DATASET_IMAGE_DIM_MAX,
					&s->options.center_crop))
				return CLI_USAGE;
			if (!s->options.center_crop)
				s->options.center_crop = -1;
			break;
		case OPT_THREADS:
			if (!set_number("--threads", optarg, 1, WORKER_THREADS_MAX,
					&s->options.threads))
				return CLI_USAGE;
			break;
		case CLI_OPT_JSON:
			s->json = true;
			break;
		default:
			return CLI_USAGE;
		}
	}
	if (optind < argc)
		return cli_usage("classify", "found '%s', expected no images with --follow",
				 argv[optind]);
	return CLI_OK;
}

int classify_socket(int argc, char **argv)
{
	struct server s = {.listener = -1, .signals = -1};
	const char *path = NULL;
	struct err err = {0};
	s.options = (struct tasuki_options){.size = sizeof(s.options),
					    .on_swap = on_swap,
					    .on_trouble = on_trouble,
					    .user = &s};
	if (read_options(&s, argc, argv, &path) != CLI_OK)
		return CLI_USAGE;
	pthread_mutex_init(&s.lock, NULL);
	return serve(&s, path, &err) < 0 ? cli_fail("classify", &err) : CLI_OK;
}

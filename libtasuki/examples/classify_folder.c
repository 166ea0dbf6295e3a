/* What an application with libtasuki looks like: says what the images of a folder show, and with
 * --follow those that are put into it from then on, as a camera does. Weights may be swapped
 * beneath it at any time: each line names the checkpoint that its answer is from.
 *
 *     cc classify_folder.c $(pkg-config --cflags --libs tasuki) -o classify-folder
 *     classify-folder [--follow] STATE FOLDER
 *
 * A file is taken once whoever writes it has closed it, or moved it there. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <tasuki.h>

static int classify(tasuki *t, const char *folder, const char *name)
{
	struct tasuki_result r;
	struct tasuki_error e;
	char path[4096];
	if (name[0] == '.')
		return 0;
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (tasuki_classify_file(t, path, &r, NULL, 0, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	printf("%s: %s %.1f %% checkpoint=%.12s\n", path, r.name, 100 * (double)r.score,
	       r.checkpoint);
	return 0;
}

static int classify_all(tasuki *t, const char *folder)
{
	int failed = 0;
	DIR *d = opendir(folder);
	if (!d) {
		perror(folder);
		return 1;
	}
	for (struct dirent *e; (e = readdir(d));)
		failed |= classify(t, folder, e->d_name);
	closedir(d);
	return failed;
}

static void classify_new(tasuki *t, const char *folder, int watch)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = read(watch, buf, sizeof(buf));
	for (char *at = buf; n > 0 && at < buf + n;) {
		const struct inotify_event *e = (const struct inotify_event *)at;
		at += sizeof(*e) + e->len;
		if (e->len)
			classify(t, folder, e->name);
	}
}

static int follow(tasuki *t, const char *folder, int watch)
{
	struct pollfd fds[] = {{.fd = watch, .events = POLLIN},
			       {.fd = tasuki_fd(t), .events = POLLIN}};
	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return 1;
		if (fds[1].revents) {
			struct tasuki_checkpoint now;
			tasuki_current(t, &now);
			printf("swapped: checkpoint=%.12s origin=%s\n", now.id, now.origin);
		}
		if (fds[0].revents)
			classify_new(t, folder, watch);
	}
}

static void on_trouble(void *user, const struct tasuki_error *what)
{
	fprintf(stderr, "warning: %s\n", what->text);
}

int main(int argc, char **argv)
{
	int following = argc > 1 && strcmp(argv[1], "--follow") == 0;
	if (argc != 3 + following) {
		fprintf(stderr, "usage: classify-folder [--follow] STATE FOLDER\n");
		return 2;
	}
	const char *folder = argv[2 + following];
	struct tasuki_options options = {.size = sizeof(options), .on_trouble = on_trouble};
	struct tasuki_error e;
	tasuki *t;
	setvbuf(stdout, NULL, _IOLBF, 0);
	int watch = inotify_init1(IN_CLOEXEC); /* before what is there is read: nothing is missed */
	if (watch < 0 || inotify_add_watch(watch, folder, IN_CLOSE_WRITE | IN_MOVED_TO) < 0) {
		perror(folder);
		return 1;
	}
	if (tasuki_open(argv[1 + following], &options, &t, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	int failed = classify_all(t, folder);
	if (following)
		failed = follow(t, folder, watch);
	tasuki_close(t);
	return failed;
}

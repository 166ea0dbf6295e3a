#include "cli/rollout_state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/checkpoint/model.h"
#include "common/checkpoint/store.h"
#include "common/json/json.h"
#include "edge-trainer/conf.h"

#define STATE_FILE_MAX (256 * 1024)
#define REPORTS_MAX    100
#define WEIGHTS_MAX    (WEIGHTS_HEADER_SIZE + 4 * MODEL_FLOATS_MAX)
#define ASIDE          ".halted"
#define POLL_MS        50
#define SAY_MS         800

static int read_offer(const struct json *j, struct rollout_state *s, struct err *err)
{
	const struct json *counted;
	const char *text;
	int r = json_get_text(j, "offer", MESSAGE_LARGE_MAX, &text, err);
	if (r == 0)
		r = msg_fleet_parse(text, strlen(text), &s->offer, err);
	if (r == 0)
		r = json_get_int(j, "activated", 0, REPORTS_MAX, &s->activated, err);
	if (r == 0)
		r = json_get_num(j, "gain", -1e6, 1e6, &s->gain, err);
	if (r == 0)
		r = json_get_int(j, "share", 1, 100, &s->offer.share, err);
	if (r == 0)
		r = json_get_arr(j, "counted", REPORTS_MAX, &counted, err);
	if (r == 0)
		s->reports = (int64_t)json_len(counted);
	return r;
}

int rollout_state_read(const char *state, struct rollout_state *ret, struct err *err)
{
	_cleanup_(json_freep) struct json *j = NULL;
	struct rollout_state s = {0};
	char path[FILE_PATH_MAX];
	int r = file_path(path, sizeof(path), "%s/publish", state);
	if (r == 0 && !file_exists(path))
		return err_set(err, -ENOENT,
			       "--state: found no %s, expected the state folder of a trainer",
			       path);
	if (r == 0)
		r = file_path(path, sizeof(path), "%s/fleet.json", state);
	if (r < 0)
		return err_errno(err, r, "%s", state);
	r = json_parse_file(path, STATE_FILE_MAX, &j, err);
	if (r == -ENOENT) { /* nothing was ever offered */
		*ret = s;
		return 0;
	}
	if (r == 0 && json_has(j, "offer") && (r = read_offer(j, &s, err)) < 0)
		err_prefix(err, "%s", path);
	if (r == 0)
		*ret = s;
	return r;
}

static int aside_path(char path[FILE_PATH_MAX], const char *state, const char *id, struct err *err)
{
	int r = file_path(path, FILE_PATH_MAX, "%s/publish/%s" ASIDE, state, id);
	return r < 0 ? err_errno(err, r, "%s", state) : 0;
}

/* The one before goes. */
static void clear_aside(const char *state)
{
	char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
	DIR *folder = file_path(dir, sizeof(dir), "%s/publish", state) == 0 ? opendir(dir) : NULL;
	for (struct dirent *e; folder && (e = readdir(folder));) {
		size_t n = strlen(e->d_name), k = strlen(ASIDE);
		if (n > k && !strcmp(e->d_name + n - k, ASIDE) &&
		    file_path(path, sizeof(path), "%s/%s", dir, e->d_name) == 0)
			file_remove(path, NULL);
	}
	if (folder)
		closedir(folder);
}

static int lay_aside(const char *state, const char *id, struct err *err)
{
	char from[FILE_PATH_MAX], to[FILE_PATH_MAX];
	_cleanup_free_ char *data = NULL;
	size_t len;
	int r = file_path(from, sizeof(from),
			  "%s/" TRAINER_STORE "/" STORE_CHECKPOINTS "/%s/weights", state, id);
	if (r < 0)
		return err_errno(err, r, "%s", state);
	clear_aside(state);
	r = aside_path(to, state, id, err);
	if (r == 0)
		r = file_read(from, WEIGHTS_MAX, &data, &len, err);
	return r < 0 ? r : file_write(to, data, len, err);
}

/* One call makes it: the trainer may take it away at once. */
static int lay_order(const char *path, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0)
		return err_errno(err, -errno, "%s", path);
	close(fd);
	return 0;
}

int rollout_order(const char *state, const char *word, int64_t timeout_s, bool *ret_taken,
		  struct err *err)
{
	struct rollout_state s;
	char path[FILE_PATH_MAX];
	int r = rollout_state_read(state, &s, err);
	if (r < 0)
		return r;
	if (!s.offer.manifest.sequence)
		return err_set(err, -ENOENT, "%s: nothing is offered to everyone", state);
	if (s.offer.halted)
		return err_set(err, -EALREADY, "checkpoint %.12s is halted already: %s",
			       s.offer.manifest.id, s.offer.reason);
	if (!strcmp(word, "next") && s.offer.share == 100)
		return err_set(err, -EALREADY, "checkpoint %.12s is offered to all devices already",
			       s.offer.manifest.id);
	if (!strcmp(word, "halt") && (r = lay_aside(state, s.offer.manifest.id, err)) < 0)
		return r;
	r = file_path(path, sizeof(path), "%s/rollout/%s.%lld", state, word,
		      (long long)s.offer.manifest.sequence);
	if (r < 0)
		return err_errno(err, r, "%s", state);
	r = lay_order(path, err);
	int64_t begun = clock_mono_ms(), said = 0, now = begun;
	for (; r == 0 && file_exists(path) && now - begun < timeout_s * 1000;
	     now = clock_mono_ms()) {
		if (now - begun > SAY_MS && !said++)
			cli_warn("waiting for the trainer of %s to take it", state);
		usleep(POLL_MS * 1000);
	}
	*ret_taken = r == 0 && !file_exists(path);
	return r;
}

int rollout_resume(const char *state, char id[HASH_SIZE], struct err *err)
{
	struct rollout_state s;
	char from[FILE_PATH_MAX], to[FILE_PATH_MAX];
	int r = rollout_state_read(state, &s, err);
	if (r < 0)
		return r;
	const char *which = s.offer.manifest.id;
	if (!s.offer.manifest.sequence || !s.offer.halted)
		return err_set(err, -EALREADY, "%s: found nothing that is halted", state);
	r = aside_path(from, state, which, err);
	if (r < 0)
		return r;
	if (!file_exists(from))
		return err_set(err, -ENOENT,
			       "checkpoint %.12s was not laid aside, as the trainer itself halted "
			       "it: tasuki publish WEIGHTS begins it again",
			       which);
	r = file_path(to, sizeof(to), "%s/publish/%s.weights", state, which);
	if (r < 0)
		return err_errno(err, r, "%s", state);
	memcpy(id, which, HASH_SIZE);
	return file_rename(from, to, err);
}

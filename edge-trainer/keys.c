/* Keys of handovers' blocks: our own pair is made with the job and goes with it, the device's public
 * key comes with its grant. One payload travels at a time between the two. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "edge-trainer/trainer_priv.h"

int keys_protect(const char *db, struct err *err)
{
	static const char *const files[] = {"", "-wal", "-shm"};
	char path[FILE_PATH_MAX];

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		int flags = O_RDWR | O_CLOEXEC | (i == 0 ? O_CREAT : 0), fd, r;

		r = file_path(path, sizeof(path), "%s%s", db, files[i]);
		if (r < 0)
			return err_errno(err, r, "%s", db);
		fd = open(path, flags, 0600);
		if (fd < 0 && i > 0 && errno == ENOENT)
			continue;
		r = fd < 0 || fchmod(fd, 0600) < 0 ? -errno : 0;
		if (fd >= 0)
			close(fd);
		if (r < 0)
			return err_errno(err, r, "%s", path);
	}
	return 0;
}

int keys_begin(struct trainer *t, struct job *j, struct err *err)
{
	int r = t->seal && !*j->seal.secret ? sealed_begin(&j->seal) : 0;

	return r < 0 ? err_errno(err, r, "keys for device %s", j->device) : 0;
}

void keys_claim(const struct trainer *t, const struct entry *e, struct msg_claim *c)
{
	if (t->seal)
		sealed_public(&e->job.seal, c->seal);
}

bool keys_grant(struct trainer *t, const struct msg_grant *g, struct err *err)
{
	return !t->seal || !g->granted ||
	       trust_refuse(t->trust, sealed_check(g->seal, err), err) == REFUSAL_NONE;
}

const uint8_t *keys_transfer(struct trainer *t, struct entry *e, const char *payload, bool to_device)
{
	const struct sealed_transfer transfer = {
		.site = t->conf->site, .device = e->job.device, .trainer = t->conf->id,
		.fence = e->job.fence, .payload = payload, .to_device = to_device,
	};

	return t->seal ? sealed_key(&e->seal_key, &e->job.seal, &transfer) : NULL;
}

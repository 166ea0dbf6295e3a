/* Writing. The file is known up to `end`: what a failed write left beyond it is cut before the next
 * one. */
#include "common/audit/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/bucket.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/crypto/hash.h"

struct audit {
	char folder[FILE_PATH_MAX], path[FILE_PATH_MAX];
	int fd;	   /* -1: not open */
	off_t end; /* of what is known to be good */
	bool rest; /* beyond it is something else */
	bool known; /* what was there has been read */
	bool dirty;
	int64_t first; /* number of the file's first line */
	int64_t at_ms; /* of the last line */
	struct audit_head head;
	struct err fault;
	int64_t n_lost, n_left_out; /* lines, since one was written last */
	struct {
		char event[24], decision[24];
		uint64_t n;
	} counts[AUDIT_COUNTS_MAX];
	size_t n_counts;
	struct bucket common;
};

static int begin(struct audit *a, int64_t real_ms);

void audit_free(struct audit *a)
{
	if (!a)
		return;
	audit_sync(a);
	if (a->fd >= 0)
		close(a->fd);
	free(a);
}

void audit_head(const struct audit *a, struct audit_head *ret)
{
	*ret = a->head;
}

const struct err *audit_fault(const struct audit *a)
{
	return a->fault.code ? &a->fault : NULL;
}

void audit_heard(struct audit_source *s, const char *signer, const void *message, size_t len)
{
	*s = (struct audit_source){0};
	if (!*signer || hash_bytes(message, len, s->message) < 0)
		return;
	snprintf(s->signer, sizeof(s->signer), "%s", signer);
}

/* ---- a line ---- */

static void put_text(struct json *j, const char *key, const char *text)
{
	char cut[AUDIT_TEXT_MAX + 1];
	if (!text || !*text)
		return;
	snprintf(cut, sizeof(cut), "%s", strchr(text, '/') ? "(left out)" : text);
	json_set_str(j, key, cut);
}

static void put_int(struct json *j, const char *key, int64_t value)
{
	if (value)
		json_set_int(j, key, value);
}

static void put_time(struct json *j, const char *key, int64_t real_ms)
{
	char text[CLOCK_TEXT_MAX];
	clock_format(real_ms, text);
	json_set_str(j, key, text);
}

static char *print_line(const struct audit *a, int64_t real_ms, const struct audit_event *e)
{
	_cleanup_(json_freep) struct json *j = json_new_obj();
	json_set_int(j, "seq", a->head.seq + 1);
	put_time(j, "at", real_ms);
	json_set_str(j, "event", e->event);
	put_text(j, "who", e->who);
	put_text(j, "peer", e->peer);
	put_text(j, "checkpoint", e->checkpoint);
	put_text(j, "parent", e->parent);
	put_int(j, "fence", e->fence);
	put_text(j, "decision", e->decision);
	put_text(j, "reason", e->reason);
	put_text(j, "command", e->command);
	put_text(j, "id", e->id);
	put_text(j, "key", e->key);
	put_text(j, "value", e->value);
	put_int(j, "number", e->number);
	if (e->until_ms)
		put_time(j, "until", e->until_ms);
	if (e->head) {
		json_set_int(j, "head_seq", e->head->seq);
		json_set_str(j, "head", e->head->hash);
	}
	put_text(j, "signer", e->signer);
	put_text(j, "message", e->message);
	json_set_str(j, "prev", a->head.hash);
	return json_print(j);
}

/* ---- files ---- */

static int fault(struct audit *a, int r)
{
	return err_errno(&a->fault, r, "%s", a->path);
}

static int open_file(struct audit *a)
{
	struct stat st;
	if (a->fd >= 0)
		return 0;
	a->fd = open(a->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (a->fd < 0)
		return fault(a, -errno);
	if (fstat(a->fd, &st) == 0)
		a->rest = st.st_size != a->end;
	file_sync(a->folder, NULL);
	return 0;
}

/* The oldest of those that are too many; once each time is enough. */
static void remove_oldest(const struct audit *a)
{
	_cleanup_free_ char(*paths)[FILE_PATH_MAX] = NULL;
	size_t n;
	if (audit_files(a->folder, &paths, &n, NULL) < 0)
		return;
	for (size_t i = 0; i + AUDIT_FILES_KEPT + 1 < n; i++)
		file_remove(paths[i], NULL);
}

/* One rename: what it is called, its first line says, so a crash leaves nothing to mend. */
static int begin_next_file(struct audit *a)
{
	char old[FILE_PATH_MAX];
	int r = file_path(old, sizeof(old), "%s.%012lld", a->path, (long long)a->first);
	if (r == 0)
		audit_sync(a);
	if (r == 0 && rename(a->path, old) < 0)
		r = -errno;
	if (r < 0)
		return fault(a, r);
	close(TAKE_FD(a->fd));
	a->end = 0;
	r = open_file(a);
	remove_oldest(a);
	return r;
}

static int write_line(struct audit *a, const char *text, size_t len)
{
	if (len > AUDIT_LINE_MAX)
		return fault(a, -EMSGSIZE);
	int r = open_file(a);
	if (r == 0 && a->end >= AUDIT_FILE_BYTES)
		r = begin_next_file(a);
	if (r < 0)
		return r;
	if (a->rest && ftruncate(a->fd, a->end) < 0)
		return fault(a, -errno);
	a->rest = false;
	_cleanup_free_ char *line = malloc(len + 1);
	if (!line)
		return fault(a, -ENOMEM);
	memcpy(line, text, len);
	line[len] = '\n';
	if (lseek(a->fd, a->end, SEEK_SET) < 0)
		return fault(a, -errno);
	r = file_write_all(a->fd, line, len + 1);
	if (r < 0) {
		a->rest = ftruncate(a->fd, a->end) < 0;
		return fault(a, r);
	}
	if (a->end == 0)
		a->first = a->head.seq + 1;
	a->end += (off_t)len + 1;
	return 0;
}

static int say(struct audit *a, int64_t real_ms, const struct audit_event *e)
{
	_cleanup_free_ char *text = print_line(a, real_ms, e);
	if (!text)
		return fault(a, -ENOMEM);
	size_t len = strlen(text);
	struct audit_head next = {a->head.seq + 1, ""};
	int r = hash_bytes(text, len, next.hash);
	if (r == 0)
		r = write_line(a, text, len);
	if (r < 0)
		return r;
	a->head = next;
	a->at_ms = real_ms;
	a->dirty = true;
	a->fault = (struct err){0};
	return 0;
}

/* What has to be known before the next line is read. */
static int say_first(struct audit *a, int64_t real_ms)
{
	struct audit_event lost = {.event = "missing", .number = a->n_lost};
	struct audit_event left = {.event = "missing",
				   .number = a->n_left_out,
				   .reason = "more than its rate"};
	int r = 0;
	if (a->n_lost) {
		lost.reason = err_category_text(a->fault.category);
		r = say(a, real_ms, &lost);
		a->n_lost = r < 0 ? a->n_lost : 0;
	}
	if (r == 0 && a->n_left_out) {
		r = say(a, real_ms, &left);
		a->n_left_out = r < 0 ? a->n_left_out : 0;
	}
	return r;
}

static void count(struct audit *a, const struct audit_event *e)
{
	const char *decision = e->decision ? e->decision : "";
	size_t i = 0;
	while (i < a->n_counts && (strcmp(a->counts[i].event, e->event) != 0 ||
				   strcmp(a->counts[i].decision, decision) != 0))
		i++;
	if (i == AUDIT_COUNTS_MAX)
		return;
	if (i == a->n_counts) {
		a->n_counts++;
		snprintf(a->counts[i].event, sizeof(a->counts[i].event), "%s", e->event);
		snprintf(a->counts[i].decision, sizeof(a->counts[i].decision), "%s", decision);
	}
	a->counts[i].n++;
}

uint64_t audit_count(const struct audit *a, const char *event, const char *decision)
{
	uint64_t n = 0;
	for (size_t i = 0; i < a->n_counts; i++)
		if (strcmp(a->counts[i].event, event) == 0 &&
		    (!decision || strcmp(a->counts[i].decision, decision) == 0))
			n += a->counts[i].n;
	return n;
}

void audit_say(struct audit *a, int64_t real_ms, const struct audit_event *e)
{
	count(a, e);
	static const struct bucket_limit common = {AUDIT_COMMON_BURST, AUDIT_COMMON_PER_S};
	if (!a->known && begin(a, real_ms) < 0) {
		a->n_lost++;
		return;
	}
	if (e->common && !bucket_take(&a->common, &common, real_ms, NULL)) {
		a->n_left_out++;
		return;
	}
	/* Times go up, except where this says that the clock was set. */
	if (real_ms < a->at_ms && say(a, real_ms, &(struct audit_event){.event = "clock"}) < 0) {
		a->n_lost++;
		return;
	}
	if (say_first(a, real_ms) < 0 || say(a, real_ms, e) < 0)
		a->n_lost++;
}

void audit_sync(struct audit *a)
{
	if (!a->dirty || a->fd < 0)
		return;
	a->dirty = false;
	if (fdatasync(a->fd) < 0)
		fault(a, -errno);
}

/* ---- start ---- */

/* The head from the last line of a file's text (NULL: none) that is one; *ret_end: where that ends.
 * -ENOENT: there is none. */
static int find_head(struct audit *a, const char *text, size_t len, size_t *ret_end)
{
	while (text && len > 0) {
		const char *end = memrchr(text, '\n', len);
		if (!end)
			break;
		const char *before = memrchr(text, '\n', (size_t)(end - text));
		const char *line = before ? before + 1 : text;
		struct audit_line l;
		if (audit_line_parse(line, (size_t)(end - line), &l, NULL, NULL) == 0) {
			a->head.seq = l.seq;
			a->at_ms = l.at_ms;
			*ret_end = (size_t)(end - text) + 1;
			return hash_bytes(line, (size_t)(end - line), a->head.hash);
		}
		len = (size_t)(line - text);
	}
	return -ENOENT;
}

/* The number of the first that is one. */
static int64_t find_first(const char *text, size_t len)
{
	const char *end;
	struct audit_line l = {0};
	while ((end = memchr(text, '\n', len)) &&
	       audit_line_parse(text, (size_t)(end - text), &l, NULL, NULL) < 0) {
		len -= (size_t)(end + 1 - text);
		text = end + 1;
	}
	return end ? l.seq : 1;
}

/* From the newest file that is complete; "no line yet" where there is none. */
static void head_of_old(struct audit *a)
{
	_cleanup_free_ char(*paths)[FILE_PATH_MAX] = NULL;
	size_t n = 0, end;
	a->head = (struct audit_head){.hash = AUDIT_NONE};
	if (audit_files(a->folder, &paths, &n, NULL) < 0)
		return;
	for (size_t i = n; i-- > 0;) {
		_cleanup_free_ char *text = NULL;
		size_t len;
		if (strcmp(paths[i], a->path) == 0)
			continue;
		if (file_read(paths[i], AUDIT_FILE_BYTES + AUDIT_LINE_MAX, &text, &len, NULL) == 0 &&
		    find_head(a, text, len, &end) == 0)
			return;
	}
}

/* What is no log at all is kept aside, and said. */
static void set_aside(struct audit *a, int64_t real_ms)
{
	char bad[FILE_PATH_MAX];
	if (file_path(bad, sizeof(bad), "%s.bad", a->path) < 0 || rename(a->path, bad) < 0) {
		a->known = false;
		return;
	}
	head_of_old(a);
	audit_say(a, real_ms,
		  &(struct audit_event){.event = "began", .reason = "no line could be read: set aside"});
}

/* Of a crash: the line that was being written. */
static void cut_torn(struct audit *a, const char *torn, size_t len, int64_t real_ms)
{
	char hash[HASH_SIZE];
	a->rest = true;
	if (hash_bytes(torn, len, hash) < 0)
		return;
	audit_say(a, real_ms,
		  &(struct audit_event){.event = "mended",
					.number = (int64_t)len,
					.message = hash,
					.reason = "bytes of a line that was torn are cut off"});
}

static int begin(struct audit *a, int64_t real_ms)
{
	_cleanup_free_ char *text = NULL;
	size_t len, end;
	int r = file_read(a->path, AUDIT_FILE_BYTES + AUDIT_LINE_MAX, &text, &len, NULL);
	a->known = r == 0 || r == -ENOENT || r == -EFBIG;
	if (!a->known)
		return fault(a, r);
	if (r == -ENOENT || (r == 0 && len == 0)) {
		head_of_old(a);
		return 0;
	}
	if (r < 0 || find_head(a, text, len, &end) < 0 || len - end > AUDIT_LINE_MAX + 1) {
		set_aside(a, real_ms);
		return 0;
	}
	a->first = find_first(text, len);
	a->end = (off_t)end;
	if (end < len)
		cut_torn(a, text + end, len - end, real_ms);
	return 0;
}

int audit_open(const char *folder, int64_t real_ms, struct audit **ret, struct err *err)
{
	struct audit *a = calloc(1, sizeof(*a));
	if (!a)
		return err_errno(err, -ENOMEM, "%s", folder);
	a->fd = -1;
	a->head = (struct audit_head){.hash = AUDIT_NONE};
	int r = file_path(a->folder, sizeof(a->folder), "%s", folder);
	if (r == 0) /* with room for what its old files are called */
		r = file_path(a->path, sizeof(a->path) - 16, "%s/" AUDIT_FILE, folder);
	if (r < 0) {
		free(a);
		return err_errno(err, r, "%s", folder);
	}
	begin(a, real_ms); /* else with the next line */
	*ret = a;
	return 0;
}

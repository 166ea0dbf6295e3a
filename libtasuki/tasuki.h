/* libtasuki: for the application on a device. It classifies images with the checkpoint that
 * tasuki-agent has active in its state folder, and goes over to the next one when there is one,
 * without a pause and without ever mixing two.
 *
 *     struct tasuki_error e;
 *     tasuki *t;
 *     if (tasuki_open("/var/lib/tasuki-agent", NULL, &t, &e) < 0)
 *             errx(1, "%s", e.text);
 *     struct tasuki_result r;
 *     if (tasuki_classify_pixels(t, rgb, 640, 480, 3, 0, &r, NULL, 0, &e) == 0)
 *             printf("%s %.2f (%s)\n", r.name, r.score, r.checkpoint);
 *     tasuki_close(t);
 *
 * Link with `pkg-config --cflags --libs tasuki`.
 *
 * Errors. Functions that can fail return 0, or a negative errno, and leave one line that names the
 * file or argument, what was found and what was expected in *error (which may be NULL). What
 * `ret_...` points to is untouched on failure. The library writes nothing to standard output or
 * error, changes no signal handler and never ends the process.
 *
 * Threads. One handle may be used by many threads at once; each call uses one checkpoint from
 * beginning to end, and says which. tasuki_close() is the last call, when no other is running. A
 * handle does not survive fork(): the child must not use it.
 *
 * Processes. The network runs in two children of this process (tasuki-worker, confined as the
 * agent's is): one computes while the other loads what comes next. Their end, whatever the cause,
 * ends no more than themselves: a call in hand is done again by the next one. With
 * SIGCHLD ignored or wait(-1) in the application they are reaped there, which does no harm.
 *
 * Ownership. Strings in structs are copies, the caller's own; what is passed in is only read, and
 * only during the call. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TASUKI_ID_SIZE   65  /* sha256 in hexadecimal digits, and a NUL */
#define TASUKI_NAME_SIZE 129 /* of a class, and a NUL; UTF-8 */

typedef struct tasuki tasuki;

struct tasuki_error {
	int code; /* negative errno; 0: none */
	char text[512];
};

/* A checkpoint that is, or was, in use. */
struct tasuki_checkpoint {
	char id[TASUKI_ID_SIZE]; /* sha256 of its weights; "": none is active yet */
	char origin[16];         /* "local", "edge", "blend", "tuned" or "fleet" */
	int64_t created_ms;      /* UTC, since 1970 */
	uint64_t swaps;          /* how many came before it since tasuki_open() */
};

/* All zero, or a NULL pointer in its place: the defaults. Set `size` to sizeof(struct
 * tasuki_options): a later version of the library then knows which members there are. */
struct tasuki_options {
	size_t size;
	/* Paths of the Darknet cfg and of the class list; NULL: as the agent says in the state
	 * folder's model.json. */
	const char *cfg, *classes;
	/* Square of so many pixels around the middle of an image that is used of it; 0: as the
	 * agent does with its own ([data] center_crop), -1: the whole image. */
	int center_crop;
	/* That compute one image; 0: one. */
	int threads;
	/* Path of tasuki-worker; NULL: beside this program, else in PATH, else as installed. */
	const char *worker;
	/* Called after each swap since tasuki_open(), on the library's own thread, which waits for
	 * it: be short, and call no function of the library but tasuki_current() there. NULL:
	 * nobody asks. */
	void (*on_swap)(void *user, const struct tasuki_checkpoint *now);
	/* Called there, too, when something is wrong with what is active, or with a worker: one
	 * line. Classification goes on with what it has. */
	void (*on_trouble)(void *user, const struct tasuki_error *what);
	void *user;
};

struct tasuki_result {
	uint32_t class_index;            /* number of the output */
	char name[TASUKI_NAME_SIZE];     /* from the class list; a number where there is none */
	float score;                     /* its probability, 0..1 */
	char checkpoint[TASUKI_ID_SIZE]; /* which answered */
};

const char *tasuki_version(void);

/* Opens a state folder. It waits until the active checkpoint can be used; where none is active yet
 * (before the first epoch of a new device), it returns at once, and tasuki_classify_...() is
 * -ENODATA until there is one. The agent need not be running. -ENOENT: no such folder, or no agent
 * has ever run there; -EINVAL, -EBADMSG ...: cfg, class list or checkpoint are not what they should
 * be. */
int tasuki_open(const char *state, const struct tasuki_options *options, tasuki **ret,
		struct tasuki_error *error);
void tasuki_close(tasuki *t); /* NULL allowed */

/* What the network takes and gives. */
void tasuki_shape(const tasuki *t, uint32_t *width, uint32_t *height, uint32_t *channels,
		  uint32_t *outputs);
/* Name of an output as in a result; -ERANGE: there is no such output. */
int tasuki_class_name(tasuki *t, uint32_t index, char name[TASUKI_NAME_SIZE]);

/* What classifies now. Resets tasuki_fd(). */
void tasuki_current(tasuki *t, struct tasuki_checkpoint *ret);
/* A descriptor for poll(): readable (POLLIN) once the checkpoint in use is another than
 * tasuki_current() said last. The library's: not to be read or closed. */
int tasuki_fd(const tasuki *t);

/* Classifies one image. probabilities: NULL, or room for n of them, one for each output in order;
 * they sum to 1. It waits for its turn.
 * -ENODATA: no checkpoint is active yet; -EINVAL: an argument; -EBADMSG ...: what is active cannot
 * be used, and nothing was before; -ECONNRESET, -ETIMEDOUT: the worker ended, or stood still, and
 * so did the one after it; -EDEADLK: called on the library's own thread. */

/* 8-bit pixels, row by row from the top, channels side by side (R, G, B); channels: 1 or 3; stride:
 * bytes from row to row, 0: width * channels. What is done with them is what the agent does with
 * the images that it trains on: cut (center_crop), resized, made grey where the network wants it.
 */
int tasuki_classify_pixels(tasuki *t, const uint8_t *pixels, uint32_t width, uint32_t height,
			   uint32_t channels, size_t stride, struct tasuki_result *ret,
			   float *probabilities, size_t n, struct tasuki_error *error);
/* A jpg, png or pgm file. */
int tasuki_classify_file(tasuki *t, const char *path, struct tasuki_result *ret,
			 float *probabilities, size_t n, struct tasuki_error *error);
/* As the network takes it: channels planes of height rows of width floats, 0..1; n_input: how many
 * floats in all. */
int tasuki_classify_input(tasuki *t, const float *input, size_t n_input, struct tasuki_result *ret,
			  float *probabilities, size_t n, struct tasuki_error *error);

#ifdef __cplusplus
}
#endif

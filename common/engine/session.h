/* What one tasuki-worker holds: a model, its data, two networks (one to train, one to evaluate, so
 * that an evaluation in the middle of training leaves the training's state alone), the training in
 * hand and the jobs (evaluations and what else is asked for), which come before it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/id.h"
#include "common/checkpoint/model.h"
#include "common/dataset/dataset.h"
#include "common/engine/cage.h"
#include "common/engine/channel.h"
#include "common/engine/feed.h"
#include "common/engine/network.h"
#include "common/json/json.h"

#define CONFINE_FOLDERS        4
#define SESSION_EPOCHS_MAX     1000000
#define SESSION_STEPS_MAX      ((int64_t)1000000000)
#define SESSION_FOLD_MAX       100
#define SESSION_EVAL_BATCH_MAX 64 /* images per batch of an evaluation */

/* A request to train; id 0: none. */
struct training {
	uint64_t id;
	char out[FILE_PATH_MAX];
	uint64_t seed;
	uint64_t epoch;  /* number of the running one */
	uint32_t n_epoch;    /* images of an epoch */
	uint64_t at;         /* images of this epoch so far, fill-up included */
	struct feed *feed;   /* NULL: to be begun at epoch and at */
	bool stay;           /* it visits SPLIT_STAY, too */
	uint64_t replaced;   /* images */
	struct err replaced_first;
	int64_t step, steps; /* steps 0 until the end is known */
	int64_t epochs_left; /* the running one included; 0: counted in steps */
	uint64_t seen;       /* of the weights it began with */
	uint64_t images;
	double seconds; /* in batches, and waiting for the end of a step: not paused, not evaluating */
	double settle_seconds; /* of `seconds`: after the last step */
	/* The running step: */
	int64_t step_begun_ms;
	double step_seconds; /* of `seconds` */
	double step_loss; /* sum over the batches of the running step */
	uint32_t step_batches;
	double epoch_loss; /* sum over the steps of this epoch, */
	int64_t epoch_steps;
	/* The last step is done; batch normalization's statistics are measured, so many batches of
	 * settle_batches (dnet_settle()), of 0 where there are none. */
	bool settling;
	uint32_t settled, settle_batches;
	char momentum[FILE_PATH_MAX]; /* file that keeps it beside `out`; "": none */
	double recent_loss; /* moving mean over about RECENT_STEPS steps; NaN: none yet */
};

enum job_kind {
	JOB_EVALUATE,
	JOB_CLASSIFY,
	JOB_BLEND,
	JOB_MERGE,
	JOB_SHEET,
	JOB_RESCAN,
	JOB_ENCODE,
	JOB_DECODE,
	JOB_FIRST,
	JOB_NOISE,
};

struct encode; /* encode.c */

/* A request that waits for its turn, or is having it. */
struct job {
	uint64_t id;
	enum job_kind kind;
	struct json *args;
	struct job *next;
	/* Evaluations, classifications and settling go batch by batch: */
	enum split split;
	uint32_t n, at;
	double seconds;
	char checkpoint[HASH_SIZE];
	bool confusion;
	double loss;
	uint32_t *counts; /* evaluate: n and correct per class, then the confusion matrix */
	char *outcomes;	  /* evaluate: as the answer has them, NULL: not asked for */
	struct feed *feed; /* evaluate, settling */
	const struct json *images, *next_image; /* classify: within args */
	uint32_t center_crop;
	struct json *results;
	char out[FILE_PATH_MAX]; /* blend, merge, first, noise, encode, decode */
	struct encode *encode;
	struct dnet *net;	 /* that settles what will be `out`; NULL: nothing to settle */
	uint64_t seen;		 /* of it */
};

struct session {
	struct channel *channel;
	bool is_open, paused;
	bool confined;	    /* as it was told to be, whatever that was */
	struct cage_report cage;
	struct {
		char path[FILE_PATH_MAX]; /* "": none */
		dev_t dev;
		ino_t ino;
	} folders[CONFINE_FOLDERS]; /* of the data, as they were then */
	/* from `open` */
	struct model *model;
	char *cfg;
	size_t cfg_len;
	struct classes classes; /* n 0: outputs stand for themselves */
	struct dataset *data;   /* NULL: none */
	uint64_t reading_id;	/* request that reads it: open or rescan */
	int64_t images_read;
	struct augment augment;
	uint32_t fold;
	int threads;
	bool mask; /* absent outputs are left out */
	int64_t step_ms;
	enum dnet_engine engine;       /* as asked for */
	enum dnet_precision precision; /* of training; likewise */
	uint64_t memory_max_bytes;     /* 0: no limit */
	/* The training network as it was saved last, "" when there is none or it went on since. */
	char live[HASH_SIZE];
	struct dnet *train_net; /* NULL until the first training */
	struct dnet *eval_net;
	float *frames; /* shared with whoever asks: n_frames inputs, then as many outputs; NULL: none */
	uint32_t n_frames;
	bool frames_loaded;
	struct training training;
	int64_t step_ends_ms; /* clock_mono_ms(): before that the training does not go on */
	int64_t until_ms; /* clock_mono_ms(): the training ends there by itself; 0: never */
	struct job *jobs; /* the first one runs */
	unsigned n_jobs;
	bool job_begun;
};

double session_seconds(void); /* monotonic */
/* The batch in eval_net, forward: the same numbers whatever the number of threads. */
const float *session_predict(struct session *s);
/* Name of an output: from the class list, else its number (in `buf`). */
const char *session_class_name(const struct session *s, uint32_t c, char buf[16]);

/* requests.c: one line from the daemon. */
void session_request(struct session *s, char *line, size_t len);

/* open.c */
/* What this network needs of gemm.h: OpenBLAS is loaded for none that does without. */
int session_gemm(const struct session *s, const struct dnet *d, struct err *err);
/* A network to train, new weights from `seed`. On failure *ret may be there: its owner frees it. */
int session_train_net(const struct session *s, uint64_t seed, struct dnet **ret, struct err *err);
int session_open(struct session *s, const struct json *args, struct err *err);
/* What open and rescan answer. */
struct json *session_ready(const struct session *s);

/* confine.c: the cage that `open` asks for, before anything that it names is read; once its model is known,
 * how large files get; what `open` and `rescan` answer of it. */
int confine(struct session *s, const struct json *args, struct err *err);
int confine_files(const struct session *s, struct err *err);
/* A folder of the data that is another one now, to which there is no way from within; NULL: none. */
const char *confine_replaced(const struct session *s);
struct json *confine_report(const struct session *s);

/* frames.c */
int frames_open(struct session *s, const struct json *args, struct err *err);
int frames_load(struct session *s, const struct json *args, struct json **ret, struct err *err);
int frames_predict(struct session *s, const struct json *args, struct json **ret, struct err *err);

/* train.c. All answer the request themselves. */
int train_begin(struct session *s, uint64_t id, const struct json *args, struct err *err);
/* ms until train_batch() has something to do; 0: now. */
int64_t train_wait_ms(const struct session *s);
void train_batch(struct session *s);
void train_stop(struct session *s, int code, const char *error);
/* Before the data are looked at anew: from here on nobody else reads them. */
void train_drop_feed(struct session *s);
/* The data changed: the epoch's order is drawn anew. */
void train_data_changed(struct session *s);

/* jobs.c: queue; evaluate.c, classify.c, combine.c, encode.c: kinds of jobs. A step is one batch, where
 * there are any; it returns 1 when there is more to do, and else has put the result into
 * *ret_result or failed. */
int job_queue(struct session *s, uint64_t id, enum job_kind kind, struct json *args,
	      struct err *err);
void job_step(struct session *s);
bool job_stop(struct session *s, uint64_t id);
void job_free(struct job *j);
int evaluate_begin(struct session *s, struct job *j, struct err *err);
int evaluate_step(struct session *s, struct job *j, struct json **ret_result, struct err *err);
int classify_begin(struct session *s, struct job *j, struct err *err);
int classify_step(struct session *s, struct job *j, struct json **ret_result, struct err *err);
int blend_begin(struct session *s, struct job *j, struct err *err);
int merge_begin(struct session *s, struct job *j, struct err *err);
int combine_step(struct session *s, struct job *j, struct json **ret_result, struct err *err);
int first_step(struct session *s, struct job *j, struct json **ret_result, struct err *err);
int noise_step(struct session *s, struct job *j, struct json **ret_result, struct err *err);
int encode_begin(struct session *s, struct job *j, struct err *err);
int encode_step(struct session *s, struct job *j, struct json **ret_result, struct err *err);
void encode_free(struct encode *e); /* NULL allowed */
int decode_step(struct session *s, struct job *j, struct json **ret_result, struct err *err);

/* settle.c: for dnet_settle(). How many batches, where an epoch has so many images; the images; and
 * the seed of random numbers. stay: those of SPLIT_STAY, too. */
uint32_t settle_batches(const struct dnet *net, uint32_t epoch_images);
int settle_feed(const struct session *s, const struct dnet *net, bool stay, uint64_t seed,
		uint64_t epoch, struct feed **ret, struct err *err);
uint64_t settle_random(uint64_t seed, uint64_t epoch);

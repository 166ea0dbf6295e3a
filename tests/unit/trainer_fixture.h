/* For tests of the trainer as a whole: everything outside it is played by the test: broker, workers
 * and clocks. Database, store and part files are real, in a temporary folder. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/crypto/hash.h"
#include "common/protocol/message.h"
#include "common/protocol/topic.h"
#include "edge-trainer/trainer.h"

#define SNAPSHOT "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define OTHER	 "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define BLOCK	 1024
#define SENT_MAX 4096
#define WORK_MAX 256
#define LEASE	 60000

struct sent {
	struct topic topic;
	char *payload;
	size_t len;
	bool retain;
	int qos;
};

struct work {
	unsigned slot;
	uint64_t id;
	char op[16];
	char out[FILE_PATH_MAX];
	char weights[FILE_PATH_MAX];
	int64_t epoch, schedule_seen, target, until_ms;
	unsigned n_inputs; /* of a merge */
	double shares[8];
	char inputs[8][HASH_SIZE];
	bool settle;
	/* of what is coded: */
	char payload[FILE_PATH_MAX], decoded[FILE_PATH_MAX], base[FILE_PATH_MAX], encoding[16];
	unsigned n_bases;
};

struct trainer_fixture {
	char dir[64];
	struct trainer_conf conf;
	struct model *model;
	struct trainer *t;
	int64_t now_ms;
	struct sent sent[SENT_MAX];
	unsigned n_sent, read;
	int full_after; /* publishes until -EAGAIN; < 0: never */
	struct work work[WORK_MAX];
	unsigned n_work, worked;
	uint64_t last_id;
	int64_t claim; /* number of the last one that was looked at */
	/* What the device says as it says it where messages are signed; text is taken. NULL: plain. */
	char *(*sign)(enum topic_kind kind, const char *topic, char *text);
	/* what the device holds */
	char *weights;
	char id[HASH_SIZE];
};
extern struct trainer_fixture f;

void ready(unsigned n_test);
/* As after kill -9: nothing is said, nothing is tidied. */
void kill_and_reopen(void);
/* The same with another configuration, set before. */
void close_trainer(void);
void open_trainer(void);
int set_up(void **state);
int tear_down(void **state);
void tick(int64_t ms);
int64_t query(const char *sql);
/* The next message of that kind since the last one looked at; NULL: none. */
const struct sent *next(enum topic_kind kind);
void say_raw(enum topic_kind kind, const char *device, const char *checkpoint,
		    uint32_t block, const void *payload, size_t len, bool retained);
void say(enum topic_kind kind, const char *device, char *text);
struct msg_offer offer_of(const char *device);
void offer(const char *device);
void grant(const char *device, const char *checkpoint, bool granted, int64_t fence);
/* The same, naming its claim, for a lease of so long. */
void grant_claim(const char *device, int64_t fence, int64_t claim, int64_t lease_ms);
struct msg_claim claimed(const char *device);
/* The device goes on to other weights, which are valid, too. */
void other_weights(char mark);
/* A whole handover, at the end of which the device has said `kept`. */
void hand_over(const char *device, int64_t fence);
/* Open file limit in bytes, as on a full disk, or none again (0). */
void limit_files(unsigned long bytes);
/* Answers wants until all blocks are there, or at most n blocks. */
unsigned give_blocks(const char *device, unsigned most);
const struct work *asked(const char *op);
void evaluated(const struct work *w, int correct);
/* The same of something that was merged. */
void merged(const struct work *w, char mark, char id[HASH_SIZE]);
/* The worker writes what it made of the weights: here, one byte differs with each `mark`. */
void trained(const struct work *w, char mark, char id[HASH_SIZE]);
void ack(const char *device, const char *result, int64_t fence, enum decision decision);
void to_training(const char *device, int64_t fence);
struct msg_result to_offering(const char *device, int64_t fence, char id[HASH_SIZE]);

#define TEST(x) cmocka_unit_test_setup_teardown(x, set_up, tear_down)

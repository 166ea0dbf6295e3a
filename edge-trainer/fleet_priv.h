/* What fleet.c and fleet_file.c share: what is offered to everyone, and how far that is. */
#pragma once

#include "edge-trainer/trainer_priv.h"

#define FLEET_PEERS_MAX 256

struct peer {
	char device[ID_SIZE];
	struct serve wanted;
};

struct fleet {
	struct msg_fleet offer;
	struct rollout rollout;
	int64_t seen;      /* the largest sequence heard */
	bool has_key; /* what is offered is sealed with `key`; see site_key.c */
	uint8_t key[SEAL_KEY];
	struct proof proof; /* of its blocks */
	struct bucket keys; /* given to devices */
	int64_t census_ms; /* monotonic; by then who there is has been heard */
	uint32_t n_blocks; /* of the checkpoint */
	uint32_t position, saved_position;
	char counted[ROLLOUT_REPORTS_MAX][ID_SIZE]; /* whose report has been counted */
	size_t n_counted;
	struct peer peers[FLEET_PEERS_MAX];
	unsigned n_peers, turn;
	bool everyones_turn;
	bool stalled; /* the connection takes no more for now */
	bool save_due, announce_due;
	int64_t announced_ms; /* monotonic */
	int64_t send_at_ms;       /* the next block, on the monotonic clock */
	uint64_t n_sent, n_again; /* blocks: to everyone, to one */
	uint64_t n_again_told, n_left_out;
	uint64_t n_keys, n_keys_told, n_keys_left_out;
};

/* What follows from it is done. False: nothing does. */
bool fleet_advance(struct trainer *t, const struct rollout_event *ev);

/* fleet_orders.c: `tasuki rollout halt` and `next` lay files into STATE/rollout, which names what is
 * meant: halt.SEQUENCE. Once a second; each is taken away, also one that is of another offer. */
int fleet_orders_open(const struct trainer *t, struct err *err);
void fleet_orders_look(struct trainer *t);

/* site_key.c: without an identity there is no key */
/* A new one, for what m says; sets m->root. */
int site_key_make(struct trainer *t, struct manifest *m, struct err *err);
void site_key_forget(struct fleet *f);
/* So long before the blocks come devices are told of them, to ask for the key in. */
int64_t site_key_ms(const struct trainer *t);

/* STATE/fleet.json, which has the key and is then only its owner's. Where it cannot be written, save_due stays set. */
void fleet_save(struct trainer *t);
int fleet_read(struct trainer *t, struct err *err); /* into an empty t->fleet; no file: 0 */

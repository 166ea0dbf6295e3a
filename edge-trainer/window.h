/* When checkpoints are merged, and with which shares. Pure logic: no I/O, no clock.
 *
 * A window opens with the first checkpoint that has come whole, and closes with those that are
 * scored by then: when as many as there are devices have come, when its time is over, or when it is
 * full. It stays open while the one before it is merged or trained; who comes later goes into the
 * next. After a restart it opens anew, with those that are there.
 *
 * Shares by example count (McMahan et al. 2017, Communication-Efficient Learning of Deep Networks
 * from Decentralized Data: n_k / n). What a manifest says of images seen is a sender's word, and
 * grows with the lineage, whoever trained it; images seen an epoch is the size of what it trained
 * on. The word is taken up to WINDOW_CLIP times the median, so a forger gains no more than that, in
 * a window of any size; a cap on the share itself would mean nothing for two members, and
 * everything for sixty. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WINDOW_MEMBERS_MAX 63 /* with the lineage: what one merge takes, WEIGHTS_INPUTS_MAX */
#define WINDOW_CLIP        3.0

struct window_conf {
	int64_t window_ms;
	unsigned devices; /* 0: not known */
};

struct window {
	int64_t opened_ms; /* -1: it is not open */
};

struct window_seen {
	unsigned pulled; /* checkpoints that have come whole and were not taken yet */
	unsigned scored; /* of those */
	bool busy;       /* the window before it is not done */
};

/* Opens it, or notes that nobody is there any more; true: close it now (it is then no longer open,
 * and min(scored, WINDOW_MEMBERS_MAX) are to be taken). */
bool window_step(struct window *w, const struct window_conf *conf, const struct window_seen *seen,
		 int64_t now_ms);
/* When it closes for its time alone; -1: never. */
int64_t window_next_ms(const struct window *w, const struct window_conf *conf);

struct window_count {
	int64_t images_seen, epoch; /* as a manifest says */
};

/* Of two in the middle the lower one. n: 1 to WINDOW_MEMBERS_MAX. */
double window_median(const double *v, size_t n);
/* Shares that sum to 1, all above 0. n: 1 to WINDOW_MEMBERS_MAX. */
void window_shares(const struct window_count *c, size_t n, double *ret);

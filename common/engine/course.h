/* Which images a training or an evaluation takes, one after the other; and the numbers of their
 * augmentation. All follows from (seed, epoch), so that it can be drawn ahead, and anew from any
 * place.
 *
 * An epoch of a training visits each of images x fold once: image i as it is, then as its variants
 * 1 to fold-1, which are augmented. Where they do not fill the last step, it is filled up from the
 * beginning of the same order. Then comes the next epoch. An evaluation (fold 0) visits each
 * image once, as it is, in the order of the split, and ends. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct course {
	uint64_t seed, epoch;
	uint32_t images, fold;
	uint32_t step_images; /* of an update of the weights */
	uint64_t at;          /* place in the epoch */
	uint32_t n;           /* images x fold */
	/* private: */
	uint32_t *order; /* n; NULL: as they come */
};

struct course_image {
	uint32_t image, variant;
	uint64_t seed; /* of its augmentation */
};

/* Images of an epoch, 1 .. UINT32_MAX. -ENODATA, -E2BIG. */
int course_length(uint32_t images, uint32_t fold, uint32_t *ret_n);
/* All but n and order are given. -ENOMEM, or as course_length(). */
int course_init(struct course *c);
void course_done(struct course *c);

/* The image that is `ahead` of the one whose turn it is. */
void course_look(const struct course *c, uint32_t ahead, struct course_image *ret);
/* Past it. */
void course_next(struct course *c);
/* An evaluation has no image left. */
bool course_is_over(const struct course *c);
/* Whether the last step of the epoch is done; to be asked after each batch. */
bool course_epoch_ends(const struct course *c);
/* On to the next epoch. */
void course_next_epoch(struct course *c);

/* One number of several, for seeds that must not be alike. */
uint64_t course_mix(uint64_t seed, uint64_t a, uint64_t b, uint64_t c);

#include "common/engine/course.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/dataset/dataset.h"

uint64_t course_mix(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
	const uint64_t parts[] = {a, b, c};
	struct rng r;
	rng_init(&r, seed);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		r.state = rng_u64(&r) ^ parts[i];
	return rng_u64(&r);
}

int course_length(uint32_t images, uint32_t fold, uint32_t *ret_n)
{
	uint64_t n = (uint64_t)images * MAX_OF(fold, 1u);
	if (n == 0)
		return -ENODATA;
	if (n > UINT32_MAX)
		return -E2BIG;
	*ret_n = (uint32_t)n;
	return 0;
}

int course_init(struct course *c)
{
	int r = course_length(c->images, c->fold, &c->n);
	if (r < 0 || !c->fold)
		return r;
	c->order = malloc((size_t)c->n * sizeof(*c->order));
	if (!c->order)
		return -ENOMEM;
	dataset_order(c->seed, c->epoch, c->n, c->order);
	return 0;
}

void course_done(struct course *c)
{
	free(c->order);
	*c = (struct course){0};
}

void course_look(const struct course *c, uint32_t ahead, struct course_image *ret)
{
	uint64_t at = (c->at + ahead) % c->n;
	uint32_t i = c->order ? c->order[at] : (uint32_t)at;
	ret->image = i % c->images;
	ret->variant = i / c->images;
	ret->seed = course_mix(c->seed, c->epoch, ret->image, ret->variant);
}

void course_next(struct course *c)
{
	c->at++;
}

bool course_is_over(const struct course *c)
{
	return !c->fold && c->at >= c->n;
}

bool course_epoch_ends(const struct course *c)
{
	return c->fold && c->at >= c->n && c->at % c->step_images == 0;
}

void course_next_epoch(struct course *c)
{
	c->epoch++;
	c->at = 0;
	dataset_order(c->seed, c->epoch, c->n, c->order);
}

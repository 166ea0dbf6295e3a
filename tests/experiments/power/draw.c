#include "tests/experiments/power/draw.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"

static bool right(uint16_t image)
{
	return image & WORKER_OUTCOME_CORRECT;
}

double outcome_loss(uint16_t image)
{
	return (image & WORKER_OUTCOME_LOSS_STEPS) *
	       (WORKER_OUTCOME_LOSS_MAX / WORKER_OUTCOME_LOSS_STEPS);
}

/* The loss had the network's logits been `scale` times as large, taken as if there were two
 * classes: what is right stays so, and how sure it is changes. */
static uint16_t sharpened(uint16_t image, double scale)
{
	double p = fmin(exp(-outcome_loss(image)), 1 - 1e-12);
	double loss = log1p(exp(-scale * log(p / (1 - p))));
	return (uint16_t)((image & WORKER_OUTCOME_CORRECT) |
			  (unsigned)lrint(fmin(loss, WORKER_OUTCOME_LOSS_MAX) *
					  (WORKER_OUTCOME_LOSS_STEPS / WORKER_OUTCOME_LOSS_MAX)));
}

/* ---- pools ---- */

static int pool_add(struct pool *p, uint16_t active, uint16_t challenger)
{
	struct pair **cell = &p->cell[right(active)][right(challenger)];
	size_t *n = &p->n[right(active)][right(challenger)];
	struct pair *grown = realloc(*cell, (*n + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	*cell = grown;
	grown[(*n)++] = (struct pair){active, challenger};
	return 0;
}

static int pool_add_all(struct pool *p, const struct outcomes *a, const struct outcomes *b,
			bool either_role, struct err *err)
{
	if (a->n != b->n)
		return err_set(err, -EINVAL, "outcomes of %zu and %zu images", a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		if (pool_add(p, a->image[i], b->image[i]) < 0 ||
		    (either_role && pool_add(p, b->image[i], a->image[i]) < 0))
			return err_set(err, -ENOMEM, "no memory");
	}
	return 0;
}

static void pool_done(struct pool *p)
{
	for (int a = 0; a < 2; a++)
		for (int c = 0; c < 2; c++)
			free(p->cell[a][c]);
}

void pools_done(struct pools *p)
{
	pool_done(&p->alike);
	pool_done(&p->later);
}

static int read_outcomes(const char *path, const char *name, struct outcomes *ret, struct err *err)
{
	_cleanup_file_ FILE *f = fopen(path, "re");
	_cleanup_free_ char *line = NULL;
	size_t room = 0;
	if (!f)
		return err_errno(err, -errno, "%s", path);
	while (getline(&line, &room, f) > 0) {
		char *text = strchr(line, ' ');
		if (!text || *line == '#')
			continue;
		*text++ = 0;
		text[strcspn(text, "\n")] = 0;
		if (strcmp(line, name) == 0)
			return outcomes_parse(path, text, ret, err);
	}
	return err_set(err, -ENOENT, "%s: no line of %s", path, name);
}

static int check_pool(const struct pool *p, const char *path, struct err *err)
{
	for (int a = 0; a < 2; a++)
		for (int c = 0; c < 2; c++)
			if (!p->n[a][c])
				return err_set(err, -EINVAL, "%s: too few outcomes", path);
	return 0;
}

int pools_read(const char *path, const char *kind, struct pools *ret, struct err *err)
{
	struct outcomes o[2][2] = {0}; /* [seed][late] */
	struct pools p = {0};
	int r = 0;
	for (int i = 0; r == 0 && i < 4; i++) {
		char name[64];
		snprintf(name, sizeof(name), "%s/%d/%s", kind, i / 2 + 1, i % 2 ? "late" : "early");
		r = read_outcomes(path, name, &o[i / 2][i % 2], err);
	}
	if (r == 0)
		r = pool_add_all(&p.alike, &o[0][1], &o[1][1], true, err);
	for (int seed = 0; r == 0 && seed < 2; seed++)
		r = pool_add_all(&p.later, &o[seed][0], &o[seed][1], false, err);
	if (r == 0)
		r = check_pool(&p.alike, path, err);
	if (r == 0)
		r = check_pool(&p.later, path, err);
	for (int i = 0; i < 4; i++)
		outcomes_done(&o[i / 2][i % 2]);
	if (r < 0)
		pools_done(&p);
	else
		*ret = p;
	return r;
}

/* ---- drawing ---- */

void draw(const struct pools *pools, const struct cell *cell, struct rng *rng, uint16_t *active,
	  uint16_t *challenger)
{
	const struct pool *p = cell->losses == LOSSES_LATER ? &pools->later : &pools->alike;
	double win = (cell->disagree + cell->better) / 2, both = (double)p->n[1][1];
	double both_right = (1 - cell->disagree) * both / (both + (double)p->n[0][0]);
	double scale = cell->losses == LOSSES_COOLED ? 0.5 : cell->losses == LOSSES_SHARP ? 2 : 1;
	for (size_t i = 0; i < cell->n; i++) {
		double u = rng_unit(rng);
		bool a = u >= win && u < cell->disagree + both_right, c = u < win;
		c |= u >= cell->disagree && u < cell->disagree + both_right;
		const struct pair *of = &p->cell[a][c][rng_below(rng, (uint32_t)p->n[a][c])];
		active[i] = of->active;
		challenger[i] = scale == 1 ? of->challenger : sharpened(of->challenger, scale);
	}
}
